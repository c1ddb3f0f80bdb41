package agent

import (
	"cmp"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/conflict"
	"github.com/mooring-lb/mooring/agent/netif"
)

// interfaceNone says that somebody else binds the address.
const interfaceNone = "none"

// want is what is asked for one address.
type want struct {
	ip      netip.Addr
	ifname  string
	uplink  string // as asked for; empty: to be found
	state   v1alpha1.State
	guarded bool
	chased  bool // a predecessor may still answer for it
	watched bool // other machines' claims count
	unheard bool // nobody is to hear of it: it was bound before the agent started, and no object says that it belongs here
	verdict conflict.Verdict
	other   string // the hardware address of who has it, when it is taken
}

// desired is one generation of one object.
type desired struct {
	uid        types.UID
	generation int64
	version    string // the object's resourceVersion when it was read
	wants      []want // by address, one for each
	invalid    []v1alpha1.FailedAddress
}

// read turns the object into wants. Of two entries for one address, Hold beats Yield beats Release.
func read(object *v1alpha1.NodeAddresses) desired {
	d := desired{
		uid:        object.UID,
		generation: object.Generation,
		version:    object.ResourceVersion,
		wants:      make([]want, 0, len(object.Spec.Addresses)),
	}
	for _, entry := range object.Spec.Addresses {
		ip, err := netip.ParseAddr(entry.Address)
		if err != nil || ip.Zone() != "" {
			d.invalid = append(d.invalid, v1alpha1.FailedAddress{Address: entry.Address, Reason: ReasonInvalidAddress,
				Message: "spec.addresses: " + entry.Address + " is not an IP address without prefix length and zone"})
			continue
		}
		d.wants = append(d.wants, want{
			ip:      ip.Unmap(),
			ifname:  entry.Interface,
			uplink:  entry.Uplink,
			state:   entry.State,
			guarded: !entry.Unguarded,
			chased:  entry.Predecessor != "",
			watched: !entry.Unwatched,
		})
	}
	slices.SortStableFunc(d.wants, func(a, b want) int {
		return cmp.Or(a.ip.Compare(b.ip), cmp.Compare(rank(b.state), rank(a.state)))
	})
	d.wants = slices.CompactFunc(d.wants, func(a, b want) bool { return a.ip == b.ip })
	return d
}

// overtakenBy says whether the object is newer. A generation that goes back can only come from an API server, or a
// watch, that lags: the newer one stays in force. Of two objects of one name the one that was written later is newer.
func (d *desired) overtakenBy(object *v1alpha1.NodeAddresses) bool {
	if d == nil {
		return true
	}
	if d.uid == object.UID {
		return d.generation < object.Generation
	}
	c, err := resourceversion.CompareResourceVersion(object.ResourceVersion, d.version)
	return err != nil || c > 0
}

func rank(s v1alpha1.State) int {
	switch s {
	case v1alpha1.Hold:
		return 2
	case v1alpha1.Yield:
		return 1
	default:
		return 0
	}
}

// find returns what is wanted of an address.
func find(wants []want, ip netip.Addr) (want, bool) {
	i, ok := slices.BinarySearchFunc(wants, ip, func(w want, ip netip.Addr) int { return w.ip.Compare(ip) })
	if !ok {
		return want{}, false
	}
	return wants[i], true
}

// uplinkFor finds the interface on which an address is announced: the one whose subnet holds it, the narrowest first,
// else that of the default route. It is empty when there is neither, as for an address that is routed to the host.
func uplinkFor(ip netip.Addr, have *netif.State) string {
	if name := neighbourhood(ip, have); name != "" {
		return name
	}
	routes := have.Default4
	if ip.Is6() {
		routes = have.Default6
	}
	if len(routes) > 0 {
		return routes[0]
	}
	return ""
}

// neighbourhood finds the interface whose subnet holds the address, the narrowest first.
func neighbourhood(ip netip.Addr, have *netif.State) string {
	best, bits := "", -1
	for _, a := range have.Host {
		link := have.Links[a.Interface]
		if a.Prefix.IsSingleIP() || !a.Prefix.Contains(ip) || link.Loopback || a.Interface == netif.IPVSInterface {
			continue
		}
		if a.Prefix.Bits() > bits || a.Prefix.Bits() == bits && cmp.Less(a.Interface, best) {
			best, bits = a.Interface, a.Prefix.Bits()
		}
	}
	return best
}

// resolve returns the wants with every uplink filled in.
func resolve(wants []want, have *netif.State) []want {
	resolved := slices.Clone(wants)
	for i, w := range resolved {
		if w.uplink == "" {
			resolved[i].uplink = uplinkFor(w.ip, have)
		}
	}
	return resolved
}
