package pool

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// record is what is known of one touched address. It is in exactly one of five states: held, else barred (quarantined or
// withheld), else exposed, else freed (queued), else about to be removed.
type record struct {
	addr netip.Addr
	// space that contains the address, or that it was bought in and is held in; nil when there is none.
	space *space
	// pool is the name of the space's pool, without a space the last one known.
	pool        string
	holders     []*lease
	quarantined bool
	// withheld is why the address is not given out; nil when it is.
	withheld *lb.Refusal
	// exposers are the Services that expose the address, sorted by name. Empty while no pool lists it.
	exposers []lb.Ref

	queued     bool
	freedAt    uint64
	prev, next *record
}

// barred: nobody gets the address.
func (r *record) barred() bool { return r.quarantined || r.withheld != nil }

func (r *record) lease() lb.Lease { return lb.Lease{Addr: r.addr, Pool: r.pool} }

// leaseOf is the Service's hold on the address, nil when it has none. It accepts a nil record.
func (r *record) leaseOf(s *service) *lease {
	if r == nil {
		return nil
	}
	for _, l := range r.holders {
		if l.service == s {
			return l
		}
	}
	return nil
}

// lease is one Service's hold on one address.
type lease struct {
	service *service
	record  *record
	// leaving: Assign wants something else in its place, the caller has not released it yet.
	leaving bool
}

// service is what is remembered of a Service that holds something: what decides about sharing.
type service struct {
	lb.Ref
	created time.Time
	key     string
	ports   []lb.Port
	// served are those that an external load balancer serves, if one does.
	served   []lb.Port
	local    bool
	selector string
	// reserved are the addresses that spec.externalIPs binds to this Service alone.
	reserved []netip.Addr
	// leases in order of taking.
	leases []*lease
	// orders by family, at most one of each.
	orders []*order
	// portLeases in order of taking; one that was about to be left and stays is taken anew.
	portLeases []*portLease
}

// group is the Services that may share: a sharing key counts within its namespace.
type group struct{ namespace, key string }

func (s *service) group() group { return group{s.Namespace, s.key} }

func (s *service) reserves(addr netip.Addr) bool { return slices.Contains(s.reserved, addr) }

// olderThan decides between two claimants of one address.
func (s *service) olderThan(o *service) bool {
	return cmp.Or(s.created.Compare(o.created), compareRefs(s.Ref, o.Ref)) < 0
}

func compareRefs(x, y lb.Ref) int {
	return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), cmp.Compare(x.UID, y.UID))
}

// know brings what is remembered of the Service up to date. A Service that ends up with nothing is forgotten again
// with forget.
func (a *Allocator) know(req *lb.Request) *service {
	s := a.services[req.UID]
	if s == nil {
		s = &service{}
		a.services[req.UID] = s
	}
	if g := (group{req.Namespace, req.SharingKey}); g != s.group() {
		a.leaveGroup(s)
		if g.key != "" {
			a.groups[g] = append(a.groups[g], s)
		}
	}
	s.Ref, s.created, s.key = req.Ref, req.Created, req.SharingKey
	s.ports, s.local, s.selector = slices.Clone(req.Ports), req.Local, req.PodSelector
	s.served = slices.Clone(req.Served())
	s.reserved = nil
	if len(req.Addresses) == 0 {
		s.reserved = slices.Clone(req.ExternalIPs)
	}
	return s
}

// forget drops a Service that holds nothing and is to get nothing.
func (a *Allocator) forget(s *service) {
	if len(s.leases) > 0 || len(s.orders) > 0 || len(s.portLeases) > 0 {
		return
	}
	a.leaveGroup(s)
	delete(a.services, s.UID)
}

func (a *Allocator) leaveGroup(s *service) {
	if s.key == "" {
		return
	}
	g := s.group()
	members := slices.DeleteFunc(a.groups[g], func(m *service) bool { return m == s })
	if len(members) == 0 {
		delete(a.groups, g)
		return
	}
	a.groups[g] = members
}

// touch is the record of an address, made when there is none.
func (a *Allocator) touch(addr netip.Addr) *record {
	r := a.records[addr]
	if r == nil {
		r = &record{addr: addr}
		a.place(r)
		a.records[addr] = r
	}
	return r
}

// place finds the space of a record that is not counted.
func (a *Allocator) place(r *record) {
	r.space = a.spaceOf(r.addr)
	if p := a.named[r.pool]; r.space == nil && p != nil && p.buyer() && len(r.holders) > 0 {
		r.space = p.space(lb.FamilyOf(r.addr))
	}
	if r.space != nil {
		r.pool = r.space.pool.Name
	}
}

// count puts the record where its state belongs: into a number or at the back of the queue. Whoever changes the
// state calls uncount before and count after.
func (a *Allocator) count(r *record) {
	switch {
	case len(r.holders) > 0:
		if r.space != nil {
			r.space.used++
		}
	case r.barred():
		if r.space != nil {
			r.space.quarantined++
		}
	case r.space == nil:
		delete(a.records, r.addr)
	case len(r.exposers) > 0:
		r.space.exposed++
	case r.space.freed.len >= longestQueue && r.space.ahead(r.addr):
		delete(a.records, r.addr) // as good as never used
	default:
		a.releases++
		r.freedAt = a.releases
		r.space.freed.push(r)
	}
}

func (a *Allocator) uncount(r *record) {
	switch {
	case r.space == nil:
	case len(r.holders) > 0:
		r.space.used--
	case r.barred():
		r.space.quarantined--
	case len(r.exposers) > 0:
		r.space.exposed--
	case r.queued:
		r.space.freed.remove(r)
	}
}

// hold takes the address for the Service. It is of the pool when nobody holds it yet and no pool contains it.
func (a *Allocator) hold(s *service, addr netip.Addr, pool string) *record {
	r := a.touch(addr)
	a.uncount(r)
	l := &lease{service: s, record: r}
	r.holders = append(r.holders, l)
	s.leases = append(s.leases, l)
	if r.space == nil && len(r.holders) == 1 {
		r.pool = pool
		a.place(r)
	}
	a.count(r)
	return r
}

// Adopt records at start, before the first Assign, that the Service holds an address already. The address is kept
// also when lease.Pool is not configured or does not contain it; when another pool contains it, it belongs to that
// one. In a pool that buys its addresses it counts against maxAddresses, and is adopted beyond that limit too. It takes
// the place of an order that the Service has for the family. Adopting twice changes nothing.
//
// It is refused when another Service holds the address and the two may not share it: the first one adopted keeps
// it, so adopt the older Service first. Services with the same key in the same namespace are both adopted even
// when their ports or selectors clash by now, as both keep the address when that happens to them alive.
func (a *Allocator) Adopt(req lb.Request, held lb.Lease) *lb.Refusal {
	if a.records[held.Addr].leaseOf(a.services[req.UID]) != nil {
		return nil
	}
	s := a.know(&req)
	if r := a.records[held.Addr]; r != nil {
		if o := r.stranger(s); o != nil {
			a.forget(s)
			return lb.Refuse(lb.ReasonAddressInUse, "%s is held by Service %s already, with which %s may not share it", held.Addr, o.Ref, req.Ref)
		}
	}
	a.hold(s, held.Addr, held.Pool)
	a.dropOrder(s, lb.FamilyOf(held.Addr))
	return nil
}

// Leases lists everything that the Service holds, in order of taking.
func (a *Allocator) Leases(uid string) []lb.Lease {
	s := a.services[uid]
	if s == nil {
		return nil
	}
	var leases []lb.Lease
	for _, l := range s.leases {
		leases = append(leases, l.record.lease())
	}
	return leases
}

// Release ends the Service's hold on an address: nothing answers for it any more on the Service's behalf. It is true
// when the Service was the last holder. The address then waits at the back of its pool's queue, unless it is
// quarantined, withheld or exposed, and is forgotten when it lies in no pool. Releasing what is not held changes nothing.
func (a *Allocator) Release(uid string, addr netip.Addr) (freed bool) {
	s, r := a.services[uid], a.records[addr]
	l := r.leaseOf(s)
	if s == nil || l == nil {
		return false
	}
	a.uncount(r)
	same := func(o *lease) bool { return o == l }
	r.holders = slices.DeleteFunc(r.holders, same)
	s.leases = slices.DeleteFunc(s.leases, same)
	if len(r.holders) == 0 {
		a.place(r) // a bought address belongs to its pool only as long as it is held
	}
	a.count(r)
	a.forget(s)
	return len(r.holders) == 0
}
