package agent

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

func wantsOf(addresses ...v1alpha1.Address) []want {
	d := read(&v1alpha1.NodeAddresses{Spec: v1alpha1.NodeAddressesSpec{Addresses: addresses}})
	return d.wants
}

func labels(steps []netif.Step) []string {
	var list []string
	for _, s := range steps {
		list = append(list, s.String())
	}
	return list
}

func with(a v1alpha1.Address, change func(*v1alpha1.Address)) v1alpha1.Address {
	change(&a)
	return a
}

// inherited adds addresses that PlenusLB has bound.
func inherited(ifname string, addresses ...string) func(*netif.State) {
	return func(s *netif.State) {
		s.Inherited = map[netif.Place]struct{}{}
		for _, a := range addresses {
			s.Inherited[netif.Place{Interface: ifname, IP: netip.MustParseAddr(a)}] = struct{}{}
		}
	}
}

func TestPlan(t *testing.T) {
	unguarded := func(a *v1alpha1.Address) { a.Unguarded = true }
	for name, test := range map[string]struct {
		wants  []v1alpha1.Address
		have   netif.State
		change func(*netif.State)
		steps  []string
		fails  map[string]string
	}{
		"nothing wanted, nothing there": {have: netif.State{}},
		"nothing wanted, nothing bound: what serves no address any more goes, and what is not ours stays": {
			have: stateWith(),
			change: func(s *netif.State) {
				s.Links["br0"] = netif.Link{Name: "br0", Up: true}
			},
			steps: []string{"remove-guard", "remove-interface on pl0"},
		},
		"nothing wanted but what is released already": {
			wants: []v1alpha1.Address{in(v1alpha1.Release, hold("10.0.0.10"))},
			have:  stateWith(),
			steps: []string{"remove-guard", "remove-interface on pl0"},
		},
		"nothing wanted, and the last address has to go first": {
			have:  stateWith("10.0.0.10"),
			steps: []string{"unbind 10.0.0.10 on pl0", "unguard 10.0.0.10"},
		},
		"as wanted": {
			wants: []v1alpha1.Address{hold("10.0.0.10"), hold("fd00::10")},
			have:  stateWith("10.0.0.10", "fd00::10"),
		},
		"onto a bare host": {
			wants: []v1alpha1.Address{hold("10.0.0.10"), hold("fd00::10")},
			have:  stateWith(),
			change: func(s *netif.State) {
				delete(s.Links, "pl0")
				s.Guard = netif.Guard{}
				s.Settings["eth0"] = netif.Settings{IPv6: true}
			},
			steps: []string{
				"build-guard 10.0.0.10 fd00::10",
				"create-interface 10.0.0.10 fd00::10 on pl0",
				"prepare-arp on eth0",
				"prepare-ndp fd00::10 on eth0",
				"bind 10.0.0.10 fd00::10 on pl0",
				"add-proxy fd00::10 on eth0",
			},
		},
		"one more": {
			wants: []v1alpha1.Address{hold("10.0.0.10"), hold("10.0.0.11")},
			have:  stateWith("10.0.0.10"),
			steps: []string{"guard 10.0.0.11", "bind 10.0.0.11 on pl0"},
		},
		"released, and missing from the object": {
			wants: []v1alpha1.Address{in(v1alpha1.Release, hold("10.0.0.10"))},
			have:  stateWith("10.0.0.10", "fd00::10"),
			steps: []string{"remove-proxy fd00::10 on eth0", "unbind 10.0.0.10 fd00::10 on pl0", "unguard 10.0.0.10 fd00::10"},
		},
		"what PlenusLB has bound is taken over where it stands": {
			wants:  []v1alpha1.Address{hold("10.0.0.10"), hold("10.0.0.11")},
			have:   stateWith(),
			change: inherited("pl0", "10.0.0.10", "10.0.0.12"),
			steps:  []string{"guard 10.0.0.10 10.0.0.11", "take-over 10.0.0.10 on pl0", "bind 10.0.0.11 on pl0"},
		},
		"what PlenusLB has bound elsewhere is bound, and then taken away there": {
			wants:  []v1alpha1.Address{hold("10.0.0.10")},
			have:   stateWith(),
			change: inherited("eth0", "10.0.0.10"),
			steps:  []string{"guard 10.0.0.10", "bind 10.0.0.10 on pl0", "unbind 10.0.0.10 on eth0"},
		},
		"what PlenusLB has bound is released, and stays while it is yielded": {
			wants:  []v1alpha1.Address{in(v1alpha1.Release, hold("10.0.0.10")), in(v1alpha1.Yield, hold("10.0.0.11"))},
			have:   stateWith(),
			change: inherited("pl0", "10.0.0.10", "10.0.0.11", "10.0.0.12"),
			steps:  []string{"unbind 10.0.0.10 on pl0"},
		},
		"a release goes before a binding": {
			wants: []v1alpha1.Address{in(v1alpha1.Release, hold("10.0.0.10")), hold("10.0.0.11")},
			have:  stateWith("10.0.0.10"),
			steps: []string{"unbind 10.0.0.10 on pl0", "guard 10.0.0.11", "bind 10.0.0.11 on pl0", "unguard 10.0.0.10"},
		},
		"yielded, bound": {
			wants: []v1alpha1.Address{in(v1alpha1.Yield, hold("fd00::10"))},
			have:  stateWith("fd00::10"),
		},
		"yielded, not bound: its successor may have it": {
			wants: []v1alpha1.Address{in(v1alpha1.Yield, hold("10.0.0.10"))},
			have:  stateWith(),
		},
		"to another interface, without a gap": {
			wants: []v1alpha1.Address{with(hold("10.0.0.10"), func(a *v1alpha1.Address) { a.Interface = "eth0" })},
			have:  stateWith("10.0.0.10"),
			steps: []string{"bind 10.0.0.10 on eth0", "unbind 10.0.0.10 on pl0"},
		},
		"IPv6 on the uplink itself needs no proxy": {
			wants: []v1alpha1.Address{with(hold("fd00::10"), func(a *v1alpha1.Address) { a.Interface = "eth0" })},
			have:  stateWith("fd00::10"),
			steps: []string{"bind fd00::10 on eth0", "remove-proxy fd00::10 on eth0", "unbind fd00::10 on pl0"},
		},
		"guard turned off": {
			wants: []v1alpha1.Address{with(hold("10.0.0.10"), unguarded)},
			have:  stateWith("10.0.0.10"),
			steps: []string{"unguard 10.0.0.10"},
		},
		"guard never wanted": {
			wants:  []v1alpha1.Address{with(hold("10.0.0.10"), unguarded)},
			have:   stateWith(),
			change: func(s *netif.State) { s.Guard = netif.Guard{} },
			steps:  []string{"bind 10.0.0.10 on pl0"},
		},
		"guard flushed": {
			wants:  []v1alpha1.Address{hold("10.0.0.10"), in(v1alpha1.Yield, hold("10.0.0.11"))},
			have:   stateWith("10.0.0.10", "10.0.0.11"),
			change: func(s *netif.State) { s.Guard = netif.Guard{} },
			steps:  []string{"build-guard 10.0.0.10 10.0.0.11"},
		},
		"interface none is not ours to bind": {
			wants: []v1alpha1.Address{with(hold("10.0.0.10"), func(a *v1alpha1.Address) { a.Interface = "none" })},
			have:  stateWith("10.0.0.10"),
			steps: []string{"unbind 10.0.0.10 on pl0", "unguard 10.0.0.10"},
		},
		"bound by somebody else": {
			wants: []v1alpha1.Address{hold("10.0.0.1")},
			have:  stateWith(),
			fails: map[string]string{"10.0.0.1": ReasonAddressInUse},
		},
		"uplink that is not there": {
			wants: []v1alpha1.Address{with(hold("10.0.0.10"), func(a *v1alpha1.Address) { a.Uplink = "eth9" })},
			have:  stateWith(),
			fails: map[string]string{"10.0.0.10": ReasonUplinkMissing},
		},
		"uplink that vanished keeps what is bound": {
			wants: []v1alpha1.Address{with(hold("fd00::10"), func(a *v1alpha1.Address) { a.Uplink = "eth9" })},
			have:  stateWith("fd00::10"),
			fails: map[string]string{"fd00::10": ReasonUplinkMissing},
		},
		"our interface is down": {
			wants:  []v1alpha1.Address{hold("10.0.0.10")},
			have:   stateWith("10.0.0.10"),
			change: func(s *netif.State) { l := s.Links["pl0"]; l.Up = false; s.Links["pl0"] = l },
			steps:  []string{"set-up 10.0.0.10 on pl0"},
		},
		"somebody else's interface is down": {
			wants:  []v1alpha1.Address{hold("10.0.0.10")},
			have:   stateWith(),
			change: func(s *netif.State) { s.Links["pl0"] = netif.Link{Index: 3, Name: "pl0"} },
			fails:  map[string]string{"10.0.0.10": ReasonInterfaceDown},
		},
		"routed to the host: no uplink": {
			wants:  []v1alpha1.Address{hold("192.0.2.1")},
			have:   stateWith(),
			change: func(s *netif.State) { s.Default4 = nil },
			steps:  []string{"guard 192.0.2.1", "bind 192.0.2.1 on pl0"},
		},
		"two entries for one address: Hold beats Release": {
			wants: []v1alpha1.Address{in(v1alpha1.Release, hold("10.0.0.10")), hold("10.0.0.10"), in(v1alpha1.Yield, hold("10.0.0.10"))},
			have:  stateWith("10.0.0.10"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			have := test.have
			if test.change != nil {
				test.change(&have)
			}
			steps, troubles := plan(resolve(wantsOf(test.wants...), &have), &have)
			assert.Equal(t, test.steps, labels(steps))
			fails := map[string]string{}
			for ip, trouble := range troubles {
				fails[ip.String()] = trouble.reason
				assert.NotEmpty(t, trouble.message)
			}
			if test.fails == nil {
				test.fails = map[string]string{}
			}
			assert.Equal(t, test.fails, fails)
		})
	}
}

// From any state to any other: one plan is enough, a second has nothing to do but to tidy up where nothing is wanted, the same input gives the same steps,
// nothing that is not ours is touched, and at no moment is a guarded address bound without its guard.
func TestPlanFromAnythingToAnything(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		have := randomState(random)
		wants := resolve(randomWants(random), &have)
		story := fmt.Sprintf("seed %d\nwants %v\nhave %+v", seed, wants, have)
		steps, troubles := plan(wants, &have)
		again, _ := plan(wants, &have)
		require.Equal(t, labels(steps), labels(again), story)
		host := clone(have)
		for _, step := range steps {
			checkStep(t, step, &host, wants, story)
			if step.Kind == netif.CreateInterface {
				host.Links[step.Interface] = netif.Link{Index: 50, Name: step.Interface, Up: true, Ours: true}
			}
			absorb(&host, step, nil)
		}
		for _, w := range wants {
			_, bound := host.Bound[netif.Place{Interface: w.ifname, IP: w.ip}]
			_, trouble := troubles[w.ip]
			_, was := have.Bound[netif.Place{Interface: w.ifname, IP: w.ip}]
			switch {
			case w.ifname == interfaceNone || w.state == v1alpha1.Release:
				require.Falsef(t, bound, "%s\n%s is released", story, w.ip)
			case w.state == v1alpha1.Hold && !trouble:
				require.Truef(t, bound, "%s\n%s is held", story, w.ip)
			case w.state == v1alpha1.Yield:
				require.Equalf(t, was, bound, "%s\n%s yields", story, w.ip)
			}
			_, covered := host.Guard.Addresses[w.ip]
			require.Equalf(t, w.guarded && bound, covered && bound, "%s\nguard of %s", story, w.ip)
		}
		for place := range host.Bound {
			_, wanted := find(wants, place.IP)
			require.Truef(t, wanted, "%s\nleft behind: %s", story, place.IP)
		}
		for place := range have.Inherited {
			if _, wanted := find(wants, place.IP); !wanted {
				require.Containsf(t, host.Inherited, place, "%s\nnot ours to unbind", story)
			}
		}
		stable := []netif.Kind{netif.PrepareARP, netif.PrepareNDP, netif.SetUp}
		if !slices.ContainsFunc(wants, func(w want) bool { return w.state != v1alpha1.Release }) {
			stable = append(stable, netif.RemoveGuard, netif.RemoveInterface)
		}
		rest, _ := plan(wants, &host)
		for _, step := range rest {
			require.Containsf(t, stable, step.Kind, "%s\nnot stable: %s", story, step)
		}
	}
}

func checkStep(t *testing.T, step netif.Step, host *netif.State, wants []want, story string) {
	for _, ip := range step.Addresses {
		_, covered := host.Guard.Addresses[ip]
		w, wanted := find(wants, ip)
		switch step.Kind {
		case netif.Bind, netif.TakeOver:
			require.Truef(t, covered || !w.guarded, "%s\nbound before its guard: %s", story, ip)
		case netif.Uncover:
			for place := range host.Bound {
				require.Falsef(t, place.IP == ip && w.guarded, "%s\nbound without its guard: %s", story, ip)
			}
		case netif.Unbind:
			_, ours := host.Bound[netif.Place{Interface: step.Interface, IP: ip}]
			_, theirs := host.Inherited[netif.Place{Interface: step.Interface, IP: ip}]
			require.Truef(t, ours || theirs && wanted, "%s\nnot ours: %s", story, ip)
		}
	}
}

var (
	poolOfTests = []string{"10.0.0.10", "10.0.0.11", "192.0.2.1", "fd00::10", "fd00::11", "10.0.0.1"}
	ifnames     = []string{"pl0", "pl1", "eth0"}
)

func randomState(random *rand.Rand) netif.State {
	s := stateWith()
	s.Inherited = map[netif.Place]struct{}{}
	s.Guard.Intact = random.IntN(4) > 0
	if !s.Guard.Intact {
		s.Guard.Exists = random.IntN(2) == 0
	}
	if random.IntN(3) == 0 {
		s.Settings["eth0"] = netif.Settings{}
	}
	if random.IntN(3) == 0 {
		s.Default4, s.Default6 = nil, nil
	}
	for _, a := range poolOfTests[:5] {
		ip := netip.MustParseAddr(a)
		for _, ifname := range []string{"pl0", "eth0"} {
			switch place := (netif.Place{Interface: ifname, IP: ip}); {
			case random.IntN(3) == 0:
				s.Bound[place] = struct{}{}
			case random.IntN(6) == 0 && ip.Is4():
				s.Inherited[place] = struct{}{}
			}
		}
		if random.IntN(2) == 0 && s.Guard.Intact {
			s.Guard.Addresses[ip] = struct{}{}
		}
		if random.IntN(3) == 0 && ip.Is6() {
			s.Proxies[netif.Place{Interface: "eth0", IP: ip}] = struct{}{}
		}
	}
	return s
}

func randomWants(random *rand.Rand) []want {
	var list []v1alpha1.Address
	states := []v1alpha1.State{v1alpha1.Hold, v1alpha1.Hold, v1alpha1.Yield, v1alpha1.Release}
	for _, a := range poolOfTests {
		if random.IntN(4) == 0 {
			continue
		}
		entry := in(states[random.IntN(len(states))], hold(a))
		entry.Interface = append(ifnames, interfaceNone)[random.IntN(4)]
		entry.Unguarded = random.IntN(4) == 0
		if random.IntN(8) == 0 {
			entry.Uplink = "eth9"
		}
		list = append(list, entry)
	}
	return wantsOf(list...)
}

func TestUplinkIsTheNarrowestSubnetThenTheDefaultRoute(t *testing.T) {
	have := stateWith()
	have.Links["eth1"] = netif.Link{Index: 9, Name: "eth1", Up: true}
	have.Host = append(have.Host, netif.HostAddress{Interface: "eth1", Prefix: netip.MustParsePrefix("10.0.0.129/25")},
		netif.HostAddress{Interface: "eth1", Prefix: netip.MustParsePrefix("203.0.113.9/32")})
	for ip, uplink := range map[string]string{
		"10.0.0.10": "eth0", "10.0.0.200": "eth1", "203.0.113.9": "eth0", "fd00::5": "eth0", "2001:db8::1": "eth0", "127.0.0.5": "eth0",
	} {
		assert.Equal(t, uplink, uplinkFor(netip.MustParseAddr(ip), &have), ip)
	}
	have.Default4 = nil
	assert.Empty(t, uplinkFor(netip.MustParseAddr("192.0.2.1"), &have))
}

func TestOnlyAddressesThatOthersCanUseAreReported(t *testing.T) {
	have := stateWith()
	for index, link := range []netif.Link{{Name: "cni0", Kind: "bridge"}, {Name: "veth1", Kind: "veth", Master: 10},
		{Name: "flannel.1", Kind: "vxlan"}, {Name: "br0", Kind: "bridge"}, {Name: "eth1", Master: 13}, {Name: "tunl0", Kind: "ipip"}} {
		link.Index = 10 + index
		have.Links[link.Name] = link
	}
	for ifname, prefix := range map[string]string{"cni0": "10.244.0.1/24", "flannel.1": "10.244.0.0/16", "br0": "10.1.0.1/24",
		"tunl0": "10.9.9.9/32", "eth0": "203.0.113.7/32"} {
		have.Host = append(have.Host, netif.HostAddress{Interface: ifname, Prefix: netip.MustParsePrefix(prefix)})
	}
	have.Host = append(have.Host,
		netif.HostAddress{Interface: "eth0", Prefix: netip.MustParsePrefix("fe80::1/64")},
		netif.HostAddress{Interface: "eth0", Prefix: netip.MustParsePrefix("fd00::abcd/64"), Passing: true})
	var got []string
	for _, a := range nodeAddresses(&have) {
		got = append(got, fmt.Sprint(a.Interface, " ", a.Address, " ", a.Default))
	}
	assert.Equal(t, []string{"br0 10.1.0.1/24 false", "eth0 10.0.0.1/24 true", "eth0 203.0.113.7/32 true", "eth0 fd00::1/64 true"}, got)
}
