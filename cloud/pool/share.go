package pool

import (
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// MaxSharers is how many Services share one address at most. All of them stand in one entry of a NodeAddresses, whose
// 5,000 entries have to fit into one write.
const MaxSharers = 100

// partners says whether two Services want to share the address: one key in one namespace, and neither reserves it.
func partners(x, y *service, addr netip.Addr) bool {
	return x.key != "" && x.group() == y.group() && !x.reserves(addr) && !y.reserves(addr)
}

// clashes says whether Services that want to share an address cannot: they have a port in common, or run on
// different pods although policy Local ties the address to the nodes of one of the two.
func clashes(s, o *service) bool {
	_, common := commonPort(s, o)
	return common || (s.local || o.local) && s.selector != o.selector
}

func commonPort(s, o *service) (lb.Port, bool) {
	for _, p := range s.ports {
		for _, q := range o.ports {
			if p.Number == q.Number && p.Protocol == q.Protocol {
				return p, true
			}
		}
	}
	return lb.Port{}, false
}

// clash puts into words why two Services clash, nil when they do not.
func clash(s, o *service, address string) *lb.Refusal {
	if p, common := commonPort(s, o); common {
		return lb.Refuse(lb.ReasonSharingConflict, "port %s on %s is used by Service %s, which has the same %s %q: use another port or another key",
			p, address, o.Ref, lb.AnnotationSharingKey, s.key)
	}
	if clashes(s, o) {
		return lb.Refuse(lb.ReasonSharingConflict, "%s is used by Service %s, which has the same %s %q but another spec.selector: "+
			"with externalTrafficPolicy Local on one of the two they may run on different nodes; use policy Cluster or another key", address, o.Ref, lb.AnnotationSharingKey, s.key)
	}
	return nil
}

// stranger is the first holder by name with which the Service does not want to share the address.
func (r *record) stranger(s *service) *service {
	var first *service
	for _, l := range r.holders {
		if !partners(s, l.service, r.addr) && (first == nil || compareRefs(l.service.Ref, first.Ref) < 0) {
			first = l.service
		}
	}
	return first
}

// rival is an older Service that holds the address too and does not want to share it with this one: the address is
// the rival's. Nil when there is none.
func (l *lease) rival() *service {
	var oldest *service
	for _, o := range l.record.holders {
		if o.service == l.service || o.leaving || partners(l.service, o.service, l.record.addr) || l.service.olderThan(o.service) {
			continue
		}
		if oldest == nil || o.service.olderThan(oldest) {
			oldest = o.service
		}
	}
	return oldest
}

// join finds the address that the Service's key has: the lowest that fits. Neither an address nor a refusal: the
// key has none yet, in the named pool when one is named.
func (a *Allocator) join(s *service, req *lb.Request, named *pool, f lb.Family) (netip.Addr, *lb.Refusal) {
	var records []*record
	for _, member := range a.groups[s.group()] {
		for _, l := range member.leases {
			r := l.record
			if member == s || l.leaving || member.reserves(r.addr) || lb.FamilyOf(r.addr) != f ||
				named != nil && (r.space == nil || r.space.pool != named) {
				continue
			}
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(x, y *record) int { return x.addr.Compare(y.addr) })
	var refusal *lb.Refusal
	for _, r := range slices.Compact(records) {
		no := a.misfit(s, req, r)
		if no == nil {
			return r.addr, nil
		}
		refusal = first(refusal, no)
	}
	return netip.Addr{}, refusal
}

// misfit says why the Service cannot join those that hold an address.
func (a *Allocator) misfit(s *service, req *lb.Request, r *record) *lb.Refusal {
	o, refusal := r.obstacle(s, true)
	switch {
	case refusal != nil:
		return refusal
	case o != nil:
		return lb.Refuse(lb.ReasonSharingConflict, "%s %q has %s, which Service %s holds without sharing it: use another key", lb.AnnotationSharingKey, s.key, r.addr, o.Ref)
	case r.withheld != nil:
		return lb.Refuse(r.withheld.Reason, "%s %q has %s, which is not given out: %s", lb.AnnotationSharingKey, s.key, r.addr, r.withheld.Message)
	case r.quarantined:
		return lb.Refuse(lb.ReasonSharingConflict, "%s %q has %s, which is quarantined because another machine may still answer for it: wait, or use another key", lb.AnnotationSharingKey, s.key, r.addr)
	case r.space == nil:
		return lb.Refuse(lb.ReasonSharingConflict, "%s %q has %s, which is in no pool any more: put it back into pool %q, or use another key", lb.AnnotationSharingKey, s.key, r.addr, r.pool)
	}
	if by, ok := r.exposer(s.Namespace); ok {
		return lb.Refuse(lb.ReasonAddressInUse, "%s %q has %s, which Service %s lists in spec.externalIPs, so that kube-proxy serves it there: "+
			"use another key, or have it taken off that list", lb.AnnotationSharingKey, s.key, r.addr, by)
	}
	if d := r.space.pool.admits(req); d != admitted {
		return lb.Refuse(lb.ReasonSharingConflict, "%s %q has %s, whose pool %q %s: use another key", lb.AnnotationSharingKey, s.key, r.addr, r.pool, r.space.pool.explain(d, req))
	}
	return nil
}

// obstacle is the first holder by name with which the Service cannot be on the address: one that is no partner, or one
// with which it clashes, and then why. Those that are about to leave count only for a newcomer.
func (r *record) obstacle(s *service, newcomer bool) (*service, *lb.Refusal) {
	if newcomer && len(r.holders) >= MaxSharers {
		return r.holders[0].service, lb.Refuse(lb.ReasonSharingConflict, "%s is shared by %d Services, and by no more: use another %s",
			r.addr, len(r.holders), lb.AnnotationSharingKey)
	}
	var obstacle *service
	for _, l := range r.holders {
		o := l.service
		if o == s || l.leaving && !newcomer || obstacle != nil && compareRefs(obstacle.Ref, o.Ref) < 0 {
			continue
		}
		if p := partners(s, o, r.addr); !p && newcomer || p && clashes(s, o) {
			obstacle = o
		}
	}
	if obstacle == nil || !partners(s, obstacle, r.addr) {
		return obstacle, nil
	}
	return obstacle, clash(s, obstacle, r.addr.String())
}
