package ledger

// This file is about accounts at the cloud: what each was seen to have, which of its servers are our Nodes, and
// whether anything may be done there.

import (
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

const (
	// listLag is how long a list at the cloud may lag behind a change: what a read that began earlier shows of
	// something that we changed is not believed. (Hetzner's lists were seen to lag by a second.)
	listLag = 3 * time.Second
	// lateFor is how long after this controller came a call of the one before it may have its effect.
	lateFor = 2 * time.Minute
	// rememberFor is how long a Service that is gone is known, so that what turns up late for it is given back.
	rememberFor = time.Hour
)

// Rental is what is rented for the cluster, and where.
type Rental struct {
	// ClusterUID is the UID of the kube-system namespace: what carries it in its labels is ours.
	ClusterUID string
	// ClusterName is --cluster-name, for people.
	ClusterName string
	// Accounts names the account of each pool at the cloud.
	Accounts map[string]string
	// Orphans says of each account whether what was bought there and belongs to no Service is given back.
	Orphans map[string]bool
}

// account is one project at the cloud.
type account struct {
	key     string
	servers map[int64]lb.Server
	// serversAt and readAt are when the last reads of servers and of Floating IPs began; zero: there was none.
	serversAt, readAt time.Time
	// doubted: a server that was listed may not be there any more.
	doubted bool
	// heard: a read ended, well or not. Before that it is no trouble that nothing is known.
	heard bool
	// closed says why nothing is done in this account; nil: it is open.
	closed *lb.Refusal
	// resume is when calls may be made again that are not urgent, as far as the cloud has told.
	resume time.Time
	// work to be done, by what it is about.
	work map[target]*task
	// orphans by id, since when they are seen to be.
	orphans map[int64]time.Time
}

// orphaned counts the Floating IPs that belong to no Service for longer than one slow loop.
func (a *account) orphaned(interval time.Duration) (n int) {
	for _, since := range a.orphans {
		if a.readAt.Sub(since) >= interval {
			n++
		}
	}
	return n
}

// rented is one Floating IP as it was seen last.
type rented struct {
	lb.FloatingIP
	account string
	// changed is when we changed it last, as far as this ledger knows.
	changed time.Time
}

// prefixOf is the prefix in which an address is routed at the cloud: alone, or for IPv6 with its /64.
func prefixOf(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 32)
	}
	return netip.PrefixFrom(a, 64).Masked()
}

func (l *Ledger) account(key string) *account {
	a := l.accounts[key]
	if a == nil {
		a = &account{key: key, work: map[target]*task{}, orphans: map[int64]time.Time{}}
		a.closed = unread(key)
		l.accounts[key] = a
	}
	return a
}

func unread(key string) *lb.Refusal {
	return lb.Refuse(lb.ReasonAccountUnavailable, "account %s was not read yet", key)
}

// setRental takes over which pools belong to which account.
func (l *Ledger) setRental(r Rental) {
	for key := range r.Orphans {
		if a := l.accounts[key]; a != nil && !l.configured(key) {
			// It is back: what it showed before is too old to go by.
			a.readAt, a.closed = time.Time{}, unread(key)
		}
	}
	l.rental = r
	for key, a := range l.accounts {
		if _, ok := r.Orphans[key]; !ok {
			// What is held there is frozen until the account is back.
			a.closed = lb.Refuse(lb.ReasonAccountUnavailable, "account %s is not in the cloud-config any more: put it back", key)
			if !l.holdsIn(key) {
				l.forgetAccount(key)
			}
		}
	}
	for pool := range l.pools {
		var closed *lb.Refusal
		if key := r.Accounts[pool]; key != "" {
			closed = l.account(key).closed
		}
		l.allocator.SetClosed(pool, closed)
	}
	for key := range r.Orphans {
		l.account(key)
	}
	before := l.listings()
	l.listed = map[netip.Prefix]lb.Lease{}
	for name, p := range l.pools {
		if p.Hetzner == nil || p.Addresses == nil {
			continue
		}
		for _, r := range p.Addresses.Ranges() {
			for addr := r.From(); ; addr = addr.Next() {
				l.listed[prefixOf(addr)] = lb.Lease{Addr: addr, Pool: name}
				if addr == r.To() {
					break
				}
			}
		}
	}
	for _, was := range before {
		if l.listed[prefixOf(was.Addr)].Addr != was.Addr {
			l.allocator.Withhold(was.Addr, nil) // what the cloud says of it matters no more
		}
	}
}

// forgetAccount forgets an account in which nothing is held, and what it showed.
func (l *Ledger) forgetAccount(key string) {
	delete(l.accounts, key)
	for prefix, r := range l.rented {
		if r.account == key {
			delete(l.rented, prefix)
		}
	}
	for _, n := range l.nodes {
		n.Accounts = slices.DeleteFunc(slices.Clone(n.Accounts), func(k string) bool { return k == key })
	}
}

// configured reports whether an account is in the cloud-config. A read that was under way when it was taken out says
// nothing any more.
func (l *Ledger) configured(key string) bool {
	_, ok := l.rental.Orphans[key]
	return ok
}

// holdsIn reports whether anything is held in an account.
func (l *Ledger) holdsIn(key string) bool {
	for _, x := range l.addresses {
		if x.route != nil && x.route.account == key {
			return true
		}
	}
	return len(l.ordersOf(key)) > 0
}

// AccountFailed says that an account could not be read, and why. One that was read before stays as it was.
func (l *Ledger) AccountFailed(key string, why *lb.Refusal, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.configured(key) {
		return
	}
	if a := l.account(key); a.readAt.IsZero() {
		a.heard = true
		l.gate(a, why, now)
	}
}

// TokenChanged says that another token of an account is in use: what was refused because of the last one is tried again
// at once.
func (l *Ledger) TokenChanged(key string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	refused := func(r retry) bool { return r.trouble != nil && r.trouble.Reason == lb.ReasonUnauthorized }
	for _, o := range l.ordersOf(key) {
		if !refused(o.retry) {
			continue
		}
		o.retry = retry{}
		if o.wanted {
			l.planOrder(o)
		}
		l.wake(o.ref)
	}
	again := map[netip.Addr]bool{}
	for addr, a := range l.addresses {
		if a.route != nil && a.route.account == key && refused(a.route.retry) {
			a.route.retry = retry{}
			again[addr] = true
		}
	}
	l.evaluateAll(again, now)
}

// Inventory takes in a complete read of an account.
func (l *Ledger) Inventory(key string, inv lb.Inventory, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.configured(key) {
		return
	}
	a := l.account(key)
	first := a.readAt.IsZero()
	a.heard = true
	if inv.Servers != nil {
		l.takeServers(a, inv)
	}
	if a.serversAt.IsZero() {
		return
	}
	a.readAt = inv.Began
	gone := l.takeFloatingIPs(a, inv)
	switch {
	case slices.ContainsFunc(l.candidateNodes(), func(n *node) bool { _, ok := a.servers[n.Server]; return ok && !n.ServerGone }):
		l.gate(a, nil, now)
	default:
		l.gate(a, lb.Refuse(lb.ReasonAccountMismatch,
			"none of the %d servers in account %s is a Node of this cluster: is its token that of another project? Nothing is done there",
			len(a.servers), key), now)
	}
	if a.closed != nil {
		return
	}
	for _, f := range l.ofAccount(key) {
		l.claim(f, now)
	}
	l.resolveOrders(a)
	l.judgeListed(a)
	all := map[netip.Addr]bool{}
	for addr, x := range l.addresses {
		if x.route != nil && (x.route.account == key || first) {
			all[addr] = true
			if gone[x.route.id] {
				x.route.look = true
			}
		}
	}
	l.evaluateAll(all, now)
	if l.allSettled() {
		l.beSure()
	}
	l.forgetKnown(now)
	l.serveWaiting(netip.Addr{}, now)
	l.tidy(a, now)
}

// takeFloatingIPs remembers what an account showed, but for what we have changed since the read began. It returns
// the ids that were there before and are not now; they may be gone, or the list incomplete.
func (l *Ledger) takeFloatingIPs(a *account, inv lb.Inventory) (gone map[int64]bool) {
	gone = map[int64]bool{}
	seen := make(map[int64]bool, len(inv.FloatingIPs))
	for _, f := range inv.FloatingIPs {
		seen[f.ID] = true
		was := l.rented[f.Prefix]
		if was != nil && inv.Began.Before(was.changed.Add(listLag)) {
			continue
		}
		r := &rented{FloatingIP: f, account: a.key}
		if was != nil {
			r.changed = was.changed
			if was.ID == f.ID && l.accounts[was.account].closed == nil {
				r.account = was.account // two tokens of one project show the same
			}
		}
		l.rented[f.Prefix] = r
	}
	for id := range a.orphans {
		if !seen[id] {
			delete(a.orphans, id)
		}
	}
	for _, r := range l.rented {
		if r.account == a.key && !seen[r.ID] && !inv.Began.Before(r.changed.Add(listLag)) {
			gone[r.ID] = true
			if l.recordOf(r) == nil {
				delete(l.rented, r.Prefix)
			}
		}
	}
	return gone
}

// recordOf returns the record of the address that a Floating IP has, nil when nobody holds it.
func (l *Ledger) recordOf(r *rented) *address {
	if listing, ok := l.listed[r.Prefix]; ok {
		if a := l.addresses[listing.Addr]; a != nil {
			return a
		}
	}
	if a := l.addresses[r.Addr()]; a != nil {
		return a
	}
	return l.neighbour(r.Prefix, netip.Addr{})
}

// neighbour returns the record of another rented address in an IPv6 network, which is routed as a whole; nil when there
// is none.
func (l *Ledger) neighbour(network netip.Prefix, of netip.Addr) (found *address) {
	if network.Addr().Is4() {
		return nil
	}
	for addr, a := range l.addresses {
		if a.route != nil && addr != of && network.Contains(addr) && (found == nil || addr.Less(found.addr)) {
			found = a
		}
	}
	return found
}

// ofAccount returns the Floating IPs of an account by id.
func (l *Ledger) ofAccount(key string) []*rented {
	var list []*rented
	for _, r := range l.rented {
		if r.account == key {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(x, y *rented) int { return int(x.ID - y.ID) })
	return list
}

// gate opens or closes an account. While it is closed nothing is bought, released or moved there.
func (l *Ledger) gate(a *account, closed *lb.Refusal, now time.Time) {
	if equal(a.closed, closed) {
		return
	}
	a.closed = closed
	for pool, key := range l.rental.Accounts {
		if key == a.key {
			l.allocator.SetClosed(pool, closed)
		}
	}
	all := map[netip.Addr]bool{}
	for addr, x := range l.addresses {
		if x.route != nil && x.route.account == a.key {
			all[addr] = true
		}
	}
	l.evaluateAll(all, now)
	for _, o := range l.orders {
		if o.account == a.key {
			l.wake(o.ref)
		}
	}
	// Those that are refused only because of the gate are told, or served.
	for uid := range l.unserved {
		l.wake(l.services[uid].request.Ref)
	}
}

// settled reports whether an account was read after everything that an earlier controller did before this one came
// must show. What a foreign project shows says nothing.
func (l *Ledger) settled(key string) bool {
	a := l.accounts[key]
	return a == nil || a.closed == nil && !a.readAt.IsZero() && !a.readAt.Before(l.adoptedAt.Add(listLag))
}

// allSettled reports whether every account of the cloud-config is settled.
func (l *Ledger) allSettled() bool {
	for key := range l.accounts {
		if l.configured(key) && !l.settled(key) {
			return false
		}
	}
	return true
}
