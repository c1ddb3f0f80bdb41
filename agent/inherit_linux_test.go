package agent

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// What PlenusLB has bound is taken over without being away for a moment, or let go of, as the object says; what the
// object does not name stays. None of it is reported as an address of the node's own.
func TestWhatPlenusLBHasBoundIsTakenOver(t *testing.T) {
	if !fresh(t) {
		return
	}
	node(t)
	sh(t, `ip link add pl0 type bridge; ip link set pl0 up
for i in 10 11 12; do ip address add 10.0.0.$i/32 dev pl0 scope link label pl0:pllb; done`)
	host, err := netif.Open()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, host.Close()) })
	events := host.Watch(t.Context())
	listening := func() bool {
		sh(t, "ip address add 192.0.2.1/32 dev lo; ip address del 192.0.2.1/32 dev lo")
		select {
		case e := <-events:
			return e.Kind == netif.AddressEvent
		default:
			return false
		}
	}
	eventually(t, "addresses are watched", listening)

	api := newAPIServer(t)
	g := api.put("n1", "u1", hold("10.0.0.10"), in(v1alpha1.Release, hold("10.0.0.11")))
	stop := run(t, api)
	eventually(t, "acknowledged", api.acknowledged("u1", g))
	status := api.status("n1")
	assert.Empty(t, status.Failed)
	assert.EqualValues(t, 1, status.Bound)
	for _, a := range status.NodeAddresses {
		assert.Equal(t, "eth0", a.Interface)
	}
	// Its label stays, by which the operator would still know it after a way back.
	assert.Contains(t, sh(t, "ip -4 -o address show dev pl0"), "10.0.0.10/32 scope link deprecated pl0:pllb")
	sh(t, "ip address del 10.0.0.12/32 dev pl0") // the last of what is watched
	gone := map[string]bool{}
	for !gone["10.0.0.12"] {
		if e := <-events; e.Kind == netif.AddressEvent && e.Gone {
			gone[e.IP.String()] = true
		}
	}
	assert.True(t, gone["10.0.0.11"])
	assert.False(t, gone["10.0.0.10"])

	stop()
	require.NoError(t, ReleaseAll(t.Context(), host))
	have, err := host.Read(t.Context())
	require.NoError(t, err)
	assert.NotContains(t, have.Bound, netif.Place{Interface: "pl0", IP: netip.MustParseAddr("10.0.0.10")})
	assert.Empty(t, sh(t, "ip -4 -o address show dev pl0"))
}
