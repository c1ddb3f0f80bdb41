package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// boughtAddresses tells the life of a Service whose address is bought with it.
func boughtAddresses(t *testing.T, h *rented) {
	for _, families := range []struct {
		name  string
		count int
		ask   func(*corev1.Service) *corev1.Service
	}{
		{"an IPv4 address", 1, func(s *corev1.Service) *corev1.Service { return s }},
		{"an address of each family", 2, cluster.DualStack},
	} {
		t.Run(families.name+" is bought, answers the moment it appears, and goes with its Service", func(t *testing.T) {
			purchases, releases := h.cloud.Purchases(ourProject), h.cloud.Releases(ourProject)
			namespace := h.Namespace(t, fmt.Sprintf("bought-%d", families.count))
			service := h.create(t, families.ask(cluster.LoadBalancer(namespace, "web")))
			addrs := h.publishedAll(t, service, families.count)
			h.answersFirst(t, addrs...)
			for _, addr := range addrs {
				holder := h.heldBy(t, addr, anyNode)
				f := h.mustHave(t, addr)
				assert.Equal(t, h.serverOf(holder.Name), f.Server, "%s is assigned to the server of the node that has it bound", addr)
				assert.Equal(t, "nbg1", f.Location, "where the server is")
				assert.Equal(t, string(service.UID), f.Labels[labelServiceUID])
				assert.Equal(t, "delete", f.Labels[labelReclaim])
				assert.Equal(t, "web", f.Labels["team"], "the pool's own label")
				if addr.Is6() {
					assert.Equal(t, f.Prefix.Masked().Addr().Next(), addr, "the first address of the network")
				}
			}
			h.bound(t, service, metav1.ConditionTrue, addrs[0].String()+" on ")
			assert.Equal(t, families.count, h.cloud.Purchases(ourProject)-purchases)
			for _, addr := range addrs {
				h.inForce(t, listing(namespace, "thief", corev1.ServiceTypeClusterIP, addr.String()))
			}

			h.remove(t, service)
			for _, addr := range addrs {
				h.Eventually(t, addr.String()+" is nobody's", func(ctx context.Context) error {
					return h.lists(ctx, listing(namespace, "other", corev1.ServiceTypeClusterIP, addr.String()))
				})
			}
			assert.Empty(t, h.boughtFor(service), "with its finalizer gone, nothing is left at Hetzner")
			assert.Equal(t, families.count, h.cloud.Releases(ourProject)-releases)
			for _, addr := range addrs {
				h.unbound(t, addr)
			}
		})
	}

	t.Run("the node of an address is lost: packets come through another server", func(t *testing.T) {
		service := h.create(t, cluster.DualStack(cluster.LoadBalancer(h.Namespace(t, "lost"), "web")))
		addrs := h.publishedAll(t, service, 2)
		lost := h.heldBy(t, addrs[0], anyNode)
		h.heldBy(t, addrs[1], anyNode)
		purchases := h.cloud.Purchases(ourProject)

		require.NoError(t, lost.CutOff())
		for _, addr := range addrs {
			h.at(t, addr, "is assigned to another server", func(f hetznertest.FloatingIP) bool {
				return f.Server != 0 && f.Server != h.serverOf(lost.Name)
			})
			// The backend on the lost node is the Service's still: kube-proxy sends it every third connection.
			require.NoError(t, h.Endpoints(t.Context(), service, h.backendsBut(lost)...))
			h.serves(t, addr)
		}
		h.publishes(t, service, addrs)
		require.NoError(t, lost.Restore())
		h.Eventually(t, lost.Name+" is Ready", func(ctx context.Context) error { return readyIs(ctx, h.Cluster, lost.Name, corev1.ConditionTrue) })
		for _, addr := range addrs {
			h.heldBy(t, addr, otherThan(lost.Name))
			assert.NotEqual(t, h.serverOf(lost.Name), h.mustHave(t, addr).Server, "it does not go back")
		}
		assert.Equal(t, purchases, h.cloud.Purchases(ourProject), "nothing is bought for it")
		h.untainted(t)
	})

	t.Run("a Service that is to retain its address says so at Hetzner at once, and its address outlives it", func(t *testing.T) {
		service := h.create(t, cluster.LoadBalancer(h.Namespace(t, "retained"), "web"))
		addr := h.published(t, service)
		h.edit(t, service, func(s *corev1.Service) { annotated(s, lb.AnnotationRetain, "true") })
		h.at(t, addr, "is labelled retain", func(f hetznertest.FloatingIP) bool { return f.Labels[labelReclaim] == "retain" })
		h.remove(t, service)
		f := h.mustHave(t, addr)
		assert.Zero(t, f.Server, "it is assigned to no server")
		h.event(t, service.Namespace, string(lb.ReasonRetained), addr.String())
		require.NoError(t, h.cloud.DeleteFloatingIP(f.ID))
	})

	t.Run("reclaimPolicy Retain and maxAddresses: the address is labelled at its purchase, and no second one is bought", func(t *testing.T) {
		namespace := h.Namespace(t, "policy")
		service := h.create(t, from(cluster.LoadBalancer(namespace, "web"), "small"))
		addr := h.published(t, service)
		assert.Equal(t, "retain", h.mustHave(t, addr).Labels[labelReclaim])
		purchases := h.cloud.Purchases(ourProject)
		second := h.create(t, from(cluster.LoadBalancer(namespace, "second"), "small"))
		h.refused(t, second, lb.ReasonPoolExhausted, `small`)
		assert.Equal(t, purchases, h.cloud.Purchases(ourProject))
		h.remove(t, second)
		h.remove(t, service)
		f := h.mustHave(t, addr)
		assert.Zero(t, f.Server)
		require.NoError(t, h.cloud.DeleteFloatingIP(f.ID))
	})

	t.Run("an address that somebody protected is kept, unassigned and labelled, and its Service goes", func(t *testing.T) {
		service := h.create(t, cluster.LoadBalancer(h.Namespace(t, "protected"), "web"))
		addr := h.published(t, service)
		require.NoError(t, h.cloud.Protect(h.mustHave(t, addr).ID, true))
		h.remove(t, service)
		f := h.mustHave(t, addr)
		assert.Zero(t, f.Server)
		assert.Equal(t, "retain", f.Labels[labelReclaim])
		h.event(t, service.Namespace, string(lb.ReasonProtected), addr.String())
		require.NoError(t, h.cloud.DeleteFloatingIP(f.ID))
	})

	t.Run("the API is down: a Service that is abandoned goes, and an event says what is left behind", func(t *testing.T) {
		service := h.create(t, cluster.LoadBalancer(h.Namespace(t, "abandoned"), "web"))
		addr := h.published(t, service)
		f := h.mustHave(t, addr)
		defer h.cloud.AddRule(hetznertest.Rule{Fault: hetznertest.Fault{Cut: true}})()
		require.NoError(t, h.Kube.CoreV1().Services(service.Namespace).Delete(t.Context(), service.Name, metav1.DeleteOptions{}))
		h.bound(t, service, metav1.ConditionFalse, string(lb.ReasonReleasing))
		h.edit(t, service, func(s *corev1.Service) { annotated(s, lb.AnnotationAbandon, "true") })
		h.gone(t, service)
		h.event(t, service.Namespace, "Abandoned", fmt.Sprintf("%s (pool bought), Floating IP %d", addr, f.ID))
		require.NoError(t, h.cloud.DeleteFloatingIP(f.ID))
	})
}

// backendsBut are the backends that are not on the node.
func (m *moored) backendsBut(node *cluster.Node) []*cluster.Backend {
	var others []*cluster.Backend
	for _, b := range m.backends {
		if b.Node != node {
			others = append(others, b)
		}
	}
	return others
}

// rentedNodes tells what Hetzner's servers are to the cluster.
func rentedNodes(t *testing.T, h *rented) {
	node := func(name string) *corev1.Node {
		node, err := h.Kube.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		return node
	}
	for _, name := range []string{"n1", "n2"} {
		t.Run(name+" is a server of the account, and its Node says which", func(t *testing.T) {
			server := node(name)
			assert.Equal(t, fmt.Sprintf("hcloud://%d", h.serverOf(name)), server.Spec.ProviderID)
			assert.Equal(t, "cx33", server.Labels[corev1.LabelInstanceTypeStable])
			assert.Equal(t, "nbg1", server.Labels[corev1.LabelTopologyRegion])
			assert.NotEmpty(t, server.Labels[corev1.LabelTopologyZone])
		})
	}

	t.Run("n3 is none: it is initialized all the same, carries what is its own, and nothing of Hetzner's", func(t *testing.T) {
		assert.Equal(t, "mooring://n3", node("n3").Spec.ProviderID)
		namespace := h.Namespace(t, "foreign-node")
		own := h.create(t, annotated(from(cluster.LoadBalancer(namespace, "own"), "office"), lb.AnnotationNodeSelector, "kubernetes.io/hostname=n3"))
		addr := h.published(t, own)
		h.heldBy(t, addr, only("n3"))
		h.serves(t, addr)
		purchases := h.cloud.Purchases(ourProject)
		rented := h.create(t, annotated(cluster.LoadBalancer(namespace, "rented"), lb.AnnotationNodeSelector, "kubernetes.io/hostname=n3"))
		h.refused(t, rented, lb.ReasonNoEligibleNode, "")
		assert.Equal(t, purchases, h.cloud.Purchases(ourProject), "nothing is bought that no node can carry")
	})

	t.Run("a server is renamed: nothing moves, not by a restart of the controller either", func(t *testing.T) {
		service := h.create(t, cluster.LoadBalancer(h.Namespace(t, "renamed"), "web"))
		addr := h.published(t, service)
		h.serves(t, addr)
		holder := h.heldBy(t, addr, anyNode)
		id := h.serverOf(holder.Name)
		require.NoError(t, h.cloud.RenameServer(id, "another"))
		before := h.entries(t)
		connected := h.connects(t, addr)
		since := h.lastCall()
		require.NoError(t, h.Controllers[0].Restart())
		h.Eventually(t, "the new controller has read the account", func(context.Context) error {
			if n := h.calls("GET /servers", since); n == 0 {
				return fmt.Errorf("it has not")
			}
			return nil
		})
		next := h.create(t, cluster.LoadBalancer(service.Namespace, "next"))
		h.serves(t, h.published(t, next))
		connected()
		h.remove(t, next)
		assert.Equal(t, before, h.entries(t))
		assert.Equal(t, id, h.mustHave(t, addr).Server)
		assert.Equal(t, fmt.Sprintf("hcloud://%d", id), node(holder.Name).Spec.ProviderID)
		require.NoError(t, h.cloud.RenameServer(id, holder.Name))
	})
}

// TestHetzner tells what users of Floating IPs see, with one cluster, two servers of which are Nodes; the third Node is
// a machine of somebody else.
func TestHetzner(t *testing.T) {
	h := rent(t, cluster.Options{}, "n1", "n2")
	h.cloud.AddProject(theirProject, secretTheirs)
	_, err := h.cloud.AddServer(theirProject, hetznertest.Machine{Name: "stranger", Private: []netip.Addr{h.Node("n3").IPv4}})
	require.NoError(t, err)
	h.token(t, "strange", secretTheirs)
	// A machine that is slow for 3 s would cost the controller its lease, and a start judges token files anew.
	h.deploy(t, h.harbour(keptAddress, foreignAddress, missingAddress), clusterName, "--leader-elect=false")
	h.untainted(t)
	told := h.listens(t)

	t.Run("nodes", func(t *testing.T) { rentedNodes(t, h) })
	t.Run("bought", func(t *testing.T) { boughtAddresses(t, h) })
	t.Run("kept", func(t *testing.T) { keptAddresses(t, h) })
	t.Run("tokens", func(t *testing.T) { tokens(t, h) })
	told(t)
}
