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
	// named are the Services that the object names.
	named []lb.Ref
	// blocked: the object of another node still says Hold, so this one must not yet. hard: it is part of a hard move.
	blocked, hard bool
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
	switch {
	case place.NotReady(v) == "", place.Unheard(v) != "":
		n.NotReadySince = time.Time{}
	case n.NotReadySince.IsZero():
		n.NotReadySince = now
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

// Forget removes a node whose Node and NodeAddresses are both gone.
func (l *Ledger) Forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[name]; n != nil && n.Name == "" && len(n.book) == 0 {
		l.unstore(n, maps.Clone(n.holds), time.Time{})
		delete(l.nodes, name)
	}
}
