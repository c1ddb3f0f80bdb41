package conflict

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// readGap is the least time between the beginnings of two live reads, when the first one was answered.
const readGap = 250 * time.Millisecond

// Asks says whether the API server is to be read live now: the object of this node, from no cache. It says so once;
// Answer must follow, whatever comes of it. The next read is at least readGap after one that was answered: thousands of
// contested addresses are asked for together, not one by one.
func (d *Detector) Asks(now time.Time) bool {
	if !d.asks() || d.untilRead(now) > 0 {
		return false
	}
	d.flying, d.began = true, now
	d.started++
	return true
}

// asks says whether somebody waits for a read that has not begun, and none is under way.
func (d *Detector) asks() bool {
	if d.flying {
		return false
	}
	for _, e := range d.asking {
		if e.needs > d.started {
			return true
		}
	}
	return false
}

func (d *Detector) untilRead(now time.Time) time.Duration {
	return min(readGap, d.read.Add(readGap).Sub(now))
}

// wake shortens a wait to when a read may begin that has to wait.
func (d *Detector) wake(now time.Time, wait time.Duration) time.Duration {
	if gap := d.untilRead(now); gap > 0 && d.asks() {
		return min(wait, gap)
	}
	return wait
}

// Answer is what came of a live read: which addresses are to be held here, or nil when the API server could not be
// asked. What waits and was not yet waiting when the read began waits for the next one.
func (d *Detector) Answer(now time.Time, holds func(netip.Addr) bool) {
	d.flying = false
	if holds != nil {
		d.read = d.began
	}
	ready := slices.DeleteFunc(slices.Collect(maps.Values(d.asking)), func(e *entry) bool { return e.needs > d.started })
	slices.SortFunc(ready, func(a, b *entry) int { return a.IP.Compare(b.IP) })
	for _, e := range ready {
		asked := e.step
		d.rest(e)
		switch {
		case e.verdict == Taken && holds != nil && holds(e.IP):
			e.verdict = Free
			d.decide(Returned, e)
		case e.verdict == Taken:
			d.probe(e, now)
		case holds != nil && !holds(e.IP):
			// What becomes of it is for the object to say. Until that is done it is not announced.
			d.settle(e)
			d.decide(Denied, e)
			e.check, e.beside, e.unasked = true, false, false
			d.probe(e, now.Add(calm))
		case asked == permit:
			e.unasked = holds == nil
			d.probe(e, now)
		case asked == telling && holds == nil:
			e.alone = 1
			d.later(e, e.first.Add(quarantineGap))
		case asked == telling:
			d.tell(now, e)
		case holds == nil:
			d.yield(now, e)
		default:
			d.confirm(now, e)
		}
	}
}
