package config

import (
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// floatingIPv6 is how long the prefix of an IPv6 Floating IP is: Hetzner routes the whole network to one server.
const floatingIPv6 = 64

// networkOf is what Hetzner routes to one server when it routes the address.
func networkOf(addr netip.Addr) netip.Prefix {
	if addr.Is4() {
		return netip.PrefixFrom(addr, addr.BitLen())
	}
	return netip.PrefixFrom(addr, floatingIPv6).Masked()
}

// floating reads a range of addresses as Floating IPs. Of an IPv6 network one address is used: the one that is listed,
// or the first after the base, which is also the one that is used of a network that is bought.
func floating(r netipx.IPRange) (given netipx.IPRange, complaint string) {
	network := networkOf(r.From())
	switch {
	case r.From().Is4() || r.From() == r.To():
		return r, ""
	case r == netipx.RangeOfPrefix(network):
		first := network.Addr().Next()
		return netipx.IPRangeFrom(first, first), ""
	}
	return r, fmt.Sprintf("an IPv6 Floating IP is a /%d, routed to one server, of which one address is used: write each one as in %s or as in %s",
		floatingIPv6, network, network.Addr().Next())
}

// disjointNetworks reports the IPv6 Floating IPs of which two pools give out different addresses, at the later pool.
func (j *judge) disjointNetworks(p *field.Path, pools []Pool) {
	first := make(map[netip.Prefix]int)
	for i := range pools {
		if pools[i].Hetzner == nil || pools[i].Addresses == nil {
			continue
		}
		for _, r := range pools[i].Addresses.Ranges() {
			// There is one address of each IPv6 network, so a range has two at most: the last of one and the first of
			// the next.
			for _, addr := range slices.Compact([]netip.Addr{r.From(), r.To()}) {
				network := networkOf(addr)
				if at, taken := first[network]; !taken {
					first[network] = i
				} else if !pools[at].Addresses.Contains(addr) { // which is reported already
					j.invalid(p.Index(i).Child("addresses"), addr.String(), "is in one /%d with an address of pool %q (%s), and the whole /%d is routed to one server: keep one of the two",
						floatingIPv6, pools[at].Name, p.Index(at).Child("addresses"), floatingIPv6)
				}
			}
		}
	}
}
