package agent

import (
	"container/heap"
	"net/netip"
	"time"
)

const (
	// chaseInterval is how often an address is announced while its predecessor may still answer for it.
	chaseInterval = time.Second
	// reminderInterval is how often an address is announced for as long as it is held. A segment that was in two parts
	// has two nodes that each believe that they alone hold an address, and neighbours that believe either: nobody tells
	// them that it is whole again. By the next reminder both nodes hear of each other, and all neighbours of the one that
	// stays. 10,000 addresses are 170 frames a second to the segment.
	reminderInterval = time.Minute
	// announceRate and announceBurst keep 500 addresses that arrive at once from flooding the segment.
	announceRate  = 1000
	announceBurst = 100
)

// announceGaps are the pauses after the first, second, ... announcement of an address: some switches suppress the
// first one, and a neighbour may miss any.
var announceGaps = []time.Duration{time.Second, time.Second, 2 * time.Second, 4 * time.Second}

// announcer knows which address is announced next. It does not look at a clock and sends nothing.
type announcer struct {
	series map[netip.Addr]*series
	queue  seriesQueue
}

// series is what is left to announce of one address.
type series struct {
	ip     netip.Addr
	uplink string
	chased bool
	heard  bool // announced since it is held
	paused bool // not to be announced for the time being
	again  bool // to be announced from the beginning when the pause is over
	fresh  bool // not tried yet since it is held: goes before those that are repeated
	sent   int
	due    time.Time
	at     int // position in the queue, -1 when nothing is left
}

func newAnnouncer() *announcer { return &announcer{series: map[netip.Addr]*series{}} }

// hold asks for announcements of an address that is bound now. Asking again changes nothing.
func (a *announcer) hold(now time.Time, ip netip.Addr, uplink string, chased bool) {
	s := a.series[ip]
	if s == nil {
		s = &series{ip: ip, at: -1}
		a.series[ip] = s
	} else if s.uplink == uplink && (s.chased || !chased) {
		s.chased = chased
		return
	}
	s.uplink, s.chased, s.heard = uplink, chased, false
	a.begin(now, s)
}

// restart announces an address as one that nobody has heard of, when it was lost and is bound again.
func (a *announcer) restart(now time.Time, ip netip.Addr) {
	if s := a.series[ip]; s != nil {
		s.heard = false
		a.begin(now, s)
	}
}

// repeat announces an address from the beginning, because neighbours may have heard otherwise meanwhile.
func (a *announcer) repeat(now time.Time, ip netip.Addr) {
	if s := a.series[ip]; s != nil {
		a.begin(now, s)
	}
}

// once announces an address now, be it beside the others.
func (a *announcer) once(now time.Time, ip netip.Addr) {
	s := a.series[ip]
	if s == nil || s.paused {
		return
	}
	if s.at < 0 {
		s.sent = len(announceGaps)
	}
	a.schedule(s, now)
}

// pause ends the announcements of an address until it is resumed, restarted or repeated. Resumed is what is left of them,
// and that is once at least; or, with again, all of them.
func (a *announcer) pause(ip netip.Addr, again bool) {
	s := a.series[ip]
	if s == nil {
		return
	}
	s.paused, s.again = true, s.again || again
	if s.at >= 0 {
		heap.Remove(&a.queue, s.at)
	}
}

// resume ends the pause of an address.
func (a *announcer) resume(now time.Time, ip netip.Addr) {
	s := a.series[ip]
	switch {
	case s == nil || !s.paused:
	case s.again:
		a.begin(now, s)
	default:
		s.paused, s.sent = false, min(s.sent, len(announceGaps))
		a.schedule(s, now)
	}
}

func (a *announcer) paused(ip netip.Addr) bool {
	s := a.series[ip]
	return s != nil && s.paused
}

func (a *announcer) begin(now time.Time, s *series) {
	s.sent, s.paused, s.again, s.fresh = 0, false, false, !s.heard
	a.schedule(s, now)
}

func (a *announcer) schedule(s *series, due time.Time) {
	s.due = due
	if s.at < 0 {
		heap.Push(&a.queue, s)
	} else {
		heap.Fix(&a.queue, s.at)
	}
}

// drop ends the announcements of an address.
func (a *announcer) drop(ip netip.Addr) {
	s := a.series[ip]
	if s == nil {
		return
	}
	if s.at >= 0 {
		heap.Remove(&a.queue, s.at)
	}
	delete(a.series, ip)
}

// next returns what is due, or when something will be; ok is false when nothing is left.
func (a *announcer) next(now time.Time) (s *series, wait time.Duration, ok bool) {
	if len(a.queue) == 0 {
		return nil, 0, false
	}
	first := a.queue[0]
	if wait := first.due.Sub(now); wait > 0 {
		return nil, wait, true
	}
	return first, 0, true
}

// done says that a due announcement left, or that it could not and is tried again.
func (a *announcer) done(now time.Time, s *series, err error) {
	s.heard, s.fresh = s.heard || err == nil, false
	switch {
	case err != nil:
		s.due = now.Add(chaseInterval)
	case s.sent < len(announceGaps) && !s.chased:
		s.due = now.Add(announceGaps[s.sent])
		s.sent++
	case s.chased:
		s.due = now.Add(chaseInterval)
		s.sent = min(s.sent+1, len(announceGaps))
	default:
		s.due = now.Add(reminderInterval)
	}
	heap.Fix(&a.queue, s.at)
}

// announced says whether the segment was told of the address.
func (a *announcer) announced(ip netip.Addr) bool {
	s := a.series[ip]
	return s != nil && s.heard
}

// seriesQueue is a heap by time, then by address. What was never announced, which is due at once, goes first: when
// thousands are new, repeating the first of them must not keep the last of them from being acknowledged in time.
type seriesQueue []*series

func (q seriesQueue) Len() int { return len(q) }

func (q seriesQueue) Less(i, j int) bool {
	if q[i].fresh != q[j].fresh {
		return q[i].fresh
	}
	if c := q[i].due.Compare(q[j].due); c != 0 {
		return c < 0
	}
	return q[i].ip.Less(q[j].ip)
}

func (q seriesQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push and Pop are for container/heap.
func (q *seriesQueue) Push(x any) {
	s := x.(*series)
	s.at = len(*q)
	*q = append(*q, s)
}

// Pop is for container/heap.
func (q *seriesQueue) Pop() any {
	old := *q
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	s.at = -1
	return s
}
