// Package pool decides which address a Service gets, or which ports of an external load balancer. It is a ledger in
// memory: rebuilt at start by Adopt and AdoptPort, asked by Assign, and told by Release and ReleasePort when an address or
// a port is answered for no longer.
//
// Some pools have no addresses of their own: they are bought. Of these a Service gets an order first, which counts like
// an address, and a lease when Bought says what was bought.
//
// What is asked for and allowed comes before what is held, and that comes before a free choice. What is held is
// never taken away by a refusal. A refusal is a value with a reason, never something else served instead.
//
// The package is deterministic: the same calls in the same order give the same results. So it knows no clock, no
// randomness and no order of a map, logs nothing, counts no metrics and talks to nobody; whoever calls it does.
package pool

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// Allocator knows every address of every pool, who holds it, and which one is next. It is not safe for
// concurrent use: the caller serialises.
//
// It stores something only for addresses and ports that were touched: held, quarantined, exposed or freed. So a pool
// costs the same whether it is a /30 or an IPv6 /64, one port or all of them, and Assign and Release cost the same in
// an empty and in a nearly full one.
type Allocator struct {
	// pools with addresses, orders or ports, in the order in which a free choice tries them.
	pools []*pool
	// named has every configured pool, also those that hand out no addresses here; names are its keys, sorted.
	named map[string]*pool
	names []string
	// spaces sorted by pool name, then family.
	spaces []*space
	// spans are all ranges of all pools, disjoint and sorted.
	spans []span

	// records of the touched addresses. An address of a pool without a record was never used.
	records  map[netip.Addr]*record
	services map[string]*service
	groups   map[group][]*service
	// portSpaces are the updater pools' ports, sorted by pool name.
	portSpaces []*portSpace
	// portRecords of the touched ports: held or freed.
	portRecords map[portKey]*portRecord
	// releases counts what was freed, so that the queues keep their order over a reload.
	releases uint64
	// ordered counts the orders taken, so that it is known which is the younger.
	ordered uint64
	// exposed are the addresses, of pools or not, that Services expose. The UIDs are empty.
	exposed map[lb.Ref][]netip.Addr
}

// Result is what Assign decided.
type Result struct {
	// Want is what the Service shall have, primary family first. All of it is held after the call.
	Want []lb.Lease
	// Leave is held too, but not wanted any more: publish Want, withdraw these, then Release each.
	Leave []lb.Lease
	// Orders are what shall be bought for the Service, in the order of its families: all its orders after the call. For
	// a family with an order, Want has what the Service goes on with until it is bought, mostly nothing. With
	// RequireDualStack the Service has both families only when Orders is empty.
	Orders []Order
	// Ports is what the Service shall have at an external load balancer, in the order of its served ports
	// (lb.Request.Served), each at most once. All of it is held after the call. A Service that is served by an updater
	// pool has Ports and nothing else; Want and Ports together are only what it goes on with when a move was cut short
	// by a restart, and what it asks for now is refused.
	Ports []lb.PortLease
	// LeavePorts is held too, but not wanted any more: publish Want or Ports, withdraw these, then ReleasePort each.
	LeavePorts []lb.PortLease
	// Refusal is what was asked for and is not done. With nothing in Want, Ports and Orders it is why the Service is not
	// served, otherwise why it is Degraded.
	Refusal *lb.Refusal
}

// New makes an Allocator in which nothing is held. Adopt what Services hold already before the first Assign.
func New(pools []config.Pool) *Allocator {
	a := &Allocator{
		records:     map[netip.Addr]*record{},
		services:    map[string]*service{},
		groups:      map[group][]*service{},
		portRecords: map[portKey]*portRecord{},
		exposed:     map[lb.Ref][]netip.Addr{},
	}
	a.SetPools(pools)
	return a
}

// SetPools replaces the pools by those of a validated cloud-config: names are unique and addresses of two pools do
// not overlap. What is held stays held, also when it lies in no pool any more; when it lies in another pool now
// (a pool was renamed or split, or a bought address is listed), it belongs to that one from now on. Quarantine and
// what is withheld, exposed or closed stay too. A freed address that lies outside of every pool is forgotten.
//
// A port that is held belongs to the updater pool on its host whose range contains it: when that is another one now, from
// now on to that. Else it stays with the pool whose name it has, in its range or not, and goes with it to another host;
// unless a port of the other host is held by somebody already. Without such a pool it is kept and belongs to none. A freed
// port that lies in no range is forgotten.
//
// An order is dropped when its pool does not buy the family any more; past a lowered maxAddresses the youngest are
// dropped. The cost is linear in the addresses touched or exposed and the orders, not in the size of the pools.
func (a *Allocator) SetPools(pools []config.Pool) {
	before := a.named
	a.pools, a.spaces, a.spans, a.portSpaces = nil, nil, nil, nil
	a.named = make(map[string]*pool, len(pools))
	for _, c := range pools {
		p := newPool(c)
		if old := before[c.Name]; old != nil {
			p.closed = old.closed
		}
		a.named[c.Name] = p
		if c.Addresses == nil && !p.buyer() && p.ports == nil {
			continue
		}
		a.pools = append(a.pools, p)
		if p.ports != nil {
			a.portSpaces = append(a.portSpaces, p.ports)
		}
		for _, s := range p.spaces() {
			a.spaces = append(a.spaces, s)
			for _, r := range s.ranges {
				a.spans = append(a.spans, span{r, s})
			}
		}
	}
	a.names = slices.Sorted(maps.Keys(a.named))
	slices.SortFunc(a.pools, preference)
	slices.SortFunc(a.spaces, func(x, y *space) int {
		return cmp.Or(cmp.Compare(x.pool.Name, y.pool.Name), cmp.Compare(x.family, y.family))
	})
	slices.SortFunc(a.portSpaces, func(x, y *portSpace) int { return cmp.Compare(x.pool.Name, y.pool.Name) })
	slices.SortFunc(a.spans, func(x, y span) int { return x.From().Compare(y.From()) })
	a.rehome()
	a.reorder()
	a.rehomePorts()
}

// rehome sorts the touched addresses into the spaces of new pools.
func (a *Allocator) rehome() {
	var freed []*record
	for addr, r := range a.records {
		a.place(r)
		r.prev, r.next = nil, nil
		r.exposers = nil
		switch {
		case r.queued && r.space == nil:
			delete(a.records, addr)
		case r.queued:
			freed = append(freed, r)
		default:
			a.count(r)
		}
	}
	slices.SortFunc(freed, func(x, y *record) int { return cmp.Compare(x.freedAt, y.freedAt) })
	for _, r := range freed {
		r.space.freed.push(r)
	}
	a.reexpose()
	for _, s := range a.spaces {
		s.advance(a.records) // pays here, once, for passing what is held
	}
}

// spaceOf finds the pool and family that an address belongs to, nil when it lies in no pool.
func (a *Allocator) spaceOf(addr netip.Addr) *space {
	i, found := slices.BinarySearchFunc(a.spans, addr, func(s span, addr netip.Addr) int { return s.From().Compare(addr) })
	if !found {
		i--
	}
	if i < 0 || !a.spans[i].Contains(addr) {
		return nil
	}
	return a.spans[i].space
}

// home is the space that contains the address, or that it was bought in and is held in; nil when there is none.
func (a *Allocator) home(addr netip.Addr) *space {
	if r := a.records[addr]; r != nil {
		return r.space
	}
	return a.spaceOf(addr)
}

// PoolOf names the configured pool that contains the address, or in which it was bought as long as it is held.
func (a *Allocator) PoolOf(addr netip.Addr) (string, bool) {
	if s := a.home(addr); s != nil {
		return s.pool.Name, true
	}
	return "", false
}

// Usage counts each pool's addresses by family, sorted by pool name and family. It costs nothing per address. Withheld
// addresses count as quarantined, and so do those that are exposed and not held. A pool that buys has the families that
// it buys, and those that it bought and buys no more. Addresses that are held outside of every pool are not in it: see
// Outside.
func (a *Allocator) Usage() []lb.Usage {
	usage := make([]lb.Usage, 0, len(a.spaces))
	for _, s := range a.spaces {
		u := lb.Usage{Pool: s.pool.Name, Family: s.family, Size: s.size, Used: s.used, Ordered: s.ordered, Quarantined: s.quarantined + s.exposed}
		switch {
		case s.buys:
			u.Size = s.pool.limit()
		case s.bought && s.used == 0:
			continue
		case s.bought:
			u.Size = s.used
		}
		usage = append(usage, u)
	}
	return usage
}

// Outside lists what is held although no configured pool contains or bought it, sorted by address. Pool is where the address
// was last known to belong. The cost is linear in the addresses touched.
func (a *Allocator) Outside() []lb.Lease {
	var outside []lb.Lease
	for _, r := range a.records {
		if r.space == nil && len(r.holders) > 0 {
			outside = append(outside, r.lease())
		}
	}
	slices.SortFunc(outside, func(x, y lb.Lease) int { return x.Addr.Compare(y.Addr) })
	return outside
}
