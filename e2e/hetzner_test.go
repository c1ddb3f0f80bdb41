package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// The projects at Hetzner: the cluster's, and one that is none of its business.
const (
	ourProject   = "ours"
	theirProject = "theirs"
)

// clusterName is what stands on everything that is bought.
const clusterName = "--cluster-name=harbour"

// sold are the addresses that the stand-in has to sell, and otherSold those that somebody bought before.
var (
	sold      = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:f000::/36")}
	otherSold = netip.MustParsePrefix("203.0.113.0/24")
)

// The labels of what is bought, as the stand-in shows them.
const (
	labelClusterUID = "mooring.dev/cluster-uid"
	labelServiceUID = "mooring.dev/service-uid"
	labelName       = "mooring.dev/name"
	labelReclaim    = "mooring.dev/reclaim"
)

// rented is a cluster with a stand-in for Hetzner's API, which routes: what the client sends to a Floating IP is carried
// to the node whose server it is assigned to, and to none while it is not assigned. Nodes are beside each other on a
// wire to which no Floating IP belongs, so packets prove the assignment.
type rented struct {
	*moored
	cloud  *hetznertest.Server
	router *router
	// endpoint is the URL of the API.
	endpoint string
	// secrets is the directory of the token files.
	secrets string
	// begin is when there was no cluster yet.
	begin time.Time
}

// rent starts a cluster and a stand-in in which the Nodes named are servers of our project.
func rent(t *testing.T, options cluster.Options, servers ...string) *rented {
	t.Helper()
	cloud, router := standIn(t)
	h := rentAt(t, cloud, router, options)
	for _, name := range servers {
		h.addServer(t, name)
	}
	return h
}

// standIn makes a stand-in for Hetzner with our project and its token.
func standIn(t *testing.T) (*hetznertest.Server, *router) {
	t.Helper()
	r := &router{t: t, nodes: map[int64]*cluster.Node{}}
	cloud := hetznertest.New(hetznertest.Options{IPv4: sold[:1], IPv6: sold[1], OnRoute: r.route})
	t.Cleanup(cloud.Close)
	cloud.AddProject(ourProject, secretOurs)
	return cloud, r
}

// rentAt starts a cluster that a stand-in serves. A stand-in can serve one after the other.
func rentAt(t *testing.T, cloud *hetznertest.Server, r *router, options cluster.Options) *rented {
	t.Helper()
	options.Manifests = "manifests/base"
	h := &rented{cloud: cloud, router: r, secrets: t.TempDir(), begin: time.Now()}
	h.moored = &moored{Cluster: start(t, options)}
	h.route(t)
	h.token(t, "default", secretOurs)
	// Controllers are beside the control plane, and so are we.
	h.endpoint = h.serve(t, netip.MustParseAddrPort("127.0.0.1:0"))
	return h
}

// route has Hetzner's routers carry what the client sends to Floating IPs.
func (h *rented) route(t *testing.T) {
	t.Helper()
	require.NoError(t, h.Client.Unroute(append(slices.Clone(sold), otherSold)...))
	h.router.carry(h.Client)
	t.Cleanup(func() { h.router.carry(nil) })
}

// serve has the stand-in listen until the test ends, and returns the URL of the API.
func (h *rented) serve(t *testing.T, at netip.AddrPort) (endpoint string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", at.String())
	require.NoError(t, err)
	server := &http.Server{Handler: h.cloud, ReadHeaderTimeout: cluster.Guard}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // ends with the server
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return "http://" + listener.Addr().String() + "/v1"
}

// account are the keys of a cloud-config for our project.
func (h *rented) account() string {
	return fmt.Sprintf("hetzner: {tokenFile: %q, endpoint: %q}", filepath.Join(h.secrets, "default"), h.endpoint)
}

// router carries what the client sends to Floating IPs as Hetzner's routers do.
type router struct {
	t *testing.T

	mu     sync.Mutex
	client *cluster.Host
	// nodes by the id of their server.
	nodes map[int64]*cluster.Node
}

// carry begins to carry what a client sends; nil: it ends.
func (r *router) carry(client *cluster.Host) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.client = client
}

// route is told by the stand-in.
func (r *router) route(prefix netip.Prefix, server int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client == nil {
		return
	}
	var to *cluster.Host
	if node := r.nodes[server]; node != nil {
		to = node.Host
	}
	if err := r.client.Route(prefix, to); err != nil {
		r.t.Error(err)
	}
}

// addServer makes the node's machine a server of our project, with the node's name and its address on the wire.
func (h *rented) addServer(t *testing.T, name string) int64 {
	t.Helper()
	node := h.Node(name)
	id, err := h.cloud.AddServer(ourProject, hetznertest.Machine{Name: name, Location: "nbg1", Type: "cx33", Private: []netip.Addr{node.IPv4}})
	require.NoError(t, err)
	h.router.mu.Lock()
	defer h.router.mu.Unlock()
	h.router.nodes[id] = node
	return id
}

// serverOf is the id of a node's server.
func (h *rented) serverOf(name string) int64 {
	h.router.mu.Lock()
	defer h.router.mu.Unlock()
	for id, node := range h.router.nodes {
		if node.Name == name {
			return id
		}
	}
	return 0
}

// token writes a token into the file of that name, in one step, and returns its path.
func (h *rented) token(t *testing.T, name, secret string) string {
	t.Helper()
	h.Secret("the token in file "+name, secret)
	path := filepath.Join(h.secrets, name)
	require.NoError(t, os.WriteFile(path+".next", []byte(secret+"\n"), 0o600))
	require.NoError(t, os.Rename(path+".next", path))
	return path
}

// cloudConfig is one with our account, further keys and pools.
func (h *rented) cloudConfig(keys string, pools ...string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "apiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\n%s\npools:\n", keys)
	for _, pool := range pools {
		fmt.Fprintf(&text, "- {interface: pl0, %s}\n", pool)
	}
	return text.String()
}

// floatingIP that an address belongs to, as it is at Hetzner.
func (h *rented) floatingIP(addr netip.Addr) (hetznertest.FloatingIP, bool) {
	for _, f := range h.cloud.FloatingIPs(ourProject) {
		if f.Prefix.Masked().Contains(addr) {
			return f, true
		}
	}
	return hetznertest.FloatingIP{}, false
}

// mustHave is the Floating IP of an address that must exist.
func (h *rented) mustHave(t *testing.T, addr netip.Addr) hetznertest.FloatingIP {
	t.Helper()
	f, ok := h.floatingIP(addr)
	require.True(t, ok, "there is no Floating IP of %s at Hetzner", addr)
	return f
}

// at waits until the Floating IP of an address is as it should be.
func (h *rented) at(t *testing.T, addr netip.Addr, what string, is func(hetznertest.FloatingIP) bool) hetznertest.FloatingIP {
	t.Helper()
	var f hetznertest.FloatingIP
	h.Eventually(t, fmt.Sprintf("Floating IP %s %s", addr, what), func(context.Context) error {
		var ok bool
		if f, ok = h.floatingIP(addr); !ok {
			return errors.New("it does not exist")
		}
		if !is(f) {
			return fmt.Errorf("it is %+v", f)
		}
		return nil
	})
	return f
}

// boughtFor are the Floating IPs that carry the Service's UID.
func (h *rented) boughtFor(service *corev1.Service) []hetznertest.FloatingIP {
	return slices.DeleteFunc(h.cloud.FloatingIPs(ourProject), func(f hetznertest.FloatingIP) bool {
		return f.Labels[labelServiceUID] != string(service.UID)
	})
}

// calls of an operation that have arrived; since is the sequence number of the last one that does not count.
func (h *rented) calls(operation string, since int) int {
	count := 0
	for _, r := range h.cloud.Log() {
		if r.Operation == operation && r.Seq > since {
			count++
		}
	}
	return count
}

// lastCall is the sequence number of the last call.
func (h *rented) lastCall() int {
	log := h.cloud.Log()
	if len(log) == 0 {
		return 0
	}
	return log[len(log)-1].Seq
}

// answersFirst makes one connection to each address, now, and none of them is refused, unreachable or silent.
func (m *moored) answersFirst(t *testing.T, addresses ...netip.Addr) {
	t.Helper()
	for _, addr := range addresses {
		ctx, cancel := context.WithTimeout(t.Context(), cluster.Guard)
		_, err := m.Client.Get(ctx, netip.AddrPortFrom(addr, 80), "/")
		cancel()
		require.NoError(t, err, "the first connection to %s", addr)
	}
}

// connects makes a connection to the address every 10 ms. The returned function ends that, and the test when one was
// not answered at once.
func (m *moored) connects(t *testing.T, addr netip.Addr) (end func()) {
	t.Helper()
	return connecting(t, addr.String(), func(ctx context.Context) error { return m.answersAtOnce(ctx, addr) })
}

// connecting makes a connection every 10 ms. The returned function ends that, and the test when one failed.
func connecting(t *testing.T, to string, connect func(context.Context) error) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var connecting sync.WaitGroup
	var count int
	var failed []error
	connecting.Go(func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			count++
			if err := connect(t.Context()); err != nil {
				failed = append(failed, fmt.Errorf("connection %d: %w", count, err))
			}
		}
	})
	return func() {
		t.Helper()
		cancel()
		connecting.Wait()
		assert.NoError(t, errors.Join(failed...), "%d connections to %s", count, to)
	}
}
