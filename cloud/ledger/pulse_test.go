package ledger

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

func (w *world) pulse(name string, p lb.Pulse) {
	w.ledger.Probed([]Finding{{Node: name, Pulse: p}}, w.now)
}

// TestLostNodeIsOneWriteForEachSurvivor: what a silent node carried is written in one pass, its own object first, and a
// condition that says Ready is not waited out.
func TestLostNodeIsOneWriteForEachSurvivor(t *testing.T) {
	w := newWorld(t, "apiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\npools:\n- {name: office, addresses: [192.0.2.10-192.0.2.99], interface: pl0}\n",
		"n1", "n2", "n3", "n4")
	for _, name := range []string{"n2", "n3", "n4"} {
		w.setNode(name, func(n *lb.Node) { n.Cordoned = true })
	}
	var uids []string
	for range 30 {
		uids = append(uids, w.create("web"))
	}
	w.settle()
	for _, name := range []string{"n2", "n3", "n4"} {
		w.setNode(name, func(n *lb.Node) { n.Cordoned = false })
	}
	w.settle()
	w.pulse("n1", lb.PulseAnswering)
	w.ledger.Drain()

	w.objects["n1"].dead, w.objects["n1"].bound = true, nil
	w.pulse("n1", lb.PulseLost)
	w.writes = nil
	effects := w.ledger.Drain()
	assert.Equal(t, map[string]bool{"n1": true}, effects.Nodes, "the successors wait until the object of n1 says Release")
	assert.Equal(t, effects.Nodes, effects.Urgent)
	assert.Empty(t, effects.Services, "people are told later")
	assert.Len(t, effects.Later, 1)
	w.write("n1")
	effects = w.ledger.Drain()
	assert.Equal(t, map[string]bool{"n2": true, "n3": true, "n4": true}, effects.Nodes)
	assert.Equal(t, effects.Nodes, effects.Urgent)
	w.settle()
	assert.Equal(t, []string{"n1", "n2", "n3", "n4"}, w.writes)
	for _, uid := range uids {
		_, node := w.served(uid)
		assert.NotEqual(t, "n1", node)
	}
	for _, name := range []string{"n2", "n3", "n4"} {
		assert.Len(t, w.objects[name].bound, 10, "the load is spread")
	}
}

// TestDeletedNodeIsLeftInAHurry: a Node that is deleted with its machine may carry addresses still.
func TestDeletedNodeIsLeftInAHurry(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	w.ledger.Drain()
	w.objects[node].dead, w.objects[node].bound = true, nil
	w.removeNode(node)
	assert.Equal(t, map[string]bool{node: true}, w.ledger.Drain().Urgent)
	w.write(node)
	other := map[string]string{"n1": "n2", "n2": "n1"}[node]
	assert.Equal(t, map[string]bool{other: true}, w.ledger.Drain().Urgent)
	w.settle()
	assert.Equal(t, []string{other}, w.holders(addr))
}

// TestHostThatAnswersKeepsItsAddresses although its kubelet is silent, for a minute; then they move as planned.
func TestHostThatAnswersKeepsItsAddresses(t *testing.T) {
	for _, pulse := range []lb.Pulse{lb.PulseAnswering, lb.PulseRefusing} {
		w := newWorld(t, office, "n1", "n2")
		uid := w.create("web")
		w.settle()
		addr, node := w.served(uid)
		w.pulse(node, pulse)
		w.setNode(node, func(n *lb.Node) { n.Ready = lb.Unknown })
		w.settle()
		assert.Equal(t, []string{node}, w.holders(addr))

		w.pass(place.UnknownGrace - time.Second)
		w.settle()
		assert.Equal(t, []string{node}, w.holders(addr))
		other := w.create("other")
		w.settle()
		_, otherNode := w.served(other)
		assert.NotEqual(t, node, otherNode, "nothing new goes to a node in doubt")

		w.pass(time.Second)
		w.settle()
		if pulse == lb.PulseAnswering {
			assert.Equal(t, []string{otherNode}, w.holders(addr))
		} else {
			assert.Equal(t, []string{node}, w.holders(addr), "an agent that does not run does not let go")
		}
	}
}

// TestTaintThatOutlivesItsConditionMovesNothing: when the kubelet is heard again, its Node is Ready some seconds before
// the taint is taken off. A host that answered all the while loses nothing in them, whoever leads by then.
func TestTaintThatOutlivesItsConditionMovesNothing(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t, office, "n1", "n2")
		uid := w.create("web")
		w.settle()
		addr, node := w.served(uid)
		w.ledger.Probed([]Finding{{Node: node, Pulse: lb.PulseAnswering, First: true}}, w.now)
		w.settle()
		unreachable := []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}
		w.setNode(node, func(n *lb.Node) { n.Ready, n.Taints = lb.Unknown, unreachable })
		w.settle()
		w.pass(place.UnknownGrace / 2)
		w.setNode(node, func(n *lb.Node) { n.Ready = lb.Ready })
		if restart {
			w.restart()
			w.pulse(node, lb.PulseAnswering)
		}
		w.settle()
		assert.Equal(t, []string{node}, w.holders(addr))
		w.setNode(node, func(n *lb.Node) { n.Taints = nil })
		w.pass(place.UnknownGrace)
		w.settle()
		assert.Equal(t, []string{node}, w.holders(addr))
	}
}

// TestFirstNodeThatIsHeardAgainGetsNothing: when the kubelets were cut off from the API server for long and their hosts
// answered all the while, the nodes are heard again one after the other, and nothing moves to the first of them. A node
// that is not heard of for longer than the others is left.
func TestFirstNodeThatIsHeardAgainGetsNothing(t *testing.T) {
	for _, returns := range []bool{true, false} {
		w := newWorld(t, office, "n1", "n2", "n3")
		uid := w.create("web")
		w.settle()
		addr, node := w.served(uid)
		for name := range w.nodes {
			w.pulse(name, lb.PulseAnswering)
			w.setNode(name, func(n *lb.Node) { n.Ready = lb.Unknown })
		}
		w.settle()
		w.pass(10 * place.UnknownGrace)
		w.settle()
		require.Equal(t, []string{node}, w.holders(addr))
		for name := range w.nodes {
			if name != node {
				w.setNode(name, func(n *lb.Node) { n.Ready = lb.Ready })
				w.pass(time.Second)
				w.settle()
			}
		}
		assert.Equal(t, []string{node}, w.holders(addr))
		if returns {
			w.setNode(node, func(n *lb.Node) { n.Ready = lb.Ready })
		}
		w.pass(place.ReturnGrace)
		assert.Equal(t, returns, node == w.ledger.View(uid).Addresses[0].Node)
		w.settle()
		assert.Len(t, w.holders(addr), 1)
		assert.Equal(t, returns, slices.Equal([]string{node}, w.holders(addr)))
	}
}

// TestUnprobedNodeIsLostByItsCondition: without the probe the Ready condition decides.
func TestUnprobedNodeIsLostByItsCondition(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	_, node := w.served(uid)
	w.objects[node].dead, w.objects[node].bound = true, nil
	w.setNode(node, func(n *lb.Node) { n.Ready = lb.Unknown })
	w.settle()
	_, now := w.served(uid)
	assert.NotEqual(t, node, now)
}

// TestNewControllerAsksBeforeItBelieves: after an outage of the control plane a node's condition may be Unknown although
// its host is well. Who has just come hears its own probe first.
func TestNewControllerAsksBeforeItBelieves(t *testing.T) {
	for _, c := range []struct{ answers, says bool }{{true, true}, {false, true}, {false, false}} {
		answers, says := c.answers, c.says
		w := newWorld(t, office, "n1", "n2")
		uid := w.create("web")
		w.settle()
		_, node := w.served(uid)
		w.ledger.Probed([]Finding{{Node: node, Pulse: lb.PulseAnswering, First: true}}, w.now)
		w.settle()
		n := w.nodes[node]
		n.Ready = lb.Unknown
		w.nodes[node] = n
		w.objects[node].dead = !answers
		w.restart()
		w.settle()
		assert.Equal(t, node, w.ledger.View(uid).Addresses[0].Node)
		if answers {
			w.pulse(node, lb.PulseAnswering)
		} else if says {
			w.pulse(node, lb.PulseNone)
		}
		if !says {
			w.pass(place.FirstPulse)
		}
		w.settle()
		assert.Equal(t, answers, w.ledger.View(uid).Addresses[0].Node == node)
	}
}

// TestAgentThatIsAwayMovesNothing: what it has bound answers. A restart is nothing to talk of, a longer absence is.
func TestAgentThatIsAwayMovesNothing(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	w.objects[node].dead = true
	w.pulse(node, lb.PulseRefusing)
	w.settle()
	assert.Nil(t, w.ledger.View(uid).Refusal)

	w.pass(place.AbsentAfter)
	w.settle()
	v := w.ledger.View(uid)
	require.NotNil(t, v.Refusal)
	assert.Equal(t, lb.ReasonAgentAbsent, v.Refusal.Reason)
	assert.Contains(t, v.Refusal.Message, node)
	assert.True(t, v.Ready)

	w.setNode(node, func(n *lb.Node) { n.Labels = map[string]string{lb.LabelExcludeNode: "true"} })
	w.settle()
	assert.Equal(t, []string{node}, w.holders(addr), "nobody would let go there")
	assert.Equal(t, lb.ReasonAgentAbsent, w.ledger.View(uid).Refusal.Reason)

	w.objects[node].dead = false
	w.pulse(node, lb.PulseAnswering)
	w.settle()
	_, now := w.served(uid)
	assert.NotEqual(t, node, now, "it moves as soon as the agent is back")
	assert.Nil(t, w.ledger.View(uid).Refusal)
}

// TestRebootedNode: its addresses are gone. They move when its agent is not there to bind them again.
func TestRebootedNode(t *testing.T) {
	for _, back := range []bool{false, true} {
		w := newWorld(t, office, "n1", "n2")
		uid := w.create("web")
		w.settle()
		_, node := w.served(uid)
		w.objects[node].bootID = "first"
		w.setNode(node, func(n *lb.Node) { n.BootID = "first" })
		w.settle()
		w.objects[node].dead, w.objects[node].bound = true, nil
		w.pulse(node, lb.PulseRefusing)
		if back {
			w.pulse(node, lb.PulseAnswering)
		}
		w.setNode(node, func(n *lb.Node) { n.BootID = "second" })
		if back {
			w.objects[node].dead, w.objects[node].bootID = false, "second"
		}
		w.settle()
		_, now := w.served(uid)
		assert.Equal(t, back, node == now)
	}
}

// TestFalseLoss: a node that lets go at once when it is told that it is lost was not lost.
func TestFalseLoss(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		false bool
	}{{falseLoss, true}, {falseLoss + time.Millisecond, false}} {
		w := newWorld(t, office, "n1", "n2")
		uid := w.create("web")
		w.settle()
		_, node := w.served(uid)
		w.pulse(node, lb.PulseLost)
		w.write(node)
		w.now = w.now.Add(c.after)
		w.work(node)
		assert.Equal(t, c.false, slices.Contains(w.ledger.Drain().FalseLosses, node))
		w.settle()
		assert.Empty(t, w.ledger.Drain().FalseLosses, "it is counted once")
	}
}

// TestProbedIsRemembered: the next controller knows which ports have ever answered.
func TestProbedIsRemembered(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	w.setNode("n1", func(n *lb.Node) {
		n.TypedAddresses = []lb.NodeAddress{{Type: "Hostname"}, {Type: "InternalIP", Addr: netip.MustParseAddr("192.0.2.1")}}
	})
	w.create("web")
	w.settle()
	w.ledger.Probed([]Finding{{Node: "n1", Pulse: lb.PulseAnswering, First: true}}, w.now)
	w.settle()
	assert.True(t, w.objects["n1"].probed)
	w.restart()
	assert.Equal(t, []ProbeTarget{{Node: "n1", UID: "uid-n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Port: 10269, Answered: true}}, w.ledger.ProbeTargets())

	w.removeNode("n1")
	w.settle()
	w.pass(time.Minute)
	w.settle()
	w.setNode("n1", func(n *lb.Node) {
		*n = lb.Node{Name: "n1", UID: "another", Ready: lb.Ready, TypedAddresses: []lb.NodeAddress{{Type: "InternalIP", Addr: netip.MustParseAddr("192.0.2.1")}}}
	})
	w.settle()
	assert.Equal(t, []ProbeTarget{{Node: "n1", UID: "another", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Port: 10269}}, w.ledger.ProbeTargets(), "that was another machine's")
}

// TestAnotherPortHasAnsweredNothing: an agent that comes back on a port that a firewall closes must not look lost, not to
// the next controller either.
func TestAnotherPortHasAnsweredNothing(t *testing.T) {
	w := newWorld(t, office, "n1")
	w.setNode("n1", func(n *lb.Node) {
		n.TypedAddresses = []lb.NodeAddress{{Type: "InternalIP", Addr: netip.MustParseAddr("192.0.2.1")}}
	})
	w.settle()
	w.ledger.Probed([]Finding{{Node: "n1", Pulse: lb.PulseAnswering, First: true}}, w.now)
	w.settle()
	require.True(t, w.objects["n1"].probed)
	w.objects["n1"].port = 10270
	w.settle()
	assert.False(t, w.objects["n1"].probed)
	for range 2 {
		assert.Equal(t, []ProbeTarget{{Node: "n1", UID: "uid-n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Port: 10270}}, w.ledger.ProbeTargets())
		w.restart()
	}
	w.ledger.Probed([]Finding{{Node: "n1", Pulse: lb.PulseAnswering, First: true}}, w.now)
	w.settle()
	assert.True(t, w.objects["n1"].probed)
}

// TestRescueIsMeasured: what people see of a failover is how long an address was bound by nobody that answers.
func TestRescueIsMeasured(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	_, node := w.served(uid)
	w.ledger.Drain()
	other := map[string]string{"n1": "n2", "n2": "n1"}[node]
	w.objects[node].dead, w.objects[node].bound = true, nil
	w.pulse(node, lb.PulseLost)
	w.write(node)
	w.write(other)
	assert.Empty(t, w.ledger.Drain().Rescues)
	w.now = w.now.Add(300 * time.Millisecond)
	w.work(other)
	assert.Equal(t, []time.Duration{300 * time.Millisecond}, w.ledger.Drain().Rescues)
	w.settle()
	assert.Empty(t, w.ledger.Drain().Rescues, "it is counted once")

	assert.Equal(t, map[string]NodeStats{
		node:  {Name: node, Addresses: map[place.State]int{place.Release: 1}, Silent: true},
		other: {Name: other, Addresses: map[place.State]int{place.Hold: 1}, Works: true},
	}, nodeStats(w))
}

// TestSilentNodeIsSeen: one whose port has been closed lives and gets no address. That lasts, and so must its sign.
func TestSilentNodeIsSeen(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	silent := func(name string) bool { return nodeStats(w)[name].Silent }
	w.settle()
	w.ledger.Probed([]Finding{{Node: "n1", Pulse: lb.PulseAnswering, First: true}}, w.now)
	w.settle()
	assert.False(t, silent("n1"))
	w.pulse("n1", lb.PulseLost)
	w.settle()
	assert.True(t, silent("n1"), "whatever its agent does")

	w.pulse("n1", lb.PulseNone)
	assert.False(t, silent("n1"), "the probe doubts itself")
	for _, name := range []string{"n1", "n2"} {
		w.setNode(name, func(n *lb.Node) { n.Ready = lb.Unknown })
	}
	assert.True(t, silent("n1"), "nobody hears it")
	assert.False(t, silent("n2"), "its port has never answered")
	w.setNode("n1", func(n *lb.Node) { n.Ready = lb.Ready })
	w.pulse("n1", lb.PulseAnswering)
	assert.False(t, silent("n1"))
}

func nodeStats(w *world) map[string]NodeStats {
	stats := map[string]NodeStats{}
	for _, n := range w.ledger.Stats().Nodes {
		stats[n.Name] = n
	}
	return stats
}
