package ledger

// This file is about what the object of a node shall say.

import (
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

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
