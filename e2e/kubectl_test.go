package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
)

// TestKubectlMooring looks at a cluster and empties a node as somebody who has the rights that the guide lists, and no
// others.
func TestKubectlMooring(t *testing.T) {
	m := install(t, officePool)
	_, err := m.Kube.CoreV1().ConfigMaps(cluster.Namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "mooring-cloud-config"}, Data: map[string]string{"cloud-config.yaml": officePool},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	rights := filepath.Join(t.TempDir(), "rights.yaml")
	require.NoError(t, os.WriteFile(rights, []byte(rightsOfGuide(t)), 0o600))
	_, err = m.Kubectl(t.Context(), "apply", "-f", rights)
	require.NoError(t, err)

	namespace := m.Namespace(t, "kubectl")
	service := m.create(t, cluster.LoadBalancer(namespace, "web"))
	addr := m.published(t, service)
	holder := m.heldBy(t, addr, anyNode)
	as := func(user string, args ...string) string {
		t.Helper()
		out, err := m.KubectlMooring(t.Context(), append([]string{"--as=" + user}, args...)...)
		require.NoError(t, err)
		t.Logf("kubectl mooring %s\n%s", strings.Join(args, " "), out)
		return out
	}

	t.Run("status shows pool, Service and node", func(t *testing.T) {
		lines := strings.Split(as("viewer", "status"), "\n")
		assert.Contains(t, fieldsOf(lines), []string{"office", "addresses", "IPv4", "160", "1", "159"})
		row := rowOf(t, lines, namespace+"/web")
		assert.Equal(t, []string{addr.String(), "office", holder.Name}, row[1:4])
		assert.Equal(t, "Bound", row[5])
		assert.Equal(t, []string{holder.Name, "1", "0", "0", "Ready"}, rowOf(t, lines, holder.Name)[:5])
	})

	t.Run("status says who leads, or since when nobody does", func(t *testing.T) {
		lease, err := m.Kube.CoordinationV1().Leases(metav1.NamespaceSystem).Get(t.Context(), "mooring-cloud-controller-manager", metav1.GetOptions{})
		require.NoError(t, err)
		lines := strings.Split(as("viewer", "status"), "\n")
		assert.Equal(t, []string{"LEADER", "SINCE", "RENEWED", "MESSAGE"}, strings.Fields(lines[0]), "it is what one wants to know first")
		assert.Len(t, rowOf(t, lines, *lease.Spec.HolderIdentity), 3, "since when, and that it is renewed: there is no more to say")

		require.NoError(t, m.Controllers[0].Kill())
		waiting := m.create(t, cluster.LoadBalancer(namespace, "waiting"))
		m.Eventually(t, "nobody leads", func(ctx context.Context) error {
			out, err := m.KubectlMooring(ctx, "--as=viewer", "status")
			if err == nil && !strings.Contains(out, "\nnobody ") {
				err = errors.New(out)
			}
			return err
		})
		assert.Equal(t, *lease.Spec.HolderIdentity, rowOf(t, strings.Split(as("viewer", "status"), "\n"), "nobody")[3], "it led last")
		assert.Contains(t, as("viewer", "explain", "service", waiting.Name, "-n", namespace), "Waits for\n  a controller that leads: none does since ")

		require.NoError(t, m.Controllers[0].Start())
		m.published(t, waiting)
		m.remove(t, waiting)
	})

	t.Run("status shows the rest to somebody who may not read the lease", func(t *testing.T) {
		require.NoError(t, m.Kube.RbacV1().RoleBindings(metav1.NamespaceSystem).Delete(t.Context(), "mooring:viewer", metav1.DeleteOptions{}))
		m.Eventually(t, "the right is gone", func(ctx context.Context) error {
			out, err := m.KubectlMooring(ctx, "--as=viewer", "status")
			if err == nil && !strings.HasPrefix(out, "POOL") {
				err = errors.New(out)
			}
			return err
		})
		assert.Equal(t, []string{addr.String(), "office", holder.Name}, rowOf(t, strings.Split(as("viewer", "status"), "\n"), namespace+"/web")[1:4])
	})

	t.Run("explain names the node that serves, and the others that may", func(t *testing.T) {
		out := as("viewer", "explain", "service", "web", "-n", namespace)
		assert.Contains(t, out, "office  serves it\n")
		assert.Contains(t, out, holder.Name+"  serves it\n")
		assert.Contains(t, out, "  may serve it\n")
		assert.Contains(t, out, "Waits for\n  nothing\n")
		assert.Contains(t, out, "AddressPublished: "+addr.String())
	})

	t.Run("evacuate moves the address, and undo lets the node carry addresses again", func(t *testing.T) {
		_, err := m.KubectlMooring(t.Context(), "--as=viewer", "evacuate", holder.Name)
		require.ErrorContains(t, err, "docs/guides/kubectl.md lists the rights", "who may look may not move anything")

		out := as("operator", "evacuate", holder.Name)
		assert.True(t, strings.HasSuffix(out, "node/"+holder.Name+" is empty\n"), out)
		m.heldBy(t, addr, otherThan(holder.Name))
		m.serves(t, addr)
		assert.Contains(t, as("viewer", "explain", "service", "web", "-n", namespace),
			holder.Name+"  excluded by label "+lb.LabelExcludeNode+"\n")

		as("operator", "evacuate", holder.Name, "--undo")
		node, err := m.Kube.CoreV1().Nodes().Get(t.Context(), holder.Name, metav1.GetOptions{})
		require.NoError(t, err)
		assert.NotContains(t, node.Labels, lb.LabelExcludeNode)
		for _, other := range m.Nodes {
			if other != holder {
				as("operator", "evacuate", other.Name)
			}
		}
		m.heldBy(t, addr, only(holder.Name))
		m.serves(t, addr)
	})
}

// rightsOfGuide are the objects that the guide has an administrator apply, for the users viewer and operator.
func rightsOfGuide(t *testing.T) string {
	t.Helper()
	root, err := cluster.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "docs", "guides", "kubectl.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "```yaml\n# rights\n")
	require.True(t, found, "the guide lists the rights")
	objects, _, _ := strings.Cut(rest, "```")
	return objects
}

func fieldsOf(lines []string) (rows [][]string) {
	for _, line := range lines {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

// rowOf is the line of a table that begins with a word.
func rowOf(t *testing.T, lines []string, first string) []string {
	t.Helper()
	for _, row := range fieldsOf(lines) {
		if len(row) > 0 && row[0] == first {
			return row
		}
	}
	require.Fail(t, "no line begins with "+first, strings.Join(lines, "\n"))
	return nil
}
