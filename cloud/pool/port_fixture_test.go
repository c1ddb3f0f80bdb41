package pool_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// edge is an updater pool with autoAssign, as the configuration makes it by default.
func edge(name, host string, low, high uint16, edit ...func(*config.Pool)) config.Pool {
	p := config.Pool{Name: name, AutoAssign: true, Updater: &config.Updater{Host: host, PortLow: low, PortHigh: high}}
	if a, err := netip.ParseAddr(host); err == nil {
		p.Updater.HostAddr = a
	}
	for _, e := range edit {
		e(&p)
	}
	return p
}

// serving replaces the ports of the Service.
func serving(list ...string) func(*lb.Request) {
	return func(r *lb.Request) {
		r.Ports = nil
		for _, text := range list {
			r.Ports = append(r.Ports, servicePort(text))
		}
	}
}

func servicePort(text string) lb.Port {
	var p lb.Port
	if _, err := fmt.Sscanf(text, "%d/%s", &p.Number, &p.Protocol); err != nil {
		panic(err)
	}
	return p
}

// wishing replaces what the Service asks for: "80/TCP=8100".
func wishing(list ...string) func(*lb.Request) {
	return func(r *lb.Request) {
		r.LBPorts = nil
		for _, text := range list {
			var w lb.PortWish
			if _, err := fmt.Sscanf(text, "%d/%3s=%d", &w.Number, &w.Protocol, &w.Port); err != nil {
				panic(err)
			}
			r.LBPorts = append(r.LBPorts, w)
		}
	}
}

// portLeases reads "8100/TCP->80@edge".
func portLeases(list ...string) []lb.PortLease {
	var leases []lb.PortLease
	for _, text := range list {
		leases = append(leases, portLease(text))
	}
	return leases
}

func portLease(text string) lb.PortLease {
	var l lb.PortLease
	var number int
	if _, err := fmt.Sscanf(text, "%d/%3s->%d@%s", &l.Port, &l.Service.Protocol, &number, &l.Pool); err != nil {
		panic(err)
	}
	l.Service = servicePort(fmt.Sprintf("%d/%s", number, l.Service.Protocol))
	return l
}

// getsPorts asserts that the Service is served with exactly these ports, leaves nothing and is refused nothing, also when
// it is asked again.
func getsPorts(t *testing.T, a *pool.Allocator, req lb.Request, want ...string) {
	t.Helper()
	movesPorts(t, a, req, want, nil)
}

// movesPorts asserts that the Service is served with want and leaves the rest, and releases that.
func movesPorts(t *testing.T, a *pool.Allocator, req lb.Request, want, leave []string) {
	t.Helper()
	for range 2 {
		got := a.Assign(req)
		require.Nil(t, got.Refusal, "refusal of %s", req.Ref)
		require.Equal(t, portLeases(want...), got.Ports, "%s wants", req.Ref)
		require.ElementsMatch(t, portLeases(leave...), got.LeavePorts, "%s leaves", req.Ref)
		require.Empty(t, got.Want)
		require.Empty(t, got.Orders)
	}
	releasePorts(t, a, req.UID, leave...)
	require.ElementsMatch(t, portLeases(want...), a.Ports(req.UID))
	require.Empty(t, a.Assign(req).LeavePorts)
}

// refusedPorts asserts that the Service keeps exactly held, and is refused something in words that contain all of says.
func refusedPorts(t *testing.T, a *pool.Allocator, req lb.Request, held []string, reason lb.Reason, says ...string) {
	t.Helper()
	for range 2 {
		got := a.Assign(req)
		require.NotNil(t, got.Refusal, "refusal of %s, which has %v", req.Ref, got.Ports)
		assert.Equal(t, reason, got.Refusal.Reason, got.Refusal.Message)
		for _, s := range says {
			assert.Contains(t, got.Refusal.Message, s)
		}
		require.Equal(t, portLeases(held...), got.Ports, "%s keeps", req.Ref)
		require.Empty(t, got.LeavePorts, "%s leaves", req.Ref)
		require.Empty(t, got.Want)
		require.Empty(t, got.Orders)
	}
	require.ElementsMatch(t, portLeases(held...), a.Ports(req.UID), "a refusal takes and gives nothing")
}

func releasePorts(t *testing.T, a *pool.Allocator, uid string, list ...string) {
	t.Helper()
	for _, l := range portLeases(list...) {
		require.True(t, a.ReleasePort(uid, l.Pool, l.Port, l.Service.Protocol), "%s holds %s", uid, l)
	}
}

func adoptPorts(t *testing.T, a *pool.Allocator, req lb.Request, list ...string) {
	t.Helper()
	for _, l := range portLeases(list...) {
		require.Nil(t, a.AdoptPort(req, l))
	}
}

// unusedPorts lists them as "8100/TCP".
func unusedPorts(a *pool.Allocator, name string) []string {
	var unused []string
	for n, p := range a.UnusedPorts(name) {
		unused = append(unused, lb.Port{Number: n, Protocol: p}.String())
	}
	slices.Sort(unused)
	return unused
}
