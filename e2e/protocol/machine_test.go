package protocol

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/agent/netif"
)

const (
	uplink = "eth0"
	bridge = "pl0"
)

// machine is one host: a kernel with addresses, and the agent that runs on it. It is the agent's Host.
type machine struct {
	w     *world
	name  string
	index int
	wire  *station
	boots int
	// up: the kernel runs. While it is paused it stands still, and goes on later as if nothing had happened.
	up bool
	// hidden: faults that keep the controllers' probes from it.
	hidden int
	// busy: a fault is at work that bears no other one beside it.
	busy bool

	pl0     bool
	bound   map[netip.Addr]bool
	proxies map[netip.Addr]bool
	guard   map[netip.Addr]bool
	guarded bool
	watched map[netip.Addr]bool

	agent   *agentProcess
	kubelet kubelet
}

func newMachine(w *world, index int) *machine {
	m := &machine{w: w, name: fmt.Sprintf("n%d", index), index: index}
	m.wire = w.segment.plug(m.name, m.answers, m.heard)
	m.agent = newAgentProcess(w, m)
	m.boot()
	return m
}

// boot starts the kernel with nothing on it.
func (m *machine) boot() {
	m.boots++
	m.up, m.pl0, m.guarded = true, false, false
	m.bound, m.proxies, m.guard = map[netip.Addr]bool{}, map[netip.Addr]bool{}, map[netip.Addr]bool{}
	m.watched = nil
}

func (m *machine) bootID() string { return fmt.Sprintf("boot-%s-%d", m.name, m.boots) }

func (m *machine) ip() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + m.index)}) }

// answers says whether the kernel answers for an address: of IPv6 only with a proxy entry.
func (m *machine) answers(ip netip.Addr) bool {
	return m.up && m.bound[ip] && (ip.Is4() || m.proxies[ip])
}

// heard is told of frames that claim an address.
func (m *machine) heard(ip netip.Addr, mac net.HardwareAddr) {
	if m.up && m.wire.pauses == 0 && m.watched[ip] {
		m.agent.notice(heardEvent(uplink, ip, mac))
	}
}

func (m *machine) Read(context.Context) (netif.State, error) {
	running := m.wire.downs == 0
	s := netif.State{
		Links: map[string]netif.Link{
			uplink: {Index: 2, Name: uplink, HardwareAddr: m.wire.mac, MTU: 1500, Up: true, Running: running},
		},
		Bound: map[netif.Place]struct{}{},
		Host: []netif.HostAddress{
			{Interface: uplink, Prefix: netip.PrefixFrom(m.ip(), 24)},
			{Interface: uplink, Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(100 + m.index)}), 64)},
		},
		Proxies:  map[netif.Place]struct{}{},
		Default4: []string{uplink},
		Settings: map[string]netif.Settings{
			uplink: {ARPAnnounce: 2, IPv6: true, Forwarding6: true, ProxyNDP: true},
		},
		Guard: netif.Guard{Intact: m.guarded, Exists: m.guarded, Addresses: map[netip.Addr]struct{}{}},
	}
	if m.pl0 {
		s.Links[bridge] = netif.Link{Index: 3, Name: bridge, Kind: "bridge", Up: true, Running: true, Ours: true}
	}
	for ip := range m.bound {
		s.Bound[netif.Place{Interface: bridge, IP: ip}] = struct{}{}
	}
	for ip := range m.proxies {
		s.Proxies[netif.Place{Interface: uplink, IP: ip}] = struct{}{}
	}
	for ip := range m.guard {
		s.Guard.Addresses[ip] = struct{}{}
	}
	return s, nil
}

var errUnlucky = errors.New("the kernel did not want to")

func (m *machine) Do(_ context.Context, step netif.Step) (failures []netif.Failure) {
	if m.w.trace != nil {
		m.w.log("%s: %s", m.name, step)
	}
	set := func(of map[netip.Addr]bool, is bool) {
		for _, ip := range step.Addresses {
			switch {
			case m.w.faulty && m.w.chance(0.01):
				failures = append(failures, netif.Failure{IP: ip, Err: errUnlucky})
			case is:
				of[ip] = true
			default:
				delete(of, ip)
			}
		}
	}
	switch step.Kind {
	case netif.CreateInterface, netif.SetUp:
		m.pl0 = true
	case netif.BuildGuard:
		m.guarded = true
		clear(m.guard)
		set(m.guard, true)
	case netif.Cover:
		set(m.guard, true)
	case netif.Uncover:
		set(m.guard, false)
	case netif.Bind:
		if !m.pl0 {
			return []netif.Failure{{Err: netif.ErrNoInterface}}
		}
		set(m.bound, true)
	case netif.Unbind:
		set(m.bound, false)
	case netif.AddProxy:
		set(m.proxies, true)
	case netif.RemoveProxy:
		set(m.proxies, false)
	}
	return failures
}

var errLinkDown = errors.New("the link is down")

func (m *machine) Announce(_ string, ip netip.Addr) error {
	if m.wire.downs > 0 {
		return errLinkDown
	}
	m.w.segment.announce(m.wire, ip)
	return nil
}

// Probe asks the segment who has an address.
func (m *machine) Probe(_ string, ip netip.Addr) error {
	if m.wire.downs > 0 {
		return errLinkDown
	}
	m.w.segment.probe(m.wire, ip)
	return nil
}

// Listen replaces the addresses whose claims are told.
func (m *machine) Listen(watched map[string][]netip.Addr) error {
	m.watched = map[netip.Addr]bool{}
	for _, ip := range watched[uplink] {
		m.watched[ip] = true
	}
	return nil
}

// has are the addresses that are bound, in order.
func (m *machine) has() []netip.Addr {
	return slices.SortedFunc(maps.Keys(m.bound), netip.Addr.Compare)
}

// link takes the link down or brings it up, which the kernel tells of.
func (m *machine) link(by int) {
	m.wire.downs += by
	m.agent.notice(netif.Event{
		Kind: netif.LinkEvent, Interface: uplink, Up: true, Running: m.wire.downs == 0, HardwareAddr: m.wire.mac,
	})
}

// pause stops the machine, kernel and all; resume lets it go on.
func (m *machine) pause() {
	m.wire.pauses++
	m.agent.client.sever()
	m.w.freeze(m.agent.process)
}

func (m *machine) resume() {
	m.wire.pauses--
	m.agent.client.mend()
	m.w.thaw(m.agent.process)
}

// crash takes the machine down with all that it had.
func (m *machine) crash() {
	m.agent.stop()
	m.boot()
	m.up = false
}

// restart boots it again.
func (m *machine) restart() {
	m.boot()
	m.agent.start()
}

func (w *world) machine(name string) *machine {
	for _, m := range w.machines {
		if m.name == name {
			return m
		}
	}
	return nil
}
