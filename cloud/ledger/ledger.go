// Package ledger is the controller's memory: which Service holds which address, which node has been told what
// about it, and how far that node's agent is. It is where pool (which address) and place (which node) meet.
//
// It is deterministic and does no I/O: time is an argument, and what has to be written is collected as Effects for
// the caller to carry out. It never calls a client, logs, or looks at a clock, so that the whole protocol can be
// run in a simulation. It is rebuilt from the cluster at each start (Adopt) and stored nowhere.
package ledger

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// avoidFor is how long a node where binding failed is not tried again for the same address.
const avoidFor = 30 * time.Second

// Ledger is safe for concurrent use. Its methods take microseconds; none of them blocks on anything but the
// others.
type Ledger struct {
	mu sync.Mutex

	epoch      int64
	pools      map[string]*config.Pool
	evacuate   bool
	allocator  *pool.Allocator
	nodes      map[string]*node
	candidates []*place.Candidate // of the nodes that exist, by name
	addresses  map[netip.Addr]*address
	services   map[string]*service     // by UID
	byKey      map[Key]map[string]bool // UIDs by namespaced name
	unserved   map[string]bool         // UIDs of Services that something is refused to
	stuck      map[netip.Addr]bool     // wanted addresses that are not bound, or not where they should be
	timers     timers
	// overdueAt is when agents were last looked at for what they owe.
	overdueAt time.Time
	effects   Effects
	// adopting: not everything is known yet, so nothing is decided.
	adopting bool
}

// Effects is what the caller has to do because the ledger changed.
type Effects struct {
	// Nodes whose NodeAddresses differ from what was written.
	Nodes map[string]bool
	// Services, by namespaced name, whose View may have changed.
	Services map[Key]bool
	// Moves that were decided, for people to read.
	Moves []Move
	// Next is when Tick has to be called; zero: not before something else happens.
	Next time.Time
}

// Key is a Service's namespaced name.
type Key struct{ Namespace, Name string }

// Move is one step of an address from or to a node.
type Move struct {
	Addr     netip.Addr
	Services []lb.Ref
	place.Step
}

// address is one address that somebody holds, or that is not yet free again.
type address struct {
	addr  netip.Addr
	pool  string
	iface string
	// uplink and unguarded are the pool's, kept when the pool is not configured any more.
	uplink    string
	unguarded bool

	refs map[string]lb.Ref // the Services that want it, by UID
	// last is the Service that let go of it last: it counts as the holder until the address is free, also for a
	// controller that starts meanwhile.
	last          lb.Ref
	unwantedSince time.Time
	quarantined   bool

	entries map[string]*entry // by node
	avoid   map[string]time.Time
	outcome place.Outcome
}

// service is one Service that holds or wants addresses.
type service struct {
	request lb.Request
	// wants is false once the Service is on the release path.
	wants     bool
	want      []lb.Lease
	leave     []lb.Lease
	refusal   *lb.Refusal
	published []netip.Addr
}

// New returns an empty ledger that writes in the given term.
func New(cfg *config.Config, epoch int64) *Ledger {
	return &Ledger{
		epoch:     epoch,
		pools:     poolsByName(cfg),
		evacuate:  cfg.Failover.EvacuateCordoned,
		allocator: pool.New(cfg.Pools),
		nodes:     map[string]*node{},
		addresses: map[netip.Addr]*address{},
		services:  map[string]*service{},
		byKey:     map[Key]map[string]bool{},
		unserved:  map[string]bool{},
		stuck:     map[netip.Addr]bool{},
	}
}

func poolsByName(cfg *config.Config) map[string]*config.Pool {
	m := make(map[string]*config.Pool, len(cfg.Pools))
	for i := range cfg.Pools {
		m[cfg.Pools[i].Name] = &cfg.Pools[i]
	}
	return m
}

// Drain returns what has to be done since the last call.
func (l *Ledger) Drain() Effects {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.effects
	l.effects = Effects{}
	e.Next = l.timers.next()
	return e
}

// Want says that a Service wants what the request asks for, and makes it so as far as that is allowed. Asking again
// changes nothing.
func (l *Ledger) Want(r lb.Request, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[r.UID]
	if s == nil {
		s = l.newService(r)
	}
	before := s.request
	s.request = r
	s.wants = true
	l.assign(s, now)
	if !sharesAlike(before, r) {
		l.wakeRivals(before)
		l.wakeRivals(r)
	}
}

// sharesAlike reports whether two requests of one Service are equal in what decides about sharing.
func sharesAlike(a, b lb.Request) bool {
	return a.SharingKey == b.SharingKey && a.Local == b.Local && a.PodSelector == b.PodSelector &&
		slices.Equal(a.Ports, b.Ports) && slices.Equal(a.ExternalIPs, b.ExternalIPs) && slices.Equal(a.Addresses, b.Addresses)
}

// wakeRivals wakes the Services that judge each other by what they share with this one: when one changes, the others
// may have to leave, or may have an address after all.
func (l *Ledger) wakeRivals(r lb.Request) {
	if r.SharingKey == "" {
		return
	}
	for _, s := range l.services {
		if s.request.UID != r.UID && s.request.SharingKey == r.SharingKey && s.request.Namespace == r.Namespace {
			l.wake(s.request.Ref)
		}
	}
}

// Refuse says that what a Service asks for now cannot be read. It keeps what it holds, and gets nothing new.
func (l *Ledger) Refuse(ref lb.Ref, refusal *lb.Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[ref.UID]
	if s == nil {
		s = l.newService(lb.Request{Ref: ref})
	}
	s.wants = true
	s.refusal = refusal
	delete(l.unserved, ref.UID)
}

func (l *Ledger) newService(r lb.Request) *service {
	s := &service{request: r}
	l.services[r.UID] = s
	k := Key{r.Namespace, r.Name}
	if l.byKey[k] == nil {
		l.byKey[k] = map[string]bool{}
	}
	l.byKey[k][r.UID] = true
	return s
}

// assign asks the allocator for what the Service wants and takes up the answer.
func (l *Ledger) assign(s *service, now time.Time) {
	uid := s.request.UID
	res := l.allocator.Assign(s.request)
	if !slices.Equal(s.want, res.Want) || !slices.Equal(s.leave, res.Leave) || !equal(s.refusal, res.Refusal) {
		l.wake(s.request.Ref)
	}
	s.want, s.leave, s.refusal = res.Want, res.Leave, res.Refusal
	if s.refusal != nil {
		l.unserved[uid] = true
	} else {
		delete(l.unserved, uid)
	}
	for _, lease := range s.want {
		a := l.address(lease)
		l.follow(a, lease.Pool, now)
		if _, ok := a.refs[uid]; !ok {
			a.refs[uid] = s.request.Ref
			a.last = lb.Ref{}
			l.touchEntries(a)
		}
		l.evaluate(a, now)
	}
	l.leave(s, now)
}

// leave lets go of what the Service holds and wants no more. What is still published is kept until the new
// addresses are: a client is never sent to an address that is gone.
func (l *Ledger) leave(s *service, now time.Time) {
	for _, lease := range s.leave {
		// What is dropped may serve a waiting Service at once, and that may be this one.
		if slices.Contains(s.leave, lease) && !slices.Contains(s.published, lease.Addr) {
			l.drop(s, lease.Addr, now)
		}
	}
}

// Unwant puts a Service on the release path: it is deleted, or is no load balancer of ours any more.
func (l *Ledger) Unwant(uid string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.services[uid]; s != nil {
		l.unwant(s, now)
	}
}

func (l *Ledger) unwant(s *service, now time.Time) {
	s.wants = false
	s.want, s.leave, s.refusal, s.published = nil, nil, nil, nil
	delete(l.unserved, s.request.UID)
	for _, lease := range l.allocator.Leases(s.request.UID) {
		l.drop(s, lease.Addr, now)
	}
	l.forget(s)
}

// forget removes a Service that wants nothing and holds nothing.
func (l *Ledger) forget(s *service) {
	if !s.wants && len(l.allocator.Leases(s.request.UID)) == 0 {
		delete(l.services, s.request.UID)
		k := Key{s.request.Namespace, s.request.Name}
		delete(l.byKey[k], s.request.UID)
		if len(l.byKey[k]) == 0 {
			delete(l.byKey, k)
		}
	}
}

// drop ends one Service's hold on an address.
func (l *Ledger) drop(s *service, addr netip.Addr, now time.Time) {
	a := l.addresses[addr]
	if a == nil {
		return
	}
	if _, ok := a.refs[s.request.UID]; !ok {
		return
	}
	delete(a.refs, s.request.UID)
	if len(a.refs) > 0 {
		l.allocator.Release(s.request.UID, addr)
		l.touchEntries(a)
		l.evaluate(a, now)
		l.wakeRivals(s.request)
		return
	}
	a.last = s.request.Ref
	a.unwantedSince = now
	l.evaluate(a, now)
}

// Published says which addresses now stand in the Service's status. What the Service left for them is released.
func (l *Ledger) Published(uid string, addrs []netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[uid]
	if s == nil || !s.wants {
		return
	}
	s.published = slices.Clone(addrs)
	l.leave(s, now)
}

// Tick does what only time brings: the next node is tried, a release is given up.
func (l *Ledger) Tick(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for addr, ok := l.timers.due(now); ok; addr, ok = l.timers.due(now) {
		if a := l.addresses[addr]; a != nil {
			l.evaluate(a, now)
		}
	}
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
	}
	return before.pool != a.pool || before.iface != a.iface || before.uplink != a.uplink || before.unguarded != a.unguarded
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
	if a.bind() || len(a.entries) > 0 {
		l.step(a, now)
	} else {
		a.outcome = place.Outcome{Bound: len(a.refs) > 0, Free: len(a.refs) == 0}
	}
	l.timers.set(a.addr, a.outcome.Again)
	if len(a.refs) > 0 && (!a.outcome.Bound || a.outcome.Misplaced) {
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
	if before.Holder != a.outcome.Holder || before.Bound != a.outcome.Bound || !equal(before.Waiting, a.outcome.Waiting) {
		for _, ref := range a.refs {
			l.wake(ref)
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
		Entries:       l.situation(a, demand),
		Choose: func(except string) (string, *lb.Refusal) {
			l.setOverdue(now)
			return place.Choose(demand, l.candidates, except)
		},
	})
	if outcome.Holder == "" && outcome.Waiting != nil && outcome.Again.IsZero() {
		outcome.Again = a.avoidedUntil()
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
func (l *Ledger) situation(a *address, demand place.Demand) []place.Entry {
	entries := make([]place.Entry, 0, len(a.entries))
	for name, e := range a.entries {
		n := l.nodes[name]
		standing, why := place.StandingOf(demand, n.Node)
		entries = append(entries, place.Entry{
			Node: name, State: e.state, Predecessor: e.predecessor, Term: e.term, Since: e.since,
			Written: e.seq <= n.written, Acked: n.acknowledged(a.addr, e), Failed: n.failedReason(a.addr, e),
			Standing: standing, Why: why,
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
	case place.OpYield:
		e.state = place.Yield
	case place.OpRelease:
		if e.state == place.Hold && n.failedReason(a.addr, e) != "" {
			if a.avoid == nil {
				a.avoid = map[string]time.Time{}
			}
			a.avoid[s.Node] = now.Add(avoidFor)
		}
		e.state = place.Release
	}
	e.term, e.since = l.epoch, now
	n.put(e)
	l.dirty(n)
	l.effects.Moves = append(l.effects.Moves, Move{Addr: a.addr, Services: a.services(), Step: s})
}

func (a *address) services() []lb.Ref {
	return slices.SortedFunc(maps.Values(a.refs), func(x, y lb.Ref) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), cmp.Compare(x.UID, y.UID))
	})
}

// demand gathers what the address asks of a node.
func (l *Ledger) demand(a *address, now time.Time) place.Demand {
	d := place.Demand{Addr: a.addr, Pool: a.pool, Bind: a.bind(), Uplink: a.uplink, EvacuateCordoned: l.evacuate, Routed: true}
	if p := l.pools[a.pool]; p != nil {
		if p.NodeSelector != nil {
			d.Selectors = append(d.Selectors, p.NodeSelector)
		}
		d.Tolerations = p.Tolerations
		d.IgnoreExcludeLabel = p.IgnoreExcludeLabel
	}
	for _, ref := range a.services() {
		s := l.services[ref.UID]
		if s == nil {
			continue
		}
		if s.request.NodeSelector != nil {
			d.Selectors = append(d.Selectors, s.request.NodeSelector)
		}
		if s.request.Local {
			d.Local = true
			for _, n := range s.request.EndpointNodes {
				if d.EndpointNodes == nil {
					d.EndpointNodes = map[string]bool{}
				}
				d.EndpointNodes[n] = true
			}
		}
	}
	for _, c := range l.candidates {
		if slices.ContainsFunc(c.Subnets, func(s lb.Subnet) bool { return s.Prefix.Contains(a.addr) }) {
			d.Routed = false
			break
		}
	}
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

// free gives an address back to its pool, and at once to the Service that has waited longest for it.
func (l *Ledger) free(a *address, now time.Time) {
	delete(l.addresses, a.addr)
	l.timers.set(a.addr, time.Time{})
	l.letGo(a)
	if a.quarantined {
		l.allocator.Unquarantine(a.addr)
	}
	l.serveWaiting(a.addr, now)
}

// serveWaiting asks again for the Services that something is refused to, oldest first, until one has taken what was
// freed.
func (l *Ledger) serveWaiting(freed netip.Addr, now time.Time) {
	if len(l.unserved) == 0 {
		return
	}
	waiting := make([]*service, 0, len(l.unserved))
	for uid := range l.unserved {
		if s := l.services[uid]; curable[s.refusal.Reason] {
			waiting = append(waiting, s)
		}
	}
	slices.SortFunc(waiting, func(a, b *service) int { return byAge(a.request, b.request) })
	for _, s := range waiting {
		l.assign(s, now)
		if l.addresses[freed] != nil {
			return
		}
	}
}

// curable are the refusals that end when another Service lets go of something.
var curable = map[lb.Reason]bool{
	lb.ReasonPoolExhausted: true, lb.ReasonAddressInUse: true, lb.ReasonAddressQuarantined: true, lb.ReasonSharingConflict: true,
}

func byAge(a, b lb.Request) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
}

func (l *Ledger) wake(ref lb.Ref) {
	if l.effects.Services == nil {
		l.effects.Services = map[Key]bool{}
	}
	l.effects.Services[Key{ref.Namespace, ref.Name}] = true
}

func (l *Ledger) dirty(n *node) {
	n.seq++
	if l.effects.Nodes == nil {
		l.effects.Nodes = map[string]bool{}
	}
	l.effects.Nodes[n.name] = true
}

// touchEntries marks the nodes of an address for writing when what is written about it changed, but not what the
// agent does.
func (l *Ledger) touchEntries(a *address) {
	for name := range a.entries {
		l.dirty(l.nodes[name])
	}
}
