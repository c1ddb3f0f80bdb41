// Package conflict decides what an agent does about two machines that answer for one address: whether a new address
// may be bound, whether one that is held is defended or yielded, and when it may come back.
//
// It is told what was heard on the segments and what time it is, and says what to send and what to do. It sends nothing
// itself, asks nobody, reads no clock and starts no goroutine; the same story has the same end. What it costs depends
// on what is heard and what is due, not on how many addresses are watched, except when the addresses themselves change
// or all of them are checked.
//
// The rules:
//
//   - A new address is probed before it is bound. Who answers keeps it until three rounds of probes in a row were
//     silent.
//   - A claim alone proves nothing: it may be late, or from somebody who is wrong. Only a machine that answers a probe
//     is there.
//   - A held address that somebody claimed who is not there is announced once, because neighbours that believed the
//     claim would send there until their entry is gone: when the API server confirms that it belongs here, or, when that
//     cannot be asked, after three silences.
//   - A held address that another machine answers for is defended when the API server, asked after the answer was
//     heard, confirms that it belongs here. When the API server cannot be asked the address is yielded, and comes back
//     after three silences; one that came from another node, also when the API server can be asked again and says so.
//   - After this host was away (its link, its API server, or its own clock stood still) it does not insist: it asks,
//     then probes, and only then are its addresses announced again. When its link only leads elsewhere it was not away:
//     it asks and probes beside its announcements.
//   - A machine that answers for everything proves nothing (proxy ARP, RFC 1027; proxy neighbour discovery, RFC 4861
//     section 7.2.8). Once recognised it is not listened to.
package conflict

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Subject is an address that is to be held, and where.
type Subject struct {
	IP     netip.Addr
	Uplink string
	// Bound says that the address is bound on this host now.
	Bound bool
	// Moved says that the address came from another node, which may still answer for it: it is not probed before it is
	// bound, and that node's answers do not make it a proxy.
	Moved bool
}

// Verdict says what may be done with an address.
type Verdict int

const (
	// Free: it may be bound, and stay bound.
	Free Verdict = iota
	// Tested: not to be bound yet.
	Tested
	// Taken: another machine has it; not to be bound.
	Taken
)

// Kind of a Decision.
type Kind string

// Kinds of decisions. Cleared, Occupied, Yielded and Returned change an address's verdict, ProxyFound may change many.
const (
	Cleared   Kind = "cleared"   // nobody answers for the new address
	Occupied  Kind = "occupied"  // Other answers for the new address
	Doubted   Kind = "doubted"   // Other claims the held address; it is probed
	Stray     Kind = "stray"     // nobody stood behind that claim
	Answered  Kind = "answered"  // Other answers for the held address; the API server is to be asked
	Contested Kind = "contested" // the API server confirmed the address; Other has it, too
	Defend    Kind = "defend"    // announce the address, once
	Denied    Kind = "denied"    // the API server says that the address is not held here any more
	Yielded   Kind = "yielded"   // Other has the held address and the API server cannot be asked
	Returned  Kind = "returned"  // nobody answers any more for the address that was taken, or it was moved here
	Checked   Kind = "checked"   // the check is over; announce the address
	Settled   Kind = "settled"   // nothing was heard of Other for a while
	// ProxyFound and ProxyForgotten are about an uplink and not about one address.
	ProxyFound     Kind = "proxy-found"     // Other answers for whatever is asked for
	ProxyForgotten Kind = "proxy-forgotten" // it does not do so any more, or it holds addresses itself
)

// Decision is something that the caller is to act on, or to tell people of.
type Decision struct {
	Kind   Kind
	IP     netip.Addr
	Uplink string
	// Other is the hardware address of the other machine.
	Other string
}

// Contest is a held address that another machine answers for, too.
type Contest struct {
	IP     netip.Addr
	Uplink string
	Other  string
}

// Probe is a frame to be sent: who has the address?
type Probe struct {
	Uplink string
	IP     netip.Addr
}

// Detector watches the addresses of one host. Its methods are called from one thread.
type Detector struct {
	entries   map[netip.Addr]*entry
	queue     queue                 // of entries whose next round is to begin
	tested    queue                 // of those that are tested whose round is to begin
	rounds    queue                 // of those whose round has begun
	asking    map[netip.Addr]*entry // those that wait for an answer of the API server
	contested map[netip.Addr]*entry
	own       map[string]bool // raw hardware addresses of this host
	segments  map[string]*segment
	decisions []Decision

	started int       // live reads that were begun
	flying  bool      // one is under way
	read    time.Time // when the last one that was answered began
	began   time.Time // when the last one began
	mark    int       // of the last Watch
}

// New returns a detector that watches nothing yet.
func New() *Detector {
	return &Detector{
		entries:   map[netip.Addr]*entry{},
		asking:    map[netip.Addr]*entry{},
		contested: map[netip.Addr]*entry{},
		segments:  map[string]*segment{},
	}
}

// Own replaces the hardware addresses of this host: what they say is no claim.
func (d *Detector) Own(addresses []net.HardwareAddr) {
	d.own = make(map[string]bool, len(addresses))
	for _, a := range addresses {
		d.own[string(a)] = true
	}
}

// Watch replaces what is watched and says whether addresses or uplinks have changed by it. What is bound already or
// came from another node is free; everything else that is new is tested.
func (d *Detector) Watch(now time.Time, subjects []Subject) (changed bool) {
	d.mark++
	for _, s := range subjects {
		e := d.entries[s.IP]
		switch {
		case e == nil:
			e = &entry{Subject: s, at: -1}
			d.entries[s.IP] = e
			changed = true
			d.begin(now, e)
		case e.Uplink != s.Uplink:
			changed = true
			d.rest(e)
			d.settle(e)
			yielded := e.yielded
			*e = entry{Subject: s, at: -1, yielded: yielded}
			d.begin(now, e)
		case s.Moved && !e.Moved && e.verdict != Free:
			// The controller has given it to us from another node since: that node's answers are expected.
			e.Subject = s
			d.rest(e)
			e.verdict = Free
		case s.Bound && e.verdict == Tested:
			e.Subject = s
			d.rest(e)
			e.verdict = Free
		case !e.cleared.IsZero() && !s.Bound && now.Sub(e.cleared) >= clearance:
			e.Subject, e.cleared = s, time.Time{}
			d.begin(now, e)
		}
		e.Subject, e.mark = s, d.mark
		if s.Bound && e.verdict == Free {
			e.yielded, e.cleared = false, time.Time{}
		}
	}
	for ip, e := range d.entries {
		if e.mark != d.mark {
			d.rest(e)
			d.settle(e)
			delete(d.entries, ip)
			changed = true
		}
	}
	return changed
}

func (d *Detector) begin(now time.Time, e *entry) {
	if !e.Bound && !e.Moved {
		e.verdict = Tested
		d.probe(e, now)
	}
}

// Watched returns the addresses that are watched, sorted, by uplink.
func (d *Detector) Watched() map[string][]netip.Addr {
	watched := map[string][]netip.Addr{}
	for ip, e := range d.entries {
		watched[e.Uplink] = append(watched[e.Uplink], ip)
	}
	for _, ips := range watched {
		slices.SortFunc(ips, netip.Addr.Compare)
	}
	return watched
}

// Verdict says what may be done with an address and, when it is taken, who has it. An address that is not watched is
// free.
func (d *Detector) Verdict(ip netip.Addr) (Verdict, string) {
	e := d.entries[ip]
	if e == nil {
		return Free, ""
	}
	return e.verdict, e.other
}

// Returning says that the address was yielded, is free again and was not bound since.
func (d *Detector) Returning(ip netip.Addr) bool {
	e := d.entries[ip]
	return e != nil && e.yielded && e.verdict == Free
}

// Checking says that the address is not to be announced until it is Checked, Yielded or Denied.
func (d *Detector) Checking(ip netip.Addr) bool {
	e := d.entries[ip]
	return e != nil && e.check && !e.beside
}

// Contests returns the addresses that are held and contested, by address.
func (d *Detector) Contests() []Contest {
	var list []Contest
	for _, ip := range slices.SortedFunc(maps.Keys(d.contested), netip.Addr.Compare) {
		e := d.contested[ip]
		list = append(list, Contest{IP: ip, Uplink: e.Uplink, Other: e.other})
	}
	return list
}

// Decisions returns what was decided since it was called last, in order.
func (d *Detector) Decisions() []Decision {
	list := d.decisions
	d.decisions = nil
	return list
}

func (d *Detector) decide(kind Kind, e *entry) {
	d.decisions = append(d.decisions, Decision{Kind: kind, IP: e.IP, Uplink: e.Uplink, Other: e.other})
}
