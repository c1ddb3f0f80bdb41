package hetzner

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
)

const (
	// firstPoll of an action after it began; each later one when its age has doubled, but not more rarely than slowestPoll.
	firstPoll   = 300 * time.Millisecond
	slowestPoll = 5 * time.Second
	// perPoll is the most actions that the API shows in one answer to ids.
	perPoll = 25
	// patience with an action, after which it is Unknown.
	patience = 5 * time.Minute
)

// poller awaits the actions of a conn, many with one call. It runs while somebody waits.
type poller struct {
	conn *conn

	mu      sync.Mutex
	waiting map[int64]*waiting
	running bool
	// woken ends the poller's pause: somebody came or went.
	woken chan struct{}
	// stop ends the poll that is under way when nobody waits any more.
	stop context.CancelFunc
}

// waiting is an action that somebody waits for. Only one does: each call has its own action.
type waiting struct {
	op     string
	id     int64
	began  time.Time
	due    time.Time
	urgent bool
	// ended holds the outcome, and nil for success.
	ended chan *Error
}

func newPoller(c *conn) *poller {
	return &poller{conn: c, waiting: make(map[int64]*waiting)}
}

// await returns when the action ended in success, and an error when it ended otherwise or nobody can tell.
func (p *poller) await(ctx context.Context, op string, action *hcloud.Action, urgent bool) error {
	if action.ID == 0 {
		return unknown(op, "the answer names no action")
	}
	now := p.conn.clock.Now()
	w := &waiting{op: op, id: action.ID, began: now, due: now.Add(firstPoll), urgent: urgent, ended: make(chan *Error, 1)}
	if ended, err := p.conn.ended(w, action); ended {
		return orNil(err)
	}
	p.enter(ctx, w)
	defer p.leave(w)
	guard := p.conn.clock.NewTimer(patience)
	defer guard.Stop()
	select {
	case err := <-w.ended:
		return orNil(err)
	case <-guard.C():
		return unknown(op, "its action did not end in "+patience.String())
	case <-ctx.Done():
		e := unknown(op, "given up before its action ended")
		e.cause = ctx.Err()
		return e
	}
}

// orNil keeps a nil *Error from becoming an error.
func orNil(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}

func (p *poller) enter(ctx context.Context, w *waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[w.id] = w
	if !p.running {
		// The poller outlives the call that started it: it ends when nobody waits any more.
		var polling context.Context
		polling, p.stop = context.WithCancel(context.WithoutCancel(ctx))
		p.running, p.woken = true, make(chan struct{}, 1)
		go p.run(polling, p.woken)
	}
	p.wake()
}

func (p *poller) leave(w *waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[w.id] == w {
		delete(p.waiting, w.id)
	}
	if len(p.waiting) == 0 {
		p.running = false
		p.stop()
	}
	p.wake()
}

func (p *poller) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// run polls until nobody waits.
func (p *poller) run(ctx context.Context, woken <-chan struct{}) {
	for ctx.Err() == nil {
		ids, pause := p.next()
		if len(ids) > 0 {
			p.poll(ctx, ids)
			continue
		}
		timer := p.conn.clock.NewTimer(pause)
		select {
		case <-timer.C():
		case <-woken:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// next are the actions of the next poll, or else how long there is nothing to do. What is not due yet goes along where
// there is room: it costs nothing. A poll is as urgent as what is due.
func (p *poller) next() (ids []int64, pause time.Duration) {
	normal, urgent := p.conn.budget.ready(false), p.conn.budget.ready(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.conn.clock.Now()
	at := func(w *waiting) time.Time {
		allowed := normal
		if w.urgent {
			allowed = urgent
		}
		if allowed.After(w.due) {
			return allowed
		}
		return w.due
	}
	byTime := slices.SortedFunc(maps.Values(p.waiting), func(a, b *waiting) int {
		return cmp.Or(at(a).Compare(at(b)), cmp.Compare(a.id, b.id))
	})
	if len(byTime) == 0 {
		return nil, patience
	}
	if first := at(byTime[0]); first.After(now) {
		return nil, first.Sub(now)
	}
	for _, w := range byTime[:min(len(byTime), perPoll)] {
		ids = append(ids, w.id)
		w.due = now.Add(min(max(now.Sub(w.began), firstPoll), slowestPoll))
	}
	return ids, 0
}

// poll asks once for some actions, and tells those who wait for one that ended.
func (p *poller) poll(ctx context.Context, ids []int64) {
	actions, resp, err := p.conn.client.Action.List(withUrgency(ctx, p.urgent(ids)), hcloud.ActionListOpts{ID: ids})
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if kind := p.conn.failure("", false, resp, err).Kind; kind == Temporary || kind == RateLimited {
			return
		}
		// The token is no good any more, say: asking again would tell nothing either.
		for _, id := range ids {
			if w, ok := p.waiting[id]; ok {
				e := p.conn.failure(w.op+": await its action", false, resp, err)
				e.Kind, e.Uncertain = Unknown, true
				p.end(w, e)
			}
		}
		return
	}
	for _, action := range actions {
		if w, ok := p.waiting[action.ID]; ok {
			if ended, err := p.conn.ended(w, action); ended {
				p.end(w, err)
			}
		}
	}
}

// end tells who waits, with the lock held. It is not asked for again, even before it left.
func (p *poller) end(w *waiting, err *Error) {
	delete(p.waiting, w.id)
	w.ended <- err
}

func (p *poller) urgent(ids []int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(ids, func(id int64) bool {
		w, ok := p.waiting[id]
		return ok && w.urgent
	})
}

// ended reports whether an action ended, and how.
func (c *conn) ended(w *waiting, action *hcloud.Action) (ended bool, err *Error) {
	switch action.Status {
	case hcloud.ActionStatusSuccess:
		return true, nil
	case hcloud.ActionStatusError:
		e := &Error{Op: w.op, Kind: kinds[action.ErrorCode], Code: c.clean(action.ErrorCode), Message: c.clean(action.ErrorMessage)}
		if e.Kind == "" {
			e.Kind = Temporary
		}
		e.advice = c.advice(e.Kind)
		return true, e
	}
	return false, nil
}
