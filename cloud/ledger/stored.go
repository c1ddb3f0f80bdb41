package ledger

// This file is about what the objects in the API server say, or may say: at any moment at most one of them says Hold
// of an address, whichever writes arrive, and in whichever order; and who has an address stands there before it is
// published.

import (
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// storedElsewhere reports whether the object of another node says Hold of an address, or may.
func (l *Ledger) storedElsewhere(addr netip.Addr, n *node) bool {
	return slices.ContainsFunc(l.stored[addr], func(m *node) bool { return m != n })
}

// store notes that a node's object says Hold of the entries that do, or may say so soon.
func (l *Ledger) store(n *node, entries []EntryView) {
	for _, v := range entries {
		if v.State != place.Hold || n.holds[v.Addr] {
			continue
		}
		if n.holds == nil {
			n.holds = map[netip.Addr]bool{}
		}
		n.holds[v.Addr] = true
		l.stored[v.Addr] = append(l.stored[v.Addr], n)
	}
}

// intend notes what is about to be written. Whether it was is known when it is committed; until then the object may say
// what it said before, too.
func (l *Ledger) intend(n *node, v NodeView) {
	n.offered, n.offeredSeq = v.Entries, v.Seq
	l.store(n, v.Entries)
}

// wrote notes that the object says what was offered at seq, and nothing else. When something else was offered since, that
// is about to be written too, and tells.
func (l *Ledger) wrote(n *node, seq uint64, now time.Time) {
	if n.offered == nil || n.offeredSeq != seq {
		return
	}
	gone := map[netip.Addr]bool{}
	for addr := range n.holds {
		gone[addr] = true
	}
	for _, v := range n.offered {
		if v.State == place.Hold {
			delete(gone, v.Addr)
		}
		if e := n.book[v.Addr]; e != nil {
			e.stored = v.State
			l.name(e, v.Services)
		}
	}
	n.offered = nil
	l.unstore(n, gone, now)
}

// name notes which Services the object names at an entry. One that joins those that have the address waited for that.
func (l *Ledger) name(e *entry, services []lb.Ref) {
	if slices.Equal(e.named, services) {
		return
	}
	for _, ref := range services {
		if e.outcome.Bound && !slices.Contains(e.named, ref) {
			l.wake(ref)
		}
	}
	e.named = services
}

// namedFor reports whether an object names the Service at the address, where objects say anything of that. What is
// published before could be taken away: a controller that starts, or leads already, knows those who hold an address by
// the objects, and whoever is deposed may still write a status, but no object.
func (a *address) namedFor(uid string) bool {
	for _, e := range a.entries {
		if slices.ContainsFunc(e.named, func(ref lb.Ref) bool { return ref.UID == uid }) {
			return true
		}
	}
	return len(a.entries) == 0
}

// vanished notes that the node has no object.
func (l *Ledger) vanished(n *node, now time.Time) {
	gone := map[netip.Addr]bool{}
	for addr := range n.holds {
		gone[addr] = true
	}
	for _, e := range n.book {
		e.stored, e.named = "", nil
	}
	n.offered = nil
	l.unstore(n, gone, now)
}

// unstore notes that a node's object does not say Hold of the addresses any more: whoever waited for that may be written.
func (l *Ledger) unstore(n *node, addrs map[netip.Addr]bool, now time.Time) {
	for addr := range addrs {
		delete(n.holds, addr)
		rest := slices.DeleteFunc(l.stored[addr], func(m *node) bool { return m == n })
		if len(rest) == 0 {
			delete(l.stored, addr)
		} else {
			l.stored[addr] = rest
		}
		a := l.addresses[addr]
		if a == nil {
			continue
		}
		for name, e := range a.entries {
			m := l.nodes[name]
			if !e.blocked || l.storedElsewhere(addr, m) {
				continue
			}
			e.blocked, e.since = false, now
			m.put(e)
			l.dirty(m)
			if e.hard {
				l.urgent(m)
			}
		}
	}
}
