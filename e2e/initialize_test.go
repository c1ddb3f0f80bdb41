package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// accounts are Mooring's users at the API server: everything that it writes, it writes as one of them.
const accounts = "system:serviceaccount:" + cluster.Namespace + ":"

// ourWrites are Mooring's writes since the time, in the order in which they were answered.
func ourWrites(t *testing.T, c *cluster.Cluster, since time.Time) []cluster.Write {
	t.Helper()
	writes, err := c.Writes(since)
	require.NoError(t, err)
	var ours []cluster.Write
	for _, write := range writes {
		if strings.HasPrefix(write.User, accounts) {
			ours = append(ours, write)
		}
	}
	return ours
}

// TestInitializeNodes tells what becomes of Nodes that wait for a cloud controller, one of which does not know its
// own address (n3): nothing as long as another cloud controller is said to do it, and everything otherwise.
func TestInitializeNodes(t *testing.T) {
	begin := time.Now()
	c := start(t, cluster.Options{Manifests: "manifests/base"})
	require.NoError(t, c.Configure(officePool+"initializeNodes: false\n"))
	controller, err := c.AddController(t.Context())
	require.NoError(t, err)
	require.NoError(t, controller.Start())
	for _, node := range c.Nodes {
		require.NoError(t, c.StartAgent(t.Context(), node))
		require.NoError(t, c.AwaitAgent(t.Context(), node))
	}
	m := &moored{Cluster: c}
	backend, err := c.Node("n1").StartBackend(t.Context())
	require.NoError(t, err)

	t.Run("initializeNodes false: a Service is served, and no Node is written", func(t *testing.T) {
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, "left-alone"), "web"), backend)
		addr := m.published(t, service)
		m.heldBy(t, addr, anyNode)
		m.Throughout(t, settle, "every Node keeps its taint", func(ctx context.Context) error {
			for _, node := range c.Nodes {
				if err := initialized(ctx, c, node.Name); err == nil {
					return fmt.Errorf("node %s is initialized", node.Name)
				}
			}
			return nil
		})
		for _, write := range ourWrites(t, c, begin) {
			assert.NotEqual(t, "nodes", write.Resource, "%+v", write)
		}
	})

	require.NoError(t, controller.Stop())
	require.NoError(t, c.Configure(officePool))
	require.NoError(t, controller.Start())

	for _, want := range []struct{ name, ipv4, ipv6 string }{
		{"n1", "10.90.0.11", "fd00:90::11"}, {"n2", "10.90.0.12", "fd00:90::12"}, {"n3", "10.90.0.13", "fd00:90::13"},
	} {
		t.Run("initializeNodes true: "+want.name+" is initialized", func(t *testing.T) {
			c.Eventually(t, "its taint goes", func(ctx context.Context) error { return initialized(ctx, c, want.name) })
			node, err := c.Kube.CoreV1().Nodes().Get(t.Context(), want.name, metav1.GetOptions{})
			require.NoError(t, err)
			assert.Equal(t, "mooring://"+want.name, node.Spec.ProviderID)
			// They are written after the taint was taken off.
			c.Eventually(t, "its addresses are known", func(ctx context.Context) error {
				return addressed(ctx, c, want.name, []corev1.NodeAddress{
					{Type: corev1.NodeInternalIP, Address: want.ipv4},
					{Type: corev1.NodeInternalIP, Address: want.ipv6},
					{Type: corev1.NodeHostName, Address: want.name},
				})
			})
			c.Eventually(t, "it is Ready", func(ctx context.Context) error { return readyIs(ctx, c, want.name, corev1.ConditionTrue) })
		})
	}

	t.Run("a Node that registers again is initialized again, with what it had", func(t *testing.T) {
		before, err := c.Kube.CoreV1().Nodes().Get(t.Context(), "n3", metav1.GetOptions{})
		require.NoError(t, err)
		n3 := c.Node("n3")
		require.NoError(t, n3.Kubelet.Stop())
		require.NoError(t, c.DeleteNode(t.Context(), "n3"))
		require.NoError(t, n3.Kubelet.Start())
		c.Eventually(t, "n3 is another Node", func(ctx context.Context) error {
			node, err := c.Kube.CoreV1().Nodes().Get(ctx, "n3", metav1.GetOptions{})
			if err == nil && node.UID == before.UID {
				err = errors.New("it is the old one")
			}
			return err
		})
		// The agent's token was bound to the Node that is gone; a DaemonSet's new Pod brings another.
		require.NoError(t, c.StartAgent(t.Context(), n3))
		c.Eventually(t, "its taint goes", func(ctx context.Context) error { return initialized(ctx, c, "n3") })
		after, err := c.Kube.CoreV1().Nodes().Get(t.Context(), "n3", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, before.Spec.ProviderID, after.Spec.ProviderID)
		c.Eventually(t, "its addresses are known", func(ctx context.Context) error { return addressed(ctx, c, "n3", before.Status.Addresses) })
	})

	t.Run("labels of the old form that somebody sets on a Node count in the new form, too", func(t *testing.T) {
		label := []byte(`{"metadata":{"labels":{"failure-domain.beta.kubernetes.io/zone":"z1"}}}`)
		_, err := c.Kube.CoreV1().Nodes().Patch(t.Context(), "n1", types.MergePatchType, label, metav1.PatchOptions{})
		require.NoError(t, err)
		c.Eventually(t, "n1 is in the zone", func(ctx context.Context) error {
			node, err := c.Kube.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
			if err == nil && node.Labels[corev1.LabelTopologyZone] != "z1" {
				err = fmt.Errorf("its labels are %v", node.Labels)
			}
			return err
		})
	})

	t.Run("NodeAddresses of a Node that there is not, as a backup may bring them back, go", func(t *testing.T) {
		_, err := c.NodeAddresses.Create(t.Context(), &v1alpha1.NodeAddresses{ObjectMeta: metav1.ObjectMeta{Name: "ghost"}}, metav1.CreateOptions{})
		require.NoError(t, err)
		require.NoError(t, controller.Restart())
		c.Eventually(t, "they are gone", func(ctx context.Context) error {
			_, err := c.NodeAddresses.Get(ctx, "ghost", metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				return nil
			case err != nil:
				return err
			}
			return errors.New("they are there")
		})
	})

	t.Run("a node whose machine is gone keeps its Node", func(t *testing.T) {
		n2 := c.Node("n2")
		require.NoError(t, n2.CutOff())
		c.Eventually(t, "n2 is not Ready", func(ctx context.Context) error { return readyIs(ctx, c, "n2", corev1.ConditionUnknown) })
		// The controller that deletes Nodes of machines that are gone looks every 5 s.
		m.Throughout(t, 6*time.Second, "the Node stays", func(ctx context.Context) error {
			_, err := c.Kube.CoreV1().Nodes().Get(ctx, "n2", metav1.GetOptions{})
			return err
		})
		require.NoError(t, n2.Restore())
		for _, write := range ourWrites(t, c, begin) {
			assert.False(t, write.Resource == "nodes" && strings.HasPrefix(write.Verb, "delete"), "%+v", write)
		}
	})
}

// initialized is nil when the Node does not wait for a cloud controller.
func initialized(ctx context.Context, c *cluster.Cluster, name string) error {
	node, err := c.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == "node.cloudprovider.kubernetes.io/uninitialized" {
			return fmt.Errorf("node %s has the taint %s", name, taint.Key)
		}
	}
	return nil
}

// addressed is nil when the Node has exactly these addresses.
func addressed(ctx context.Context, c *cluster.Cluster, name string, want []corev1.NodeAddress) error {
	node, err := c.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err == nil && !slices.Equal(node.Status.Addresses, want) {
		err = fmt.Errorf("they are %v", node.Status.Addresses)
	}
	return err
}
