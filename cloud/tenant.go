package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/cloud/hetzner"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
)

const (
	// maxCalls are under way in one account at once. They wait for actions most of the time, of which one poll asks
	// for 25.
	maxCalls = 50
	// serversEvery is how often the servers of an account are read although no Node asks for it: that the account is
	// the cluster's is found out anew.
	serversEvery = time.Hour
	// readRetry and readRetryMax bound the pause after a read that went wrong, and readPause is between two reads that
	// were asked for.
	readRetry, readRetryMax, readPause = 2 * time.Second, 5 * time.Minute, 2 * time.Second
	// scarcePause is between two calls when few are left: the one is counted before the next is decided on, so that those
	// go first that have waited longest.
	scarcePause = 250 * time.Millisecond
	// callLimit is how long a call may take, with the action that it starts.
	callLimit = 6 * time.Minute
)

// readsAtStart is when accounts are read after a new leader came: at once, when the lists show all that the one before
// has done, and when calls of it that were late have had their effect.
var readsAtStart = []time.Duration{0, 4 * time.Second, 15 * time.Second, 35 * time.Second, time.Minute}

// tenant looks after one account at the cloud: it reads the account, and makes the calls that the ledger decides, one
// about each address at a time and as many at once as the rate limit allows.
type tenant struct {
	room    *room
	account *hetzner.Account
	wakeup  chan struct{}
	// cancel ends it.
	cancel context.CancelFunc
	// paced is when the next call may begin that is not urgent. Only run uses it.
	paced time.Time

	mu     sync.Mutex
	flying int
	// tokens counts the tokens that came into use: what was read with an earlier one says nothing.
	tokens  int
	reading bool
	// due is when the account is read next, atStart the reads that a new leader still owes.
	due       time.Time
	atStart   []time.Time
	failures  int
	lastRead  time.Time
	lastFully time.Time // with its servers
}

func newTenant(r *room, a *hetzner.Account) *tenant {
	t := &tenant{room: r, account: a, wakeup: make(chan struct{}, 1)}
	now := r.options.Clock.Now()
	for _, after := range readsAtStart {
		t.atStart = append(t.atStart, now.Add(after))
	}
	return t
}

// wake has the tenant look at what there is to do.
func (t *tenant) wake() {
	select {
	case t.wakeup <- struct{}{}:
	default: // it has not looked since the last one
	}
}

// readSoon has the account read out of turn.
func (t *tenant) readSoon() {
	t.mu.Lock()
	at := t.room.options.Clock.Now()
	if next := t.lastRead.Add(readPause); next.After(at) {
		at = next
	}
	if t.due.IsZero() || at.Before(t.due) {
		t.due = at
	}
	t.mu.Unlock()
	t.wake()
}

// run works until the context ends or writing has to end.
func (t *tenant) run(ctx context.Context) {
	for t.wait(ctx, t.start(ctx)) {
	}
}

// wait returns when there may be something to do, at the given time at the latest; false: no more.
func (t *tenant) wait(ctx context.Context, at time.Time) bool {
	var alarm <-chan time.Time
	if !at.IsZero() {
		timer := t.room.options.Clock.NewTimer(max(0, at.Sub(t.room.options.Clock.Now())))
		defer timer.Stop()
		alarm = timer.C()
	}
	select {
	case <-t.wakeup:
	case <-alarm:
	case <-ctx.Done():
		return false
	case <-t.room.stopped:
		return false
	}
	return true
}

// start begins what can be begun, and returns when there is more to do; zero: not before something happens.
func (t *tenant) start(ctx context.Context) time.Time {
	now := t.room.options.Clock.Now()
	at := t.startRead(ctx, now)
	for {
		t.mu.Lock()
		full := t.flying >= maxCalls
		t.mu.Unlock()
		if full {
			return at // the end of a call wakes us
		}
		if wait := t.account.Ready(true); !wait.IsZero() {
			return earlier(at, wait)
		}
		wait := t.account.Ready(false)
		if wait.IsZero() && t.paced.After(now) {
			wait = t.paced
		}
		job, ok, next := t.room.ledger().Next(t.account.Key(), !wait.IsZero(), now)
		if !ok {
			return earlier(earlier(at, next), wait)
		}
		t.mu.Lock()
		t.flying++
		t.mu.Unlock()
		if left, limit, known := t.account.Budget(); known && !job.Urgent && left < limit/10+maxCalls {
			t.paced = now.Add(scarcePause)
		}
		t.room.working.Go(func() { t.do(ctx, job) })
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// do makes one call and tells the ledger what became of it.
func (t *tenant) do(ctx context.Context, job ledger.Job) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	logger := klog.FromContext(ctx)
	start := t.room.options.Clock.Now()
	answer, err := t.call(ctx, job)
	if errors.Is(err, nodeaddresses.ErrSuperseded) {
		t.room.superseded(err)
	}
	answer.Fault = faultOf(err)
	t.room.metrics.called(job, answer)
	if err != nil {
		logger.Error(err, "Cloud", "call", job.String(), "services", fmt.Sprint(job.Services))
	} else {
		logger.Info("Cloud", "call", job.String(), "services", fmt.Sprint(job.Services), "took", t.room.options.Clock.Since(start).Round(time.Millisecond))
	}
	t.mu.Lock()
	t.flying--
	t.mu.Unlock()
	t.room.ledger().Done(job, answer, t.room.options.Clock.Now())
	t.room.policy.wake() // something may have been bought, or given back
	t.room.drain()
	t.wake()
}

// call makes the call. One that cannot be taken back is made only while no newer controller leads.
func (t *tenant) call(ctx context.Context, job ledger.Job) (ledger.Answer, error) {
	if job.Op.Guarded() {
		term, err := t.room.epoch.current(ctx)
		if err != nil {
			return ledger.Answer{}, err
		}
		if ours := t.room.ledger().Epoch(); term > ours {
			return ledger.Answer{}, fmt.Errorf("epoch is %d, ours is %d: %w", term, ours, nodeaddresses.ErrSuperseded)
		}
	}
	var answer ledger.Answer
	var err error
	switch job.Op {
	case ledger.OpBuy:
		answer.FloatingIP, err = t.account.Buy(ctx, job.Order)
	case ledger.OpAssign:
		err = t.account.Assign(ctx, job.ID, job.Server, job.Urgent)
	case ledger.OpUnassign:
		err = t.account.Unassign(ctx, job.ID)
	case ledger.OpLabel:
		err = t.account.Label(ctx, job.ID, job.Owner)
	case ledger.OpDelete:
		err = t.account.Delete(ctx, job.ID)
	case ledger.OpLook:
		answer.FloatingIP, err = t.account.FloatingIP(ctx, job.ID)
	}
	return answer, err
}

// faults are the words of the ledger for those of the cloud.
var faults = map[hetzner.Kind]ledger.FaultKind{
	hetzner.NotFound: ledger.FaultNotFound, hetzner.NameTaken: ledger.FaultNameTaken, hetzner.LimitReached: ledger.FaultLimit,
	hetzner.Unauthorized: ledger.FaultUnauthorized, hetzner.Protected: ledger.FaultProtected, hetzner.Assigned: ledger.FaultAssigned,
	hetzner.RateLimited: ledger.FaultRateLimited, hetzner.Unavailable: ledger.FaultRefused, hetzner.Invalid: ledger.FaultRefused,
	hetzner.Temporary: ledger.FaultTemporary, hetzner.Unknown: ledger.FaultUnknown,
}

// faultOf says what an error of a call means; nil when there is none.
func faultOf(err error) *ledger.Fault {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*hetzner.Error](err)
	switch {
	case !ok:
		// The call was not made.
		return &ledger.Fault{Kind: ledger.FaultTemporary, Message: err.Error()}
	case e.Uncertain:
		return &ledger.Fault{Kind: ledger.FaultUnknown, Message: e.Error(), RetryAt: e.RetryAt}
	}
	return &ledger.Fault{Kind: faults[e.Kind], Message: e.Error(), RetryAt: e.RetryAt}
}

// accept takes a new token into use. False: the file has changed again.
func (t *tenant) accept(candidate *hetzner.Account) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !candidate.Accept() {
		return false
	}
	t.tokens++
	return true
}

// startRead begins a read of the account when one is due, and returns when the next one is.
func (t *tenant) startRead(ctx context.Context, now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	due := t.due
	if len(t.atStart) > 0 {
		due = earlier(due, t.atStart[0])
	}
	switch {
	case t.reading:
		return time.Time{} // its end wakes us
	case due.After(now):
		return due
	}
	if wait := t.account.Ready(false); !wait.IsZero() {
		return wait
	}
	for len(t.atStart) > 0 && !t.atStart[0].After(now) {
		t.atStart = t.atStart[1:]
	}
	t.reading = true
	token := t.tokens
	servers := now.Sub(t.lastFully) >= serversEvery || t.room.ledger().NeedsServers(t.account.Key())
	t.room.working.Go(func() { t.read(ctx, servers, token) })
	return time.Time{}
}

// read takes in what the account shows.
func (t *tenant) read(ctx context.Context, servers bool, token int) {
	inventory, err := t.account.Inventory(ctx, servers)
	now := t.room.options.Clock.Now()
	t.mu.Lock()
	t.reading = false
	t.lastRead = now
	if token != t.tokens {
		t.due = now
		t.mu.Unlock()
		t.wake()
		return
	}
	if err != nil {
		t.due = now.Add(min(readRetry<<min(t.failures, 20), readRetryMax))
		t.failures++
	} else {
		t.failures = 0
		t.due = now.Add(time.Duration(t.room.resyncEvery.Load()))
		if servers {
			t.lastFully = inventory.Began
		}
	}
	t.mu.Unlock()
	if err != nil {
		klog.FromContext(ctx).Error(err, "Account could not be read", "account", t.account.Key())
		t.room.ledger().AccountFailed(t.account.Key(), unreadable(t.account.Key(), err), now)
	} else {
		t.room.ledger().Inventory(t.account.Key(), inventory, now)
		t.room.policy.wake()
	}
	t.room.drain()
	t.wake()
}

// unreadable says to those who wait for an account why it is not read.
func unreadable(key string, err error) *lb.Refusal {
	reason := lb.ReasonAccountUnavailable
	if hetzner.KindOf(err) == hetzner.Unauthorized {
		reason = lb.ReasonUnauthorized
	}
	return lb.Refuse(reason, "account %s could not be read: %v", key, err)
}
