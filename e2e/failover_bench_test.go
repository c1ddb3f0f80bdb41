package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
)

const (
	// benchLosses is how often a node is lost, or evacuated, in each measurement.
	benchLosses = 20
	// usualGrace is Kubernetes' own: nothing that is measured is due to the Ready condition.
	usualGrace = 50 * time.Second
)

// TestBenchFailover measures what clients notice when an address goes to another node.
func TestBenchFailover(t *testing.T) {
	if os.Getenv("BENCH") == "" {
		t.Skip("measurements run with make bench")
	}
	m := &moored{Cluster: start(t, cluster.Options{Manifests: "manifests/base", NodeMonitorGracePeriod: usualGrace})}
	m.deploy(t, officePool)
	m.untainted(t)
	neighbour := m.neighbour(t)
	n1, n2, n3 := m.Nodes[0], m.Nodes[1], m.Nodes[2]
	m.exclude(t, n3, true)
	// onFirst has what is created begin on n1, from where n2 gets it.
	onFirst := func(t *testing.T, create func() []netip.Addr) []netip.Addr {
		m.exclude(t, n2, true)
		addrs := create()
		m.placed(t, only(n1.Name), addrs...)
		m.exclude(t, n2, false)
		return addrs
	}

	t.Run("1", func(t *testing.T) {
		addrs := onFirst(t, func() []netip.Addr {
			service := reachable(m.Namespace(t, "one"), "web")
			service.Spec.IPFamilyPolicy = nil
			addr := m.published(t, m.create(t, service, neighbour))
			m.untilAnswered(t, addr)
			return []netip.Addr{addr}
		})
		m.measureOutage(t, "Outage/cut/1", n1, n2, addrs)
		m.measurePlannedMove(t, addrs[0])
	})

	t.Run("300", func(t *testing.T) {
		addrs := onFirst(t, func() []netip.Addr {
			return m.createReachable(t, m.Namespace(t, "many"), manyServices, neighbour)
		})
		m.measureOutage(t, fmt.Sprintf("Outage/cut/%d", len(addrs)), n1, n2, addrs)
	})

	t.Run("leader", func(t *testing.T) {
		addrs := onFirst(t, func() []netip.Addr {
			return m.createReachable(t, m.Namespace(t, "led"), 1, neighbour)
		})
		require.NoError(t, m.Controllers[0].Stop())
		for _, node := range []*cluster.Node{n1, n2} {
			controller, err := m.AddControllerOn(t.Context(), node)
			require.NoError(t, err)
			require.NoError(t, controller.Start())
			m.leads(t, m.Controllers[1])
		}
		m.measureOutage(t, "Outage/leader", n1, n2, addrs)
	})
}

// measureOutage pulls the cable of the node that carries the addresses again and again, and measures until the last of
// them answers from the other node.
func (m *moored) measureOutage(t *testing.T, name string, holder, other *cluster.Node, addrs []netip.Addr) {
	t.Helper()
	var outages []time.Duration
	for range benchLosses {
		m.placed(t, only(holder.Name), addrs...)
		m.untilAnswered(t, addrs...)
		require.NoError(t, holder.CutOff())
		outages = append(outages, slices.Max(m.untilAnswered(t, addrs...)))
		m.placed(t, only(other.Name), addrs...)
		m.stayLost(t)
		require.NoError(t, holder.Restore())
		m.recovered(t, holder)
		holder, other = other, holder
	}
	figure(name, percentile(outages, 50), "s-p50", percentile(outages, 100), "s-max", load(t), "load")
}

// measurePlannedMove excludes the node that carries the address again and again, while connections are made.
func (m *moored) measurePlannedMove(t *testing.T, addr netip.Addr) {
	t.Helper()
	var sum tally
	for range benchLosses {
		holder := m.heldBy(t, addr, anyNode)
		moved := m.plannedMove(t, addr, plannedMoves[0].patch)
		m.patchNode(t, holder, plannedMoves[0].undo)
		sum.made += moved.made
		sum.slow += moved.slow
		sum.cut += moved.cut
		sum.failed = append(sum.failed, moved.failed...)
		m.recovered(t, holder)
	}
	figure("PlannedMove", float64(len(sum.failed)), "failed", float64(sum.cut)/benchLosses, "cut-in-flight/move",
		float64(sum.slow)/benchLosses, "slow/move", float64(sum.made), "connections", load(t), "load")
}
