package hetzner

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/cloud/config"
)

const (
	// callTimeout of a call with its answer.
	callTimeout = 30 * time.Second
	dialTimeout = 5 * time.Second
	// rejectedFor is how long a token that was rejected is not offered again: the first server of its project may become
	// a Node of the cluster meanwhile.
	rejectedFor = 10 * time.Minute
	// longestToken that a file may hold: Hetzner's have 64 characters.
	longestToken = 1024
)

// Options of Accounts.
type Options struct {
	// Transport of all calls; nil: one that dials for at most 5 s.
	Transport http.RoundTripper
	// Clock; nil: the real one.
	Clock clock.Clock
	// Registerer of hcloud-go's metrics, which all accounts share; nil: none.
	Registerer prometheus.Registerer
	// Version of Mooring for the User-Agent.
	Version string
}

// place is where the token of an account stands, and where it is good for.
type place struct{ file, endpoint string }

// Accounts are the accounts of a cloud-config. Pools whose token files hold the same token for the same endpoint share one
// Account, and part when their files part. Its methods are safe for concurrent use.
type Accounts struct {
	options Options

	mu sync.Mutex
	// of holds the account of each place, places those in the order of the cloud-config.
	of     map[place]*Account
	places []place
}

// NewAccounts returns the accounts of no cloud-config yet: Load follows.
func NewAccounts(options Options) *Accounts {
	if options.Transport == nil {
		options.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			ForceAttemptHTTP2:   true,
			IdleConnTimeout:     90 * time.Second,
		}
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	return &Accounts{options: options, of: make(map[place]*Account)}
}

// Load takes the accounts of a cloud-config: the default one first, used by a pool or not, then the pools'. An Account
// that was there stays, with the token that it uses: a changed file is for Reread. Of those whose tokens are equal the
// first stays for all. The error names every file that cannot be used, and then nothing changed.
func (s *Accounts) Load(cfg *config.Config) error {
	var places []place
	add := func(a config.Account) {
		if p := placeOf(a); !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	if cfg.Hetzner != nil {
		add(*cfg.Hetzner)
	}
	for _, pool := range cfg.Pools {
		if pool.Hetzner != nil {
			add(pool.Hetzner.Account)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	of, mistakes := make(map[place]*Account), []error(nil)
	// What is shared is found by endpoint and token.
	type project struct{ endpoint, token string }
	projects := make(map[project]*Account)
	for _, p := range places {
		token, err := s.token(p)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		a := projects[project{p.endpoint, token}]
		if a == nil {
			// An account is kept by its key only, which is that of its first place.
			if a = s.of[p]; a == nil || a.place != p {
				a = s.account(p, token)
			}
			projects[project{p.endpoint, token}] = a
		}
		of[p] = a
	}
	if len(mistakes) > 0 {
		return errors.Join(mistakes...)
	}
	s.of, s.places = of, places
	return nil
}

// Of is the account of a cloud-config's account; nil when it was not loaded.
func (s *Accounts) Of(a config.Account) *Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[placeOf(a)]
}

// All are the accounts, each once, in the order of the cloud-config.
func (s *Accounts) All() []*Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Account
	for _, p := range s.places {
		if a := s.of[p]; !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// Reread reads the token files again, and returns the accounts that have a new Candidate. A file that cannot be used is an
// error for people; its account goes on with the token that it has.
//
// Where pools share an Account and their files no longer hold the same, those that differ from the first get an Account
// of their own: with the token that was in use so far and, when their file holds another, a Candidate. So All may be
// longer afterwards, and the new ones are in changed, with a Candidate or without.
func (s *Accounts) Reread() (changed []*Account, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	contents, mistakes := make(map[place]string), []error(nil)
	for _, p := range s.places {
		token, err := readToken(p.file)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		contents[p] = token
	}
	for _, p := range s.places {
		token, read := contents[p]
		if !read {
			continue
		}
		a := s.of[p]
		parted := false
		if first, read := contents[a.place]; a.place != p && read && first != token {
			a = s.account(p, a.conn().token)
			s.of[p], parted = a, true
		}
		if a.place == p && (s.offer(a, token) || parted) {
			changed = append(changed, a)
		}
	}
	return changed, errors.Join(mistakes...)
}

// token that a place is loaded with: the one in use where it is known, else the file's.
func (s *Accounts) token(p place) (string, error) {
	if a := s.of[p]; a != nil {
		return a.conn().token, nil
	}
	return readToken(p.file)
}

func (s *Accounts) account(p place, token string) *Account {
	a := &Account{key: keyOf(p), place: p}
	a.current = s.connect(p, token)
	return a
}

// offer makes a token the candidate of its account, and reports whether it is a new one.
func (s *Accounts) offer(a *Account, token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case token == a.current.token:
		a.candidate, a.rejected, a.reason = nil, "", ""
		return false
	case token == a.rejected && s.options.Clock.Since(a.rejectedAt) < rejectedFor, a.candidate != nil && token == a.candidate.current.token:
		return false
	}
	a.rejected, a.reason = "", ""
	a.candidate = &Account{key: a.key, place: a.place, of: a, current: s.connect(a.place, token)}
	return true
}

// Candidate is an Account that uses the token which now stands in the file; nil when that is the one in use, or was
// rejected. Its Inventory shows whether it is the same project's: then Accept it, else Reject it.
func (a *Account) Candidate() *Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.candidate
}

// Accept is called on a Candidate: its account uses the new token from now on. False, and nothing happened, when the
// file has changed again since, so that it is the candidate no longer.
func (a *Account) Accept() bool {
	return a.judged(func(of *Account) { of.current = a.current })
}

// Reject is called on a Candidate: its account keeps the token that it has, and the same content of the file is not
// offered again for some minutes. False as with Accept.
func (a *Account) Reject(reason string) bool {
	return a.judged(func(of *Account) {
		of.rejected, of.reason, of.rejectedAt = a.current.token, reason, a.current.clock.Now()
	})
}

func (a *Account) judged(verdict func(of *Account)) bool {
	if a.of == nil {
		return false
	}
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if a.of.candidate != a {
		return false
	}
	a.of.candidate = nil
	verdict(a.of)
	return true
}

// Rejected is why the token in the file is not in use; empty when it is, or is a Candidate.
func (a *Account) Rejected() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reason
}

// conn is one token of a project with what belongs to it: its client, its rate limit and the actions it waits for.
type conn struct {
	clock  clock.Clock
	token  string
	file   string
	client *hcloud.Client
	budget *budget
	poller *poller
}

func (s *Accounts) connect(p place, token string) *conn {
	c := &conn{clock: s.options.Clock, token: token, file: p.file, budget: &budget{clock: s.options.Clock}}
	c.poller = newPoller(c)
	options := []hcloud.ClientOption{
		hcloud.WithEndpoint(p.endpoint),
		hcloud.WithToken(token),
		hcloud.WithApplication("mooring", s.options.Version),
		hcloud.WithRetryOpts(hcloud.RetryOpts{MaxRetries: 0}),
		hcloud.WithHTTPClient(&http.Client{
			Transport: &gate{budget: c.budget, next: s.options.Transport},
			Timeout:   callTimeout,
			// The API redirects nobody. What does could have a purchase sent twice, or the token sent elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
	}
	if s.options.Registerer != nil {
		// hcloud-go uses its collectors again that the registry has from another client.
		options = append(options, hcloud.WithInstrumentation(s.options.Registerer))
	}
	c.client = hcloud.NewClient(options...)
	return c
}

func placeOf(a config.Account) place { return place{file: a.TokenFile, endpoint: a.Endpoint} }

func keyOf(p place) string { return strings.TrimPrefix(p.endpoint, "https://") + " " + p.file }

// readToken reads a token file: one line, with or without its end.
func readToken(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read token file: %w: write a token of the Hetzner project into it, or correct tokenFile", err)
	}
	token := strings.TrimSpace(string(content))
	switch {
	case token == "":
		return "", fmt.Errorf("token file %s is empty: write a token of the Hetzner project into it", file)
	case strings.ContainsAny(token, "\r\n"):
		return "", fmt.Errorf("token file %s has more than one line: write the token alone into it", file)
	case len(token) > longestToken:
		return "", fmt.Errorf("token file %s is longer than a token can be: write the token alone into it", file)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > unicode.MaxASCII || r == 0x7f }):
		return "", fmt.Errorf("token file %s holds characters that no token has: write the token alone into it, as plain text", file)
	}
	return token, nil
}
