package ledger

// This file is about addresses that have to be bought before a Service can have them.

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// order is a Floating IP that a Service needs and that is not there yet.
type order struct {
	ref     lb.Ref
	family  lb.Family
	pool    string
	account string
	// wanted is false once the Service needs it no more; the order stays until it is known that nothing was bought.
	wanted bool
	// busy: the purchase is on its way.
	busy bool
	// maybe: something may have been bought since, of which no answer told.
	maybe time.Time
	// waiting is what has to come first.
	waiting *lb.Refusal
	retry
}

func (o *order) target() target { return target{uid: o.ref.UID, family: o.family} }

// order follows what the allocator says that the Service needs.
func (l *Ledger) order(s *service, pools map[lb.Family]string, now time.Time) {
	for _, family := range families {
		t := target{uid: s.request.UID, family: family}
		o, pool := l.orders[t], pools[family]
		switch {
		case pool == "":
			if o != nil {
				l.cancel(o)
			}
			continue
		case o == nil || (o.pool != pool || o.account != l.rental.Accounts[pool]) && !o.busy && o.maybe.IsZero():
			if o != nil {
				l.plan(o.account, t, nil, retry{}, false) // what was to be bought in another account is not
			}
			o = &order{ref: s.request.Ref, family: family, pool: pool, account: l.rental.Accounts[pool]}
			l.orders[t] = o
			l.wake(s.request.Ref)
		}
		o.wanted = true
		if r := l.boughtFor(t); r != nil && !o.busy {
			l.orderFilled(o, r, now)
			return // which has asked again for what else the Service needs
		}
		l.planOrder(o)
	}
}

// boughtFor returns what was bought for a Service already and nobody holds; nil when nothing was seen.
func (l *Ledger) boughtFor(t target) *rented {
	for _, r := range l.rented {
		if l.ours(r) && r.Owner.Service.UID == t.uid && r.Family() == t.family && l.recordOf(r) == nil && l.accounts[r.account].closed == nil {
			return r
		}
	}
	return nil
}

// cancel ends an order that nobody needs any more, when it is certain that nothing was bought.
func (l *Ledger) cancel(o *order) {
	o.wanted = false
	l.plan(o.account, o.target(), nil, o.retry, o.busy)
	if o.busy {
		return
	}
	if !o.maybe.IsZero() {
		l.effects.read(o.account)
		return
	}
	delete(l.orders, o.target())
	l.wake(o.ref)
	if s := l.services[o.ref.UID]; s != nil {
		l.wakeRivals(s.request)
		l.forget(s)
	}
	l.wakeOldest()
}

// buys says how a pool buys addresses; false: it does not, or is not configured.
func (l *Ledger) buys(pool string) (config.Ephemeral, bool) {
	if p := l.pools[pool]; p != nil && p.Hetzner != nil && p.Hetzner.Ephemeral != nil {
		return *p.Hetzner.Ephemeral, true
	}
	return config.Ephemeral{}, false
}

// planOrder has an order carried out.
func (l *Ledger) planOrder(o *order) {
	s := l.services[o.ref.UID]
	job := &Job{Account: o.account, Op: OpBuy, Pool: o.pool, Services: []lb.Ref{o.ref}, created: s.request.Created, Order: lb.Order{
		Owner: lb.Owner{
			ClusterUID: l.rental.ClusterUID, Cluster: l.rental.ClusterName, Service: o.ref, Pool: o.pool, Retain: s.request.Retain,
		},
		Family: o.family,
	}}
	e, _ := l.buys(o.pool)
	job.Order.Labels = e.Labels
	job.Order.Retain = job.Order.Retain || e.Retain
	l.plan(o.account, o.target(), job, o.retry, o.busy)
}

// mayBuy reports whether everything that is free to check has passed: nothing is lost, nothing of the Service is
// on its way out, and a node could carry the address now. It completes the job with the location of that node's
// server.
func (l *Ledger) mayBuy(o *order, job *Job, now time.Time) bool {
	s := l.services[o.ref.UID]
	if s == nil || !o.wanted {
		return false
	}
	before := o.waiting
	defer func() {
		if !equal(before, o.waiting) {
			l.wake(o.ref)
		}
	}()
	if o.waiting = l.lost(s, o); o.waiting != nil {
		return false
	}
	for _, lease := range l.allocator.Leases(o.ref.UID) {
		a := l.addresses[lease.Addr]
		if a == nil || a.route == nil || a.route.account != o.account || lb.FamilyOf(a.addr) != o.family || l.isListed(a) {
			continue
		}
		// The name under which it is bought is the Service's, so that nothing is bought twice.
		o.waiting = lb.Refuse(lb.ReasonNameTaken, "%s was bought for this Service in pool %s, and a Service has one %s Floating IP in an account: "+
			"delete the Service and make it again in pool %s", a.addr, a.pool, o.family, o.pool)
		return false
	}
	if !slices.Contains(l.allocator.Orders(o.ref.UID), pool.Order{Pool: o.pool, Family: o.family}) {
		l.wake(o.ref) // the pools have changed since, and the Service asks for something else
		return false
	}
	l.setOverdue(now)
	demand := l.demandOf(o.pool, []lb.Ref{o.ref})
	demand.Bind = true
	node, refusal := place.Choose(demand, l.candidates, "")
	if o.waiting = refusal; refusal != nil {
		return false
	}
	e, _ := l.buys(o.pool)
	job.Order.Location = cmp.Or(e.HomeLocation, l.accounts[o.account].servers[l.nodes[node].Server].Location)
	return true
}

// lost says that the Service had published an address of this family that is nowhere any more. It is not given
// another one silently.
func (l *Ledger) lost(s *service, o *order) *lb.Refusal {
	addr := l.missing(s, o.family)
	if !addr.IsValid() {
		return nil
	}
	return lb.Refuse(lb.ReasonAddressLost, "%s was published and does not exist in account %s any more; it is not replaced silently: "+
		"delete the Service and make it again to get another address", addr, o.account)
}

// missing returns the address of a family that stands in the Service's status and is nowhere to be found, so that it may
// have been bought; the zero value when there is none.
func (l *Ledger) missing(s *service, family lb.Family) netip.Addr {
	for _, addr := range slices.Concat(s.published, s.shown) {
		if lb.FamilyOf(addr) != family || l.addresses[addr] != nil {
			continue
		}
		if _, ok := l.allocator.PoolOf(addr); !ok {
			return addr
		}
	}
	return netip.Addr{}
}

// orderDone takes in what became of a purchase.
func (l *Ledger) orderDone(job Job, res Answer, now time.Time) {
	o := l.orders[job.target()]
	if o == nil {
		return // cannot be: a busy order is kept
	}
	o.busy = false
	if res.Fault != nil {
		o.failed(res.Fault, now)
		switch res.Fault.Kind {
		case FaultUnknown:
			o.maybe = now
		case FaultTemporary:
			if o.maybe.IsZero() {
				o.maybe = now
			}
		}
		l.wake(o.ref)
		if o.wanted {
			l.planOrder(o)
		} else {
			l.cancel(o)
		}
		return
	}
	r := &rented{FloatingIP: res.FloatingIP, account: job.Account, changed: now}
	l.rented[r.Prefix] = r
	l.orderFilled(o, r, now)
	if a := l.addresses[r.Addr()]; a != nil {
		l.notice(a, lb.ReasonBought, "%s is bought (Floating IP %d, pool %s)", r.Addr(), r.ID, o.pool)
	}
}

// orderFilled gives what was bought to the Service, or back when that does not want it any more.
func (l *Ledger) orderFilled(o *order, r *rented, now time.Time) {
	delete(l.orders, o.target())
	l.plan(o.account, o.target(), nil, retry{}, false)
	s := l.services[o.ref.UID]
	if !o.wanted || s == nil || !s.wants {
		l.giveBack(r, l.requestOf(o), now)
		return
	}
	lease := lb.Lease{Addr: r.Addr(), Pool: o.pool}
	l.allocator.Bought(o.ref.UID, r.Addr())
	a := l.address(lease)
	a.rent(r.account, r.ID)
	l.assign(s, now)
	if len(a.refs) == 0 && a.last.UID == "" {
		// The Service was given something else meanwhile.
		a.last, a.unwantedSince = o.ref, now
		a.route.retain = l.retains(s, a) || r.Owner.Retain
		l.evaluate(a, now)
	}
	l.wakeRivals(s.request)
}

func (l *Ledger) requestOf(o *order) lb.Request {
	if s := l.services[o.ref.UID]; s != nil {
		return s.request
	}
	if k, ok := l.known[o.ref.UID]; ok {
		return k.Request
	}
	return lb.Request{Ref: o.ref}
}

// resolveOrders ends orders of which a complete read shows that nothing came of them.
func (l *Ledger) resolveOrders(a *account) {
	for _, o := range l.ordersOf(a.key) {
		if o.maybe.IsZero() || o.busy || a.readAt.Before(o.maybe.Add(listLag)) {
			continue
		}
		o.maybe = time.Time{}
		if !o.wanted {
			l.cancel(o)
		}
	}
}

func (l *Ledger) ordersOf(key string) []*order {
	var list []*order
	for _, o := range l.orders {
		if o.account == key {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(x, y *order) int { return x.target().compare(y.target()) })
	return list
}

// ordering says what a Service's purchase of a family waits for; nil when it buys none.
func (l *Ledger) ordering(uid string, family lb.Family) *lb.Refusal {
	o := l.orders[target{uid: uid, family: family}]
	if o == nil {
		return nil
	}
	switch {
	case l.accounts[o.account] != nil && l.accounts[o.account].closed != nil:
		return l.accounts[o.account].closed
	case o.waiting != nil:
		return o.waiting
	case o.trouble != nil:
		return o.trouble
	default:
		return lb.Refuse(lb.ReasonWaitingForPurchase, "buying an %s Floating IP (pool %s)", family, o.pool)
	}
}
