package ledger

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// View is how one Service stands.
type View struct {
	// Wants is false when the Service is on the release path, or unknown.
	Wants bool
	// Holds: the Service holds something, if only on the way back to its pool.
	Holds bool
	// Addresses that the Service shall have, in the order of publication.
	Addresses []AddressView
	// Ports at an external load balancer that the Service shall have instead, in the order of its own ports, and the host
	// that they are on: a name, or an address and then HostAddr too.
	Ports    []PortView
	Host     string
	HostAddr netip.Addr
	// Ready: every address answers, or was published before; what is in the status is not withdrawn because a
	// node is in trouble.
	Ready bool
	// Published: exactly these addresses stand in the Service's status, as far as we have written it.
	Published bool
	// Refusal says what is asked for and not done.
	Refusal *lb.Refusal
	// Waiting says what an address waits for, or what is wrong with its node.
	Waiting *lb.Refusal
}

// AddressView is how one address of a Service stands.
type AddressView struct {
	lb.Lease
	// Node that carries the address or is about to; empty when there is none.
	Node  string
	Bound bool
}

// View returns how a Service stands.
func (l *Ledger) View(uid string) View {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[uid]
	if s == nil {
		return View{}
	}
	var ails *lb.Refusal // what somebody has to look after
	v := View{Wants: s.wants, Refusal: s.refusal, Ready: len(s.want)+len(s.ports) > 0, Holds: l.holds(uid)}
	for _, lease := range s.want {
		a := l.addresses[lease.Addr]
		v.Addresses = append(v.Addresses, AddressView{lease, a.outcome.Holder, a.outcome.Bound})
		if !a.outcome.Bound {
			v.Ready = v.Ready && slices.Contains(s.published, lease.Addr)
			if v.Waiting == nil {
				v.Waiting = a.outcome.Waiting
			}
		} else {
			if !slices.Contains(s.published, lease.Addr) && !a.namedFor(uid) {
				v.Ready = false
				v.Waiting = cmp.Or(v.Waiting, lb.Refuse(lb.ReasonWaitingForAPI, "waiting for the API server to take the decision "+
					"for node %s", a.outcome.Holder))
			}
			ails = cmp.Or(ails, l.ailing(a))
			v.Refusal = cmp.Or(v.Refusal, a.misplaced())
		}
	}
	if s.request.FamilyPolicy == lb.RequireDualStack && len(s.ports) == 0 && len(s.want) < len(s.request.Families) && len(s.published) == 0 {
		v.Ready = false // half of what is required is not published
	}
	for _, family := range s.request.Families {
		if len(l.accounts) > 0 && l.missing(s, family).IsValid() {
			v.Ready = false // what is published is not withdrawn: it may still be found
		}
	}
	for _, family := range families {
		why := l.ordering(uid, family)
		if why == nil || !s.wants {
			continue
		}
		if !slices.ContainsFunc(s.want, func(lease lb.Lease) bool { return lb.FamilyOf(lease.Addr) == family }) {
			// With one family preferred and not required, the other is not held up by trouble.
			v.Ready = v.Ready && why.Reason != lb.ReasonWaitingForPurchase && s.request.FamilyPolicy == lb.PreferDualStack
		}
		switch {
		case !v.Ready && v.Waiting == nil:
			v.Waiting = why
		case v.Ready && v.Refusal == nil:
			v.Refusal = why
		}
	}
	if v.Refusal != nil && passing[v.Refusal.Reason] && len(s.want)+len(s.ports) == 0 {
		v.Waiting, v.Refusal = v.Refusal, nil
	}
	// A Service may be refused something for good, and is not to hide behind that when an address is in danger.
	v.Refusal = cmp.Or(ails, v.Refusal)
	v.Published = len(s.published) == len(s.want) && v.Ready
	for _, lease := range s.want {
		v.Published = v.Published && slices.Contains(s.published, lease.Addr)
	}
	l.viewPorts(s, &v)
	if !s.wants {
		v.Waiting = l.releasing(uid)
	}
	return v
}

// ailing says what is wrong with an address that is bound and does not pass before somebody has looked after the host or
// the network; nil when nothing is.
func (l *Ledger) ailing(a *address) *lb.Refusal {
	if no := a.misplaced(); no != nil && no.Reason == lb.ReasonAgentAbsent {
		return no
	}
	if by := l.contestedBy(a); by != "" {
		return lb.Refuse(lb.ReasonContested, "%s is on node %s, and another machine answers for it too: find the one with "+
			"hardware address %s and take the address from it", a.addr, a.outcome.Holder, by)
	}
	return nil
}

// misplaced says why a bound address should be elsewhere and is not; nil when it is where it should be.
func (a *address) misplaced() *lb.Refusal {
	no := a.outcome.Misplaced
	if no == nil {
		return nil
	}
	return lb.Refuse(no.Reason, "%s stays where it is: %s", a.addr, no.Message)
}

// passing are refusals that end by themselves.
var passing = map[lb.Reason]bool{lb.ReasonAccountUnavailable: true, lb.ReasonWaitingForPurchase: true}

// releasing says what the release of a Service's addresses waits for.
func (l *Ledger) releasing(uid string) *lb.Refusal {
	var messages []string
	for _, lease := range l.allocator.Leases(uid) {
		if a := l.addresses[lease.Addr]; a != nil && a.outcome.Waiting != nil {
			messages = append(messages, lease.Addr.String()+": "+a.outcome.Waiting.Message)
		}
	}
	if l.buying(uid) {
		messages = append(messages, "a purchase is on its way, or no answer of it came")
	}
	messages = append(messages, l.releasingPorts(uid)...)
	if len(messages) == 0 {
		return nil
	}
	return lb.Refuse(lb.ReasonReleasing, "%s", strings.Join(messages, "; "))
}

// Holds reports whether a Service holds anything, if only on the way back to its pool.
func (l *Ledger) Holds(uid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds(uid)
}

func (l *Ledger) holds(uid string) bool {
	return len(l.allocator.Leases(uid)) > 0 || len(l.allocator.Ports(uid)) > 0 || l.buying(uid)
}

// Serves reports whether a pool serves Services of a class; the empty one is that of Services without a class.
func (l *Ledger) Serves(class string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pools {
		if p.LoadBalancerClass == class {
			return true
		}
	}
	return false
}

// Keeps reports whether a Service of a class keeps what it holds, whatever the pools serve by now: it was wanted with
// this class, and was not let go of since.
func (l *Ledger) Keeps(uid, class string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[uid]
	return s != nil && s.wants && s.request.Class == class && l.holds(uid)
}

// MayHold reports whether a Service that holds nothing that is known of may have something at the cloud, bought by an
// earlier controller: an account was not read to the end yet. One that turned out to be somebody else's, which may
// last, holds up those Services alone that buy there.
func (l *Ledger) MayHold(uid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, s := l.known[uid], l.services[uid]
	request, unsure := k.Request, k.unsure
	if s != nil {
		request, unsure = s.request, unsure || s.unsure
	}
	if !unsure {
		return false
	}
	for key, a := range l.accounts {
		foreign := a.closed != nil && a.closed.Reason == lb.ReasonAccountMismatch
		if l.configured(key) && !l.settled(key) && (!foreign || l.mayBuyIn(key, request)) {
			return true
		}
	}
	return false
}

// mayBuyIn reports whether what is bought for a Service is bought in an account: in that of the pool that it names, else
// in those of pools that serve who names none. Where a pool is that is not configured any more, nobody knows.
func (l *Ledger) mayBuyIn(key string, request lb.Request) bool {
	if request.Pool != "" && l.pools[request.Pool] == nil {
		return true
	}
	for name, p := range l.pools {
		if _, buys := l.buys(name); buys && l.rental.Accounts[name] == key &&
			(request.Pool == name || request.Pool == "" && p.AutoAssign) {
			return true
		}
	}
	return false
}

// UIDs returns the Services that are known under a namespaced name, sorted: a Service and its predecessors that
// still hold something.
func (l *Ledger) UIDs(k Key) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var uids []string
	for uid := range l.byKey[k] {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	return uids
}

// InPool reports whether an address lies in a configured pool.
func (l *Ledger) InPool(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.allocator.PoolOf(addr)
	return ok
}

// HasHost reports whether a port of a host belongs to a configured pool.
func (l *Ledger) HasHost(host string, port int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.allocator.PoolOfHost(host, uint16(port))
	return ok
}

// Stats are counts for metrics.
type Stats struct {
	Pools []lb.Usage
	Ports []lb.PortUsage
	// Unserved Services are refused something.
	Unserved int
	// Unbound addresses are wanted and not bound.
	Unbound int
	// Outside are leases whose pool is missing or does not contain them any more.
	Outside  []lb.Lease
	Accounts []AccountStats
	Nodes    []NodeStats
}

// AccountStats is how one account stands.
type AccountStats struct {
	Key string
	// Open: it was read and is the cluster's.
	Open bool
	// Orphans were bought for Services that exist no more.
	Orphans int
}

// NodeStats is how one Node stands.
type NodeStats struct {
	Name string
	// Addresses that it is told to hold, to yield or to release.
	Addresses map[place.State]int
	// Works: its agent has reported, can do its work, and does what it is told.
	Works bool
	// Probed: the health port of its agent has answered once, so that its silence means something.
	Probed bool
	// Silent: the probe takes it for lost; or it judges nothing because the kubelet is silent, too.
	Silent bool
}

// Stats returns counts for metrics.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	unbound := 0
	for addr := range l.stuck {
		if !l.addresses[addr].outcome.Bound {
			unbound++
		}
	}
	s := Stats{Pools: l.allocator.Usage(), Ports: l.allocator.PortUsage(), Unserved: len(l.unserved), Unbound: unbound, Outside: l.allocator.Outside()}
	for _, key := range slices.Sorted(maps.Keys(l.accounts)) {
		a := l.accounts[key]
		s.Accounts = append(s.Accounts, AccountStats{Key: key, Open: a.closed == nil, Orphans: a.orphaned(l.resyncInterval)})
	}
	for _, c := range l.candidates {
		n, told := l.nodes[c.Name], map[place.State]int{}
		for _, e := range n.book {
			told[e.state]++
		}
		s.Nodes = append(s.Nodes, NodeStats{
			Name: c.Name, Addresses: told, Probed: n.probed(),
			Silent: c.Pulse == lb.PulseLost || c.Pulse == lb.PulseNone && n.probed() && c.Node.Ready == lb.Unknown,
			Works:  c.Agent.Present && c.Agent.Ready && c.Overdue.IsZero() && c.Pulse != lb.PulseRefusing && c.Pulse != lb.PulseLost,
		})
	}
	return s
}

// Epoch is the term in which this ledger writes.
func (l *Ledger) Epoch() int64 { return l.epoch }

// NodeNames returns the names of all nodes that are known, sorted: those that exist, and those that are gone and
// whose NodeAddresses is not.
func (l *Ledger) NodeNames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.nodes))
}
