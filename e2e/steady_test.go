package e2e

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// lossFor is how long every fifth packet to the agents' health ports is lost; longLossFor with LONG=1.
	lossFor     = time.Minute
	longLossFor = 5 * time.Minute
	// pausedFor is how long the controller stands still.
	pausedFor = 5 * time.Second
	// flapping is how long a link goes up and down, each for flap.
	flapping = time.Minute
	flap     = 2 * time.Second
)

// TestSteadiness tells that what only looks like a lost node moves nothing, or nearly nothing, and that doubt about it
// does not last for ever.
func TestSteadiness(t *testing.T) {
	m := &moored{Cluster: start(t, cluster.Options{
		Manifests: "manifests/base", NodeMonitorGracePeriod: longGrace,
		Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}, {Name: "n4"}},
	})}
	m.deploy(t, officePool)
	m.untainted(t)
	neighbour := m.neighbour(t)
	// Enough for every node to have one.
	addrs := m.createReachable(t, m.Namespace(t, "steady"), 4, neighbour)

	t.Run("a fifth of all packets to the agents' health ports is lost: nothing moves", func(t *testing.T) {
		while := lossFor
		if os.Getenv("LONG") == "1" {
			while = longLossFor
		}
		fault, err := m.LoseProbes(20)
		require.NoError(t, err)
		moves := m.countMoves(t, while, func() {})
		require.NoError(t, fault.Mend())
		assert.Empty(t, moves)
	})

	t.Run("the controller stands still for 5 s: nothing moves", func(t *testing.T) {
		require.NoError(t, m.Controllers[0].Pause())
		moves := m.countMoves(t, pausedFor, func() {})
		require.NoError(t, m.Controllers[0].Resume())
		assert.Empty(t, moves)
		assert.Empty(t, m.countMoves(t, settle, func() {}), "afterwards")
	})

	t.Run("a link that goes up and down all the time costs one move a minute at most", func(t *testing.T) {
		holder := m.placed(t, anyNode, addrs[0])[addrs[0]]
		up, next := true, time.Now()
		moves := m.countMoves(t, flapping, func() {
			if time.Now().Before(next) {
				return
			}
			next = time.Now().Add(flap)
			if up = !up; up {
				require.NoError(t, holder.Restore())
			} else {
				require.NoError(t, holder.CutOff())
			}
		})
		t.Logf("moves: %v", moves)
		for _, addr := range addrs {
			assert.LessOrEqual(t, moves[addr], 1, "moves of %s", addr)
		}
		require.NoError(t, holder.Restore())
		m.recovered(t, holder)
		m.answeredBy(t, m.placed(t, anyNode, addrs...))
		m.untilAnswered(t, addrs...)
	})

	t.Run("half of the nodes are lost at once: the addresses are back at the latest when Kubernetes says so", func(t *testing.T) {
		first := m.placed(t, anyNode, addrs[0])[addrs[0]]
		i := slices.Index(m.Nodes, first)
		lost := []*cluster.Node{first, m.Nodes[(i+1)%len(m.Nodes)]}
		for _, node := range lost {
			require.NoError(t, node.CutOff())
		}
		outages := m.untilAnswered(t, addrs...)
		t.Logf("outage: %.2f s max", percentile(outages, 100))
		for _, node := range lost {
			require.NoError(t, node.Restore())
		}
		for _, node := range lost {
			m.recovered(t, node)
		}
		m.answeredBy(t, m.placed(t, anyNode, addrs...))
	})
}

// countMoves counts for a while how often each address is given to another node, and meanwhile does something again
// and again.
func (m *moored) countMoves(t *testing.T, while time.Duration, meanwhile func()) map[netip.Addr]int {
	t.Helper()
	moves := map[netip.Addr]int{}
	last := map[netip.Addr]string{}
	m.Throughout(t, while, "NodeAddresses can be read", func(ctx context.Context) error {
		meanwhile()
		holding, err := m.holding(ctx)
		for addr, node := range holding {
			if last[addr] != "" && last[addr] != node {
				moves[addr]++
				t.Logf("%s moves from %s to %s", addr, last[addr], node)
			}
			last[addr] = node
		}
		return err
	})
	return moves
}
