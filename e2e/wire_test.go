package e2e

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// away is how long a node is frozen or has no cable: long enough for everybody to have got used to it.
const away = 30 * time.Second

// TestOneAnswer tells that whatever becomes of a node, in the end one machine answers on the wire for an address, in
// both families: the one that is to hold it.
func TestOneAnswer(t *testing.T) {
	m := &moored{Cluster: start(t, cluster.Options{
		Manifests: "manifests/base", NodeMonitorGracePeriod: longGrace,
		Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}, {Name: "n4"}},
	})}
	m.deploy(t, crowdedPools)
	m.untainted(t)
	neighbour := m.neighbour(t)
	// heldBy makes a Service whose addresses are on that node.
	heldBy := func(t *testing.T, namespace string, holder *cluster.Node) []netip.Addr {
		others := slices.DeleteFunc(slices.Clone(m.Nodes), func(n *cluster.Node) bool { return n == holder })
		for _, node := range others {
			m.exclude(t, node, true)
		}
		addrs := m.createReachable(t, m.Namespace(t, namespace), 1, neighbour)
		m.placed(t, only(holder.Name), addrs...)
		for _, node := range others {
			m.exclude(t, node, false)
		}
		return addrs
	}

	t.Run("the holder is cut off from the control plane alone: the successor alone answers, and stays the one", func(t *testing.T) {
		holder := m.Node("n1")
		addrs := heldBy(t, "cut-off", holder)
		m.answeredBy(t, m.placed(t, only(holder.Name), addrs...))
		fault, err := m.CutControlPlane(holder.Host)
		require.NoError(t, err)
		begin := time.Now()
		successors := m.placed(t, otherThan(holder.Name), addrs...)
		t.Logf("%.2f s until others are to hold them", time.Since(begin).Seconds())
		m.Eventually(t, "the successors alone answer on the wire", func(context.Context) error { return m.alone(successors) })
		t.Logf("%.2f s until they alone answer", time.Since(begin).Seconds())
		m.answeredBy(t, successors)
		m.untilAnswered(t, addrs...)

		require.NoError(t, fault.Mend())
		m.answeredBy(t, successors)
		m.recovered(t, holder)
		m.answeredBy(t, successors)
		for _, addr := range addrs {
			m.unbound(t, addr, holder)
		}
	})

	t.Run("one is frozen, another has its switch port down: when they are back, the successors alone answer", func(t *testing.T) {
		frozen, unplugged := m.Node("n1"), m.Node("n2")
		addrs := append(heldBy(t, "frozen", frozen), heldBy(t, "unplugged", unplugged)...)
		require.NoError(t, frozen.Freeze())
		require.NoError(t, unplugged.CutOff())
		m.untilAnswered(t, addrs...)
		successors := m.placed(t, func(name string) bool { return name != frozen.Name && name != unplugged.Name }, addrs...)
		m.Throughout(t, away, "every connection succeeds", func(ctx context.Context) error { return m.answersAtOnce(ctx, addrs...) })

		capture, err := m.Client.Capture()
		require.NoError(t, err)
		defer capture.Stop()
		require.NoError(t, frozen.Thaw())
		require.NoError(t, unplugged.Restore())
		m.answeredBy(t, successors)
		m.recovered(t, frozen)
		m.recovered(t, unplugged)
		m.answeredBy(t, successors)
		for _, addr := range addrs {
			m.unbound(t, addr, frozen, unplugged)
			for _, node := range []*cluster.Node{frozen, unplugged} {
				mac, err := node.MAC("eth0")
				require.NoError(t, err)
				assert.False(t, slices.ContainsFunc(capture.Claims(addr), func(c cluster.Claim) bool {
					return c.Gratuitous && slices.Equal(c.MAC, mac)
				}), "%s announces %s, which is not its own any more: %v", node.Name, addr, capture.Claims(addr))
			}
		}
	})
	foreigners(t, m, neighbour)
}
