package netif

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

var (
	herMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x11}
	hisMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x22}
)

func ips(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// discoveryFrame is a message of neighbour discovery from src, as herMAC sends it.
func discoveryFrame(src, dst string, icmp ...[]byte) []byte {
	return discovery(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, herMAC, netip.MustParseAddr(src), netip.MustParseAddr(dst),
		slices.Concat(icmp...))
}

func about(kind byte, flags byte, target string) []byte {
	return append([]byte{kind, 0, 0, 0, flags, 0, 0, 0}, netip.MustParseAddr(target).AsSlice()...)
}

func option(kind byte, address net.HardwareAddr) []byte { return append([]byte{kind, 1}, address...) }

// edited is a frame with some bytes overwritten.
func edited(frame []byte, at int, with ...byte) []byte {
	frame = slices.Clone(frame)
	copy(frame[at:], with)
	return frame
}

func TestParseClaim(t *testing.T) {
	const vip4, vip6, group = "10.0.0.10", "fd00::10", "ff02::1"
	arp := arpFrame(herMAC, netip.MustParseAddr(vip4), netip.MustParseAddr("10.0.0.1"), arpReply)
	na := discoveryFrame(vip6, group, about(icmp6NeighborAdvertisement, 0x20, vip6), option(optTargetLinkLayer, hisMAC))
	for name, test := range map[string]struct {
		frame []byte
		ip    string
		at    net.HardwareAddr
	}{
		"ARP reply":              {arp, vip4, herMAC},
		"gratuitous ARP request": {announcement(herMAC, netip.MustParseAddr(vip4))[0], vip4, herMAC},
		"ARP that another passed on": {
			edited(arp, 6, hisMAC...), vip4, herMAC},
		"unsolicited advertisement": {announcement(herMAC, netip.MustParseAddr(vip6))[0], vip6, herMAC},
		"advertisement of another":  {na, vip6, hisMAC},
		"advertisement without option": {
			discoveryFrame("fe80::1", group, about(icmp6NeighborAdvertisement, 0, vip6)), vip6, herMAC},
		"advertisement with another option": {
			discoveryFrame("fe80::1", group, about(icmp6NeighborAdvertisement, 0, vip6), option(14, hisMAC)), vip6, herMAC},
		"advertisement to one": {
			discoveryFrame("fe80::1", "fe80::2", about(icmp6NeighborAdvertisement, 0x40, vip6)), vip6, herMAC},
		"solicitation from the address": {
			discoveryFrame(vip6, "ff02::1:ff00:1", about(icmp6NeighborSolicitation, 0, "fd00::1"), option(optSourceLinkLayer, hisMAC)),
			vip6, hisMAC},
		"router solicitation from the address": {
			discoveryFrame(vip6, "ff02::2", []byte{icmp6RouterSolicitation, 0, 0, 0, 0, 0, 0, 0}, option(optSourceLinkLayer, hisMAC)),
			vip6, hisMAC},
		"padded advertisement": {append(slices.Clone(na), 1, 2, 3), vip6, hisMAC},

		"ARP probe":                     {frame: question(herMAC, netip.MustParseAddr(vip4))[0]},
		"duplicate address detection":   {frame: question(herMAC, netip.MustParseAddr(vip6))[0]},
		"ARP of another operation":      {frame: edited(arp, ethernetLen+6, 0, 8)},
		"ARP of another medium":         {frame: edited(arp, ethernetLen, 0, 6)},
		"ARP of another protocol":       {frame: edited(arp, ethernetLen+2, 0x86, 0xdd)},
		"ARP with other lengths":        {frame: edited(arp, ethernetLen+4, 8)},
		"ARP without a sender":          {frame: edited(arp, ethernetLen+8, 0, 0, 0, 0, 0, 0)},
		"short ARP":                     {frame: arp[:ethernetLen+arpLen-1]},
		"another EtherType":             {frame: edited(arp, 12, 0x08, 0x00)},
		"no frame":                      {frame: []byte{1, 2, 3}},
		"IPv4 in IPv6":                  {frame: edited(na, ethernetLen, 0x45)},
		"advertisement through router":  {frame: edited(na, ethernetLen+7, 254)},
		"another protocol":              {frame: edited(na, ethernetLen+6, 17)},
		"another code":                  {frame: edited(na, ethernetLen+ipv6Len+1, 1)},
		"router advertisement":          {frame: edited(na, ethernetLen+ipv6Len, 134)},
		"advertisement that says more":  {frame: edited(na, ethernetLen+4, 1, 0)},
		"advertisement cut short":       {frame: na[:len(na)-1]},
		"advertisement without target":  {frame: edited(na, ethernetLen+4, 0, 20)},
		"solicited answer to all":       {frame: edited(na, ethernetLen+ipv6Len+4, 0x60)},
		"advertisement of a group":      {frame: discoveryFrame(vip6, group, about(icmp6NeighborAdvertisement, 0, "ff02::5"))},
		"solicitation of a group":       {frame: discoveryFrame(vip6, group, about(icmp6NeighborSolicitation, 0, "ff02::5"))},
		"option without length":         {frame: edited(na, ethernetLen+ipv6Len+ndTargetLen+1, 0)},
		"option longer than the packet": {frame: edited(na, ethernetLen+ipv6Len+ndTargetLen+1, 2)},
		"half an option":                {frame: discoveryFrame("fe80::1", group, about(icmp6NeighborAdvertisement, 0, vip6), []byte{1, 1, 0, 0})},
		"short router solicitation":     {frame: discoveryFrame(vip6, group, []byte{icmp6RouterSolicitation, 0, 0, 0})},
	} {
		got, ok := parseClaim(test.frame)
		assert.Equal(t, test.ip != "", ok, name)
		if ok && test.ip != "" {
			assert.Equal(t, netip.MustParseAddr(test.ip), got.ip, name)
			assert.Equal(t, test.at, net.HardwareAddr(got.at[:]), name)
		}
	}
}

// Whatever comes over the wire is read without harm, and what counts as a claim names an address and a machine.
func FuzzParse(f *testing.F) {
	for _, ip := range ips("10.0.0.10", "fd00::10") {
		for _, frame := range append(announcement(herMAC, ip), question(herMAC, ip)...) {
			f.Add(frame)
			f.Add(frame[:len(frame)/2])
		}
	}
	f.Add(discoveryFrame("fd00::10", "ff02::2", []byte{icmp6RouterSolicitation, 0, 0, 0, 0, 0, 0, 0}, option(optSourceLinkLayer, hisMAC)))
	f.Add(discoveryFrame("fd00::10", "ff02::1:ff00:1", about(icmp6NeighborSolicitation, 0, "fd00::1"), option(optSourceLinkLayer, hisMAC)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		c, ok := parseClaim(frame)
		if !ok {
			assert.Zero(t, c)
			return
		}
		assert.True(t, c.ip.IsValid() && !c.ip.IsUnspecified() && !c.ip.IsMulticast(), c.ip)
		assert.NotZero(t, c.at)
	})
}
