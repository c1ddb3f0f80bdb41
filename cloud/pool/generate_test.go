package pool_test

import (
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

func genAddr(t *rapid.T) netip.Addr { return rapid.SampledFrom(everywhere).Draw(t, "address") }

func genAddrs(t *rapid.T, most int) []netip.Addr {
	return rapid.SliceOfN(rapid.SampledFrom(everywhere), 0, most).Draw(t, "addresses")
}

// rarely is true about once in n draws.
func rarely(t *rapid.T, n int, what string) bool { return rapid.IntRange(1, n).Draw(t, what) == n }

func genExposer(t *rapid.T) lb.Ref {
	return lb.Ref{Namespace: rapid.SampledFrom([]string{"ns0", "ns1", "ns2"}).Draw(t, "namespace"), Name: rapid.SampledFrom([]string{"s0", "x"}).Draw(t, "name")}
}

func genPools(t *rapid.T) []config.Pool {
	const most = 3
	var builders [most + 1]netipx.IPSetBuilder
	for _, a := range world {
		builders[rapid.IntRange(0, most).Draw(t, "owner of "+a.String())].Add(a)
	}
	var pools []config.Pool
	for i := range most {
		p := config.Pool{Name: fmt.Sprintf("p%d", i), AutoAssign: !rarely(t, 4, "named only"), Priority: rapid.IntRange(0, 1).Draw(t, "priority")}
		switch rapid.IntRange(0, 5).Draw(t, "source") {
		case 0: // a port range of its own at one of two hosts
			low := uint16(80 + 3*i)
			p.Updater = &config.Updater{Host: rapid.SampledFrom([]string{"192.0.2.1", "lb.example.com"}).Draw(t, "host"), PortLow: low, PortHigh: low + uint16(rapid.IntRange(0, 2).Draw(t, "range"))}
		case 1, 2:
			p.Hetzner = genEphemeral(t)
		default:
			p.Addresses, _ = builders[i].IPSet()
		}
		if rarely(t, 5, "allowedNamespaces") {
			p.AllowedNamespaces = []string{"ns0"}
		}
		if rarely(t, 5, "namespaceSelector") {
			p.NamespaceSelector = selecting("tier=public")
		}
		if rarely(t, 8, "serviceSelector") {
			p.ServiceSelector = selecting("expose=true")
		}
		if rarely(t, 8, "class") {
			p.LoadBalancerClass = "x/y"
		}
		if !rarely(t, 8, "absent") {
			pools = append(pools, p)
		}
	}
	return rapid.Permutation(pools).Draw(t, "order")
}

func genEphemeral(t *rapid.T) *config.HetznerPool {
	types := rapid.IntRange(1, 3).Draw(t, "types")
	return &config.HetznerPool{Ephemeral: &config.Ephemeral{
		IPv4: types&1 > 0, IPv6: types&2 > 0, MaxAddresses: rapid.IntRange(0, 3).Draw(t, "maxAddresses"),
	}}
}

func genPort(t *rapid.T) lb.Port {
	return lb.Port{Number: uint16(rapid.IntRange(80, 85).Draw(t, "number")), Protocol: rapid.SampledFrom([]lb.Protocol{lb.TCP, lb.UDP}).Draw(t, "protocol")}
}

// genPorts gives a Service further ports and what decides about an external load balancer.
func genPorts(t *rapid.T, r *lb.Request) {
	for rarely(t, 3, "one more port") {
		if p := genPort(t); !slices.Contains(r.Ports, p) {
			r.Ports = append(r.Ports, p)
		}
	}
	if rarely(t, 20, "SCTP") {
		r.Ports = append(r.Ports, lb.Port{Number: 132, Protocol: lb.SCTP})
	}
	for _, p := range r.Ports {
		wish := lb.PortWish{Number: p.Number, Protocol: p.Protocol, Port: uint16(rapid.IntRange(79, 89).Draw(t, "wish"))}
		if rarely(t, 4, "wished") && !slices.ContainsFunc(r.LBPorts, func(w lb.PortWish) bool { return w.Port == wish.Port && w.Protocol == wish.Protocol }) {
			r.LBPorts = append(r.LBPorts, wish)
		}
	}
	r.LBPortsOnly = len(r.LBPorts) > 0 && rarely(t, 4, "only these")
	r.SourceRanges, r.ClientIP, r.NoNodePorts = rarely(t, 30, "source ranges"), rarely(t, 30, "client IP"), rarely(t, 30, "no node ports")
}

func genPortLease(t *rapid.T) lb.PortLease {
	return lb.PortLease{
		Pool: rapid.SampledFrom([]string{"p0", "p1", "p2", "gone"}).Draw(t, "pool"), Service: genPort(t), Port: uint16(rapid.IntRange(79, 89).Draw(t, "port")),
	}
}

func genRequest(t *rapid.T) lb.Request {
	i := rapid.IntRange(0, 7).Draw(t, "service")
	r := web(fmt.Sprintf("ns%d/s%d", i%2, i), born(i%3))
	r.Ports = []lb.Port{{Number: uint16(rapid.IntRange(80, 83).Draw(t, "port")), Protocol: rapid.SampledFrom([]lb.Protocol{"TCP", "UDP"}).Draw(t, "protocol")}}
	genPorts(t, &r)
	r.Labels = map[string]string{"expose": rapid.SampledFrom([]string{"true", "false"}).Draw(t, "label")}
	r.NamespaceLabels = map[string]string{"tier": rapid.SampledFrom([]string{"public", "private"}).Draw(t, "namespace label")}
	switch rapid.IntRange(0, 4).Draw(t, "families") {
	case 0:
		r.Families, r.FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.PreferDualStack
	case 1:
		r.Families, r.FamilyPolicy = []lb.Family{lb.IPv6, lb.IPv4}, lb.RequireDualStack
	case 2:
		r.Families = []lb.Family{lb.IPv6}
	}
	if rarely(t, 10, "class") {
		r.Class = "x/y"
	}
	if rarely(t, 3, "pool") {
		r.Pool = rapid.SampledFrom([]string{"p0", "p1", "p2", "none"}).Draw(t, "pool name")
	}
	switch rapid.IntRange(0, 8).Draw(t, "ask") {
	case 0:
		r.Addresses = genAddrs(t, 3)
	case 1:
		r.ExternalIPs = genAddrs(t, 3)
	case 2:
		r.LoadBalancerIP = genAddr(t)
	case 3:
		r.Addresses, r.ExternalIPs, r.LoadBalancerIP = genAddrs(t, 1), genAddrs(t, 1), genAddr(t)
	}
	if rapid.Bool().Draw(t, "keyed") {
		r.SharingKey = rapid.SampledFrom([]string{"k", "l"}).Draw(t, "key")
	}
	if rarely(t, 4, "local") {
		r.Local, r.PodSelector = true, rapid.SampledFrom([]string{"", "app=a"}).Draw(t, "selector")
	}
	return r
}
