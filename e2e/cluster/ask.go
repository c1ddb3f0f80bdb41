package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// AnswerTime is how long an answer to WhoHas is waited for. A machine on the wire needs far less than a millisecond.
const AnswerTime = 250 * time.Millisecond

// WhoHas asks everybody on the wire for the address, as a neighbour does that knows nothing of it, and returns the
// hardware addresses of all machines that answer, sorted. The host's own table of neighbours is neither read nor
// changed. Beside packets of its own, the host must not ask for the address meanwhile.
func (h *Host) WhoHas(addr netip.Addr) ([]string, error) {
	question, protocol, parse := h.askARP, uint16(unix.ETH_P_ARP), answerARP
	if addr.Is6() {
		question, protocol, parse = h.askNDP, unix.ETH_P_IPV6, answerNDP
	}
	socket, mac, err := h.rawSocket(protocol)
	if err != nil {
		return nil, err
	}
	defer func() { _ = socket.Close() }()
	if _, err := socket.Write(question(mac, addr)); err != nil {
		return nil, fmt.Errorf("ask for %s from %s: %w", addr, h.Name, err)
	}
	if err := socket.SetReadDeadline(time.Now().Add(AnswerTime)); err != nil {
		return nil, err
	}
	var answers []string
	frame := make([]byte, 2048)
	for {
		n, err := socket.Read(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			slices.Sort(answers)
			return slices.Compact(answers), nil
		}
		if err != nil {
			return nil, fmt.Errorf("hear who has %s on %s: %w", addr, h.Name, err)
		}
		claim, ok := parse(frame[:n])
		if ok && claim.Address == addr && slices.Equal(frame[:6], mac) {
			answers = append(answers, claim.MAC.String())
		}
	}
}

// Claim says on the wire, once and unasked, that the address is at the hardware address, which need not be anybody's.
func (h *Host) Claim(addr netip.Addr, mac net.HardwareAddr) error {
	frame, protocol := arpFrame(mac, broadcast, mac, addr, make([]byte, 6), addr), uint16(unix.ETH_P_ARP)
	if addr.Is6() {
		const override = 0x20
		frame, protocol = ndpFrame(mac, addr, netip.IPv6LinkLocalAllNodes(), neighborAdvertisement, override, addr, targetLinkOption), unix.ETH_P_IPV6
	}
	socket, _, err := h.rawSocket(protocol)
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	_, err = socket.Write(frame)
	return err
}

// rawSocket sends and receives whole frames of one protocol on eth0.
func (h *Host) rawSocket(protocol uint16) (*os.File, net.HardwareAddr, error) {
	link, err := h.netlink.LinkByName(uplink)
	if err != nil {
		return nil, nil, fmt.Errorf("find %s of %s: %w", uplink, h.Name, err)
	}
	socket, err := h.packetSocket(protocol, link.Attrs().Index)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s of %s: %w", uplink, h.Name, err)
	}
	return socket, link.Attrs().HardwareAddr, nil
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func (h *Host) askARP(mac net.HardwareAddr, addr netip.Addr) []byte {
	return arpFrame(mac, broadcast, mac, h.IPv4, make([]byte, 6), addr)
}

func (h *Host) askNDP(mac net.HardwareAddr, addr netip.Addr) []byte {
	// The solicited-node group of the address (RFC 4291, section 2.7.1).
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	last := addr.As16()
	copy(group[13:], last[13:])
	return ndpFrame(mac, h.IPv6, netip.AddrFrom16(group), neighborSolicitation, 0, addr, sourceLinkOption)
}

// arpFrame is an ARP request (RFC 826); with sender = target it announces the sender (RFC 5227).
func arpFrame(from, to, senderMAC net.HardwareAddr, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr) []byte {
	frame := ethernet(from, to, unix.ETH_P_ARP)
	frame = append(frame, 0, 1, 8, 0, 6, 4, 0, 1)
	frame = append(append(frame, senderMAC...), sender.AsSlice()...)
	return append(append(frame, targetMAC...), target.AsSlice()...)
}

const (
	icmpv6                = 58
	neighborSolicitation  = 135
	neighborAdvertisement = 136
	sourceLinkOption      = 1
	targetLinkOption      = 2
)

// ndpFrame is a neighbour solicitation or advertisement (RFC 4861, section 4) with one link-layer address option.
func ndpFrame(mac net.HardwareAddr, source, group netip.Addr, kind, flags byte, target netip.Addr, option byte) []byte {
	message := append([]byte{kind, 0, 0, 0, flags, 0, 0, 0}, target.AsSlice()...)
	message = append(append(message, option, 1), mac...)
	// The checksum runs over a header of its own: addresses, length, and the number of the protocol.
	pseudo := append(append(source.AsSlice(), group.AsSlice()...), 0, 0, 0, byte(len(message)), 0, 0, 0, icmpv6)
	var sum uint32
	for pair := range slices.Chunk(slices.Concat(pseudo, message), 2) {
		sum += uint32(binary.BigEndian.Uint16(pair))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum))

	to := group.As16()
	frame := ethernet(mac, append(net.HardwareAddr{0x33, 0x33}, to[12:]...), unix.ETH_P_IPV6)
	frame = append(frame, 0x60, 0, 0, 0, 0, byte(len(message)), icmpv6, 255)
	return slices.Concat(frame, source.AsSlice(), group.AsSlice(), message)
}

func ethernet(from, to net.HardwareAddr, protocol uint16) []byte {
	return binary.BigEndian.AppendUint16(slices.Concat(to, from), protocol)
}

// answerARP reads an ARP reply.
func answerARP(frame []byte) (Claim, bool) {
	const reply = 2
	claim, ok := parseARP(frame)
	return claim, ok && frame[ethernetHeader+7] == reply
}

// answerNDP reads an advertisement that was asked for.
func answerNDP(frame []byte) (Claim, bool) {
	claim, ok := parseNDP(frame)
	return claim, ok && claim.Kind == Announcement && !claim.Gratuitous
}
