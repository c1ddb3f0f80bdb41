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
