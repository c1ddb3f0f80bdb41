package pool

import (
	"cmp"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// longestQueue bounds how many freed addresses of one pool and family are remembered as freed. Past that the one
// freed longest ago is given out although others were never used: else the churn of years in an IPv6 /64 would
// be kept in memory. It holds every address of a /16.
const longestQueue = 1 << 16

// pool is a configured pool with its addresses by family, or with what it bought of each family.
type pool struct {
	config.Pool
	allowed map[string]struct{}
	v4, v6  *space
	// ports of a pool with updater; nil for others.
	ports *portSpace
	// closed is why the pool gives out nothing new; nil when it does.
	closed *lb.Refusal
}

func newPool(c config.Pool) *pool {
	p := &pool{Pool: c}
	if len(c.AllowedNamespaces) > 0 {
		p.allowed = make(map[string]struct{}, len(c.AllowedNamespaces))
		for _, namespace := range c.AllowedNamespaces {
			p.allowed[namespace] = struct{}{}
		}
	}
	if p.buyer() {
		p.v4 = &space{pool: p, family: lb.IPv4, bought: true, buys: c.Hetzner.Ephemeral.IPv4}
		p.v6 = &space{pool: p, family: lb.IPv6, bought: true, buys: c.Hetzner.Ephemeral.IPv6}
		return p
	}
	if c.Updater != nil {
		p.ports = newPortSpace(p)
	}
	if c.Addresses == nil {
		return p
	}
	for _, r := range c.Addresses.Ranges() {
		if r.From().Is4() {
			p.v4 = p.v4.with(p, lb.IPv4, r)
		} else {
			p.v6 = p.v6.with(p, lb.IPv6, r)
		}
	}
	return p
}

// space is the pool's part of one family, nil when it has no addresses of it.
func (p *pool) space(f lb.Family) *space {
	if f == lb.IPv4 {
		return p.v4
	}
	return p.v6
}

func (p *pool) spaces() []*space {
	return slices.DeleteFunc([]*space{p.v4, p.v6}, func(s *space) bool { return s == nil })
}

// restricted is true for a pool that serves some namespaces only. Among the pools that serve a Service these are the
// ones made for its namespace.
func (p *pool) restricted() bool {
	return len(p.allowed) > 0 || p.NamespaceSelector != nil && !p.NamespaceSelector.Empty()
}

// preference is the order of a free choice among the pools that serve a Service. It does not depend on the Service: a
// restricted pool that serves it is restricted to it. Addresses come before ports of a load balancer, and what costs nothing
// before what is bought.
func preference(x, y *pool) int {
	if x.restricted() != y.restricted() {
		if x.restricted() {
			return -1
		}
		return 1
	}
	if c := cmp.Compare(y.Priority, x.Priority); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(x.cost(), y.cost()), cmp.Compare(x.Name, y.Name))
}

// cost orders what a pool gives out: addresses, ports at a load balancer, what is bought.
func (p *pool) cost() int {
	switch {
	case p.buyer():
		return 2
	case p.ports != nil:
		return 1
	default:
		return 0
	}
}

// span is one range of a space.
type span struct {
	netipx.IPRange
	space *space
}

// space is the addresses of one family in one pool. Addresses that were never used are found by a cursor that only
// moves forward, freed ones wait in a queue. A space that is bought has no ranges: it consists of the addresses that are
// held in it.
type space struct {
	pool   *pool
	family lb.Family
	// ranges are disjoint and ascending.
	ranges []netipx.IPRange
	// size saturates.
	size              uint64
	used, quarantined uint64
	// exposed counts the addresses that nobody holds and that are neither quarantined nor withheld.
	exposed uint64

	// bought: the pool buys its addresses; buys: of this family too.
	bought, buys bool
	ordered      uint64

	// Every address before the cursor has a record. at == len(ranges): no address is unused.
	at     int
	cursor netip.Addr

	freed queue
}

// with is s, made when it is nil, with a further range behind the others.
func (s *space) with(p *pool, f lb.Family, r netipx.IPRange) *space {
	if s == nil {
		s = &space{pool: p, family: f, cursor: r.From()}
	}
	s.ranges = append(s.ranges, r)
	s.size = saturatingAdd(s.size, rangeSize(r))
	return s
}

// peek is the address that a free choice gives next: never used ones in ascending order, then the one freed longest
// ago. It takes nothing: asked again, it answers the same.
func (s *space) peek(records map[netip.Addr]*record) (netip.Addr, bool) {
	// Past that length the cursor stays, so that what is freed beyond it need not be remembered.
	if s.freed.len < longestQueue {
		s.advance(records)
		if s.at < len(s.ranges) {
			return s.cursor, true
		}
	}
	if s.freed.head != nil {
		return s.freed.head.addr, true
	}
	return netip.Addr{}, false
}

// advance moves the cursor to the first address without a record. An address is passed once between two reloads.
func (s *space) advance(records map[netip.Addr]*record) {
	for s.at < len(s.ranges) {
		if _, touched := records[s.cursor]; !touched {
			return
		}
		if s.cursor != s.ranges[s.at].To() {
			s.cursor = s.cursor.Next()
			continue
		}
		s.at++
		if s.at < len(s.ranges) {
			s.cursor = s.ranges[s.at].From()
		}
	}
}

// ahead says whether the cursor has not come to the address yet.
func (s *space) ahead(addr netip.Addr) bool { return s.at < len(s.ranges) && !addr.Less(s.cursor) }

// queue is a list of freed records, first in first out, from which one may also be taken out of the middle.
type queue struct {
	head, tail *record
	len        int
}

func (q *queue) push(r *record) {
	r.queued, r.prev, r.next = true, q.tail, nil
	if q.tail == nil {
		q.head = r
	} else {
		q.tail.next = r
	}
	q.tail = r
	q.len++
}

func (q *queue) remove(r *record) {
	if r.prev == nil {
		q.head = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		q.tail = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.queued, r.prev, r.next = false, nil, nil
	q.len--
}

// rangeSize counts the addresses of a range, saturated at the largest uint64.
func rangeSize(r netipx.IPRange) uint64 {
	from, to := r.From().As16(), r.To().As16()
	high := binary.BigEndian.Uint64(to[:8]) - binary.BigEndian.Uint64(from[:8])
	low, borrow := binary.BigEndian.Uint64(to[8:]), binary.BigEndian.Uint64(from[8:])
	if low < borrow {
		high--
	}
	if high > 0 {
		return math.MaxUint64
	}
	return saturatingAdd(low-borrow, 1)
}

func saturatingAdd(x, y uint64) uint64 {
	if x > math.MaxUint64-y {
		return math.MaxUint64
	}
	return x + y
}
