package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// untainted waits until every node may carry addresses: one that has just been started is tainted for some seconds.
func (m *moored) untainted(t *testing.T) {
	t.Helper()
	for _, node := range m.Nodes {
		m.Eventually(t, node.Name+" has no taints", func(ctx context.Context) error {
			object, err := m.Kube.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
			if err == nil && len(object.Spec.Taints) > 0 {
				err = fmt.Errorf("they are %v", object.Spec.Taints)
			}
			return err
		})
	}
}

// TestWrites tells what Services cost the API server, and that they cost nothing once they are served.
func TestWrites(t *testing.T) {
	m := install(t, officePool)
	namespace := m.Namespace(t, "writes")
	const count = 50
	var services []*corev1.Service

	t.Run("creation", func(t *testing.T) {
		m.untainted(t) // before, every Service waits for a node, and says so
		m.quiet(t)
		begin := time.Now()
		for i := range count {
			services = append(services, m.create(t, cluster.LoadBalancer(namespace, fmt.Sprintf("web-%d", i))))
		}
		for _, service := range services {
			m.published(t, service)
		}
		m.quiet(t)
		writes := counted(t, ourWrites(t, m.Cluster, begin))
		// The service controller's finalizer, and publish; one more when a wait lasted.
		assert.LessOrEqual(t, writes["patch services/status"], count)
		assert.LessOrEqual(t, writes["update services/status"], 2*count)
		// A decision and an acknowledgement for each, fewer where several go together.
		assert.LessOrEqual(t, writes["patch nodeaddresses"], count+len(m.Nodes))
		assert.LessOrEqual(t, writes["patch nodeaddresses/status"], 2*count)
		assert.LessOrEqual(t, writes["create events"]+writes["patch events"], 4*count)
		for what := range writes {
			assert.Contains(t, []string{
				"patch services/status", "update services/status", "patch nodeaddresses", "patch nodeaddresses/status",
				"create events", "patch events", "update leases",
			}, what, "of %v", writes)
		}
	})

	t.Run("nothing is written while nothing happens", func(t *testing.T) {
		addr := m.published(t, services[0])
		begin := time.Now()
		m.Throughout(t, 5*time.Second, "it is served", func(ctx context.Context) error { return m.answersAtOnce(ctx, addr) })
		writes := counted(t, ourWrites(t, m.Cluster, begin))
		delete(writes, "update leases")
		assert.Empty(t, writes)
	})

	t.Run("a restarted controller writes nothing that is written already", func(t *testing.T) {
		begin := time.Now()
		require.NoError(t, m.Controllers[0].Restart())
		next := m.create(t, cluster.LoadBalancer(namespace, "next"))
		m.published(t, next)
		m.quiet(t)
		writes := counted(t, ourWrites(t, m.Cluster, begin))
		assert.LessOrEqual(t, writes["update services/status"]+writes["patch services/status"], 3, "for the new Service alone")
		// The new Service's entry, and at most a new term for the others.
		assert.LessOrEqual(t, writes["patch nodeaddresses"], len(m.Nodes)+1)
		m.remove(t, next)
	})

	t.Run("deletion", func(t *testing.T) {
		m.quiet(t)
		begin := time.Now()
		for _, service := range services {
			require.NoError(t, m.Kube.CoreV1().Services(namespace).Delete(t.Context(), service.Name, metav1.DeleteOptions{}))
		}
		for _, service := range services {
			m.gone(t, service)
		}
		m.quiet(t)
		writes := counted(t, ourWrites(t, m.Cluster, begin))
		assert.LessOrEqual(t, writes["patch services/status"], count, "finalizers are removed, once each")
		assert.Zero(t, writes["update services/status"], "nothing is published")
		// Release, and the entry's removal.
		assert.LessOrEqual(t, writes["patch nodeaddresses"], 2*count+len(m.Nodes))
		assert.LessOrEqual(t, writes["patch nodeaddresses/status"], 2*count)
		for _, object := range m.objects(t) {
			assert.Empty(t, object.Spec.Addresses, "of %s", object.Name)
		}
	})
}

// quiet waits until Mooring has written nothing for two seconds, renewed leases aside.
func (m *moored) quiet(t *testing.T) {
	t.Helper()
	m.Eventually(t, "nothing is written any more", func(context.Context) error {
		var last []cluster.Write
		for _, write := range ourWrites(t, m.Cluster, time.Now().Add(-2*time.Second)) {
			if write.Resource != "leases" {
				last = append(last, write)
			}
		}
		if len(last) > 0 {
			return fmt.Errorf("%+v was", last[len(last)-1])
		}
		return nil
	})
}

// counted are the writes that succeeded, by verb and resource, and logs all of them with their users.
func counted(t *testing.T, writes []cluster.Write) map[string]int {
	t.Helper()
	byKind, table := map[string]int{}, map[string]int{}
	for _, write := range writes {
		kind := strings.TrimSuffix(write.Verb+" "+write.Resource+"/"+write.Subresource, "/")
		if write.Code < 300 {
			byKind[kind]++
		}
		table[fmt.Sprintf("%-32s %-28s %d", strings.TrimPrefix(write.User, accounts), kind, write.Code)]++
	}
	for _, line := range slices.Sorted(maps.Keys(table)) {
		t.Logf("%5d  %s", table[line], line)
	}
	return byKind
}
