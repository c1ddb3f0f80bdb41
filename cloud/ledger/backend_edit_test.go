package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// TestDualStackRequiredOfPublishedPorts: an edit that is refused leaves what is published ready.
func TestDualStackRequiredOfPublishedPorts(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.services[uid].FamilyPolicy, w.services[uid].Families = lb.RequireDualStack, []lb.Family{lb.IPv4, lb.IPv6}
	w.settle()
	v := w.ledger.View(uid)
	assert.True(t, v.Ready)
	require.NotNil(t, v.Refusal)
	assert.Equal(t, lb.ReasonNotSupported, v.Refusal.Reason)
}
