package pool

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Order is a Service's claim on one address of a pool that has to be bought first. It counts against the pool's
// maxAddresses as a bought address does.
//
// Assign takes orders and gives them up: it answers with the same order until the address is Bought, CancelOrder is
// called, or the order is not what the Service asks for any more (its families, its pool or the addresses that it asks
// for are others; its pool does not offer itself to it; with RequireDualStack the other family cannot be had). An order
// that is given up is not reported: it is missing in Result.Orders. SetPools may drop orders too: see there. The
// Allocator knows nothing of purchases. Of one that is under way when its order is given up, the caller keeps account,
// and has two ways to end it: Adopt the address for a Service, or return it to the cloud, of which the Allocator need
// not hear.
//
// Services that are refused with ReasonWaitingForPurchase wait for an order of another one; those refused with
// ReasonPoolExhausted may wait for the room that it takes. Ask for them again after Bought, after CancelOrder, and after
// an Assign or SetPools that gave up an order.
type Order struct {
	Pool   string
	Family lb.Family
}

// order of a service.
type order struct {
	service *service
	space   *space
	// taken counts the orders: a higher number is a younger order.
	taken uint64
}

func (o *order) order() Order { return Order{Pool: o.space.pool.Name, Family: o.space.family} }

// buyer says whether the pool's addresses are bought.
func (p *pool) buyer() bool { return p.Hetzner != nil && p.Hetzner.Ephemeral != nil }

// limit is how many addresses a pool that buys may have.
func (p *pool) limit() uint64 {
	if n := p.Hetzner.Ephemeral.MaxAddresses; n > 0 {
		return uint64(n)
	}
	return math.MaxUint64
}

// had is how many addresses a pool that buys has or has on order, beside the pending orders.
func (p *pool) had(pending []*space) (bought, ordered uint64) {
	for _, s := range p.spaces() {
		bought += s.used
		ordered += s.ordered
	}
	for _, s := range pending {
		if s.pool == p {
			ordered++
		}
	}
	return bought, ordered
}

// room says whether a pool that buys may buy one more.
func (p *pool) room(pending []*space) bool {
	bought, ordered := p.had(pending)
	return bought+ordered < p.limit()
}

// Orders lists what shall be bought for the Service, IPv4 first.
func (a *Allocator) Orders(uid string) []Order {
	s := a.services[uid]
	if s == nil {
		return nil
	}
	var orders []Order
	for _, o := range s.orders {
		orders = append(orders, o.order())
	}
	slices.SortFunc(orders, func(x, y Order) int { return cmp.Compare(x.Family, y.Family) })
	return orders
}

// Bought turns the Service's order for the family of the address into a lease of the address, in the pool of the
// order unless the address is listed in another one. It is false, and nothing is changed, when the Service has no such
// order (any more) or another Service holds the address: see Order for what to do then. For an address that the
// Service holds already it is true.
func (a *Allocator) Bought(uid string, addr netip.Addr) bool {
	s := a.services[uid]
	if s == nil {
		return false
	}
	r := a.records[addr]
	if r.leaseOf(s) != nil {
		return true
	}
	o := s.order(lb.FamilyOf(addr))
	if o == nil || r != nil && len(r.holders) > 0 {
		return false
	}
	a.hold(s, addr, o.space.pool.Name)
	a.dropOrder(s, o.space.family)
	return true
}

// CancelOrder gives up the Service's order for the family, and changes nothing when there is none. The next Assign may
// take it again: for a Service that wants nothing any more, call it after the last Assign.
func (a *Allocator) CancelOrder(uid string, f lb.Family) {
	if s := a.services[uid]; s != nil {
		a.dropOrder(s, f)
		a.forget(s)
	}
}

// order of the family, nil when there is none.
func (s *service) order(f lb.Family) *order {
	for _, o := range s.orders {
		if o.space.family == f {
			return o
		}
	}
	return nil
}

// takeOrders has the Service order from the spaces, and reports whether one of the orders is new.
func (a *Allocator) takeOrders(s *service, spaces []*space) (taken bool) {
	for _, from := range spaces {
		if s.order(from.family) != nil {
			continue
		}
		a.ordered++
		s.orders = append(s.orders, &order{service: s, space: from, taken: a.ordered})
		from.ordered++
		taken = true
	}
	return taken
}

func (a *Allocator) dropOrder(s *service, f lb.Family) {
	if o := s.order(f); o != nil {
		o.space.ordered--
		s.orders = slices.DeleteFunc(s.orders, func(other *order) bool { return other == o })
	}
}

// reorder carries the orders over to new pools, the older ones first.
func (a *Allocator) reorder() {
	var orders []*order
	for _, s := range a.services {
		orders = append(orders, s.orders...)
	}
	slices.SortFunc(orders, func(x, y *order) int { return cmp.Compare(x.taken, y.taken) })
	for _, o := range orders {
		o.service.orders = slices.DeleteFunc(o.service.orders, func(other *order) bool { return other == o })
		p := a.named[o.space.pool.Name]
		if p != nil && p.buyer() && p.space(o.space.family).buys && p.room(nil) {
			o.space = p.space(o.space.family)
			o.space.ordered++
			o.service.orders = append(o.service.orders, o)
		}
		a.forget(o.service)
	}
}

// standing are the spaces of those orders of the Service that a free choice could still fall on.
func (s *service) standing(req *lb.Request) []*space {
	var standing []*space
	for _, o := range s.orders {
		if p := o.space.pool; p.offers(req) && (req.Pool == "" || req.Pool == p.Name) {
			standing = append(standing, o.space)
		}
	}
	return standing
}

// awaits refuses a free choice because the Service's key has an order already: the Service waits for what is bought, or
// is told at once that it could not share it. Nil when the key has no order, in the named pool when one is named.
func (a *Allocator) awaits(s *service, req *lb.Request, named *pool, f lb.Family) *lb.Refusal {
	var buyers []*order
	if s.key != "" {
		for _, member := range a.groups[s.group()] {
			if o := member.order(f); o != nil && (named == nil || o.space.pool == named) {
				buyers = append(buyers, o)
			}
		}
	}
	slices.SortFunc(buyers, func(x, y *order) int { return compareRefs(x.service.Ref, y.service.Ref) })
	var refusal *lb.Refusal
	for _, o := range buyers {
		p := o.space.pool
		no := clash(s, o.service, fmt.Sprintf("the %s address that is being bought", f))
		if d := p.admits(req); no == nil && d != admitted {
			no = lb.Refuse(lb.ReasonSharingConflict, "%s %q gets an address that is being bought for Service %s, and its pool %q %s: use another key",
				lb.AnnotationSharingKey, s.key, o.service.Ref, p.Name, p.explain(d, req))
		}
		if no == nil {
			return lb.Refuse(lb.ReasonWaitingForPurchase, "pool %s: the %s address that %s %q shares is being bought for Service %s",
				p.Name, f, lb.AnnotationSharingKey, s.key, o.service.Ref)
		}
		refusal = first(refusal, no)
	}
	return refusal
}
