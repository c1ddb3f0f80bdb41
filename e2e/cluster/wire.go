package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// The network of every cluster. Namespaces keep clusters apart, so the addresses are always the same.
var (
	// Subnet4 and Subnet6 are the wire that nodes and clients are on. The control plane is at its first address,
	// Node n<i> at .1<i>, the client at .200; the rest is free for pools.
	Subnet4 = netip.MustParsePrefix("10.90.0.0/24")
	Subnet6 = netip.MustParsePrefix("fd00:90::/64")
	// ControlPlane4 and ControlPlane6 are where nodes reach the API server.
	ControlPlane4 = netip.MustParseAddr("10.90.0.1")
	ControlPlane6 = netip.MustParseAddr("fd00:90::1")
)

const (
	serviceSubnets = "10.96.0.0/16,fd00:96::/108"
	podSubnets     = "10.244.0.0/16,fd00:244::/48"
)

const bridgeName = "wire"

// wire is the bridge that joins all hosts. It lives beside the control plane.
type wire struct{ bridge *netlink.Bridge }

func newWire() (*wire, error) {
	off := false
	bridge := &netlink.Bridge{
		// Of its own: a bridge otherwise takes the lowest of its ports', and changes it when that host is cut off.
		LinkAttrs: netlink.LinkAttrs{Name: bridgeName, HardwareAddr: net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}},
		// A switch that learns group memberships may keep neighbour solicitations from a host; this one floods.
		MulticastSnooping: &off,
	}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", bridgeName, err)
	}
	for _, prefix := range []netip.Prefix{
		netip.PrefixFrom(ControlPlane4, Subnet4.Bits()), netip.PrefixFrom(ControlPlane6, Subnet6.Bits()),
	} {
		if err := netlink.AddrAdd(bridge, atOnce(prefix)); err != nil {
			return nil, fmt.Errorf("add %s to bridge %s: %w", prefix, bridgeName, err)
		}
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return nil, fmt.Errorf("set bridge %s up: %w", bridgeName, err)
	}
	return &wire{bridge: bridge}, nil
}

func (w *wire) close() error { return netlink.LinkDel(w.bridge) }

// plug gives the host an eth0 on the wire, with addresses that end in number, and routes to the control plane.
func (w *wire) plug(h *Host, number byte) error {
	veth := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: h.port(), MasterIndex: w.bridge.Attrs().Index},
		PeerName:         uplink,
		PeerNamespace:    netlink.NsFd(int(h.netns.Fd())),
		PeerHardwareAddr: h.mac,
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("plug %s in: %w", h.Name, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set %s up: %w", h.port(), err)
	}
	eth0, err := h.netlink.LinkByName(uplink)
	if err != nil {
		return fmt.Errorf("find %s of %s: %w", uplink, h.Name, err)
	}
	if err := h.netlink.LinkSetUp(eth0); err != nil {
		return fmt.Errorf("set %s of %s up: %w", uplink, h.Name, err)
	}
	h.mac = eth0.Attrs().HardwareAddr
	h.IPv4, h.IPv6 = withNumber(Subnet4, number), withNumber(Subnet6, number)
	everything4, everything6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	return errors.Join(
		h.addAddress(eth0, netip.PrefixFrom(h.IPv4, Subnet4.Bits())),
		h.addAddress(eth0, netip.PrefixFrom(h.IPv6, Subnet6.Bits())),
		h.addRoute(everything4, ControlPlane4),
		h.addRoute(everything6, ControlPlane6),
	)
}

// port is the name of the wire's end of the host's cable.
func (h *Host) port() string { return "wire-" + h.Name }

// CutOff pulls the host's cable: nothing reaches it and nothing leaves it, and whatever runs on it runs on.
func (h *Host) CutOff() error { return setPort(h, netlink.LinkSetDown) }

// Restore plugs the cable in again.
func (h *Host) Restore() error { return setPort(h, netlink.LinkSetUp) }

func setPort(h *Host, set func(netlink.Link) error) error {
	link, err := netlink.LinkByName(h.port())
	if err != nil {
		return fmt.Errorf("find %s: %w", h.port(), err)
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set %s: %w", h.port(), err)
	}
	return nil
}

// withNumber is the address of the subnet that ends in the decimal digits of number, in both families: 10.90.0.11
// and fd00:90::11.
func withNumber(subnet netip.Prefix, number byte) netip.Addr {
	raw := subnet.Masked().Addr().AsSlice()
	if subnet.Addr().Is4() {
		raw[len(raw)-1] = number
	} else {
		raw[len(raw)-2], raw[len(raw)-1] = number/100, number/10%10<<4|number%10
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}
