package ledger

// This file is about what an account shows: for whom each Floating IP was bought, and what is nobody's.

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// askBy is how long after a controller came it waits for the Services that were there to say what they want.
const askBy = 2 * time.Minute

// holdsFamily reports whether a Service holds an address of a family.
func (l *Ledger) holdsFamily(s *service, f lb.Family) bool {
	return slices.ContainsFunc(l.allocator.Leases(s.request.UID), func(lease lb.Lease) bool { return lb.FamilyOf(lease.Addr) == f })
}

// claim finds the Service that a Floating IP was bought for, by its labels, and the address that a pool lists and
// somebody holds.
func (l *Ledger) claim(r *rented, now time.Time) {
	acct := l.accounts[r.account]
	ours := l.ours(r)
	if a := l.recordOf(r); a != nil {
		delete(acct.orphans, r.ID)
		if a.route == nil {
			return // a pool without an account lists it: somebody else's business
		}
		if ours || l.isListed(a) || a.route.id == 0 || a.route.id == r.ID {
			l.link(a, r)
		}
		return
	}
	if _, ok := l.listed[r.Prefix]; ok || !ours || l.inAddresses(r.Addr()) {
		return
	}
	if !l.claimForService(r, now) {
		l.orphan(acct, r, now)
	}
}

// inAddresses reports whether a pool without an account lists an address: nobody buys or deletes it then.
func (l *Ledger) inAddresses(addr netip.Addr) bool {
	for _, p := range l.pools {
		if p.Addresses != nil && p.Addresses.Contains(addr) {
			return true
		}
	}
	return false
}

// claimForService gives a bought Floating IP to the Service in its labels when that exists, or existed lately. It
// reports whether it did.
func (l *Ledger) claimForService(r *rented, now time.Time) bool {
	uid, family := r.Owner.Service.UID, r.Family()
	if o := l.orders[target{uid: uid, family: family}]; o != nil {
		if o.busy {
			return true // its answer is on the way
		}
		l.orderFilled(o, r, now)
		return true
	}
	if s := l.services[uid]; s != nil && s.wants {
		if l.holdsFamily(s, family) && !slices.Contains(s.shown, r.Addr()) {
			return false
		}
		return l.adoptRented(s, r, s.request, now)
	}
	k, ok := l.known[uid]
	if !ok {
		return false
	}
	if r.Owner.Retain && !k.Wants {
		// Later it is its user's who has assigned it to one of our nodes.
		left := l.ourServer(r.Server) && (k.Pending || now.Sub(l.adoptedAt) < lateFor)
		if !left {
			return true
		}
	}
	if k.Wants {
		s := l.newService(k.Request)
		s.wants = true
		s.published = slices.Clone(k.Published)
		return l.adoptRented(s, r, k.Request, now)
	}
	l.giveBack(r, k.Request, now)
	return true
}

// adoptRented makes a bought Floating IP a lease of the Service.
func (l *Ledger) adoptRented(s *service, r *rented, request lb.Request, now time.Time) bool {
	lease := lb.Lease{Addr: r.Addr(), Pool: r.Owner.Pool}
	successor := l.holdsFamily(s, r.Family())
	if refusal := l.allocator.Adopt(request, lease); refusal != nil {
		return false
	}
	if slices.Contains(s.shown, r.Addr()) {
		s.published = append(s.published, r.Addr())
	}
	a := l.address(lease)
	a.rent(r.account, r.ID)
	a.refs[s.request.UID] = s.request.Ref
	if successor {
		s.leave = append(s.leave, lease) // when that is published instead
	} else {
		s.want = append(s.want, lease)
	}
	l.evaluate(a, now)
	l.wake(s.request.Ref)
	return true
}

// giveBack has a Floating IP released that was bought for a Service that is gone.
func (l *Ledger) giveBack(r *rented, request lb.Request, now time.Time) {
	lease := lb.Lease{Addr: r.Addr(), Pool: r.Owner.Pool}
	if l.services[request.UID] == nil {
		l.newService(request)
	}
	l.allocator.Adopt(request, lease)
	a := l.address(lease)
	a.rent(r.account, r.ID)
	a.route.retain = request.Retain || r.Owner.Retain
	a.last, a.unwantedSince = request.Ref, now
	l.evaluate(a, now)
}

// tidy puts the Floating IPs in order that a pool lists and nobody holds: not bought by anybody, and assigned to nobody.
// It comes last: one that was assigned by hand, and that a Service wants, serves from where it is.
func (l *Ledger) tidy(acct *account, now time.Time) {
	if l.unasked(now) || acct.readAt.Before(l.poolsAt.Add(listLag)) {
		return // those that may want them have not been looked at
	}
	for _, r := range l.ofAccount(acct.key) {
		listing, ok := l.listed[r.Prefix]
		if !ok || !l.ours(r) && (r.Server == 0 || !l.ourServer(r.Server) || r.Owner.ClusterUID != "") {
			continue
		}
		if l.recordOf(r) == nil && !l.asksFor(listing.Addr) {
			l.tidyUp(r, listing, now)
		}
	}
}

// unasked reports whether a Service that was there when this controller came has not said yet what it wants. One that
// went meanwhile never does.
func (l *Ledger) unasked(now time.Time) bool {
	if now.Sub(l.adoptedAt) >= askBy {
		return false
	}
	for _, k := range l.known {
		if k.Wants {
			return true
		}
	}
	return false
}

// asksFor reports whether an address that nobody holds is to be left where it is: kube-proxy serves it, or a Service asks
// for it that may have it, and has not got it for another reason: another address that it asks for is missing.
func (l *Ledger) asksFor(addr netip.Addr) bool {
	if l.allocator.Exposed(addr) {
		return true
	}
	for _, s := range l.services {
		r := &s.request
		if s.wants && (r.LoadBalancerIP == addr || slices.Contains(r.Addresses, addr)) {
			if _, refusal := l.allocator.Allowed(*r, addr); refusal == nil {
				return true
			}
		}
	}
	return false
}

func (l *Ledger) tidyUp(r *rented, listing lb.Lease, now time.Time) {
	a := l.address(listing)
	a.rent(r.account, r.ID)
	a.unwantedSince = now
	a.quarantined = true
	l.allocator.Quarantine(a.addr)
	l.evaluate(a, now)
}

// orphan takes notice of a bought Floating IP that belongs to no Service. It is one when it is seen so twice, a slow
// loop apart.
func (l *Ledger) orphan(acct *account, r *rented, now time.Time) {
	if r.Owner.Retain {
		return
	}
	since, seen := acct.orphans[r.ID]
	if !seen {
		acct.orphans[r.ID] = acct.readAt
		return
	}
	if acct.readAt.Sub(since) < l.resyncInterval {
		return
	}
	if l.rental.Orphans[acct.key] {
		l.giveBack(r, lb.Request{Ref: r.Owner.Service}, now)
		return
	}
	l.effects.Notices = append(l.effects.Notices, Notice{Service: r.Owner.Service, Warning: true, Reason: lb.ReasonOrphan,
		Message: fmt.Sprintf("Floating IP %s (%s) was bought for this Service, which does not exist any more; delete it at the cloud, or set hetzner.orphans: release",
			r.Name, r.Prefix)})
}

// beSure ends the doubt about what an earlier controller may have bought: every account has shown it by now, and what
// happens to one later leaves nothing in doubt.
func (l *Ledger) beSure() {
	for _, s := range l.services {
		s.unsure = false
	}
	for uid, k := range l.known {
		k.unsure = false
		l.known[uid] = k
	}
}

// forgetKnown forgets Services that have been gone for long.
func (l *Ledger) forgetKnown(now time.Time) {
	for uid, k := range l.known {
		if !k.Wants && now.Sub(k.since) > rememberFor {
			delete(l.known, uid)
		}
	}
}
