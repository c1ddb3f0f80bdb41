package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// TestRetainedByAPoolThatIsGone: the label at the cloud says what the pool said, when the controller that releases the
// address knows the pool no more.
func TestRetainedByAPoolThatIsGone(t *testing.T) {
	w := newRentalWorld(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /token}
pools:
- name: bought
  hetzner: {ephemeral: {types: [ipv4], reclaimPolicy: Retain}}
  interface: pl0
`, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	require.True(t, w.cloud.of(uid)[0].Owner.Retain)
	whileDown["the pool removed"](w, uid)
	w.restart()
	w.goOn()
	w.served(uid)
	w.services[uid].wants = false
	w.goOn()
	assert.NotContains(t, w.services, uid)
	require.Len(t, w.cloud.of(uid), 1)
	assert.Zero(t, w.cloud.of(uid)[0].Server)
}

// TestRetainIsEditedAtDeletion: it counts as long as the Service is there.
func TestRetainIsEditedAtDeletion(t *testing.T) {
	for _, retain := range []bool{true, false} {
		w := newRentalWorld(t, bought, "n1")
		uid := w.create("web", func(r *lb.Request) { r.Retain = !retain })
		w.settle()
		w.cloud.fail = func(Job) *Fault { return &Fault{Kind: FaultTemporary, Message: "down"} }
		w.services[uid].wants = false
		w.settle()
		require.Contains(t, w.services, uid)
		w.ledger.Retain(uid, retain, w.now)
		w.cloud.fail = nil
		w.goOn()
		assert.NotContains(t, w.services, uid)
		assert.Equal(t, retain, len(w.cloud.ips) == 1)
	}
}

// TestRetainedAddressThatSomebodyAssigned: what is kept is left on no server, also when it was assigned by hand after the
// account was read last.
func TestRetainedAddressThatSomebodyAssigned(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.objects["n1"].broken = true
	uid := w.create("web", func(r *lb.Request) { r.Retain = true })
	w.settle()
	require.Len(t, w.cloud.of(uid), 1)
	require.Zero(t, w.cloud.of(uid)[0].Server, "nobody has bound it")
	w.cloud.of(uid)[0].Server = w.cloud.server("n1")
	w.services[uid].wants = false
	w.settle()
	assert.NotContains(t, w.services, uid)
	require.Len(t, w.cloud.of(uid), 1)
	assert.Zero(t, w.cloud.of(uid)[0].Server)
}
