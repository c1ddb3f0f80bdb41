package ledger

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// TestEnlargedPoolServesTheOldestFirst: the room that a reload makes goes to those who have waited longest, whoever
// asks first afterwards.
func TestEnlargedPoolServesTheOldestFirst(t *testing.T) {
	const pools = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- {name: tiny, addresses: [%s], interface: pl0}
`
	w := newWorld(t, fmt.Sprintf(pools, "192.0.2.1"), "n1")
	w.create("served")
	first, second := w.create("first"), w.create("second")
	w.settle()
	require.NotNil(t, w.ledger.View(first).Refusal)

	w.cfg = parse(t, fmt.Sprintf(pools, "192.0.2.1-192.0.2.2"))
	require.NoError(t, w.ledger.SetConfig(w.cfg, Rental{}, w.now))
	w.sync(second)
	w.settle()
	addr, _ := w.served(first)
	assert.Equal(t, "192.0.2.2", addr.String())
	assert.Equal(t, lb.ReasonPoolExhausted, w.ledger.View(second).Refusal.Reason)
}

// TestPreferDualStackIsServedAtOnce: a Service that takes what there is waits for the family that is full, and gets what
// another one frees, also when it prefers a family that no pool has.
func TestPreferDualStackIsServedAtOnce(t *testing.T) {
	w := newWorld(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- {name: tiny, addresses: [192.0.2.1], interface: pl0}
`, "n1")
	served := w.create("served")
	w.settle()
	waiting := w.create("waiting", func(r *lb.Request) {
		r.FamilyPolicy, r.Families = lb.PreferDualStack, []lb.Family{lb.IPv6, lb.IPv4}
	})
	w.settle()
	assert.Equal(t, lb.ReasonPoolExhausted, w.ledger.View(waiting).Refusal.Reason)
	w.services[served].wants = false
	w.sync(served)
	w.write("n1")
	w.work("n1")
	assert.Len(t, w.ledger.View(waiting).Addresses, 1, "at once, without being asked again")
}
