package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// TestMisplacedAddressIsReported: an address that should leave its node and has nowhere to go stays, serves, and is
// no secret.
func TestMisplacedAddressIsReported(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	selector, err := labels.Parse("edge=never")
	require.NoError(t, err)

	w.services[uid].NodeSelector = selector
	w.settle()
	got, still := w.served(uid)
	assert.Equal(t, addr, got)
	assert.Equal(t, node, still)
	refusal := w.ledger.View(uid).Refusal
	require.NotNil(t, refusal)
	assert.Equal(t, lb.ReasonNoEligibleNode, refusal.Reason)
	assert.Contains(t, refusal.Message, addr.String()+` stays where it is: node `+node+` is not matching node selector "edge=never"; `)

	w.services[uid].NodeSelector = nil
	w.settle()
	assert.Nil(t, w.ledger.View(uid).Refusal)
}
