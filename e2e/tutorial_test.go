package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTutorialBareMetal follows the tutorial for addresses of one's own network to its end, where nothing is left.
func TestTutorialBareMetal(t *testing.T) {
	// The leader may run on the node that is lost. Its successor notices that before Kubernetes itself does, as anywhere.
	r := newReader(t, cluster.Options{
		Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}, NodeMonitorGracePeriod: 20 * time.Second,
	})
	web := netip.MustParseAddr("10.90.0.240")
	var unplugged *cluster.Node
	r.hands = map[string]func(t *testing.T){
		"pull the cable of the node that holds the address of web": func(t *testing.T) {
			holders, err := r.Holders("pl0", web)
			require.NoError(t, err)
			require.Len(t, holders, 1)
			unplugged = holders[0]
			require.NoError(t, unplugged.CutOff())
		},
		"plug the cable in again": func(t *testing.T) {
			require.NotNil(t, unplugged)
			require.NoError(t, unplugged.Restore())
		},
		"see that they have completed": r.released,
	}
	r.follow(t, "tutorials/bare-metal.md")
	r.withoutTrace(t)
}

// withoutTrace sees that nothing of Mooring is left in the cluster and on its nodes.
func (r *reader) withoutTrace(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	r.Eventually(t, "the namespace goes", func(ctx context.Context) error {
		_, err := r.Kube.CoreV1().Namespaces().Get(ctx, cluster.Namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is there"))
	})
	for _, kind := range []string{
		"customresourcedefinitions", "clusterroles", "clusterrolebindings", "validatingadmissionpolicies",
		"validatingadmissionpolicybindings", "flowschemas", "prioritylevelconfigurations", "leases", "configmaps",
		"rolebindings", "roles", "secrets", "serviceaccounts",
	} {
		names, err := r.Kubectl(ctx, "get", kind, "-A", "-o", "name")
		require.NoError(t, err)
		for name := range strings.Lines(names) {
			assert.NotContains(t, name, "mooring", "what is left")
		}
	}
	services, err := r.Kube.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, service := range services.Items {
		assert.NotEqual(t, corev1.ServiceTypeLoadBalancer, service.Spec.Type, service.Name)
		assert.Empty(t, service.Finalizers, service.Name)
	}
	nodes, err := r.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, node := range nodes.Items {
		assert.NotContains(t, fmt.Sprint(node.Labels, node.Annotations, node.Finalizers, node.Spec.Taints), "mooring", "of node %s", node.Name)
	}
	r.released(t)
}

// released waits until nothing of Mooring is left on any node.
func (r *reader) released(t *testing.T) {
	t.Helper()
	for _, node := range r.Nodes {
		r.Eventually(t, node.Name+" has nothing of Mooring", func(ctx context.Context) error {
			links, err := node.Run(ctx, "ip", "-brief", "link")
			if err != nil {
				return err
			}
			tables, err := node.Run(ctx, "nft", "list", "tables")
			if err == nil && strings.Contains(links+tables, "pl0") || strings.Contains(tables, "mooring") {
				err = fmt.Errorf("it has the interfaces\n%sand the tables\n%s", links, tables)
			}
			return err
		})
	}
}

// TestTutorialHetzner follows the tutorial for Hetzner Cloud to its end, where nothing is left, at Hetzner either.
func TestTutorialHetzner(t *testing.T) {
	cloud, router := standIn(t)
	r := newReader(t, cluster.Options{
		Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}, NodeMonitorGracePeriod: 20 * time.Second,
	})
	h := &rented{moored: &moored{Cluster: r.Cluster}, cloud: cloud, router: router}
	h.route(t)
	for _, node := range r.Nodes {
		h.addServer(t, node.Name)
	}
	endpoint := h.serve(t, netip.AddrPortFrom(cluster.ControlPlane4, 0))
	r.words = []string{
		"https://api.hetzner.cloud/v1", endpoint,
		"  tokenFile:", "  endpoint: " + endpoint + "\n  tokenFile:",
	}
	r.env = append(r.env, "HCLOUD_TOKEN="+secretOurs)
	var off *cluster.Node
	r.hands = map[string]func(t *testing.T){
		"switch off the server that holds the address of web": func(t *testing.T) {
			addresses, err := r.Published(t.Context(), metav1.NamespaceDefault, "web")
			require.NoError(t, err)
			holders, err := r.Holders("pl0", addresses[0])
			require.NoError(t, err)
			require.Len(t, holders, 1)
			off = holders[0]
			require.NoError(t, off.PowerOff())
		},
		"switch the server on again": func(t *testing.T) {
			require.NotNil(t, off)
			require.NoError(t, r.PowerOn(off))
		},
		"see that they have completed": r.released,
	}
	r.follow(t, "tutorials/hetzner.md")
	assert.Empty(t, cloud.FloatingIPs(ourProject), "Floating IPs that are left")
	r.withoutTrace(t)
}

// TestTutorialUpdater follows the tutorial for an external load balancer to its end, where nothing is left, there either.
func TestTutorialUpdater(t *testing.T) {
	nodes := []cluster.NodeOptions{{Name: "n1", OwnAddress: true}, {Name: "n2", OwnAddress: true}, {Name: "n3", OwnAddress: true}}
	r := newReader(t, cluster.Options{Nodes: nodes})
	l := newBalancer(t)
	l.plugIn(t, r.Cluster)
	r.hands = map[string]func(t *testing.T){
		"stop the updater":  func(*testing.T) { l.updater.Break(updatertest.Fault{NoEffect: true, Answer: updatertest.Cut}) },
		"start the updater": func(*testing.T) { l.updater.Break(updatertest.Fault{}) },
	}
	r.follow(t, "tutorials/updater.md")
	files, err := l.updater.Files()
	require.NoError(t, err)
	assert.Empty(t, files, "backends that are left")
	l.neverRefused(t)
	r.withoutTrace(t)
}
