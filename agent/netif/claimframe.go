package netif

import (
	"encoding/binary"
	"net/netip"
)

const (
	ethernetLen = 14
	// arpLen is the length of an ARP packet for IPv4 over Ethernet (RFC 826).
	arpLen = 28
	// ndTargetLen is the length of a neighbour solicitation or advertisement without options (RFC 4861, sections
	// 4.3 and 4.4); a router solicitation is shorter.
	ndTargetLen = 24
	rsLen       = 8
)

// mac is the hardware address of an Ethernet interface.
type mac [6]byte

// claim is what a frame says: that ip is at the machine whose hardware address is at. from sent the frame.
type claim struct {
	ip       netip.Addr
	at, from mac
}

// parseClaim returns the claim that an Ethernet frame makes. It says no for everything else, a malformed frame
// included: what no receiver would believe is no claim. The checksum is not looked at.
//
//   - An ARP request or reply claims its sender protocol address. An ARP probe has none (RFC 5227, section 1.1).
//   - A neighbour advertisement claims its target, for the hardware address in its option or else for its sender.
//   - A neighbour or router solicitation claims its IPv6 source, since receivers learn from it. Duplicate address
//     detection asks with the unspecified source, which is nobody's (RFC 4862, section 5.4.2).
func parseClaim(frame []byte) (claim, bool) {
	if len(frame) < ethernetLen {
		return claim{}, false
	}
	c := claim{from: mac(frame[6:12])}
	body := frame[ethernetLen:]
	var ok bool
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP:
		c.ip, c.at, ok = parseARP(body)
	case etherTypeIPv6:
		c.at = c.from
		c.ip, ok = parseDiscovery(body, &c.at)
	}
	if !ok || !c.ip.IsValid() || c.ip.IsUnspecified() || c.ip.IsMulticast() || c.at == (mac{}) {
		return claim{}, false
	}
	return c, true
}

func parseARP(b []byte) (sender netip.Addr, at mac, ok bool) {
	if len(b) < arpLen || binary.BigEndian.Uint64(b)>>16 != 0x0001_0800_0604 { // IPv4 over Ethernet
		return sender, at, false
	}
	if op := binary.BigEndian.Uint16(b[6:]); op != arpRequest && op != arpReply {
		return sender, at, false
	}
	return netip.AddrFrom4([4]byte(b[14:18])), mac(b[8:14]), true
}

// parseDiscovery reads an IPv6 packet that holds a message of neighbour discovery, by the rules of RFC 4861,
// sections 6.1.1, 7.1.1 and 7.1.2. It writes the hardware address of the option, if there is one, to at.
func parseDiscovery(b []byte, at *mac) (netip.Addr, bool) {
	if len(b) < ipv6Len || b[0]>>4 != 6 || b[6] != protoICMP6 || b[7] != ndHopLimit {
		return netip.Addr{}, false
	}
	source, destination := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	size := int(binary.BigEndian.Uint16(b[4:]))
	message := b[ipv6Len:]
	if size > len(message) {
		return netip.Addr{}, false
	}
	message = message[:size] // what follows fills the frame up
	if size < rsLen || message[1] != 0 {
		return netip.Addr{}, false
	}
	switch kind := message[0]; kind {
	case icmp6RouterSolicitation:
		return source, linkLayerOption(message[rsLen:], optSourceLinkLayer, at)
	case icmp6NeighborSolicitation, icmp6NeighborAdvertisement:
		if size < ndTargetLen {
			return netip.Addr{}, false
		}
		target := netip.AddrFrom16([16]byte(message[8:ndTargetLen]))
		if target.IsMulticast() {
			return netip.Addr{}, false
		}
		if kind == icmp6NeighborSolicitation {
			return source, linkLayerOption(message[ndTargetLen:], optSourceLinkLayer, at)
		}
		if destination.IsMulticast() && binary.BigEndian.Uint32(message[4:])&naSolicited != 0 {
			return netip.Addr{}, false
		}
		return target, linkLayerOption(message[ndTargetLen:], optTargetLinkLayer, at)
	default:
		return netip.Addr{}, false
	}
}

// linkLayerOption looks for the option of this kind. It says no when the options are malformed: such a message is
// discarded whole (RFC 4861, section 4.6).
func linkLayerOption(options []byte, kind byte, at *mac) bool {
	const unit = 8
	for len(options) > 0 {
		if len(options) < unit {
			return false
		}
		size := int(options[1]) * unit
		if size == 0 || size > len(options) {
			return false
		}
		if options[0] == kind && size == unit {
			*at = mac(options[2:unit])
		}
		options = options[size:]
	}
	return true
}
