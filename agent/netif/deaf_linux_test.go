package netif

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An uplink went down and came back, and it cannot be listened on again: whoever watches learns of it, and of its end.
func TestAnUplinkThatCannotBeListenedOnAgainIsTold(t *testing.T) {
	if !fresh(t) {
		return
	}
	out := far(t)
	host := open(t)
	var broken atomic.Bool
	find := host.ears.find
	host.ears.find = func(name string) (Link, error) {
		link, err := find(name)
		if broken.Load() {
			link.Index = 1 << 20 // no socket can be bound to it
		}
		return link, err
	}
	events := watch(t, host)
	ip := netip.MustParseAddr("10.0.0.10")
	watched := map[string][]netip.Addr{"eth0": {ip}}
	require.NoError(t, host.Listen(watched))
	broken.Store(true)
	sh(t, "ip link set eth0 down; ip link set eth0 up")
	event := await(t, events, "deaf", func(e Event) bool { return e.Kind == DeafEvent })
	assert.Equal(t, "eth0", event.Interface)
	require.ErrorContains(t, host.Listen(watched), "eth0")
	broken.Store(false)
	require.Eventually(t, func() bool { return host.Listen(watched) == nil }, guardTime, 10*time.Millisecond)
	out.send(announcement(herMAC, ip)...)
	assert.Equal(t, herMAC, awaitClaim(t, events, ip).HardwareAddr)
}
