package netif

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd
	arpRequest    = 1
	arpReply      = 2
	// Types of messages, the flags of an advertisement and options are those of RFC 4861, sections 4.1 to 4.6.
	icmp6RouterSolicitation    = 133
	icmp6NeighborSolicitation  = 135
	icmp6NeighborAdvertisement = 136
	naSolicited                = 0x40000000
	naOverride                 = 0x20000000
	optSourceLinkLayer         = 1
	optTargetLinkLayer         = 2
	protoICMP6                 = 58
	ipv6Len                    = 40
	// ndHopLimit proves that a message comes from this segment: a receiver drops one with a lower hop limit.
	ndHopLimit = 255
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	// allNodesMAC and allNodes are the link-local all-nodes group, ff02::1.
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	allNodes    = netip.MustParseAddr("ff02::1")
)

// announcement returns the Ethernet frames that tell the segment that ip is at mac: for IPv4 a gratuitous ARP
// request and a gratuitous reply (RFC 5227, section 3: some stacks act on only one of them), for IPv6 an
// unsolicited neighbour advertisement with the override flag (RFC 4861, section 7.2.6).
//
// The frames are built here and not by a library: they are three fixed layouts, and the available modules decode
// far more than they encode.
func announcement(mac net.HardwareAddr, ip netip.Addr) [][]byte {
	if ip.Is4() {
		return [][]byte{arpFrame(mac, ip, ip, arpRequest), arpFrame(mac, ip, ip, arpReply)}
	}
	return [][]byte{neighborAdvertisement(mac, ip)}
}

// question returns the Ethernet frames that ask the segment who has ip, without saying anything about who asks: for
// IPv4 an ARP probe (RFC 5227, section 2.1.1), for IPv6 the neighbour solicitation of duplicate address detection
// (RFC 4862, section 5.4.2). Linux answers the latter for a proxy-NDP entry too, to all nodes.
func question(mac net.HardwareAddr, ip netip.Addr) [][]byte {
	if ip.Is4() {
		return [][]byte{arpFrame(mac, netip.IPv4Unspecified(), ip, arpRequest)}
	}
	return [][]byte{duplicateDetection(mac, ip)}
}

func arpFrame(mac net.HardwareAddr, sender, target netip.Addr, op uint16) []byte {
	b := ethernet(broadcast, mac, etherTypeARP)
	b = binary.BigEndian.AppendUint16(b, 1) // Ethernet
	b = binary.BigEndian.AppendUint16(b, 0x0800)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(b, mac...)
	b = append(b, sender.AsSlice()...)
	if op == arpReply {
		b = append(b, mac...)
	} else {
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	b = append(b, target.AsSlice()...)
	for len(b) < 60 { // the shortest Ethernet frame without its check sequence
		b = append(b, 0)
	}
	return b
}

func neighborAdvertisement(mac net.HardwareAddr, ip netip.Addr) []byte {
	icmp := []byte{icmp6NeighborAdvertisement, 0, 0, 0}
	icmp = binary.BigEndian.AppendUint32(icmp, naOverride)
	icmp = append(icmp, ip.AsSlice()...)
	icmp = append(icmp, optTargetLinkLayer, 1)
	icmp = append(icmp, mac...)
	return discovery(allNodesMAC, mac, ip, allNodes, icmp)
}

func duplicateDetection(mac net.HardwareAddr, ip netip.Addr) []byte {
	target := ip.As16()
	icmp := []byte{icmp6NeighborSolicitation, 0, 0, 0, 0, 0, 0, 0}
	icmp = append(icmp, target[:]...)
	// The solicited-node group of RFC 4291, section 2.7.1, and its hardware address (RFC 2464, section 7).
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], target[13:])
	groupMAC := net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}
	return discovery(groupMAC, mac, netip.IPv6Unspecified(), netip.AddrFrom16(group), icmp)
}

// discovery wraps a message of neighbour discovery, and fills in its checksum.
func discovery(dstMAC, srcMAC net.HardwareAddr, src, dst netip.Addr, icmp []byte) []byte {
	binary.BigEndian.PutUint16(icmp[2:], icmp6Checksum(src, dst, icmp))
	b := ethernet(dstMAC, srcMAC, etherTypeIPv6)
	b = binary.BigEndian.AppendUint32(b, 6<<28)
	b = binary.BigEndian.AppendUint16(b, uint16(len(icmp)))
	b = append(b, protoICMP6, ndHopLimit)
	b = append(b, src.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	return append(b, icmp...)
}

func ethernet(dst, src net.HardwareAddr, etherType uint16) []byte {
	b := make([]byte, 0, 96)
	b = append(b, dst...)
	b = append(b, src...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// icmp6Checksum is the Internet checksum over the pseudo-header of RFC 8200, section 8.1, and the message.
func icmp6Checksum(src, dst netip.Addr, message []byte) uint16 {
	var sum uint32
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	add(src.AsSlice())
	add(dst.AsSlice())
	sum += uint32(len(message)) + protoICMP6
	add(message)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
