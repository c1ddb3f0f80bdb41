package agent

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// run starts an agent on this namespace.
func run(t testing.TB, api *apiServer) (stop func()) {
	t.Helper()
	host, err := netif.Open()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	events := host.Watch(ctx)
	a := New(host, events, api.client(), NewMetrics(metrics.NewKubeRegistry().MustRegister, nil), Options{NodeName: "n1", HealthPort: 1})
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		<-done
		for range events { // until it is closed
		}
		assert.NoError(t, host.Close())
	}
	t.Cleanup(stop)
	return stop
}

func on(ifname string, a v1alpha1.Address) v1alpha1.Address {
	a.Interface = ifname
	return a
}

// A client on the segment reaches what is served on the virtual addresses, and nothing else of the host through them.
func TestANeighbourReachesTheServiceAndNotTheHost(t *testing.T) {
	if !fresh(t) {
		return
	}
	peer := node(t)
	frames := peer.listen(t)
	for _, network := range []string{"tcp4", "tcp6"} {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), network, ":8080")
		require.NoError(t, err)
		t.Cleanup(func() { _ = listener.Close() })
	}
	unguarded := hold("10.0.0.12")
	unguarded.Unguarded = true
	api := newAPIServer(t)
	g := api.put("n1", "u1", hold("10.0.0.10"), on("eth0", hold("10.0.0.11")), unguarded, hold("fd00::10"), on("eth0", hold("fd00::11")))
	run(t, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	require.Empty(t, api.status("n1").Failed)

	// Announced: a request and a reply for IPv4, an advertisement for IPv6, from the uplink's hardware address.
	mac := hardwareAddr(t)
	seen := map[string]bool{}
	for deadline := time.After(guardTime); len(seen) < 8; {
		select {
		case f := <-frames:
			if what := announcedBy(f, mac); what != "" {
				seen[what] = true
			}
		case <-deadline:
			require.Failf(t, "announcements are missing", "%v", seen)
		}
	}

	for _, ip := range []string{"10.0.0.10", "10.0.0.11", "fd00::10", "fd00::11"} {
		assert.True(t, works(t, "%s ping -c 1 -W 5 %s", peer, ip), "ping %s", ip)
		silent, err := peer.silent(t, ip, 8080)
		assert.True(t, silent, "a daemon of the host is not on %s: %v", ip, err)
		silent, err = peer.silent(t, ip, 81)
		assert.True(t, silent, "an early SYN to %s waits and is not refused: %v", ip, err)
	}
	assert.NoError(t, peer.connect(t, "10.0.0.1", 8080), "the host's own address is not guarded")
	assert.NoError(t, peer.connect(t, "fd00::1", 8080), "the host's own address is not guarded")
	assert.NoError(t, peer.connect(t, "10.0.0.12", 8080), "guard: false")

	// What kube-proxy does: translate before the input hook.
	sh(t, `nft -f - <<'E'
table inet kp { chain pre { type nat hook prerouting priority dstnat;
 ip daddr { 10.0.0.10, 10.0.0.11 } tcp dport 80 dnat ip to 10.0.0.1:8080
 ip6 daddr { fd00::10, fd00::11 } tcp dport 80 dnat ip6 to [fd00::1]:8080
 }
}
E`)
	for _, ip := range []string{"10.0.0.10", "10.0.0.11", "fd00::10", "fd00::11"} {
		assert.NoError(t, peer.connect(t, ip, 80), "the Service on %s", ip)
	}

	// The host speaks with its own address, also where a virtual one has stood longer on the same interface, and also
	// when it asks for a neighbour outside of its subnet.
	sh(t, `ip address del 10.0.0.1/24 dev eth0; ip address add 10.0.0.1/24 dev eth0
ip route replace default via 10.0.0.254; ip route add 198.51.100.7/32 dev eth0 scope link`)
	drainFrames(frames)
	_ = works(t, "ping -c 1 -W 1 198.51.100.7")
	var asked []string
	for len(asked) == 0 {
		select {
		case f := <-frames:
			if len(f) >= 42 && f[12] == 8 && f[13] == 6 && net.IP(f[38:42]).String() == "198.51.100.7" {
				asked = append(asked, net.IP(f[28:32]).String())
			}
		case <-time.After(guardTime):
			require.Fail(t, "the host does not ask for its neighbour")
		}
	}
	assert.Equal(t, []string{"10.0.0.1"}, asked)
	for _, target := range []string{"10.0.0.2", "10.0.0.254", "8.8.8.8", "198.51.100.7"} {
		assert.Contains(t, sh(t, "ip route get %s", target), "src 10.0.0.1 ")
	}
	for _, target := range []string{"fd00::2", "2001:db8::1"} {
		assert.Contains(t, sh(t, "ip route get %s", target), "src fd00::1 ")
	}
}

func drainFrames(frames <-chan []byte) {
	for {
		select {
		case <-frames:
		default:
			return
		}
	}
}

// announcedBy names the announcement that a frame is, or returns "".
func announcedBy(frame []byte, mac string) string {
	if len(frame) < 42 || net.HardwareAddr(frame[6:12]).String() != mac {
		return ""
	}
	switch kind := uint16(frame[12])<<8 | uint16(frame[13]); {
	case kind == unix.ETH_P_ARP && bytes.Equal(frame[28:32], frame[38:42]) && net.HardwareAddr(frame[22:28]).String() == mac:
		return fmt.Sprintf("arp %d %s", frame[21], net.IP(frame[28:32]))
	case kind == unix.ETH_P_IPV6 && len(frame) >= 86 && frame[54] == 136 && net.HardwareAddr(frame[80:86]).String() == mac:
		return "na " + net.IP(frame[62:78]).String()
	default:
		return ""
	}
}

// What somebody removed from the host comes back without being asked for.
func TestWhatIsRemovedByHandComesBack(t *testing.T) {
	if !fresh(t) {
		return
	}
	peer := node(t)
	api := newAPIServer(t)
	g := api.put("n1", "u1", hold("10.0.0.10"), hold("fd00::10"))
	run(t, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	whole := func() bool {
		return works(t, `ip -4 address show dev pl0 | grep -q 10.0.0.10 && ip -6 address show dev pl0 | grep -q fd00::10/128 &&
			ip -6 neigh show proxy | grep -q fd00::10 && nft list set inet mooring vips4 | grep -q 10.0.0.10 &&
			nft list chain inet mooring input | grep -q 'ip6 daddr @vips6 counter'`)
	}
	require.True(t, whole())
	for _, harm := range []string{
		"ip address del 10.0.0.10/32 dev pl0",
		"ip address del fd00::10/128 dev pl0",
		"ip link del pl0",
		"ip link set pl0 down",
		"nft delete element inet mooring vips4 '{ 10.0.0.10 }'",
		"nft flush chain inet mooring input",
		"nft delete table inet mooring",
		"nft flush ruleset",
	} {
		sh(t, "%s", harm)
		eventually(t, "mended after: "+harm, whole)
	}
	assert.True(t, works(t, "%s ping -c 1 -W 5 10.0.0.10", peer))
	assert.True(t, works(t, "%s ping -c 1 -W 5 fd00::10", peer))
}

// Only what is ours is ever removed; what is ours survives the agent; --release-all leaves nothing of it.
func TestOnlyOursIsRemoved(t *testing.T) {
	if !fresh(t) {
		return
	}
	node(t)
	sh(t, `ip address add 10.0.0.77/32 dev eth0; ip address add fd00::77/128 dev eth0 nodad preferred_lft 0
ip link add pl1 type bridge; ip link set pl1 up; ip address add 10.0.0.78/32 dev pl1; ip neigh add proxy fd00::79 dev eth0
ip address add 10.0.0.80/32 dev eth0 label eth0:vip
nft add table inet other; nft add chain inet other c`)
	foreign := func() string {
		return sh(t, `ip -o address | grep -v -e :moor -e 'proto 109' -e fe80 -e pl0 -e 10.0.0.1[0-9]/ -e fd00::1[0-9]/ | awk '{print $2, $4}' | sort
ip -6 neigh show proxy | grep -v 'proto 109'; nft list tables | grep -v mooring`)
	}
	before := foreign()
	api := newAPIServer(t)
	g := api.put("n1", "u1", hold("10.0.0.10"), on("eth0", hold("10.0.0.11")), on("pl1", hold("10.0.0.12")),
		hold("fd00::10"), on("eth0", hold("fd00::11")), on("eth0", hold("10.0.0.80")))
	stop := run(t, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	status := api.status("n1")
	require.Len(t, status.Failed, 1)
	assert.Equal(t, "10.0.0.80", status.Failed[0].Address)
	assert.Equal(t, ReasonAddressInUse, status.Failed[0].Reason)
	assert.EqualValues(t, 5, status.Bound)

	ours := func() string {
		return sh(t, `ip -o address | grep -e 10.0.0.1[0-9]/ -e fd00::1[0-9]/ | awk '{print $2, $4}' | sort
ip -6 neigh show proxy | grep 'proto 109'; nft list table inet mooring | grep -v counter`)
	}
	bound := ours()
	stop()
	assert.Equal(t, bound, ours(), "everything stays when the agent stops")

	// While no agent ran, one address was taken away from this node and another was given to it.
	g = api.put("n1", "u1", hold("10.0.0.10"), hold("10.0.0.13"), hold("fd00::10"))
	stop = run(t, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	host, err := netif.Open()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, host.Close()) })
	have, err := host.Read(t.Context())
	require.NoError(t, err)
	assert.Equal(t, map[netif.Place]struct{}{
		{Interface: "pl0", IP: netip.MustParseAddr("10.0.0.10")}: {},
		{Interface: "pl0", IP: netip.MustParseAddr("10.0.0.13")}: {},
		{Interface: "pl0", IP: netip.MustParseAddr("fd00::10")}:  {},
	}, have.Bound)
	assert.Equal(t, before, foreign())

	stop()
	require.NoError(t, ReleaseAll(t.Context(), host))
	assert.Equal(t, before, foreign())
	have, err = host.Read(t.Context())
	require.NoError(t, err)
	assert.Empty(t, have.Bound)
	assert.Empty(t, have.Proxies)
	assert.False(t, have.Guard.Exists)
	assert.NotContains(t, have.Links, "pl0")
	assert.Contains(t, have.Links, "pl1")
	require.NoError(t, ReleaseAll(t.Context(), host), "there is nothing left to release")
}

// A neighbour that knows the address at another machine learns the new one from the announcement.
func TestAnAnnouncementMovesANeighbour(t *testing.T) {
	if !fresh(t) {
		return
	}
	peer := node(t)
	sh(t, `%s sh -ec 'ip neigh add 10.0.0.10 lladdr 02:00:00:00:00:99 dev eth0 nud stale; ip neigh add fd00::10 lladdr 02:00:00:00:00:99 dev eth0 nud stale'`, peer)
	mac := hardwareAddr(t)
	api := newAPIServer(t)
	moved := hold("10.0.0.10")
	moved.Predecessor = "n2"
	g := api.put("n1", "u1", moved, hold("fd00::10"))
	run(t, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	knows := func(ip string) func() bool {
		return func() bool { return strings.Contains(sh(t, "%s ip neigh show %s", peer, ip), mac) }
	}
	eventually(t, "IPv4 neighbour moved", knows("10.0.0.10"))
	eventually(t, "IPv6 neighbour moved", knows("fd00::10"))

	// The predecessor speaks up again: the successor is heard again, for as long as the entry names it.
	sh(t, `%s ip neigh replace 10.0.0.10 lladdr 02:00:00:00:00:99 dev eth0 nud stale`, peer)
	eventually(t, "moved again", knows("10.0.0.10"))
}

// An uplink that loses its carrier for a moment, or gets another hardware address, answers and is announced again.
func TestAnUplinkThatWasAway(t *testing.T) {
	if !fresh(t) {
		return
	}
	peer := node(t)
	api := newAPIServer(t)
	g := api.put("n1", "u1", hold("10.0.0.10"), hold("fd00::10"))
	run(t, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	sh(t, "%s sh -ec 'ip link set eth0 down; ip link set eth0 up; ip address add fd00::2/64 dev eth0 nodad'", peer)
	for _, ip := range []string{"10.0.0.10", "fd00::10"} {
		eventually(t, "the carrier is back", func() bool { return works(t, "%s ping -c 1 -W 1 %s", peer, ip) })
	}
	sh(t, `%s sh -ec 'ip neigh replace 10.0.0.10 lladdr 02:00:00:00:00:99 dev eth0 nud stale; ip neigh replace fd00::10 lladdr 02:00:00:00:00:99 dev eth0 nud stale'`, peer)
	sh(t, "ip link set eth0 address 02:00:00:00:00:07")
	for _, ip := range []string{"10.0.0.10", "fd00::10"} {
		eventually(t, "the new hardware address is known", func() bool {
			return strings.Contains(sh(t, "%s ip neigh show %s", peer, ip), "02:00:00:00:00:07")
		})
	}
}

// IPVS and a kernel that keeps silent are said in the Ready condition.
func TestReadyNamesWhatIsInTheWay(t *testing.T) {
	if !fresh(t) {
		return
	}
	node(t)
	api := newAPIServer(t)
	g := api.put("n1", "u1", hold("10.0.0.10"))
	run(t, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	condition := func(reason string) func() bool {
		return func() bool { c := api.status("n1").Conditions; return len(c) == 1 && c[0].Reason == reason }
	}
	require.True(t, condition(ReasonReady)())
	sh(t, "ip link add kube-ipvs0 type bridge")
	eventually(t, "IPVS is recognised", condition(ReasonKubeProxyIPVS))
	sh(t, "ip link del kube-ipvs0")
	eventually(t, "IPVS is gone", condition(ReasonReady))
	sh(t, "sysctl -qw net.ipv4.conf.eth0.arp_ignore=1; ip address add 10.9.9.9/24 dev eth0") // a setting makes no event
	eventually(t, "a silent kernel is recognised", condition(ReasonKernelSettings))
	assert.Contains(t, api.status("n1").Conditions[0].Message, "net.ipv4.conf.eth0.arp_ignore=0")
}

// A foreign host uses an address of the pool. It is not bound and named, for IPv4 and IPv6, until the host is gone; and
// what a foreign host takes later from a node that cannot ask is given to it.
func TestAForeignHostKeepsItsAddress(t *testing.T) {
	if !fresh(t) {
		return
	}
	peer := node(t)
	mac := strings.Fields(sh(t, "%s ip -brief link show eth0", peer))[2]
	sh(t, `%s sh -ec 'ip address add 10.0.0.10/24 dev eth0; ip address add fd00::10/64 dev eth0 nodad'`, peer)
	api := newAPIServer(t)
	g := api.put("n1", "u1", hold("10.0.0.10"), hold("fd00::10"), hold("10.0.0.11"), hold("fd00::11"))
	run(t, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	status := api.status("n1")
	require.Len(t, status.Failed, 2)
	for _, f := range status.Failed {
		assert.Equal(t, ReasonAddressInUse, f.Reason, f.Message)
		assert.Equal(t, mac, f.HardwareAddress)
	}
	assert.EqualValues(t, 2, status.Bound)
	sh(t, `%s sh -ec 'ip address del 10.0.0.10/24 dev eth0; ip address del fd00::10/64 dev eth0'`, peer)
	eventually(t, "bound", func() bool { return api.status("n1").Bound == 4 && len(api.status("n1").Failed) == 0 })

	api.refuse(http.StatusServiceUnavailable)
	sh(t, `%s sh -ec 'ip address add 10.0.0.10/24 dev eth0; sysctl -qw net.ipv4.conf.eth0.arp_notify=1
ip link set eth0 down; ip link set eth0 up'`, peer) // tells the segment of its addresses
	eventually(t, "yielded", func() bool { return works(t, "! ip -o address show dev pl0 | grep -q 10.0.0.10/32") })
	assert.True(t, works(t, "ip -o address show dev pl0 | grep -q 10.0.0.11/32"))
}
