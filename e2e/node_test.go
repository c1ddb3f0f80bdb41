package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestNodes tells what happens to an address when something happens to its node.
func TestNodes(t *testing.T) {
	m := install(t, officePool)

	// held makes a Service and says where its address is.
	held := func(t *testing.T, namespace string) (netip.Addr, *cluster.Node) {
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, namespace), "web"))
		addr := m.published(t, service)
		m.serves(t, addr)
		return addr, m.heldBy(t, addr, anyNode)
	}

	t.Run("cut off: the address moves, is served, and does not come back", func(t *testing.T) {
		addr, lost := held(t, "cut-off")
		require.NoError(t, lost.CutOff())
		var others []*cluster.Node
		for _, node := range m.Nodes {
			if node != lost {
				others = append(others, node)
			}
		}
		m.Eventually(t, "another node holds the address", func(context.Context) error {
			for _, node := range others {
				if holds, err := node.Holds("pl0", addr); err != nil || holds {
					return err
				}
			}
			return errNotMoved
		})
		m.serves(t, addr)
		require.NoError(t, lost.Restore())
		m.heldBy(t, addr, otherThan(lost.Name))
		m.serves(t, addr)
		m.Eventually(t, lost.Name+" is Ready again", func(ctx context.Context) error { return readyIs(ctx, m.Cluster, lost.Name, corev1.ConditionTrue) })
		m.heldBy(t, addr, otherThan(lost.Name))
	})

	t.Run("cut off while its Service is deleted: the Service goes, and another Service is served meanwhile", func(t *testing.T) {
		namespace := m.Namespace(t, "dead-holder")
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		lost := m.heldBy(t, addr, anyNode)
		require.NoError(t, lost.CutOff())
		m.remove(t, service)
		next := m.create(t, cluster.LoadBalancer(namespace, "next"))
		m.serves(t, m.published(t, next))
		require.NoError(t, lost.Restore())
		m.unbound(t, addr)
		m.Eventually(t, lost.Name+" is Ready again", func(ctx context.Context) error { return readyIs(ctx, m.Cluster, lost.Name, corev1.ConditionTrue) })
	})

	t.Run("cordoned: the address stays", func(t *testing.T) {
		addr, holder := held(t, "cordoned")
		unschedulable := func(value string) {
			_, err := m.Kube.CoreV1().Nodes().Patch(t.Context(), holder.Name, types.StrategicMergePatchType, []byte(`{"spec":{"unschedulable":`+value+`}}`), metav1.PatchOptions{})
			require.NoError(t, err)
		}
		unschedulable("true")
		defer unschedulable("false")
		m.Throughout(t, settle, "the address stays on "+holder.Name, func(context.Context) error {
			holds, err := holder.Holds("pl0", addr)
			if err == nil && !holds {
				err = errMoved
			}
			return err
		})
	})

	t.Run("excluded by label: the address moves", func(t *testing.T) {
		addr, holder := held(t, "excluded")
		label := func(value string) {
			patch := `{"metadata":{"labels":{"` + lb.LabelExcludeNode + `":` + value + `}}}`
			_, err := m.Kube.CoreV1().Nodes().Patch(t.Context(), holder.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
			require.NoError(t, err)
		}
		label(`"true"`)
		m.heldBy(t, addr, otherThan(holder.Name))
		m.serves(t, addr)
		label("null")
	})

	t.Run("its kubelet restarts and is not ready for some seconds: the address stays, and every request is answered", func(t *testing.T) {
		addr, holder := held(t, "kubelet-restart")
		stays := func(ctx context.Context) error {
			holds, err := holder.Holds("pl0", addr)
			if err == nil && !holds {
				err = errMoved
			}
			_, asked := m.Client.Get(ctx, netip.AddrPortFrom(addr, 80), "/")
			return errors.Join(err, asked)
		}
		require.NoError(t, holder.Kubelet.Stop())
		m.notReady(t, holder, "container runtime status check may not have completed yet")
		m.Throughout(t, settle, "the address stays on "+holder.Name, stays)
		require.NoError(t, holder.Kubelet.Start())
		m.Eventually(t, holder.Name+" is Ready again", func(ctx context.Context) error { return readyIs(ctx, m.Cluster, holder.Name, corev1.ConditionTrue) })
		m.Throughout(t, settle, "the address stays on "+holder.Name, stays)
	})

	t.Run("shut down gracefully: the address is elsewhere before the host is off", func(t *testing.T) {
		addr, holder := held(t, "shutdown")
		require.NoError(t, holder.Kubelet.Stop())
		m.notReady(t, holder, "node is shutting down")
		// A kubelet that were taken for one that restarts would have longer than this is waited for.
		m.heldBy(t, addr, otherThan(holder.Name))
		m.serves(t, addr)
		require.NoError(t, holder.Kubelet.Start())
		m.Eventually(t, holder.Name+" is Ready again", func(ctx context.Context) error { return readyIs(ctx, m.Cluster, holder.Name, corev1.ConditionTrue) })
		m.heldBy(t, addr, otherThan(holder.Name))
	})

	t.Run("deleted, and registered again under its name: the address moves, and the node serves again", func(t *testing.T) {
		addr, holder := held(t, "deleted-node")
		require.NoError(t, holder.Kubelet.Stop())
		require.NoError(t, m.DeleteNode(t.Context(), holder.Name))
		m.Eventually(t, "another node holds the address", func(context.Context) error {
			for _, node := range m.Nodes {
				if holds, err := node.Holds("pl0", addr); err != nil || holds && node != holder {
					return err
				}
			}
			return errNotMoved
		})
		require.NoError(t, holder.Kubelet.Start())
		m.Eventually(t, holder.Name+" is Ready", func(ctx context.Context) error { return readyIs(ctx, m.Cluster, holder.Name, corev1.ConditionTrue) })
		require.NoError(t, m.StartAgent(t.Context(), holder))
		require.NoError(t, m.AwaitAgent(t.Context(), holder))
		m.heldBy(t, addr, otherThan(holder.Name))
		m.serves(t, addr)
	})

	t.Run("policy Local: the address follows the endpoints, and stays when there is none", func(t *testing.T) {
		namespace := m.Namespace(t, "local")
		service := cluster.LoadBalancer(namespace, "web")
		service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		service = m.create(t, service, m.backends[1])
		addr := m.published(t, service)
		m.heldBy(t, addr, only("n2"))
		at := netip.AddrPortFrom(addr, 80)
		ask := func(ctx context.Context) (string, error) { return m.Client.Get(ctx, at, "/") }
		answered(t, m.Cluster, at, ask, "n2 "+m.Client.IPv4.String())

		require.NoError(t, m.Endpoints(t.Context(), service, m.backends[0]))
		m.heldBy(t, addr, only("n1"))
		answered(t, m.Cluster, at, ask, "n1 "+m.Client.IPv4.String())

		require.NoError(t, m.Endpoints(t.Context(), service))
		m.Throughout(t, settle, "the address stays on n1", func(context.Context) error {
			holds, err := m.Node("n1").Holds("pl0", addr)
			if err == nil && !holds {
				err = errMoved
			}
			return err
		})
	})
}

// notReady says of a Node what its kubelet, which is stopped, says in such a case: that it is not ready, and why. The
// container runtime of the tests gives a kubelet no reason to, and its host is not one that could be shut down.
func (m *moored) notReady(t *testing.T, node *cluster.Node, why string) {
	t.Helper()
	now := metav1.Now()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: why,
		LastHeartbeatTime: now, LastTransitionTime: now,
	}}}})
	require.NoError(t, err)
	_, err = m.Kube.CoreV1().Nodes().PatchStatus(t.Context(), node.Name, patch)
	require.NoError(t, err)
}
