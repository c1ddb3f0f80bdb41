package agent

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/agent/netif"
)

// A client that asks too early, and goes on asking from the same socket, is answered once the Service is there: the
// kernel makes an IPv6 address its own some time after it took it, and what comes before that must leave no trace in its
// connection tracking, which kube-proxy's translation would not touch.
func TestAClientThatAsksTooEarlyIsAnsweredLater(t *testing.T) {
	if !fresh(t) {
		return
	}
	peer := node(t)
	// There is another Service already.
	sh(t, `sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
nft -f - <<'E'
table inet kp { chain pre { type nat hook prerouting priority dstnat;
 ip daddr 10.0.0.99 udp dport 80 dnat ip to 10.0.0.1:8080
 ip6 daddr fd00::99 udp dport 80 dnat ip6 to [fd00::1]:8080
 }
}
E`)
	sh(t, "%s sh -ec 'ip route add 10.0.0.10 via 10.0.0.1; ip route add fd00::10 via fd00::1'", peer)
	host, err := netif.Open()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, host.Close()) })
	addrs := []netip.Addr{netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("fd00::10")}
	require.Empty(t, host.Do(t.Context(), netif.Step{Kind: netif.BuildGuard, Addresses: addrs}))

	var clients []net.Conn
	for _, addr := range addrs {
		peer.do(t, func() {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "udp", netip.AddrPortFrom(addr, 80).String())
			assert.NoError(t, err)
			clients = append(clients, conn)
		})
		t.Cleanup(func() { _ = clients[len(clients)-1].Close() })
		_, err := clients[len(clients)-1].Write([]byte("early"))
		require.NoError(t, err)
	}
	// What was sent before has come through when this is answered.
	require.True(t, works(t, "%s ping -c 1 -W 5 10.0.0.1 && %s ping -c 1 -W 5 fd00::1", peer, peer))

	require.Empty(t, host.Do(t.Context(), netif.Step{Kind: netif.CreateInterface, Interface: "pl0"}))
	require.Empty(t, host.Do(t.Context(), netif.Step{Kind: netif.Bind, Interface: "pl0", Addresses: addrs}))
	for _, address := range []string{"10.0.0.1:8080", "[fd00::1]:8080"} {
		echo(t, address)
	}
	sh(t, `nft -f - <<'E'
add rule inet kp pre ip daddr 10.0.0.10 udp dport 80 dnat ip to 10.0.0.1:8080
add rule inet kp pre ip6 daddr fd00::10 udp dport 80 dnat ip6 to [fd00::1]:8080
E`)
	for i, client := range clients {
		eventually(t, addrs[i].String()+" answers", func() bool {
			_, err := client.Write([]byte("again"))
			require.NoError(t, err)
			require.NoError(t, client.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			_, err = client.Read(make([]byte, 10))
			if err != nil {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			}
			return err == nil
		})
	}
}

// echo answers datagrams to an address of this host.
func echo(t *testing.T, address string) {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", address)
	require.NoError(t, err)
	stop := context.AfterFunc(t.Context(), func() { _ = conn.Close() })
	t.Cleanup(func() {
		stop()
		_ = conn.Close()
	})
	go func() {
		for b := make([]byte, 100); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(b[:n], from)
		}
	}()
}
