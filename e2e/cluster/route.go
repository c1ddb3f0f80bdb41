package cluster

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Unroute has the host told at once that there is no way to these prefixes, but for the parts of them that Route sends
// somewhere.
func (h *Host) Unroute(prefixes ...netip.Prefix) error {
	for _, prefix := range prefixes {
		if err := h.netlink.RouteAdd(&netlink.Route{Dst: hostNet(prefix.Masked()), Type: unix.RTN_UNREACHABLE}); err != nil {
			return fmt.Errorf("make %s unreachable from %s: %w", prefix, h.Name, err)
		}
	}
	return nil
}

// Route has what the host sends to the prefix carried to another host, as a router at a cloud does with a Floating IP;
// nil: no longer to any. Whether somebody answers there is that host's affair.
func (h *Host) Route(prefix netip.Prefix, to *Host) error {
	route := &netlink.Route{Dst: hostNet(prefix.Masked())}
	if to == nil {
		if err := h.netlink.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route to %s on %s: %w", prefix, h.Name, err)
		}
		return nil
	}
	via := to.IPv4
	if prefix.Addr().Is6() {
		via = to.IPv6
	}
	route.Gw = via.AsSlice()
	if err := h.netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s via %s on %s: %w", prefix, to.Name, h.Name, err)
	}
	return nil
}

// AnswerByProxy has the host answer ARP for every address of the prefix, whoever has it, as a router does that believes
// it to be behind it. What is sent there comes to nothing.
func (h *Host) AnswerByProxy(prefix netip.Prefix) error {
	behind := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "behind"}}
	if err := h.netlink.LinkAdd(behind); err != nil {
		return fmt.Errorf("make interface behind of %s: %w", h.Name, err)
	}
	return errors.Join(
		h.netlink.LinkSetUp(behind),
		h.netlink.RouteAdd(&netlink.Route{Dst: hostNet(prefix.Masked()), LinkIndex: behind.Attrs().Index, Scope: netlink.SCOPE_LINK}),
		h.Sysctl("ipv4/ip_forward", "1"),
		h.Sysctl("ipv4/conf/"+uplink+"/proxy_arp", "1"),
		// At once, not at random within 0.8 s.
		h.Sysctl("ipv4/neigh/"+uplink+"/proxy_delay", "0"),
	)
}
