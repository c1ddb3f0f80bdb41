package ledger

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

func dual(r *lb.Request) {
	r.Families, r.FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.RequireDualStack
}

func asks(addr string) func(*lb.Request) {
	return func(r *lb.Request) { r.Addresses = []netip.Addr{netip.MustParseAddr(addr)} }
}

// TestPublishedMeansBound: a status is written only when an agent has acknowledged.
func TestPublishedMeansBound(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.sync(uid)
	assert.Empty(t, w.services[uid].published, "nothing is written yet")
	for name := range w.nodes {
		w.write(name)
	}
	w.sync(uid)
	assert.Empty(t, w.services[uid].published, "the agent has not answered")
	w.settle()
	w.served(uid)
}

func TestLostNode(t *testing.T) {
	w := newWorld(t, office, "n1", "n2", "n3")
	uid := w.create("web", dual)
	w.settle()
	addr, was := w.served(uid)

	w.objects[was].dead = true
	w.setNode(was, func(n *lb.Node) { n.Ready = lb.Unknown })
	assert.Equal(t, []netip.Addr{addr, w.services[uid].published[1]}, w.services[uid].published, "a published status is not withdrawn")
	w.settle()

	var holders []string
	for _, name := range w.holders(addr) {
		if name != was {
			holders = append(holders, name)
		}
	}
	require.Len(t, holders, 1, "another node holds it, without waiting for the lost one")
	successor := holders[0]
	for _, e := range w.objects[successor].entries {
		assert.Equal(t, was, e.Predecessor, "the successor goes on announcing until the lost node has let go")
	}

	w.objects[was].dead = false
	w.setNode(was, func(n *lb.Node) { n.Ready = lb.Ready })
	w.settle()
	_, now := w.served(uid)
	assert.Equal(t, successor, now, "no failback")
	for _, e := range w.objects[successor].entries {
		assert.Empty(t, e.Predecessor)
	}
}

func TestNodeDeletedAndRecreated(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, was := w.served(uid)
	w.removeNode(was)
	w.settle()
	_, now := w.served(uid)
	assert.NotEqual(t, was, now)
	assert.Empty(t, w.objects[was], "nothing of it is left")

	w.setNode(was, func(n *lb.Node) { *n = lb.Node{Name: was, UID: "another", Ready: lb.Ready} })
	w.settle()
	again, _ := w.served(uid)
	assert.Equal(t, addr, again)
}

// TestPlannedMove: an excluded node stays bound until its successor has the address.
func TestPlannedMove(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, was := w.served(uid)
	w.setNode(was, func(n *lb.Node) { n.Labels = map[string]string{lb.LabelExcludeNode: ""} })
	for range 3 {
		for name := range w.nodes {
			w.write(name)
		}
		w.work(was)
		require.Contains(t, w.objects[was].bound, addr, "bound on the old node while the new one has not answered")
	}
	w.settle()
	_, now := w.served(uid)
	assert.NotEqual(t, was, now)
	assert.NotContains(t, w.objects[was].bound, addr)
}

func TestCordonedNodeKeepsWhatItHas(t *testing.T) {
	w := newWorld(t, office, "n1")
	held := w.create("held")
	w.settle()
	w.setNode("n1", func(n *lb.Node) {
		n.Cordoned = true
		n.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
	})
	next := w.create("next")
	w.settle()
	w.served(held)
	assert.Equal(t, lb.ReasonNoEligibleNode, w.ledger.View(next).Waiting.Reason)
	w.setNode("n1", func(n *lb.Node) { n.Cordoned, n.Taints = false, nil })
	w.settle()
	w.served(next)
}

func TestEndpointsOfPolicyLocal(t *testing.T) {
	w := newWorld(t, office, "n1", "n2", "n3")
	uid := w.create("web", func(r *lb.Request) { r.Local, r.EndpointNodes = true, []string{"n2"} })
	w.settle()
	_, node := w.served(uid)
	assert.Equal(t, "n2", node)
	w.services[uid].EndpointNodes = []string{"n3"}
	w.settle()
	_, node = w.served(uid)
	assert.Equal(t, "n3", node, "it follows the endpoints")
	w.services[uid].EndpointNodes = nil
	w.settle()
	_, node = w.served(uid)
	assert.Equal(t, "n3", node, "without any endpoint it stays")
	next := w.create("next", func(r *lb.Request) { r.Local = true })
	w.settle()
	w.served(next)
}

// TestWaitingServiceIsServedAtOnce: what one frees goes to the one that has waited longest, not to the one that
// asks next.
func TestWaitingServiceIsServedAtOnce(t *testing.T) {
	w := newWorld(t, office, "n1")
	var held []string
	for _, name := range []string{"a", "b", "c", "d"} {
		held = append(held, w.create(name))
	}
	w.settle()
	first, second := w.create("first"), w.create("second")
	w.settle()
	assert.Equal(t, lb.ReasonPoolExhausted, w.ledger.View(first).Refusal.Reason)
	addr, _ := w.served(held[1])
	w.services[held[1]].wants = false
	w.sync(held[1])
	w.write("n1")
	w.work("n1")
	assert.Len(t, w.ledger.View(first).Addresses, 1, "at once, without being asked again")
	w.settle()
	got, _ := w.served(first)
	assert.Equal(t, addr, got)
	assert.Empty(t, w.services[second].published)
}

func TestEditedRequest(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid, other := w.create("web"), w.create("other")
	w.settle()
	was, _ := w.served(uid)
	taken, _ := w.served(other)

	asks(taken.String())(&w.services[uid].Request)
	w.settle()
	addr, _ := w.served(uid)
	assert.Equal(t, was, addr, "refused, it keeps the old one")
	assert.Equal(t, lb.ReasonAddressInUse, w.ledger.View(uid).Refusal.Reason)

	asks("192.0.2.13")(&w.services[uid].Request)
	w.sync(uid)
	for name := range w.nodes {
		w.write(name)
		w.work(name)
	}
	assert.Equal(t, []netip.Addr{was}, w.services[uid].published)
	assert.Len(t, w.holders(was), 1, "the old one serves until the new one is published")
	w.settle()
	addr, _ = w.served(uid)
	assert.Equal(t, "192.0.2.13", addr.String())
	assert.Empty(t, w.holders(was), "the old one is given back")
}

func TestSingleToDualStackAndBack(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	v4, _ := w.served(uid)
	dual(&w.services[uid].Request)
	w.settle()
	w.served(uid)
	v6 := w.services[uid].published[1]
	w.services[uid].Families, w.services[uid].FamilyPolicy = []lb.Family{lb.IPv4}, lb.SingleStack
	w.settle()
	addr, _ := w.served(uid)
	assert.Equal(t, v4, addr)
	assert.Empty(t, w.holders(v6))
}

// TestDeletionWithADeadHolder: the Service goes after ten seconds, and its address to nobody until the node is
// deleted or back.
func TestDeletionWithADeadHolder(t *testing.T) {
	for _, back := range []bool{true, false} {
		w := newWorld(t, office, "n1", "n2")
		uid := w.create("web")
		w.settle()
		addr, node := w.served(uid)
		w.objects[node].dead = true
		w.services[uid].wants = false
		w.settle()
		assert.True(t, w.ledger.Holds(uid), "before the time is over the Service stays")
		w.pass(place.ReleaseTimeout)
		w.settle()
		assert.False(t, w.ledger.Holds(uid))

		next := w.create("next", asks(addr.String()))
		w.settle()
		assert.Equal(t, lb.ReasonAddressQuarantined, w.ledger.View(next).Refusal.Reason)
		w.restart()
		w.settle()
		assert.Equal(t, lb.ReasonAddressQuarantined, w.ledger.View(next).Refusal.Reason, "also after a restart")

		if back {
			w.objects[node].dead = false
		} else {
			w.removeNode(node)
			w.objects[node].bound = nil // the machine is gone with its Node
		}
		w.settle()
		got, _ := w.served(next)
		assert.Equal(t, addr, got)
	}
}

func TestAgentThatDoesNotAnswer(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	w.objects["n1"].dead, w.objects["n2"].dead = true, true
	uid := w.create("web")
	w.settle()
	assert.Equal(t, lb.ReasonWaitingForAgent, w.ledger.View(uid).Waiting.Reason)
	first := w.ledger.View(uid).Addresses[0].Node
	for name, o := range w.objects {
		o.dead = name == first
	}
	w.pass(place.AckTimeout)
	w.settle()
	_, node := w.served(uid)
	assert.NotEqual(t, first, node)
}

// TestAgentsThatCannotBind: each is tried once, and not again at once.
func TestAgentsThatCannotBind(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	w.objects["n1"].broken, w.objects["n2"].broken = true, true
	uid := w.create("web")
	w.settle()
	assert.Contains(t, w.ledger.View(uid).Waiting.Message, "InterfaceFailed")
	steps := 0
	for _, m := range w.ledger.Drain().Moves {
		if m.Op == place.OpHold {
			steps++
		}
	}
	assert.Equal(t, 2, steps, "each node is tried once")
	w.objects["n1"].broken, w.objects["n2"].broken = false, false
	w.pass(avoidFor)
	w.settle()
	w.served(uid)
}

// TestObjectDeletedByHand: what the agent said of the object that is gone counts no more, and what is published stays.
func TestObjectDeletedByHand(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	addr, _ := w.served(uid)
	bound := w.objects["n1"].bound
	delete(w.objects, "n1")
	w.ledger.Reset("n1", Object{}, w.now)
	w.write("n1")
	w.objects["n1"].bound = bound
	require.Len(t, w.objects["n1"].entries, 1, "the new object says what the old one said")
	w.ledger.Report("n1", w.objects["n1"].report(), w.now)
	assert.False(t, w.ledger.View(uid).Addresses[0].Bound)
	assert.Equal(t, []netip.Addr{addr}, w.services[uid].published)
	w.settle()
	w.served(uid)
	assert.True(t, w.ledger.View(uid).Addresses[0].Bound)
}

func TestPoolInUse(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, _ := w.served(uid)
	without := parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- {name: other, addresses: [192.0.2.100], interface: pl0}
`)
	require.ErrorContains(t, w.ledger.SetConfig(without, Rental{}, w.now), `pool "office" is in use by 1 addresses (192.0.2.10 of Service default/web, ...)`)

	w.cfg = without
	w.restart()
	w.settle()
	got, node := w.served(uid)
	assert.Equal(t, addr, got, "a restart with such a file releases nothing")
	assert.Equal(t, lb.ReasonPoolMissing, w.ledger.View(uid).Refusal.Reason)
	w.setNode(node, func(n *lb.Node) { n.Ready = lb.Unknown })
	w.objects[node].dead = true
	w.settle()
	w.objects[node].bound = nil
	_, now := w.served(uid)
	assert.NotEqual(t, node, now, "and what is held can move")
	next := w.create("next")
	w.settle()
	got, _ = w.served(next)
	assert.Equal(t, "192.0.2.100", got.String())
}

// TestTwoLeaders: what an older leader wrote late is revoked, and everybody ends with one address on one node.
func TestTwoLeaders(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	other := map[string]string{"n1": "n2", "n2": "n1"}[node]
	o := w.objects[other]
	o.entries = append(o.entries, EntryView{
		Addr: addr, Interface: "pl0", Pool: "office", State: place.Hold, Term: 0, Services: []lb.Ref{w.services[uid].Ref},
	})
	o.Generation++
	w.work(other)
	require.Len(t, w.holders(addr), 2)
	w.restart()
	w.settle()
	_, now := w.served(uid)
	assert.Equal(t, node, now, "the higher term stays")
}

// TestRandomLives runs random clusters: Services come, change and go; nodes are lost, deleted and come back; agents
// die; the controller is killed between any two steps. At every moment at most one Hold is written for an address,
// and once all is well again every Service that can be served is, on one node, with the address it was known by.
func TestRandomLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, office, "n1", "n2", "n3")
		pick := func(names []string, label string) string { return rapid.SampledFrom(names).Draw(t, label) }
		live := func() (uids []string) {
			for _, v := range w.snapshot().Services {
				if v.Wants {
					uids = append(uids, v.UID)
				}
			}
			return uids
		}
		nodes := []string{"n1", "n2", "n3"}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			known := map[string][]netip.Addr{}
			for _, uid := range live() {
				known[uid] = w.services[uid].published
			}
			switch rapid.IntRange(0, 12).Draw(t, "what") {
			case 0, 1:
				if len(w.services) < 5 {
					if rapid.Bool().Draw(t, "dual") {
						w.create("web", dual)
					} else {
						w.create("web")
					}
				}
			case 2:
				if uids := live(); len(uids) > 0 {
					w.services[pick(uids, "gone")].wants = false
				}
			case 3, 4, 5:
				if uids := live(); len(uids) > 0 {
					w.sync(pick(uids, "sync"))
				}
			case 6, 7:
				w.write(pick(nodes, "write"))
			case 8:
				w.work(pick(nodes, "work"))
			case 9:
				name := pick(nodes, "node")
				ready := rapid.SampledFrom([]lb.Readiness{lb.Ready, lb.NotReady, lb.Unknown}).Draw(t, "ready")
				w.setNode(name, func(n *lb.Node) { *n = lb.Node{Name: name, UID: n.UID, Ready: ready} })
			case 10:
				if o := w.objects[pick(nodes, "agent")]; o != nil {
					o.dead = rapid.Bool().Draw(t, "dead")
				}
			case 11:
				w.pass(time.Duration(rapid.IntRange(0, 11).Draw(t, "seconds")) * time.Second)
				w.retire()
			case 12:
				if rapid.IntRange(0, 2).Draw(t, "kind") == 0 {
					w.removeNode(pick(nodes, "deleted"))
				} else {
					w.restart()
				}
			}
			w.atMostOneHold()
			for uid, addrs := range known {
				if v := w.services[uid]; v != nil && v.wants {
					require.Subset(t, v.published, addrs, "what is published stays")
				}
			}
		}
		for _, o := range w.objects {
			o.dead = false
		}
		for _, name := range nodes {
			w.setNode(name, func(n *lb.Node) { *n = lb.Node{Name: name, UID: "uid-" + name, Ready: lb.Ready} })
		}
		for range 6 {
			w.settle()
			w.pass(6 * time.Second)
		}
		w.settle()
		taken := map[netip.Addr]string{}
		for _, uid := range live() {
			v := w.ledger.View(uid)
			if v.Refusal == nil {
				w.served(uid)
			}
			for _, a := range v.Addresses {
				require.Empty(t, taken[a.Addr], "%s is given twice", a.Addr)
				taken[a.Addr] = uid
			}
		}
		for name, o := range w.objects {
			for addr := range o.bound {
				require.NotEmpty(t, taken[addr], "%s is left on %s", addr, name)
			}
		}
		for _, u := range w.ledger.Stats().Pools {
			require.Zero(t, u.Quarantined)
		}
	})
}

func (w *world) atMostOneHold() {
	holds := map[netip.Addr]string{}
	for _, name := range w.ledger.NodeNames() {
		for _, e := range w.ledger.Node(name).Entries {
			if e.State == place.Hold {
				require.Empty(w.t, holds[e.Addr], "%s is held by %s and %s", e.Addr, name, holds[e.Addr])
				holds[e.Addr] = name
			}
		}
	}
}
