package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestHetznerTwins tells what two clusters of one name do to each other in one project of Hetzner's: nothing. Their
// Nodes are initialized by somebody else, as with hcloud-cloud-controller-manager.
func TestHetznerTwins(t *testing.T) {
	cloud, router := standIn(t)
	var elder []hetznertest.FloatingIP

	t.Run("the elder buys, its Nodes initialized by another cloud-controller-manager", func(t *testing.T) {
		h := twin(t, cloud, router, "n1")
		service := h.createIn(t, "shop", cluster.DualStack(cluster.LoadBalancer("shop", "web")))
		addrs := h.publishedAll(t, service, 2)
		h.answersFirst(t, addrs...)
		elder = cloud.FloatingIPs(ourProject)
		require.Len(t, elder, 2)
		for _, write := range ourWrites(t, h.Cluster, h.begin) {
			assert.NotEqual(t, "nodes", write.Resource, "%+v", write)
		}
	})

	t.Run("the younger", func(t *testing.T) {
		h := twin(t, cloud, router, "m1")
		since := h.lastCall()
		service := h.createIn(t, "shop", cluster.DualStack(cluster.LoadBalancer("shop", "web")))
		addrs := h.publishedAll(t, service, 2)
		h.answersFirst(t, addrs...)
		bought := h.boughtFor(service)
		require.Len(t, bought, 2)
		orphan := bought[0].Labels
		orphan[labelServiceUID], orphan[labelName] = "00000000-0000-0000-0000-000000000000", "forgotten"
		forgotten, err := cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Name: "forgotten", Labels: orphan})
		require.NoError(t, err)
		retained := maps.Clone(orphan)
		retained[labelReclaim] = "retain"
		wanted, err := cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Name: "retained", Labels: retained})
		require.NoError(t, err)
		foreign := maps.Clone(orphan)
		foreign[labelClusterUID] = elder[0].Labels[labelClusterUID]
		others, err := cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Name: "others", Labels: foreign})
		require.NoError(t, err)

		t.Run("what it bought and no Service has is reported and left", func(t *testing.T) {
			h.event(t, "shop", string(lb.ReasonOrphan), "orphans: release")
			h.Eventually(t, "one is counted", func(ctx context.Context) error { return h.counts(ctx, "mooring_floating_ips_orphaned{", "1") })
			h.Throughout(t, settle, "nothing is deleted", func(context.Context) error {
				if n := h.calls(operationToDelete, since); n != 0 {
					return fmt.Errorf("%d deletions were tried", n)
				}
				return nil
			})
		})

		t.Run("what it bought and no Service has is released, when that is asked for", func(t *testing.T) {
			h.reload(t, h.twinConfig("release"), taken)
			h.Eventually(t, "it is deleted", func(context.Context) error {
				if _, exists := h.floatingIP(forgotten.Prefix.Addr()); exists {
					return fmt.Errorf("it exists")
				}
				return nil
			})
			h.remove(t, service)
			assert.Empty(t, h.boughtFor(service))
			left := append(slices.Clone(elder), wanted, others)
			assert.Equal(t, left, cloud.FloatingIPs(ourProject), "what is the elder's, and what is retained, is as it was")
			for _, f := range left {
				for _, r := range cloud.Log() {
					assert.False(t, r.Seq > since && r.Class == hetznertest.Write && slices.Contains(r.IDs, f.ID), "nothing was tried with it: %+v", r)
				}
			}
		})
	})
}

// twin is a cluster of one Node that shares the project, with the name that it has in common with the other.
func twin(t *testing.T, cloud *hetznertest.Server, r *router, name string) *rented {
	t.Helper()
	h := rentAt(t, cloud, r, cluster.Options{Nodes: []cluster.NodeOptions{{Name: name}}})
	id := h.addServer(t, name)
	h.initialize(t, name, id)
	h.deploy(t, h.twinConfig("report"), clusterName)
	h.untainted(t)
	return h
}

func (h *rented) twinConfig(orphans string) string {
	keys := "initializeNodes: false\nresyncInterval: 2s\n" + strings.Replace(h.account(), "}", ", orphans: "+orphans+"}", 1)
	return h.cloudConfig(keys, "name: bought, hetzner: {ephemeral: {types: [ipv4, ipv6]}}")
}

// initialize does to a Node what hcloud-cloud-controller-manager does.
func (h *rented) initialize(t *testing.T, name string, server int64) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"providerID": fmt.Sprintf("hcloud://%d", server), "taints": nil}})
	require.NoError(t, err)
	_, err = h.Kube.CoreV1().Nodes().Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
}

// createIn creates the Service in a new namespace, both of which last as long as the cluster.
func (h *rented) createIn(t *testing.T, namespace string, service *corev1.Service) *corev1.Service {
	t.Helper()
	_, err := h.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return h.create(t, service)
}

// counts is nil when a metric of the controller has the value.
func (h *rented) counts(ctx context.Context, metric, value string) error {
	text, err := h.ControllerMetrics(ctx, 0)
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, metric) {
			if strings.HasSuffix(strings.TrimSpace(line), " "+value) {
				return nil
			}
			return fmt.Errorf("it is %q", line)
		}
	}
	return fmt.Errorf("there is no metric %s", metric)
}
