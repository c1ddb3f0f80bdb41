package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// TestUpgrade tells what users notice of an upgrade from the last release, whose manifests, configuration, objects and
// addresses on the nodes are stored: nothing. With RECORD=<directory> it stores those of what is built here instead, as
// make release has it do.
func TestUpgrade(t *testing.T) {
	if dir := os.Getenv("RECORD"); dir != "" {
		recordRelease(t, released{dir})
		return
	}
	releases, err := filepath.Glob("testdata/releases/v*")
	require.NoError(t, err)
	require.Len(t, releases, 1)
	before := released{releases[0]}
	begin := time.Now()
	m := restore(t, before)
	was := m.placed(t, anyNode, m.serving...)
	m.onTheirNodes(t, was)
	unbroken := m.uninterrupted(t, m.serving...)
	open := keptAlive(t, m.Client.HTTPClient(true), m.serving[0])

	// docs/upgrading.md, "Upgrade": one kubectl apply, and then both workloads are rolled out at once.
	m.applyOurs(t)
	controller, err := m.AddController(t.Context())
	require.NoError(t, err)
	require.NoError(t, m.StartAgent(t.Context(), m.Nodes[0]))
	require.NoError(t, controller.Start())
	for _, node := range m.Nodes[1:] {
		require.NoError(t, m.StartAgent(t.Context(), node))
	}
	for _, node := range m.Nodes {
		require.NoError(t, m.AwaitAgent(t.Context(), node))
		m.recovered(t, node)
	}

	t.Run("what was there is as it was", func(t *testing.T) {
		// That the new controller leads shows in what it does.
		fresh := m.create(t, cluster.LoadBalancer(m.Namespace(t, "fresh"), "web"))
		addr := m.published(t, fresh)
		assert.NotContains(t, m.serving, addr, "no address is given twice")
		m.serves(t, addr)
		m.remove(t, fresh)

		for name, then := range m.services {
			now := m.created(t, releasedNamespace, name)
			assert.Equal(t, then.Status.LoadBalancer, now.Status.LoadBalancer, name)
			assert.Equal(t, then.Finalizers, now.Finalizers, name)
			for _, kind := range []string{lb.ConditionBound, lb.ConditionDegraded} {
				assert.Equal(t, stateOf(then, kind), stateOf(now, kind), "%s of %s", kind, name)
			}
		}
		m.onTheirNodes(t, was)
		for addr, node := range m.placed(t, anyNode, m.serving...) {
			assert.Equal(t, was[addr].Name, node.Name, "the node that is to hold %s", addr)
		}
		require.NoError(t, open(), "the open connection")
	})
	unbroken() // a move may cut what is in flight

	t.Run("it moves", func(t *testing.T) {
		addr := netip.MustParseAddr(m.services["asking"].Status.LoadBalancer.Ingress[0].IP)
		m.exclude(t, was[addr], true)
		m.heldBy(t, addr, otherThan(was[addr].Name))
		m.exclude(t, was[addr], false)
	})

	t.Run("it is let go", func(t *testing.T) {
		for name, service := range m.services {
			m.remove(t, service)
			for _, ingress := range service.Status.LoadBalancer.Ingress {
				if !strings.HasPrefix(name, "shared-") {
					m.unbound(t, netip.MustParseAddr(ingress.IP))
				}
			}
		}
		for _, node := range m.Nodes {
			m.Eventually(t, "nothing is left on "+node.Name, func(ctx context.Context) error {
				imprint, err := node.Imprint(ctx)
				if err == nil && len(imprint.Entries) > 0 {
					err = fmt.Errorf("there are %+v", imprint.Entries)
				}
				return err
			})
		}
	})

	t.Run("a Service is served with the definition of NodeAddresses of then", func(t *testing.T) {
		definition := filepath.Join(t.TempDir(), "definition.yaml")
		for text := range strings.SplitSeq(before.read(t, releasedManifests), "\n---\n") {
			if strings.Contains(text, "kind: CustomResourceDefinition\n") {
				require.NoError(t, os.WriteFile(definition, []byte(text), 0o600))
			}
		}
		_, err := m.Kubectl(t.Context(), "apply", "-f", definition)
		require.NoError(t, err)
		service := m.create(t, cluster.DualStack(cluster.LoadBalancer(m.Namespace(t, "back"), "web")))
		for _, addr := range m.publishedAll(t, service, 2) {
			m.serves(t, addr)
		}
		m.applyOurs(t)
		m.remove(t, service)
	})

	t.Run("cloud-configs that were examples then are valid", func(t *testing.T) {
		examples, err := filepath.Glob(filepath.Join(before.dir, releasedExamples, "*.yaml"))
		require.NoError(t, err)
		require.NotEmpty(t, examples)
		for _, example := range examples {
			_, err := m.KubectlMooring(t.Context(), "validate", "-f", example)
			require.NoError(t, err)
		}
	})

	t.Run("everybody says which version it is", func(t *testing.T) {
		text, err := m.KubectlMooring(t.Context(), "version")
		require.NoError(t, err)
		version := strings.Fields(text)[2]
		metrics, err := m.ControllerMetrics(t.Context(), 0)
		require.NoError(t, err)
		assert.Regexp(t, `kubernetes_build_info\{.*git_version="v0\.0\.0-mooring\.`+version+`"`, metrics)
		metrics, err = m.Nodes[0].Get(t.Context(), netip.AddrPortFrom(m.Nodes[0].IPv4, cluster.AgentHealthPort), "/metrics")
		require.NoError(t, err)
		assert.Regexp(t, `kubernetes_build_info\{.*git_version="v0\.0\.0-mooring\.`+version+`"`, metrics)
		short, _, _ := strings.Cut(version, "-")
		for _, write := range ourWrites(t, m.Cluster, begin) {
			assert.Contains(t, write.UserAgent, "/"+short, "%+v", write)
		}
	})
}

// applyOurs installs what is built here as a user does.
func (m *restored) applyOurs(t *testing.T) {
	t.Helper()
	root, err := cluster.Root()
	require.NoError(t, err)
	_, err = m.Kubectl(t.Context(), "apply", "-k", root+"/manifests/overlays/bare-metal")
	require.NoError(t, err)
}

// onTheirNodes sees that each address is on the interface of its node and of no other.
func (m *restored) onTheirNodes(t *testing.T, want map[netip.Addr]*cluster.Node) {
	t.Helper()
	for addr, node := range want {
		holders, err := m.Holders("pl0", addr)
		require.NoError(t, err)
		var names []string
		for _, holder := range holders {
			names = append(names, holder.Name)
		}
		assert.Equal(t, []string{node.Name}, names, "%s", addr)
	}
}

// stateOf a condition: its status, its reason and since when, but not its words, which a release may change.
func stateOf(service *corev1.Service, kind string) string {
	for _, condition := range service.Status.Conditions {
		if condition.Type == kind {
			return fmt.Sprint(condition.Status, " ", condition.Reason, " ", condition.LastTransitionTime.UTC().Format(time.RFC3339))
		}
	}
	return ""
}
