package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
)

// harbour is a cluster with a pool of each kind.
type harbour struct {
	*rented
	b *balanced
}

// removal of Mooring from a cluster.
type removal struct {
	*moored
	// bare is what was in the kernels of the nodes before any agent.
	bare map[string]cluster.Imprint
}

func newRemoval(t *testing.T, m *moored) *removal {
	t.Helper()
	r := &removal{m, map[string]cluster.Imprint{}}
	for _, node := range m.Nodes {
		imprint, err := node.Imprint(t.Context())
		require.NoError(t, err)
		r.bare[node.Name] = imprint
	}
	return r
}

// TestUninstall tells that Mooring goes without a trace when it is removed as docs/uninstalling.md says.
func TestUninstall(t *testing.T) {
	h := &harbour{rented: rent(t, cluster.Options{}, "n1", "n2", "n3")}
	r := newRemoval(t, h.moored)
	balancer := newBalancer(t)
	h.b = &balanced{moored: h.moored, loadBalancer: balancer, host: balancer.plugIn(t, h.Cluster)}
	kept, err := h.cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Prefix: netip.MustParsePrefix(keptAddress + "/32"), Labels: map[string]string{"of": "people"}})
	require.NoError(t, err)
	h.deploy(t, h.everyKind(), clusterName)
	h.untainted(t)
	services := h.serveAll(t, h.Namespace(t, "served"))

	// 1. One Service becomes one of another type, the others are deleted.
	h.b.setType(t, services[0], corev1.ServiceTypeClusterIP)
	h.b.unfinished(t, services[0])
	for _, service := range services[1:] {
		h.remove(t, service)
	}
	r.nodesAsBefore(t)
	r.stopController(t)
	r.releaseNodeAddresses(t)
	r.deleteManifests(t)
	r.deleteLeases(t)
	r.withoutATrace(t)
	assert.Equal(t, []hetznertest.FloatingIP{kept}, h.cloud.FloatingIPs(ourProject), "of what was bought nothing is left")
	files, err := h.b.updater.Files()
	require.NoError(t, err)
	assert.Empty(t, files)
}

// TestUninstallInWrongOrder has the manifests deleted while there are Services. What docs/uninstalling.md says then sets
// it right: to install Mooring again, or to clean up by hand.
func TestUninstallInWrongOrder(t *testing.T) {
	m := &moored{Cluster: start(t, cluster.Options{Manifests: "manifests/base"})}
	r := newRemoval(t, m)
	m.deploy(t, officePool)
	m.untainted(t)
	namespace := m.Namespace(t, "served")
	service := m.create(t, cluster.DualStack(cluster.LoadBalancer(namespace, "web")))
	addrs := m.publishedAll(t, service, 2)
	for _, addr := range addrs {
		m.serves(t, addr)
	}

	t.Run("what is served goes on", func(t *testing.T) {
		r.stopController(t)
		r.deleteManifests(t)
		m.answersFirst(t, addrs...)
		require.NoError(t, m.Kube.CoreV1().Services(namespace).Delete(t.Context(), service.Name, metav1.DeleteOptions{}))
		m.finalizers(t, service, "service.kubernetes.io/load-balancer-cleanup")
	})

	t.Run("installed again, Mooring lets go", func(t *testing.T) {
		r.applied(t)
		controller, err := m.AddController(t.Context())
		require.NoError(t, err)
		require.NoError(t, controller.Start())
		for _, node := range m.Nodes {
			require.NoError(t, m.StartAgent(t.Context(), node))
		}
		// The controller lets go of the old objects, and with the last of them their definition goes.
		_, err = m.Kubectl(t.Context(), "wait", "--for=delete", "--timeout=30s", "customresourcedefinition/nodeaddresses.mooring.dev")
		require.NoError(t, err)
		r.applied(t)
		m.gone(t, service)
		for _, addr := range addrs {
			m.unbound(t, addr)
		}
		next := m.create(t, cluster.LoadBalancer(namespace, "next"))
		m.serves(t, m.published(t, next))
	})

	t.Run("by hand", func(t *testing.T) {
		r.stopController(t)
		r.releaseNodeAddresses(t)
		r.deleteManifests(t)
		r.cleanNodes(t)
		_, err := m.Kubectl(t.Context(), "-n", namespace, "patch", "service", "next", "--type=merge", `--patch={"metadata":{"finalizers":null}}`)
		require.NoError(t, err)
		require.NoError(t, m.Kube.CoreV1().Services(namespace).Delete(t.Context(), "next", metav1.DeleteOptions{}))
		r.deleteLeases(t)
		r.withoutATrace(t)
	})
}

// applied waits until the manifests are taken, and what was being deleted is there anew.
func (r *removal) applied(t *testing.T) {
	t.Helper()
	r.Eventually(t, "the manifests are applied", func(ctx context.Context) error {
		if err := r.Apply(ctx, "manifests/base"); err != nil {
			return err
		}
		deleting, err := r.Kubectl(ctx, "get", "namespace/mooring-system", "--output=jsonpath={.metadata.deletionTimestamp}")
		if err == nil && deleting != "" {
			err = errors.New("the namespace is being deleted")
		}
		return err
	})
}

// everyKind is a cloud-config with a pool of each kind.
func (h *harbour) everyKind() string {
	return h.cloudConfig("resyncInterval: 3s\n"+h.account(),
		`name: office, addresses: [10.90.0.30-10.90.0.39, "fd00:90::1000/120"]`,
		"name: bought, autoAssign: false, hetzner: {ephemeral: {types: [ipv4, ipv6]}}",
		"name: kept, hetzner: {}, addresses: ["+keptAddress+"]",
	) + h.b.updaterPool("edge", "8100, high: 8119", h.b.hosted())
}

// serveAll creates a Service of each pool, and waits until all are served.
func (h *harbour) serveAll(t *testing.T, namespace string) []*corev1.Service {
	t.Helper()
	named := func(name string) *corev1.Service { return cluster.LoadBalancer(namespace, name) }
	vips := []*corev1.Service{
		h.create(t, cluster.DualStack(named("office"))),
		h.create(t, from(cluster.DualStack(named("bought")), "bought")),
		h.create(t, annotated(named("kept"), lb.AnnotationAddresses, keptAddress)),
	}
	for i, count := range []int{2, 2, 1} {
		for _, addr := range h.publishedAll(t, vips[i], count) {
			h.serves(t, addr)
		}
	}
	edge, _ := h.b.serve(t, named("edge"), "edge")
	return append(vips, edge)
}

// stopController is to scale the Deployment to zero.
func (r *removal) stopController(t *testing.T) {
	t.Helper()
	require.NoError(t, r.Controllers[len(r.Controllers)-1].Stop())
}

// releaseNodeAddresses takes the controller's finalizer off them.
func (r *removal) releaseNodeAddresses(t *testing.T) {
	t.Helper()
	for _, node := range r.Nodes {
		_, err := r.Kubectl(t.Context(), "patch", "nodeaddresses", node.Name, "--type=merge", `--patch={"metadata":{"finalizers":null}}`)
		require.NoError(t, err)
	}
}

// cleanNodes does by hand what agents have not done that are gone.
func (r *removal) cleanNodes(t *testing.T) {
	t.Helper()
	root, err := cluster.Root()
	require.NoError(t, err)
	for _, node := range r.Nodes {
		_, err := node.Run(t.Context(), filepath.Join(root, cluster.AgentBinary), "--release-all")
		require.NoError(t, err)
	}
}

// deleteManifests ends the agents and deletes what is applied.
func (r *removal) deleteManifests(t *testing.T) {
	t.Helper()
	for _, node := range r.Nodes {
		require.NoError(t, node.Agent.Stop())
	}
	root, err := cluster.Root()
	require.NoError(t, err)
	_, err = r.Kubectl(t.Context(), "delete", "--wait=false", "-k", root+"/manifests/base")
	require.NoError(t, err)
}

// deleteLeases deletes what the controller has made for itself.
func (r *removal) deleteLeases(t *testing.T) {
	t.Helper()
	_, err := r.Kubectl(t.Context(), "-n", "kube-system", "delete", "leases", "mooring-cloud-controller-manager", "mooring-epoch")
	require.NoError(t, err)
}

// nodesAsBefore waits until agents that have let go of everything have tidied up.
func (r *removal) nodesAsBefore(t *testing.T) {
	t.Helper()
	r.Eventually(t, "the agents leave nothing behind", func(ctx context.Context) error {
		for _, node := range r.Nodes {
			now, err := node.Imprint(ctx)
			if err != nil {
				return err
			}
			want := r.bare[node.Name]
			want.Sysctls, now.Sysctls = nil, nil // they stay
			if !reflect.DeepEqual(want, now) {
				return fmt.Errorf("%s has %v, and had %v", node.Name, now, want)
			}
		}
		return nil
	})
}

// withoutATrace sees that nothing of Mooring is left in the cluster but what docs/uninstalling.md names.
func (r *removal) withoutATrace(t *testing.T) {
	t.Helper()
	r.nodesAsBefore(t)
	r.Eventually(t, "no object of Mooring is left", func(ctx context.Context) error {
		left, err := r.traces(ctx)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("there are %v", left)
		}
		return err
	})
}

// unseen are kinds that may keep a word of Mooring, and those that show other objects a second time.
var unseen = []string{"events", "endpoints", "componentstatuses"}

// trace is how one is recognized, with what stands around it.
var trace = regexp.MustCompile(`.{0,60}mooring.{0,60}`)

// traces are the objects of any kind that are Mooring's or carry something of Mooring's, events aside.
func (r *removal) traces(ctx context.Context) ([]string, error) {
	lists, err := discovery.ServerPreferredResources(r.Kube.Discovery())
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(r.Config)
	if err != nil {
		return nil, err
	}
	var traces []string
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, kind := range list.APIResources {
			if !strings.Contains(strings.Join(kind.Verbs, " "), "list") || slices.Contains(unseen, kind.Name) {
				continue
			}
			objects, err := client.Resource(version.WithResource(kind.Name)).List(ctx, metav1.ListOptions{})
			if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", kind.Name, err)
			}
			for _, object := range objects.Items {
				object.SetManagedFields(nil)
				if kind.Name == "nodes" {
					continue // its provider ID is immutable
				}
				text, err := object.MarshalJSON()
				if err != nil {
					return nil, err
				}
				// What the test itself has made is labelled so.
				if found := trace.Find(bytes.ReplaceAll(text, []byte("mooring-e2e"), nil)); found != nil {
					traces = append(traces, fmt.Sprintf("%s %s/%s: ...%s...", kind.Name, object.GetNamespace(), object.GetName(), found))
				}
			}
		}
	}
	return traces, nil
}
