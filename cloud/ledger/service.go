package ledger

// This file is about Services: what each wants, holds, leaves and is refused.

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// service is one Service that holds or wants addresses.
type service struct {
	request lb.Request
	// wants is false once the Service is on the release path.
	wants     bool
	want      []lb.Lease
	leave     []lb.Lease
	refusal   *lb.Refusal
	published []netip.Addr
}

// Want says that a Service wants what the request asks for, and makes it so as far as that is allowed. Asking again
// changes nothing.
func (l *Ledger) Want(r lb.Request, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[r.UID]
	if s == nil {
		s = l.newService(r)
	}
	before := s.request
	s.request = r
	s.wants = true
	l.assign(s, now)
	if !sharesAlike(before, r) {
		l.wakeRivals(before)
		l.wakeRivals(r)
	}
}

// sharesAlike reports whether two requests of one Service are equal in what decides about sharing.
func sharesAlike(a, b lb.Request) bool {
	return a.SharingKey == b.SharingKey && a.Local == b.Local && a.PodSelector == b.PodSelector &&
		slices.Equal(a.Ports, b.Ports) && slices.Equal(a.ExternalIPs, b.ExternalIPs) && slices.Equal(a.Addresses, b.Addresses)
}

// wakeRivals wakes the Services that judge each other by what they share with this one: when one changes, the others
// may have to leave, or may have an address after all.
func (l *Ledger) wakeRivals(r lb.Request) {
	if r.SharingKey == "" {
		return
	}
	for _, s := range l.services {
		if s.request.UID != r.UID && s.request.SharingKey == r.SharingKey && s.request.Namespace == r.Namespace {
			l.wake(s.request.Ref)
		}
	}
}

// Refuse says that what a Service asks for now cannot be read. It keeps what it holds, and gets nothing new.
func (l *Ledger) Refuse(ref lb.Ref, refusal *lb.Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[ref.UID]
	if s == nil {
		s = l.newService(lb.Request{Ref: ref})
	}
	s.wants = true
	s.refusal = refusal
	delete(l.unserved, ref.UID)
}

func (l *Ledger) newService(r lb.Request) *service {
	s := &service{request: r}
	l.services[r.UID] = s
	k := Key{r.Namespace, r.Name}
	if l.byKey[k] == nil {
		l.byKey[k] = map[string]bool{}
	}
	l.byKey[k][r.UID] = true
	return s
}

// assign asks the allocator for what the Service wants and takes up the answer.
func (l *Ledger) assign(s *service, now time.Time) {
	uid := s.request.UID
	res := l.allocator.Assign(s.request)
	if !slices.Equal(s.want, res.Want) || !slices.Equal(s.leave, res.Leave) || !equal(s.refusal, res.Refusal) {
		l.wake(s.request.Ref)
	}
	s.want, s.leave, s.refusal = res.Want, res.Leave, res.Refusal
	if s.refusal != nil {
		l.unserved[uid] = true
	} else {
		delete(l.unserved, uid)
	}
	for _, lease := range s.want {
		a := l.address(lease)
		l.follow(a, lease.Pool, now)
		if _, ok := a.refs[uid]; !ok {
			a.refs[uid] = s.request.Ref
			a.last = lb.Ref{}
			l.touchEntries(a)
		}
		l.evaluate(a, now)
	}
	l.leave(s, now)
}

// leave lets go of what the Service holds and wants no more. What is still published is kept until the new
// addresses are: a client is never sent to an address that is gone.
func (l *Ledger) leave(s *service, now time.Time) {
	for _, lease := range s.leave {
		// What is dropped may serve a waiting Service at once, and that may be this one.
		if slices.Contains(s.leave, lease) && !slices.Contains(s.published, lease.Addr) {
			l.drop(s, lease.Addr, now)
		}
	}
}

// Unwant puts a Service on the release path: it is deleted, or is no load balancer of ours any more.
func (l *Ledger) Unwant(uid string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.services[uid]; s != nil {
		l.unwant(s, now)
	}
}

func (l *Ledger) unwant(s *service, now time.Time) {
	s.wants = false
	s.want, s.leave, s.refusal, s.published = nil, nil, nil, nil
	delete(l.unserved, s.request.UID)
	for _, lease := range l.allocator.Leases(s.request.UID) {
		l.drop(s, lease.Addr, now)
	}
	l.forget(s)
}

// forget removes a Service that wants nothing and holds nothing.
func (l *Ledger) forget(s *service) {
	if !s.wants && len(l.allocator.Leases(s.request.UID)) == 0 {
		delete(l.services, s.request.UID)
		k := Key{s.request.Namespace, s.request.Name}
		delete(l.byKey[k], s.request.UID)
		if len(l.byKey[k]) == 0 {
			delete(l.byKey, k)
		}
	}
}

// drop ends one Service's hold on an address.
func (l *Ledger) drop(s *service, addr netip.Addr, now time.Time) {
	a := l.addresses[addr]
	if a == nil {
		return
	}
	if _, ok := a.refs[s.request.UID]; !ok {
		return
	}
	delete(a.refs, s.request.UID)
	if len(a.refs) > 0 {
		l.allocator.Release(s.request.UID, addr)
		l.touchEntries(a)
		l.evaluate(a, now)
		l.wakeRivals(s.request)
		return
	}
	a.last = s.request.Ref
	a.unwantedSince = now
	l.evaluate(a, now)
}

// Published says which addresses now stand in the Service's status. What the Service left for them is released.
func (l *Ledger) Published(uid string, addrs []netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[uid]
	if s == nil || !s.wants {
		return
	}
	s.published = slices.Clone(addrs)
	l.leave(s, now)
}

// serveWaiting asks again for the Services that something is refused to, oldest first, until one has taken what was
// freed.
func (l *Ledger) serveWaiting(freed netip.Addr, now time.Time) {
	if len(l.unserved) == 0 {
		return
	}
	waiting := make([]*service, 0, len(l.unserved))
	for uid := range l.unserved {
		if s := l.services[uid]; curable[s.refusal.Reason] {
			waiting = append(waiting, s)
		}
	}
	slices.SortFunc(waiting, func(a, b *service) int { return byAge(a.request, b.request) })
	for _, s := range waiting {
		l.assign(s, now)
		if l.addresses[freed] != nil {
			return
		}
	}
}

// curable are the refusals that end when another Service lets go of something.
var curable = map[lb.Reason]bool{
	lb.ReasonPoolExhausted: true, lb.ReasonAddressInUse: true, lb.ReasonAddressQuarantined: true, lb.ReasonSharingConflict: true,
}

func byAge(a, b lb.Request) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
}
