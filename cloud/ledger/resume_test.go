package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// These are the moments at which a controller came that found half of the work done.

// TestBoundIsNotRouted: what is bound and was never published is not published before the account shows that it is
// routed.
func TestBoundIsNotRouted(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.cloud.fail = func(j Job) *Fault {
		if j.Op == OpAssign {
			return &Fault{Kind: FaultTemporary, Message: "down"}
		}
		return nil
	}
	uid := w.create("web")
	w.settle()
	require.Len(t, w.holders(w.cloud.of(uid)[0].Addr()), 1)
	w.restart()
	w.sync(uid)
	assert.Empty(t, w.services[uid].published)
	w.cloud.fail = nil
	w.goOn()
	w.served(uid)
}

// TestForeignProjectSaysNothing: what was bought for a Service that is being deleted, and of which no node knows any
// more, is not taken for gone because a foreign project does not have it.
func TestForeignProjectSaysNothing(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	w.services[uid].wants = false
	clear(w.objects)
	ips, servers := w.cloud.ips, w.cloud.servers
	w.cloud.ips, w.cloud.servers = map[int64]*lb.FloatingIP{}, []lb.Server{{ID: 1, Name: "somebody"}}
	w.restart()
	w.goOn()
	require.Contains(t, w.services, uid)
	w.cloud.ips, w.cloud.servers = ips, servers
	w.goOn()
	assert.NotContains(t, w.services, uid)
	assert.Empty(t, w.cloud.ips)
}

// TestRetainedIsTakenOffItsNode: also when no node knows of it any more.
func TestRetainedIsTakenOffItsNode(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web", func(r *lb.Request) { r.Retain = true })
	w.settle()
	w.served(uid)
	w.services[uid].wants = false
	clear(w.objects)
	w.restart()
	w.goOn()
	assert.NotContains(t, w.services, uid)
	require.Len(t, w.cloud.of(uid), 1)
	assert.Zero(t, w.cloud.of(uid)[0].Server)
}
