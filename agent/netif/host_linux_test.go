package netif

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A host that learned its default route from a router advertisement keeps it when proxy-NDP is made to work: on the
// uplink and on any other interface.
func TestProxyNDPKeepsLearnedDefaultRoutes(t *testing.T) {
	if !fresh(t) {
		return
	}
	sh(t, `for i in eth0 eth1; do ip link add $i type veth peer name r$i
sysctl -qw net.ipv6.conf.$i.accept_ra=1 net.ipv6.conf.$i.dad_transmits=0; ip link set $i up; ip link set r$i up; done
ip address add fd00::1/64 dev eth0 nodad`)
	learned := func(ifname string) func() bool {
		return func() bool { return strings.Contains(sh(t, "ip -6 route show default dev "+ifname), "proto ra") }
	}
	for _, ifname := range []string{"eth0", "eth1"} {
		require.Eventually(t, func() bool {
			advertiseRouter(t, "r"+ifname)
			return learned(ifname)()
		}, guardTime, 50*time.Millisecond, "%s learns a default route", ifname)
	}
	host := open(t)
	state(t, host)
	require.Empty(t, host.Do(t.Context(), Step{Kind: PrepareNDP, Interface: "eth0"}))
	assert.True(t, state(t, host).Settings["eth0"].ProxyReady())
	assert.True(t, learned("eth0")(), "default route of the uplink")
	assert.True(t, learned("eth1")(), "default route of another interface")
	assert.Equal(t, "0", strings.TrimSpace(sh(t, "cat /proc/sys/net/ipv6/conf/all/forwarding")), "packets are not forwarded by this")

	// The next advertisement is still heard.
	sh(t, "ip -6 route del default dev eth0")
	require.Eventually(t, func() bool {
		advertiseRouter(t, "reth0")
		return learned("eth0")()
	}, guardTime, 50*time.Millisecond)
}

// advertiseRouter sends a router advertisement from an interface.
func advertiseRouter(t testing.TB, ifname string) {
	t.Helper()
	ifi, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	conn, err := packet.Listen(ifi, packet.Raw, 0, nil)
	require.NoError(t, err)
	src := netip.MustParseAddr("fe80::99")
	icmp := []byte{134, 0, 0, 0, 64, 0, 0x0e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0} // lifetime 3600 s
	binary.BigEndian.PutUint16(icmp[2:], icmp6Checksum(src, allNodes, icmp))
	b := ethernet(allNodesMAC, ifi.HardwareAddr, etherTypeIPv6)
	b = binary.BigEndian.AppendUint32(b, 6<<28)
	b = binary.BigEndian.AppendUint16(b, uint16(len(icmp)))
	b = append(b, protoICMP6, 255)
	b = append(append(b, src.AsSlice()...), allNodes.AsSlice()...)
	_, err = conn.WriteTo(append(b, icmp...), &packet.Addr{HardwareAddr: allNodesMAC})
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// Where settings cannot be written, as in a pod, the error names the setting and what to do, and IPv4 needs none.
func TestReadOnlySettingsAreNamed(t *testing.T) {
	if !fresh(t) {
		return
	}
	sh(t, "ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip address add fd00::1/64 dev eth0 nodad")
	sh(t, "mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys")
	host := open(t)
	assert.Empty(t, host.Do(t.Context(), Step{Kind: PrepareARP, Interface: "eth0"}))
	failures := host.Do(t.Context(), Step{Kind: PrepareNDP, Interface: "eth0"})
	require.Len(t, failures, 1)
	assert.ErrorContains(t, failures[0].Err, "net.ipv6.conf.eth0.accept_ra=2")
	assert.ErrorContains(t, failures[0].Err, "/etc/sysctl.d")
	assert.Equal(t, 2, state(t, host).Settings["eth0"].ARPAnnounce)
}

func TestASettingsDirectoryThatIsMountedIsUsed(t *testing.T) {
	dir := sysctls(t.TempDir())
	require.NoError(t, os.MkdirAll(filepath.Dir(dir.path("ipv6", "conf", "eth0", "proxy_ndp")), 0o755))
	require.NoError(t, dir.write(1, "ipv6", "conf", "eth0", "proxy_ndp"))
	got, err := dir.read("ipv6", "conf", "eth0", "proxy_ndp")
	require.NoError(t, err)
	assert.Equal(t, 1, got)
}

// One wrong address does not keep the others of its batch from being bound, however many there are.
func TestABatchReportsWhatFailedAndDoesTheRest(t *testing.T) {
	if !fresh(t) {
		return
	}
	host := open(t)
	require.Empty(t, host.Do(t.Context(), Step{Kind: CreateInterface, Interface: "pl0"}))
	list := many(2000)
	bad := netip.MustParseAddr("0.0.0.0") // stands for anything that the kernel refuses
	list[700] = bad
	sh(t, "sysctl -qw net.ipv6.conf.pl0.disable_ipv6=1")
	off := netip.MustParseAddr("fd00::1")
	list[1500] = off
	failures := host.Do(t.Context(), Step{Kind: Bind, Interface: "pl0", Addresses: list})
	failed := map[netip.Addr]error{}
	for _, f := range failures {
		failed[f.IP] = f.Err
	}
	assert.ErrorContains(t, failed[off], "net.ipv6.conf.pl0.disable_ipv6=0")
	delete(failed, off)
	delete(failed, bad)
	assert.Empty(t, failed)
	assert.GreaterOrEqual(t, len(state(t, host).Bound), 1998)
	require.Empty(t, host.Do(t.Context(), Step{Kind: Unbind, Interface: "pl0", Addresses: list}))
	assert.Empty(t, state(t, host).Bound)
}

func TestTheGuardHoldsAFullNode(t *testing.T) {
	if !fresh(t) {
		return
	}
	host := open(t)
	list := many(5000)
	require.Empty(t, host.Do(t.Context(), Step{Kind: BuildGuard, Addresses: list[:4000]}))
	require.Empty(t, host.Do(t.Context(), Step{Kind: Cover, Addresses: list[3000:]}))
	guard := state(t, host).Guard
	assert.True(t, guard.Intact)
	assert.Len(t, guard.Addresses, 5000)
	require.Empty(t, host.Do(t.Context(), Step{Kind: Uncover, Addresses: list[:10]}))
	require.Empty(t, host.Do(t.Context(), Step{Kind: Uncover, Addresses: list[5:20]}), "what is gone already is no error")
	assert.Len(t, state(t, host).Guard.Addresses, 4980)
	sh(t, "nft add rule inet mooring input accept")
	assert.False(t, state(t, host).Guard.Intact, "somebody added a rule")
	require.Empty(t, host.Do(t.Context(), Step{Kind: RemoveGuard}))
	assert.False(t, state(t, host).Guard.Exists)
}

// The marks, also those of kernels that do not store an address's protocol.
func TestOurs(t *testing.T) {
	bridge, eth0 := Link{Name: "pl0", Ours: true}, Link{Name: "eth0"}
	const shape = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_DEPRECATED
	v4, v6 := netip.MustParsePrefix("10.0.0.10/32"), netip.MustParsePrefix("fd00::10/128")
	for name, test := range map[string]struct {
		a    address
		link Link
		ours bool
	}{
		"protocol":                              {address{prefix: v4, proto: Protocol}, eth0, true},
		"label":                                 {address{prefix: v4, label: "eth0:moor"}, eth0, true},
		"label of another interface":            {address{prefix: v4, label: "eth1:moor"}, eth0, false},
		"label and a wider prefix":              {address{prefix: netip.MustParsePrefix("10.0.0.1/24"), label: "eth0:moor"}, eth0, false},
		"somebody's":                            {address{prefix: v4, label: "eth0"}, eth0, false},
		"another protocol":                      {address{prefix: v4, label: "eth0:moor", proto: 18}, eth0, false},
		"IPv6, old kernel, our interface":       {address{prefix: v6, flags: shape}, bridge, true},
		"IPv6, old kernel, somebody's":          {address{prefix: v6, flags: shape}, eth0, false},
		"IPv6 on our interface, not deprecated": {address{prefix: v6, flags: shape &^ unix.IFA_F_DEPRECATED}, bridge, false},
	} {
		assert.Equal(t, test.ours, test.a.ours(test.link), name)
	}
	assert.Equal(t, "pl0:moor", Label("pl0"))
	assert.Equal(t, "enp129s0f:moor", Label("enp129s0f"))
	assert.Empty(t, Label("enp129s0f0n"), "a label fits 15 bytes")
}
