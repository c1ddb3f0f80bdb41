package cloud_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// rental is what a simulated cluster has at Hetzner: its nodes are servers of a project. Every call that a controller
// makes there has a name, as those to the API server have, and the controller can be killed at it.
type rental struct {
	world     *world
	hetzner   *hetznertest.Server
	tokenFile string
	// lists: the cluster has the pool of listed addresses.
	lists bool
	// lands: calls that were under way when their process died have their effect later nevertheless, now and then.
	lands atomic.Bool
	// away: the token is that of another project, so that nothing may be done.
	away atomic.Bool
	// handmade: somebody changes things at Hetzner by hand, or calls fail there.
	handmade atomic.Bool

	mu sync.Mutex
	// servers by node, and nodes by server, also of those that are gone.
	servers map[string]int64
	nodes   map[int64]string
	// routed are the Floating IPs that were routed to one of our nodes at some time.
	routed map[netip.Prefix]bool
}

// tokenTaken is how long it takes until a new token is read and proven.
const tokenTaken = 15 * time.Second

const (
	ourProject, foreignProject = "ours", "theirs"
	ourToken, foreignToken     = "our-secret", "their-secret"
)

// rented is a cloud-config of a cluster at Hetzner, but for the path of its token. The listed ones are the first that
// are sold.
const (
	rentedHead = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: %s, orphans: release}
pools:
- name: listed
  addresses: [198.51.100.1, 198.51.100.2, "2001:db8:f000::/64"]
  hetzner: {}
  interface: pl0
`
	rentedPool = `
- name: bought
  hetzner: {ephemeral: {types: [ipv4, ipv6]}}
  autoAssign: true
  interface: pl0
`
)

// simulateAtHetzner runs a test in a world of three nodes that are servers of a project, and without a controller.
func simulateAtHetzner(t *testing.T, seed uint64, plan crash, options hetznertest.Options, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w, end := newWorld(t, seed, plan, "n")
		api := newHetzner(t, seed, options, w)
		defer api.Close()
		defer end()
		w.move(api)
		w.furnish()
		test(w)
	})
}

// newHetzner returns a stand-in with a project for these clusters, and a foreign one.
func newHetzner(t *testing.T, seed uint64, options hetznertest.Options, clusters ...*world) *hetznertest.Server {
	options.Seed = seed
	options.OnRoute = func(prefix netip.Prefix, server int64) {
		for _, w := range clusters {
			w.rental.onRoute(prefix, server)
		}
	}
	api := hetznertest.New(options)
	api.AddProject(ourProject, ourToken)
	api.AddProject(foreignProject, foreignToken)
	for range 2 {
		_, err := api.AddFloatingIP(ourProject, hetznertest.FloatingIP{})
		require.NoError(t, err)
	}
	_, err := api.AddIPv6(ourProject, hetznertest.FloatingIP{})
	require.NoError(t, err)
	_, err = api.AddServer(foreignProject, hetznertest.Machine{Name: "elsewhere", IPv4: netip.MustParseAddr("203.0.113.200")})
	require.NoError(t, err)
	return api
}

// move a cluster to Hetzner.
func (w *world) move(api *hetznertest.Server) {
	w.rental = &rental{
		world: w, hetzner: api, lists: true, tokenFile: filepath.Join(w.t.TempDir(), "token"),
		servers: map[string]int64{}, nodes: map[int64]string{}, routed: map[netip.Prefix]bool{},
	}
	w.rental.useToken(ourToken)
	w.configure(w.rental.config(rentedPool))
	api.AddHook(w.rental.hook)
}

// config is a cloud-config with further pools.
func (r *rental) config(pools string) string { return fmt.Sprintf(rentedHead, r.tokenFile) + pools }

func (r *rental) useToken(token string) {
	r.world.trace("the token is %s", token)
	switch {
	case token != ourToken:
		r.away.Store(true)
	case r.away.Load():
		time.AfterFunc(tokenTaken, func() { r.away.Store(false) })
	}
	require.NoError(r.world.t, os.WriteFile(r.tokenFile, []byte(token), 0o600))
}

// isAway reports whether the account may be one at which nothing is done: the routing is the fence then, and two nodes may
// be told to hold an address until the account is back.
func (r *rental) isAway() bool { return r != nil && (r.away.Load() || r.handmade.Load()) }

// addServer adds the server that a node runs on, unless there is one.
func (r *rental) addServer(node string, number int) {
	r.mu.Lock()
	id := r.servers[node]
	r.mu.Unlock()
	if id != 0 {
		return
	}
	id, err := r.hetzner.AddServer(ourProject, hetznertest.Machine{Name: node, IPv4: netip.AddrFrom4([4]byte{192, 0, 2, byte(200 + number)})})
	require.NoError(r.world.t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.servers[node], r.nodes[id] = id, node
}

// deleteServer deletes the server that a node runs on, which is down then.
func (r *rental) deleteServer(node string) {
	r.mu.Lock()
	id := r.servers[node]
	delete(r.servers, node)
	r.mu.Unlock()
	if id != 0 {
		r.world.trace("server %d of %s is deleted", id, node)
		require.NoError(r.world.t, r.hetzner.DeleteServer(id))
	}
}

// nodeOf is the node that runs on a server; empty: none.
func (r *rental) nodeOf(server int64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes[server]
}

// connection is a process's way to Hetzner.
type connection struct {
	rental  *rental
	process *process
	next    http.RoundTripper
}

// transport of a process; nil when the cluster has nothing at Hetzner.
func (r *rental) transport(p *process) http.RoundTripper {
	if r == nil {
		return nil
	}
	return &connection{r, p, r.hetzner.TransportAs(r.caller(p.number))}
}

// caller is the name of a process in Hetzner's log.
func (r *rental) caller(number int) string { return fmt.Sprint(r.world.hosts, "/p", number) }

// landsLate is the moment of a crash of which the call that is under way has its effect all the same, much later.
const landsLate moment = "late"

// maxLateness of a call that has its effect after its process died.
const maxLateness = 25 * time.Second

// RoundTrip implements http.RoundTripper.
func (c *connection) RoundTrip(in *http.Request) (*http.Response, error) {
	p, w := c.process, c.rental.world
	if p.ctx.Err() != nil {
		return nil, errDead
	}
	var body []byte
	if in.Body != nil {
		var err error
		body, err = io.ReadAll(in.Body)
		in.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	send := func(ctx context.Context) (*http.Response, error) {
		out := in.Clone(ctx)
		out.Body = io.NopCloser(bytes.NewReader(body))
		return c.next.RoundTrip(out)
	}
	point := w.reach(c.rental.name(in, string(body)))
	there := w.latency("there"+point, maxLatency) + time.Duration(p.delay.Load())
	if !w.wait(p.ctx, there) || in.Context().Err() != nil {
		if c.rental.lands.Load() && w.draw("lands"+point)%2 == 0 {
			c.land(point, send)
		}
		return nil, errDead
	}
	if w.crashesAt(point, beforeEffect) {
		w.crash()
		return nil, errDead
	}
	if w.crashesAt(point, landsLate) {
		c.land(point, send)
		w.crash()
		return nil, errDead
	}
	response, err := send(in.Context())
	w.trace("p%d %s -> %s", p.number, point, outcome(response, err))
	if w.crashesAt(point, unanswered) {
		w.crash()
		return nil, errDead
	}
	if err != nil {
		return nil, err
	}
	if !w.wait(p.ctx, w.latency("back"+point, maxLatency)) {
		return nil, errDead
	}
	if w.crashesAt(point, answered) {
		time.AfterFunc(time.Nanosecond, w.crash)
	}
	return response, nil
}

// land lets a call have its effect after a while, whatever becomes of its process.
func (c *connection) land(point string, send func(context.Context) (*http.Response, error)) {
	w := c.rental.world
	go func() {
		if w.wait(w.ctx, w.latency("late"+point, maxLateness)) {
			response, err := send(w.ctx)
			w.trace("p%d %s, late -> %s", c.process.number, point, outcome(response, err))
			if err == nil {
				response.Body.Close()
			}
		}
	}()
}

// name a call as crash points do: "POST /floating_ips default-web-v4", "DELETE /floating_ips/198.51.100.3".
func (r *rental) name(in *http.Request, body string) string {
	path := strings.TrimPrefix(in.URL.Path, "/v1")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) > 1 {
		parts[1] = r.describe(parts[1])
	}
	name := "hetzner " + in.Method + " " + strings.Join(parts, "/")
	if in.Method == http.MethodPost && len(parts) == 1 {
		name += " " + nameIn(body)
	}
	return name
}

// describe a Floating IP by what it is and not by its id, which depends on what else was done before.
func (r *rental) describe(text string) string {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return text
	}
	for _, f := range r.hetzner.FloatingIPs(ourProject) {
		if f.ID == id {
			return f.Name
		}
	}
	return "none"
}

func nameIn(body string) string {
	_, rest, _ := strings.Cut(body, `"name":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}
