package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// messagesGiven is how many of the failed addresses come with a message; the others have their reason. A thousand times
// that an uplink is missing would not fit into an object that has 5,000 entries already.
const messagesGiven = 100

// tell makes the status one to report. It holds an acknowledgement back for a moment while first announcements are
// paced, so that a generation is acknowledged by one write; later is true when it is to be called again at that time.
func (k *Keeper) tell(now time.Time) (at time.Time, later bool) {
	status := k.status()
	if len(status.Pending) > 0 && k.pacing() {
		if k.heldBack.IsZero() {
			k.heldBack = now
		}
		if until := k.heldBack.Add(reportDelay); now.Before(until) {
			return until, true
		}
	}
	k.heldBack, k.news = time.Time{}, false
	k.metrics.told(status)
	k.offered = &status
	return time.Time{}, false
}

// pacing says that announcements wait for nothing but their turn.
func (k *Keeper) pacing() bool {
	return len(k.announcer.queue) > 0 && !k.announcer.queue[0].heard
}

// status is what there is to report now.
func (k *Keeper) status() v1alpha1.NodeAddressesStatus {
	status := v1alpha1.NodeAddressesStatus{
		ObjectUID:          k.applied.uid,
		ObservedGeneration: k.applied.generation,
		Bound:              int32(len(k.have.Bound)),
		BootID:             k.options.BootID,
		HealthPort:         k.options.HealthPort,
		Conditions:         []metav1.Condition{ready(k.wants, &k.have)},
		Failed:             slices.Clone(k.applied.invalid),
	}
	status.NodeAddresses = nodeAddresses(&k.have)
	status.HardwareAddresses = hardwareAddresses(k.wants, status.NodeAddresses, &k.have)
	if k.unread != nil {
		status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse,
			Reason: ReasonHostUnreadable, Message: k.unread.Error()}}
	}
	if c, ok := k.blindness(); ok {
		status.Conditions = append(status.Conditions, c)
	}
	for i, ip := range slices.SortedFunc(maps.Keys(k.failed), netip.Addr.Compare) {
		f := v1alpha1.FailedAddress{Address: ip.String(), Reason: k.failed[ip].reason, HardwareAddress: k.failed[ip].other}
		if i < messagesGiven {
			f.Message = k.failed[ip].message
		}
		status.Failed = append(status.Failed, f)
	}
	for _, c := range k.conflicts.Contests() {
		status.Contested = append(status.Contested, v1alpha1.ContestedAddress{
			Address: c.IP.String(), HardwareAddress: c.Other, Interface: c.Uplink})
	}
	for _, w := range k.wants {
		if _, failed := k.failed[w.ip]; !failed && k.pending(w) {
			status.Pending = append(status.Pending, w.ip.String())
		}
	}
	return status
}

func (k *Keeper) pending(w want) bool {
	if w.ifname == interfaceNone {
		return false
	}
	_, bound := k.have.Bound[netif.Place{Interface: w.ifname, IP: w.ip}]
	switch w.state {
	case v1alpha1.Hold:
		return !bound || w.uplink != "" && !k.announcer.announced(w.ip)
	case v1alpha1.Yield:
		return false
	default:
		return bound
	}
}

// nodeAddresses are the host's own addresses that others can reach it by. An interface with a default route always
// counts. Of the others those do not that belong to the pod network or to the node itself: tunnels, dummies, bridges
// that carry nothing but pods, and single addresses.
func nodeAddresses(have *netif.State) []v1alpha1.NodeAddress {
	ports := portsOf(have)
	var list []v1alpha1.NodeAddress
	for _, h := range have.Host {
		ip := h.Prefix.Addr()
		link := have.Links[h.Interface]
		if !ip.IsGlobalUnicast() || h.Passing || link.Loopback {
			continue
		}
		default4, default6 := slices.Contains(have.Default4, link.Name), slices.Contains(have.Default6, link.Name)
		if !default4 && !default6 && (h.Prefix.IsSingleIP() || inward(link, ports[link.Index])) {
			continue
		}
		list = append(list, v1alpha1.NodeAddress{
			Interface: h.Interface,
			Address:   h.Prefix.String(),
			Default:   ip.Is4() && default4 || ip.Is6() && default6,
		})
	}
	slices.SortFunc(list, func(x, y v1alpha1.NodeAddress) int {
		return strings.Compare(x.Interface+" "+x.Address, y.Interface+" "+y.Address)
	})
	return list
}

// hardwareAddresses are those that other machines may hear virtual addresses announced or answered from: of the uplinks
// of entries, of the interfaces with an address or a default route, and of every other one that a pool may name as its
// uplink. The last ones count before an entry uses them and after none does any more, because a node that has let go of an
// address may answer for it a little longer than it has an entry for it. What pods are attached with comes and goes with
// the pods, and counts only when it is used.
func hardwareAddresses(wants []want, addresses []v1alpha1.NodeAddress, have *netif.State) []string {
	used := map[string]bool{}
	for _, w := range wants {
		used[w.uplink] = true
	}
	for _, a := range addresses {
		used[a.Interface] = true
	}
	for _, name := range slices.Concat(have.Default4, have.Default6) {
		used[name] = true
	}
	ports := portsOf(have)
	var list []string
	for name, link := range have.Links {
		if link.Loopback || len(link.HardwareAddr) != hardwareAddrLen {
			continue
		}
		if used[name] || !inward(link, ports[link.Index]) && !ofPods(link) {
			list = append(list, link.HardwareAddr.String())
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// portsOf are the interfaces of each bridge or bond, by its index.
func portsOf(have *netif.State) map[int][]netif.Link {
	ports := map[int][]netif.Link{}
	for _, link := range have.Links {
		ports[link.Master] = append(ports[link.Master], link)
	}
	return ports
}

// ofPods says that the interface is of a kind that pods are attached with.
func ofPods(link netif.Link) bool {
	switch link.Kind {
	case "veth", "netkit", "macvlan", "macvtap", "ipvlan", "ipvtap":
		return true
	default:
		return false
	}
}

func inward(link netif.Link, ports []netif.Link) bool {
	switch link.Kind {
	case "dummy", "vxlan", "geneve", "ipip", "sit", "gre", "ip6tnl", "ip6gre", "tun", "vrf", "nlmon", "ifb":
		return true
	case "bridge":
		return !slices.ContainsFunc(ports, func(p netif.Link) bool { return p.Kind != "veth" && p.Kind != "tun" })
	default:
		return false
	}
}

// ready judges whether virtual addresses work on this host; what only harms in some layouts is named in the message of
// a True condition.
func ready(wants []want, have *netif.State) metav1.Condition {
	condition := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: message}
	}
	if _, ok := have.Links[netif.IPVSInterface]; ok {
		return condition(metav1.ConditionFalse, ReasonKubeProxyIPVS, "interface "+netif.IPVSInterface+" exists: kube-proxy "+
			"in IPVS mode binds every virtual IP on every node; run it with mode nftables or iptables (and delete "+
			netif.IPVSInterface+")")
	}
	uplinks, own := map[string]bool{}, map[string]bool{}
	for _, name := range have.Default4[:min(1, len(have.Default4))] {
		uplinks[name] = true
	}
	for _, w := range wants {
		if w.state != v1alpha1.Hold || w.ifname == interfaceNone || w.uplink == "" || !w.ip.Is4() {
			continue
		}
		if w.ifname == w.uplink {
			own[w.uplink] = true
		} else {
			uplinks[w.uplink] = true
		}
	}
	var silent, notes []string
	for _, name := range slices.Sorted(maps.Keys(uplinks)) {
		s, known := have.Settings[name]
		if !known {
			continue
		}
		// 3 keeps silent only about addresses of scope host, which ours are not.
		if s.ARPIgnore != 0 && s.ARPIgnore != 3 && !own[name] {
			silent = append(silent, fmt.Sprintf("arp_ignore=%d on %s keeps the host silent about addresses of other "+
				"interfaces: set net.ipv4.conf.all.arp_ignore=0 and net.ipv4.conf.%s.arp_ignore=0", s.ARPIgnore, name, name))
		}
		if s.RPFilter == 1 && (len(have.Default4) == 0 || have.Default4[0] != name) {
			notes = append(notes, fmt.Sprintf("rp_filter=1 on %s drops clients whose way back is another interface: "+
				"set net.ipv4.conf.%s.rp_filter=2", name, name))
		}
		if s.ARPAnnounce < 2 && len(wants) > 0 {
			notes = append(notes, fmt.Sprintf("arp_announce=%d on %s lets the host ask for neighbours with a virtual address: "+
				"set net.ipv4.conf.%s.arp_announce=2", s.ARPAnnounce, name, name))
		}
	}
	if len(silent) > 0 {
		return condition(metav1.ConditionFalse, ReasonKernelSettings, strings.Join(append(silent, notes...), "; "))
	}
	return condition(metav1.ConditionTrue, ReasonReady, strings.Join(notes, "; "))
}
