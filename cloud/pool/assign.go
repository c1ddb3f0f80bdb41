package pool

import (
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Assign decides what the Service shall have, and takes it. It is idempotent: asked again it answers the same. In this
// order:
//
// Addresses that are asked for, by annotation, else by spec.externalIPs when at least one of them lies in a pool, else
// by spec.loadBalancerIP, are given all or none. A family that they do not cover is chosen. An address of
// spec.externalIPs is bound to its Service and never shared.
//
// What is held and lies in the named pool, if one is named, stays: one address per family, the one taken first. Other
// addresses of that family are left; that there are any means that a move was cut short.
//
// A free choice joins the address that the Service's sharing key has already, else takes the next address of the first
// pool that has one and that no Service exposes (SetExposed). When that is a pool whose addresses are bought, it takes
// an order; unless another Service with the key has one for the family, and this Service waits for that. Families are
// chosen independently of each other. With RequireDualStack it is both or none, orders too; with PreferDualStack one is
// enough, and the other is not reported when no pool has addresses of it.
//
// What is refused leaves the Service with all that it holds. What it holds stays too when only its pool changed: when
// that is gone, lost the address, or serves this Service no longer, Refusal says so. When Services with
// one key come to clash on an address, by their ports or selectors, both keep it and both are told. When they have no
// common key any more, or one reserves the address by spec.externalIPs, it is the older one's: the younger moves
// to another address, or keeps it and is told when there is none.
//
// A Service whose families are SingleStack leaves the address of the other family.
//
// A Service is served by addresses or, as a whole, by ports of one updater pool: when it names such a pool, when it has
// ports already and asks for no address and no other pool, or when a free choice falls on the pool before any that has an
// address to give. That of a Service with a sharing key falls on what the key has first; ports are not shared by key. A
// Service that asks for what an updater cannot do (lb.ReasonNotSupported) gets no port, and keeps those that it has.
//
// Each served port (lb.Request.Served) has one port of its protocol at the load balancer: the one asked for; else the one
// that it has; else that with its own number when this is in the range and free; else the lowest that was never used; else
// the one that is free longest. New ports come all or none. A port for what the Service does not have any more, or does
// not want to be served, is left, whatever is refused.
func (a *Allocator) Assign(req lb.Request) Result {
	s := a.know(&req)
	p := a.plan(s, &req)
	if a.takeOrders(s, p.orders) {
		// They take room, also from a family that was decided before: the answer is the one to the next question.
		p = a.plan(s, &req)
		a.takeOrders(s, p.orders)
	}
	leases := make([]lb.Lease, 0, len(p.want))
	for _, l := range s.leases {
		l.leaving = true
	}
	for _, addr := range p.want {
		r := a.records[addr]
		if r.leaseOf(s) == nil {
			r = a.hold(s, addr, "")
		}
		r.leaseOf(s).leaving = false
		leases = append(leases, r.lease())
	}
	var leave []lb.Lease
	for _, l := range s.leases {
		if l.leaving {
			leave = append(leave, l.record.lease())
		}
	}
	var orders []Order
	for _, from := range p.orders {
		orders = append(orders, s.order(from.family).order())
	}
	ports, leavePorts := a.grantPorts(s, p.ports)
	a.forget(s)
	return Result{Want: leases, Leave: leave, Orders: orders, Ports: ports, LeavePorts: leavePorts, Refusal: p.refusal}
}

// Allowed names the pool that contains the address, and refuses when there is none or when it does not serve the
// Service, whoever holds the address.
func (a *Allocator) Allowed(req lb.Request, addr netip.Addr) (pool string, refusal *lb.Refusal) {
	space := a.home(addr)
	if space == nil {
		return "", lb.Refuse(lb.ReasonAddressNotInPool, "%s is in no pool of the cloud-config", addr)
	}
	if d := space.pool.admits(&req); d != admitted {
		return space.pool.Name, lb.Refuse(lb.ReasonNotAllowed, "%s is in pool %q, which %s", addr, space.pool.Name, space.pool.explain(d, &req))
	}
	return space.pool.Name, nil
}

// plan is what a Service shall have, in the order of its families.
type plan struct {
	want []netip.Addr
	// orders are taken from these spaces.
	orders []*space
	// ports in the order of the served ones.
	ports   []grant
	refusal *lb.Refusal
}

// plan decides, and gives up the Service's orders that are not wanted any more. An order that stands keeps its place
// before one that is new. When it turns out not to be wanted, the decision is made again without the room that it took:
// the answer is the same when it is asked for the next time.
func (a *Allocator) plan(s *service, req *lb.Request) plan {
	standing := s.standing(req)
	for {
		for _, o := range slices.Clone(s.orders) {
			if !slices.Contains(standing, o.space) {
				a.dropOrder(s, o.space.family)
			}
		}
		p := a.decide(s, req)
		lasting := slices.DeleteFunc(slices.Clone(standing), func(from *space) bool { return !slices.Contains(p.orders, from) })
		if len(lasting) == len(standing) {
			return p
		}
		standing = lasting
	}
}

// decide takes nothing: it only says what the Service shall have. The orders that the Service has stand.
func (a *Allocator) decide(s *service, req *lb.Request) plan {
	families := wantedFamilies(req)
	if len(families) == 0 {
		return s.keep(nil, lb.Refuse(lb.ReasonFamilyUnavailable, "spec.ipFamilies is empty: name at least one family"))
	}
	asked := a.asked(s, req)
	w := a.way(s, req, asked, families)
	switch {
	case w.refusal != nil:
		return s.keep(families, w.refusal)
	case w.ports:
		return a.decidePorts(s, req, families, w.pool)
	}
	p := a.decideAddresses(s, req, asked, families)
	if p.refusal != nil && len(p.want)+len(p.orders)+len(p.ports) == 0 {
		p.refusal = unserved(p.refusal, w.passed)
	}
	return p
}

// decideAddresses is the plan for a Service that is served by addresses.
func (a *Allocator) decideAddresses(s *service, req *lb.Request, asked ask, families []lb.Family) plan {
	flaw, refusal := a.checkAsk(s, req, asked, families)
	if refusal != nil {
		return s.keep(families, refusal)
	}
	var p plan
	served := false      // with an address that is what is asked for
	var pending []*space // new orders
	var missing []*lb.Refusal
	for i, f := range families {
		addrs := slices.Collect(ofFamily(asked.addrs, f))
		if len(addrs) == 0 {
			c := a.choose(s, req, f, pending)
			switch {
			case c.refused && req.FamilyPolicy == lb.RequireDualStack:
				return s.keep(families, tell(req, append([]*lb.Refusal{c.refusal}, a.alsoRefused(s, req, asked, families[i+1:], pending)...)))
			case len(c.addrs) == 0 && c.from == nil:
				missing = append(missing, c.refusal)
			default:
				flaw = first(flaw, c.refusal)
			}
			addrs = c.addrs
			served = served || len(addrs) > 0 && c.from == nil && !c.refused
			if c.from != nil {
				p.orders = append(p.orders, c.from)
				if s.order(f) == nil {
					pending = append(pending, c.from)
				}
			}
		}
		p.want = append(p.want, addrs...)
	}
	if !served && len(asked.addrs) == 0 {
		p.ports = s.keptPorts()
	}
	if len(p.want) == 0 {
		p.want = s.kept(families)
		if len(p.orders) == 0 {
			p.refusal = tell(req, missing)
			return p
		}
	}
	if no := tell(req, missing); no != nil && no.Reason != lb.ReasonNoPool && no.Reason != lb.ReasonFamilyUnavailable {
		flaw = first(flaw, no)
	}
	p.refusal = flaw
	return p
}

// alsoRefused are the refusals of the other families of a Service that requires both.
func (a *Allocator) alsoRefused(s *service, req *lb.Request, asked ask, others []lb.Family, pending []*space) (refusals []*lb.Refusal) {
	for _, f := range others {
		if len(slices.Collect(ofFamily(asked.addrs, f))) > 0 {
			continue
		}
		if c := a.choose(s, req, f, pending); c.refused {
			refusals = append(refusals, c.refusal)
		}
	}
	return refusals
}

func first(x, y *lb.Refusal) *lb.Refusal {
	if x != nil {
		return x
	}
	return y
}

func wantedFamilies(req *lb.Request) []lb.Family {
	if len(req.Families) > 1 && req.FamilyPolicy != lb.PreferDualStack && req.FamilyPolicy != lb.RequireDualStack {
		return req.Families[:1]
	}
	return req.Families
}

func ofFamily(addrs []netip.Addr, f lb.Family) func(yield func(netip.Addr) bool) {
	return func(yield func(netip.Addr) bool) {
		for _, addr := range addrs {
			if lb.FamilyOf(addr) == f && !yield(addr) {
				return
			}
		}
	}
}

// kept is what the Service goes on having when what it asks for is refused: what it holds of the families, in their
// order, without what it is about to leave. It is never empty while anything is held.
func (s *service) kept(families []lb.Family) []netip.Addr {
	var kept []netip.Addr
	for _, f := range families {
		kept = append(kept, s.current(f)...)
	}
	if len(kept) > 0 {
		return kept
	}
	return slices.Concat(s.current(lb.IPv4), s.current(lb.IPv6))
}

// current is what the Service holds of a family, without what it is about to leave unless that is all that it holds of
// both families and has no ports.
func (s *service) current(f lb.Family) []netip.Addr {
	var staying, all []netip.Addr
	for _, l := range s.leases {
		if lb.FamilyOf(l.record.addr) != f {
			continue
		}
		all = append(all, l.record.addr)
		if !l.leaving {
			staying = append(staying, l.record.addr)
		}
	}
	if s.onAddresses() || s.onPorts() {
		return staying
	}
	return all
}
