package ledger

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// TestKubeletThatRestartsMovesNothing: its Node says NotReady for some seconds and is tainted for longer. Nothing new goes
// there meanwhile. What stays NotReady loses its addresses as planned.
func TestKubeletThatRestartsMovesNothing(t *testing.T) {
	for _, pulse := range []lb.Pulse{lb.PulseNone, lb.PulseAnswering} {
		w := newWorld(t, office, "n1", "n2")
		uid := w.create("web")
		w.settle()
		addr, node := w.served(uid)
		w.pulse(node, pulse)
		taint := []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}

		w.setNode(node, func(n *lb.Node) { n.Ready, n.Taints = lb.NotReady, taint })
		w.settle()
		w.pass(place.NotReadyGrace - time.Second)
		other := w.create("other")
		w.settle()
		assert.Equal(t, []string{node}, w.holders(addr))
		_, otherNode := w.served(other)
		assert.NotEqual(t, node, otherNode)

		w.setNode(node, func(n *lb.Node) { n.Ready = lb.Ready })
		w.settle()
		assert.Equal(t, []string{node}, w.holders(addr), "the taint alone is no news")
		w.setNode(node, func(n *lb.Node) { n.Taints = nil })
		w.pass(place.NotReadyGrace)
		w.settle()
		assert.Equal(t, []string{node}, w.holders(addr))

		w.setNode(node, func(n *lb.Node) { n.Ready = lb.NotReady })
		w.pass(place.NotReadyGrace)
		w.settle()
		assert.Equal(t, []string{otherNode}, w.holders(addr))
	}
}

// TestShutdownMovesAddressesAtOnce: whoever shuts a host down without draining its Node gives us some seconds.
func TestShutdownMovesAddressesAtOnce(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	w.setNode(node, func(n *lb.Node) { n.Ready, n.ShuttingDown = lb.NotReady, true })
	w.settle()
	assert.NotEqual(t, []string{node}, w.holders(addr))
}

// TestSilenceIsNoRestart: a kubelet that was silent and comes back NotReady gets its seconds then.
func TestSilenceIsNoRestart(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	w.pulse(node, lb.PulseAnswering)
	w.setNode(node, func(n *lb.Node) { n.Ready = lb.Unknown })
	w.pass(place.UnknownGrace - time.Second)
	w.setNode(node, func(n *lb.Node) { n.Ready = lb.NotReady })
	w.pass(place.NotReadyGrace - time.Second)
	w.settle()
	assert.Equal(t, []string{node}, w.holders(addr))
}
