package ledger

// This file is about addresses: which node has each, and what is to be done about it next.

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// avoidFor is how long a node where binding failed is not tried again for the same address.
const avoidFor = 30 * time.Second

// address is one address that somebody holds, or that is not yet free again.
type address struct {
	addr  netip.Addr
	pool  string
	iface string
	// uplink, unguarded and unwatched are the pool's, kept when the pool is not configured any more.
	uplink    string
	unguarded bool
	unwatched bool

	refs map[string]lb.Ref // the Services that want it, by UID
	// last is the Service that let go of it last: it counts as the holder until the address is free, also for a
	// controller that starts meanwhile.
	last          lb.Ref
	unwantedSince time.Time
	quarantined   bool

	// route is the cloud's side of a rented address; nil for one that is not.
	route *route

	entries map[string]*entry // by node
	avoid   map[string]time.Time
	outcome place.Outcome
	// rescued: the last evaluation moved it off a lost node.
	rescued bool
	// rescuedSince is when it was moved off a lost node, until it is bound again.
	rescuedSince time.Time
	// served: it was bound for those that hold it now, so it is published, or may be.
	served bool
}

// address returns the record of a leased address, a new one when there is none.
func (l *Ledger) address(lease lb.Lease) *address {
	a := l.addresses[lease.Addr]
	if a == nil {
		a = &address{
			addr:    lease.Addr,
			refs:    map[string]lb.Ref{},
			entries: map[string]*entry{},
		}
		l.addresses[lease.Addr] = a
		l.setPool(a, lease.Pool)
	}
	return a
}

// setPool takes over what the pool says of its addresses, and reports whether that changes any entry.
func (l *Ledger) setPool(a *address, name string) bool {
	before := *a
	a.pool = name
	if p := l.pools[name]; p != nil {
		a.iface, a.uplink, a.unguarded = p.Interface, p.Uplink, !p.Guard
		a.unwatched = !p.ConflictDetection || p.Hetzner != nil || l.proxied(a.addr)
		switch {
		case p.Hetzner != nil:
			a.rent(l.rental.Accounts[name], 0)
		case a.route != nil && p.Addresses != nil && p.Addresses.Contains(a.addr):
			// What was bought in a pool of that name stays rented.
			l.plan(a.route.account, target{addr: a.addr}, nil, retry{}, false)
			a.route = nil
		}
	}
	return before.pool != a.pool || before.iface != a.iface || before.uplink != a.uplink || before.unguarded != a.unguarded ||
		before.unwatched != a.unwatched
}

// follow has an address follow the pool that contains it now: pools are renamed, split, and change what they say of
// their addresses.
func (l *Ledger) follow(a *address, name string, now time.Time) {
	if !l.setPool(a, name) {
		return
	}
	for node, e := range a.entries {
		n := l.nodes[node]
		n.put(e)
		e.since = now
		l.dirty(n)
	}
}

// bind reports whether an agent has to bind the address.
func (a *address) bind() bool { return a.iface != config.InterfaceNone }

// evaluate takes the steps that bring the address nearer to where it should be.
func (l *Ledger) evaluate(a *address, now time.Time) {
	if l.adopting {
		return
	}
	before := a.outcome
	a.rescued = false
	switch closed := l.closed(a); {
	case closed != nil:
		a.outcome = l.freeze(a, closed)
	case a.bind() || len(a.entries) > 0 || a.route != nil:
		// A rented address needs a node that it is routed to, also when somebody else binds it there.
		l.step(a, now)
	default:
		a.outcome = place.Outcome{Bound: len(a.refs) > 0, Free: len(a.refs) == 0}
	}
	l.timeRescue(a, now)
	a.served = len(a.refs) > 0 && (a.served || a.outcome.Bound)
	if a.route != nil {
		if a.outcome.Holder != before.Holder {
			l.tryAtOnce(a)
		}
		l.reroute(a)
	}
	l.timers.set(a.addr, a.outcome.Again)
	if len(a.refs) > 0 && (!a.outcome.Bound || a.outcome.Misplaced != nil) {
		l.stuck[a.addr] = true
	} else {
		delete(l.stuck, a.addr)
	}
	switch {
	case a.outcome.Free:
		l.free(a, now)
	case a.outcome.Quarantined && !a.quarantined:
		a.quarantined = true
		l.allocator.Quarantine(a.addr)
		l.letGo(a)
	}
	if before.Holder != a.outcome.Holder || before.Bound != a.outcome.Bound ||
		!equal(before.Waiting, a.outcome.Waiting) || !equal(before.Misplaced, a.outcome.Misplaced) {
		for uid, ref := range a.refs {
			// After a hard move people can wait to read of it; other addresses cannot wait to be moved.
			if !a.outcome.Bound && a.rescued && l.shows(uid, a.addr) {
				l.effects.later(ref)
			} else {
				l.wake(ref)
			}
		}
	}
}

// setOverdue looks at what agents owe, once for each moment.
func (l *Ledger) setOverdue(now time.Time) {
	if l.overdueAt.Equal(now) {
		return
	}
	l.overdueAt = now
	for _, n := range l.nodes {
		n.setOverdue(now)
	}
}

// evaluateAll evaluates several addresses in order: when many of them move at once, each survivor gets its share
// in the same way every time.
func (l *Ledger) evaluateAll(addrs map[netip.Addr]bool, now time.Time) {
	for _, addr := range slices.SortedFunc(maps.Keys(addrs), netip.Addr.Compare) {
		if a := l.addresses[addr]; a != nil {
			l.evaluate(a, now)
		}
	}
}

// retryStuck has every address that waits for a node looked at again.
func (l *Ledger) retryStuck(now time.Time) {
	for addr := range l.stuck {
		l.timers.set(addr, now)
	}
}

func equal(a, b *lb.Refusal) bool { return a == b || a != nil && b != nil && *a == *b }

func (l *Ledger) step(a *address, now time.Time) {
	demand := l.demand(a, now)
	steps, outcome := place.Next(place.Situation{
		Now:           now,
		Wanted:        len(a.refs) > 0,
		UnwantedSince: a.unwantedSince,
		Entries:       l.situation(a, demand, now),
		Choose: func(except string) (string, *lb.Refusal) {
			l.setOverdue(now)
			return place.Choose(demand, l.candidates, except)
		},
	})
	if outcome.Waiting != nil || outcome.Misplaced != nil {
		// The time of a node that is avoided comes without any other news.
		outcome.Again = earliest(outcome.Again, a.avoidedUntil())
	}
	a.outcome = outcome
	for _, s := range steps {
		l.apply(a, s, now)
	}
}

// avoidedUntil is when the first node that is avoided may be tried again; zero when none is.
func (a *address) avoidedUntil() (first time.Time) {
	for _, until := range a.avoid {
		if first.IsZero() || until.Before(first) {
			first = until
		}
	}
	return first
}

// situation lists the entries of an address by node.
func (l *Ledger) situation(a *address, demand place.Demand, now time.Time) []place.Entry {
	entries := make([]place.Entry, 0, len(a.entries))
	for name, e := range a.entries {
		n := l.nodes[name]
		standing, why, until := place.StandingOf(demand, n.Candidate, now)
		entries = append(entries, place.Entry{
			Node: name, State: e.state, Predecessor: e.predecessor, Term: e.term, Since: e.since,
			Written: e.seq <= n.written && !e.blocked, Acked: n.acknowledged(a.addr, e),
			Failed: n.failedReason(a.addr, e), InUse: n.failedReason(a.addr, e) != "" && n.inUse[a.addr] != "",
			Deaf: n.Pulse == lb.PulseRefusing, AbsentAt: n.AbsentAt(),
			Unrouted: l.unrouted(a, n), Standing: standing, Why: why, Until: until,
		})
	}
	slices.SortFunc(entries, func(x, y place.Entry) int { return cmp.Compare(x.Node, y.Node) })
	return entries
}

func (l *Ledger) apply(a *address, s place.Step, now time.Time) {
	n := l.nodes[s.Node]
	e := a.entries[s.Node]
	switch s.Op {
	case place.OpRemove:
		delete(a.entries, s.Node)
		if n.Addresses == place.MaxAddresses {
			l.retryStuck(now)
		}
		n.remove(a.addr)
		l.dirty(n)
		if s.Hard {
			l.urgent(n) // its object still says Hold, and the successor waits for that
		}
		return
	case place.OpSettle:
		e.predecessor = ""
		l.dirty(n)
		return
	case place.OpHold:
		if e == nil {
			e = &entry{address: a}
			a.entries[s.Node] = e
		}
		e.state, e.predecessor = place.Hold, s.Predecessor
		// No two objects ever say Hold: the one that does now is written first.
		e.blocked = l.storedElsewhere(a.addr, n)
	case place.OpYield:
		e.state, e.blocked = place.Yield, false
	case place.OpRelease:
		if e.state == place.Hold && n.failedReason(a.addr, e) != "" {
			if a.avoid == nil {
				a.avoid = map[string]time.Time{}
			}
			a.avoid[s.Node] = now.Add(avoidFor)
		}
		e.state, e.blocked = place.Release, false
	}
	e.term, e.since, e.hard = l.epoch, now, s.Hard
	n.put(e)
	a.rescued = a.rescued || s.Hard
	if !e.blocked {
		l.dirty(n)
		if s.Hard {
			l.urgent(n)
		}
	}
	l.effects.Moves = append(l.effects.Moves, Move{Addr: a.addr, Services: a.services(), Step: s})
}

func (a *address) services() []lb.Ref {
	return slices.SortedFunc(maps.Values(a.refs), func(x, y lb.Ref) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), cmp.Compare(x.UID, y.UID))
	})
}

// demand gathers what the address asks of a node.
func (l *Ledger) demand(a *address, now time.Time) place.Demand {
	d := l.demandOf(a.pool, a.services())
	d.Addr, d.Bind, d.Uplink = a.addr, a.bind() || a.route != nil, a.uplink
	if a.route != nil {
		d.Account = a.route.account
		if r := l.rentedOf(a); r != nil {
			d.Server = r.Server
		}
	}
	d.Routed = !l.onLink(a.addr)
	for name, until := range a.avoid {
		if !now.Before(until) {
			delete(a.avoid, name)
			continue
		}
		if d.Avoid == nil {
			d.Avoid = map[string]bool{}
		}
		d.Avoid[name] = true
	}
	return d
}

// demandOf gathers what a pool and the Services that hold an address of it ask of a node.
func (l *Ledger) demandOf(pool string, refs []lb.Ref) place.Demand {
	d := place.Demand{Pool: pool, Account: l.rental.Accounts[pool], EvacuateCordoned: l.evacuate, Routed: true}
	if p := l.pools[pool]; p != nil {
		if p.NodeSelector != nil {
			d.Selectors = append(d.Selectors, p.NodeSelector)
		}
		d.Tolerations = p.Tolerations
		d.IgnoreExcludeLabel = p.IgnoreExcludeLabel
	}
	for _, ref := range refs {
		if s := l.services[ref.UID]; s != nil {
			ask(&d, &s.request)
		}
	}
	return d
}

// ask adds what one Service asks of a node.
func ask(d *place.Demand, r *lb.Request) {
	if r.NodeSelector != nil {
		d.Selectors = append(d.Selectors, r.NodeSelector)
	}
	if r.Local {
		d.Local = true
		for _, n := range r.EndpointNodes {
			if d.EndpointNodes == nil {
				d.EndpointNodes = map[string]bool{}
			}
			d.EndpointNodes[n] = true
		}
	}
}

// letGo makes the allocator forget the last holder of an address that nobody wants.
func (l *Ledger) letGo(a *address) {
	if a.last.UID == "" {
		return
	}
	l.allocator.Release(a.last.UID, a.addr)
	l.wake(a.last)
	if s := l.services[a.last.UID]; s != nil {
		l.forget(s)
	}
	a.last = lb.Ref{}
	l.touchEntries(a)
}

// takeUp has a Service hold an address that was on its way out: whoever let go of it last is not kept waiting for what
// is not released any more.
func (l *Ledger) takeUp(a *address, uid string) {
	if a.last.UID != uid {
		l.letGo(a)
	}
	a.last = lb.Ref{}
	l.touchEntries(a)
}

// free gives an address back to its pool, and at once to the Service that has waited longest for it.
func (l *Ledger) free(a *address, now time.Time) {
	delete(l.addresses, a.addr)
	l.timers.set(a.addr, time.Time{})
	if a.route != nil {
		l.plan(a.route.account, target{addr: a.addr}, nil, retry{}, false)
	}
	l.letGo(a)
	if a.quarantined {
		l.allocator.Unquarantine(a.addr)
	}
	if listing, ok := l.listed[prefixOf(a.addr)]; ok && listing.Addr != a.addr {
		if acct := l.accounts[l.rental.Accounts[listing.Pool]]; acct != nil && acct.closed == nil {
			l.allocator.Withhold(listing.Addr, l.unusable(acct, prefixOf(a.addr), listing))
		}
	}
	l.serveWaiting(a.addr, now)
}

// touchEntries marks the nodes of an address for writing when what is written about it changed, but not what the
// agent does.
func (l *Ledger) touchEntries(a *address) {
	for name := range a.entries {
		l.dirty(l.nodes[name])
	}
}
