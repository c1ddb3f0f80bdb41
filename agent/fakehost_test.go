package agent

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/mooring-lb/mooring/agent/netif"
)

// fakeHost is a host's network in memory. It does what netif.Host does, and refuses what would break a rule.
type fakeHost struct {
	t      testing.TB
	events chan netif.Event

	mu        sync.Mutex
	state     netif.State
	reads     int
	steps     []netif.Step
	announced map[netip.Addr]int
	refuse    map[netip.Addr]error // addresses that cannot be bound
	stuck     map[netip.Addr]error // addresses that cannot be unbound
	broken    error                // Read fails with it
	probed    []netif.Event        // probes, as uplink and IP, in order
	watched   map[string][]netip.Addr
	deaf      error                           // Listen fails with it
	foreign   map[netip.Addr]net.HardwareAddr // other machines that answer probes
}

func newFakeHost(t testing.TB) *fakeHost {
	return &fakeHost{
		t:         t,
		events:    make(chan netif.Event, 10000),
		state:     stateWith(),
		announced: map[netip.Addr]int{},
		refuse:    map[netip.Addr]error{},
	}
}

func stateWith(bound ...string) netif.State {
	s := netif.State{
		Links: map[string]netif.Link{
			"lo":   {Index: 1, Name: "lo", Up: true, Running: true, Loopback: true},
			"eth0": {Index: 2, Name: "eth0", Up: true, Running: true},
			"pl0":  {Index: 3, Name: "pl0", Kind: "bridge", Up: true, Running: true, Ours: true},
		},
		Bound:   map[netif.Place]struct{}{},
		Proxies: map[netif.Place]struct{}{},
		Host: []netif.HostAddress{
			{Interface: "lo", Prefix: netip.MustParsePrefix("127.0.0.1/8")},
			{Interface: "eth0", Prefix: netip.MustParsePrefix("10.0.0.1/24")},
			{Interface: "eth0", Prefix: netip.MustParsePrefix("fd00::1/64")},
		},
		Default4: []string{"eth0"},
		Default6: []string{"eth0"},
		Settings: map[string]netif.Settings{"eth0": {ARPAnnounce: 2, IPv6: true, Forwarding6: true, ProxyNDP: true}},
		Guard:    netif.Guard{Intact: true, Exists: true, Addresses: map[netip.Addr]struct{}{}},
	}
	for _, b := range bound {
		ip := netip.MustParseAddr(b)
		s.Bound[netif.Place{Interface: "pl0", IP: ip}] = struct{}{}
		s.Guard.Addresses[ip] = struct{}{}
		if ip.Is6() {
			s.Proxies[netif.Place{Interface: "eth0", IP: ip}] = struct{}{}
		}
	}
	return s
}

func clone(s netif.State) netif.State {
	c := s
	c.Links = cloneMap(s.Links)
	c.Bound, c.Proxies, c.Settings = cloneMap(s.Bound), cloneMap(s.Proxies), cloneMap(s.Settings)
	c.Inherited = cloneMap(s.Inherited)
	c.Guard.Addresses = cloneMap(s.Guard.Addresses)
	c.Host = slices.Clone(s.Host)
	return c
}

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	c := make(map[K]V, len(m))
	maps.Copy(c, m)
	return c
}

func (h *fakeHost) Read(context.Context) (netif.State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads++
	return clone(h.state), h.broken
}

func (h *fakeHost) Do(_ context.Context, step netif.Step) []netif.Failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps = append(h.steps, step)
	var failures []netif.Failure
	failed := map[netip.Addr]bool{}
	for _, ip := range step.Addresses {
		err := h.refuse[ip]
		if step.Kind == netif.Unbind {
			err = h.stuck[ip]
		}
		if err != nil && (step.Kind == netif.Bind || step.Kind == netif.Unbind) {
			failures = append(failures, netif.Failure{IP: ip, Err: err})
			failed[ip] = true
		}
	}
	switch step.Kind {
	case netif.CreateInterface:
		h.state.Links[step.Interface] = netif.Link{Index: 100 + len(h.state.Links), Name: step.Interface, Kind: "bridge", Ours: true, Up: true, Running: true}
	case netif.RemoveInterface:
		delete(h.state.Links, step.Interface)
	case netif.RemoveGuard:
		h.state.Guard = netif.Guard{Addresses: map[netip.Addr]struct{}{}}
	case netif.SetUp, netif.PrepareARP, netif.PrepareNDP:
	default:
		absorb(&h.state, step, failed)
	}
	return failures
}

func (h *fakeHost) Announce(_ string, ip netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.announced[ip]++
	return nil
}

func (h *fakeHost) Probe(uplink string, ip netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probed = append(h.probed, netif.Event{Interface: uplink, IP: ip})
	if mac := h.foreign[ip]; mac != nil {
		h.events <- netif.Event{Kind: netif.ClaimEvent, Interface: uplink, IP: ip, HardwareAddr: mac}
	}
	return nil
}

func (h *fakeHost) Listen(watched map[string][]netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.deaf == nil {
		h.watched = watched
	}
	return h.deaf
}

func (h *fakeHost) bound() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for place := range h.state.Bound {
		list = append(list, place.IP.String()+"@"+place.Interface)
	}
	slices.Sort(list)
	return list
}

// announcedCount is how many addresses were announced.
func (h *fakeHost) announcedCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.announced)
}

func (h *fakeHost) change(f func(*netif.State)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.state)
}

func (h *fakeHost) counts() (reads, steps int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reads, len(h.steps)
}
