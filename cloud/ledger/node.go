package ledger

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// node is one Node, what its NodeAddresses shall say, and how far its agent is.
type node struct {
	*place.Candidate // Candidate.Name is empty while there is no such Node
	name             string
	goneSince        time.Time
	// since is when the Node, or what may tell its server, came.
	since time.Time
	// foundID is the server that the Node was found to be; 0: none was found.
	foundID int64

	book map[netip.Addr]*entry
	// seq counts the changes of the book. A write carries the book as it was at one seq, and becomes one
	// generation of the object; the agent acknowledges generations.
	seq     uint64
	written uint64
	acked   uint64
	commits []commit
	object  Object
	// offered is what the last view said that was to be written; holds are the addresses that the object holds, or may.
	offered    []EntryView
	offeredSeq uint64
	holds      map[netip.Addr]bool
	// open are entries that the agent has not done yet.
	open   map[netip.Addr]bool
	failed map[netip.Addr]string
	// inUse are the hardware addresses of other machines that answer for addresses, as the agent found them, where it
	// did not bind the address because of that; contested where it did, and defends it.
	inUse, contested map[netip.Addr]string
	// probedPort is the health port of the agent that has answered once; 0: none has.
	probedPort uint16
	// lostAt is when the probe gave the node up, until the agent shows that it was wrong, or it is too late for that.
	lostAt time.Time
}

type commit struct {
	seq        uint64
	generation int64
	at         time.Time
}

// entry is what a node's NodeAddresses says about an address.
type entry struct {
	*address
	state       place.State
	predecessor string
	term        int64
	since       time.Time
	// seq of the book at which the agent's duty changed last.
	seq uint64
	// stored is the state that the object says; empty while it says nothing of the address.
	stored place.State
	// blocked: the object of another node still says Hold, so this one must not yet. hard: it is part of a hard move.
	blocked, hard bool
}

// Object identifies one version of a NodeAddresses' spec.
type Object struct {
	UID        string
	Generation int64
}

// Report is the status of a NodeAddresses.
type Report struct {
	// Object that the report is about; Generation is the observed one.
	Object
	// Pending and Failed addresses are not done; Failed says why.
	Pending map[netip.Addr]bool
	Failed  map[netip.Addr]string
	Ready   bool
	Message string
	Subnets []lb.Subnet
	// Addresses of the host.
	Addresses []netip.Addr
	// HardwareAddresses of the host, the id of its kernel's boot, and the port that its agent listens on.
	HardwareAddresses []string
	BootID            string
	HealthPort        uint16
	// InUse are the hardware addresses of other machines that answer for Failed addresses; Contested those of others
	// that answer for addresses that are held.
	InUse, Contested map[netip.Addr]string
}

func (l *Ledger) node(name string) *node {
	n := l.nodes[name]
	if n == nil {
		n = &node{name: name, Candidate: &place.Candidate{}, book: map[netip.Addr]*entry{}, open: map[netip.Addr]bool{}}
		l.nodes[name] = n
	}
	return n
}

// put records that the agent's duty towards an entry changed.
func (n *node) put(e *entry) {
	n.book[e.addr] = e
	n.open[e.addr] = true
	e.seq = n.seq + 1
	n.Addresses = len(n.book)
}

func (n *node) remove(addr netip.Addr) {
	delete(n.book, addr)
	delete(n.open, addr)
	delete(n.failed, addr)
	delete(n.inUse, addr)
	delete(n.contested, addr)
	n.Addresses = len(n.book)
}

func (n *node) acknowledged(addr netip.Addr, e *entry) bool {
	return !n.open[addr] && e.seq <= n.acked && !e.blocked
}

// probed reports whether the port that the agent listens on now has answered once.
func (n *node) probed() bool { return n.probedPort != 0 && n.probedPort == n.HealthPort }

// failedReason says why the agent could not do what the entry says; empty when it did not say so, or said it of
// an older state of the entry.
func (n *node) failedReason(addr netip.Addr, e *entry) string {
	if e.seq > n.acked {
		return ""
	}
	return n.failed[addr]
}

// SetNode says that a Node exists and how it stands.
func (l *Ledger) SetNode(v lb.Node, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node(v.Name)
	if reflect.DeepEqual(n.Node, v) {
		return
	}
	if n.Name != "" && n.UID != v.UID {
		// Another Node under the same name, and nobody saw the first one go.
		l.removeNode(n, now)
	}
	if n.Name == "" {
		i, _ := slices.BinarySearchFunc(l.candidates, v.Name, func(c *place.Candidate, name string) int {
			return compareStrings(c.Name, name)
		})
		l.candidates = slices.Insert(l.candidates, i, n.Candidate)
		l.subnets = nil
		l.dirty(n)
	}
	if !slices.Equal(n.Node.Addresses, v.Addresses) || n.ProviderID != v.ProviderID || n.since.IsZero() {
		n.since = now
	}
	switch unheard := place.Unheard(v) != ""; {
	case !unheard && !n.UnknownSince.IsZero():
		n.UnknownSince = time.Time{}
		l.awaitOthers(now)
	case unheard && n.UnknownSince.IsZero():
		n.UnknownSince = now
	}
	n.Node = v
	n.goneSince = time.Time{}
	l.seekServer(n, now)
	l.nodeChanged(n, now)
}

// awaitOthers gives the nodes that are not heard yet the time to be heard again, too: what ends for one may end for all,
// and the first to come back would get what all of them carry.
func (l *Ledger) awaitOthers(now time.Time) {
	least := now.Add(place.ReturnGrace - place.UnknownGrace)
	for _, c := range l.candidates {
		if !c.UnknownSince.IsZero() && c.UnknownSince.Before(least) {
			c.UnknownSince = least
		}
	}
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// RemoveNode says that a Node is deleted.
func (l *Ledger) RemoveNode(name string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[name]; n != nil && n.Name != "" {
		l.removeNode(n, now)
	}
}

func (l *Ledger) removeNode(n *node, now time.Time) {
	l.candidates = slices.DeleteFunc(l.candidates, func(c *place.Candidate) bool { return c == n.Candidate })
	l.subnets = nil
	if n.Server != 0 {
		l.former[n.Server] = true
	}
	n.foundID, n.since = 0, time.Time{}
	n.Candidate = &place.Candidate{Agent: n.Agent, Addresses: n.Addresses}
	n.goneSince, n.probedPort, n.lostAt = now, 0, time.Time{}
	l.dirty(n)
	l.nodeChanged(n, now)
}

// seekServer looks for the server of a Node that is new or shows more of itself, and has the accounts read again when
// none of the servers that they showed is it.
func (l *Ledger) seekServer(n *node, now time.Time) {
	if l.findServer(n, false) {
		l.dirty(n)
		for _, key := range n.Accounts {
			if l.accounts[key].closed != nil {
				l.effects.read(key) // this Node may be the first that proves it
			}
		}
	}
	if n.Server != 0 || n.Name == "" || !n.since.Equal(now) {
		return
	}
	for key := range l.accounts {
		l.effects.read(key)
	}
}

// nodeChanged looks again at everything that the node carries, and at everything that waits for a node like it.
func (l *Ledger) nodeChanged(n *node, now time.Time) {
	addrs := map[netip.Addr]bool{}
	for addr := range n.book {
		addrs[addr] = true
	}
	l.addStuck(addrs, n, now)
	l.evaluateAll(addrs, now)
	l.retargetAll()
}

// addStuck adds the waiting addresses that a node may carry now. The others need not be looked at: nothing has changed
// for them but the counts in their reason. What is to be bought is looked at by whoever buys.
func (l *Ledger) addStuck(addrs map[netip.Addr]bool, n *node, now time.Time) {
	if n.Name == "" {
		return
	}
	for _, o := range l.orders {
		if o.waiting != nil {
			l.effects.account(o.account)
		}
	}
	for addr := range l.stuck {
		if a := l.addresses[addr]; !addrs[addr] && place.Ineligible(l.demand(a, now), n.Candidate) == "" {
			addrs[addr] = true
		}
	}
}

// Report takes in what an agent says. A report about an object that is not there any more says nothing.
func (l *Ledger) Report(name string, r Report, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report(l.node(name), r, now)
}

func (l *Ledger) report(n *node, r Report, now time.Time) {
	before := n.Agent
	if n.object.UID == "" || r.UID != n.object.UID {
		n.Agent.Present = false
		return
	}
	n.Agent.Present, n.Agent.Ready, n.Agent.Message = true, r.Ready, r.Message
	if !slices.Equal(n.Subnets, r.Subnets) {
		n.Subnets, l.subnets = r.Subnets, nil
	}
	n.HardwareAddresses, n.Agent.BootID = r.HardwareAddresses, r.BootID
	if probed := n.probed(); n.HealthPort != r.HealthPort {
		if n.HealthPort = r.HealthPort; probed != n.probed() {
			l.dirty(n)
		}
	}
	if !slices.Equal(n.Agent.Addresses, r.Addresses) {
		n.Agent.Addresses = r.Addresses
		n.since = now
		l.seekServer(n, now)
	}

	again := maps.Clone(n.open)
	for addr := range n.failed {
		again[addr] = true
	}
	for len(n.commits) > 0 && n.commits[0].generation <= r.Generation {
		l.notLost(n, n.commits[0], now)
		n.acked = max(n.acked, n.commits[0].seq)
		n.commits = n.commits[1:]
	}
	n.setOverdue(now)
	n.failed, n.inUse = r.Failed, r.InUse
	l.contest(n, r.Contested)
	for addr, e := range n.book {
		_, failed := r.Failed[addr]
		if failed || r.Pending[addr] || e.seq > n.acked {
			n.open[addr] = true
			again[addr] = true
		} else {
			delete(n.open, addr)
		}
	}
	if before.Present != n.Agent.Present || before.Ready != n.Agent.Ready || before.Overdue.IsZero() != n.Overdue.IsZero() ||
		!slices.Equal(before.Subnets, n.Subnets) {
		l.addStuck(again, n, now)
	}
	if before.BootID != n.Agent.BootID {
		for addr := range n.book {
			again[addr] = true
		}
	}
	l.noticeForeign(n, now)
	l.evaluateAll(again, now)
}

// setOverdue remembers since when the agent owes an acknowledgement for longer than it may take.
func (n *node) setOverdue(now time.Time) {
	n.Overdue = time.Time{}
	if len(n.commits) > 0 && now.Sub(n.commits[0].at) >= place.AckTimeout {
		n.Overdue = n.commits[0].at
	}
}

// Committed says that the node's book, as View returned it at seq, was written and is the given object now.
func (l *Ledger) Committed(name string, seq uint64, o Object, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node(name)
	if n.object.UID != "" && n.object.UID != o.UID {
		l.reset(n, o, now)
	}
	n.object = o
	l.wrote(n, seq, now)
	for addr := range n.open {
		if e := n.book[addr]; e.seq > n.written && e.seq <= seq {
			e.since = now // the agent's time starts when it can know
			l.timers.set(addr, now.Add(place.AckTimeout))
		}
	}
	n.written = max(n.written, seq)
	if len(n.commits) == maxCommits {
		// A dead agent acknowledges nothing: what it owes longest and newest is all that matters.
		n.commits = n.commits[:maxCommits-1]
	}
	n.commits = append(n.commits, commit{seq, o.Generation, now})
}

// maxCommits that are remembered for an agent that does not acknowledge. An agent that works is a few behind.
const maxCommits = 64

// Reset says that a node's NodeAddresses is not what was written last: somebody else wrote it, or it is another
// object, or (with a zero Object) there is none. Whatever the agent acknowledged before counts no more, and the
// book has to be written again.
func (l *Ledger) Reset(name string, o Object, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node(name)
	l.reset(n, o, now)
	l.dirty(n)
}

func (l *Ledger) reset(n *node, o Object, now time.Time) {
	n.object = o
	if o.UID == "" {
		l.vanished(n, now)
	}
	n.commits = nil
	n.acked = 0
	n.Agent.Present = false
	addrs := make(map[netip.Addr]bool, len(n.book))
	for addr, e := range n.book {
		e.since = now
		n.open[addr] = true
		addrs[addr] = true
	}
	l.evaluateAll(addrs, now)
}

// NodeView is what a node's NodeAddresses shall say.
type NodeView struct {
	// Node is the zero value while there is no such Node.
	lb.Node
	// GoneSince is when the Node was deleted; zero while it exists.
	GoneSince time.Time
	// Object as it was written last.
	Object Object
	Seq    uint64
	// ServerID of the node at the cloud; 0: it has none that is known.
	ServerID int64
	// Probed: the health port of the node's agent has answered once.
	Probed bool
	// Dirty: the object does not say this yet.
	Dirty bool
	// Acknowledged: the agent has done all that the object says.
	Acknowledged bool
	Entries      []EntryView
}

// EntryView is one entry of a NodeAddresses.
type EntryView struct {
	Addr        netip.Addr
	Interface   string
	Uplink      string
	Pool        string
	Services    []lb.Ref
	State       place.State
	Predecessor string
	Term        int64
	Unguarded   bool
	Unwatched   bool
	// FloatingIP and Account are set for rented addresses.
	FloatingIP int64
	Account    string
}

// Node returns what a node's NodeAddresses shall say, entries sorted by address.
func (l *Ledger) Node(name string) NodeView {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.node(name)
	v := NodeView{
		Node: n.Node, GoneSince: n.goneSince, Object: n.object, Seq: n.seq, Dirty: n.seq != n.written, ServerID: n.foundID,
		Probed:       n.probed(),
		Acknowledged: n.seq == n.written && len(n.commits) == 0,
		Entries:      make([]EntryView, 0, len(n.book)),
	}
	for _, e := range n.book {
		state := e.state
		if e.blocked {
			if state = e.stored; state == "" {
				continue
			}
		}
		view := EntryView{
			Addr: e.addr, Interface: e.iface, Uplink: e.uplink, Pool: e.pool, Services: e.written(),
			State: state, Predecessor: e.predecessor, Term: e.term, Unguarded: e.unguarded, Unwatched: e.unwatched,
			FloatingIP: e.floatingIP(),
		}
		if e.route != nil {
			view.Account = e.route.account
		}
		v.Entries = append(v.Entries, view)
	}
	slices.SortFunc(v.Entries, func(a, b EntryView) int { return a.Addr.Compare(b.Addr) })
	if v.Dirty {
		l.intend(n, v)
	}
	return v
}

// floatingIP is the id of the rented address; 0 when it is none.
func (a *address) floatingIP() int64 {
	if a.route == nil {
		return 0
	}
	return a.route.id
}

// written are the Services that the entry names: those that hold the address, else the one that held it last, which
// is not done with it before the address is free.
func (e *entry) written() []lb.Ref {
	if len(e.refs) == 0 && e.last.UID != "" {
		return []lb.Ref{e.last}
	}
	return e.services()
}

// Forget removes a node whose Node and NodeAddresses are both gone.
func (l *Ledger) Forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[name]; n != nil && n.Name == "" && len(n.book) == 0 {
		l.unstore(n, maps.Clone(n.holds), time.Time{})
		delete(l.nodes, name)
	}
}
