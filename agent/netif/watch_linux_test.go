package netif

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const guardTime = 30 * time.Second

// await returns the first event that passes, within the guard time.
func await(t testing.TB, events <-chan Event, what string, passes func(Event) bool) Event {
	t.Helper()
	deadline := time.After(guardTime)
	for {
		select {
		case event, ok := <-events:
			require.True(t, ok, "the watch ended before: %s", what)
			if passes(event) {
				return event
			}
		case <-deadline:
			require.Fail(t, "no event: "+what)
		}
	}
}

func isLost(e Event) bool { return e.Kind == LostEvent }

// Whoever was busy while hundreds of probes were answered finds all the answers without waiting for more.
func TestWhatWasHeardMeanwhileIsThere(t *testing.T) {
	if !fresh(t) {
		return
	}
	host := open(t)
	events := host.Watch(t.Context())
	for range 3 {
		await(t, events, "each watch begins", isLost)
	}
	const answers = 300
	for range answers {
		host.ears.heard <- Event{Kind: ClaimEvent}
	}
	require.Eventually(t, func() bool { return len(events) == answers }, guardTime, time.Millisecond)
}

func TestTheWatchTellsWhatChanges(t *testing.T) {
	if !fresh(t) {
		return
	}
	sh(t, "ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up; ip address add 10.0.0.1/24 dev eth0")
	host := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	events := host.Watch(ctx)
	for range 3 {
		await(t, events, "each watch begins", isLost)
	}
	require.Empty(t, host.Do(t.Context(), Step{Kind: CreateInterface, Interface: "pl0"}))
	require.Empty(t, host.Do(t.Context(), Step{Kind: BuildGuard, Addresses: ips("10.0.0.10", "fd00::10")}))
	require.Empty(t, host.Do(t.Context(), Step{Kind: Bind, Interface: "pl0", Addresses: ips("10.0.0.10")}))
	event := await(t, events, "our address", func(e Event) bool { return e.Kind == AddressEvent && e.IP == ips("10.0.0.10")[0] })
	assert.True(t, event.Ours)
	sh(t, "ip address del 10.0.0.10/32 dev pl0")
	await(t, events, "our address is gone", func(e Event) bool { return e.Kind == AddressEvent && e.Gone && e.Ours })
	sh(t, "ip address add 10.0.0.99/24 dev eth0")
	await(t, events, "somebody's address", func(e Event) bool { return e.Kind == AddressEvent && !e.Ours && e.IP == ips("10.0.0.99")[0] })
	sh(t, "ip route add default via 10.0.0.254")
	await(t, events, "default route", func(e Event) bool { return e.Kind == RouteEvent })
	sh(t, "ip link set eth1 down")
	await(t, events, "carrier lost", func(e Event) bool { return e.Kind == LinkEvent && e.Interface == "eth0" && !e.Running })
	sh(t, "nft delete element inet mooring vips6 '{ fd00::10 }'")
	await(t, events, "guard element", func(e Event) bool { return e.Kind == GuardEvent && e.IP == ips("fd00::10")[0] })
	sh(t, "nft flush ruleset")
	await(t, events, "guard gone", func(e Event) bool { return e.Kind == GuardEvent && !e.IP.IsValid() })
	sh(t, "ip link del pl0")
	await(t, events, "interface gone", func(e Event) bool { return e.Kind == LinkEvent && e.Interface == "pl0" && e.Gone && e.Ours })
	cancel()
	for range events { // until it is closed
	}
}

// A watch whose socket overflowed has missed changes: it says so, and goes on.
func TestAWatchThatDiedBeginsAgain(t *testing.T) {
	if !fresh(t) {
		return
	}
	sh(t, "ip link add pl0 type bridge; ip link set pl0 up")
	host := open(t)
	host.watchSpace = 4096
	events := host.Watch(t.Context())
	for range 3 {
		await(t, events, "each watch begins", isLost)
	}
	// Nobody takes the events meanwhile: the channel fills up, then the socket.
	var batch string
	for i := range 3000 {
		batch += fmt.Sprintf("address add 10.1.%d.%d/32 dev pl0\n", i/250, i%250)
	}
	sh(t, "ip -batch - <<'E'\n"+batch+"E")
	await(t, events, "changes were missed", isLost)
	// It may have been another of the watches that said so, and this one is still to say it. What is not told is missed, and
	// that is said after it.
	for i := 1; ; i++ {
		ip := ips(fmt.Sprintf("10.0.0.%d", i))[0]
		sh(t, "ip address add "+ip.String()+"/32 dev pl0")
		event := await(t, events, "the change, or that it was missed", func(e Event) bool { return isLost(e) || e.IP == ip })
		if !isLost(event) {
			break
		}
	}
}
