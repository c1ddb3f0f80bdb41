package updater

import (
	"errors"
	"net/http"
	"time"
)

// done takes in what became of a task, and returns the ports whose State is another one now.
func (w *Worker) done(t *task, err error) []Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.options.Clock.Now()
	l, j, e := t.line, t.line.jobs[t.key], w.entries[t.key]
	j.flying = false
	l.flying--
	if l.gone || l.ctx.Err() != nil {
		return nil
	}
	if err != nil {
		w.failed(t, err, now)
	} else {
		w.succeeded(t, now)
	}
	if e != nil && w.differs(e, now) {
		return []Key{t.key}
	}
	return nil
}

func (w *Worker) succeeded(t *task, now time.Time) {
	l, j, e := t.line, t.line.jobs[t.key], w.entries[t.key]
	w.up(l, now)
	j.failures, j.failed, j.retryAt, j.err = 0, time.Time{}, time.Time{}, nil
	if t.why == WhySweep {
		l.cleared(t.key)
		l.unswept = 0
		return
	}
	if e == nil {
		return // abandoned meanwhile
	}
	j.told, j.pushed = t.seq, now
	if t.want == nil {
		j.revision, j.replaced = 0, ""
		// A call of the controller before us may still bring the backend back.
		if l.settledAt.After(now) && j.late.Before(l.settledAt) {
			j.late = l.settledAt
		}
	} else {
		j.revision, j.replaced = t.want.Revision, t.want.Replaces
		if e.want != nil && e.since.IsZero() && t.seq >= e.born {
			e.since, e.check.at = now, now
		}
	}
	l.pushed(t, now)
}

// pushed decides whether a push is to be repeated. A single one that changes nothing, to a load balancer that was at rest,
// is missed by no reload; what is repeated is such a one.
func (l *line) pushed(t *task, now time.Time) {
	if now.Sub(l.pushedAt) >= repeatAfter {
		l.burst = 0
	}
	l.burst++
	l.last, l.pushedAt = t.key, now
	if t.why == WhyChange || t.why == WhyLate || l.burst > 1 {
		l.repeatAt = now.Add(repeatAfter)
	}
}

// cleared takes a port off those to be swept; the list may be another one than when the call began.
func (l *line) cleared(k Key) {
	if len(l.unused) > 0 && l.unused[0] == k {
		l.unused = l.unused[1:]
	}
}

func (w *Worker) failed(t *task, err error, now time.Time) {
	l, j, e := t.line, t.line.jobs[t.key], w.entries[t.key]
	failure, ok := errors.AsType[*Error](err)
	if !ok || failure.Uncertain {
		j.late = now.Add(w.updater.Timeout + lateness)
	}
	j.failures++
	j.failed, j.err = now, err
	j.retryAt = now.Add(backoff(j.failures, retryLast))
	if e != nil && j.told == e.seq && t.why != WhySweep {
		j.again = t.why
	}
	if t.why == WhySweep {
		// One port that cannot be cleared holds up no other.
		l.cleared(t.key)
		l.unused = append(l.unused, t.key)
		l.unswept++
		l.sweepAt = now.Add(backoff(l.unswept, retryLast))
	}
	if !hopeless(failure) {
		w.up(l, now)
		return
	}
	j.retryAt = now.Add(backoff(j.failures, downLast))
	if t.round != l.round {
		return // it began before the failure that is known
	}
	l.round++
	l.failures++
	l.pause = now.Add(backoff(l.failures, downLast))
	err = ofLine(l, failure)
	if !l.down || l.err.Error() != err.Error() {
		w.compare = true
	}
	l.down, l.err = true, err
}

// ofLine says of a URL as a whole what a call about one port met.
func ofLine(l *line, e *Error) error {
	if e == nil {
		return &Error{Op: "call the updater", URL: l.client.URL(), Kind: Unreachable, Message: "no answer"}
	}
	whole := *e
	whole.Op = "call the updater"
	return &whole
}

// up: the URL answers.
func (w *Worker) up(l *line, now time.Time) {
	if l.yieldUntil.IsZero() {
		l.yieldUntil = later(now, l.settledAt).Add(sweepPatience)
	}
	if l.down {
		l.round++
		w.compare = true
	}
	l.down, l.failures, l.err = false, 0, nil
}

// hopeless reports whether no other call to the URL would fare better: it does not answer, or does not want us.
func hopeless(e *Error) bool {
	switch {
	case e == nil, e.Kind == Unreachable:
		return true
	case e.Kind != Refused:
		return false
	}
	switch e.Status {
	case 0, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return e.Status < http.StatusBadRequest
}

// backoff doubles with each failure.
func backoff(failures int, last time.Duration) time.Duration {
	return min(retryFirst<<min(failures-1, 20), last)
}
