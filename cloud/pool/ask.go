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
			way := "ask for another address"
			if req.FamilyPolicy != lb.PreferDualStack { // else the cluster itself lacks the family
				way += ", or set spec.ipFamilyPolicy to PreferDualStack"
			}
			return nil, lb.Refuse(lb.ReasonFamilyMismatch, "%s asks for %s, which is %s, but spec.ipFamilies of the Service is %s: %s",
				asked.field, addr, lb.FamilyOf(addr), listFamilies(families), way)
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
		return a.notInPool(field, addr)
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
	held := r != nil && len(r.holders) > 0
	if held {
		o, refusal := r.obstacle(s, true)
		if o != nil && refusal == nil {
			return inUse(field, addr, o)
		}
		if refusal != nil {
			return refusal
		}
	}
	if by, ok := r.exposer(req.Namespace); ok {
		return lb.Refuse(lb.ReasonAddressInUse, "%s asks for %s, which Service %s lists in spec.externalIPs, so that kube-proxy serves it there: "+
			"ask for another address, or have it taken off that list", field, addr, by)
	}
	if held {
		return nil
	}
	return space.pool.shut()
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
