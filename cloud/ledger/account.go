package ledger

// This file is about accounts at the cloud: what each was seen to have, which of its servers are our Nodes, and
// whether anything may be done there.

import (
	"fmt"
	"maps"
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

// listings are the addresses that pools list, in order: what is given free again queues up in it.
func (l *Ledger) listings() []lb.Lease {
	return slices.SortedFunc(maps.Values(l.listed), func(x, y lb.Lease) int { return x.Addr.Compare(y.Addr) })
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

// Proves reports whether a list of servers shows one of our Nodes: then it is that of the right project.
func (l *Ledger) Proves(servers []lb.Server) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proves(servers)
}

func (l *Ledger) proves(servers []lb.Server) bool {
	return slices.ContainsFunc(servers, func(s lb.Server) bool {
		for _, n := range l.nodes {
			if n.Name != "" && l.runsOn(n, &s) {
				return true
			}
		}
		return false
	})
}

// runsOn reports whether a Node is a server: by the id that is known of it, else by name and one address.
func (l *Ledger) runsOn(n *node, s *lb.Server) bool {
	if id := n.serverID(); id != 0 && !n.ServerGone {
		return id == s.ID
	}
	return n.named(s)
}

// serverID is the id of the server that the Node runs on as far as it was ever known: its own, else the one that it
// was found to be; 0 when there is none.
func (n *node) serverID() int64 {
	if id := lb.HetznerID(n.Node.ProviderID); id != 0 {
		return id
	}
	return n.foundID
}

// findServer looks for the Node's server among those that the accounts showed, and reports whether that changed
// anything. proven says that the list that was read last is to be believed in what it lacks.
func (l *Ledger) findServer(n *node, proven bool) bool {
	if n.Name == "" || len(l.accounts) == 0 {
		return false
	}
	was, wasGone, before := n.Server, n.ServerGone, n.Accounts
	id := n.serverID()
	in := l.accountsWith(id)
	if len(in) == 0 && was != 0 && proven {
		n.ServerGone = true
		l.former[was] = true
		if lb.HetznerID(n.Node.ProviderID) == 0 {
			id = 0 // another server may have taken its place
		}
	}
	if id == 0 {
		if id = l.serverNamed(n); id != 0 {
			in = l.accountsWith(id)
		}
	}
	if len(in) > 0 {
		n.Server, n.Accounts, n.ServerGone, n.foundID = id, in, false, id
	}
	return n.Server != was || n.ServerGone != wasGone || !slices.Equal(n.Accounts, before)
}

// accountsWith are the accounts that have a server.
func (l *Ledger) accountsWith(id int64) (keys []string) {
	for key, a := range l.accounts {
		if _, ok := a.servers[id]; ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// serverNamed returns the server that has the Node's name and one of its addresses; 0: there is none, or several. A list
// that is older than the Node may show a server of that name that is gone.
func (l *Ledger) serverNamed(n *node) (found int64) {
	for _, a := range l.accounts {
		if a.serversAt.Before(n.since) {
			continue
		}
		for id := range a.servers {
			if s := a.servers[id]; n.named(&s) {
				if found != 0 && found != id {
					return 0
				}
				found = id
			}
		}
	}
	return found
}

func (n *node) named(s *lb.Server) bool {
	return n.Name == s.Name && (slices.ContainsFunc(n.Node.Addresses, s.Has) || slices.ContainsFunc(n.Agent.Addresses, s.Has))
}

// ourServer reports whether a server is, or was in this term, one of our Nodes.
func (l *Ledger) ourServer(id int64) bool {
	if l.former[id] {
		return true
	}
	for _, n := range l.nodes {
		if n.Server == id {
			return true
		}
	}
	return false
}

// NeedsServers reports whether the list of the account's servers has to be read again: a Node has come that is none of
// them, one of them seems to be gone, or none of them is one of our Nodes.
func (l *Ledger) NeedsServers(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[key]
	if a == nil || a.serversAt.IsZero() || a.doubted || a.closed != nil {
		return true
	}
	for _, n := range l.nodes {
		if n.Name != "" && n.Server == 0 && n.since.After(a.serversAt) {
			return true
		}
	}
	return false
}

// ServerOf returns the server that a Node runs on. It is not known while an account has not been read since the Node
// came: read says whether all were.
func (l *Ledger) ServerOf(name string) (server lb.Server, found, read bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.nodes[name]
	if n == nil {
		return server, false, len(l.accounts) == 0
	}
	read = true
	for _, a := range l.accounts {
		read = read && a.serversAt.After(n.since)
	}
	if len(n.Accounts) > 0 && !n.ServerGone {
		server, found = l.accounts[n.Accounts[0]].servers[n.Server]
	}
	return server, found, read
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
}

// takeServers remembers the servers of an account and which Nodes they are.
func (l *Ledger) takeServers(a *account, inv lb.Inventory) {
	proven := l.proves(inv.Servers)
	a.servers = make(map[int64]lb.Server, len(inv.Servers))
	for _, s := range inv.Servers {
		a.servers[s.ID] = s
	}
	a.serversAt, a.doubted = inv.Began, false
	for _, n := range l.candidateNodes() {
		if l.findServer(n, proven) {
			l.dirty(n)
		}
	}
}

// candidateNodes are the nodes that exist, by name.
func (l *Ledger) candidateNodes() []*node {
	nodes := make([]*node, 0, len(l.candidates))
	for _, c := range l.candidates {
		nodes = append(nodes, l.nodes[c.Name])
	}
	return nodes
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

// judgeListed looks at every address that a pool of this account lists, and withholds what cannot be used.
func (l *Ledger) judgeListed(a *account) {
	for _, listing := range l.listings() {
		if l.rental.Accounts[listing.Pool] == a.key {
			l.allocator.Withhold(listing.Addr, l.unusable(a, prefixOf(listing.Addr), listing))
		}
	}
}

// unusable says why a listed address cannot be given to anybody; nil when it can.
func (l *Ledger) unusable(a *account, prefix netip.Prefix, listing lb.Lease) *lb.Refusal {
	r := l.rented[prefix]
	if r == nil {
		for id := range a.servers {
			s := a.servers[id]
			if s.Has(listing.Addr) {
				return lb.Refuse(lb.ReasonWrongType, "%s of pool %q is the own address of server %s and no Floating IP: take it out of the pool",
					listing.Addr, listing.Pool, s.Name)
			}
		}
		return lb.Refuse(lb.ReasonFloatingIPMissing, "%s of pool %q is no Floating IP of account %s: buy it there, or take it out of the pool",
			listing.Addr, listing.Pool, a.key)
	}
	if other := l.neighbour(prefix, listing.Addr); other != nil {
		return lb.Refuse(lb.ReasonAddressInUse, "%s of pool %q is in one network with %s, which is in use, and %s is routed to one server: list %s, or wait until it is released",
			listing.Addr, listing.Pool, other.addr, prefix, other.addr)
	}
	return l.trouble(r, listing.Pool)
}

// trouble says what keeps a Floating IP of a pool's list from being used; nil when nothing does.
func (l *Ledger) trouble(r *rented, pool string) *lb.Refusal {
	takeover := false
	if p := l.pools[pool]; p != nil && p.Hetzner != nil {
		takeover = p.Hetzner.Takeover
	}
	switch {
	case r.Blocked:
		return lb.Refuse(lb.ReasonFloatingIPBlocked, "Hetzner has blocked Floating IP %d (%s): ask its support", r.ID, r.Prefix)
	case takeover:
		return nil
	case r.Owner.ClusterUID != "" && r.Owner.ClusterUID != l.rental.ClusterUID:
		return lb.Refuse(lb.ReasonHeldElsewhere, "Floating IP %d (%s) was bought by cluster %s for Service %s: release it there, or set takeover: true on pool %q",
			r.ID, r.Prefix, r.Owner.Cluster, r.Owner.Service, pool)
	case r.Server != 0 && !l.ourServer(r.Server):
		return lb.Refuse(lb.ReasonHeldElsewhere, "Floating IP %d (%s) is assigned to server %s, which is no Node of this cluster: unassign it there, or set takeover: true on pool %q",
			r.ID, r.Prefix, l.serverName(r), pool)
	}
	return nil
}

func (l *Ledger) serverName(r *rented) string {
	if s, ok := l.accounts[r.account].servers[r.Server]; ok {
		return s.Name
	}
	return fmt.Sprint(r.Server)
}

// isListed reports whether a pool lists an address, or another one of its network: it is never deleted at the cloud,
// whoever bought it.
func (l *Ledger) isListed(a *address) bool {
	_, ok := l.listed[prefixOf(a.addr)]
	return ok
}
