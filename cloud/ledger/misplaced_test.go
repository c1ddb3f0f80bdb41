package ledger

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
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

// TestUrgentBehindARefusal: a Service that is refused something for good says all the same what somebody has to look
// after.
func TestUrgentBehindARefusal(t *testing.T) {
	refused := func(t *testing.T) (*world, string, netip.Addr) {
		w := newWorld(t, office, "n1")
		uid := w.create("web")
		w.settle()
		addr, _ := w.served(uid)
		w.services[uid].Addresses = []netip.Addr{netip.MustParseAddr("203.0.113.1")}
		w.settle()
		require.NotNil(t, w.ledger.View(uid).Refusal)
		return w, uid, addr
	}
	t.Run("agent absent", func(t *testing.T) {
		w, uid, _ := refused(t)
		w.objects["n1"].dead = true
		w.pulse("n1", lb.PulseRefusing)
		w.pass(place.AbsentAfter)
		w.settle()
		assert.Equal(t, lb.ReasonAgentAbsent, w.ledger.View(uid).Refusal.Reason)
	})
	t.Run("contested", func(t *testing.T) {
		w, uid, addr := refused(t)
		r := w.objects["n1"].report()
		r.Contested = map[netip.Addr]string{addr: foreigner}
		w.ledger.Report("n1", r, w.now)
		assert.Equal(t, lb.ReasonContested, w.ledger.View(uid).Refusal.Reason)
	})
	t.Run("contested and in the wrong place", func(t *testing.T) {
		w, uid, addr := refused(t)
		w.services[uid].Addresses = nil
		selector, err := labels.Parse("edge=never")
		require.NoError(t, err)
		w.services[uid].NodeSelector = selector
		w.settle()
		require.Equal(t, lb.ReasonNoEligibleNode, w.ledger.View(uid).Refusal.Reason)
		r := w.objects["n1"].report()
		r.Contested = map[netip.Addr]string{addr: foreigner}
		w.ledger.Report("n1", r, w.now)
		assert.Equal(t, lb.ReasonContested, w.ledger.View(uid).Refusal.Reason)
	})
}
