package hetzner_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/hetzner"
	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// kinds that the API's codes must have.
var kinds = map[hetznertest.Code]hetzner.Kind{
	hetznertest.Unauthorized:          hetzner.Unauthorized,
	hetznertest.TokenReadonly:         hetzner.Unauthorized,
	hetznertest.Forbidden:             hetzner.Unauthorized,
	hetznertest.ResourceLimitExceeded: hetzner.LimitReached,
	hetznertest.NotFound:              hetzner.NotFound,
	hetznertest.MethodNotAllowed:      hetzner.Invalid,
	hetznertest.Conflict:              hetzner.Temporary,
	hetznertest.Deprecated:            hetzner.Invalid,
	hetznertest.ResourceUnavailable:   hetzner.Unavailable,
	hetznertest.JSONError:             hetzner.Invalid,
	hetznertest.InvalidInput:          hetzner.Invalid,
	hetznertest.FloatingIPAssigned:    hetzner.Assigned,
	hetznertest.MustBeUnassigned:      hetzner.Assigned,
	hetznertest.Locked:                hetzner.Temporary,
	hetznertest.Protected:             hetzner.Protected,
	hetznertest.RateLimitExceeded:     hetzner.RateLimited,
	hetznertest.ServiceError:          hetzner.Temporary,
	hetznertest.ServerError:           hetzner.Temporary,
	hetznertest.Maintenance:           hetzner.Temporary,
	hetznertest.BadGateway:            hetzner.Temporary,
	hetznertest.Unavailable:           hetzner.Temporary,
	hetznertest.Timeout:               hetzner.Temporary,
}

// methods that make a call, by the operation that is made to go wrong.
var methods = map[string]func(ctx context.Context, a *hetzner.Account, f lb.FloatingIP, server int64) error{
	create: func(ctx context.Context, a *hetzner.Account, _ lb.FloatingIP, _ int64) error {
		_, err := a.Buy(ctx, order("another", lb.IPv4))
		return err
	},
	assign: func(ctx context.Context, a *hetzner.Account, f lb.FloatingIP, server int64) error {
		return a.Assign(ctx, f.ID, server, false)
	},
	unassign: func(ctx context.Context, a *hetzner.Account, f lb.FloatingIP, _ int64) error {
		return a.Unassign(ctx, f.ID)
	},
	put: func(ctx context.Context, a *hetzner.Account, f lb.FloatingIP, _ int64) error {
		return a.Label(ctx, f.ID, lb.Owner{})
	},
	remove: func(ctx context.Context, a *hetzner.Account, f lb.FloatingIP, _ int64) error {
		return a.Delete(ctx, f.ID)
	},
	get: func(ctx context.Context, a *hetzner.Account, f lb.FloatingIP, _ int64) error {
		_, err := a.FloatingIP(ctx, f.ID)
		return err
	},
	lists: func(ctx context.Context, a *hetzner.Account, _ lb.FloatingIP, _ int64) error {
		_, err := a.Inventory(ctx, false)
		return err
	},
}

// Every code has its kind, is asked for once, and its text names what was asked for and the code.
func TestKinds(t *testing.T) {
	for operation, call := range methods {
		for code, kind := range kinds {
			if operation == remove && kind == hetzner.NotFound {
				continue
			}
			t.Run(operation+" "+string(code), func(t *testing.T) {
				in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
					f := w.bought()
					if operation == unassign {
						require.NoError(t, w.Route(f.ID, w.n1))
					}
					w.ForgetLog()
					w.AddRule(hetznertest.Rule{Operation: operation, Fault: hetznertest.Fault{Fail: code}})
					e := w.failsWith(kind, call(t.Context(), w.Account, f, w.n1))
					assert.Equal(t, kind, hetzner.KindOf(e))
					assert.Equal(t, string(code), e.Code)
					assert.Equal(t, 1, w.calls(operation), "no repetition")
					assert.True(t, strings.HasPrefix(e.Error(), e.Op+": "), e.Error())
					assert.Contains(t, e.Error(), string(code))
					assert.Equal(t, kind == hetzner.RateLimited, !e.RetryAt.IsZero())
					changes := operation != get && operation != lists
					assert.Equal(t, changes && code.Status() >= 500, e.Uncertain)
				})
			})
		}
	}
}

// People are told what to do.
func TestAdvice(t *testing.T) {
	for code, advice := range map[hetznertest.Code]string{
		hetznertest.ResourceLimitExceeded: "raise the limit",
		hetznertest.Unauthorized:          "write a valid token",
		hetznertest.TokenReadonly:         "read and write permission",
		hetznertest.Protected:             "take the protection off",
		hetznertest.RateLimitExceeded:     "shares the limit",
	} {
		in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
			w.AddRule(hetznertest.Rule{Operation: create, Fault: hetznertest.Fault{Fail: code}})
			_, err := w.Buy(t.Context(), order("web", lb.IPv4))
			assert.ErrorContains(t, err, advice)
			if code == hetznertest.Unauthorized {
				assert.ErrorContains(t, err, w.file)
			}
		})
	}
}

// An answer that never comes leaves open what happened, unless nothing was to happen.
func TestNoAnswer(t *testing.T) {
	for operation, call := range methods {
		for name, fault := range map[string]hetznertest.Fault{
			"cut":              {Cut: true},
			"cut after effect": {Cut: true, AfterEffect: true},
			"silence":          {Delay: time.Hour},
		} {
			t.Run(operation+" "+name, func(t *testing.T) {
				in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
					f := w.bought()
					if operation == unassign {
						require.NoError(t, w.Route(f.ID, w.n1))
					}
					w.AddRule(hetznertest.Rule{Operation: operation, Fault: fault})
					began := time.Now()
					kind := hetzner.Unknown
					if operation == get || operation == lists {
						kind = hetzner.Temporary
					}
					e := w.failsWith(kind, call(t.Context(), w.Account, f, w.n1))
					assert.Equal(t, kind == hetzner.Unknown, e.Uncertain)
					assert.LessOrEqual(t, time.Since(began), 30*time.Second)
				})
			})
		}
	}
}

// Who gives up is told so, and can find his own reason in the error.
func TestCallerGivesUp(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		f := w.bought()
		w.AddRule(hetznertest.Rule{Operation: assign, Fault: hetznertest.Fault{Delay: time.Minute}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := w.Assign(ctx, f.ID, w.n1, false)
		w.fails(hetzner.Unknown, err)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// transport answers as it likes.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// through is an account whose calls go elsewhere than to the stand-in.
func (w *world) through(transport transport) *hetzner.Account {
	w.t.Helper()
	accounts := hetzner.NewAccounts(hetzner.Options{Transport: transport})
	at := w.at(w.file)
	require.NoError(w.t, accounts.Load(&config.Config{Hetzner: &at}))
	return accounts.Of(at)
}

// answers is a transport that answers everything alike, with a Content-Type.
func answers(status int, kind, body string) transport {
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Request: req, Body: io.NopCloser(strings.NewReader(body)),
		}, nil
	}
}

// What stands between us and the API is not believed: least of all that something does not exist.
func TestAnswersOfSomethingElse(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	reset := &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: 4711}, Err: errors.New("connection reset by peer")}
	for name, test := range map[string]struct {
		transport   transport
		read, write hetzner.Kind
		text        string
	}{
		"404 of a proxy":       {answers(404, "text/html", "<html>"), hetzner.Temporary, hetzner.Temporary, "HTTP status 404"},
		"404 of another API":   {answers(404, "application/json", `{"error": {"code": "no_route", "message": "m"}}`), hetzner.Temporary, hetzner.Temporary, "no_route"},
		"401 of a proxy":       {answers(401, "text/html", "<html>"), hetzner.Unauthorized, hetzner.Unauthorized, "HTTP status 401"},
		"429 without a body":   {answers(429, "", ""), hetzner.RateLimited, hetzner.RateLimited, "HTTP status 429"},
		"502 of a proxy":       {answers(502, "text/html", "<html>"), hetzner.Temporary, hetzner.Temporary, "HTTP status 502"},
		"400 of a proxy":       {answers(400, "text/html", "<html>"), hetzner.Temporary, hetzner.Temporary, "HTTP status 400"},
		"a new code":           {answers(422, "application/json", `{"error": {"code": "novelty", "message": "m"}}`), hetzner.Invalid, hetzner.Invalid, "novelty"},
		"a new code of theirs": {answers(500, "application/json", `{"error": {"code": "novelty", "message": "m"}}`), hetzner.Temporary, hetzner.Temporary, "novelty"},
		"a login page":         {answers(200, "text/html", "<html>"), hetzner.Temporary, hetzner.Unknown, "cannot be read"},
		"a redirect":           {answers(302, "text/html", ""), hetzner.Temporary, hetzner.Unknown, "cannot be read"},
		"refused connection":   {func(*http.Request) (*http.Response, error) { return nil, refused }, hetzner.Temporary, hetzner.Temporary, "dial: connection refused"},
		"reset connection":     {func(*http.Request) (*http.Response, error) { return nil, reset }, hetzner.Temporary, hetzner.Unknown, "read: connection reset by peer"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
				account := w.through(test.transport)
				_, err := account.FloatingIP(t.Context(), 42)
				e := w.failsWith(test.read, err)
				assert.Contains(t, e.Error(), test.text)
				assert.NotContains(t, e.Error(), "4711", "equal failures have equal texts")

				<-time.After(2 * time.Hour)
				w.fails(test.write, account.Assign(t.Context(), 42, 43, false))
			})
		})
	}
}

// Nothing is taken for done because something answered that is not the API.
func TestSuccessOfSomethingElse(t *testing.T) {
	for name, transport := range map[string]transport{
		"a login page": answers(200, "text/html", "<html>"),
		"a redirect":   answers(302, "text/html", ""),
		"empty json":   answers(200, "application/json", "{}"),
		"nothing":      answers(200, "", ""),
	} {
		for operation, call := range methods {
			t.Run(name+" "+operation, func(t *testing.T) {
				in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
					f := w.bought()
					half := w.through(func(req *http.Request) (*http.Response, error) {
						if operation == put && req.Method == http.MethodGet {
							return w.Transport().RoundTrip(req)
						}
						return transport(req)
					})
					kind := hetzner.Unknown
					if operation == get || operation == lists {
						kind = hetzner.Temporary
					}
					w.fails(kind, call(t.Context(), half, f, w.n1))
				})
			})
		}
	}
}

// A call that is redirected is not made elsewhere: it might be made twice, and its token would go along.
func TestRedirectsAreNotFollowed(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		calls := 0
		account := w.through(func(req *http.Request) (*http.Response, error) {
			calls++
			resp, err := answers(307, "text/html", "")(req)
			resp.Header.Set("Location", "https://api.hetzner.cloud/v2")
			return resp, err
		})
		_, err := account.Buy(t.Context(), order("web", lb.IPv4))
		w.fails(hetzner.Unknown, err)
		assert.Equal(t, 1, calls)
	})
}

// No error tells the token, even if Hetzner itself repeats it.
func TestNoTokenInErrors(t *testing.T) {
	bodies := map[string]transport{
		"cut":      func(*http.Request) (*http.Response, error) { return nil, errors.New("proxy says " + secret) },
		"no json":  answers(200, "application/json", secret),
		"no error": answers(500, "text/plain", secret),
	}
	for code := range kinds {
		bodies[string(code)] = answers(code.Status(), "application/json",
			`{"error": {"code": "`+string(code)+`", "message": "the token `+secret+` is one of `+secret+`"}}`)
	}
	bodies["code"] = answers(422, "application/json", `{"error": {"code": "`+secret+`", "message": "m"}}`)
	for name, transport := range bodies {
		for operation, call := range methods {
			t.Run(name+" "+operation, func(t *testing.T) {
				in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
					err := call(t.Context(), w.through(transport), lb.FloatingIP{ID: 42}, 43)
					require.Equal(t, operation == remove && strings.Contains(name, string(hetznertest.NotFound)), err == nil)
					for ; err != nil; err = errors.Unwrap(err) {
						assert.NotContains(t, err.Error(), secret)
					}
				})
			})
		}
	}
}

// Over a real connection it is the same; and a call that could not even be sent did nothing.
func TestOverTheNetwork(t *testing.T) {
	w := newWorld(t, hetznertest.Options{ActionTime: 10 * time.Millisecond})
	server := httptest.NewServer(w.Server)
	defer server.Close()
	connected := func() *hetzner.Account {
		accounts := hetzner.NewAccounts(hetzner.Options{})
		at := config.Account{TokenFile: w.file, Endpoint: server.URL + "/v1"}
		require.NoError(t, accounts.Load(&config.Config{Hetzner: &at}))
		return accounts.Of(at)
	}
	account := connected()
	f, err := account.Buy(t.Context(), order("web", lb.IPv6))
	require.NoError(t, err)
	require.NoError(t, account.Assign(t.Context(), f.ID, w.n1, false))
	assert.Equal(t, w.n1, w.FloatingIPs(project)[0].Server)

	server.Close()
	e := w.failsWith(hetzner.Temporary, connected().Unassign(t.Context(), f.ID))
	assert.False(t, e.Uncertain)
	assert.ErrorContains(t, e, "dial: ")
}
