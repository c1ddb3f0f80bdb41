package cluster

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Claim is a frame in which a machine says that an address is its own, or asks whether it is anybody's.
type Claim struct {
	Time time.Time
	Kind ClaimKind
	// Address that is spoken of.
	Address netip.Addr
	// MAC that the frame gives for the address; for a Probe that of who asks.
	MAC net.HardwareAddr
	// Gratuitous: nobody had asked (ARP to its own address, or an advertisement without the solicited flag).
	Gratuitous bool
}

// ClaimKind tells an answer from a question.
type ClaimKind string

const (
	// Announcement: "this address is at this MAC" (ARP with sender = address, or a neighbour advertisement).
	Announcement ClaimKind = "announcement"
	// Probe: "is this address anybody's?" (ARP with sender 0.0.0.0, or a solicitation from ::).
	Probe ClaimKind = "probe"
)

// Capture records the claims that a host sees on its wire, its own included.
type Capture struct {
	files []*os.File
	group sync.WaitGroup

	mu     sync.Mutex
	claims []Claim
	err    error
}

// Capture starts recording on the host's eth0. Stop ends it.
func (h *Host) Capture() (*Capture, error) {
	link, err := h.netlink.LinkByName(uplink)
	if err != nil {
		return nil, fmt.Errorf("find %s of %s: %w", uplink, h.Name, err)
	}
	c := &Capture{}
	parsers := map[uint16]func([]byte) (Claim, bool){unix.ETH_P_ARP: parseARP, unix.ETH_P_IPV6: parseNDP}
	for protocol, parse := range parsers {
		file, err := h.packetSocket(protocol, link.Attrs().Index)
		if err != nil {
			c.Stop()
			return nil, fmt.Errorf("capture on %s of %s: %w", uplink, h.Name, err)
		}
		c.files = append(c.files, file)
		c.group.Go(func() { c.record(file, parse) })
	}
	return c, nil
}

// packetSocket receives whole frames of one protocol.
func (h *Host) packetSocket(protocol uint16, index int) (*os.File, error) {
	// The kernel takes the protocol in network byte order.
	wire := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
	var file *os.File
	err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "packets")
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: wire, Ifindex: index})
	})
	if err != nil && file != nil {
		_ = file.Close()
	}
	return file, err
}

func (c *Capture) record(file *os.File, parse func([]byte) (Claim, bool)) {
	frame := make([]byte, 2048)
	for {
		n, err := file.Read(frame)
		if err != nil {
			c.mu.Lock()
			c.err = err // the file was closed, or the interface went
			c.mu.Unlock()
			return
		}
		if claim, ok := parse(frame[:n]); ok {
			claim.Time = time.Now()
			c.mu.Lock()
			c.claims = append(c.claims, claim)
			c.mu.Unlock()
		}
	}
}

// Stop ends the recording; what was recorded stays.
func (c *Capture) Stop() {
	for _, file := range c.files {
		_ = file.Close()
	}
	c.group.Wait()
}

// Claims about the address that were seen until now, oldest first.
func (c *Capture) Claims(about netip.Addr) []Claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.claims), func(claim Claim) bool { return claim.Address != about })
}

const ethernetHeader = 14

// parseARP reads ARP for IPv4 over Ethernet (RFC 826, RFC 5227).
func parseARP(frame []byte) (Claim, bool) {
	if len(frame) < ethernetHeader+28 {
		return Claim{}, false
	}
	arp := frame[ethernetHeader:]
	sender, target := netip.AddrFrom4([4]byte(arp[14:18])), netip.AddrFrom4([4]byte(arp[24:28]))
	claim := Claim{Kind: Announcement, Address: sender, MAC: slices.Clone(arp[8:14]), Gratuitous: sender == target}
	if sender.IsUnspecified() {
		claim.Kind, claim.Address = Probe, target
	}
	return claim, true
}

// parseNDP reads neighbour solicitations and advertisements (RFC 4861, section 4).
func parseNDP(frame []byte) (Claim, bool) {
	const (
		ipHeader      = 40
		solicitedFlag = 0x40
		messageLength = 24
	)
	if len(frame) < ethernetHeader+ipHeader+messageLength || frame[ethernetHeader+6] != icmpv6 {
		return Claim{}, false
	}
	source := netip.AddrFrom16([16]byte(frame[ethernetHeader+8 : ethernetHeader+24]))
	message := frame[ethernetHeader+ipHeader:]
	claim := Claim{Address: netip.AddrFrom16([16]byte(message[8:24])), MAC: slices.Clone(frame[6:12])}
	switch message[0] {
	case neighborSolicitation:
		claim.Kind = Probe
		return claim, source.IsUnspecified()
	case neighborAdvertisement:
		claim.Kind = Announcement
		claim.Gratuitous = message[4]&solicitedFlag == 0
		if options := message[messageLength:]; len(options) >= 8 && options[0] == targetLinkOption {
			claim.MAC = slices.Clone(options[2:8])
		}
		return claim, true
	}
	return Claim{}, false
}
