package pool

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// SetExposed says which addresses a Service exposes by spec.externalIPs; none when it does not any more, or is gone.
// kube-proxy serves them for it, whatever its type, whoever looks after it and whoever holds them. The UID does not
// count: to kube-proxy a Service is its namespace and name. It survives SetPools; what is bought, and so in no list of
// a pool, is not looked at.
//
// Whoever was given such an address would share its traffic. So a free choice passes it over, whoever exposes it. A
// Service that asks for it, by address or by its sharing key, is refused with lb.ReasonAddressInUse while a Service of
// another namespace exposes it; within a namespace the first that asks has it. A Service that holds it keeps it, and
// that is no flaw.
//
// It is true when the Service does not expose an address of a pool any more, which goes to the back of its pool's queue
// when nobody else does or holds it: ask for the Services again that were refused with the reason, or for want of an
// address. The cost is linear in the addresses before and now, and Assign costs the same with and without them.
func (a *Allocator) SetExposed(by lb.Ref, addrs []netip.Addr) (ended bool) {
	by.UID = ""
	before := a.exposed[by]
	if slices.Equal(before, addrs) {
		return false
	}
	if len(addrs) == 0 {
		delete(a.exposed, by)
	} else {
		a.exposed[by] = slices.Clone(addrs)
	}
	now := make(map[netip.Addr]struct{}, len(addrs))
	for _, addr := range addrs {
		now[addr] = struct{}{}
		a.expose(addr, by)
	}
	for _, addr := range before {
		if _, still := now[addr]; !still && a.unexpose(addr, by) {
			ended = true
		}
	}
	return ended
}

// Exposing lists the Services that expose addresses, sorted by name.
func (a *Allocator) Exposing() []lb.Ref { return slices.SortedFunc(maps.Keys(a.exposed), compareRefs) }

// Exposed reports whether a Service exposes an address of a pool.
func (a *Allocator) Exposed(addr netip.Addr) bool {
	r := a.records[addr]
	return r != nil && len(r.exposers) > 0
}

func (a *Allocator) expose(addr netip.Addr, by lb.Ref) {
	if a.spaceOf(addr) == nil {
		return // until a pool contains it
	}
	r := a.touch(addr)
	at, again := slices.BinarySearchFunc(r.exposers, by, compareRefs)
	if again {
		return
	}
	a.uncount(r)
	r.exposers = slices.Insert(r.exposers, at, by)
	a.count(r)
}

func (a *Allocator) unexpose(addr netip.Addr, by lb.Ref) bool {
	r := a.records[addr]
	if r == nil {
		return false
	}
	at, found := slices.BinarySearchFunc(r.exposers, by, compareRefs)
	if !found {
		return false
	}
	a.uncount(r)
	r.exposers = slices.Delete(r.exposers, at, at+1)
	a.count(r)
	return true
}

// reexpose says anew what is exposed, to new pools.
func (a *Allocator) reexpose() {
	for _, by := range a.Exposing() {
		for _, addr := range a.exposed[by] {
			a.expose(addr, by)
		}
	}
}

// exposer is the first by name of the Services that expose the address from other namespaces.
func (r *record) exposer(namespace string) (lb.Ref, bool) {
	if r != nil {
		for _, by := range r.exposers {
			if by.Namespace != namespace {
				return by, true
			}
		}
	}
	return lb.Ref{}, false
}
