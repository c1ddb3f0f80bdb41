package pool_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// set is a pool's addresses: prefixes, ranges and single addresses, comma-separated.
func set(text string) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for part := range strings.SplitSeq(text, ",") {
		switch {
		case strings.Contains(part, "/"):
			b.AddPrefix(netip.MustParsePrefix(part))
		case strings.Contains(part, "-"):
			b.AddRange(netipx.MustParseIPRange(part))
		default:
			b.Add(netip.MustParseAddr(part))
		}
	}
	s, err := b.IPSet()
	if err != nil {
		panic(err)
	}
	return s
}

// aPool is one with autoAssign, as the configuration makes it by default.
func aPool(name, addresses string, edit ...func(*config.Pool)) config.Pool {
	p := config.Pool{Name: name, Addresses: set(addresses), AutoAssign: true}
	for _, e := range edit {
		e(&p)
	}
	return p
}

func named(p *config.Pool)              { p.AutoAssign = false }
func prio(n int) func(*config.Pool)     { return func(p *config.Pool) { p.Priority = n } }
func class(c string) func(*config.Pool) { return func(p *config.Pool) { p.LoadBalancerClass = c } }
func only(namespaces ...string) func(*config.Pool) {
	return func(p *config.Pool) { p.AllowedNamespaces = namespaces }
}
func namespaces(selector string) func(*config.Pool) {
	return func(p *config.Pool) { p.NamespaceSelector = selecting(selector) }
}
func services(selector string) func(*config.Pool) {
	return func(p *config.Pool) { p.ServiceSelector = selecting(selector) }
}

func selecting(text string) labels.Selector {
	s, err := labels.Parse(text)
	if err != nil {
		panic(err)
	}
	return s
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// web is the Service "namespace/name", IPv4, port 80/TCP. Its UID is its name.
func web(name string, edit ...func(*lb.Request)) lb.Request {
	namespace, base, _ := strings.Cut(name, "/")
	r := lb.Request{
		Ref:          lb.Ref{Namespace: namespace, Name: base, UID: name},
		Created:      epoch,
		Families:     []lb.Family{lb.IPv4},
		FamilyPolicy: lb.SingleStack,
		Ports:        []lb.Port{{Number: 80, Protocol: "TCP"}},
	}
	return with(r, edit...)
}

// with is the Service after an edit.
func with(r lb.Request, edit ...func(*lb.Request)) lb.Request {
	for _, e := range edit {
		e(&r)
	}
	return r
}

func inPool(name string) func(*lb.Request) { return func(r *lb.Request) { r.Pool = name } }
func key(k string) func(*lb.Request)       { return func(r *lb.Request) { r.SharingKey = k } }
func askFor(list ...string) func(*lb.Request) {
	return func(r *lb.Request) { r.Addresses = addrs(list...) }
}
func external(list ...string) func(*lb.Request) {
	return func(r *lb.Request) { r.ExternalIPs = addrs(list...) }
}
func loadBalancerIP(a string) func(*lb.Request) {
	return func(r *lb.Request) { r.LoadBalancerIP = netip.MustParseAddr(a) }
}
func port(number uint16, protocol lb.Protocol) func(*lb.Request) {
	return func(r *lb.Request) { r.Ports = []lb.Port{{Number: number, Protocol: protocol}} }
}
func local(selector string) func(*lb.Request) {
	return func(r *lb.Request) { r.Local, r.PodSelector = true, selector }
}
func born(second int) func(*lb.Request) {
	return func(r *lb.Request) { r.Created = epoch.Add(time.Duration(second) * time.Second) }
}
func families(policy lb.FamilyPolicy, f ...lb.Family) func(*lb.Request) {
	return func(r *lb.Request) { r.FamilyPolicy, r.Families = policy, f }
}
func labelled(service, namespace string) func(*lb.Request) {
	return func(r *lb.Request) {
		r.Labels, r.NamespaceLabels = map[string]string{"expose": service}, map[string]string{"tier": namespace}
	}
}

func addr(a string) netip.Addr { return netip.MustParseAddr(a) }

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func lease(text string) lb.Lease {
	a, name, _ := strings.Cut(text, "@")
	return lb.Lease{Addr: addr(a), Pool: name}
}

// leases reads "address@pool".
func leases(list ...string) []lb.Lease {
	var out []lb.Lease
	for _, l := range list {
		out = append(out, lease(l))
	}
	return out
}

// gets asserts that the Service is served with exactly these leases, leaves nothing and is refused nothing, also when
// it is asked again.
func gets(t *testing.T, a *pool.Allocator, req lb.Request, want ...string) {
	t.Helper()
	for range 2 {
		got := a.Assign(req)
		require.Nil(t, got.Refusal, "refusal of %s", req.Ref)
		require.Equal(t, got.Want, leases(want...), "%s wants", req.Ref)
		require.Empty(t, got.Leave, "%s leaves", req.Ref)
		require.Empty(t, got.Orders, "%s orders", req.Ref)
	}
	require.ElementsMatch(t, leases(want...), a.Leases(req.UID))
}

// moves asserts that the Service is served with want and leaves the rest, and releases that.
func moves(t *testing.T, a *pool.Allocator, req lb.Request, want, leave []string) {
	t.Helper()
	for range 2 {
		got := a.Assign(req)
		require.Nil(t, got.Refusal, "refusal of %s", req.Ref)
		require.Equal(t, got.Want, leases(want...), "%s wants", req.Ref)
		require.Equal(t, leases(leave...), got.Leave, "%s leaves", req.Ref)
	}
	for _, l := range leases(leave...) {
		a.Release(req.UID, l.Addr)
	}
	gets(t, a, req, want...)
}

// refused asserts that the Service keeps exactly held, and is refused something in words that contain all of says.
func refused(t *testing.T, a *pool.Allocator, req lb.Request, held []string, reason lb.Reason, says ...string) {
	t.Helper()
	for range 2 {
		got := a.Assign(req)
		require.NotNil(t, got.Refusal, "refusal of %s, which wants %v", req.Ref, got.Want)
		assert.Equal(t, reason, got.Refusal.Reason, got.Refusal.Message)
		for _, s := range says {
			assert.Contains(t, got.Refusal.Message, s)
		}
		require.ElementsMatch(t, leases(held...), got.Want, "%s keeps", req.Ref)
		require.Empty(t, got.Leave, "%s leaves", req.Ref)
		require.Empty(t, got.Orders, "%s orders", req.Ref)
	}
	require.ElementsMatch(t, leases(held...), a.Leases(req.UID), "a refusal takes and gives nothing")
}

func release(t *testing.T, a *pool.Allocator, uid, address string) {
	t.Helper()
	require.True(t, a.Release(uid, addr(address)), "%s is the last holder of %s", uid, address)
}
