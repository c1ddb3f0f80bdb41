package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// TestEvacuationWaitsForTheRouting: the node that is evacuated serves until the traffic has been turned around, also when
// a call about the address has failed before and it is to be looked at.
func TestEvacuationWaitsForTheRouting(t *testing.T) {
	for _, doubt := range []bool{false, true} {
		w := newRentalWorld(t, bought+"failover: {evacuateCordoned: true}\n", "n1", "n2")
		uid := w.create("web")
		w.settle()
		addr, node := w.served(uid)
		w.cloud.fail = func(j Job) *Fault {
			if j.Op == OpLabel || j.Op == OpAssign {
				return &Fault{Kind: FaultRefused, Message: "no"}
			}
			return nil
		}
		if doubt {
			w.services[uid].Retain = true
			w.settle()
		}
		w.setNode(node, func(n *lb.Node) { n.Cordoned = true })
		w.settle()
		assert.Equal(t, place.Yield, w.objects[node].bound[addr], "nobody else has the traffic")
		w.cloud.fail = nil
		w.goOn()
		again, at := w.served(uid)
		assert.Equal(t, addr, again)
		require.NotEqual(t, node, at)
		assert.Equal(t, w.cloud.server(at), w.cloud.of(uid)[0].Server)
	}
}
