package pool

import (
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// ask is what a Service asks for by address, in the one of three ways that counts.
type ask struct {
	// field to change when it is refused.
	field string
	addrs []netip.Addr
}

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
// pool that has one. When that is a pool whose addresses are bought, it takes an order; unless another Service with the
// key has one for the family, and this Service waits for that. Families are chosen independently of each other. With
// RequireDualStack it is both or none, orders too; with PreferDualStack one is enough, and the other is not reported
// when no pool has addresses of it.
//
// What is refused leaves the Service with all that it holds. What it holds stays too when only its pool changed: when
// that is gone, lost the address, or serves this Service no longer, Refusal says so. When Services with
// one key come to clash on an address, by their ports or selectors, both keep it and both are told. When they have no
// common key any more, or one reserves the address by spec.externalIPs, it is the older one's: the younger moves
// to another address, or keeps it and is told when there is none.
//
// A Service whose families are SingleStack leaves the address of the other family.
func (a *Allocator) Assign(req lb.Request) Result {
	s := a.know(&req)
	p := a.plan(s, &req)
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
		if s.order(from.family) == nil {
			a.takeOrder(s, from)
		}
		orders = append(orders, s.order(from.family).order())
	}
	a.forget(s)
	return Result{Want: leases, Leave: leave, Orders: orders, Refusal: p.refusal}
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
	orders  []*space
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
		return plan{want: s.kept(nil), refusal: lb.Refuse(lb.ReasonFamilyUnavailable, "spec.ipFamilies is empty: name at least one family")}
	}
	asked := a.asked(s, req)
	flaw, refusal := a.checkAsk(s, req, asked, families)
	if refusal != nil {
		return plan{want: s.kept(families), refusal: refusal}
	}
	var p plan
	var pending []*space // new orders
	var missing *lb.Refusal
	for _, f := range families {
		addrs := slices.Collect(ofFamily(asked.addrs, f))
		if len(addrs) == 0 {
			c := a.choose(s, req, f, pending)
			switch {
			case c.refused && req.FamilyPolicy == lb.RequireDualStack:
				return plan{want: s.kept(families), refusal: c.refusal}
			case len(c.addrs) == 0 && c.from == nil:
				missing = first(missing, c.refusal)
			default:
				flaw = first(flaw, c.refusal)
			}
			addrs = c.addrs
			if c.from != nil {
				p.orders = append(p.orders, c.from)
				if s.order(f) == nil {
					pending = append(pending, c.from)
				}
			}
		}
		p.want = append(p.want, addrs...)
	}
	if len(p.want) == 0 {
		p.want = s.kept(families)
		if len(p.orders) == 0 {
			p.refusal = missing
			return p
		}
	}
	if missing != nil && missing.Reason != lb.ReasonNoPool && missing.Reason != lb.ReasonFamilyUnavailable {
		flaw = first(flaw, missing)
	}
	p.refusal = flaw
	return p
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

// current is what the Service holds of a family, without what it is about to leave unless that is all there is.
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
	if len(staying) > 0 {
		return staying
	}
	return all
}

// asked reads the request by address. spec.externalIPs may name addresses that are not ours; one that the Service
// holds is ours also when its pool is gone.
func (a *Allocator) asked(s *service, req *lb.Request) ask {
	if len(req.Addresses) > 0 {
		return ask{"annotation " + lb.AnnotationAddresses, unique(req.Addresses)}
	}
	var external []netip.Addr
	for _, addr := range unique(req.ExternalIPs) {
		if a.home(addr) != nil || a.records[addr].leaseOf(s) != nil {
			external = append(external, addr)
		}
	}
	if len(external) > 0 {
		return ask{"spec.externalIPs", external}
	}
	if req.LoadBalancerIP.IsValid() {
		return ask{"spec.loadBalancerIP", []netip.Addr{req.LoadBalancerIP}}
	}
	return ask{}
}

// unique drops repetitions and keeps the order.
func unique(addrs []netip.Addr) []netip.Addr {
	if len(addrs) < 2 {
		return addrs
	}
	seen := make(map[netip.Addr]struct{}, len(addrs))
	var once []netip.Addr
	for _, addr := range addrs {
		if _, again := seen[addr]; !again {
			seen[addr] = struct{}{}
			once = append(once, addr)
		}
	}
	return once
}

// checkAsk looks at every address asked for. A refusal is of one that the Service cannot have; a flaw is about one
// that it holds and keeps.
func (a *Allocator) checkAsk(s *service, req *lb.Request, asked ask, families []lb.Family) (flaw, refusal *lb.Refusal) {
	for _, addr := range asked.addrs {
		if !slices.Contains(families, lb.FamilyOf(addr)) {
			return nil, lb.Refuse(lb.ReasonFamilyMismatch, "%s asks for %s, which is %s, but spec.ipFamilies of the Service is %s: change one of the two",
				asked.field, addr, lb.FamilyOf(addr), listFamilies(families))
		}
		if l := a.records[addr].leaseOf(s); l != nil {
			if refusal := a.checkPool(req, asked.field, addr, l.record.pool); refusal != nil {
				return nil, refusal
			}
			if rival := l.rival(); rival != nil {
				return nil, inUse(asked.field, addr, rival)
			}
			flaw = first(flaw, a.flaw(l, req))
			continue
		}
		if refusal := a.checkNew(s, req, asked.field, addr); refusal != nil {
			return nil, refusal
		}
	}
	return flaw, nil
}

// checkNew refuses an address asked for that the Service does not hold and may not have.
func (a *Allocator) checkNew(s *service, req *lb.Request, field string, addr netip.Addr) *lb.Refusal {
	space := a.home(addr)
	if space == nil {
		return lb.Refuse(lb.ReasonAddressNotInPool, "%s asks for %s, which is in no pool: ask for an address of pool %s", field, addr, a.listPools())
	}
	if refusal := a.checkPool(req, field, addr, space.pool.Name); refusal != nil {
		return refusal
	}
	if d := space.pool.admits(req); d != admitted {
		return lb.Refuse(lb.ReasonNotAllowed, "%s asks for %s of pool %q, which %s: ask for another address", field, addr, space.pool.Name, space.pool.explain(d, req))
	}
	r := a.records[addr]
	if r != nil && r.withheld != nil {
		return lb.Refuse(r.withheld.Reason, "%s asks for %s, which is not given out: %s", field, addr, r.withheld.Message)
	}
	if r != nil && r.quarantined {
		return quarantined(field, addr)
	}
	if r == nil || len(r.holders) == 0 {
		return space.pool.shut()
	}
	o, refusal := r.obstacle(s, true)
	if o != nil && refusal == nil {
		return inUse(field, addr, o)
	}
	return refusal
}

// checkPool refuses an address that is not in the pool that the Service names beside it.
func (a *Allocator) checkPool(req *lb.Request, field string, addr netip.Addr, pool string) *lb.Refusal {
	if req.Pool == "" || req.Pool == pool {
		return nil
	}
	if a.named[req.Pool] == nil {
		return a.poolNotFound(req.Pool)
	}
	return lb.Refuse(lb.ReasonAddressNotInPool, "%s asks for %s, which is in pool %q, but annotation %s names pool %q: change one of the two",
		field, addr, pool, lb.AnnotationPool, req.Pool)
}

// choice is what was found for one family that was not asked for by address.
type choice struct {
	// addrs are chosen, or with an order or a refusal what is held although something else is asked for, if anything.
	addrs []netip.Addr
	// from is the space to order from; nil for no order.
	from    *space
	refusal *lb.Refusal
	// refused: the refusal is not of what the Service goes on with, but of what it asks for.
	refused bool
}

// choose finds the addresses of one family, or what to order them from. Other families have pending orders.
func (a *Allocator) choose(s *service, req *lb.Request, f lb.Family, pending []*space) choice {
	if l := a.stay(s, req, f); l != nil {
		return choice{addrs: []netip.Addr{l.record.addr}, refusal: a.flaw(l, req)}
	}
	kept := s.current(f)
	if o := s.order(f); o != nil {
		return choice{addrs: kept, from: o.space, refusal: o.space.pool.shut()}
	}
	addr, from, refusal := a.pick(s, req, f, pending)
	switch {
	case from != nil:
		return choice{addrs: kept, from: from}
	case refusal == nil:
		return choice{addrs: []netip.Addr{addr}}
	}
	for _, addr := range kept {
		if rival := a.records[addr].leaseOf(s).rival(); rival != nil {
			refusal = lb.Refuse(lb.ReasonSharingConflict, "%s belongs to the older Service %s, which does not share it with this Service, and there is no other: %s",
				addr, rival.Ref, refusal.Message)
			break
		}
	}
	return choice{addrs: kept, refusal: refusal, refused: true}
}

// stay is the lease of a family that the Service goes on with, nil when it holds none that is compatible with what it
// asks for. What it has comes before what it was about to leave, and what is in order before what is flawed.
func (a *Allocator) stay(s *service, req *lb.Request, f lb.Family) *lease {
	var best *lease
	bestRank := 0
	for _, l := range s.leases {
		if lb.FamilyOf(l.record.addr) != f || req.Pool != "" && l.record.pool != req.Pool || l.rival() != nil {
			continue
		}
		rank := 4
		if l.leaving {
			rank -= 2
		}
		if a.flaw(l, req) != nil {
			rank--
		}
		if rank > bestRank {
			best, bestRank = l, rank
		}
	}
	return best
}

// pick makes a free choice for one family: an address, a space to order from, or a refusal.
func (a *Allocator) pick(s *service, req *lb.Request, f lb.Family, pending []*space) (addr netip.Addr, from *space, refusal *lb.Refusal) {
	pools := a.pools
	var named *pool
	if req.Pool != "" {
		if named = a.named[req.Pool]; named == nil {
			return addr, nil, a.poolNotFound(req.Pool)
		}
		if d := named.admits(req); d != admitted {
			return addr, nil, lb.Refuse(lb.ReasonNotAllowed, "annotation %s names pool %q, which %s: name another pool", lb.AnnotationPool, req.Pool, named.explain(d, req))
		}
		pools = []*pool{named}
	}
	if s.key != "" {
		if addr, refusal := a.join(s, req, named, f); addr.IsValid() || refusal != nil {
			return addr, nil, refusal
		}
	}
	for _, p := range pools {
		if !p.offers(req) {
			continue
		}
		from := p.space(f)
		switch {
		case from == nil:
		case !from.bought:
			if next, ok := from.peek(a.records); ok {
				if refusal := p.shut(); refusal != nil {
					return addr, nil, refusal
				}
				return next, nil, nil
			}
		case from.buys && p.room(pending):
			if refusal := first(a.awaits(s, req, named, f), p.shut()); refusal != nil {
				return addr, nil, refusal
			}
			return addr, from, nil
		}
	}
	if refusal := a.awaits(s, req, named, f); refusal != nil {
		return addr, nil, refusal
	}
	return addr, nil, a.unavailable(req, pools, f, pending)
}

// flaw is what is wrong with an address that the Service holds and keeps.
func (a *Allocator) flaw(l *lease, req *lb.Request) *lb.Refusal {
	r := l.record
	switch {
	case r.space == nil && a.named[r.pool] == nil:
		return lb.Refuse(lb.ReasonPoolMissing, "%s is kept, but its pool %q is not in the cloud-config any more: put the pool back, or move the Service to another one by annotation %s",
			r.addr, r.pool, lb.AnnotationPool)
	case r.space == nil:
		return lb.Refuse(lb.ReasonAddressNotInPool, "%s is kept, but pool %q does not contain it any more: put the address back, or move the Service to another one by annotation %s",
			r.addr, r.pool, lb.AnnotationAddresses)
	}
	if d := r.space.pool.admits(req); d != admitted {
		return lb.Refuse(lb.ReasonNotAllowed, "%s is kept, but its pool %q %s: move the Service to another pool by annotation %s, or change the pool",
			r.addr, r.pool, r.space.pool.explain(d, req), lb.AnnotationPool)
	}
	_, refusal := r.obstacle(l.service, false)
	return refusal
}
