package pool

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Consideration is how one pool stands to what a Service asks for.
type Consideration struct {
	Pool string
	// Holds: the Service has addresses or ports of the pool already.
	Holds bool
	// Refusal is why the pool gives the Service nothing; nil when it would.
	Refusal *lb.Refusal
}

// Prospect is what Assign would answer, and how every pool stands to it.
type Prospect struct {
	// Pools in the order in which a free choice tries them.
	Pools []Consideration
	// Want, Orders, Ports and Refusal are those of Result.
	Want    []lb.Lease
	Orders  []Order
	Ports   []lb.PortLease
	Refusal *lb.Refusal
}

// Consider says what Assign would answer to the request, and takes nothing. It is for people who ask why: each pool is
// asked for its own answer, also those that a free choice would not come to.
func (a *Allocator) Consider(req lb.Request) Prospect {
	s := a.know(&req)
	defer a.forget(s)
	decided := a.decide(s, &req)
	p := Prospect{Refusal: decided.refusal}
	for _, addr := range decided.want {
		lease := lb.Lease{Addr: addr}
		if r := a.records[addr]; r != nil && r.leaseOf(s) != nil {
			lease = r.lease()
		} else if home := a.home(addr); home != nil {
			lease.Pool = home.pool.Name
		}
		p.Want = append(p.Want, lease)
	}
	for _, from := range decided.orders {
		p.Orders = append(p.Orders, Order{Pool: from.pool.Name, Family: from.family})
	}
	for _, g := range decided.ports {
		lease := lb.PortLease{Service: g.serves, Port: g.number}
		if g.pool != nil {
			lease.Pool = g.pool.Name
		} else {
			lease.Pool = a.portRecords[g.portKey].pool
		}
		p.Ports = append(p.Ports, lease)
	}
	asked := a.asked(s, &req)
	for _, c := range slices.SortedFunc(maps.Values(a.named), preference) {
		p.Pools = append(p.Pools, Consideration{Pool: c.Name, Holds: s.holdsOf(c), Refusal: a.consider(s, &req, asked, c)})
	}
	return p
}

func (s *service) holdsOf(p *pool) bool {
	return slices.ContainsFunc(s.leases, func(l *lease) bool { return l.record.pool == p.Name }) ||
		slices.ContainsFunc(s.portLeases, func(l *portLease) bool { return l.record.pool == p.Name })
}

// consider is one pool's own answer, in the order in which Assign judges. What it says completes "pool office ...".
func (a *Allocator) consider(s *service, req *lb.Request, asked ask, p *pool) *lb.Refusal {
	if d := p.admits(req); d != admitted {
		return lb.Refuse(lb.ReasonNotAllowed, "%s", p.explain(d, req))
	}
	if req.Pool != "" && req.Pool != p.Name {
		return lb.Refuse(lb.ReasonNoPool, "is not the one that annotation %s names: %s", lb.AnnotationPool, req.Pool)
	}
	if len(asked.addrs) > 0 {
		return a.considerAsked(s, req, asked, p)
	}
	if s.holdsOf(p) {
		return nil
	}
	if !p.offers(req) {
		return lb.Refuse(lb.ReasonNoPool, "has autoAssign: false, and annotation %s does not name it", lb.AnnotationPool)
	}
	if refusal := p.shut(); refusal != nil {
		return refusal
	}
	if p.ports != nil {
		_, refusal := a.fit(s, req, p)
		return refusal
	}
	families := wantedFamilies(req)
	var refusals []*lb.Refusal
	for _, f := range families {
		if !a.gives(p, []lb.Family{f}) {
			refusals = append(refusals, a.unavailable(req, []*pool{p}, f, nil))
		}
	}
	// What a pool lacks of a Service that does not name it, another one may give.
	if len(refusals) < len(families) && (req.Pool == "" || req.FamilyPolicy != lb.RequireDualStack) {
		return nil
	}
	return tell(req, refusals)
}

// considerAsked is the answer of a pool when addresses are asked for.
func (a *Allocator) considerAsked(s *service, req *lb.Request, asked ask, p *pool) *lb.Refusal {
	within := 0
	for _, addr := range asked.addrs {
		home := a.home(addr)
		if home == nil || home.pool != p {
			continue
		}
		within++
		if a.records[addr].leaseOf(s) != nil {
			continue
		}
		if refusal := a.checkNew(s, req, asked.field, addr); refusal != nil {
			return refusal
		}
	}
	if within == 0 {
		return lb.Refuse(lb.ReasonAddressNotInPool, "has none of the addresses that %s asks for: %s", asked.field, listAddrs(asked.addrs))
	}
	return nil
}

func listAddrs(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = fmt.Sprint(addr)
	}
	return shorten(texts, ", ")
}
