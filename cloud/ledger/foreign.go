package ledger

// This file is about machines that are none of our nodes and answer for addresses of pools.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

const (
	// foreignFor is how long an address that somebody else answers for is not given to anybody.
	foreignFor = 10 * time.Minute
	// proxyCount is how many addresses a machine answers for that answers for all: a router with proxy ARP.
	proxyCount = 3
)

// foreign knows who answers for what. Its addresses are withheld from the allocator.
type foreign struct {
	// answers are the addresses by hardware address, until the time at which they are free again.
	answers map[string]map[netip.Addr]time.Time
	timers  timers
}

// proxied reports whether the machine that answers for an address answers for everything.
func (l *Ledger) proxied(addr netip.Addr) bool {
	for _, addrs := range l.foreign.answers {
		if _, ok := addrs[addr]; ok && len(addrs) >= proxyCount {
			return true
		}
	}
	return false
}

// noticeForeign looks at the addresses that a node could not bind because another machine answers for them.
func (l *Ledger) noticeForeign(n *node, now time.Time) {
	routers := map[string]bool{}
	for _, addr := range slices.SortedFunc(maps.Keys(n.inUse), netip.Addr.Compare) {
		a, mac := l.addresses[addr], n.inUse[addr]
		e := n.book[addr]
		if a == nil || e == nil || e.state != place.Hold || e.blocked || e.seq > n.acked {
			continue
		}
		if owner := l.nodeWith(mac); owner != "" {
			// One of us has not let go yet. It is told by whoever binds the address.
			if owner != n.name && e.predecessor == "" {
				e.predecessor, e.since = owner, now
				n.put(e)
				l.dirty(n)
			}
			continue
		}
		l.meet(a, mac, now)
		if l.proxied(addr) {
			routers[mac] = true
			continue
		}
		l.giveAnother(a, n.name, mac, now)
	}
	for _, mac := range slices.Sorted(maps.Keys(routers)) {
		l.trust(mac, now)
	}
}

// nodeWith returns the node that has a hardware address; empty when none has.
func (l *Ledger) nodeWith(mac string) string {
	for _, c := range l.candidates {
		if slices.Contains(c.HardwareAddresses, mac) {
			return c.Name
		}
	}
	return ""
}

func (l *Ledger) meet(a *address, mac string, now time.Time) {
	if l.foreign.answers == nil {
		l.foreign.answers = map[string]map[netip.Addr]time.Time{}
	}
	if l.foreign.answers[mac] == nil {
		l.foreign.answers[mac] = map[netip.Addr]time.Time{}
	}
	// An agent says so with each of its reports, many times a second maybe.
	if until := now.Add(foreignFor); until.Sub(l.foreign.answers[mac][a.addr]) >= foreignFor/10 {
		l.foreign.answers[mac][a.addr] = until
		l.foreign.timers.set(a.addr, until)
	}
}

// trust lets the addresses be used that a machine answers for which answers for everything: it does not have them.
func (l *Ledger) trust(mac string, now time.Time) {
	for _, addr := range slices.SortedFunc(maps.Keys(l.foreign.answers[mac]), netip.Addr.Compare) {
		l.giveOut(addr)
		if a := l.addresses[addr]; a != nil {
			l.follow(a, a.pool, now)
		}
	}
	l.serveWaiting(netip.Addr{}, now)
}

// giveAnother takes an address that somebody else answers for from the Services that do not show it yet, and gives them
// another one. What is published stays theirs, and so does what may be: their clients know it.
func (l *Ledger) giveAnother(a *address, name, mac string, now time.Time) {
	why := lb.Refuse(lb.ReasonAddressInUse, "%s is in use by another machine: %s answers for it, as node %s has found; "+
		"exclude it from pool %s, or take it from that machine; if that is a router which answers for every address, set "+
		"conflictDetection: off on the pool", a.addr, mac, name, a.pool)
	var refs []lb.Ref
	for _, ref := range a.services() {
		if l.shows(ref.UID, a.addr) {
			return
		}
		refs = append(refs, ref)
	}
	if a.route != nil || a.served || len(refs) == 0 {
		return
	}
	l.allocator.Withhold(a.addr, why)
	for _, ref := range refs {
		delete(a.refs, ref.UID)
		l.allocator.Release(ref.UID, a.addr)
		l.effects.Notices = append(l.effects.Notices, Notice{Service: ref, Warning: true, Reason: lb.ReasonAddressInUse,
			Message: fmt.Sprintf("%s (pool %s) is not used: %s answers for it, and is none of our nodes", a.addr, a.pool, mac)})
	}
	a.unwantedSince = now
	l.evaluate(a, now)
	for _, ref := range refs {
		if s := l.services[ref.UID]; s != nil && s.wants {
			l.assign(s, now)
		}
	}
}

// liftForeign gives back to their pools the addresses whose time is over.
func (l *Ledger) liftForeign(now time.Time) {
	lifted := false
	for addr, ok := l.foreign.timers.due(now); ok; addr, ok = l.foreign.timers.due(now) {
		for mac, addrs := range l.foreign.answers {
			delete(addrs, addr)
			if len(addrs) == 0 {
				delete(l.foreign.answers, mac)
			}
		}
		l.giveOut(addr)
		lifted = true
	}
	if lifted {
		l.serveWaiting(netip.Addr{}, now)
	}
}
