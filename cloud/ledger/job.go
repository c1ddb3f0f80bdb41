package ledger

// This file is about calls to the cloud: what is to be called next, and how often what failed is tried again.

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

const (
	// retryFirst and retryLast bound the pause before a call is tried again.
	retryFirst = time.Second
	retryLast  = 5 * time.Minute
	// blindPause is that after a refusal for the rate limit that does not say how long it lasts.
	blindPause = time.Minute
	// retryHopeless is the pause after a failure that only a person ends: a limit, a token.
	retryHopeless = 5 * time.Minute
)

// Op is what a Job does at the cloud.
type Op string

const (
	// OpBuy buys a Floating IP.
	OpBuy Op = "buy"
	// OpAssign has a Floating IP routed to a server.
	OpAssign Op = "assign"
	// OpUnassign ends its routing.
	OpUnassign Op = "unassign"
	// OpLabel writes to whom it belongs; with no owner it belongs to nobody that Mooring knows.
	OpLabel Op = "label"
	// OpDelete gives it back.
	OpDelete Op = "delete"
	// OpLook asks how it stands.
	OpLook Op = "look"
)

// Guarded reports whether the call has to be made by the newest controller alone: it cannot be taken back.
func (op Op) Guarded() bool { return op == OpBuy || op == OpUnassign || op == OpDelete }

// Job is one call to the cloud about one address, or one purchase.
type Job struct {
	Account string
	Op      Op
	// Addr that it is about; the zero value for a purchase.
	Addr netip.Addr
	// ID of the Floating IP; 0 for a purchase.
	ID     int64
	Server int64
	Owner  lb.Owner
	Order  lb.Order
	// Urgent: traffic is lost until it is done.
	Urgent bool
	// Pool and Services that it is done for.
	Pool     string
	Services []lb.Ref

	created time.Time
}

func (j Job) String() string {
	switch {
	case j.Op == OpBuy:
		return fmt.Sprintf("buy %s for %s (pool %s)", j.Order.Family, j.Order.Service, j.Pool)
	case j.Op == OpAssign:
		return fmt.Sprintf("assign %s (Floating IP %d) to server %d", j.Addr, j.ID, j.Server)
	default:
		return fmt.Sprintf("%s %s (Floating IP %d)", j.Op, j.Addr, j.ID)
	}
}

func (j *Job) target() target {
	if j.Op == OpBuy {
		return target{uid: j.Order.Service.UID, family: j.Order.Family}
	}
	return target{addr: j.Addr}
}

// Answer is what became of a Job.
type Answer struct {
	// FloatingIP that was bought or looked at.
	FloatingIP lb.FloatingIP
	// Fault is nil when it went well.
	Fault *Fault
}

// FaultKind says what a failed call means.
type FaultKind string

const (
	// FaultTemporary: it may go well later.
	FaultTemporary FaultKind = "Temporary"
	// FaultUnknown: the answer never came; it may have been done.
	FaultUnknown FaultKind = "Unknown"
	// FaultNotFound: there is no such thing in the account.
	FaultNotFound FaultKind = "NotFound"
	// FaultRateLimited: not before RetryAt.
	FaultRateLimited FaultKind = "RateLimited"
	// FaultLimit: the project may not have more.
	FaultLimit FaultKind = "LimitReached"
	// FaultUnauthorized: the token is not accepted, or not for this.
	FaultUnauthorized FaultKind = "Unauthorized"
	// FaultNameTaken: the name belongs to something that is not ours.
	FaultNameTaken FaultKind = "NameTaken"
	// FaultProtected: it is protected from being deleted.
	FaultProtected FaultKind = "Protected"
	// FaultAssigned: it is assigned, and that is in the way.
	FaultAssigned FaultKind = "Assigned"
	// FaultRefused: the cloud does not do it.
	FaultRefused FaultKind = "Refused"
)

// Fault is why a call failed.
type Fault struct {
	Kind    FaultKind
	Message string
	// RetryAt is when the cloud says that it may be tried again; zero when it does not say.
	RetryAt time.Time
}

// reason is what a user reads of a fault.
func (f *Fault) reason() *lb.Refusal {
	reasons := map[FaultKind]lb.Reason{
		FaultRateLimited: lb.ReasonRateLimited, FaultLimit: lb.ReasonLimitReached,
		FaultUnauthorized: lb.ReasonUnauthorized, FaultNameTaken: lb.ReasonNameTaken,
	}
	return lb.Refuse(cmp.Or(reasons[f.Kind], lb.ReasonCloudError), "%s", f.Message)
}

// retry remembers that a call failed.
type retry struct {
	failures int
	at       time.Time
	trouble  *lb.Refusal
}

func (r *retry) failed(f *Fault, now time.Time) {
	r.trouble = f.reason()
	r.at = now.Add(min(retryFirst<<min(r.failures, 20), retryLast))
	switch f.Kind {
	case FaultRateLimited:
		r.at = f.RetryAt
		return
	case FaultLimit, FaultUnauthorized, FaultNameTaken:
		r.at = now.Add(retryHopeless)
		return
	case FaultAssigned:
		if r.failures == 0 {
			r.at = now // it is known what to do
		}
	}
	r.failures++
}

// target is what a Job is about: an address, or a purchase for a Service and family.
type target struct {
	addr   netip.Addr
	uid    string
	family lb.Family
}

func (t target) compare(o target) int {
	return cmp.Or(t.addr.Compare(o.addr), cmp.Compare(t.uid, o.uid), cmp.Compare(t.family, o.family))
}

// task is a Job that waits to be done.
type task struct {
	*Job
	notBefore time.Time
}

// plan sets what is to be done about a target next; nil: nothing.
func (l *Ledger) plan(key string, t target, job *Job, r retry, busy bool) {
	a := l.accounts[key]
	if a == nil {
		return
	}
	if job == nil || busy {
		delete(a.work, t)
		return
	}
	a.work[t] = &task{job, r.at}
	l.effects.account(key)
}

// Next takes the Job out that an account has to do next: what traffic waits for first, then by the age of the
// Services. Without one, at is when there will be one; zero: not before something else happens. The caller tells
// Done what became of it, whatever became of it.
func (l *Ledger) Next(key string, urgentOnly bool, now time.Time) (job Job, ok bool, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[key]
	if a == nil || a.closed != nil {
		return Job{}, false, time.Time{}
	}
	var best *task
	for t, w := range a.work {
		if urgentOnly && !w.Urgent {
			continue
		}
		notBefore := w.notBefore
		if !w.Urgent && a.resume.After(notBefore) {
			notBefore = a.resume
		}
		if notBefore.After(now) {
			if at.IsZero() || notBefore.Before(at) {
				at = notBefore
			}
			continue
		}
		if best != nil && !before(w.Job, best.Job) || w.Op == OpBuy && !l.mayBuy(l.orders[t], w.Job, now) {
			continue // whether it may be bought is asked only of the one that is next: it looks at every node
		}
		best = w
	}
	if best == nil {
		return Job{}, false, at
	}
	delete(a.work, best.target())
	if best.Op == OpBuy {
		l.orders[best.target()].busy = true
	} else {
		l.addresses[best.Addr].route.busy = true
	}
	return *best.Job, true, time.Time{}
}

// before orders Jobs: urgent ones, then what gives back or keeps in order, then purchases by age.
func before(x, y *Job) bool {
	rank := func(j *Job) int {
		switch {
		case j.Urgent:
			return 0
		case j.Op != OpBuy:
			return 1
		default:
			return 2
		}
	}
	return cmp.Or(cmp.Compare(rank(x), rank(y)), x.created.Compare(y.created), x.target().compare(y.target())) < 0
}

// Done says what became of a Job.
func (l *Ledger) Done(job Job, res Answer, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if res.Fault != nil && res.Fault.Kind == FaultRateLimited && res.Fault.RetryAt.IsZero() {
		res.Fault.RetryAt = now.Add(blindPause)
	}
	if res.Fault != nil && res.Fault.Kind == FaultRateLimited && !job.Urgent {
		// It is the account that has to wait: the others would overtake this one.
		if a := l.accounts[job.Account]; a != nil {
			a.resume = res.Fault.RetryAt
		}
		res.Fault.RetryAt = time.Time{}
	}
	if job.Op == OpBuy {
		l.orderDone(job, res, now)
	} else {
		l.routeDone(job, res, now)
	}
}
