package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// longGrace is how long a silent node stays Ready where that must not be what moves an address: long beside what
// probing needs, and not so long that nothing else could be waited for.
const longGrace = 10 * time.Second

// manyServices of both families have 300 addresses.
const manyServices = 150

// loss is a way in which a node is lost, and how it comes back.
type loss struct {
	name         string
	strike, mend func(*moored, *cluster.Node) error
}

var losses = []loss{
	{
		"its cable is pulled",
		func(_ *moored, n *cluster.Node) error { return n.CutOff() },
		func(_ *moored, n *cluster.Node) error { return n.Restore() },
	},
	{
		"its agent and its kubelet are killed together with the cable",
		func(_ *moored, n *cluster.Node) error {
			return errors.Join(n.CutOff(), n.Agent.Kill(), n.Kubelet.Kill())
		},
		func(_ *moored, n *cluster.Node) error {
			return errors.Join(n.Restore(), n.Agent.Start(), n.Kubelet.Start())
		},
	},
	{
		"it is gone, with everything on it, and boots later",
		func(_ *moored, n *cluster.Node) error { return n.PowerOff() },
		func(m *moored, n *cluster.Node) error { return m.PowerOn(n) },
	},
}

// TestFailover tells what a client notices when the node that carries its address is lost: an outage, which is
// printed, and no more than that.
func TestFailover(t *testing.T) {
	m := &moored{Cluster: start(t, cluster.Options{Manifests: "manifests/base", NodeMonitorGracePeriod: longGrace})}
	m.deploy(t, officePool)
	m.untainted(t)
	neighbour := m.neighbour(t)
	n1, n2, n3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	// Two nodes carry addresses, so that what one loses the other gets.
	m.exclude(t, n3, true)

	for _, count := range []int{1, manyServices} {
		t.Run(fmt.Sprintf("%d Services", count), func(t *testing.T) {
			m.exclude(t, n2, true)
			addrs := m.createReachable(t, m.Namespace(t, fmt.Sprintf("lost-%d", count)), count, neighbour)
			m.placed(t, only(n1.Name), addrs...)
			m.exclude(t, n2, false)
			lost, successor := n1, n2
			for _, loss := range losses {
				t.Run(loss.name, func(t *testing.T) {
					m.untilAnswered(t, addrs...)
					require.NoError(t, loss.strike(m, lost))
					outages := m.untilAnswered(t, addrs...)
					t.Logf("outage of %d addresses: %.2f s p50, %.2f s max", len(outages), percentile(outages, 50), percentile(outages, 100))

					m.stayLost(t)
					require.NoError(t, loss.mend(m, lost))
					m.recovered(t, lost)
					holders := m.placed(t, only(successor.Name), addrs...)
					for addr := range holders {
						m.unbound(t, addr, lost)
					}
					lost, successor = successor, lost
				})
			}
		})
	}

	for _, move := range plannedMoves {
		t.Run("planned: "+move.name+", and no new connection fails", func(t *testing.T) {
			service := m.create(t, cluster.LoadBalancer(m.Namespace(t, move.namespace), "web"))
			addr := m.published(t, service)
			m.serves(t, addr)
			holder := m.heldBy(t, addr, anyNode)
			tally := m.plannedMove(t, addr, move.patch)
			t.Log(tally)
			assert.Empty(t, tally.failed)
			m.patchNode(t, holder, move.undo)
			m.remove(t, service)
		})
	}

	t.Run("it runs the controller that leads, too", func(t *testing.T) {
		m.exclude(t, n2, true)
		addrs := m.createReachable(t, m.Namespace(t, "lost-leader"), 1, neighbour)
		m.placed(t, only(n1.Name), addrs...)
		m.exclude(t, n2, false)
		require.NoError(t, m.Controllers[0].Stop())
		var controllers []*cluster.Process
		for _, node := range []*cluster.Node{n1, n3} {
			controller, err := m.AddControllerOn(t.Context(), node)
			require.NoError(t, err)
			require.NoError(t, controller.Start())
			controllers = append(controllers, controller)
			m.leads(t, controllers[0])
		}
		// That it leads shows in what it does.
		m.published(t, m.create(t, cluster.LoadBalancer(m.Namespace(t, "led"), "web")))
		m.untilAnswered(t, addrs...)
		begin := time.Now()
		require.NoError(t, n1.CutOff())
		pending := m.create(t, cluster.LoadBalancer(m.Namespace(t, "unled"), "web"))
		outages := m.untilAnswered(t, addrs...)
		t.Logf("outage: %.2f s", percentile(outages, 100))
		addrs = append(addrs, m.published(t, pending))
		t.Logf("what was asked for while nobody led has its address after %.2f s", time.Since(begin).Seconds())
		m.leads(t, controllers[1])
		m.placed(t, only(n2.Name), addrs...)

		require.NoError(t, n1.Restore())
		m.recovered(t, n1)
		m.answeredBy(t, m.placed(t, only(n2.Name), addrs...))
	})
}

// stayLost lets a lost node be lost for longer than a moment: the controller counts the loss of one that is back at once
// as a mistake, and is slower to believe in the next.
func (m *moored) stayLost(t *testing.T) {
	t.Helper()
	m.Throughout(t, settle, "the controller runs", func(context.Context) error { return m.Controllers[0].Ended() })
}

// createReachable creates so many Services of both families, waits until each is served, and returns all addresses.
func (m *moored) createReachable(t *testing.T, namespace string, count int, backends ...*cluster.Backend) []netip.Addr {
	t.Helper()
	var names []string
	for i := range count {
		service := reachable(namespace, fmt.Sprintf("web-%d", i))
		m.create(t, service, backends...)
		names = append(names, service.Name)
	}
	var addrs []netip.Addr
	for _, name := range names {
		addrs = append(addrs, m.publishedAll(t, reachable(namespace, name), 2)...)
	}
	m.untilAnswered(t, addrs...)
	return slices.Clip(addrs)
}
