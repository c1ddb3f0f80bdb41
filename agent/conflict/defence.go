package conflict

import "time"

// retell has an address announced once more when nobody contests it any more: neighbours that believed what the other
// machine said send there until they are told otherwise, which may take hours.
//
// One silent round does not justify that. A node that is cut off from the API server alone, and loses both probes or their
// answers, would take its successor's announcement for a stray claim and have the traffic back until the successor
// announces again. So the API server is asked first. When it cannot be asked nobody knows whether this is the victim of a
// stray claim or such a node, and the proof is the one by which a yielded address comes back: silences rounds over
// several seconds, in which a successor that is there is not heard once only when every frame is lost. Until then a
// neighbour that believed a stray claim finds the way back when it confirms its entry, after seconds where it sends.
//
// Within defendGap of the last announcement it is put off until that is over, and another round was silent.
func (d *Detector) retell(now time.Time, e *entry) {
	if e.defended.IsZero() || now.Sub(e.defended) >= defendGap {
		d.ask(e, telling)
		return
	}
	e.owed = true
	d.later(e, e.defended.Add(defendGap))
}

// tell has an address announced once.
func (d *Detector) tell(now time.Time, e *entry) {
	d.decide(Defend, e)
	e.defended = now
}

// confirm defends an address that the API server says is ours although another machine answers for it.
func (d *Detector) confirm(now time.Time, e *entry) {
	check := e.check
	e.check = false
	if check {
		d.decide(Checked, e)
	}
	if !e.Moved {
		d.answers(now, e)
	}
	if d.segment(e.Uplink).proxies[e.other] == nil {
		if d.contested[e.IP] == nil {
			d.contested[e.IP] = e
			d.decide(Contested, e)
		}
		if !check && (e.defended.IsZero() || now.Sub(e.defended) >= defendGap) {
			d.decide(Defend, e)
			check = true
		}
	}
	if check {
		e.defended = now
	}
	d.revisit(now, e)
}

// revisit has a contested address probed again.
func (d *Detector) revisit(now time.Time, e *entry) {
	if d.contested[e.IP] != nil {
		d.later(e, now.Add(defendGap))
	}
}

func (d *Detector) yield(now time.Time, e *entry) {
	d.rest(e)
	d.settle(e)
	e.verdict, e.yielded, e.silent, e.check, e.unasked, e.cleared = Taken, true, 0, false, false, time.Time{}
	d.later(e, now.Add(quarantineGap))
	d.decide(Yielded, e)
}

func (d *Detector) settle(e *entry) { delete(d.contested, e.IP) }
