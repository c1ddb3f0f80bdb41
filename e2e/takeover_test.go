package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// inTurn runs a part of a test without which the parts after it mean nothing.
func inTurn(t *testing.T, name string, part func(t *testing.T)) {
	t.Helper()
	if !t.Run(name, part) {
		t.FailNow()
	}
}

// definition of a custom resource that takes whatever its owner writes, as YAML.
func definition(group, kind, plural, scope string) string {
	return fmt.Sprintf(`---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[3]s.%[1]s}
spec:
  group: %[1]s
  scope: %[4]s
  names: {kind: %[2]s, plural: %[3]s, singular: %[5]s}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources: {status: {}}
`, group, kind, plural, scope, strings.ToLower(kind))
}

// applies YAML as a user does.
func (m *moored) applies(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "objects.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	_, err := m.Kubectl(t.Context(), "apply", "--warnings-as-errors", "-f", path)
	require.NoError(t, err, text)
}

// kubectl runs as a user runs it, and returns what it prints.
func (m *moored) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cluster.Guard) // a deletion waits for finalizers
	defer cancel()
	out, err := m.Kubectl(ctx, args...)
	require.NoError(t, err)
	return out
}

// initialized takes the taint off the Nodes, as the cloud-controller-manager did that the cluster has had so far.
func (m *moored) initialized(t *testing.T) {
	t.Helper()
	for _, node := range m.Nodes {
		m.patchNode(t, node, `{"spec":{"taints":null}}`)
	}
}

// startBackends starts one on each node.
func (m *moored) startBackends(t *testing.T) {
	t.Helper()
	for _, node := range m.Nodes {
		backend, err := node.StartBackend(t.Context())
		require.NoError(t, err)
		m.backends = append(m.backends, backend)
	}
}

// comesOver takes the steps of the guides: the agents start and have nothing to do, kubectl mooring convert prints what
// there is, they are given it, and a controller starts. edit puts into the cloud-config what only this cluster knows.
func (m *moored) comesOver(t *testing.T, edit func(cloudConfig string) string, flags ...string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "converted")
	_, err := m.KubectlMooring(t.Context(), "convert", "--output-directory", dir)
	require.NoError(t, err)
	cloudConfig, err := os.ReadFile(filepath.Join(dir, "cloud-config.yaml"))
	require.NoError(t, err)
	require.NoError(t, m.Configure(edit(string(cloudConfig))))
	script, addresses := filepath.Join(dir, "annotate.sh"), filepath.Join(dir, "node-addresses.yaml")
	if exists(addresses) {
		for _, node := range m.Nodes {
			require.NoError(t, m.StartAgent(t.Context(), node))
			require.NoError(t, m.AwaitAgent(t.Context(), node))
		}
	}
	if exists(script) { // a second time, every Service has its annotations
		_, err := m.Script(t.Context(), script)
		require.NoError(t, err)
	}
	if exists(addresses) {
		m.kubectl(t, "create", "-f", addresses)
		m.Eventually(t, "the agents have what is on their nodes", func(ctx context.Context) error {
			list, err := m.NodeAddresses.List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, o := range list.Items {
				if o.Status.ObservedGeneration != o.Generation || len(o.Status.Failed) > 0 || int(o.Status.Bound) != len(o.Spec.Addresses) {
					return fmt.Errorf("%s says %+v of %+v", o.Name, o.Status, o.Spec)
				}
			}
			return nil
		})
	}

	if len(m.Controllers) == 0 {
		_, err := m.AddController(t.Context(), flags...)
		require.NoError(t, err)
	}
	require.NoError(t, m.Controllers[0].Start())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// workedOn waits until Mooring works on a Service: what it has said about it may be of an earlier time.
func (m *moored) workedOn(t *testing.T, service *corev1.Service) {
	t.Helper()
	m.Eventually(t, service.Name+" is Mooring's", func(ctx context.Context) error {
		current, err := m.Kube.CoreV1().Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
		if err == nil && len(current.Finalizers) == 0 {
			err = errors.New("it has no finalizer")
		}
		return err
	})
}

// stopMooring takes the steps of a guide that go back: controller and agents are removed, then what only they would take
// off the objects.
func (m *moored) stopMooring(t *testing.T, guide string) {
	t.Helper()
	require.NoError(t, m.Controllers[0].Stop())
	for _, node := range m.Nodes {
		if node.Agent != nil {
			require.NoError(t, node.Agent.Stop())
		}
	}
	m.does(t, guide, `patch service "$name" --type=merge --patch '{"metadata":{"finalizers":null}}'`)
}

// does what a guide says, in the block of commands that has these words.
func (m *moored) does(t *testing.T, guide, words string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "guides", guide))
	require.NoError(t, err)
	var blocks []string
	for _, rest := range strings.Split(string(text), "```sh\n")[1:] {
		if block, _, _ := strings.Cut(rest, "```"); strings.Contains(block, words) {
			blocks = append(blocks, block)
		}
	}
	require.Len(t, blocks, 1, "blocks of %s with %q", guide, words)
	path := filepath.Join(t.TempDir(), "block.sh")
	require.NoError(t, os.WriteFile(path, []byte("set -eu\n"+blocks[0]), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), cluster.Guard)
	defer cancel()
	_, err = m.Script(ctx, path)
	require.NoError(t, err)
}

// status of a custom resource, as its operator writes it.
func (m *moored) status(t *testing.T, kind, namespace, name, status string) {
	t.Helper()
	m.kubectl(t, "patch", kind, name, "--namespace", namespace, "--subresource=status", "--type=merge", "--patch", `{"status":`+status+`}`)
}

// forgotten waits until the API server knows no kind of a group any more.
func (m *moored) forgotten(t *testing.T, group string, plurals ...string) {
	t.Helper()
	for _, plural := range plurals {
		m.kubectl(t, "delete", "customresourcedefinition", plural+"."+group)
	}
	m.Eventually(t, group+" is gone", func(ctx context.Context) error {
		out, err := m.Kubectl(ctx, "get", "customresourcedefinitions", "-o", "name")
		if err == nil && strings.Contains(out, group) {
			err = errors.New(out)
		}
		return err
	})
}
