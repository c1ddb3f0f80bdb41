// Command links finds links of the repository's documents that lead nowhere: to a file that does not exist, or to a
// heading that its document does not have. It reads the names of Markdown files from its input, one a line. Links to
// other hosts are not followed.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

func main() { os.Exit(run(os.Stdin, os.Stdout)) }

func run(in io.Reader, out io.Writer) int {
	var files []string
	for lines := bufio.NewScanner(in); lines.Scan(); {
		files = append(files, lines.Text())
	}
	broken, err := check(files)
	if err != nil {
		broken = append(broken, err.Error())
	}
	for _, b := range broken {
		if _, err := fmt.Fprintln(out, b); err != nil {
			return 1
		}
	}
	return min(len(broken), 1)
}

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	scheme  = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
	heading = regexp.MustCompile(`^#{1,6} +(.*?) *#* *$`)
	// shown is what is left of a link in a heading.
	shown = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	span  = regexp.MustCompile("`[^`]*`")
)

// check says of each link that is broken where it stands and what is wrong with it.
func check(files []string) (broken []string, err error) {
	anchors := make(map[string]map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read a document: %w", err)
		}
		for _, to := range linksOf(string(text)) {
			path, anchor, _ := strings.Cut(to, "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				broken = append(broken, fmt.Sprintf("%s: links to %s, which does not exist", file, path))
				continue
			}
			if anchor == "" || filepath.Ext(target) != ".md" {
				continue
			}
			if anchors[target] == nil {
				if anchors[target], err = anchorsOf(target); err != nil {
					return nil, err
				}
			}
			if !anchors[target][anchor] {
				broken = append(broken, fmt.Sprintf("%s: links to %s, and %s has no such heading", file, to, target))
			}
		}
	}
	return broken, nil
}

// linksOf are the targets of the links in a document, apart from those to elsewhere. A link may be broken by a line's
// end between its words, but not in its target. What stands in code is none.
func linksOf(text string) []string {
	var all []string
	for line := range prose(text) {
		for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(line, ""), -1) {
			if !scheme.MatchString(m[1]) {
				all = append(all, m[1])
			}
		}
	}
	return all
}

// prose yields the lines of a document that are not in a block of code.
func prose(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		fenced := false
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				fenced = !fenced
				continue
			}
			if !fenced && !yield(line) {
				return
			}
		}
	}
}

func anchorsOf(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read a document that is linked to: %w", err)
	}
	anchors := make(map[string]bool)
	for line := range prose(string(text)) {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		// Of equal headings the second has a number.
		name := anchorOf(m[1])
		unique := name
		for i := 1; anchors[unique]; i++ {
			unique = fmt.Sprintf("%s-%d", name, i)
		}
		anchors[unique] = true
	}
	return anchors, nil
}

// anchorOf is what a forge makes of a heading: small letters, digits, - and _, and a dash for a space.
func anchorOf(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, shown.ReplaceAllString(heading, "$1"))
}
