package updater

import (
	"cmp"
	"context"
	"errors"
	"time"
)

const (
	// gather is how long a change waits for the next one to the same port, spacing how far apart the pushes of changes of
	// one port are at least: each is a reload of the load balancer, whose old workers live on.
	gather  = 50 * time.Millisecond
	spacing = time.Second
	// retryFirst and retryLast bound the pause before a call is tried again, downLast that between two calls to a URL at
	// which none succeeds.
	retryFirst = time.Second
	retryLast  = time.Minute
	downLast   = 30 * time.Second
	// repeatAfter a burst one push is repeated: a reload that was under way may have missed the last one.
	repeatAfter = 2 * time.Second
	// lateness is how long after its timeout a call may still have its effect.
	lateness = 10 * time.Second
	// sweepPause is between two unused ports that are cleared.
	sweepPause = 100 * time.Millisecond
	// sweepPatience is how long unused ports wait for those in use, from when the URL has answered.
	sweepPatience = 2 * time.Minute
)

// line is one URL with what it has been told.
type line struct {
	url    string
	client *Client
	jobs   map[Key]*job
	// ctx of its calls; nil before the Worker runs. gone: the URL is not in the cloud-config any more.
	ctx    context.Context
	cancel context.CancelFunc
	gone   bool

	flying int
	// down: the last call had no answer that another one could do better than. Then one call at a time is made, after a
	// pause that becomes longer with each of failures. round tells calls that began before from those after.
	down     bool
	failures int
	round    int
	pause    time.Time
	err      error

	// resyncAt is when everything is sent again, repeatAt when one push is; zero: not. settledAt is when calls of the
	// controller before us have had their effect.
	resyncAt, repeatAt, settledAt time.Time
	// resentAt is when everything was sent again last.
	resentAt time.Time
	// burst counts pushes that followed each other without a pause; last is the port of the newest, which was at pushedAt.
	burst    int
	last     Key
	pushedAt time.Time
	// unused ports that are not cleared yet, when the next one is, and how many failed in a row. They wait for those in use
	// until yieldUntil, which is zero before the URL has answered.
	unused     []Key
	sweepAt    time.Time
	unswept    int
	yieldUntil time.Time
}

// job is what one URL has been told about one port. Calls about it are made one after the other.
type job struct {
	// told is the number of what the URL has confirmed last, revision that of the caller's; 0: nothing.
	told     uint64
	revision uint64
	// replaced is the foreign name that was taken over here.
	replaced string

	flying bool
	// again: what was told is to be sent once more. late: at that time, because a call may have had its effect late.
	again Why
	late  time.Time

	pushed   time.Time
	failures int
	failed   time.Time
	retryAt  time.Time
	err      error
}

// begin of the calls. What a controller before us has sent may have its effect later, so everything is sent twice.
func (l *line) begin(ctx context.Context, now time.Time, timeout time.Duration) {
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.settledAt = now.Add(timeout + lateness)
	l.resyncAt = l.settledAt
}

func (l *line) end() {
	l.gone = true
	if l.cancel != nil {
		l.cancel()
	}
	l.client.Close()
}

// task is one call, or a takeover, that is under way.
type task struct {
	line   *line
	client *Client
	key    Key
	why    Why
	seq    uint64
	want   *Backend
	// takeOver is the foreign name to be taken over; empty: none.
	takeOver string
	round    int
	began    time.Time
}

// drive begins calls at one URL, and returns when there is more to do.
func (w *Worker) drive(l *line, now time.Time) time.Time {
	if l.ctx == nil || l.ctx.Err() != nil {
		return time.Time{}
	}
	if !l.resyncAt.After(now) {
		w.resend(l)
		l.resentAt, l.resyncAt = now, now.Add(w.resync)
	}
	for {
		room := l.flying < maxCalls
		if l.down {
			room = l.flying == 0
		}
		if !room {
			return l.resyncAt // the end of a call wakes us
		}
		if l.down && l.pause.After(now) {
			return earlier(l.resyncAt, l.pause)
		}
		t, next := w.pick(l, now)
		if t == nil {
			return earlier(l.resyncAt, next)
		}
		w.start(t, now)
	}
}

// resend everything that the URL has been told.
func (w *Worker) resend(l *line) {
	for k, e := range w.entries {
		if j := l.jobs[k]; j != nil && e.want != nil && j.told == e.seq && j.again == "" {
			j.again = WhyResync
		}
	}
}

// pick returns the call to be made now, or when there may be one; zero: not before something happens.
func (w *Worker) pick(l *line, now time.Time) (*task, time.Time) {
	var best *entry
	var bestWhy Why
	var next time.Time
	for k, e := range w.entries {
		why, at := l.due(e, l.jobs[k])
		switch {
		case why == "":
		case at.After(now):
			next = earlier(next, at)
		case best == nil || l.before(e, why, best, bestWhy):
			best, bestWhy = e, why
		}
	}
	if best != nil {
		return w.task(l, best.key, best, bestWhy, now), time.Time{}
	}
	l.forget(w, now)
	if l.flying > 0 {
		return nil, next // what follows a burst waits for its end
	}
	t, at := w.repeat(l, now)
	if t == nil {
		var sweep time.Time
		t, sweep = w.sweep(l, now)
		at = earlier(at, sweep)
	}
	return t, earlier(next, at)
}

// due says why and when a URL is to be told about a port.
func (l *line) due(e *entry, j *job) (Why, time.Time) {
	if j == nil {
		return WhyChange, e.changed.Add(gather)
	}
	after := func(at time.Time) time.Time { return later(at, j.retryAt) }
	switch {
	case j.flying:
		return "", time.Time{}
	case j.told != e.seq:
		return WhyChange, after(later(e.changed.Add(gather), j.pushed.Add(spacing)))
	case j.again != "":
		return j.again, after(time.Time{})
	case !j.late.IsZero():
		return WhyLate, after(j.late)
	}
	return "", time.Time{}
}

// before is the order of calls: by urgency, then what has not failed, then what was wanted first. While the URL is down it
// is asked for what has not failed first: it may be only one port that it does not answer about.
func (l *line) before(e *entry, why Why, o *entry, oWhy Why) bool {
	var failed, oFailed time.Time
	if j := l.jobs[e.key]; j != nil {
		failed = j.failed
	}
	if j := l.jobs[o.key]; j != nil {
		oFailed = j.failed
	}
	urgent, fresh := cmp.Compare(urgency[why], urgency[oWhy]), failed.Compare(oFailed)
	if l.down {
		urgent, fresh = fresh, urgent
	}
	return cmp.Or(urgent, fresh, cmp.Compare(e.seq, o.seq)) < 0
}

// task for what is wanted now.
func (w *Worker) task(l *line, k Key, e *entry, why Why, now time.Time) *task {
	j := l.jobs[k]
	if j == nil {
		j = &job{}
		l.jobs[k] = j
	}
	t := &task{line: l, client: l.client, key: k, why: why, round: l.round, began: now}
	if e != nil {
		t.seq, t.want = e.seq, e.want
	}
	if t.want != nil && t.want.Replaces != j.replaced {
		t.takeOver = t.want.Replaces
	}
	j.again = ""
	if why == WhyLate {
		j.late = time.Time{}
	}
	return t
}

// repeat one push of what the URL has, when a burst has ended.
func (w *Worker) repeat(l *line, now time.Time) (*task, time.Time) {
	if l.repeatAt.IsZero() || l.repeatAt.After(now) {
		return nil, l.repeatAt
	}
	l.repeatAt = time.Time{}
	var at *entry
	for k, e := range w.entries {
		j := l.jobs[k]
		if e.want == nil || j == nil || j.told != e.seq {
			continue
		}
		// The last one does as well as any other that stays.
		if at == nil || k == l.last || at.key != l.last && k.compare(at.key) < 0 {
			at = e
		}
	}
	if at == nil {
		return nil, time.Time{}
	}
	return w.task(l, at.key, at, WhyRepeat, now), time.Time{}
}

// sweep clears the next unused port.
func (w *Worker) sweep(l *line, now time.Time) (*task, time.Time) {
	for len(l.unused) > 0 {
		k := l.unused[0]
		if w.entries[k] != nil {
			l.unused = l.unused[1:]
			continue
		}
		at := later(l.settledAt, l.sweepAt)
		if l.yieldUntil.After(now) {
			if l.owes(w) {
				return nil, l.yieldUntil
			}
			at = later(at, l.pushedAt.Add(repeatAfter)) // what is in use is repeated, and may be being reloaded
		}
		if at.After(now) {
			return nil, at
		}
		return w.task(l, k, nil, WhySweep, now), time.Time{}
	}
	return nil, time.Time{}
}

// owes reports whether a port in use was never taken by the URL. Each file that is cleared is a reload, and one that is
// written is empty for a moment: what is in use comes first.
func (l *line) owes(w *Worker) bool {
	for k, e := range w.entries {
		if j := l.jobs[k]; e.want != nil && (j == nil || j.told == 0) {
			return true
		}
	}
	return false
}

// forget what a URL was told about ports that nobody speaks of, once no call about them can have an effect any more.
func (l *line) forget(w *Worker, now time.Time) {
	for k, j := range l.jobs {
		if w.entries[k] == nil && !j.flying && !j.late.After(now) {
			delete(l.jobs, k)
		}
	}
}

// start a task in a goroutine of its own.
func (w *Worker) start(t *task, now time.Time) {
	l, j := t.line, t.line.jobs[t.key]
	j.flying = true
	l.flying++
	if t.why == WhySweep {
		l.sweepAt = now.Add(sweepPause)
	}
	w.calls.Go(func() {
		err := w.make(t)
		changed := w.done(t, err)
		if !errors.Is(err, context.Canceled) {
			w.options.Observe(Call{
				URL: t.client.URL(), Key: t.key, Remove: t.want == nil, Why: t.why,
				Took: w.options.Clock.Since(t.began), Err: err,
			})
		}
		w.tell(changed)
		w.wake()
	})
}

// make the calls of a task. In a takeover the port is in two files until the old one is removed, and no reload succeeds; that
// removal brings one that does. The push after it waits, as the repeat after every burst: a file is truncated before it is
// written, and a reload at that moment would close the port.
func (w *Worker) make(t *task) error {
	name := Name(w.options.Prefix, t.key)
	if t.want == nil {
		return t.client.Remove(t.line.ctx, name)
	}
	if err := t.client.Set(t.line.ctx, name, t.key, *t.want); err != nil || t.takeOver == "" {
		return err
	}
	return t.client.Remove(t.line.ctx, t.takeOver)
}
