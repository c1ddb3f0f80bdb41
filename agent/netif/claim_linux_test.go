package netif

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// far makes eth0 here and far0 at the other end of its cable, and returns what sends frames from there.
func far(t testing.TB) *wire {
	t.Helper()
	sh(t, `ip link set lo up; ip link add eth0 type veth peer name far0
sysctl -qw net.ipv6.conf.far0.disable_ipv6=1; ip link set eth0 up; ip link set far0 up`)
	return wireOf(t, "far0")
}

// wire sends frames on one interface.
type wire struct {
	t    testing.TB
	conn *packet.Conn
}

func wireOf(t testing.TB, ifname string) *wire {
	t.Helper()
	ifi, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	conn, err := packet.Listen(ifi, packet.Raw, 0, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &wire{t, conn}
}

func (w *wire) send(frames ...[]byte) {
	w.t.Helper()
	for _, frame := range frames {
		_, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
		require.NoError(w.t, err)
	}
}

func watch(t testing.TB, host *Host) <-chan Event {
	t.Helper()
	events := host.Watch(t.Context())
	for range 3 {
		await(t, events, "each watch begins", isLost)
	}
	return events
}

func awaitClaim(t testing.TB, events <-chan Event, ip netip.Addr) Event {
	t.Helper()
	return await(t, events, "a claim of "+ip.String(), func(e Event) bool { return e.Kind == ClaimEvent && e.IP == ip })
}

// claimsUntil returns who claimed something before the claim of last, in the order in which they were told.
func claimsUntil(t testing.TB, events <-chan Event, last netip.Addr) []string {
	t.Helper()
	var list []string
	await(t, events, "the last claim", func(e Event) bool {
		if e.Kind == ClaimEvent && e.IP != last {
			list = append(list, fmt.Sprintf("%s %s %s", e.Interface, e.IP, e.HardwareAddr))
		}
		return e.Kind == ClaimEvent && e.IP == last
	})
	return list
}

func hardwareAddr(t testing.TB, ifname string) net.HardwareAddr {
	t.Helper()
	ifi, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	return ifi.HardwareAddr
}

// Another node that has the addresses as Mooring binds them, on an interface of their own, answers a question that
// says nothing about who asks: IPv4 by itself, IPv6 for its proxy-NDP entry, and for an address of the uplink too.
func TestAMachineThatHasTheAddressAnswersAProbe(t *testing.T) {
	if !fresh(t) {
		return
	}
	other := exec.CommandContext(t.Context(), "cat") // it ends with this process, whose end of the pipe is closed then
	_, err := other.StdinPipe()
	require.NoError(t, err)
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	require.NoError(t, other.Start())
	t.Cleanup(func() { _, _ = other.Process.Kill(), other.Wait() })
	sh(t, fmt.Sprintf(`ip link set lo up
ip link add eth0 type veth peer name eth0 address 02:00:00:00:00:99 netns %[1]d
ip address add 10.0.0.1/24 dev eth0; ip address add fd00::1/64 dev eth0 nodad; ip link set eth0 up
nsenter -t %[1]d -n sh -ec 'ip link set lo up; ip link set eth0 up; ip link add pl0 type bridge; ip link set pl0 up
ip address add 10.0.0.2/24 dev eth0; ip address add fd00::2/64 dev eth0 nodad
sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.eth0.proxy_ndp=1 net.ipv6.neigh.eth0.proxy_delay=0
ip address add 10.0.0.10/32 dev pl0; ip address add fd00::10/128 dev pl0 nodad; ip neighbour add proxy fd00::10 dev eth0'`,
		other.Process.Pid))
	host := open(t)
	state(t, host)
	events := watch(t, host)
	nobodys, held := ips("10.0.0.11", "fd00::11"), ips("10.0.0.10", "fd00::10", "fd00::2")
	require.NoError(t, host.Listen(map[string][]netip.Addr{"eth0": slices.Concat(nobodys, held)}))
	for range 2 { // the second time although the same answer came just before
		for _, ip := range nobodys {
			require.NoError(t, host.Probe("eth0", ip))
		}
		for _, ip := range held {
			require.NoError(t, host.Probe("eth0", ip))
			event := await(t, events, "an answer", func(e Event) bool { return e.Kind == ClaimEvent })
			event.HardwareAddr = slices.Clone(event.HardwareAddr)
			assert.Equal(t, Event{Kind: ClaimEvent, Interface: "eth0", IP: ip,
				HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0x99}}, event)
		}
	}
	assert.ErrorIs(t, host.Probe("eth7", held[0]), ErrNoInterface)
	sh(t, "ip link add tun0 type ipip local 10.0.0.1 remote 10.0.0.2 2>/dev/null || ip tuntap add tun0 mode tun; ip link set tun0 up")
	state(t, host)
	assert.NoError(t, host.Probe("tun0", held[0]), "a tunnel has no segment")
	assert.NoError(t, host.Listen(map[string][]netip.Addr{"tun0": held}))
}

// What other machines say unasked is told once, and what is no claim, or our own, or not of this segment, is not.
func TestClaimsAreToldAndNothingElse(t *testing.T) {
	if !fresh(t) {
		return
	}
	out := far(t)
	sh(t, "ip link add link eth0 name mv0 type macvlan mode bridge; ip link set mv0 up")
	host := open(t)
	vips, last := ips("10.0.0.10", "fd00::10"), ips("10.0.0.99", "fd00::99")
	require.NoError(t, host.Listen(map[string][]netip.Addr{"eth0": slices.Concat(vips, last)}))
	events := watch(t, host)
	ours, above := hardwareAddr(t, "eth0"), hardwareAddr(t, "mv0")
	tagged := func(frame []byte) []byte {
		return slices.Concat(frame[:12], []byte{0x81, 0, 0, 5}, frame[12:])
	}
	toldOnce := []string{"eth0 10.0.0.10 " + herMAC.String(), "eth0 fd00::10 " + herMAC.String()}
	for i, ip := range vips {
		// Each from a machine of its own, since what was told once is not told again.
		by := func(n byte) []byte { return announcement(net.HardwareAddr{2, 3, 0, 0, 0, n}, ip)[0] }
		out.send(question(herMAC, ip)...)                         // a probe
		out.send(announcement(ours, ip)...)                       // our own, reflected
		out.send(announcement(above, ip)...)                      // of another interface of this host
		out.send(edited(by(1), 6, ours...))                       // sent by us, whatever it says
		out.send(tagged(by(2)))                                   // of a VLAN
		out.send(edited(by(3), 0, 2, 0, 0, 0, 0, 0x77))           // for another machine
		out.send(edited(by(4), 0, above...))                      // for the interface on top
		out.send(announcement(herMAC, ip.Next())...)              // of an address that is not watched
		out.send(slices.Concat(by(5)[:ethernetLen+4], by(5)[:8])) // nonsense
		frames := announcement(herMAC, ip)
		out.send(frames...)
		out.send(frames...)
		out.send(announcement(hisMAC, last[i])...)
		assert.Equal(t, toldOnce[i:i+1], claimsUntil(t, events, last[i]))
	}
	require.NoError(t, host.Announce("eth0", vips[0]), "read meanwhile or not") // leaves, and is not heard
	out.send(edited(announcement(hisMAC, vips[1])[0], 0, ours...))              // to this machine alone
	assert.Equal(t, hisMAC, awaitClaim(t, events, vips[1]).HardwareAddr)
	assert.Zero(t, host.ClaimsDropped())
}

// The addresses change all the time, a thousand others with them, and not one claim of those that stay is lost.
func TestNothingIsLostWhileTheAddressesChange(t *testing.T) {
	if !fresh(t) {
		return
	}
	out := far(t)
	host := open(t)
	events := watch(t, host)
	stay := block("10.9.0.1", 200)
	listen := func(n int) error {
		return host.Listen(map[string][]netip.Addr{"eth0": slices.Concat(stay, many(n), ips("fd00::10"))})
	}
	require.NoError(t, listen(1000))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		var err error
		for n := 0; ctx.Err() == nil && err == nil; n++ {
			err = listen(500 + n%700)
		}
		ended <- err
	}()
	for _, ip := range stay {
		out.send(announcement(herMAC, ip)...)
		awaitClaim(t, events, ip)
	}
	cancel()
	assert.NoError(t, <-ended)
	require.NoError(t, host.Listen(map[string][]netip.Addr{"eth0": stay[1:]}))
	out.send(announcement(hisMAC, stay[0])...)
	out.send(announcement(hisMAC, stay[1])...)
	assert.Empty(t, claimsUntil(t, events, stay[1]), "not listened for any more")
}

// More addresses than the kernel has room for, on an old kernel: a coarser filter, and the same claims.
func TestManyAddressesInLittleRoom(t *testing.T) {
	if !fresh(t) {
		return
	}
	out := far(t)
	if exec.CommandContext(t.Context(), "sysctl", "-qw", "net.core.optmem_max=20480").Run() != nil {
		t.Skip("net.core.optmem_max cannot be set for one namespace here: Linux 6.9 or later can")
	}
	host := open(t)
	events := watch(t, host)
	for round, n := range []int{300, 1000, 5000, 300} {
		machine := net.HardwareAddr{2, 2, 0, 0, 0, byte(round)} // whom nothing was told of just before
		watched := make([]netip.Addr, n)
		for i := range watched { // none next to another
			b := [4]byte{172, 16}
			binary.BigEndian.PutUint16(b[2:], uint16(i*13))
			watched[i] = netip.AddrFrom4(b)
		}
		require.NoError(t, host.Listen(map[string][]netip.Addr{"eth0": watched}), n)
		for i := range 20 {
			ip, other := watched[(i*263)%n], watched[(i*263)%n].Next()
			out.send(announcement(machine, other)...)
			out.send(announcement(machine, ip)...)
			assert.Empty(t, claimsUntil(t, events, ip))
		}
	}
}

// An uplink goes down and comes up, is removed and made again: whether a watch runs or not, listening goes on. Errors
// name the uplink, and do not keep others from being listened on.
func TestListeningOutlivesTheInterface(t *testing.T) {
	for _, watched := range []bool{true, false} {
		t.Run(fmt.Sprintf("watch %v", watched), func(t *testing.T) {
			if !fresh(t) {
				return
			}
			out := far(t)
			host := open(t)
			vips := ips("10.0.0.10", "fd00::10")
			events := (<-chan Event)(host.ears.heard)
			if watched {
				events = watch(t, host)
			}
			listen := func() error {
				return host.Listen(map[string][]netip.Addr{"eth0": vips, "eth7": vips, "eth8": vips[:1], "eth9": nil})
			}
			hears := func(what string) {
				for _, ip := range vips {
					heard := false
					require.Eventually(t, func() bool {
						out.send(announcement(herMAC, ip)...)
						select {
						case event := <-events:
							heard = heard || event.Kind == ClaimEvent && event.IP == ip
						default:
						}
						return heard
					}, guardTime, 5*time.Millisecond, what)
				}
			}
			err := listen()
			assert.ErrorIs(t, err, ErrNoInterface)
			assert.ErrorContains(t, err, "listen for claims on eth7: ")
			assert.ErrorContains(t, err, "listen for claims on eth8: ")
			assert.NotContains(t, err.Error(), "eth0")
			assert.NotContains(t, err.Error(), "eth9", "nothing is asked of it")
			hears("at first")
			sh(t, "ip link set eth0 down; ip link set eth0 up")
			hears("after down and up")
			again := "ip link del eth0; ip link add eth0 type veth peer name far0; ip link set far0 up"
			sh(t, again+"; ip link set eth0 up")
			out = wireOf(t, "far0")
			hears("after removal")
			sh(t, again)
			out = wireOf(t, "far0")
			err = listen()
			assert.NotContains(t, err.Error(), "eth0", "down is no error")
			sh(t, "ip link set eth0 up")
			hears("after removal, listened on while down")
			sh(t, again+"; ip link set eth0 up")
			out = wireOf(t, "far0")
			assert.NotContains(t, listen().Error(), "eth0")
			hears("listened on anew")
		})
	}
}

// An uplink may be a bridge or a bond: what comes in by its ports is heard on it.
func TestListeningOnAnUplinkWithPorts(t *testing.T) {
	for _, kind := range []string{"bridge", "bond"} {
		t.Run(kind, func(t *testing.T) {
			if !fresh(t) {
				return
			}
			out := far(t)
			if err := exec.CommandContext(t.Context(), "ip", "link", "add", "up0", "type", kind).Run(); err != nil {
				t.Skipf("this kernel has no %s", kind)
			}
			sh(t, "ip link set eth0 down; ip link set eth0 master up0; ip link set eth0 up; ip link set up0 up")
			// Until then it takes nothing in, and nothing is said twice here.
			require.Eventually(t, func() bool {
				link, err := netlink.LinkByName("up0")
				return err == nil && link.Attrs().OperState == netlink.OperUp
			}, guardTime, time.Millisecond, "up0 has a port that forwards")
			host := open(t)
			state(t, host)
			events := watch(t, host)
			vips := ips("10.0.0.10", "fd00::10")
			require.NoError(t, host.Listen(map[string][]netip.Addr{"up0": vips}))
			for _, ip := range vips {
				out.send(announcement(hardwareAddr(t, "up0"), ip)...)
				out.send(announcement(herMAC, ip)...)
				event := await(t, events, "a claim", func(e Event) bool { return e.Kind == ClaimEvent })
				assert.Equal(t, Event{Kind: ClaimEvent, Interface: "up0", IP: ip, HardwareAddr: herMAC}, event)
			}
		})
	}
}

// A flood of claims, which nobody takes, neither keeps a change back nor fills the memory, and is counted.
func TestAFloodOfClaimsHoldsNothingUp(t *testing.T) {
	if !fresh(t) {
		return
	}
	out := far(t)
	host := open(t)
	events := watch(t, host)
	vips := block("10.0.0.1", 2000)
	require.NoError(t, host.Listen(map[string][]netip.Addr{"eth0": vips}))
	for round := range 3 {
		for i, ip := range vips {
			frame := announcement(herMAC, ip)[0]
			out.send(edited(frame, ethernetLen+8, 2, 1, byte(round), 0, byte(i>>8), byte(i)))
		}
	}
	require.Eventually(t, func() bool { return host.ClaimsDropped() > 0 }, guardTime, 10*time.Millisecond)
	sh(t, "ip link add pl0 type bridge")
	await(t, events, "the change", func(e Event) bool { return e.Kind == LinkEvent && e.Interface == "pl0" })
}

func TestChangesOvertakeClaims(t *testing.T) {
	changes, claims, events := make(chan Event, 3), make(chan Event, claimsWaiting), make(chan Event)
	for range cap(claims) {
		claims <- Event{Kind: ClaimEvent}
	}
	for range cap(changes) {
		changes <- Event{Kind: RouteEvent}
	}
	close(changes)
	go func() {
		defer close(events)
		merge(t.Context(), changes, claims, events)
	}()
	for range cap(changes) {
		assert.Equal(t, RouteEvent, (<-events).Kind)
	}
	for range events { // until it is closed: no watch is left
	}
}
