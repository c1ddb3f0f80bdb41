package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// TestNetworkIsListedByAnotherAddress: an IPv6 Floating IP that a Service has bought is one address's alone, also when a
// pool comes to list another address of its network; and it stays the pool's when the Service goes.
func TestNetworkIsListedByAnotherAddress(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web", func(r *lb.Request) { r.Families = []lb.Family{lb.IPv6} })
	w.settle()
	addr, _ := w.served(uid)
	require.Equal(t, "2001:db8:101::1", addr.String())
	w.cfg = parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /token}
pools:
- name: bought
  hetzner: {ephemeral: {types: [ipv4, ipv6], maxAddresses: 4}}
  interface: pl0
- name: listed
  addresses: ["2001:db8:101::5"]
  hetzner: {}
  interface: pl0
`)
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.goOn()
	other := w.create("other", func(r *lb.Request) { r.Families, r.Pool = []lb.Family{lb.IPv6}, "listed" })
	w.goOn()
	assert.Empty(t, w.ledger.View(other).Addresses, "it would take the traffic away")
	require.NotNil(t, w.ledger.View(other).Refusal)
	again, _ := w.served(uid)
	assert.Equal(t, addr, again)
	assert.Equal(t, []string{"buy", "assign", "label"}, w.cloud.calls)
	w.services[uid].wants = false
	w.goOn()
	assert.Len(t, w.cloud.ips, 1, "what is listed is never deleted")
	w.served(other)
}
