package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// releasedNamespace is where the Services of a recorded release are.
const releasedNamespace = "released"

// releasedPools is a cloud-config of which the recorded Services use everything.
const releasedPools = `apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
initializeNodes: true
failover: {probeInterval: 300ms, failureThreshold: 3, evacuateCordoned: false}
resyncInterval: 10m
pools:
- name: office
  addresses: [10.90.0.30-10.90.0.49, 10.90.0.60, "fd00:90::1000/116"]
  exclude: [10.90.0.31]
  avoidBuggyIPs: true
  interface: pl0
- name: classed
  addresses: [10.90.0.64/28]
  interface: pl0
  uplink: eth0
  guard: false
  conflictDetection: "off"
  loadBalancerClass: example.com/released
  allowedNamespaces: [released]
`

// released is what a release left in a cluster that it ran in, as files of a directory.
type released struct{ dir string }

// The files. Beside them there is a directory of cloud-configs that were examples then.
const (
	releasedManifests = "manifests.yaml"
	releasedConfig    = "cloud-config.yaml"
	releasedObjects   = "objects.yaml"
	releasedHosts     = "hosts.yaml"
	releasedExamples  = "cloud-configs"
)

// releasedKinds are the kinds of the objects, in the order in which they are made.
var releasedKinds = []struct{ resource, namespace string }{
	{"nodes", ""}, {"services", releasedNamespace}, {"nodeaddresses", ""}, {"leases", metav1.NamespaceSystem},
}

var groupVersions = map[string]schema.GroupVersion{
	"nodes": corev1.SchemeGroupVersion, "services": corev1.SchemeGroupVersion, "nodeaddresses": v1alpha1.GroupVersion,
	"leases": {Group: "coordination.k8s.io", Version: "v1"},
}

func resourceOf(c dynamic.Interface, resource, namespace string) dynamic.ResourceInterface {
	all := c.Resource(groupVersions[resource].WithResource(resource))
	if namespace == "" {
		return all
	}
	return all.Namespace(namespace)
}

// releasedServices are those that a release is recorded with. All are served but the last.
func releasedServices() []*corev1.Service {
	named := func(name string) *corev1.Service { return cluster.LoadBalancer(releasedNamespace, name) }
	shared := func(name string, port int32) *corev1.Service {
		service := annotated(named(name), lb.AnnotationSharingKey, "front")
		service.Spec.Ports[0].Port = port
		return service
	}
	local := named("local")
	local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	return []*corev1.Service{
		named("plain"), cluster.DualStack(named("dual")), shared("shared-a", 80), shared("shared-b", 81), local,
		annotated(named("asking"), lb.AnnotationAddresses, "10.90.0.60"), ofClass(named("classed"), "example.com/released"),
		annotated(named("waiting"), lb.AnnotationAddresses, "192.0.2.1"),
	}
}

// backendsOf one of these Services.
func (m *moored) backendsOf(name string) []*cluster.Backend {
	if name == "local" {
		return m.backends[:1]
	}
	return m.backends
}

// recordRelease runs what is built here and stores what it leaves, for the test of the release after it.
func recordRelease(t *testing.T, r released) {
	root, err := cluster.Root()
	require.NoError(t, err)
	m := &moored{Cluster: start(t, cluster.Options{Manifests: "manifests/base"})}
	m.deploy(t, releasedPools)
	m.untainted(t)
	_, err = m.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: releasedNamespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, service := range releasedServices() {
		service = m.create(t, service, m.backendsOf(service.Name)...)
		if service.Name == "waiting" {
			m.bound(t, service, metav1.ConditionFalse, "192.0.2.1")
		} else {
			m.bound(t, service, metav1.ConditionTrue, "")
		}
	}
	m.quiet(t)

	manifests, err := m.Kubectl(t.Context(), "kustomize", root+"/manifests/overlays/bare-metal")
	require.NoError(t, err)
	r.write(t, releasedManifests, []byte(manifests))
	r.write(t, releasedConfig, []byte(releasedPools))
	examples, err := filepath.Glob(root + "/docs/examples/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, examples)
	for _, example := range examples {
		text, err := os.ReadFile(example)
		require.NoError(t, err)
		r.write(t, filepath.Join(releasedExamples, filepath.Base(example)), text)
	}
	hosts := map[string]cluster.Imprint{}
	for _, node := range m.Nodes {
		hosts[node.Name], err = node.Imprint(t.Context())
		require.NoError(t, err)
	}
	r.writeYAML(t, releasedHosts, hosts)
	client, err := dynamic.NewForConfig(m.Config)
	require.NoError(t, err)
	objects := map[string][]map[string]any{}
	for _, kind := range releasedKinds {
		list, err := resourceOf(client, kind.resource, kind.namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		for _, object := range list.Items {
			if kind.resource == "leases" && !strings.HasPrefix(object.GetName(), "mooring-") {
				continue
			}
			object.SetManagedFields(nil)
			object.SetResourceVersion("")
			if kind.resource == "nodes" {
				object.Object = ofNode(t, object.Object)
			}
			objects[kind.resource] = append(objects[kind.resource], object.Object)
		}
	}
	r.writeYAML(t, releasedObjects, objects)
}

// ofNode is what of a Node a cloud controller has written, and what it is recognized by.
func ofNode(t *testing.T, node map[string]any) map[string]any {
	t.Helper()
	kept := map[string]any{"apiVersion": "v1", "kind": "Node"}
	for _, path := range [][]string{
		{"metadata", "name"}, {"metadata", "uid"}, {"metadata", "labels"}, {"spec", "providerID"},
		{"status", "addresses"}, {"status", "nodeInfo", "bootID"},
	} {
		value, found, err := unstructured.NestedFieldNoCopy(node, path...)
		require.NoError(t, err)
		if found {
			require.NoError(t, unstructured.SetNestedField(kept, value, path...))
		}
	}
	return kept
}

func (r released) write(t *testing.T, name string, text []byte) {
	t.Helper()
	path := filepath.Join(r.dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, text, 0o644))
}

func (r released) writeYAML(t *testing.T, name string, value any) {
	t.Helper()
	text, err := yaml.Marshal(value)
	require.NoError(t, err)
	r.write(t, name, text)
}

func (r released) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	require.NoError(t, err)
	return string(text)
}

// restored is a cluster in the state in which a release left it: its controller and its agents have just been stopped.
type restored struct {
	*moored
	// services by name, as they were, and the addresses that answer on port 80.
	services map[string]*corev1.Service
	serving  []netip.Addr
}

// restore makes such a cluster. What the API server or the kernel of another cluster calls otherwise, UIDs and the like,
// is translated.
func restore(t *testing.T, r released) *restored {
	t.Helper()
	m := &restored{moored: &moored{Cluster: start(t, cluster.Options{})}, services: map[string]*corev1.Service{}}
	manifests, err := filepath.Abs(filepath.Join(r.dir, releasedManifests))
	require.NoError(t, err)
	_, err = m.Kubectl(t.Context(), "apply", "-f", manifests)
	require.NoError(t, err)
	require.NoError(t, m.Configure(r.read(t, releasedConfig)))
	_, err = m.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: releasedNamespace}}, metav1.CreateOptions{})
	require.NoError(t, err)

	names := translation{}
	var hosts map[string]cluster.Imprint
	require.NoError(t, yaml.Unmarshal([]byte(r.read(t, releasedHosts)), &hosts))
	for _, node := range m.Nodes {
		require.Contains(t, hosts, node.Name)
		mac, err := node.MAC("eth0")
		require.NoError(t, err)
		names[hosts[node.Name].HardwareAddress] = mac.String()
		require.NoError(t, node.Press(hosts[node.Name]))
		backend, err := node.StartBackend(t.Context())
		require.NoError(t, err)
		m.backends = append(m.backends, backend)
	}
	client, err := dynamic.NewForConfig(m.Config)
	require.NoError(t, err)
	for _, kind := range releasedKinds {
		// Not into our types: those of now may lack what was stored then.
		var objects map[string][]json.RawMessage
		require.NoError(t, yaml.Unmarshal([]byte(names.of(r.read(t, releasedObjects))), &objects))
		resource := resourceOf(client, kind.resource, kind.namespace)
		require.NotEmpty(t, objects[kind.resource])
		for _, content := range objects[kind.resource] {
			var object unstructured.Unstructured
			require.NoError(t, object.UnmarshalJSON(content))
			m.remake(t, resource, &object, names)
		}
	}
	for _, node := range m.Nodes {
		require.NoError(t, m.AwaitProxy(t.Context(), node))
	}
	list, err := m.Kube.CoreV1().Services(releasedNamespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	serving := map[netip.Addr]bool{}
	for _, service := range list.Items {
		m.services[service.Name] = &service
		require.NoError(t, m.Endpoints(t.Context(), &service, m.backendsOf(service.Name)...))
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			if service.Spec.Ports[0].Port == 80 {
				serving[netip.MustParseAddr(ingress.IP)] = true
			}
		}
	}
	m.serving = slices.SortedFunc(maps.Keys(serving), netip.Addr.Compare)
	for _, addr := range m.serving {
		m.serves(t, addr)
	}
	return m
}

// translation of what is called otherwise here.
type translation map[string]string

func (names translation) of(text string) string {
	var pairs []string
	for old, now := range names {
		pairs = append(pairs, old, now)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// remake makes an object with its status, or gives a Node what it has registered without, and notes its UID.
func (m *restored) remake(t *testing.T, resource dynamic.ResourceInterface, old *unstructured.Unstructured, names translation) {
	t.Helper()
	uid, generation := string(old.GetUID()), old.GetGeneration()
	old.SetUID("")
	if old.GetKind() == "Node" {
		m.initialize(t, resource, old, uid, names)
		return
	}
	now, err := resource.Create(t.Context(), old, metav1.CreateOptions{})
	require.NoError(t, err)
	names[uid] = string(now.GetUID())
	status, found, err := unstructured.NestedMap(old.Object, "status")
	require.NoError(t, err)
	if !found {
		return
	}
	observed, found, err := unstructured.NestedInt64(status, "observedGeneration")
	require.NoError(t, err)
	if found {
		status["observedGeneration"], status["objectUID"] = now.GetGeneration()-(generation-observed), string(now.GetUID())
	}
	now.Object["status"] = status
	_, err = resource.UpdateStatus(t.Context(), now, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// initialize gives a Node what a cloud controller had given it.
func (m *restored) initialize(t *testing.T, resource dynamic.ResourceInterface, old *unstructured.Unstructured, uid string, names translation) {
	t.Helper()
	bootID := func(of *unstructured.Unstructured) string {
		id, _, err := unstructured.NestedString(of.Object, "status", "nodeInfo", "bootID")
		require.NoError(t, err)
		return id
	}
	nodes := m.Kube.CoreV1().Nodes()
	m.Eventually(t, old.GetName()+" is initialized", func(ctx context.Context) error {
		now, err := resource.Get(ctx, old.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		names[uid], names[bootID(old)] = string(now.GetUID()), bootID(now)
		for _, path := range [][]string{{"spec", "providerID"}, {"metadata", "labels"}} {
			value, found, err := unstructured.NestedFieldCopy(old.Object, path...)
			if err != nil || !found {
				return err
			}
			if err := unstructured.SetNestedField(now.Object, value, path...); err != nil {
				return err
			}
		}
		unstructured.RemoveNestedField(now.Object, "spec", "taints")
		_, err = resource.Update(ctx, now, metav1.UpdateOptions{})
		return err
	})
	m.Eventually(t, old.GetName()+" has its addresses", func(ctx context.Context) error {
		now, err := nodes.Get(ctx, old.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		var then corev1.Node
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(old.Object, &then); err != nil {
			return err
		}
		now.Status.Addresses = then.Status.Addresses
		_, err = nodes.UpdateStatus(ctx, now, metav1.UpdateOptions{})
		return err
	})
}
