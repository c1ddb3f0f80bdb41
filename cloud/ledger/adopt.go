package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// Snapshot is the cluster as live reads found it.
type Snapshot struct {
	Services []ServiceSnapshot
	Nodes    []lb.Node
	Objects  []ObjectSnapshot
}

// ServiceSnapshot is a Service and the addresses in its status.
type ServiceSnapshot struct {
	lb.Request
	// Wants is false for a Service that is not a load balancer of ours or is being deleted.
	Wants     bool
	Published []netip.Addr
	// PublishedPorts stand in its status as ports of a host.
	PublishedPorts []PublishedPort
	// Managed: it carries our condition, so what is published we may have published.
	Managed bool
	// Pending: it was a load balancer, and its cleanup was not confirmed.
	Pending bool
}

// PublishedPort is a port in the status of a Service, on a host that is an address or a name.
type PublishedPort struct {
	Host string
	Port uint16
	// Service port that it belongs to.
	Service lb.Port
}

// ObjectSnapshot is one NodeAddresses.
type ObjectSnapshot struct {
	Node string
	Object
	// ServerID of the node at the cloud, as it was found; 0: it was not.
	ServerID int64
	// Probed: the health port of the node's agent has answered once.
	Probed bool
	// Former: it is that of a Node that was deleted, whether there is one of that name again or not.
	Former  bool
	Entries []EntryView
	Report  Report
}

// Adopt takes over what the cluster says, before anything is handed out: first what NodeAddresses say, which only
// the controller writes, then what only a Service's status says, which many may write and which therefore counts
// only where the Service may use the pool. Of two claimants the older Service wins.
//
// It returns, for the log, what was claimed and not adopted.
func (l *Ledger) Adopt(s Snapshot, now time.Time) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.adopting = true
	l.adoptedAt = now
	var notes []string
	for _, v := range s.Nodes {
		n := l.node(v.Name)
		n.Node = v
		n.since = now
		if place.Unheard(v) != "" {
			n.UnknownSince = now
		}
		if place.Unheard(v) == "" && place.NotReady(v) != "" {
			n.NotReadySince = now
		}
		l.candidates = append(l.candidates, n.Candidate)
	}
	slices.SortFunc(l.candidates, func(a, b *place.Candidate) int { return cmp.Compare(a.Name, b.Name) })

	claims := map[string][]claim{} // by UID of the Service
	ghosts := map[string]lb.Ref{}
	for _, o := range s.Objects {
		l.adoptObject(o, now)
		for _, e := range o.Entries {
			for _, ref := range e.Services {
				claims[ref.UID] = append(claims[ref.UID], claim{lb.Lease{Addr: e.Addr, Pool: e.Pool}, e.State})
				ghosts[ref.UID] = ref
			}
		}
	}

	services := slices.Clone(s.Services)
	slices.SortFunc(services, func(a, b ServiceSnapshot) int { return byAge(a.Request, b.Request) })
	for _, v := range services {
		l.allocator.SetExposed(v.Ref, v.ExternalIPs)
		delete(ghosts, v.UID)
		notes = append(notes, l.adoptClaims(v, false, claims[v.UID], now)...)
	}
	for _, uid := range slices.Sorted(maps.Keys(ghosts)) {
		ghost := ServiceSnapshot{Request: lb.Request{Ref: ghosts[uid]}}
		notes = append(notes, l.adoptClaims(ghost, true, claims[uid], now)...)
	}
	for _, v := range services {
		if v.Wants {
			notes = append(notes, l.adoptStatus(v)...)
		}
		if v.Wants || v.Pending {
			notes = append(notes, l.adoptPorts(v, now)...)
		}
	}
	if len(l.accounts) > 0 {
		for _, v := range services {
			s := l.services[v.UID]
			switch {
			case s != nil:
				// What it holds it holds, if only on the way back to its pool.
				s.unsure = len(l.allocator.Leases(v.UID)) < len(v.Families)
			case v.Wants || v.Pending:
				l.known[v.UID] = knownService{v, now, true}
			}
		}
	}
	l.adopting = false
	l.settleAdopted(now)
	for _, o := range s.Objects {
		l.correct(o, now)
	}
	return notes
}

// correct has an object written again whose entries say other than what holds now: the pool says otherwise since, or
// a claim was not adopted.
func (l *Ledger) correct(o ObjectSnapshot, now time.Time) {
	n := l.nodes[o.Node]
	for _, v := range o.Entries {
		e := n.book[v.Addr]
		switch {
		case e == nil:
		case e.iface != v.Interface || e.uplink != v.Uplink || e.unguarded != v.Unguarded || e.unwatched != v.Unwatched:
			n.put(e)
			e.since = now
			l.dirty(n)
		case e.pool != v.Pool || !slices.Equal(e.written(), v.Services) || e.floatingIP() != v.FloatingIP:
			l.dirty(n)
		}
	}
}

type claim struct {
	lb.Lease
	state place.State
}

func (l *Ledger) adoptObject(o ObjectSnapshot, now time.Time) {
	n := l.node(o.Node)
	if n.Name == "" {
		n.goneSince = now
	}
	n.object = o.Object
	switch {
	case !o.Former:
		n.foundID = o.ServerID
		if o.Probed {
			n.JudgedBy = now.Add(l.firstPulse)
		}
	case o.ServerID != 0:
		l.former[o.ServerID] = true // and the Node of that name may run on another
	}
	n.seq, n.written = 1, 1
	n.commits = []commit{{1, o.Generation, now}}
	for _, v := range o.Entries {
		a := l.addresses[v.Addr]
		if a == nil {
			a = l.address(lb.Lease{Addr: v.Addr, Pool: v.Pool})
			if l.pools[v.Pool] == nil {
				a.iface, a.uplink, a.unguarded, a.unwatched = v.Interface, v.Uplink, v.Unguarded, v.Unwatched
			}
			if p := l.pools[v.Pool]; (v.FloatingIP != 0 || v.Account != "") && (p == nil || p.Hetzner != nil) {
				a.rent(v.Account, v.FloatingIP)
			}
		}
		e := &entry{address: a, state: v.State, predecessor: v.Predecessor, term: v.Term, since: now, seq: 1, stored: v.State, named: v.Services}
		a.entries[o.Node] = e
		n.book[v.Addr] = e
		n.open[v.Addr] = true
		n.Addresses = len(n.book)
	}
	l.store(n, o.Entries)
	l.report(n, o.Report, now)
	if o.Probed && !o.Former {
		n.probedPort = n.HealthPort
	}
}

// adoptClaims adopts what NodeAddresses say that a Service holds: what is published first, then what is held
// before what is on its way out, so that after a half-done move the Service keeps the address it is known by.
func (l *Ledger) adoptClaims(v ServiceSnapshot, ghost bool, claims []claim, now time.Time) (notes []string) {
	if len(claims) == 0 {
		return nil
	}
	published := func(c claim) int {
		if slices.Contains(v.Published, c.Addr) {
			return 0
		}
		return 1
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(published(a), published(b)), cmp.Compare(a.state, b.state), a.Addr.Compare(b.Addr))
	})
	s := l.newService(v.Request)
	s.wants = v.Wants
	s.ghost = ghost
	if v.Wants && v.Managed {
		s.shown = v.Published
	}
	for _, c := range claims {
		a := l.addresses[c.Addr]
		if _, ok := a.refs[v.UID]; ok {
			continue
		}
		if refusal := l.allocator.Adopt(v.Request, c.Lease); refusal != nil {
			notes = append(notes, fmt.Sprintf("%s of %s: %s", c.Lease, v.Ref, refusal))
			continue
		}
		a.refs[v.UID] = v.Ref
		l.letGo(a) // of whoever shared it and wants it no more
		if v.Wants {
			l.hold(s, c.Lease, v)
		}
	}
	if !v.Wants {
		l.unwant(s, now)
	}
	return notes
}

func (l *Ledger) hold(s *service, lease lb.Lease, v ServiceSnapshot) {
	s.want = append(s.want, lease)
	if slices.Contains(v.Published, lease.Addr) {
		s.published = append(s.published, lease.Addr)
	}
}

// adoptStatus adopts what only the status says.
func (l *Ledger) adoptStatus(v ServiceSnapshot) (notes []string) {
	for _, addr := range v.Published {
		if a := l.addresses[addr]; a != nil {
			if _, ok := a.refs[v.UID]; ok {
				continue
			}
		}
		name, refusal := l.allocator.Allowed(v.Request, addr)
		if refusal == nil {
			refusal = l.allocator.Adopt(v.Request, lb.Lease{Addr: addr, Pool: name})
		}
		if refusal != nil {
			notes = append(notes, fmt.Sprintf("%s in the status of %s: %s", addr, v.Ref, refusal))
			continue
		}
		s := l.services[v.UID]
		if s == nil {
			s = l.newService(v.Request)
			s.wants = true
			if v.Managed {
				s.shown = v.Published
			}
		}
		lease := lb.Lease{Addr: addr, Pool: name}
		a := l.address(lease)
		a.refs[v.UID] = v.Ref
		l.letGo(a)
		l.hold(s, lease, v)
	}
	return notes
}

// settleAdopted looks at every address once everything is known: the unclaimed are quarantined until the nodes
// that may still answer for them have let go.
func (l *Ledger) settleAdopted(now time.Time) {
	all := make(map[netip.Addr]bool, len(l.addresses))
	for addr, a := range l.addresses {
		all[addr] = true
		if name, ok := l.allocator.PoolOf(addr); ok {
			l.setPool(a, name)
		}
		if len(a.refs) == 0 && a.last.UID == "" {
			a.quarantined = true
			a.unwantedSince = now.Add(-place.ReleaseTimeout)
			l.allocator.Quarantine(addr)
		}
	}
	l.evaluateAll(all, now)
	for _, s := range l.services {
		l.wake(s.request.Ref)
	}
}

func contains(cfg *config.Config, addr netip.Addr) bool {
	return slices.ContainsFunc(cfg.Pools, func(p config.Pool) bool { return p.Addresses != nil && p.Addresses.Contains(addr) })
}

// SetConfig takes over a changed cloud-config. It is refused while it lacks a pool that is in use: nothing changes
// then.
func (l *Ledger) SetConfig(cfg *config.Config, rental Rental, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	pools := poolsByName(cfg)
	missing := map[string][]netip.Addr{}
	for addr, a := range l.addresses {
		if pools[a.pool] == nil && l.pools[a.pool] != nil && len(a.refs) > 0 && !contains(cfg, addr) {
			missing[a.pool] = append(missing[a.pool], addr)
		}
	}
	if err := l.portsMissing(cfg); err != nil {
		return err
	}
	if len(missing) > 0 {
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(missing)) {
			first := slices.MinFunc(missing[name], netip.Addr.Compare)
			lines = append(lines, fmt.Sprintf("pool %q is in use by %d addresses (%s of Service %s, ...) and cannot be removed: "+
				"put it back, or delete these Services first", name, len(missing[name]), first, l.addresses[first].services()[0]))
		}
		return fmt.Errorf("%s", strings.Join(lines, "; "))
	}
	l.pools, l.poolsAt = pools, now
	l.evacuate = cfg.Failover.EvacuateCordoned
	l.resyncInterval = cfg.ResyncInterval
	ports := l.portsBefore()
	l.allocator.SetPools(cfg.Pools)
	l.setRental(rental)
	l.followPools(ports)
	all := make(map[netip.Addr]bool, len(l.addresses))
	for addr, a := range l.addresses {
		all[addr] = true
		name, ok := l.allocator.PoolOf(addr)
		if !ok {
			name = a.pool
		}
		l.follow(a, name, now)
	}
	l.evaluateAll(all, now)
	l.retargetAll()
	for _, key := range slices.Sorted(maps.Keys(l.accounts)) {
		if acct := l.accounts[key]; acct.closed == nil {
			for _, r := range l.ofAccount(key) {
				l.claim(r, now)
			}
			l.judgeListed(acct)
		}
	}
	// Before the others ask in whatever order: the room that was made is for those who have waited longest.
	l.serveWaiting(netip.Addr{}, now)
	for _, s := range l.services {
		l.wake(s.request.Ref)
	}
	return nil
}
