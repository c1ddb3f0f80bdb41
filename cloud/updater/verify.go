package updater

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const (
	// patience is how long a port that does not answer yet is held back from being published.
	patience = 5 * time.Second
	// checkSoon is between two looks at a port that is held back, checkFirst and checkLast bound the time between two at
	// one that does not answer.
	checkSoon  = 250 * time.Millisecond
	checkFirst = 5 * time.Second
	checkLast  = time.Minute
	// checkTimeout of one look, maxChecks at once.
	checkTimeout = 2 * time.Second
	maxChecks    = 8
	// nudgeFirst is between the first two pushes to a load balancer that does not listen on a port; later ones are rarer,
	// up to the resync.
	nudgeFirst = 30 * time.Second
)

// check is how a port is found to listen, or not.
type check struct {
	// gen tells a look that began before a change from one after.
	gen       uint64
	listening Listening
	found     string
	at        time.Time // of the next look; zero: none
	flying    bool
	failures  int
	nudges    int
	nudged    time.Time
}

// judges reports whether a port is connected to.
func (w *Worker) judges(k Key) bool { return k.Protocol == TCP && w.updater.Verify }

// startChecks looks at the ports that are due, and returns when the next one is.
func (w *Worker) startChecks(now time.Time) time.Time {
	if w.ctx == nil || w.ctx.Err() != nil || !w.updater.Verify {
		return time.Time{}
	}
	var due []*entry
	var next time.Time
	for k, e := range w.entries {
		switch {
		case e.want == nil || e.check.at.IsZero() || e.check.flying || !w.judges(k):
		case e.check.at.After(now):
			next = earlier(next, e.check.at)
		default:
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b *entry) int { return a.key.compare(b.key) })
	slices.SortStableFunc(due, func(a, b *entry) int { return a.check.at.Compare(b.check.at) })
	for _, e := range due[:min(len(due), maxChecks-w.checking)] {
		w.look(e)
	}
	return next // the end of a look wakes us
}

// look connects to a port in a goroutine of its own.
func (w *Worker) look(e *entry) {
	e.check.flying = true
	w.checking++
	ctx, k, gen, host := w.ctx, e.key, e.check.gen, w.updater.Host
	w.calls.Go(func() {
		err := w.connect(ctx, host, k)
		w.tell(w.looked(ctx, k, gen, host, err))
		w.wake()
	})
}

// connect returns nil when something accepts.
func (w *Worker) connect(ctx context.Context, host string, k Key) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := w.options.Clock.NewTimer(checkTimeout)
	defer timer.Stop()
	w.calls.Go(func() {
		select {
		case <-timer.C():
			cancel(errTimeout)
		case <-ctx.Done():
		}
	})
	conn, err := w.options.Dial(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(k.Port))))
	if err != nil {
		return ended(ctx, err)
	}
	_ = conn.Close()
	return nil
}

// looked takes in what a look at a port found.
func (w *Worker) looked(ctx context.Context, k Key, gen uint64, host string, err error) []Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checking--
	e := w.entries[k]
	if e == nil || e.check.gen != gen || ctx.Err() != nil {
		return nil
	}
	now := w.options.Clock.Now()
	c := &e.check
	c.flying = false
	if err == nil {
		e.proven = true
		*c = check{gen: gen, listening: ListeningYes, at: now.Add(w.resync)}
	} else {
		w.silent(e, host, err, now)
	}
	if w.differs(e, now) {
		return []Key{k}
	}
	return nil
}

// silent: a port could not be connected to.
func (w *Worker) silent(e *entry, host string, err error, now time.Time) {
	c := &e.check
	if !e.proven && now.Before(e.since.Add(patience)) {
		c.at = now.Add(checkSoon)
		return
	}
	c.failures++
	refused := errors.Is(err, syscall.ECONNREFUSED)
	what := "no answer"
	if refused {
		what = "nothing listens"
	}
	if !errors.Is(err, errTimeout) && !refused {
		what = "no connection (" + quotable(reason(err), "") + ")"
	}
	c.listening = ListeningNo
	c.found = fmt.Sprintf("%s on %s: see the load balancer's log, whether it could be reloaded and whether another process has the port",
		what, net.JoinHostPort(host, strconv.Itoa(int(e.key.Port))))
	c.at = now.Add(min(checkFirst<<min(c.failures-1, 10), checkLast))
	// Only a refusal tells that nothing is there: silence may be a firewall between us.
	if refused && (c.nudges == 0 || !now.Before(c.nudged.Add(min(nudgeFirst<<min(c.nudges-1, 10), w.resync)))) {
		c.nudges++
		c.nudged = now
		c.at = now.Add(time.Second)
		w.nudge(e, now)
	}
}

// nudge pushes a backend again at every URL that has it. Where it has listened before, all the files may be lost, those of
// UDP too, of which nobody would notice: then everything is sent again.
func (w *Worker) nudge(e *entry, now time.Time) {
	for _, l := range w.lines {
		if j := l.jobs[e.key]; j != nil && j.told == e.seq {
			j.again = WhyNothingListens
		}
		if e.proven && !now.Before(l.resentAt.Add(nudgeFirst)) && l.resyncAt.After(now) {
			l.resyncAt = now
		}
	}
}
