// Package netif is the host's network as the agent sees it and changes it: addresses, the interfaces that carry
// them, proxy-NDP entries, the guard table and announcements on the wire. It is the only package that speaks
// netlink, nftables or raw sockets, and it works on Linux only.
//
// It decides nothing. Which address belongs here is the agent's business; this package reads the kernel's state,
// carries out one step at a time, and touches only what carries Mooring's mark.
//
// # How things are marked
//
//   - Every address is added with IFA_PROTO = Protocol, which kernels from 5.18 on store. An IPv4 address also gets
//     the label "<interface>:moor" where that fits into 15 bytes. An older kernel forgets the protocol: there an IPv6
//     address counts as ours when it is a /128, nodad, noprefixroute and deprecated, and stands on an interface that
//     we created.
//   - An interface that we created carries the alias "mooring".
//   - A proxy-NDP entry carries NDA_PROTOCOL = Protocol.
//   - The guard is the nftables table "inet mooring".
//
// An IPv4 address with the label "<interface>:pllb" was put there by PlenusLB's operator, which labels so what it bound
// for Services. It is nobody's own address, and can be taken over where it stands.
package netif

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

const (
	// Protocol marks addresses (IFA_PROTO) and proxy-NDP entries (NDA_PROTOCOL) as Mooring's. The kernel itself
	// uses 0 to 3, and no entry of iproute2's rt_addrprotos is near it.
	Protocol = 109
	// Alias marks an interface that Mooring created.
	Alias = "mooring"
	// labelSuffix makes an IPv4 address label out of the interface's name.
	labelSuffix = ":moor"
	// inheritedSuffix is that of PlenusLB (pkg/operator/network in its repository).
	inheritedSuffix = ":pllb"
	// GuardTable is the name of the nftables table (family inet).
	GuardTable = "mooring"
	// IPVSInterface exists where kube-proxy runs in IPVS mode; it holds every virtual IP of the cluster.
	IPVSInterface = "kube-ipvs0"
)

var (
	// ErrNoInterface says that the interface of a step does not exist.
	ErrNoInterface = errors.New("interface does not exist")
	// ErrInterrupted says that the kernel's tables changed during each of several attempts to read them.
	ErrInterrupted = errors.New("the kernel's tables kept changing while they were read")
)

// Place is an address on an interface.
type Place struct {
	Interface string
	IP        netip.Addr
}

// Link is one network interface.
type Link struct {
	Index int
	Name  string
	// Kind of a virtual interface, such as bridge or veth; empty for a physical one.
	Kind string
	// Master is the index of the bridge or bond that the interface belongs to, or 0.
	Master       int
	HardwareAddr net.HardwareAddr
	MTU          int
	// Up is true when the interface is administratively up, Running when it also has a carrier.
	Up, Running bool
	Loopback    bool
	// Ours is true when Mooring created the interface.
	Ours bool
}

// HostAddress is an address that Mooring did not add.
type HostAddress struct {
	Interface string
	Prefix    netip.Prefix
	// Passing is true for an address that a node should not be known by: temporary, deprecated or not usable.
	Passing bool
}

// Settings are the kernel settings of one interface that decide whether virtual addresses work there. IPv4
// values are those in effect, which is the higher one of "all" and the interface's own.
type Settings struct {
	ARPIgnore, ARPAnnounce, RPFilter int
	// IPv6 is false when the interface has no IPv6.
	IPv6                  bool
	Forwarding6, ProxyNDP bool
	// ProxyDelay6 is how long a proxy-NDP answer is held back, in clock ticks.
	ProxyDelay6 int
}

// ProxyReady is true when proxy-NDP entries on the interface are answered for, and at once.
func (s Settings) ProxyReady() bool {
	return s.IPv6 && s.Forwarding6 && s.ProxyNDP && s.ProxyDelay6 == 0
}

// Guard is what the guard table looks like.
type Guard struct {
	// Intact is true when table, sets, chain and rules are there as we make them.
	Intact bool
	// Exists is true when there is a table of this name, intact or not.
	Exists    bool
	Addresses map[netip.Addr]struct{}
}

// State is everything that the agent needs to know of the host, from one reading.
type State struct {
	Links map[string]Link
	// Bound are the addresses that carry our mark.
	Bound map[Place]struct{}
	// Inherited are addresses that another load balancer's agent bound for Services, and that we have not taken over.
	Inherited map[Place]struct{}
	// Host are all the others, loopback and link-local included.
	Host []HostAddress
	// Proxies are our proxy-NDP entries; Interface is the uplink.
	Proxies map[Place]struct{}
	// Default4 and Default6 are the interfaces through which a default route leaves, best metric first.
	Default4, Default6 []string
	Settings           map[string]Settings
	Guard              Guard
}

// Kind of a Step.
type Kind string

// Kinds of steps. Each is idempotent: what is there already, or gone already, is success.
const (
	CreateInterface Kind = "create-interface" // a bridge without ports, marked ours, up
	SetUp           Kind = "set-up"           // bring the interface up
	PrepareARP      Kind = "prepare-arp"      // arp_announce=2 on the uplink
	PrepareNDP      Kind = "prepare-ndp"      // the settings that proxy-NDP needs on the uplink
	BuildGuard      Kind = "build-guard"      // make the guard table anew, covering exactly Addresses
	Cover           Kind = "guard"            // add Addresses to the guard
	Uncover         Kind = "unguard"          // remove Addresses from the guard
	TakeOver        Kind = "take-over"        // mark inherited addresses as ours, which stay bound meanwhile
	Bind            Kind = "bind"
	Unbind          Kind = "unbind"
	AddProxy        Kind = "add-proxy" // proxy-NDP entries; Interface is the uplink
	RemoveProxy     Kind = "remove-proxy"
	RemoveInterface Kind = "remove-interface" // only one that we created and that is empty
	RemoveGuard     Kind = "remove-guard"
)

// Step is one labelled change of the host.
type Step struct {
	Kind      Kind
	Interface string
	Addresses []netip.Addr
}

// String is the label of the step, short enough for a log line.
func (s Step) String() string {
	const shown = 3
	var b strings.Builder
	b.WriteString(string(s.Kind))
	for i, ip := range s.Addresses {
		if i == shown {
			fmt.Fprintf(&b, " and %d more", len(s.Addresses)-shown)
			break
		}
		b.WriteString(" ")
		b.WriteString(ip.String())
	}
	if s.Interface != "" {
		b.WriteString(" on ")
		b.WriteString(s.Interface)
	}
	return b.String()
}

// Failure is why a step, or one address of it, could not be done. The zero IP means the whole step.
type Failure struct {
	IP  netip.Addr
	Err error
}

// EventKind says what changed on the host.
type EventKind string

// Kinds of events.
const (
	AddressEvent EventKind = "address"
	LinkEvent    EventKind = "link"
	RouteEvent   EventKind = "route" // a default route
	GuardEvent   EventKind = "guard"
	// ClaimEvent says that another machine has said on the wire that an address is at it, asked or unasked: an ARP
	// packet with the address as its sender, or a neighbour advertisement with the address as its target.
	ClaimEvent EventKind = "claim"
	// DeafEvent says that claims cannot be heard any more on the uplink Interface, although it is up: Listen, called
	// again, says why or finds that they can. It is repeated as long as that is so.
	DeafEvent EventKind = "deaf"
	// LostEvent says that changes may have been missed: the watch began anew.
	LostEvent EventKind = "lost"
)

// Event is a change that the kernel told of.
type Event struct {
	Kind EventKind
	// Interface of a link event, and the uplink of a claim or a deaf event.
	Interface string
	// Index of the interface of an address event.
	Index int
	// IP of an address event, of a claim, and of a guard event about one address; a guard event without it is about
	// the table.
	IP netip.Addr
	// Ours is true when the address or interface carries our mark.
	Ours bool
	// Gone is true when the address or interface was removed.
	Gone bool
	// Up, Running and HardwareAddr of a link event, as in Link; HardwareAddr of a claim is that of the other machine.
	Up, Running  bool
	HardwareAddr net.HardwareAddr
	// Moved is true for a link event that says that neighbours must be told again where the host is: a bond changed
	// to another port, or a virtual machine was moved to another machine.
	Moved bool
}

// Label returns the IPv4 address label for an interface, or "" when it does not fit.
func Label(ifname string) string { return labelWith(ifname, labelSuffix) }

func labelWith(ifname, suffix string) string {
	const ifnamsiz = 16 // with the closing zero byte
	if len(ifname)+len(suffix) >= ifnamsiz {
		return ""
	}
	return ifname + suffix
}
