package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// TestIdle: a Service that has what it wants causes no work, or every sync would cause the next.
func TestIdle(t *testing.T) {
	w := newWorld(t, office, "n1")
	served := w.create("served")
	refused := w.create("refused", asks("203.0.113.1"))
	w.settle()
	w.ledger.Drain()
	w.sync(served)
	w.sync(refused)
	e := w.ledger.Drain()
	assert.Empty(t, e.Services)
	assert.Empty(t, e.Nodes)
	assert.Empty(t, e.Moves)
	assert.True(t, e.Next.IsZero())
}

// TestPoolChangedWhileDown: what the pool says of its addresses now is written at the start.
func TestPoolChangedWhileDown(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	_, node := w.served(uid)
	w.cfg = parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- {name: office, addresses: [192.0.2.10-192.0.2.13], interface: pl1, uplink: eth1, guard: false}
`)
	w.restart()
	w.settle()
	e := w.objects[node].entries[0]
	assert.Equal(t, "pl1", e.Interface)
	assert.Equal(t, "eth1", e.Uplink)
	assert.True(t, e.Unguarded)
}

// TestNodeThatComesLate: an address that has to leave its node and has nowhere to go leaves when there is somewhere.
func TestNodeThatComesLate(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	addr, _ := w.served(uid)
	w.setNode("n1", func(n *lb.Node) { n.Labels = map[string]string{lb.LabelExcludeNode: "true"} })
	w.settle()
	_, node := w.served(uid)
	require.Equal(t, "n1", node, "there is no other")
	w.setNode("n2", func(n *lb.Node) { *n = lb.Node{Name: "n2", UID: "late", Ready: lb.Ready} })
	for range 4 { // nobody asks for the Service again
		for name := range w.nodes {
			w.write(name)
			w.work(name)
		}
	}
	assert.Equal(t, []string{"n2"}, w.holders(addr))
}

// TestReleaseOverARestart: a Service is not gone while a node still has its address bound.
func TestReleaseOverARestart(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	w.objects["n1"].dead = true
	w.services[uid].wants = false
	w.sync(uid)
	w.write("n1")
	require.True(t, w.ledger.Holds(uid))
	w.restart()
	assert.True(t, w.ledger.Holds(uid))
	w.objects["n1"].dead = false
	w.settle()
	assert.False(t, w.ledger.Holds(uid))
}

// TestSlowAPIServer: while a decision is not written, no other node is tried for it.
func TestSlowAPIServer(t *testing.T) {
	w := newWorld(t, office, "n1", "n2", "n3")
	uid := w.create("web")
	w.sync(uid)
	node := w.ledger.View(uid).Addresses[0].Node
	for range 5 {
		w.pass(10 * time.Second)
	}
	v := w.ledger.View(uid)
	assert.Equal(t, node, v.Addresses[0].Node)
	assert.Equal(t, lb.ReasonWaitingForAPI, v.Waiting.Reason)
	w.settle()
	w.served(uid)
}

// TestTooManySharers: what one Service after the other adds to one entry stays small enough to be written.
func TestTooManySharers(t *testing.T) {
	w := newWorld(t, office, "n1")
	var last string
	for i := range pool.MaxSharers + 1 {
		last = w.create(fmt.Sprintf("web-%d", i), shares(uint16(1000+i)))
		w.sync(last)
	}
	require.NotNil(t, w.ledger.View(last).Refusal)
	assert.Equal(t, lb.ReasonSharingConflict, w.ledger.View(last).Refusal.Reason)
}

// TestGoneWhileReleased: a Floating IP that turns out not to exist is asked for once, and holds up nobody.
func TestGoneWhileReleased(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.cloud.fail = func(j Job) *Fault {
		if j.Op != OpDelete {
			return nil
		}
		clear(w.cloud.ips)
		return &Fault{Kind: FaultUnknown, Message: "cut"}
	}
	w.services[uid].wants = false
	w.settle()
	w.cloud.calls = nil
	w.goOn()
	assert.NotContains(t, w.services, uid)
	assert.Equal(t, []string{"look"}, w.cloud.calls)
}

// TestGoneBeforeItWasPublished: a Service that was never told of an address that is gone gets another one.
func TestGoneBeforeItWasPublished(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.cloud.fail = func(j Job) *Fault {
		if j.Op != OpAssign {
			return nil
		}
		clear(w.cloud.ips)
		w.cloud.fail = nil
		return &Fault{Kind: FaultUnknown, Message: "cut"}
	}
	uid := w.create("web")
	w.goOn()
	addr, _ := w.served(uid)
	require.Len(t, w.cloud.of(uid), 1)
	assert.Equal(t, w.cloud.of(uid)[0].Addr(), addr)
}

// TestAvoidedNodeIsTriedAgainWhenTheHolderIsLost: that its time is over is news enough, nothing else need happen.
func TestAvoidedNodeIsTriedAgainWhenTheHolderIsLost(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	w.setNode("n2", func(n *lb.Node) { n.Cordoned = true })
	w.objects["n1"].broken = true
	uid := w.create("web")
	w.settle()
	w.setNode("n2", func(n *lb.Node) { n.Cordoned = false })
	w.settle()
	addr, node := w.served(uid)
	require.Equal(t, "n2", node)
	w.objects["n1"].broken = false
	w.work("n1")

	w.objects["n2"].dead, w.objects["n2"].bound = true, nil
	w.pulse("n2", lb.PulseLost)
	w.settle()
	assert.Empty(t, w.holders(addr), "n1 has failed a moment ago")
	w.pass(avoidFor)
	assert.Equal(t, "n1", w.ledger.View(uid).Addresses[0].Node)
	w.settle()
	assert.Equal(t, []string{"n1"}, w.holders(addr))
}
