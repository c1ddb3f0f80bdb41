package ledger

// This file is about rented addresses: what has to be done at the cloud so that what is sent to an address reaches the
// node that has it bound, and so that nothing is kept that nobody needs.

import (
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// route is the cloud's side of a rented address.
type route struct {
	account string
	// id of the Floating IP; 0 when it is not known yet.
	id int64
	// gone: the cloud was asked for it and does not have it.
	gone bool
	// look: what is known of it may not be true any more; ask before anything is decided.
	look bool
	// detach: the cloud refuses to assign it while it is assigned.
	detach bool
	// kept: it was to be deleted, and the cloud protects it.
	kept bool
	// retain: it outlives the Service that let go of it last. byLabel: that Service is not known, and the label at the
	// cloud says whether it does.
	retain, byLabel bool
	// busy: a call is on its way.
	busy bool
	// done: there is nothing to do.
	done bool
	retry
}

// rent makes an address one that is rented.
func (a *address) rent(account string, id int64) {
	if a.route == nil {
		a.route = &route{}
	}
	if account != "" && (a.route.account == "" || a.route.id == 0) {
		a.route.account = account
	}
	if id != 0 && a.route.id != id {
		*a.route = route{account: a.route.account, id: id, retain: a.route.retain, byLabel: a.route.byLabel}
	}
}

// link notes which Floating IP an address is, where the agents' objects say it, too.
func (l *Ledger) link(a *address, r *rented) {
	before := a.floatingIP()
	if a.route.account != r.account {
		l.plan(a.route.account, target{addr: a.addr}, nil, retry{}, false)
	}
	a.rent(r.account, r.ID)
	a.route.account, a.route.gone = r.account, false
	if before != r.ID {
		l.touchEntries(a)
	}
}

// rentedOf returns the Floating IP of an address as it was seen last; nil when it was not, or is another one.
func (l *Ledger) rentedOf(a *address) *rented {
	r := l.rented[prefixOf(a.addr)]
	if r == nil || a.route.gone || a.route.id != 0 && r.ID != a.route.id {
		return nil
	}
	return r
}

// ours reports whether this cluster bought a Floating IP.
func (l *Ledger) ours(r *rented) bool {
	return r.Owner.ClusterUID != "" && r.Owner.ClusterUID == l.rental.ClusterUID
}

// takesOver reports whether an address is listed by a pool that takes from others.
func (l *Ledger) takesOver(a *address) bool {
	p := l.pools[a.pool]
	return l.isListed(a) && p != nil && p.Hetzner != nil && p.Hetzner.Takeover
}

// bought reports whether a Floating IP is one that this cluster bought and that no pool lists.
func (l *Ledger) bought(a *address, r *rented) bool {
	return l.ours(r) && !l.isListed(a)
}

// closed says why nothing may be done about a rented address; nil when it may.
func (l *Ledger) closed(a *address) *lb.Refusal {
	if a.route == nil {
		return nil
	}
	acct := l.accounts[a.route.account]
	if acct == nil {
		return lb.Refuse(lb.ReasonAccountUnavailable, "%s is a Floating IP of pool %q, and no account of the cloud-config has it: put the pool and its token back",
			a.addr, a.pool)
	}
	return acct.closed
}

// freeze is how an address stands of which nothing may be decided: as it was found. Whether it is routed cannot be
// seen, so one that nobody was told of does not answer yet.
func (l *Ledger) freeze(a *address, why *lb.Refusal) place.Outcome {
	o := place.Outcome{Waiting: why}
	for name, e := range a.entries {
		if e.state == place.Hold && (o.Holder == "" || e.term > a.entries[o.Holder].term) {
			o.Holder = name
			o.Bound = l.nodes[name].acknowledged(a.addr, e)
		}
	}
	if len(a.refs) > 0 {
		o.Bound = o.Bound && l.published(a)
	}
	if o.Bound && len(a.refs) > 0 {
		if acct := l.accounts[a.route.account]; acct == nil || acct.heard {
			o.Misplaced = why
		}
		o.Waiting = nil
	}
	return o
}

// unrouted reports whether what is sent to a rented address does not reach the node. What is in doubt is not told to
// anybody, but what is published already is taken to be as it was.
func (l *Ledger) unrouted(a *address, n *node) bool {
	if a.route == nil {
		return false
	}
	r := l.rentedOf(a)
	return r == nil || a.route.look && !l.published(a) || r.Server == 0 || r.Server != n.Server
}

// reroute decides what has to be done next at the cloud about a rented address, and corrects its outcome: it answers
// only once it is routed, and is free only once it is given back.
func (l *Ledger) reroute(a *address) {
	r := a.route
	job, waiting := l.nextCall(a)
	r.done = job == nil && waiting == nil && !r.busy
	if r.done {
		r.retry = retry{}
	}
	l.plan(r.account, target{addr: a.addr}, job, r.retry, r.busy)
	if waiting == nil && (job != nil || r.busy) {
		waiting = lb.Refuse(lb.ReasonRouting, "waiting for the cloud")
	}
	if r.trouble != nil && job != nil {
		waiting = r.trouble
	}
	if len(a.refs) > 0 {
		if waiting != nil && waiting.Reason == lb.ReasonFloatingIPBlocked {
			a.outcome.Bound = false
		}
		if waiting != nil && !a.outcome.Bound && (a.outcome.Waiting == nil || a.outcome.Waiting.Reason == lb.ReasonRouting) {
			a.outcome.Waiting = waiting
		}
		return
	}
	switch {
	case !r.done:
		a.outcome.Free, a.outcome.Quarantined = false, false
		if waiting != nil && a.outcome.Waiting == nil {
			a.outcome.Waiting = lb.Refuse(lb.ReasonReleasing, "%s", waiting.Message)
		}
	case a.outcome.Quarantined || a.outcome.Waiting != nil && l.unreachable(a):
		// The routing is the fence: a node that does not answer holds up nobody.
		a.outcome.Quarantined = false
		l.letGo(a)
	}
}

// tryAtOnce has an address routed to a new holder without the pause that came of what failed before: that was another
// call. What is bought is nobody else's, so it need not be looked at first either.
func (l *Ledger) tryAtOnce(a *address) {
	a.route.retry = retry{}
	r, holder := l.rented[prefixOf(a.addr)], l.nodes[a.outcome.Holder]
	if r != nil && holder != nil && r.ID == a.route.id && r.Server != holder.Server && l.bought(a, r) {
		a.route.look = false
	}
}

// unreachable reports whether all nodes that still have the address bound are lost.
func (l *Ledger) unreachable(a *address) bool {
	demand := l.demand(a, time.Time{})
	for name := range a.entries {
		if standing, _, _ := place.StandingOf(demand, l.nodes[name].Candidate, time.Time{}); standing < place.Lost {
			return false
		}
	}
	return true
}

// nextCall returns the next call about a rented address, nil when there is none, and what its traffic or its release
// waits for.
func (l *Ledger) nextCall(a *address) (*Job, *lb.Refusal) {
	if why := l.closed(a); why != nil {
		return nil, why
	}
	r := l.rentedOf(a)
	if r != nil && a.route.id == 0 {
		l.link(a, r)
	}
	switch {
	case a.route.look && a.route.id != 0:
		return l.call(a, r, OpLook), nil
	case r != nil && len(a.refs) > 0:
		return l.callWanted(a, r)
	case r != nil:
		return l.callUnwanted(a, r), nil
	case !a.route.gone && a.route.id != 0:
		return l.call(a, r, OpLook), nil
	case !a.route.gone && !l.settled(a.route.account):
		return nil, lb.Refuse(lb.ReasonAccountUnavailable, "account %s is being read", a.route.account)
	case len(a.refs) == 0:
		return nil, nil
	case l.isListed(a):
		return nil, lb.Refuse(lb.ReasonFloatingIPMissing, "%s is no Floating IP of account %s any more: put it back there, or have the Service ask for another",
			a.addr, a.route.account)
	default:
		return nil, lb.Refuse(lb.ReasonAddressLost, "%s was published and does not exist in account %s any more; it is not replaced silently: "+
			"delete the Service and make it again to get another address", a.addr, a.route.account)
	}
}

// callWanted is about an address that a Service holds.
func (l *Ledger) callWanted(a *address, r *rented) (*Job, *lb.Refusal) {
	holder := l.nodes[a.outcome.Holder]
	routed := holder != nil && holder.Server != 0 && r.Server == holder.Server
	var trouble *lb.Refusal
	if r.Blocked || !l.bought(a, r) {
		trouble = l.trouble(r, a.pool)
	}
	if trouble != nil && trouble.Reason == lb.ReasonHeldElsewhere {
		return nil, trouble
	}
	if !routed && holder != nil && holder.Server != 0 && l.mayRoute(a, holder) {
		if a.route.detach && r.Server != 0 {
			return l.call(a, r, OpUnassign), trouble
		}
		job := l.call(a, r, OpAssign)
		job.Server = holder.Server
		return job, trouble
	}
	if owner := l.ownerOf(a, r); r.Owner != owner && (l.ours(r) || l.takesOver(a)) {
		job := l.call(a, r, OpLabel)
		job.Owner = owner
		return job, trouble
	}
	return nil, trouble
}

// mayRoute reports whether traffic may be turned to the holder: it has the address bound, or nobody else serves.
func (l *Ledger) mayRoute(a *address, holder *node) bool {
	e := a.entries[holder.name]
	if e == nil || e.state != place.Hold {
		return false
	}
	if holder.acknowledged(a.addr, e) {
		return true
	}
	for _, other := range a.entries {
		if other.state == place.Yield {
			return false
		}
	}
	return l.published(a)
}

// published reports whether an address stands in the status of a Service that holds it.
func (l *Ledger) published(a *address) bool {
	for uid := range a.refs {
		if s := l.services[uid]; s != nil && slices.Contains(s.published, a.addr) {
			return true
		}
	}
	return false
}

// toldOf reports whether an address stands in a status, or did when this controller came.
func (l *Ledger) toldOf(a *address) bool {
	for uid := range a.refs {
		if s := l.services[uid]; s != nil && slices.Contains(s.shown, a.addr) {
			return true
		}
	}
	return l.published(a)
}

// ownerOf is what the labels of a held Floating IP shall say.
func (l *Ledger) ownerOf(a *address, r *rented) lb.Owner {
	if l.isListed(a) {
		return lb.Owner{}
	}
	owner := r.Owner
	if l.pools[a.pool] != nil {
		e, _ := l.buys(a.pool)
		owner.Pool, owner.Retain = a.pool, e.Retain
	}
	refs := a.services()
	if _, ok := a.refs[owner.Service.UID]; !ok {
		owner.Service = refs[0]
	}
	for _, ref := range refs {
		if s := l.services[ref.UID]; s != nil && s.request.Retain {
			owner.Retain = true
		}
	}
	return owner
}

// callUnwanted is about an address that is given back, or that nobody holds.
func (l *Ledger) callUnwanted(a *address, r *rented) *Job {
	if l.isListed(a) || !l.ours(r) {
		switch {
		case l.ours(r), l.takesOver(a) && r.Owner != lb.Owner{}:
			return l.call(a, r, OpLabel) // with no owner: it belongs to the pool from now on
		case r.Server != 0 && l.ourServer(r.Server) && r.Owner.ClusterUID == "":
			return l.call(a, r, OpUnassign)
		}
		return nil
	}
	retain := a.route.retain || a.route.kept || a.route.byLabel && r.Owner.Retain
	switch {
	case retain && !r.Owner.Retain:
		job := l.call(a, r, OpLabel)
		job.Owner = r.Owner
		job.Owner.Retain = true
		return job
	case r.Server != 0:
		return l.call(a, r, OpUnassign)
	case !retain:
		return l.call(a, r, OpDelete)
	}
	return nil
}
