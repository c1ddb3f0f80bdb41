package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const exampleValues = "manifests/charts/mooring/examples/"

// TestInstallWithKubectl tells that what users copy is taken by an API server, which warns of nothing in it, and that the
// pods of it may be made: no admission of the cluster is in their way.
func TestInstallWithKubectl(t *testing.T) {
	c := start(t, cluster.Options{Nodes: []cluster.NodeOptions{{Name: "n1"}}})
	for _, row := range []struct {
		directory string
		agents    int
	}{
		{"manifests/overlays/updater", 0}, // before the others, because nothing takes their agents away again
		{"manifests/overlays/bare-metal", 1},
		{"manifests/overlays/hetzner", 1},
	} {
		t.Run(row.directory, func(t *testing.T) {
			require.NoError(t, c.Apply(t.Context(), row.directory))
			installed(t, c, row.agents)
		})
	}

	t.Run("a chart takes over what kubectl installed, and replaces no pod", func(t *testing.T) {
		templates := func() [2]corev1.PodTemplateSpec {
			deployment, err := c.Kube.AppsV1().Deployments(cluster.Namespace).Get(t.Context(), "mooring-cloud-controller-manager", metav1.GetOptions{})
			require.NoError(t, err)
			daemonSet, err := c.Kube.AppsV1().DaemonSets(cluster.Namespace).Get(t.Context(), "mooring-agent", metav1.GetOptions{})
			require.NoError(t, err)
			return [2]corev1.PodTemplateSpec{deployment.Spec.Template, daemonSet.Spec.Template}
		}
		before := templates()
		_, err := c.Helm(t.Context(), "install", "mooring", packaged(t, c), "--namespace="+cluster.Namespace, "--take-ownership", "--force-conflicts",
			"--values="+exampleValues+"hetzner.yaml", "--set=secrets.existingSecret=mooring-secrets")
		require.NoError(t, err)
		assert.Equal(t, before, templates())
		installed(t, c, 1)
	})
}

// TestInstallWithHelm tells the life of a release, in a namespace of the user's choice, and that its addresses outlive it.
func TestInstallWithHelm(t *testing.T) {
	const namespace = "load-balancing"
	m := &moored{Cluster: start(t, cluster.Options{Namespace: namespace, Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}}})}
	helm := func(command, chart, addresses string, flags ...string) (string, error) {
		return m.Helm(t.Context(), append([]string{
			command, "mooring", chart, "--namespace=" + namespace,
			"--values=" + exampleValues + "bare-metal.yaml", "--set=cloudConfig.pools[0].addresses[0]=" + addresses,
		}, flags...)...)
	}
	const label = "pod-security.kubernetes.io/enforce"
	cloudConfig := func(t *testing.T) string {
		t.Helper()
		configMap, err := m.Kube.CoreV1().ConfigMaps(namespace).Get(t.Context(), "mooring-cloud-config", metav1.GetOptions{})
		require.NoError(t, err)
		return configMap.Data["cloud-config.yaml"]
	}
	const first, second = "10.90.0.30-10.90.0.39", "10.90.0.30-10.90.0.49"
	web := m.Namespace(t, "web")
	var service *corev1.Service
	var addr netip.Addr

	t.Run("of a namespace that is not labelled it says what is missing", func(t *testing.T) {
		notes, err := helm("install", packaged(t, m.Cluster), first, "--create-namespace", "--dry-run=server")
		require.NoError(t, err)
		assert.Contains(t, notes, "kubectl label namespace "+namespace+" "+label+"=privileged")
	})

	t.Run("a namespace that would keep the pods out is refused", func(t *testing.T) {
		level := func(level string) {
			_, err := m.Kubectl(t.Context(), "label", "--overwrite", "namespace", namespace, label+"="+level)
			require.NoError(t, err)
		}
		_, err := m.Kubectl(t.Context(), "create", "namespace", namespace)
		require.NoError(t, err)
		level("restricted")
		_, err = helm("install", packaged(t, m.Cluster), first)
		require.ErrorContains(t, err, "namespace "+namespace+" has the Pod Security level restricted")
		require.ErrorContains(t, err, "kubectl label --overwrite namespace "+namespace+" "+label+"=privileged")
		_, err = m.Kube.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "mooring-agent", metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "nothing is installed: %v", err)
		level("privileged")
	})

	t.Run("what is installed serves a Service", func(t *testing.T) {
		notes, err := helm("install", older(t, m.Cluster), first)
		require.NoError(t, err)
		assert.NotContains(t, notes, "kubectl label")
		installed(t, m.Cluster, 2)
		m.deploy(t, cloudConfig(t))
		service = m.create(t, cluster.LoadBalancer(web, "web"))
		addr = m.published(t, service)
		m.serves(t, addr)
	})

	t.Run("an upgrade brings a cloud-config, and the definition of NodeAddresses", func(t *testing.T) {
		shortNames := func() string {
			out, err := m.Kubectl(t.Context(), "get", "crd", "nodeaddresses.mooring.dev", "--output=jsonpath={.spec.names.shortNames}")
			require.NoError(t, err)
			return out
		}
		require.Empty(t, shortNames(), "of the older chart")
		_, err := helm("upgrade", packaged(t, m.Cluster), second)
		require.NoError(t, err)
		assert.Equal(t, `["na"]`, shortNames())
		require.NoError(t, m.Configure(cloudConfig(t)))
		wide := cluster.LoadBalancer(web, "wide")
		wide.Annotations = map[string]string{lb.AnnotationAddresses: "10.90.0.49"}
		wide = m.create(t, wide)
		assert.Equal(t, netip.MustParseAddr("10.90.0.49"), m.published(t, wide))
		m.remove(t, wide)
		assert.Equal(t, addr, m.published(t, service))
	})

	t.Run("uninstalled, it leaves the NodeAddresses, and the address answers", func(t *testing.T) {
		_, err := m.Helm(t.Context(), "uninstall", "mooring", "--namespace="+namespace)
		require.NoError(t, err)
		require.NoError(t, m.Controllers[0].Stop())
		for _, node := range m.Nodes {
			require.NoError(t, node.Agent.Stop())
		}
		list, err := m.NodeAddresses.List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		assert.Len(t, list.Items, len(m.Nodes))
		for _, item := range list.Items {
			assert.Nil(t, item.DeletionTimestamp, item.Name)
		}
		m.serves(t, addr)
		_, err = m.Kube.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "mooring-agent", metav1.GetOptions{})
		assert.True(t, apierrors.IsNotFound(err), "the rights are gone: %v", err)
	})

	t.Run("installed again, it goes on with what is there", func(t *testing.T) {
		_, err := helm("install", packaged(t, m.Cluster), second)
		require.NoError(t, err)
		controller, err := m.AddController(t.Context())
		require.NoError(t, err)
		require.NoError(t, controller.Start())
		for _, node := range m.Nodes {
			require.NoError(t, m.StartAgent(t.Context(), node))
		}
		next := m.create(t, cluster.LoadBalancer(web, "next"))
		m.serves(t, m.published(t, next))
		assert.Equal(t, addr, m.published(t, service))
		m.serves(t, addr)
	})
}

// installed waits until there are two pods of the controller, and as many of the agent.
func installed(t *testing.T, c *cluster.Cluster, agents int) {
	t.Helper()
	for component, want := range map[string]int{"cloud-controller-manager": 2, "agent": agents} {
		c.Eventually(t, fmt.Sprintf("there are %d pods of the %s", want, component), func(ctx context.Context) error {
			pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
				LabelSelector: "app.kubernetes.io/name=mooring,app.kubernetes.io/component=" + component,
			})
			if err == nil && len(pods.Items) != want {
				err = fmt.Errorf("there are %d", len(pods.Items))
			}
			return err
		})
	}
	c.Eventually(t, "the budget knows both controllers", func(ctx context.Context) error {
		budgets, err := c.Kube.PolicyV1().PodDisruptionBudgets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		if err == nil && (len(budgets.Items) != 1 || budgets.Items[0].Status.ExpectedPods != 2) {
			err = fmt.Errorf("the budgets are %+v", budgets.Items)
		}
		return err
	})
}

// packaged is the chart as it is published.
func packaged(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	return changed(t, c, func(crd []byte) []byte { return crd })
}

// older is a chart whose NodeAddresses have no short name.
func older(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	return changed(t, c, func(crd []byte) []byte {
		shortNames := []byte("    shortNames:\n    - na\n")
		require.Contains(t, string(crd), string(shortNames))
		return bytes.Replace(crd, shortNames, nil, 1)
	})
}

// changed is a package of the chart with another CustomResourceDefinition.
func changed(t *testing.T, c *cluster.Cluster, change func([]byte) []byte) string {
	t.Helper()
	root, err := cluster.Root()
	require.NoError(t, err)
	manifests, directory := filepath.Join(root, "manifests"), t.TempDir()
	chart := filepath.Join(directory, "mooring")
	base := filepath.Join(chart, "base")
	require.NoError(t, os.CopyFS(chart, os.DirFS(filepath.Join(manifests, "charts", "mooring"))))
	// helm says so of each link that it follows, as of what it warns.
	require.NoError(t, os.Remove(base))
	require.NoError(t, os.CopyFS(base, os.DirFS(filepath.Join(manifests, "base"))))
	crd := filepath.Join(base, "crd", "mooring.dev_nodeaddresses.yaml")
	text, err := os.ReadFile(crd)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(crd, change(text), 0o600))
	_, err = c.Helm(t.Context(), "package", chart, "--destination="+directory)
	require.NoError(t, err)
	return filepath.Join(directory, "mooring-0.0.0.tgz")
}
