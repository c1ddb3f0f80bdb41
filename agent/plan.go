package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/conflict"
	"github.com/mooring-lb/mooring/agent/netif"
)

// trouble is why an address cannot be served as things are.
type trouble struct {
	reason, message string
	other           string // the hardware address of who has it
}

// byPlace groups addresses by the interface that a step works on.
type byPlace map[string][]netip.Addr

func (b byPlace) add(ifname string, ip netip.Addr) { b[ifname] = append(b[ifname], ip) }

func (b byPlace) steps(kind netif.Kind) []netif.Step {
	var steps []netif.Step
	for _, ifname := range slices.Sorted(maps.Keys(b)) {
		steps = append(steps, netif.Step{Kind: kind, Interface: ifname, Addresses: sorted(b[ifname])})
	}
	return steps
}

func sorted(ips []netip.Addr) []netip.Addr {
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips)
}

// plan returns the steps that lead from have to wants, and what no step can mend. wants are resolved.
//
// The order is the safe one: releases first, because a successor may wait for them; then for what is bound the guard,
// the settings of the uplink, the address, which is bound or taken over where it stands, its proxy-NDP entry; last what
// an address leaves behind when it moves from one interface to another, and the guard of released ones. The runner leaves
// an address out of the steps that follow one in which it failed, so that nothing is bound without its guard, and nothing
// loses its guard while it is bound.
func plan(wants []want, have *netif.State) ([]netif.Step, map[netip.Addr]trouble) {
	p := planner{
		wants: wants, have: have, troubles: map[netip.Addr]trouble{},
		foreign: map[netip.Addr]netif.HostAddress{}, bound: map[netip.Addr][]string{}, proxied: map[netip.Addr][]string{},
		create: byPlace{}, up: byPlace{}, arp: byPlace{}, ndp: byPlace{}, takeOver: byPlace{}, bind: byPlace{}, proxy: byPlace{},
		keep: map[netif.Place]bool{}, keepProxy: map[netif.Place]bool{}, guard: map[netip.Addr]bool{},
	}
	for _, a := range have.Host {
		if a.Interface != netif.IPVSInterface {
			p.foreign[a.Prefix.Addr()] = a
		}
	}
	for place := range have.Bound {
		p.bound[place.IP] = append(p.bound[place.IP], place.Interface)
	}
	for entry := range have.Proxies {
		p.proxied[entry.IP] = append(p.proxied[entry.IP], entry.Interface)
	}
	for _, w := range wants {
		switch w.state {
		case v1alpha1.Hold:
			p.hold(w)
		case v1alpha1.Yield:
			// One that is not bound is not bound now: its successor may have it.
			if w.verdict != conflict.Taken {
				p.retain(w)
			}
		}
	}
	return p.steps(), p.troubles
}

type planner struct {
	wants    []want
	have     *netif.State
	troubles map[netip.Addr]trouble
	foreign  map[netip.Addr]netif.HostAddress
	bound    map[netip.Addr][]string // interfaces
	proxied  map[netip.Addr][]string // uplinks

	create, up, arp, ndp, takeOver, bind, proxy byPlace
	keep, keepProxy                             map[netif.Place]bool
	guard                                       map[netip.Addr]bool
}

func (p *planner) fail(ip netip.Addr, reason, format string, args ...any) {
	p.troubles[ip] = trouble{reason: reason, message: fmt.Sprintf(format, args...)}
}

func (p *planner) hold(w want) {
	if w.ifname == interfaceNone {
		return
	}
	place := netif.Place{Interface: w.ifname, IP: w.ip}
	_, isBound := p.have.Bound[place]
	if other, ok := p.foreign[w.ip]; ok && !isBound {
		p.fail(w.ip, ReasonAddressInUse, "%s is on %s already and was not put there by Mooring: remove it there "+
			"(ip address del %s dev %s) or exclude it from its pool", w.ip, other.Interface, other.Prefix, other.Interface)
		return
	}
	switch w.verdict {
	case conflict.Tested:
		return
	case conflict.Taken:
		p.troubles[w.ip] = trouble{reason: ReasonAddressInUse, other: w.other, message: fmt.Sprintf("another machine, %s on %s, "+
			"answers for %s: it is bound once that machine is silent; remove it there or exclude it from its pool",
			w.other, w.uplink, w.ip)}
		return
	}
	link, exists := p.have.Links[w.ifname]
	if exists && !link.Up && !link.Ours {
		p.fail(w.ip, ReasonInterfaceDown, "interface %s is down and was not created by Mooring: "+
			"bring it up (ip link set %s up)", w.ifname, w.ifname)
		p.retain(w)
		return
	}
	if w.uplink != "" && !p.reachable(w) {
		p.retain(w)
		return
	}
	p.keep[place] = true
	if w.guarded {
		p.guard[w.ip] = true
	}
	switch {
	case !exists:
		p.create.add(w.ifname, w.ip)
	case !link.Up:
		p.up.add(w.ifname, w.ip)
	}
	_, isInherited := p.have.Inherited[place]
	switch {
	case isBound:
	case isInherited:
		p.takeOver.add(w.ifname, w.ip)
	default:
		p.bind.add(w.ifname, w.ip)
	}
	if w.uplink != "" && w.uplink != w.ifname && w.ip.Is6() {
		entry := netif.Place{Interface: w.uplink, IP: w.ip}
		p.keepProxy[entry] = true
		if _, ok := p.have.Proxies[entry]; !ok {
			p.proxy.add(w.uplink, w.ip)
		}
	}
}

// reachable notes what the uplink needs, and whether it can do its part at all.
func (p *planner) reachable(w want) bool {
	if _, ok := p.have.Links[w.uplink]; !ok {
		p.fail(w.ip, ReasonUplinkMissing, "uplink %s does not exist on this node: correct the pool's uplink, or its "+
			"nodeSelector", w.uplink)
		return false
	}
	settings, known := p.have.Settings[w.uplink]
	if w.ip.Is4() {
		if known && settings.ARPAnnounce < 2 {
			p.arp.add(w.uplink, w.ip)
		}
		return true
	}
	if w.uplink != w.ifname && !(known && settings.ProxyReady()) {
		p.ndp.add(w.uplink, w.ip)
	}
	return true
}

// retain keeps what is bound as it is.
func (p *planner) retain(w want) {
	for _, ifname := range p.bound[w.ip] {
		p.keep[netif.Place{Interface: ifname, IP: w.ip}] = true
		if w.guarded {
			p.guard[w.ip] = true
		}
	}
	for _, uplink := range p.proxied[w.ip] {
		p.keepProxy[netif.Place{Interface: uplink, IP: w.ip}] = true
	}
}

func (p *planner) steps() []netif.Step {
	releasedProxy, staleProxy := byPlace{}, byPlace{}
	for entry := range p.have.Proxies {
		switch {
		case p.keepProxy[entry]:
		case p.kept(entry.IP):
			staleProxy.add(entry.Interface, entry.IP)
		default:
			releasedProxy.add(entry.Interface, entry.IP)
		}
	}
	released, left := byPlace{}, byPlace{}
	stays := maps.Clone(p.guard)
	for place := range p.have.Bound {
		switch {
		case p.keep[place]:
		case p.kept(place.IP):
			left.add(place.Interface, place.IP)
		default:
			released.add(place.Interface, place.IP)
			// Still bound until its step is done: a guard that is built meanwhile covers it.
			if w, ok := find(p.wants, place.IP); !ok || w.guarded {
				stays[place.IP] = true
			}
		}
	}
	for place := range p.have.Inherited {
		w, ok := find(p.wants, place.IP)
		switch {
		case !ok || w.ifname == interfaceNone || p.keep[place]: // not our business, or taken over
		case w.state == v1alpha1.Release:
			released.add(place.Interface, place.IP)
		case p.keep[netif.Place{Interface: w.ifname, IP: place.IP}]:
			left.add(place.Interface, place.IP)
		}
	}
	var build, cover, uncover []netip.Addr
	guard := p.have.Guard
	for ip := range stays {
		if _, ok := guard.Addresses[ip]; !ok && p.guard[ip] {
			cover = append(cover, ip)
		}
		build = append(build, ip)
	}
	for ip := range guard.Addresses {
		if !p.guard[ip] {
			uncover = append(uncover, ip)
		}
	}

	var steps []netif.Step
	steps = append(steps, releasedProxy.steps(netif.RemoveProxy)...)
	steps = append(steps, released.steps(netif.Unbind)...)
	switch {
	case !guard.Intact && len(build) > 0, !guard.Intact && guard.Exists && p.serving():
		steps = append(steps, netif.Step{Kind: netif.BuildGuard, Addresses: sorted(build)})
		uncover = nil
		for ip := range stays {
			if !p.guard[ip] {
				uncover = append(uncover, ip)
			}
		}
	case len(cover) > 0:
		steps = append(steps, netif.Step{Kind: netif.Cover, Addresses: sorted(cover)})
	}
	steps = append(steps, p.create.steps(netif.CreateInterface)...)
	steps = append(steps, p.up.steps(netif.SetUp)...)
	for _, step := range p.arp.steps(netif.PrepareARP) {
		step.Addresses = nil // they work without it, so they do not fail with it
		steps = append(steps, step)
	}
	steps = append(steps, p.ndp.steps(netif.PrepareNDP)...)
	steps = append(steps, p.takeOver.steps(netif.TakeOver)...)
	steps = append(steps, p.bind.steps(netif.Bind)...)
	steps = append(steps, p.proxy.steps(netif.AddProxy)...)
	steps = append(steps, staleProxy.steps(netif.RemoveProxy)...)
	steps = append(steps, left.steps(netif.Unbind)...)
	if len(uncover) > 0 {
		steps = append(steps, netif.Step{Kind: netif.Uncover, Addresses: sorted(uncover)})
	}
	if !p.serving() && len(p.have.Bound) == 0 && len(guard.Addresses) == 0 {
		steps = append(steps, leftovers(p.have)...)
	}
	return steps
}

// serving says that an address belongs here. One to be released needs nothing once it is unbound.
func (p *planner) serving() bool {
	return slices.ContainsFunc(p.wants, func(w want) bool { return w.state != v1alpha1.Release })
}

// leftovers are what serves no address any more on a host that has none: Mooring is removed where no Service is left, and
// nobody has to go to each host and tidy up.
func leftovers(have *netif.State) []netif.Step {
	var steps []netif.Step
	if have.Guard.Exists {
		steps = append(steps, netif.Step{Kind: netif.RemoveGuard})
	}
	for _, name := range slices.Sorted(maps.Keys(have.Links)) {
		if have.Links[name].Ours {
			steps = append(steps, netif.Step{Kind: netif.RemoveInterface, Interface: name})
		}
	}
	return steps
}

// kept says that the address belongs here, be it on another interface.
func (p *planner) kept(ip netip.Addr) bool {
	w, ok := find(p.wants, ip)
	return ok && w.ifname != interfaceNone && w.verdict != conflict.Taken && (w.state == v1alpha1.Hold || w.state == v1alpha1.Yield)
}

// planReleaseAll removes everything that is ours.
func planReleaseAll(have *netif.State) []netif.Step {
	steps, _ := plan(nil, have)
	steps = slices.DeleteFunc(steps, func(s netif.Step) bool {
		return s.Kind == netif.BuildGuard || s.Kind == netif.Uncover || s.Kind == netif.RemoveGuard || s.Kind == netif.RemoveInterface
	})
	return append(steps, leftovers(have)...)
}

// absorb brings the state up to date with a step that was done except for the given addresses. It returns false when
// only reading the host again can tell what it looks like now.
func absorb(have *netif.State, step netif.Step, failed map[netip.Addr]bool) bool {
	set := func(m map[netif.Place]struct{}, present bool) {
		for _, ip := range step.Addresses {
			place := netif.Place{Interface: step.Interface, IP: ip}
			switch {
			case failed[ip]:
			case present:
				m[place] = struct{}{}
			default:
				delete(m, place)
			}
		}
	}
	switch step.Kind {
	case netif.Bind:
		set(have.Bound, true)
	case netif.TakeOver:
		set(have.Bound, true)
		set(have.Inherited, false)
	case netif.Unbind:
		set(have.Bound, false)
		set(have.Inherited, false)
	case netif.AddProxy:
		set(have.Proxies, true)
	case netif.RemoveProxy:
		set(have.Proxies, false)
	case netif.BuildGuard:
		have.Guard = netif.Guard{Intact: true, Exists: true, Addresses: map[netip.Addr]struct{}{}}
		for _, ip := range step.Addresses {
			have.Guard.Addresses[ip] = struct{}{}
		}
	case netif.Cover:
		for _, ip := range step.Addresses {
			have.Guard.Addresses[ip] = struct{}{}
		}
	case netif.Uncover:
		for _, ip := range step.Addresses {
			delete(have.Guard.Addresses, ip)
		}
	default:
		return false
	}
	return true
}

// reasonOf names the failure of a step.
func reasonOf(kind netif.Kind) string {
	switch kind {
	case netif.CreateInterface, netif.SetUp, netif.RemoveInterface:
		return ReasonInterfaceFailed
	case netif.PrepareNDP, netif.PrepareARP:
		return ReasonKernelSettings
	case netif.BuildGuard, netif.Cover, netif.Uncover, netif.RemoveGuard:
		return ReasonGuardFailed
	case netif.AddProxy, netif.RemoveProxy:
		return ReasonProxyFailed
	case netif.Unbind:
		return ReasonUnbindFailed
	default:
		return ReasonBindFailed
	}
}
