package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestUpdaterTwins tells what two clusters on default flags do to each other at one load balancer, with Services of the
// same names and ranges of ports that are apart: nothing. Neither has an agent on any node: an updater pool needs none.
func TestUpdaterTwins(t *testing.T) {
	l := newBalancer(t)
	var elder map[string]string
	var eldersPort uint16

	t.Run("the elder", func(t *testing.T) {
		b := l.twin(t)
		b.withoutAgents(t, cloudConfigOf("10m", b.updaterPool("edge", "8100, high: 8109", b.hosted())))
		// No connection through another node depends on the one that is lost.
		service, at := b.serve(t, cluster.LoadBalancer(b.namespace(t, "shop"), "web"), "edge", b.backends[0])
		b.bound(t, service, metav1.ConditionTrue, "2 targets")
		eldersPort = at

		t.Run("its targets follow the Ready condition, without any agent", func(t *testing.T) {
			nodePort := b.nodePort(t, service, 0)
			b.targets(t, at, nodePort, "n1", "n2")
			require.NoError(t, b.Node("n2").CutOff())
			b.targets(t, at, nodePort, "n1")
			b.passesAtOnce(t, at)
			require.NoError(t, b.Node("n2").Restore())
			b.targets(t, at, nodePort, "n1", "n2")
		})
		var err error
		elder, err = l.updater.Files()
		require.NoError(t, err)
		require.Len(t, elder, 1)
	})

	t.Run("the younger", func(t *testing.T) {
		b := l.twin(t)
		begin := time.Now()
		b.withoutAgents(t, cloudConfigOf("10m", b.updaterPool("edge", "8110, high: 8119", b.hosted())))
		namespace := b.namespace(t, "shop")
		_, at := b.serve(t, cluster.LoadBalancer(namespace, "web"), "edge")
		assert.NotEqual(t, eldersPort, at)
		next, freed := b.serve(t, cluster.LoadBalancer(namespace, "next"), "edge")
		b.remove(t, next)
		b.closed(t, freed)
		// A new controller clears what nobody uses, in its own range and under its own names.
		require.NoError(t, b.Controllers[0].Stop())
		restarted := time.Now()
		require.NoError(t, b.Controllers[0].Start())
		b.swept(t, 8119, restarted)
		b.passesAtOnce(t, at)

		files, err := l.updater.Files()
		require.NoError(t, err)
		delete(files, b.backend(at, corev1.ProtocolTCP))
		assert.Equal(t, elder, files, "what is the elder's is as it was")
		for _, call := range l.updater.Calls() {
			if !call.At.Before(begin) {
				assert.True(t, strings.HasPrefix(call.Request.BackendName, b.prefix), "nothing else was spoken of: %s", call.Body)
			}
		}
		served := maps.Clone(l.updater.Served())
		delete(served, b.backend(at, corev1.ProtocolTCP))
		assert.Equal(t, elder, served, "nginx serves both")
		// It is open, and leads to nodes that do not exist any more.
		conn, err := b.Client.DialContext(t.Context(), "tcp", b.at(eldersPort).String())
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	})
	l.neverRefused(t)
}

// twin is a cluster without agents, at a load balancer that others may use.
func (l *loadBalancer) twin(t *testing.T) *balanced {
	t.Helper()
	return balance(t, l, cluster.Options{Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}}})
}

// withoutAgents starts a controller on default flags, and no agent.
func (b *balanced) withoutAgents(t *testing.T, cloudConfig string) {
	t.Helper()
	require.NoError(t, b.Configure(cloudConfig))
	controller, err := b.AddController(t.Context())
	require.NoError(t, err)
	require.NoError(t, controller.Start())
	for _, node := range b.Nodes {
		backend, err := node.StartBackend(t.Context())
		require.NoError(t, err)
		b.backends = append(b.backends, backend)
	}
	b.untainted(t)
}

// namespace that stays as it is when the cluster ends.
func (b *balanced) namespace(t *testing.T, name string) string {
	t.Helper()
	_, err := b.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return name
}

// swept waits until the last port of a range was cleared, which happens once after each start.
func (b *balanced) swept(t *testing.T, last uint16, since time.Time) {
	t.Helper()
	b.Eventually(t, "unused ports are cleared", func(context.Context) error {
		calls := b.callsFor(b.backend(last, corev1.ProtocolUDP), since)
		if len(calls) == 0 || calls[0].Method != http.MethodDelete {
			return fmt.Errorf("the calls about %d are %v", last, calls)
		}
		return nil
	})
}
