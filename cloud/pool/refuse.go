package pool

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// listed bounds how many pools a message names: it must fit into an event.
const listed = 5

// denial is why a pool does not serve a Service. It becomes words only when somebody reads them.
type denial int

const (
	admitted denial = iota
	otherClass
	namespaceNotAllowed
	namespaceNotSelected
	serviceNotSelected
)

// admits says whether the pool serves the Service at all, be it asked for by name or not.
func (p *pool) admits(req *lb.Request) denial {
	if p.LoadBalancerClass != req.Class {
		return otherClass
	}
	if len(p.allowed) > 0 {
		if _, ok := p.allowed[req.Namespace]; !ok {
			return namespaceNotAllowed
		}
	}
	if p.NamespaceSelector != nil && !p.NamespaceSelector.Matches(labels.Set(req.NamespaceLabels)) {
		return namespaceNotSelected
	}
	if p.ServiceSelector != nil && !p.ServiceSelector.Matches(labels.Set(req.Labels)) {
		return serviceNotSelected
	}
	return admitted
}

// offers says whether a free choice may take addresses of a pool: one that the Service names, or one with autoAssign.
func (p *pool) offers(req *lb.Request) bool {
	return (p.AutoAssign || p.Name == req.Pool) && p.admits(req) == admitted
}

// explain completes the sentence "the pool ...".
func (p *pool) explain(d denial, req *lb.Request) string {
	switch d {
	case otherClass:
		if p.LoadBalancerClass == "" {
			return fmt.Sprintf("serves only Services without spec.loadBalancerClass, and this one has %q", req.Class)
		}
		if req.Class == "" {
			return fmt.Sprintf("serves only Services with spec.loadBalancerClass %q, and this one has none", p.LoadBalancerClass)
		}
		return fmt.Sprintf("serves only Services with spec.loadBalancerClass %q, and this one has %q", p.LoadBalancerClass, req.Class)
	case namespaceNotAllowed:
		return fmt.Sprintf("does not serve namespace %q (allowedNamespaces)", req.Namespace)
	case namespaceNotSelected:
		return fmt.Sprintf("does not serve namespace %q, whose labels do not match namespaceSelector %q", req.Namespace, p.NamespaceSelector)
	case serviceNotSelected:
		return fmt.Sprintf("does not serve Services whose labels do not match serviceSelector %q", p.ServiceSelector)
	default:
		return "serves this Service"
	}
}

// shut refuses what is new from a closed pool, nil when it is open.
func (p *pool) shut() *lb.Refusal {
	if p.closed == nil {
		return nil
	}
	return lb.Refuse(p.closed.Reason, "pool %q gives out nothing new for now: %s", p.Name, p.closed.Message)
}

// unavailable says why a free choice among the pools found no address of a family, and nothing to order.
func (a *Allocator) unavailable(req *lb.Request, pools []*pool, f lb.Family, pending []*space) *lb.Refusal {
	var serving, full []string
	var way, buys, other string
	add := "add a pool with some"
	for _, p := range pools {
		if !p.offers(req) {
			continue
		}
		if p.ports != nil {
			serving = append(serving, p.Name+" (ports of a load balancer only)")
			continue
		}
		serving, add = append(serving, p.Name), "add some"
		// A Service keeps the family that it was made with, so another one is had beside it alone.
		if req.FamilyPolicy != lb.PreferDualStack && p.has(otherThan(f)) {
			other = ", or set spec.ipFamilyPolicy to PreferDualStack, which takes what there is"
		}
		s := p.space(f)
		switch {
		case s == nil:
		case !s.bought:
			full = append(full, s.exhausted())
			way = s.wayOut()
		case s.buys:
			bought, ordered := p.had(pending)
			full = append(full, fmt.Sprintf("pool %s: of at most %d addresses (maxAddresses) %d are bought and %d ordered", p.Name, p.limit(), bought, ordered))
			way = "raise maxAddresses or delete a Service"
		default:
			buys = fmt.Sprintf(" (with hetzner.ephemeral: buy %s in types)", strings.ToLower(string(f)))
		}
	}
	switch {
	case len(full) > 1:
		return lb.Refuse(lb.ReasonPoolExhausted, "%s; enlarge one of them or delete a Service", shorten(full, "; "))
	case len(full) > 0:
		return lb.Refuse(lb.ReasonPoolExhausted, "%s; %s", full[0], way)
	case len(serving) > 0:
		return lb.Refuse(lb.ReasonFamilyUnavailable, "pool %s has no %s addresses: %s%s%s", shorten(serving, ", "), f, add, buys, other)
	case len(a.named) == 0:
		return lb.Refuse(lb.ReasonNoPool, "the cloud-config has no pools: add one")
	}
	reasons, out := make([]string, 0, len(a.names)), "add a pool that does, or change one of these"
	for _, name := range a.names {
		p := a.named[name]
		switch d := p.admits(req); {
		case d != admitted:
			reasons = append(reasons, fmt.Sprintf("pool %s %s", name, p.explain(d, req)))
		case p.Addresses == nil && !p.buyer() && p.ports == nil:
			reasons = append(reasons, fmt.Sprintf("pool %s has no addresses", name))
		default:
			reasons = append(reasons, fmt.Sprintf("pool %s has autoAssign: false and must be named", name))
			out = "name one that must be named by annotation " + lb.AnnotationPool + ", or add a pool"
		}
	}
	return lb.Refuse(lb.ReasonNoPool, "no pool serves this Service unasked: %s; %s", shorten(reasons, "; "), out)
}

// tell is what a Service is told of the refusals of its families, nil when there are none. One that requires both is not
// helped by room in a pool while no pool has the other family at all; one that takes what there is, by that alone.
func tell(req *lb.Request, refusals []*lb.Refusal) *lb.Refusal {
	if len(refusals) == 0 {
		return nil
	}
	absent := func(r *lb.Refusal) bool { return r.Reason == lb.ReasonFamilyUnavailable }
	require := req.FamilyPolicy == lb.RequireDualStack
	i := max(0, slices.IndexFunc(refusals, func(r *lb.Refusal) bool { return absent(r) == require }))
	for _, r := range refusals {
		if require && absent(refusals[i]) && r.Reason == lb.ReasonPoolExhausted {
			return lb.Refuse(lb.ReasonFamilyUnavailable, "%s; besides, %s", refusals[i].Message, r.Message)
		}
	}
	return refusals[i]
}

func otherThan(f lb.Family) lb.Family {
	if f == lb.IPv4 {
		return lb.IPv6
	}
	return lb.IPv4
}

// has says whether the pool has addresses of a family, or buys them.
func (p *pool) has(f lb.Family) bool {
	s := p.space(f)
	return s != nil && (!s.bought || s.buys)
}

func (s *space) exhausted() string {
	if s.used == s.size {
		return fmt.Sprintf("pool %s: all %d %s addresses are in use", s.pool.Name, s.size, s.family)
	}
	rest := make([]string, 0, 2)
	if s.quarantined > 0 {
		rest = append(rest, fmt.Sprintf(" and %d quarantined or withheld", s.quarantined))
	}
	if s.exposed > 0 {
		rest = append(rest, fmt.Sprintf(" and %d listed in spec.externalIPs by Services that do not have them", s.exposed))
	}
	return fmt.Sprintf("pool %s: of %d %s addresses %d are in use%s", s.pool.Name, s.size, s.family, s.used, strings.Join(rest, ""))
}

// wayOut is what makes room in an exhausted space.
func (s *space) wayOut() string {
	ways := []string{"enlarge it"}
	if s.used > 0 {
		ways = append(ways, "delete a Service")
	}
	if s.exposed > 0 {
		ways = append(ways, "take an address out of spec.externalIPs")
	}
	if s.quarantined > 0 {
		ways = append(ways, "wait until one is given out again")
	}
	last := len(ways) - 1
	if last == 0 {
		return ways[0]
	}
	return strings.Join(ways[:last], ", ") + " or " + ways[last]
}

func (a *Allocator) poolNotFound(name string) *lb.Refusal {
	return lb.Refuse(lb.ReasonPoolNotFound, "annotation %s names pool %q, which is not in the cloud-config: name one of %s, or add it", lb.AnnotationPool, name, a.listPools())
}

func (a *Allocator) listPools() string {
	if len(a.names) == 0 {
		return "(none is configured)"
	}
	return shorten(a.names, ", ")
}

// notInPool refuses an address that no pool has.
func (a *Allocator) notInPool(field string, addr netip.Addr) *lb.Refusal {
	names := slices.DeleteFunc(slices.Clone(a.names), func(name string) bool { return a.named[name].ports != nil })
	switch {
	case len(names) > 0:
		return lb.Refuse(lb.ReasonAddressNotInPool, "%s asks for %s, which is in no pool: ask for an address of pool %s", field, addr, shorten(names, ", "))
	case len(a.names) > 0:
		return lb.Refuse(lb.ReasonAddressNotInPool, "%s asks for %s, but pool %s gives out ports of a load balancer and no addresses: remove it", field, addr, a.listPools())
	default:
		return lb.Refuse(lb.ReasonAddressNotInPool, "%s asks for %s, which is in no pool: ask for an address of pool %s", field, addr, a.listPools())
	}
}

func inUse(field string, addr netip.Addr, holder *service) *lb.Refusal {
	if holder.reserves(addr) {
		return lb.Refuse(lb.ReasonAddressInUse, "%s asks for %s, which Service %s reserves by spec.externalIPs: ask for another address", field, addr, holder.Ref)
	}
	return lb.Refuse(lb.ReasonAddressInUse, "%s asks for %s, which is held by Service %s: ask for another address", field, addr, holder.Ref)
}

func quarantined(field string, addr netip.Addr) *lb.Refusal {
	return lb.Refuse(lb.ReasonAddressQuarantined, "%s asks for %s, which is quarantined because another machine may still answer for it: wait, or ask for another address", field, addr)
}

func listFamilies(families []lb.Family) string {
	names := make([]string, len(families))
	for i, f := range families {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}

// shorten joins the first few items and counts the rest.
func shorten(items []string, separator string) string {
	if len(items) <= listed {
		return strings.Join(items, separator)
	}
	return strings.Join(append(slices.Clone(items[:listed]), fmt.Sprintf("and %d more", len(items)-listed)), separator)
}
