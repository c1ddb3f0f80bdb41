package updater_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/updater"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

const url = "http://192.0.2.1:3000/api/v1/lb"

var tcp8100 = updater.Key{Port: 8100, Protocol: updater.TCP}

func targets(list ...string) []netip.AddrPort {
	var all []netip.AddrPort
	for _, s := range list {
		all = append(all, netip.MustParseAddrPort(s))
	}
	return all
}

func newClient(t *testing.T, o updater.ClientOptions) *updater.Client {
	t.Helper()
	if o.URL == "" {
		o.URL = url
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	c, err := updater.NewClient(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestClientSaysWhatTheProtocolSays(t *testing.T) {
	s := updatertest.New(updatertest.Options{})
	c := newClient(t, updater.ClientOptions{Transport: s.Transport(), Version: "v1"})

	require.NoError(t, c.Set(t.Context(), "prod-1_8100_tcp", tcp8100, updater.Backend{
		Targets:      targets("[2001:db8::2]:30001", "192.0.2.20:30001", "192.0.2.3:30001", "192.0.2.20:30001", "[::ffff:192.0.2.3]:30001"),
		ProxyTimeout: 10 * time.Minute,
	}))
	require.NoError(t, c.Set(t.Context(), "prod-1_53_udp", updater.Key{Port: 53, Protocol: updater.UDP}, updater.Backend{
		Targets: targets("192.0.2.3:30053"), ProxyTimeout: 30 * time.Second, ConnectTimeout: time.Second,
	}))
	require.NoError(t, c.Remove(t.Context(), "prod-1_8100_tcp"))
	require.NoError(t, c.Remove(t.Context(), "never-heard-of"))

	calls := s.Calls()
	require.Len(t, calls, 4)
	assert.JSONEq(t, `{"backendName":"prod-1_8100_tcp","lbPort":8100,"lbProtocol":"tcp","proxyTimeoutSeconds":600,"proxyConnectTimeoutSeconds":0,
		"upstreamServers":[{"host":"192.0.2.3","port":30001},{"host":"192.0.2.20","port":30001},{"host":"[2001:db8::2]","port":30001}]}`, calls[0].Body)
	assert.JSONEq(t, `{"backendName":"prod-1_53_udp","lbPort":53,"lbProtocol":"udp","proxyTimeoutSeconds":30,"proxyConnectTimeoutSeconds":1,
		"upstreamServers":[{"host":"192.0.2.3","port":30053}]}`, calls[1].Body)
	assert.Equal(t, http.MethodDelete, calls[2].Method)
	assert.JSONEq(t, `{"backendName":"prod-1_8100_tcp"}`, calls[2].Body)
	assert.Equal(t, "application/json", calls[0].Header.Get("Content-Type"))
	assert.Equal(t, "mooring/v1", calls[0].Header.Get("User-Agent"))
	assert.Empty(t, calls[0].Header.Get("Authorization"))
}

func TestClientNeverSendsWhatWouldBreakTheFile(t *testing.T) {
	good := updater.Backend{Targets: targets("192.0.2.3:30001")}
	with := func(change func(*updater.Backend)) updater.Backend {
		b := good
		change(&b)
		return b
	}
	for _, test := range []struct {
		what    string
		name    string
		key     updater.Key
		backend updater.Backend
		says    string
	}{
		{"no targets", "a", tcp8100, updater.Backend{}, "there is no target"},
		{"port 0", "a", updater.Key{Protocol: updater.TCP}, good, "port 0 does not exist"},
		{"SCTP", "a", updater.Key{Port: 1, Protocol: "SCTP"}, good, `protocol "SCTP"`},
		{"no name", "", tcp8100, good, "has no name"},
		{"a name with a semicolon", "a;", tcp8100, good, `"a;" has other characters`},
		{"a path", "../a", tcp8100, good, "has other characters"},
		{"a long name", strings.Repeat("a", 201), tcp8100, good, "longer than 200"},
		{"target without port", "a", tcp8100, with(func(b *updater.Backend) { b.Targets = targets("192.0.2.3:0") }), "192.0.2.3:0 has no port"},
		{"target 0.0.0.0", "a", tcp8100, with(func(b *updater.Backend) { b.Targets = targets("0.0.0.0:1") }), "no address of a node"},
		{"multicast", "a", tcp8100, with(func(b *updater.Backend) { b.Targets = targets("[ff02::1]:1") }), "no address of a node"},
		{"no address", "a", tcp8100, with(func(b *updater.Backend) { b.Targets = make([]netip.AddrPort, 1) }), "no address of a node"},
		{"a zone", "a", tcp8100, with(func(b *updater.Backend) { b.Targets = targets("[fe80::1%eth0]:1") }), "has a zone"},
		{"half a second", "a", tcp8100, with(func(b *updater.Backend) { b.ProxyTimeout = 500 * time.Millisecond }), "proxy timeout 500ms must be whole seconds"},
		{"negative", "a", tcp8100, with(func(b *updater.Backend) { b.ConnectTimeout = -time.Second }), "proxy connect timeout -1s"},
		{"a year", "a", tcp8100, with(func(b *updater.Backend) { b.ProxyTimeout = 8760 * time.Hour }), "proxy timeout"},
	} {
		t.Run(test.what, func(t *testing.T) {
			s := updatertest.New(updatertest.Options{})
			c := newClient(t, updater.ClientOptions{Transport: s.Transport()})
			err := c.Set(t.Context(), test.name, test.key, test.backend)
			require.ErrorContains(t, err, test.says)
			assert.Equal(t, updater.Invalid, updater.KindOf(err))
			assert.Empty(t, s.Calls())
		})
	}
	s := updatertest.New(updatertest.Options{})
	err := newClient(t, updater.ClientOptions{Transport: s.Transport()}).Remove(t.Context(), "a b")
	assert.Equal(t, updater.Invalid, updater.KindOf(err))
	assert.Empty(t, s.Calls())
}

func TestClientClassifiesEveryMisbehaviour(t *testing.T) {
	const at = "set backend a at http://192.0.2.1:3000/api/v1/lb: "
	for _, test := range []struct {
		fault  updatertest.Fault
		kind   updater.Kind
		status int
		maybe  bool
		says   string
	}{
		{updatertest.Fault{Hang: true}, updater.Unreachable, 0, true, at + "no answer in 10s: is the updater running, and reachable from the controller?"},
		{updatertest.Fault{Delay: 11 * time.Second}, updater.Unreachable, 0, true, at + "no answer in 10s: is the updater running, and reachable from the controller?"},
		{updatertest.Fault{Answer: updatertest.Cut}, updater.Unreachable, 0, true, at + "updatertest: the connection was cut: is the updater running, and reachable from the controller?"},
		{updatertest.Fault{Answer: updatertest.Half}, updater.Retryable, 200, true, at + "HTTP status 200: the answer ended in the middle: unexpected EOF: see the updater's log"},
		{updatertest.Fault{Answer: updatertest.Garbage}, updater.Retryable, 200, true, at + `HTTP status 200: the answer "<!doctype html><title>Welcome to nginx!</title>" is no JSON object: does the URL lead to an updater? correct urls`},
		{updatertest.Fault{Answer: updatertest.Huge}, updater.Retryable, 200, true, at + "HTTP status 200: the answer is longer than 65536 bytes: does the URL lead to an updater? correct urls"},
		{updatertest.Fault{Answer: updatertest.InternalError}, updater.Retryable, 500, true, at + "HTTP status 500: update stream: no space left on device: see the updater's log"},
		{updatertest.Fault{Answer: updatertest.Redirect}, updater.Refused, 302, false, at + "HTTP status 302: redirects are not followed: write the URL itself into urls, probably http://198.51.100.9/elsewhere"},
		{updatertest.Fault{Answer: updatertest.Unauthorized}, updater.Refused, 401, false, at + "HTTP status 401: who are you?: put the token that the updater expects into bearerTokenFile, or give the client certificate that it trusts"},
	} {
		t.Run(string(test.fault.Answer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := updatertest.New(updatertest.Options{})
				s.Break(test.fault)
				c := newClient(t, updater.ClientOptions{Transport: s.Transport()})
				err := c.Set(t.Context(), "a", tcp8100, updater.Backend{Targets: targets("192.0.2.3:30001")})
				require.EqualError(t, err, test.says)
				e, ok := errors.AsType[*updater.Error](err)
				require.True(t, ok)
				assert.Equal(t, test.kind, e.Kind)
				assert.Equal(t, test.status, e.Status)
				assert.Equal(t, test.maybe, e.Uncertain)
				assert.Len(t, s.Calls(), 1)
				s.Wait()
			})
		})
	}
}

func TestClientSaysThatItsCallerGaveUp(t *testing.T) {
	s := updatertest.New(updatertest.Options{})
	s.Break(updatertest.Fault{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := newClient(t, updater.ClientOptions{Transport: s.Transport()}).Remove(ctx, "a")
	require.ErrorIs(t, err, context.Canceled)
}

func TestClientOverTheNetworkHoldsOutAgainstEveryAnswer(t *testing.T) {
	s := updatertest.New(updatertest.Options{})
	h := httptest.NewServer(s)
	defer h.Close()
	c := newClient(t, updater.ClientOptions{URL: h.URL + "/api/v1/lb"})
	for answer, kind := range map[updatertest.Answer]updater.Kind{
		updatertest.OwnAnswer: "", updatertest.Cut: updater.Unreachable, updatertest.Half: updater.Retryable, updatertest.Huge: updater.Retryable,
		updatertest.Garbage: updater.Retryable, updatertest.Redirect: updater.Refused, updatertest.InternalError: updater.Retryable,
	} {
		s.Break(updatertest.Fault{Answer: answer})
		err := c.Set(t.Context(), "a", tcp8100, updater.Backend{Targets: targets("192.0.2.3:30001")})
		assert.Equal(t, kind, updater.KindOf(err), "%s: %v", answer, err)
	}
	h.Close()
	err := newClient(t, updater.ClientOptions{URL: h.URL}).Remove(t.Context(), "a")
	assert.Equal(t, updater.Unreachable, updater.KindOf(err))
	e, ok := errors.AsType[*updater.Error](err)
	require.True(t, ok)
	assert.False(t, e.Uncertain, "a connection that was never made changes nothing")
	assert.Contains(t, err.Error(), "connection refused")
}

func TestTokenIsReadAgainAndNeverSaid(t *testing.T) {
	s := updatertest.New(updatertest.Options{Token: "second-secret"})
	file := filepath.Join(t.TempDir(), "token")
	c := newClient(t, updater.ClientOptions{Transport: s.Transport(), BearerTokenFile: file})

	err := c.Remove(t.Context(), "a")
	require.ErrorContains(t, err, "read token file")
	assert.Equal(t, updater.Refused, updater.KindOf(err))
	assert.Empty(t, s.Calls(), "nothing is sent without the token")

	require.NoError(t, os.WriteFile(file, []byte("first-secret\n"), 0o600))
	err = c.Remove(t.Context(), "a")
	require.ErrorContains(t, err, "HTTP status 401")
	assert.NotContains(t, err.Error(), "first-secret")

	require.NoError(t, os.WriteFile(file, []byte("second-secret"), 0o600))
	require.NoError(t, c.Remove(t.Context(), "a"))

	for _, bad := range []string{"", "two\nlines", "sch\u00f6n", strings.Repeat("a", 5000)} {
		require.NoError(t, os.WriteFile(file, []byte(bad), 0o600))
		require.NoError(t, c.Remove(t.Context(), "a"), "a token that cannot be one does not replace the one in use")
	}
}

// TestTokenThatTheUpdaterRepeatsIsNotSaid: an answer that repeats the request, cut wherever it may be.
func TestTokenThatTheUpdaterRepeatsIsNotSaid(t *testing.T) {
	const token = "very-secret-token-of-some-length"
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	for before := range 220 {
		c := newClient(t, updater.ClientOptions{BearerTokenFile: file, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.WriteString(strings.Repeat("x", before) + r.Header.Get("Authorization"))
			return w.Result(), nil
		})})
		err := c.Remove(t.Context(), "a")
		require.Error(t, err)
		require.NotContains(t, err.Error(), token[:12])
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestURLIsShownWithoutCredentials(t *testing.T) {
	s := updatertest.New(updatertest.Options{})
	s.Break(updatertest.Fault{Answer: updatertest.InternalError})
	c := newClient(t, updater.ClientOptions{URL: "http://someone:hush@192.0.2.1/lb?key=hush", Transport: s.Transport()})
	err := c.Remove(t.Context(), "a")
	require.ErrorContains(t, err, "at http://192.0.2.1/lb: HTTP status 500")
	assert.NotContains(t, err.Error(), "hush")
}

func TestNames(t *testing.T) {
	for _, test := range []struct{ cluster, uid, want string }{
		{"prod", "1a2b3c4d-5e6f-7081-9203-a4b5c6d7e8f9", "prod-1a2b3c4d_8100_tcp"},
		{"prod eu_west/1", "1a2b3c4d-5e6f", "prod-eu-west-1-1a2b3c4d_8100_tcp"},
		{"gr\u00fc\u00dfe;}", "1a2b3c4d", "gr--e---1a2b3c4d_8100_tcp"},
		{strings.Repeat("long", 30), "1a2b3c4d", strings.Repeat("long", 10) + "-1a2b3c4d_8100_tcp"},
		{"", "", "-_8100_tcp"},
	} {
		assert.Equal(t, test.want, updater.Name(updater.Prefix(test.cluster, test.uid), tcp8100))
	}
	prefix := updater.Prefix("prod", "1a2b3c4d")
	assert.NotEqual(t, updater.Name(prefix, tcp8100), updater.Name(prefix, updater.Key{Port: 8100, Protocol: updater.UDP}))
}

func TestErrorsAreEqualForEqualFailures(t *testing.T) {
	for _, test := range []struct {
		err  error
		says string
	}{
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "read udp 10.0.0.1:34567->10.0.0.10:53: i/o timeout", Name: "lb.example.com", IsTimeout: true}}, "no name server answers for lb.example.com"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "lb.example.com", IsNotFound: true}}, "no such host lb.example.com"},
		{&net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: 34567}, Err: syscall.ECONNRESET}, "read: connection reset by peer"},
	} {
		c := newClient(t, updater.ClientOptions{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, test.err })})
		require.EqualError(t, c.Remove(t.Context(), "a"), "remove backend a at "+url+": "+test.says+": is the updater running, and reachable from the controller?")
	}
}

func TestStatusSaysWhoHasToActAndHow(t *testing.T) {
	for status, want := range map[int]struct {
		kind updater.Kind
		says string
	}{
		http.StatusBadRequest:          {updater.Refused, "does not speak the protocol"},
		http.StatusForbidden:           {updater.Refused, "bearerTokenFile"},
		http.StatusNotFound:            {updater.Refused, "correct urls"},
		http.StatusMethodNotAllowed:    {updater.Refused, "correct urls"},
		http.StatusPermanentRedirect:   {updater.Refused, "redirects are not followed"},
		http.StatusConflict:            {updater.Retryable, "does not speak the protocol"},
		http.StatusTooManyRequests:     {updater.Retryable, "HTTP status 429"},
		http.StatusInternalServerError: {updater.Retryable, "see the updater's log"},
		http.StatusNotImplemented:      {updater.Refused, "see the updater's log"},
		http.StatusBadGateway:          {updater.Retryable, "see the updater's log"},
		http.StatusNoContent:           {"", ""},
		http.StatusCreated:             {"", ""},
	} {
		c := newClient(t, updater.ClientOptions{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.WriteHeader(status)
			return w.Result(), nil
		})})
		err := c.Remove(t.Context(), "a")
		assert.Equal(t, want.kind, updater.KindOf(err), status)
		if err != nil {
			assert.ErrorContains(t, err, want.says, status)
		}
	}
}

// endless is a body without an end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

func (e *endless) Close() error { return nil }

func TestAnswerWithoutEndIsNotRead(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusBadGateway} {
		body := &endless{}
		c := newClient(t, updater.ClientOptions{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if body.read > 0 {
				return nil, errors.New("called twice")
			}
			return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: http.MaxBytesReader(nil, body, 10<<20), Request: r}, nil
		})})
		err := c.Remove(t.Context(), "a")
		assert.Equal(t, updater.Retryable, updater.KindOf(err), "%v", err)
		assert.Less(t, body.read, 200<<10)
	}
}
