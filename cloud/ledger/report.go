package ledger

// This file is about the objects of nodes: what agents report of them, and what becomes of our writes.

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

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
