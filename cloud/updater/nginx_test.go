package updater_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/updater"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

// echo answers with its name on a TCP and a UDP port of its own.
func echo(t *testing.T, name string) (tcp, udp netip.AddrPort) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	packets, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	require.NoError(t, err)
	var ended sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); _ = packets.Close(); ended.Wait() })
	ended.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, name)
			conn.Close()
		}
	})
	ended.Go(func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte(name), from)
		}
	})
	return netip.MustParseAddrPort(listener.Addr().String()), netip.MustParseAddrPort(packets.LocalAddr().String())
}

// ask connects to a port of the load balancer and returns who answers; empty: nobody.
func ask(ctx context.Context, k updater.Key) string {
	network := map[bool]string{true: "tcp4", false: "udp4"}[k.Protocol == updater.TCP]
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), k.Port).String())
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if k.Protocol == updater.UDP {
		if _, err := conn.Write([]byte("?")); err != nil {
			return ""
		}
	}
	buffer := make([]byte, 100)
	n, _ := conn.Read(buffer)
	return string(bytes.TrimSpace(buffer[:n]))
}

// unused returns a port that nothing listens on. It is not one of those that the kernel gives to whoever asks for any, such
// as the tests beside this one.
func unused(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", address)
		if err != nil {
			continue
		}
		require.NoError(t, listener.Close())
		packets, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", address)
		if err != nil {
			continue
		}
		require.NoError(t, packets.Close())
		return netip.MustParseAddrPort(address).Port()
	}
	require.FailNow(t, "something listens on every port")
	return 0
}

// TestWithRealNginx has real connections go through Debian's nginx, which hack/debian-packages.sh installs: created, moved
// to another target, lost and found again, removed.
func TestWithRealNginx(t *testing.T) {
	n := &updatertest.Nginx{Dir: t.TempDir()}
	require.NoError(t, n.Write())
	require.NoError(t, n.Test(t.Context()), "hack/debian-packages.sh installs nginx with its stream module")
	s := updatertest.New(updatertest.Options{Dir: n.Streams(), Listen: "127.0.0.1", Token: "", Test: n.Test, Reload: n.Reload})
	h := httptest.NewServer(s)
	defer h.Close()

	port := unused(t)
	tcp, udp := updater.Key{Port: port, Protocol: updater.TCP}, updater.Key{Port: port, Protocol: updater.UDP}
	w, err := updater.NewWorker(updater.Options{
		Prefix: updater.Prefix("prod", "1a2b3c4d-5e6f"), ResyncInterval: 4 * time.Second,
		Updater: &config.Updater{URLs: []string{h.URL + "/api/v1/lb"}, Host: "127.0.0.1", Timeout: 10 * time.Second, Verify: true},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	ended := make(chan error, 1)
	running.Go(func() { ended <- n.Run(ctx) })
	running.Go(func() { s.Run(ctx) })
	running.Go(func() { w.Run(ctx) })

	eventually := func(what string, is func() bool) {
		t.Helper()
		require.Eventually(t, is, 30*time.Second, 20*time.Millisecond, what)
	}
	firstTCP, firstUDP := echo(t, "first")
	secondTCP, secondUDP := echo(t, "second")
	require.NoError(t, w.SetBackend(tcp, updater.Backend{Targets: []netip.AddrPort{firstTCP}, ProxyTimeout: 10 * time.Minute}))
	require.NoError(t, w.SetBackend(udp, updater.Backend{Targets: []netip.AddrPort{firstUDP}, ProxyTimeout: 30 * time.Second, ConnectTimeout: time.Second}))
	eventually("it is verified", func() bool { return w.State(tcp).Listening == updater.ListeningYes })
	eventually("TCP answers", func() bool { return ask(t.Context(), tcp) == "first" })
	eventually("UDP answers", func() bool { return ask(t.Context(), udp) == "first" })
	assert.True(t, w.State(tcp).Ready)

	require.NoError(t, w.SetBackend(tcp, updater.Backend{Targets: []netip.AddrPort{secondTCP}, ProxyTimeout: 10 * time.Minute}))
	eventually("the other target answers", func() bool { return ask(t.Context(), tcp) == "second" })

	// For as long as it is looked at, no push puts the file back.
	s.Break(updatertest.Fault{NoEffect: true, Answer: updatertest.InternalError})
	require.NoError(t, s.LoseFiles())
	eventually("nothing answers", func() bool { return ask(t.Context(), tcp) == "" })
	s.Break(updatertest.Fault{})
	eventually("it is found out, and pushed", func() bool { return ask(t.Context(), tcp) == "second" })
	require.NoError(t, w.SetBackend(udp, updater.Backend{Targets: []netip.AddrPort{secondUDP}, ProxyTimeout: 30 * time.Second}))
	eventually("UDP goes to the other target", func() bool { return ask(t.Context(), udp) == "second" })

	w.RemoveBackend(tcp)
	eventually("it is removed", func() bool { return w.State(tcp).Phase == updater.PhaseRemoved })
	eventually("nothing answers", func() bool { return ask(t.Context(), tcp) == "" })
	eventually("the same number of the other protocol stays", func() bool { return ask(t.Context(), udp) == "second" })
	_, refusals := s.Reloads()
	assert.Empty(t, refusals, "nginx -t refused nothing")
	select {
	case err := <-ended:
		require.NoError(t, err, "nginx ended")
	default:
	}
}
