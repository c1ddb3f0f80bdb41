package conflict

import (
	"net"
	"net/netip"
	"time"
)

const (
	// A round is probes frames, probeGap apart, because one may be lost; it is over window after the first. RFC 5227
	// waits for seconds, which is for networks of 1990: this is between machines of one segment.
	probes   = 2
	probeGap = 100 * time.Millisecond
	window   = 250 * time.Millisecond
	// settle is how long after a claim the first probe is sent: claims come in pairs (an ARP request and a reply), and
	// the second one is not to be taken for an answer.
	settle = 50 * time.Millisecond
	// calm is how long claims are ignored after one that nobody stood behind.
	calm = time.Second
	// clearance is for how long a silence lets a new address be bound.
	clearance = time.Minute
	// An address that another machine has is probed every quarantineGap, and free after silences silent rounds.
	quarantineGap = 2 * time.Second
	silences      = 3
	// unsendable is when a probe is tried again that could not be sent.
	unsendable = time.Second
	// defendGap is the least time between two defences (DEFEND_INTERVAL of RFC 5227, section 1.1), and how often the
	// other machine is probed; after quiet without a word from it the contest is over.
	defendGap = 10 * time.Second
	quiet     = 30 * time.Second
)

// entry is what is known of one subject.
type entry struct {
	Subject
	mark    int
	verdict Verdict
	step    step
	due     time.Time
	in      *queue // the queue that it is in, and its position there, -1 when nothing is due
	at      int

	sent     int       // probes of this round
	first    time.Time // when its first one left
	last     time.Time // when any probe left
	silent   int       // rounds in a row without an answer, of one that is taken
	alone    int       // the same of one that is held and was claimed while the API server cannot be asked
	yielded  bool      // it was bound here and is not bound again yet
	check    bool      // to be announced when it is clear that it is ours, and not before
	beside   bool      // or it may be announced meanwhile
	owed     bool      // to be announced once more, when it may be again and nobody answers
	unasked  bool      // in this check the API server could not be asked
	needs    int       // the live read that counts for it
	tests    string    // the proxy that this round is to hear, and nobody else
	other    string    // who was heard last
	heard    time.Time
	strayed  time.Time
	cleared  time.Time // when a new address was found to be free; zero once it was bound
	defended time.Time
}

// step says what an entry waits for.
type step int

const (
	idle    step = iota // a claim, or the next round when something is due
	probing             // its next probe, or the end of the round
	permit              // the API server, before it is probed
	ruling              // the API server, because another machine has answered
	telling             // the API server, before neighbours are told that nobody stands behind a claim
)

// Recheck has everything asked for and probed before it is announced again, because this host may have been away.
// Rounds that are under way say nothing: who answered meanwhile may not have been heard.
func (d *Detector) Recheck(now time.Time) {
	for _, e := range d.entries {
		d.recheck(now, e, false)
	}
}

// Relinked does the same for the addresses of an uplink whose link came up or is another one. Who was recognised as a
// proxy there stays one: a switch that starts again while the API server is away, in front of a router that answers
// for everything, is no reason to give everything up.
func (d *Detector) Relinked(now time.Time, uplink string) {
	for _, e := range d.entries {
		if e.Uplink == uplink {
			d.recheck(now, e, false)
		}
	}
}

// Replugged does the same for the addresses of an uplink that now leads elsewhere and was never down, as when a bond takes
// another port or a virtual machine moves to another host: neighbours' switches send to where it was until they hear from
// it, so announcements do not wait for the check.
func (d *Detector) Replugged(now time.Time, uplink string) {
	for _, e := range d.entries {
		if e.Uplink == uplink {
			d.recheck(now, e, true)
		}
	}
}

func (d *Detector) recheck(now time.Time, e *entry, beside bool) {
	e.silent, e.alone, e.owed = 0, 0, false
	if e.verdict != Free {
		d.round(now, e)
		return
	}
	e.beside = beside && (!e.check || e.beside)
	e.check, e.unasked = true, false
	d.ask(e, permit)
}

// Heard tells of a claim: another machine said on uplink that ip is at mac. It returns false when that is of no
// interest.
func (d *Detector) Heard(now time.Time, uplink string, ip netip.Addr, mac net.HardwareAddr) bool {
	e := d.entries[ip]
	if e == nil || e.Uplink != uplink || d.own[string(mac)] {
		return false
	}
	other := mac.String()
	segment := d.segment(uplink)
	if e.last.IsZero() || now.Sub(e.last) > solicited {
		if segment.announces(now, other) {
			d.forget(uplink, other)
		}
	}
	if segment.proxy(now, ip, other) {
		return true
	}
	asked := e.step == probing && e.sent > 0
	switch {
	case e.verdict == Tested && asked:
		e.verdict, e.silent = Taken, 0
		d.note(now, e, other)
		d.later(e, now.Add(quarantineGap))
		d.decide(Occupied, e)
		d.answers(now, e)
	case e.verdict == Tested:
	case e.verdict == Taken:
		e.silent = 0
		d.note(now, e, other)
		if asked {
			d.later(e, e.first.Add(quarantineGap))
			if !e.yielded {
				d.answers(now, e)
			}
		}
	case asked:
		d.note(now, e, other)
		e.alone, e.owed = 0, false
		if e.unasked {
			d.yield(now, e)
			return true
		}
		d.decide(Answered, e)
		d.ask(e, ruling)
	case e.step != idle || d.contested[ip] != nil:
		d.note(now, e, other)
	case e.strayed.IsZero() || now.Sub(e.strayed) >= calm:
		d.note(now, e, other)
		e.alone, e.owed = 0, false
		d.decide(Doubted, e)
		d.probe(e, now.Add(settle))
	case e.at < 0:
		d.retell(now, e)
	}
	return true
}

func (*Detector) note(now time.Time, e *entry, other string) { e.other, e.heard = other, now }

// Next returns the probe that is due, or how long nothing will be; ok is false when nothing is expected at all. A probe
// is due until Sent is called for it.
func (d *Detector) Next(now time.Time) (p Probe, wait time.Duration, ok bool) {
	d.askProxies(now)
	for e := d.first(now); e != nil; e = d.first(now) {
		if wait := e.due.Sub(now); wait > 0 {
			return Probe{}, d.until(now, d.wake(now, wait)), true
		}
		if e.step == probing && e.sent < probes {
			return Probe{Uplink: e.Uplink, IP: e.IP}, 0, true
		}
		d.expire(now, e)
	}
	wait = d.until(now, d.wake(now, never))
	return Probe{}, wait, wait != never
}

// Sent tells that a probe has left, or why it could not: then the round says nothing and begins again.
func (d *Detector) Sent(now time.Time, p Probe, err error) {
	e := d.entries[p.IP]
	if e == nil || e.step != probing {
		return
	}
	if err != nil {
		if e.verdict == Free && !e.check {
			e.alone, e.owed = 0, false
			d.rest(e)
			d.revisit(now, e)
			return
		}
		d.probe(e, now.Add(unsendable))
		return
	}
	if e.sent == 0 {
		e.first = now
	}
	e.sent++
	e.last = now
	if e.sent < probes {
		d.at(e, now.Add(probeGap))
		return
	}
	d.at(e, latest(e.first.Add(window), now.Add(window-probeGap)))
}

// round begins a round, with a question first for an address that came from another node and was yielded because the
// API server could not be asked: that node may answer until this one has bound it, so to wait for its silence may be to
// wait for ever.
func (d *Detector) round(now time.Time, e *entry) {
	if e.verdict == Taken && e.yielded && e.Moved && e.silent == 0 {
		d.ask(e, permit)
		return
	}
	d.probe(e, now)
}

// expire is called when an entry's time has come and no probe is to be sent: a round was silent, or another begins.
func (d *Detector) expire(now time.Time, e *entry) {
	if e.step == idle {
		d.round(now, e)
		return
	}
	d.rest(e)
	switch {
	case e.verdict == Tested:
		e.verdict, e.cleared = Free, now
		d.decide(Cleared, e)
	case e.verdict == Taken:
		e.silent++
		if e.silent < silences {
			d.later(e, e.first.Add(quarantineGap))
			return
		}
		e.verdict = Free
		d.decide(Returned, e)
	case e.check:
		e.check, e.defended = false, now
		d.decide(Checked, e)
		d.revisit(now, e)
	case e.tests != "":
		if p := d.segment(e.Uplink).proxies[e.tests]; p != nil && p.heard.Before(e.first) {
			d.missed(e.Uplink, e.tests)
		}
	case e.alone > 0:
		e.alone++
		if e.alone < silences {
			d.later(e, e.first.Add(quarantineGap))
			return
		}
		e.alone = 0
		d.tell(now, e)
	case e.owed:
		e.owed = false
		d.retell(now, e)
	case d.contested[e.IP] == nil:
		e.strayed = now
		d.decide(Stray, e)
		d.retell(now, e)
	case now.Sub(e.heard) >= quiet:
		d.settle(e)
		d.decide(Settled, e)
		d.retell(now, e)
	default:
		d.revisit(now, e)
	}
}

func (d *Detector) ask(e *entry, s step) {
	d.drop(e)
	e.step, e.needs = s, d.started+1
	d.asking[e.IP] = e
}

// probe begins a round at the given time.
func (d *Detector) probe(e *entry, at time.Time) {
	delete(d.asking, e.IP)
	e.step, e.sent, e.tests = probing, 0, ""
	d.at(e, at)
}

// later has a round begun at the given time.
func (d *Detector) later(e *entry, at time.Time) {
	delete(d.asking, e.IP)
	e.step = idle
	d.at(e, at)
}

// rest ends whatever is under way.
func (d *Detector) rest(e *entry) {
	d.drop(e)
	delete(d.asking, e.IP)
	e.step = idle
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
