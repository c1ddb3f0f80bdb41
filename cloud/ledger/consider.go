package ledger

// This file answers people who ask why. Nothing here decides or changes anything.

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// Holding is what one Service holds, if only on the way back to its pool.
type Holding struct {
	lb.Ref
	Addresses []lb.Lease
	Ports     []lb.PortLease
}

// Holdings lists what Services hold, sorted by namespace and name.
func (l *Ledger) Holdings() []Holding {
	l.mu.Lock()
	defer l.mu.Unlock()
	var holdings []Holding
	for _, uid := range slices.Sorted(maps.Keys(l.services)) {
		h := Holding{l.services[uid].request.Ref, l.allocator.Leases(uid), l.allocator.Ports(uid)}
		if len(h.Addresses)+len(h.Ports) > 0 {
			holdings = append(holdings, h)
		}
	}
	slices.SortStableFunc(holdings, func(a, b Holding) int {
		return byAge(lb.Request{Ref: a.Ref}, lb.Request{Ref: b.Ref})
	})
	return holdings
}

// Consider says what a Service that asks for this would get, and how every pool stands to it.
func (l *Ledger) Consider(r lb.Request) pool.Prospect {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.allocator.Consider(r)
}

// Judgement is how one node stands to an address, or to a port at an external load balancer.
type Judgement struct {
	Node string
	// Serves: it carries the address, or is a target.
	Serves bool
	// Why it may not carry the address, or be a target; empty when it may.
	Why string
}

// JudgeNodes says of every node, by name, whether it may carry an address for a Service. Whether the node's server is in
// the account of a rented address only the cloud knows, and it is no criterion here.
func (l *Ledger) JudgeNodes(r lb.Request, lease lb.Lease, now time.Time) []Judgement {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.addresses[lease.Addr]
	if a == nil {
		a = &address{addr: lease.Addr, refs: map[string]lb.Ref{}, pool: lease.Pool}
		if p := l.pools[lease.Pool]; p != nil {
			a.iface, a.uplink = p.Interface, p.Uplink
		}
	}
	d := l.demand(a, now)
	d.Account = ""
	ask(&d, &r)
	judgements := make([]Judgement, 0, len(l.candidates))
	for _, c := range l.candidates {
		e := a.entries[c.Name]
		judgements = append(judgements, Judgement{c.Name, e != nil && e.state == place.Hold, place.Ineligible(d, c)})
	}
	return judgements
}

// JudgeTargets says of every node, by name, whether the external load balancer of a pool sends traffic for a Service to
// it.
func (l *Ledger) JudgeTargets(r lb.Request, name string) []Judgement {
	l.mu.Lock()
	defer l.mu.Unlock()
	reach := l.reach(name, &r)
	judgements := make([]Judgement, 0, len(l.candidates))
	for _, c := range l.candidates {
		j := Judgement{Node: c.Name, Why: place.Untargeted(reach, c)}
		if j.Why == "" && c.Node.Ready != lb.Ready {
			j.Why = "not Ready: it stays a target where it is one already"
		}
		j.Serves = j.Why == ""
		judgements = append(judgements, j)
	}
	return judgements
}

// PoolOf names the pool that an address belongs to; false when it is none of ours.
func (l *Ledger) PoolOf(addr netip.Addr) (name string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.allocator.PoolOf(addr)
}
