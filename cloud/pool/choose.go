package pool

import (
	"net/netip"

	"github.com/mooring-lb/mooring/cloud/lb"
)

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
			return addr, nil, notAllowed(named, d, req)
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
