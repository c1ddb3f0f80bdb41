package pool

import (
	"cmp"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// way is by what a Service is served, as a whole: ports of an updater pool, or addresses.
type way struct {
	ports bool
	// refusal when neither is possible.
	refusal *lb.Refusal
	// pool that new ports come from; nil when the one that the Service is in is not configured.
	pool *pool
	// passed is why a free choice passed over updater pools.
	passed []*lb.Refusal
}

// way decides in the order of Assign: what is asked for, what is held, a free choice.
func (a *Allocator) way(s *service, req *lb.Request, asked ask, families []lb.Family) way {
	if len(a.portSpaces) == 0 && len(s.portLeases) == 0 {
		return way{}
	}
	named := a.named[req.Pool]
	updater := named != nil && named.ports != nil
	switch {
	case len(asked.addrs) > 0 && updater:
		return way{refusal: lb.Refuse(lb.ReasonAddressNotInPool, "%s asks for %s, but annotation %s names pool %q, which gives out ports of a load balancer and no addresses: remove one of the two",
			asked.field, asked.addrs[0], lb.AnnotationPool, req.Pool)}
	case len(asked.addrs) > 0:
		return way{}
	case updater:
		if d := named.admits(req); d != admitted && s.mainPort(req.Pool) == nil {
			return way{refusal: notAllowed(named, d, req)}
		}
		return way{ports: true, pool: named}
	case req.Pool != "":
		return way{ports: named == nil && s.mainPort(req.Pool) != nil}
	case s.onPorts(), len(s.leases) == 0 && len(s.portLeases) > 0:
		if home := a.named[s.mainPort("").record.pool]; home != nil && home.ports != nil {
			return way{ports: true, pool: home}
		}
		return way{ports: true}
	case len(s.leases)+len(s.orders) > 0:
		return way{}
	}
	return a.freeWay(s, req, families)
}

// freeWay is the first pool that has something for a Service that names none and has nothing. What the Service's sharing
// key has comes first. A pool that cannot serve the Service, or is in use completely, is passed over; but for want of a
// port that is asked for nothing other than another port is served.
func (a *Allocator) freeWay(s *service, req *lb.Request, families []lb.Family) way {
	if s.key != "" {
		for _, f := range families {
			if addr, refusal := a.join(s, req, nil, f); addr.IsValid() || refusal != nil {
				return way{}
			}
		}
	}
	var passed []*lb.Refusal
	var wish *lb.Refusal
	for _, p := range a.pools {
		switch {
		case !p.offers(req):
		case p.ports == nil:
			if !a.gives(p, families) {
				continue
			}
			return way{refusal: wish, passed: passed}
		default:
			_, refusal := a.fit(s, req, p)
			if refusal == nil {
				return way{ports: true, pool: p}
			}
			passed = append(passed, refusal)
			if refusal.Reason == lb.ReasonPortInUse || refusal.Reason == lb.ReasonPortNotInPool {
				wish = first(wish, refusal)
			}
		}
	}
	return way{passed: passed}
}

// gives says whether a pool has an address of one of the families, to give or to buy.
func (a *Allocator) gives(p *pool, families []lb.Family) bool {
	for _, f := range families {
		switch s := p.space(f); {
		case s == nil:
		case s.bought:
			if s.buys && p.room(nil) {
				return true
			}
		default:
			if _, ok := s.peek(a.records); ok {
				return true
			}
		}
	}
	return false
}

// grant is a port that serves one of a Service: one that it holds, or that nobody does.
type grant struct {
	portKey
	serves lb.Port
	// pool of a new port; nil for one that is held.
	pool *pool
}

// decidePorts is the plan for a Service that is served by ports.
func (a *Allocator) decidePorts(s *service, req *lb.Request, families []lb.Family, p *pool) plan {
	grants, refusal := a.fit(s, req, p)
	var flaw *lb.Refusal
	for _, g := range grants {
		if g.pool != nil {
			refusal = first(refusal, g.pool.shut())
		} else {
			flaw = first(flaw, a.portFlaw(a.portRecords[g.portKey], req))
		}
	}
	if refusal != nil {
		return s.keep(families, refusal)
	}
	return plan{ports: grants, refusal: flaw}
}

// keep is the plan for a Service that goes on with what it has because what it asks for is refused.
func (s *service) keep(families []lb.Family, refusal *lb.Refusal) plan {
	return plan{want: s.kept(families), ports: s.keptPorts(), refusal: refusal}
}

// keptPorts are those that serve what the Service has still, without what it is about to leave unless that is all there
// is. A port for what the Service has no more is of no use to anybody.
func (s *service) keptPorts() []grant {
	if len(s.portLeases) == 0 || len(s.leases) > 0 && !s.onPorts() {
		return nil
	}
	var kept []grant
	host := s.mainPort("").record.host
	for _, p := range s.served {
		if l := s.portFor(p, func(r *portRecord) bool { return r.host == host }); l != nil {
			kept = append(kept, grant{portKey: l.record.portKey, serves: p})
		}
	}
	return kept
}

// fit finds a port for each served port of the Service, or says why one of them cannot have any. New ports come from the
// pool; none when it is nil. In this order: what is asked for, what is held, the Service's own number, the next one that
// is free.
func (a *Allocator) fit(s *service, req *lb.Request, p *pool) ([]grant, *lb.Refusal) {
	if refusal := unsupported(req, p); refusal != nil {
		return nil, refusal
	}
	f := fitting{a: a, service: s, req: req, pool: p, served: s.served, taken: map[portKey]bool{}}
	if p != nil {
		f.host = p.ports.host
	} else {
		f.host = s.mainPort(req.Pool).record.host
	}
	f.grants = make([]grant, len(f.served))
	if refusal := f.asked(); refusal != nil {
		return nil, refusal
	}
	f.held()
	if refusal := f.fresh(); refusal != nil {
		return nil, refusal
	}
	return f.grants, nil
}

// fitting is the work of fit.
type fitting struct {
	a       *Allocator
	service *service
	req     *lb.Request
	pool    *pool
	host    string

	served []lb.Port
	// grants of the served ports; those without a number are still to be found.
	grants []grant
	taken  map[portKey]bool
}

func (f *fitting) grant(i int, key portKey, pool *pool) {
	f.grants[i] = grant{portKey: key, serves: f.served[i], pool: pool}
	f.taken[key] = true
}

// ours says whether a port that the Service holds is where its ports are to be.
func (f *fitting) ours(r *portRecord) bool {
	return r.host == f.host && (f.req.Pool == "" || r.pool == f.req.Pool) && !f.taken[r.portKey]
}

// asked grants the ports that are asked for.
func (f *fitting) asked() *lb.Refusal {
	for i, p := range f.served {
		w, _ := f.req.Wish(p)
		if w.Port == 0 {
			continue
		}
		key := portKey{f.host, p.Protocol, w.Port}
		r := f.a.portRecords[key]
		switch {
		case f.taken[key]:
			return lb.Refuse(lb.ReasonInvalidRequest, "annotation %s asks for port %d/%s twice: ask for different ones", lb.AnnotationLBPorts, w.Port, p.Protocol)
		case r != nil && r.holder != nil && r.holder.service == f.service && f.ours(r):
			if other := r.holder.serves; !r.holder.leaving && f.clings(other, p) {
				return lb.Refuse(lb.ReasonPortInUse, "annotation %s asks for port %d/%s for %s, where %s of the same Service is served: ask for another one for that too",
					lb.AnnotationLBPorts, w.Port, p.Protocol, p.Describe(), other.Describe())
			}
			f.grant(i, key, nil)
			continue
		case f.pool == nil:
			return f.missing(p)
		case !f.pool.ports.contains(w.Port):
			return lb.Refuse(lb.ReasonPortNotInPool, "annotation %s asks for port %d/%s for %s, which is not in portRange %s of pool %q: ask for a port in it",
				lb.AnnotationLBPorts, w.Port, p.Protocol, p.Describe(), f.pool.ports, f.pool.Name)
		case r != nil && r.holder != nil:
			return lb.Refuse(lb.ReasonPortInUse, "annotation %s asks for port %d/%s of pool %q for %s, which is held by Service %s: ask for another port",
				lb.AnnotationLBPorts, w.Port, p.Protocol, f.pool.Name, p.Describe(), r.holder.service.Ref)
		}
		f.grant(i, key, f.pool)
	}
	return nil
}

// clings says whether another port of the Service stays where it is, for nothing else is asked for it.
func (f *fitting) clings(other, p lb.Port) bool {
	if other.Same(p) {
		return false
	}
	for _, served := range f.served {
		if served.Same(other) {
			w, _ := f.req.Wish(served)
			return w.Port == 0
		}
	}
	return false
}

// held grants the ports that are held, to those for which nothing is asked.
func (f *fitting) held() {
	for i, p := range f.served {
		if f.grants[i].number != 0 {
			continue
		}
		if l := f.service.portFor(p, f.ours); l != nil {
			f.grant(i, l.record.portKey, nil)
		}
	}
}

// fresh grants new ports to the rest: first to each the number that the Service has itself, then what is next.
func (f *fitting) fresh() *lb.Refusal {
	for i, p := range f.served {
		if f.grants[i].number != 0 {
			continue
		}
		if f.pool == nil {
			return f.missing(p)
		}
		key := f.pool.ports.key(p.Protocol, p.Number)
		if r := f.a.portRecords[key]; f.pool.ports.contains(p.Number) && (r == nil || r.holder == nil) && !f.taken[key] {
			f.grant(i, key, f.pool)
		}
	}
	for i, p := range f.served {
		if f.grants[i].number == 0 && !f.next(i) {
			return lb.Refuse(lb.ReasonPoolExhausted, "pool %s: all %d %s ports (%s) are in use, and %s gets none; enlarge portRange or delete a Service",
				f.pool.Name, f.pool.ports.size(), p.Protocol, f.pool.ports, p.Describe())
		}
	}
	for _, g := range f.grants {
		if g.pool != nil {
			if d := g.pool.admits(f.req); d != admitted {
				return lb.Refuse(lb.ReasonNotAllowed, "%s gets no port: pool %q %s: move the Service to another pool by annotation %s, or change the pool",
					g.serves.Describe(), g.pool.Name, g.pool.explain(d, f.req), lb.AnnotationPool)
			}
		}
	}
	return nil
}

// next grants the next free port, false when there is none.
func (f *fitting) next(i int) bool {
	p := f.served[i].Protocol
	for n := range f.pool.ports.lane(p).free {
		if key := f.pool.ports.key(p, n); !f.taken[key] {
			f.grant(i, key, f.pool)
			return true
		}
	}
	return false
}

func (f *fitting) missing(p lb.Port) *lb.Refusal {
	return lb.Refuse(lb.ReasonPoolMissing, "%s gets no port, because the cloud-config has no pool %q with updater any more: put the pool back, or move the Service to another one by annotation %s",
		p.Describe(), f.service.mainPort(f.req.Pool).record.pool, lb.AnnotationPool)
}

// grantPorts makes the Service hold exactly what is granted, but for what it leaves.
func (a *Allocator) grantPorts(s *service, grants []grant) (ports, leave []lb.PortLease) {
	// What was about to be left and is not is taken anew: the main port is the same when it is asked for again.
	slices.SortStableFunc(s.portLeases, func(x, y *portLease) int { return cmp.Compare(y.rank(), x.rank()) })
	for _, l := range s.portLeases {
		l.leaving = true
	}
	for _, g := range grants {
		l := s.portLease(g.portKey)
		if l == nil {
			l = a.holdPort(s, g.portKey, g.pool.Name, g.serves)
		}
		l.leaving, l.serves = false, g.serves
		ports = append(ports, l.lease())
	}
	for _, l := range s.portLeases {
		if l.leaving {
			leave = append(leave, l.lease())
		}
	}
	return ports, leave
}

// onPorts says whether the Service has ports that it is not about to leave and that serve what it has still.
func (s *service) onPorts() bool {
	for _, l := range s.portLeases {
		if l.rank() == stays {
			return true
		}
	}
	return false
}

// onAddresses says whether the Service has addresses that it is not about to leave.
func (s *service) onAddresses() bool {
	return slices.ContainsFunc(s.leases, func(l *lease) bool { return !l.leaving })
}

// The ranks of a port among those that a Service holds.
const (
	idle   = iota // it serves nothing that the Service has still
	leaves        // it serves, and is about to be left
	stays
)

func (l *portLease) rank() int {
	switch {
	case !slices.ContainsFunc(l.service.served, l.serves.Same):
		return idle
	case l.leaving:
		return leaves
	default:
		return stays
	}
}

// mainPort is the port that tells where the Service is, in the pool when one is named: of the highest rank, the first that
// was taken. Nil when it holds none.
func (s *service) mainPort(pool string) *portLease {
	var main *portLease
	for _, l := range s.portLeases {
		if (pool == "" || l.record.pool == pool) && (main == nil || l.rank() > main.rank()) {
			main = l
		}
	}
	return main
}

// portFor is the port that serves one of the Service, among those that are accepted: the first that was taken, one that
// stays before one that is left. Nil when there is none.
func (s *service) portFor(p lb.Port, accept func(*portRecord) bool) *portLease {
	var best *portLease
	for _, l := range s.portLeases {
		if l.serves.Same(p) && accept(l.record) && (best == nil || best.leaving && !l.leaving) {
			best = l
		}
	}
	return best
}

// portLease of the Service on a port, nil when it does not hold it.
func (s *service) portLease(key portKey) *portLease {
	for _, l := range s.portLeases {
		if l.record.portKey == key {
			return l
		}
	}
	return nil
}
