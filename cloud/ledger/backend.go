package ledger

// This file is about ports at external load balancers: what stands behind each, and how far the updaters have been told.

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// BackendKey is a port of the load balancer of one pool.
type BackendKey struct {
	Pool     string
	Port     uint16
	Protocol lb.Protocol
}

func (k BackendKey) String() string { return fmt.Sprintf("%s %d/%s", k.Pool, k.Port, k.Protocol) }

func (k BackendKey) compare(o BackendKey) int {
	return cmp.Or(cmp.Compare(k.Pool, o.Pool), cmp.Compare(k.Port, o.Port), cmp.Compare(k.Protocol, o.Protocol))
}

// samePort reports whether two leases are of one port for one port of the Service.
func samePort(a, b lb.PortLease) bool {
	return keyOf(a) == keyOf(b) && a.Service.Number == b.Service.Number
}

func holdsPort(leases []lb.PortLease, lease lb.PortLease) bool {
	return slices.ContainsFunc(leases, func(o lb.PortLease) bool { return samePort(o, lease) })
}

func keyOf(lease lb.PortLease) BackendKey {
	return BackendKey{lease.Pool, lease.Port, lease.Service.Protocol}
}

// BackendState is what the updaters of a pool have made of a backend.
type BackendState struct {
	// Revision is the highest that an updater has taken; 0: none.
	Revision uint64
	// Ready: it may be published.
	Ready bool
	// Removed: every updater has confirmed that the backend is gone.
	Removed bool
	// Trouble says what is not done yet, or seems not to work; empty: nothing.
	Trouble string
}

// BackendView is what the updaters of a pool shall know of a port.
type BackendView struct {
	// Held: a Service has the port, if only on the way back to its pool.
	Held bool
	// Targets behind it; none: there shall be no backend.
	Targets []netip.AddrPort
	// ProxyTimeout and ConnectTimeout; 0: left to the updater.
	ProxyTimeout, ConnectTimeout time.Duration
	// Replaces is a backend of somebody else that is taken over.
	Replaces string
	// Revision counts what was wanted; what has a lower one is older.
	Revision uint64
}

// backend is a port that a Service holds.
type backend struct {
	lb.PortLease
	ref lb.Ref
	// targets are the nodes behind it; unknown: all are silent, and stay for want of better.
	targets []netip.Addr
	unknown bool
	// leaving: it is on the way back to its pool.
	leaving  bool
	state    BackendState
	revision uint64
	// born is the first revision that was about this holder: what an updater took before says nothing of it.
	born uint64
	view BackendView
}

// serveByPorts takes up what the allocator says of a Service's ports.
func (l *Ledger) serveByPorts(s *service, want, leave []lb.PortLease) {
	s.ports, s.leavePorts = want, leave
	for i, lease := range want {
		b := l.backends[keyOf(lease)]
		if b == nil {
			b = &backend{ref: s.request.Ref}
			l.backends[keyOf(lease)] = b
			if s.request.Local && i == 0 && len(s.publishedPorts) == 0 {
				l.effects.Notices = append(l.effects.Notices, Notice{Service: s.request.Ref, Reason: lb.ReasonClientAddress,
					Message: "externalTrafficPolicy Local is served, but the address that the pods see is that of the load balancer: it is a proxy"})
			}
		}
		b.PortLease, b.ref, b.leaving = lease, s.request.Ref, false
		l.retarget(b, s, i == 0, nil)
	}
}

// followEndpoints has the backends of a Service that cannot be read otherwise follow its pods and node ports.
func (l *Ledger) followEndpoints(s *service, r lb.Request) {
	if len(s.ports) == 0 {
		return
	}
	s.request.Local, s.request.EndpointNodes = r.Local, r.EndpointNodes
	for i, lease := range s.ports {
		b := l.backends[keyOf(lease)]
		for _, p := range r.Ports {
			if p.Same(lease.Service) {
				b.Service.NodePort = p.NodePort
			}
		}
		l.retarget(b, s, i == 0, nil)
	}
}

// targetsMemo holds the targets of Services that ask for the same nodes.
type targetsMemo map[string]place.Targets

// retarget looks at what stands behind a backend, and has the updaters told when that changed.
func (l *Ledger) retarget(b *backend, s *service, first bool, memo targetsMemo) {
	t := l.targetsOf(b.Pool, s, memo)
	targets, unknown := t.Ready, false
	if len(targets) == 0 && len(t.Silent) > 0 {
		// Silence alone takes nobody out: the kubelets may be cut off and the data plane fine.
		targets, unknown = stillThere(b.targets, t.Silent), true
	}
	same := unknown == b.unknown && slices.Equal(targets, b.targets)
	if same && memo != nil && b.revision > 0 {
		return // only Nodes changed, and not these
	}
	if unknown != b.unknown || len(targets) != len(b.targets) {
		l.effects.later(b.ref)
	}
	b.targets, b.unknown = targets, unknown
	l.offer(b, s, first)
}

// stillThere are those of the targets before that are not gone; all that there are when none of them is left.
func stillThere(before, silent []netip.Addr) []netip.Addr {
	var kept []netip.Addr
	for _, a := range before {
		if slices.Contains(silent, a) {
			kept = append(kept, a)
		}
	}
	if len(kept) == 0 {
		return silent
	}
	return kept
}

// offer sets what the updaters shall know of a backend.
func (l *Ledger) offer(b *backend, s *service, first bool) {
	v := BackendView{Held: true, Revision: b.revision}
	if !b.leaving {
		for _, a := range b.targets {
			v.Targets = append(v.Targets, netip.AddrPortFrom(a, b.Service.NodePort))
		}
		if p := l.pools[b.Pool]; p != nil && p.Updater != nil {
			v.ProxyTimeout, v.ConnectTimeout = p.Updater.ProxyTimeout, p.Updater.ProxyConnectTimeout
			if b.Service.Protocol == lb.UDP {
				v.ProxyTimeout = p.Updater.UDPProxyTimeout
			}
		}
		v.ProxyTimeout = cmp.Or(s.request.ProxyTimeout, v.ProxyTimeout)
		v.ConnectTimeout = cmp.Or(s.request.ConnectTimeout, v.ConnectTimeout)
		if first {
			v.Replaces = s.request.Replaces
		}
	}
	if b.revision > 0 && slices.Equal(v.Targets, b.view.Targets) && v.ProxyTimeout == b.view.ProxyTimeout &&
		v.ConnectTimeout == b.view.ConnectTimeout && v.Replaces == b.view.Replaces {
		return
	}
	l.revision++
	b.revision, v.Revision = l.revision, l.revision
	b.born = cmp.Or(b.born, b.revision)
	b.view = v
	if len(v.Targets) == 0 {
		b.state = BackendState{}
	}
	l.effects.backend(keyOf(b.PortLease))
}

// retargetAll looks at every backend once more: a Node has changed, or a pool.
func (l *Ledger) retargetAll() {
	if l.adopting || len(l.backends) == 0 {
		return
	}
	memo := targetsMemo{}
	for _, k := range slices.SortedFunc(maps.Keys(l.backends), BackendKey.compare) {
		b := l.backends[k]
		if s := l.services[b.ref.UID]; s != nil && !b.leaving {
			l.retarget(b, s, len(s.ports) > 0 && samePort(s.ports[0], b.PortLease), memo)
		}
	}
}

// leavePorts lets go of the ports that a Service holds and wants no more, but for those that are published still.
func (l *Ledger) dropLeftPorts(s *service) {
	for _, lease := range s.leavePorts {
		if !holdsPort(s.publishedPorts, lease) {
			l.dropPort(s, lease)
		}
	}
}

// dropPort has a backend removed, and its port given back when every updater has confirmed that.
func (l *Ledger) dropPort(s *service, lease lb.PortLease) {
	b := l.backends[keyOf(lease)]
	if b == nil || b.ref.UID != s.request.UID {
		l.allocator.ReleasePort(s.request.UID, lease.Pool, lease.Port, lease.Service.Protocol)
		return
	}
	if !b.leaving {
		b.leaving, b.state, b.targets = true, BackendState{}, nil
		b.revision, b.born = 0, 0
		l.offer(b, s, false)
	}
}

// BackendState takes in what the updaters have made of a backend.
func (l *Ledger) BackendState(k BackendKey, state BackendState, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.backends[k]
	if b == nil {
		return
	}
	state.Ready = state.Ready && state.Revision >= b.born
	state.Revision = 0 // it decides, and is nothing to wake for
	switch {
	case b.leaving && state.Removed:
		l.freePort(b, now)
		return
	case b.state == state:
		return
	}
	b.state = state
	l.wake(b.ref)
}

// freePort gives a port back to its pool, and to whoever waits for it.
func (l *Ledger) freePort(b *backend, now time.Time) {
	delete(l.backends, keyOf(b.PortLease))
	l.effects.backend(keyOf(b.PortLease))
	l.allocator.ReleasePort(b.ref.UID, b.Pool, b.Port, b.Service.Protocol)
	l.wake(b.ref)
	if s := l.services[b.ref.UID]; s != nil {
		l.forget(s)
	}
	l.serveWaiting(netip.Addr{}, now)
}

// Backend returns what the updaters of a pool shall know of a port.
func (l *Ledger) Backend(k BackendKey) BackendView {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.backends[k]; b != nil {
		return b.view
	}
	return BackendView{}
}

// Backends returns the ports of a pool that Services have.
func (l *Ledger) Backends(pool string) map[BackendKey]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := map[BackendKey]bool{}
	for k := range l.backends {
		if k.Pool == pool {
			keys[k] = true
		}
	}
	return keys
}

// UnusedPorts returns the ports of a pool that no Service has.
func (l *Ledger) UnusedPorts(pool string) []BackendKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	var unused []BackendKey
	for port, protocol := range l.allocator.UnusedPorts(pool) {
		unused = append(unused, BackendKey{pool, port, protocol})
	}
	return unused
}

// PortView is how one port of a Service stands.
type PortView struct {
	lb.PortLease
	// Targets behind it.
	Targets int
	// Ready: the load balancer was told of it.
	Ready bool
}

// viewPorts adds to the view of a Service how its ports stand.
func (l *Ledger) viewPorts(s *service, v *View) {
	var silent *lb.Refusal // a published port that does not answer
	for _, lease := range s.ports {
		b := l.backends[keyOf(lease)]
		v.Ports = append(v.Ports, PortView{lease, len(b.view.Targets), b.state.Ready})
		published := holdsPort(s.publishedPorts, lease)
		why := b.trouble()
		switch {
		case !b.state.Ready && !published:
			v.Ready = false
			v.Waiting = cmp.Or(v.Waiting, why)
		case why == nil || why.Reason == lb.ReasonWaitingForUpdater:
		case why.Reason == lb.ReasonTargetsUnknown:
			v.Refusal = cmp.Or(v.Refusal, why)
		default:
			silent = cmp.Or(silent, why)
		}
	}
	// A Service may be refused something for good, and is not to hide behind that when clients are not answered.
	v.Refusal = cmp.Or(silent, v.Refusal)
	if p := l.pools[poolOf(s.ports)]; p != nil && p.Updater != nil {
		v.Host, v.HostAddr = p.Updater.Host, p.Updater.HostAddr
	}
	v.Published = v.Published && slices.EqualFunc(s.publishedPorts, s.ports, samePort)
}

func poolOf(leases []lb.PortLease) string {
	if len(leases) == 0 {
		return ""
	}
	return leases[0].Pool
}

// trouble says what a backend waits for, or what is wrong with it; nil when all is well.
func (b *backend) trouble() *lb.Refusal {
	switch {
	case len(b.view.Targets) == 0:
		return lb.Refuse(lb.ReasonNoEligibleNode, "no node stands behind port %d/%s of pool %q: none is Ready and selected, or with policy Local none has an endpoint",
			b.Port, b.Service.Protocol, b.Pool)
	case b.state.Trouble != "":
		return lb.Refuse(lb.ReasonUpdater, "port %d/%s of pool %q: %s", b.Port, b.Service.Protocol, b.Pool, b.state.Trouble)
	case !b.state.Ready:
		return lb.Refuse(lb.ReasonWaitingForUpdater, "port %d/%s of pool %q: the updater is being told", b.Port, b.Service.Protocol, b.Pool)
	case b.unknown:
		return lb.Refuse(lb.ReasonTargetsUnknown, "no node behind port %d/%s of pool %q is Ready; the last %d that were stay", b.Port, b.Service.Protocol, b.Pool,
			len(b.view.Targets))
	}
	return nil
}

// releasingPorts says what the release of a Service's ports waits for.
func (l *Ledger) releasingPorts(uid string) (messages []string) {
	for _, lease := range l.allocator.Ports(uid) {
		b := l.backends[keyOf(lease)]
		switch p := l.pools[lease.Pool]; {
		case b == nil:
		case p == nil || p.Updater == nil:
			messages = append(messages, fmt.Sprintf("port %d/%s: its pool %q is in the cloud-config no more, and nobody removes the backend: put the pool back, or forget it by annotation %s=true",
				b.Port, b.Service.Protocol, b.Pool, lb.AnnotationAbandon))
		default:
			messages = append(messages, strings.TrimSuffix(fmt.Sprintf("port %d/%s of pool %q: %s", b.Port, b.Service.Protocol, b.Pool, b.state.Trouble), ": "))
		}
	}
	return messages
}

// abandonPorts forgets the ports of a Service, and says what is left behind.
func (l *Ledger) abandonPorts(uid string, now time.Time) (left []string) {
	for _, lease := range l.allocator.Ports(uid) {
		if b := l.backends[keyOf(lease)]; b != nil {
			left = append(left, fmt.Sprintf("a backend on port %d/%s of pool %q", b.Port, b.Service.Protocol, b.Pool))
			l.freePort(b, now)
		}
	}
	return left
}
