package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// judge turns what was read into a Config and collects what is wrong with it.
type judge struct {
	mistakes field.ErrorList
	// unread holds the paths at which reading failed, or whose key was misspelt, and touched these with
	// everything above them. A judgement at, above or below such a path would only repeat the mistake in other
	// words.
	unread, touched map[string]bool
}

func newJudge(r *reader) *judge {
	j := &judge{mistakes: r.mistakes, unread: make(map[string]bool), touched: make(map[string]bool)}
	failed := slices.Clone(r.meant)
	for _, e := range r.mistakes {
		failed = append(failed, e.Field)
	}
	for _, path := range failed {
		j.unread[path] = true
		for above := range upwards(path) {
			j.touched[above] = true
		}
	}
	return j
}

// upwards yields a path and every path above it: a.b[0], a.b, a.
func upwards(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for path != "" {
			if !yield(path) {
				return
			}
			path = path[:max(0, strings.LastIndexAny(path, ".["))]
		}
	}
}

func (j *judge) add(mistakes ...*field.Error) {
next:
	for _, e := range mistakes {
		if j.touched[e.Field] {
			continue
		}
		for path := range upwards(e.Field) {
			if j.unread[path] {
				continue next
			}
		}
		j.mistakes = append(j.mistakes, e)
	}
}

// invalid reports a value that is wrong in itself.
func (j *judge) invalid(p *field.Path, value any, format string, args ...any) {
	j.add(field.Invalid(p, value, fmt.Sprintf(format, args...)))
}

// required reports a key that is absent.
func (j *judge) required(p *field.Path, format string, args ...any) {
	j.add(field.Required(p, fmt.Sprintf(format, args...)))
}

// forbidden reports a key that may not stand where it stands.
func (j *judge) forbidden(p *field.Path, format string, args ...any) {
	j.add(field.Forbidden(p, fmt.Sprintf(format, args...)))
}

// name judges a value by one of apimachinery's validators, whose complaints are regular expressions; what the
// value must be is said in words instead.
func (j *judge) name(p *field.Path, value string, complaints []string, must string) {
	if len(complaints) > 0 {
		j.invalid(p, value, "%s", must)
	}
}

const (
	mustBeLabel     = "must be at most 63 of a-z, 0-9 and -, with a letter or a digit first and last"
	mustBeQualified = "must be a name with an optional domain before it, as in example.com/office: at most 63 letters, digits, -, _ and ."
	mustBeValue     = "must be at most 63 letters, digits, -, _ and ., with a letter or a digit first and last"
)

// or is the value of an optional key.
func or[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// word is one of a few words. The first is the default.
func (j *judge) word(p *field.Path, value *string, words ...string) string {
	if value == nil {
		return words[0]
	}
	for _, w := range words {
		if *value == w {
			return w
		}
	}
	j.add(field.NotSupported(p, *value, words))
	return words[0]
}

func (j *judge) duration(p *field.Path, value *text, otherwise, least, most time.Duration) time.Duration {
	if value == nil {
		return otherwise
	}
	d, err := time.ParseDuration(string(*value))
	if err != nil {
		j.invalid(p, string(*value), "must be a duration with its unit, such as 300ms, 10s or 10m")
		return otherwise
	}
	if d < least || d > most {
		j.invalid(p, string(*value), "must be between %s and %s", short(least), short(most))
		return otherwise
	}
	return d
}

// short writes a duration as a user would: 10m and not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// secretFile judges the path of a file that holds a secret. The file itself is not read: it may come later and
// it may change.
func (j *judge) secretFile(p *field.Path, value *string) string {
	if value == nil {
		return ""
	}
	if !filepath.IsAbs(*value) {
		j.invalid(p, *value, "must be an absolute path, such as /etc/mooring/secrets/token: what a relative path means depends on where the controller was started")
	}
	return *value
}

// httpURL returns the URL without a trailing slash.
func (j *judge) httpURL(p *field.Path, value string) string {
	u, err := url.Parse(value)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		j.invalid(p, redacted(value), "must be a URL with http or https and a host, such as https://192.0.2.1:3000/api")
	case u.Port() != "" && !isPort(u.Port()):
		j.invalid(p, redacted(value), "the port must be a number from 1 to 65535")
	case u.User != nil:
		j.invalid(p, redacted(value), "a URL holds no credentials: put the token into a file and name the file")
	case u.Fragment != "" || u.RawQuery != "" || u.ForceQuery:
		j.invalid(p, value, "the URL ends with its path: remove what follows ? or #")
	}
	return strings.TrimRight(value, "/")
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// redacted hides what may be a password: mistakes are logged.
func redacted(value string) string {
	at := strings.LastIndex(value, "@")
	if at < 0 {
		return value
	}
	if scheme, _, ok := strings.Cut(value[:at], "://"); ok {
		return scheme + "://***" + value[at:]
	}
	return "***" + value[at:]
}

// interfaceName applies the kernel's rule for the name of a network interface.
func (j *judge) interfaceName(p *field.Path, value string) {
	switch {
	case value == "":
		j.required(p, "name a network interface")
	case len(value) > 15:
		j.invalid(p, value, "is longer than the 15 bytes that Linux allows for the name of an interface")
	case value == "." || value == ".." || value == "all" || value == "default":
		j.invalid(p, value, "cannot be the name of an interface: choose another, such as pl0")
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/:%", r) }):
		j.invalid(p, value, "the name of an interface has no space, slash, colon, percent sign or special letter: choose another, such as pl0")
	}
}

func (j *judge) selector(p *field.Path, s *fileSelector) labels.Selector {
	if s == nil || (len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0) {
		return nil
	}
	ls := &metav1.LabelSelector{MatchLabels: s.MatchLabels}
	for _, e := range s.MatchExpressions {
		ls.MatchExpressions = append(ls.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: e.Values,
		})
	}
	if mistakes := metav1validation.ValidateLabelSelector(ls, metav1validation.LabelSelectorValidationOptions{}, p); len(mistakes) > 0 {
		j.add(mistakes...)
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(ls)
	if err != nil {
		j.invalid(p, "", "%s", err)
		return nil
	}
	return selector
}

// hostName judges a host that clients connect to: an address, which is returned too, or a DNS name.
func (j *judge) hostName(p *field.Path, value string) netip.Addr {
	addr, err := netip.ParseAddr(value)
	switch {
	case err == nil && addr.Zone() != "":
		j.invalid(p, value, "an address with a zone means something on one machine only: publish %s or a DNS name", addr.WithZone(""))
	case err == nil && addr.Is4In6():
		j.invalid(p, value, "is an IPv4 address in IPv6 form: write %s", addr.Unmap())
	case err == nil && (addr.IsUnspecified() || addr.IsMulticast()):
		j.invalid(p, value, "no client can connect to this address: publish the address that the load balancer listens on")
	case err == nil:
		return addr
	case strings.Contains(value, ":") || strings.Trim(value[strings.LastIndex(value, ".")+1:], "0123456789") == "":
		j.invalid(p, value, "is neither an address nor a DNS name: write one as in 192.0.2.1, 2001:db8::1 or lb.example.com")
	default:
		j.name(p, value, validation.IsDNS1123Subdomain(value), "must be an address or a DNS name in small letters, as in lb.example.com")
	}
	return netip.Addr{}
}
