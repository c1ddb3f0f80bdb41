package updatertest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// statement is one of a file: its words, and the statements in its block.
type statement struct {
	words []string
	block []statement
}

var (
	// seconds of a timeout. More digits than these overflow somewhere.
	seconds = regexp.MustCompile(`^[1-9][0-9]{0,8}s$`)
	safe    = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// Check does what nginx -t does with the files of an updater, and is stricter where nginx forgives: it knows these
// statements and no others, in this order. The error names every file that is refused.
func Check(files map[string]string) error {
	upstreams, listening := make(map[string]string), make(map[string]string)
	var mistakes []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := checkFile(name, files[name], upstreams, listening); err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s%s: %w", name, ending, err))
		}
	}
	return errors.Join(mistakes...)
}

func checkFile(name, content string, upstreams, listening map[string]string) error {
	statements, rest, err := parse(content, 0)
	switch {
	case err != nil:
		return err
	case rest != "":
		return errors.New(`unexpected "}"`)
	case len(statements) == 0:
		return nil // being written
	case len(statements) != 2 || !is(statements[0], "upstream", 1) || !is(statements[1], "server", 0):
		return errors.New("not one upstream and one server")
	}
	upstream := statements[0].words[1]
	if upstream != name || !safe.MatchString(upstream) {
		return fmt.Errorf("upstream %q", upstream)
	}
	if of, taken := upstreams[upstream]; taken {
		return fmt.Errorf("duplicate upstream %q, also in %s", upstream, of)
	}
	upstreams[upstream] = name
	if err := checkTargets(statements[0].block); err != nil {
		return err
	}
	return checkServer(name, upstream, statements[1].block, listening)
}

func checkTargets(targets []statement) error {
	if len(targets) == 0 {
		return errors.New("no servers are inside upstream")
	}
	seen := make(map[string]bool)
	for _, t := range targets {
		if !is(t, "server", 1) || t.block != nil {
			return fmt.Errorf("unknown directive %q", t.words)
		}
		addr, err := netip.ParseAddrPort(t.words[1])
		if err != nil || addr.Port() == 0 || addr.Addr().Zone() != "" || addr.Addr().Is4In6() || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() {
			return fmt.Errorf("invalid target %q", t.words[1])
		}
		if seen[addr.String()] {
			return fmt.Errorf("target %s twice", addr)
		}
		seen[addr.String()] = true
	}
	return nil
}

func checkServer(name, upstream string, block []statement, listening map[string]string) error {
	if len(block) != 4 || block[0].words[0] != "listen" || !is(block[1], "proxy_pass", 1) || !is(block[2], "proxy_timeout", 1) || !is(block[3], "proxy_connect_timeout", 1) {
		return errors.New("server has other statements than listen, proxy_pass and two timeouts")
	}
	listen := block[0].words[1:]
	if len(listen) == 0 || len(listen) > 2 || len(listen) == 2 && listen[1] != "udp" {
		return fmt.Errorf("invalid parameters of listen: %q", listen)
	}
	number := listen[0][strings.LastIndex(listen[0], ":")+1:]
	if port, err := strconv.ParseUint(number, 10, 16); err != nil || port == 0 {
		return fmt.Errorf("invalid port in %q", listen[0])
	}
	socket := strings.Join(listen, " ")
	if of, taken := listening[socket]; taken {
		return fmt.Errorf("duplicate %q, also in %s", socket, of)
	}
	listening[socket] = name
	if to := block[1].words[1]; to != upstream {
		return fmt.Errorf("host not found in upstream %q", to)
	}
	for _, s := range block[2:] {
		if !seconds.MatchString(s.words[1]) {
			return fmt.Errorf("%s: invalid value %q", s.words[0], s.words[1])
		}
	}
	return nil
}

// is reports whether a statement has a name and so many words after it.
func is(s statement, name string, words int) bool {
	return s.words[0] == name && len(s.words) == 1+words
}

// parse statements up to the end of a block, or of the text.
func parse(text string, depth int) (all []statement, rest string, err error) {
	for {
		text = strings.TrimLeft(text, " \t\n")
		var s statement
		for {
			// A word as nginx reads it when nothing is quoted. Quotes, variables and comments have no place in these files.
			end := strings.IndexAny(text, " \t\r\n{};\"'$#\\")
			if end < 0 {
				end = len(text)
			}
			if end == 0 {
				break
			}
			s.words = append(s.words, text[:end])
			text = strings.TrimLeft(text[end:], " \t\n")
		}
		switch {
		case text == "" && len(s.words) == 0 && depth == 0:
			return all, "", nil
		case text == "":
			return nil, "", errors.New("unexpected end of file")
		case text[0] == '}' && len(s.words) == 0:
			if depth == 0 {
				return nil, "", errors.New(`unexpected "}"`)
			}
			return all, text[1:], nil
		case len(s.words) == 0 || text[0] == '}':
			return nil, "", fmt.Errorf("unexpected %q", text[:1])
		case text[0] == ';':
			text = text[1:]
		case text[0] == '{':
			if s.block, text, err = parse(text[1:], depth+1); err != nil {
				return nil, "", err
			}
		default:
			return nil, "", fmt.Errorf("unexpected %q", text[:1])
		}
		all = append(all, s)
	}
}
