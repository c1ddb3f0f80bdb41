package ledger

// This file is about the calls to the cloud that a rented address needs: what is asked, and what becomes of the answer.

import (
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// call makes a job about an address.
func (l *Ledger) call(a *address, r *rented, op Op) *Job {
	job := &Job{Account: a.route.account, Op: op, Addr: a.addr, ID: a.route.id, Pool: a.pool, Services: a.services()}
	if r != nil {
		job.ID = r.ID
	}
	if a.last.UID != "" && len(job.Services) == 0 {
		job.Services = []lb.Ref{a.last}
	}
	job.Urgent = len(a.refs) > 0 && l.published(a) && op == OpAssign
	for _, ref := range job.Services {
		if s := l.services[ref.UID]; s != nil && (job.created.IsZero() || s.request.Created.Before(job.created)) {
			job.created = s.request.Created
		}
	}
	return job
}

// routeDone takes in what became of a call about an address.
func (l *Ledger) routeDone(job Job, res Answer, now time.Time) {
	a := l.addresses[job.Addr]
	r := l.rented[prefixOf(job.Addr)]
	if r != nil && r.ID == job.ID {
		r.changed = now
		if res.Fault == nil {
			l.applyCall(r, job, res)
		}
	}
	if a == nil || a.route == nil || a.route.id != job.ID {
		return
	}
	a.route.busy = false
	switch {
	case res.Fault != nil:
		l.routeFailed(a, job, res.Fault, now)
	case job.Op != OpLook && job.Op != OpUnassign:
		// Those two come before what is wanted, which may fail again.
		a.route.retry = retry{}
	}
	if res.Fault == nil {
		l.routeChanged(a, job, res)
	}
	if a = l.addresses[job.Addr]; a != nil {
		l.evaluate(a, now)
	}
}

// applyCall brings what is known of a Floating IP up to date after a call that went well.
func (l *Ledger) applyCall(r *rented, job Job, res Answer) {
	switch job.Op {
	case OpAssign:
		r.Server = job.Server
	case OpUnassign:
		r.Server = 0
	case OpLabel:
		r.Owner = job.Owner
	case OpDelete:
		delete(l.rented, r.Prefix)
	case OpLook:
		r.FloatingIP = res.FloatingIP
	}
}

// routeChanged follows a call that went well.
func (l *Ledger) routeChanged(a *address, job Job, res Answer) {
	switch job.Op {
	case OpLook:
		a.route.look = false
		if l.rented[prefixOf(a.addr)] == nil {
			l.rented[res.FloatingIP.Prefix] = &rented{FloatingIP: res.FloatingIP, account: a.route.account}
		}
	case OpAssign:
		a.route.detach = false
	case OpUnassign:
		if len(a.refs) == 0 && !l.isListed(a) && (a.route.retain || a.route.kept) {
			l.notice(a, lb.ReasonRetained, "%s is kept at the cloud (Floating IP %d), unassigned", a.addr, job.ID)
		}
	case OpDelete:
		a.route.gone = true
		l.notice(a, lb.ReasonReleased, "%s is given back (Floating IP %d)", a.addr, job.ID)
		l.replaceDeleted(a)
	}
}

// replaceDeleted lets go of an address that was deleted while its Service came to want one again: nobody was told of
// it, so the Service may have another.
func (l *Ledger) replaceDeleted(a *address) {
	for _, ref := range a.services() {
		l.allocator.Release(ref.UID, a.addr)
		delete(a.refs, ref.UID)
		if s := l.services[ref.UID]; s != nil {
			s.want = slices.DeleteFunc(slices.Clone(s.want), func(lease lb.Lease) bool { return lease.Addr == a.addr })
		}
		l.wake(ref)
	}
}

// routeFailed decides what a failed call means.
func (l *Ledger) routeFailed(a *address, job Job, f *Fault, now time.Time) {
	switch f.Kind {
	case FaultNotFound:
		switch job.Op {
		case OpAssign:
			// The Floating IP or the server: the one is looked at now, the other with the next read.
			a.route.look = true
			if acct := l.accounts[a.route.account]; acct != nil {
				acct.doubted = true
				l.effects.read(acct.key)
			}
		default:
			a.route.gone, a.route.look = true, false
			if r := l.rented[prefixOf(a.addr)]; r != nil && r.ID == job.ID {
				delete(l.rented, r.Prefix)
			}
			if !l.isListed(a) && !l.toldOf(a) {
				l.replaceDeleted(a)
			}
			return
		}
	case FaultAssigned:
		a.route.look, a.route.detach = true, true
	case FaultProtected:
		if job.Op == OpDelete {
			a.route.kept = true
			l.notice(a, lb.ReasonProtected, "%s (Floating IP %d) is protected from deletion at the cloud: it is kept and labelled so", a.addr, job.ID)
			return
		}
	case FaultUnknown, FaultRefused:
		a.route.look = true
	case FaultTemporary:
		// Once may be chance; after that it may not be as it is thought to be.
		a.route.look = a.route.failures > 0 || job.Op == OpUnassign
	}
	a.route.failed(f, now)
}

// notice has something told to those who look at the Services of an address.
func (l *Ledger) notice(a *address, reason lb.Reason, format string, args ...any) {
	refs := a.services()
	if len(refs) == 0 && a.last.UID != "" {
		refs = []lb.Ref{a.last}
	}
	message := lb.Refuse(reason, format, args...).Message
	for _, ref := range refs {
		l.effects.Notices = append(l.effects.Notices, Notice{Service: ref, Warning: reason == lb.ReasonProtected, Reason: reason, Message: message})
	}
}
