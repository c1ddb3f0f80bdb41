package ledger

// This file is about Services: what each wants, holds, leaves and is refused.

import (
	"cmp"
	"fmt"
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
	// ports at an external load balancer, as want, leave and published are for addresses.
	ports, leavePorts, publishedPorts []lb.PortLease
	// shown is what the status said when this controller came, until it says something else.
	shown []netip.Addr
	// ghost: there is no such Service any more.
	ghost bool
	// unsure: an earlier controller may have bought something for it that was not seen yet.
	unsure bool
}

// families in the order in which everything is done for them.
var families = []lb.Family{lb.IPv4, lb.IPv6}

// knownService is a Service that exists, or existed lately, and holds nothing that is known of.
type knownService struct {
	ServiceSnapshot
	since  time.Time
	unsure bool
}

// Want says that a Service wants what the request asks for, and makes it so as far as that is allowed. Asking again
// changes nothing.
func (l *Ledger) Want(r lb.Request, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.serviceOf(r)
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

// Refuse says that what a Service asks for now cannot be read. It keeps what it holds, and gets nothing new; of the
// request only what is not asked for counts: the pods and node ports behind it.
func (l *Ledger) Refuse(r lb.Request, refusal *lb.Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.serviceOf(lb.Request{Ref: r.Ref})
	s.wants = true
	s.refusal = refusal
	delete(l.unserved, r.UID)
	l.followEndpoints(s, r)
}

// serviceOf returns the record of a Service, a new one when there is none.
func (l *Ledger) serviceOf(r lb.Request) *service {
	s := l.services[r.UID]
	if s == nil {
		s = l.newService(r)
		if k, ok := l.known[r.UID]; ok {
			s.unsure = k.unsure
			if k.Managed {
				s.shown = k.Published
			}
		}
		delete(l.known, r.UID)
	}
	return s
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
			l.takeUp(a, uid)
		}
		l.evaluate(a, now)
	}
	orders := map[lb.Family]string{}
	for _, o := range res.Orders {
		orders[o.Family] = o.Pool
	}
	l.order(s, orders, now)
	l.serveByPorts(s, res.Ports, res.LeavePorts)
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
	l.dropLeftPorts(s)
}

// Unwant puts a Service on the release path: it is deleted, or is no load balancer of ours any more. It reports whether
// the Service was wanted until now.
func (l *Ledger) Unwant(uid string, now time.Time) (wanted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[uid]
	if s == nil {
		return false
	}
	wanted = s.wants
	l.unwant(s, now)
	return wanted
}

func (l *Ledger) unwant(s *service, now time.Time) {
	s.wants = false
	s.want, s.leave, s.refusal, s.published, s.shown = nil, nil, nil, nil, nil
	s.ports, s.leavePorts, s.publishedPorts = nil, nil, nil
	delete(l.unserved, s.request.UID)
	for _, family := range families {
		l.allocator.CancelOrder(s.request.UID, family)
	}
	if len(l.accounts) > 0 {
		l.known[s.request.UID] = knownService{ServiceSnapshot{Request: s.request}, now, s.unsure}
	}
	l.order(s, nil, now)
	for _, lease := range l.allocator.Leases(s.request.UID) {
		l.drop(s, lease.Addr, now)
	}
	for _, lease := range l.allocator.Ports(s.request.UID) {
		l.dropPort(s, lease)
	}
	l.forget(s)
}

// forget removes a Service that wants nothing and holds nothing.
func (l *Ledger) forget(s *service) {
	if !s.wants && !l.holds(s.request.UID) {
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
	l.setRetain(s, a)
	l.evaluate(a, now)
}

// setRetain says whether an address outlives the Service that let go of it. The label at the cloud knows what a Service
// or a pool said that is not known any more.
func (l *Ledger) setRetain(s *service, a *address) {
	if a.route == nil {
		return
	}
	a.route.retain, a.route.byLabel = l.retains(s, a), s.ghost || l.pools[a.pool] == nil
	if r := l.rentedOf(a); r != nil && l.bought(a, r) && r.Server == 0 && (a.route.retain || a.route.byLabel && r.Owner.Retain) {
		// The cloud refuses to delete what somebody has assigned since it was read, and nothing refuses to keep it.
		a.route.look = true
	}
}

// Published says which addresses and ports now stand in the Service's status. What the Service left for them is released.
func (l *Ledger) Published(uid string, addrs []netip.Addr, ports []lb.PortLease, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.services[uid]
	if s == nil || !s.wants {
		return
	}
	s.published, s.shown = slices.Clone(addrs), nil
	s.publishedPorts = slices.Clone(ports)
	l.leave(s, now)
	for _, addr := range addrs {
		if a := l.addresses[addr]; a != nil && a.route != nil && !a.route.done {
			l.evaluate(a, now) // what is published is in a hurry
		}
	}
}

// shows reports whether an address stands in the status of a Service.
func (l *Ledger) shows(uid string, addr netip.Addr) bool {
	s := l.services[uid]
	return s != nil && slices.Contains(s.published, addr)
}

// Retain says whether what was bought for a Service outlives it. It counts until the Service is gone, and is told
// before Unwant when both change at once.
func (l *Ledger) Retain(uid string, retain bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.services[uid]; s != nil && s.request.Retain != retain {
		s.request.Retain = retain
		for _, lease := range l.allocator.Leases(uid) {
			if a := l.addresses[lease.Addr]; a != nil && a.route != nil && len(a.refs) == 0 {
				l.setRetain(s, a)
				l.evaluate(a, now)
			}
		}
	}
	if k, ok := l.known[uid]; ok {
		k.Request.Retain = retain
		l.known[uid] = k
	}
}

// retains reports whether a bought address outlives the Service.
func (l *Ledger) retains(s *service, a *address) bool {
	e, _ := l.buys(a.pool)
	return s.request.Retain || e.Retain
}

// Abandon forgets what a Service that is on the release path still holds at the cloud, and says what is left behind.
func (l *Ledger) Abandon(uid string, now time.Time) (left []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, uid)
	s := l.services[uid]
	if s == nil || s.wants {
		return nil
	}
	for _, family := range families {
		if o := l.orders[target{uid: uid, family: family}]; o != nil {
			left = append(left, fmt.Sprintf("a purchase in account %s of which no answer came", o.account))
			l.plan(o.account, o.target(), nil, retry{}, false)
			delete(l.orders, o.target())
		}
	}
	for _, lease := range l.allocator.Leases(uid) {
		a := l.addresses[lease.Addr]
		if a.route == nil || a.route.done {
			continue // the agents let go of it, or it is given up after a time
		}
		left = append(left, fmt.Sprintf("%s, Floating IP %d in account %s", lease, a.route.id, a.route.account))
		l.plan(a.route.account, target{addr: a.addr}, nil, retry{}, false)
		a.route = nil
		l.evaluate(a, now)
	}
	left = append(left, l.abandonPorts(uid, now)...)
	l.forget(s)
	return left
}

// buying reports whether something is being bought for a Service, or may have been.
func (l *Ledger) buying(uid string) bool {
	return l.orders[target{uid: uid, family: lb.IPv4}] != nil || l.orders[target{uid: uid, family: lb.IPv6}] != nil
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
		if l.addresses[freed] != nil || freed.IsValid() && s.refusal == nil {
			return // for one that was bought another may be bought now
		}
	}
}

// wakeOldest has the Service looked at again that has waited longest for something to be let go of.
func (l *Ledger) wakeOldest() {
	var oldest *service
	for uid := range l.unserved {
		if s := l.services[uid]; curable[s.refusal.Reason] && (oldest == nil || byAge(s.request, oldest.request) < 0) {
			oldest = s
		}
	}
	if oldest != nil {
		l.wake(oldest.request.Ref)
	}
}

// curable are the refusals that end when another Service lets go of something.
var curable = map[lb.Reason]bool{
	lb.ReasonPoolExhausted: true, lb.ReasonAddressInUse: true, lb.ReasonAddressQuarantined: true, lb.ReasonSharingConflict: true,
	lb.ReasonWaitingForPurchase: true, lb.ReasonAccountUnavailable: true, lb.ReasonAccountMismatch: true, lb.ReasonUnauthorized: true,
	lb.ReasonRateLimited: true, lb.ReasonCloudError: true, lb.ReasonFloatingIPMissing: true, lb.ReasonFloatingIPBlocked: true,
	lb.ReasonWrongType: true, lb.ReasonHeldElsewhere: true, lb.ReasonPortInUse: true,
}

func byAge(a, b lb.Request) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
}
