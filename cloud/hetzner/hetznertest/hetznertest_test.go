package hetznertest_test

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

const secret = "token-of-prod"

// world is a stand-in with one project, which has two servers.
type world struct {
	*hetznertest.Server
	t      *testing.T
	client *hcloud.Client
	n1, n2 int64
}

func newWorld(t *testing.T, options hetznertest.Options) *world {
	t.Helper()
	w := &world{Server: hetznertest.New(options), t: t}
	t.Cleanup(w.Close)
	w.AddProject("prod", secret)
	w.n1 = w.server("prod", "n1", "192.0.2.1")
	w.n2 = w.server("prod", "n2", "192.0.2.2")
	w.client = w.clientOf("test", secret)
	return w
}

func (w *world) server(project, name, ip string) int64 {
	w.t.Helper()
	id, err := w.AddServer(project, hetznertest.Machine{
		Name: name, IPv4: netip.MustParseAddr(ip), IPv6: netip.MustParsePrefix("2001:db8:1::/64"),
		Private: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	})
	require.NoError(w.t, err)
	return id
}

// clientOf is a real client that does not repeat anything by itself.
func (w *world) clientOf(caller, token string) *hcloud.Client {
	return hcloud.NewClient(
		hcloud.WithToken(token),
		hcloud.WithHTTPClient(&http.Client{Transport: w.TransportAs(caller)}),
		hcloud.WithRetryOpts(hcloud.RetryOpts{BackoffFunc: hcloud.ConstantBackoff(0), MaxRetries: 0}),
	)
}

// buy a Floating IP at home in fsn1.
func (w *world) buy(name string, labels map[string]string) *hcloud.FloatingIP {
	w.t.Helper()
	got, _, err := w.client.FloatingIP.Create(w.t.Context(), hcloud.FloatingIPCreateOpts{
		Type: hcloud.FloatingIPTypeIPv4, HomeLocation: &hcloud.Location{Name: "fsn1"}, Name: &name, Labels: labels,
	})
	require.NoError(w.t, err)
	return got.FloatingIP
}

// assign and wait until the action has ended.
func (w *world) assign(id, server int64) {
	w.t.Helper()
	action, _, err := w.client.FloatingIP.Assign(w.t.Context(), &hcloud.FloatingIP{ID: id}, &hcloud.Server{ID: server})
	require.NoError(w.t, err)
	require.NoError(w.t, w.client.Action.WaitFor(w.t.Context(), action))
}

type answer struct {
	status int
	header http.Header
	body   string
}

// send a request as it is.
func (w *world) send(method, path, body string) answer {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, hetznertest.Endpoint+path, strings.NewReader(body))
	require.NoError(w.t, err)
	request.Header.Set("Authorization", "Bearer "+secret)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := w.Transport().RoundTrip(request)
	require.NoError(w.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(w.t, err)
	return answer{response.StatusCode, response.Header, string(text)}
}

func code(err error) string {
	refused, _ := errors.AsType[hcloud.Error](err)
	return string(refused.Code)
}

// A Floating IP is bought, moved and given back with the client that the product uses, and packets follow.
func TestLifeOfAFloatingIP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var routes []int64
		w := newWorld(t, hetznertest.Options{OnRoute: func(_ netip.Prefix, server int64) { routes = append(routes, server) }})
		f := w.buy("web", map[string]string{"a": "b"})
		assert.Equal(t, "198.51.100.1", f.IP.String())
		assert.Nil(t, f.Server)

		action, _, err := w.client.FloatingIP.Assign(t.Context(), f, &hcloud.Server{ID: w.n1})
		require.NoError(t, err)
		assert.Equal(t, hcloud.ActionStatusRunning, action.Status)
		assert.Zero(t, w.FloatingIPs("prod")[0].Server, "the effect shows before the action has ended")
		require.NoError(t, w.client.Action.WaitFor(t.Context(), action))
		assert.Equal(t, w.n1, w.FloatingIPs("prod")[0].Server)

		w.assign(f.ID, w.n2)
		_, err = w.client.FloatingIP.Delete(t.Context(), f)
		assert.Equal(t, "must_be_unassigned", code(err))
		action, _, err = w.client.FloatingIP.Unassign(t.Context(), f)
		require.NoError(t, err)
		require.NoError(t, w.client.Action.WaitFor(t.Context(), action))
		_, err = w.client.FloatingIP.Delete(t.Context(), f)
		require.NoError(t, err)

		assert.Empty(t, w.FloatingIPs("prod"))
		assert.Equal(t, 1, w.Purchases("prod"))
		assert.Equal(t, 1, w.Releases("prod"))
		assert.Equal(t, []int64{w.n1, w.n2, 0}, routes)
	})
}

// Routing follows an action also when nobody asks how it is getting on.
func TestRoutesWithoutAnybodyAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var routes []int64
		w := newWorld(t, hetznertest.Options{OnRoute: func(_ netip.Prefix, server int64) { routes = append(routes, server) }})
		f := w.buy("web", nil)
		_, _, err := w.client.FloatingIP.Assign(t.Context(), f, &hcloud.Server{ID: w.n1})
		require.NoError(t, err)
		<-time.After(time.Second)
		synctest.Wait()
		assert.Equal(t, []int64{w.n1}, routes)
		require.NoError(t, w.DeleteServer(w.n1))
		assert.Equal(t, []int64{w.n1, 0}, routes)
	})
}
