package e2e

import (
	"context"
	"encoding/json"

	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The tokens, of which nobody may hear; neither of as much of one as partOfASecret.
const (
	secretOurs    = "oursoursoursoursoursoursoursoursoursoursoursoursoursoursoursours"
	secretReader  = "readreadreadreadreadreadreadreadreadreadreadreadreadreadreadread"
	secretNext    = "nextnextnextnextnextnextnextnextnextnextnextnextnextnextnextnext"
	secretTheirs  = "thrsthrsthrsthrsthrsthrsthrsthrsthrsthrsthrsthrsthrsthrsthrsthrs"
	partOfASecret = 12
)

// Events about token files, on the controller's Pod.
const (
	eventTokenRefused  = "TokenRefused"
	eventTokenAccepted = "TokenAccepted"
)

// tokens tells what the token files do, and what Hetzner's refusals come to.
func tokens(t *testing.T, h *rented) {
	t.Run("a pool whose token is of another project: nothing is done there, its Services say so, the others go on", func(t *testing.T) {
		namespace := h.Namespace(t, "strange")
		service := h.create(t, from(cluster.LoadBalancer(namespace, "web"), "strange"))
		h.refused(t, service, lb.ReasonAccountMismatch, "token")
		metal := h.create(t, from(cluster.LoadBalancer(namespace, "metal"), "office"))
		h.serves(t, h.published(t, metal))
		rented := h.create(t, cluster.LoadBalancer(namespace, "rented"))
		h.serves(t, h.published(t, rented))
		h.untouched(t, theirProject)
	})

	t.Run("the project may have no more: the Service says what to do, and Hetzner is not asked again and again", func(t *testing.T) {
		_, err := h.cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Name: "people"})
		require.NoError(t, err)
		h.cloud.SetLimit(ourProject, len(h.cloud.FloatingIPs(ourProject)))
		since := h.lastCall()
		service := h.create(t, cluster.LoadBalancer(h.Namespace(t, "limit"), "web"))
		h.refused(t, service, lb.ReasonLimitReached, "limit")
		h.Throughout(t, settle, "it is asked for once", func(context.Context) error {
			if n := h.calls(operationToBuy, since); n != 1 {
				return fmt.Errorf("%d purchases were tried", n)
			}
			return nil
		})
		h.cloud.SetLimit(ourProject, 0)
		h.remove(t, service)
		assert.Empty(t, h.boughtFor(service))
	})

	t.Run("the file holds the token of another project: it is refused, and the last good one stays in use", func(t *testing.T) {
		h.token(t, "default", secretTheirs)
		h.event(t, cluster.Namespace, eventTokenRefused, "another project")
		service := h.create(t, cluster.LoadBalancer(h.Namespace(t, "refused"), "web"))
		h.serves(t, h.published(t, service))
		h.untouched(t, theirProject)
		h.remove(t, service)
		assert.Empty(t, h.boughtFor(service))
	})

	t.Run("the file holds a token that may only read, and then one that may write", func(t *testing.T) {
		h.cloud.AddToken(ourProject, secretReader, true)
		h.token(t, "default", secretReader)
		h.event(t, cluster.Namespace, eventTokenAccepted, "")
		since := h.lastCall()
		service := h.create(t, cluster.LoadBalancer(h.Namespace(t, "reader"), "web"))
		h.refused(t, service, lb.ReasonUnauthorized, "token")
		h.Throughout(t, settle, "it is asked for once", func(context.Context) error {
			if n := h.calls(operationToBuy, since); n != 1 {
				return fmt.Errorf("%d purchases were tried", n)
			}
			return nil
		})

		h.cloud.AddProject(ourProject, secretNext)
		h.cloud.RevokeToken(secretOurs)
		h.token(t, "default", secretNext)
		h.serves(t, h.published(t, service))
		h.remove(t, service)
		assert.Empty(t, h.boughtFor(service))
	})

	t.Run("the controller starts with the token of another project: what is published stays, what is deleted waits, and nothing is done", func(t *testing.T) {
		namespace := h.Namespace(t, "lost-token")
		h.cloud.AddProject(ourProject, secretNext)
		steady, leaving := h.create(t, cluster.LoadBalancer(namespace, "steady")), h.create(t, cluster.LoadBalancer(namespace, "leaving"))
		addr, given := h.published(t, steady), h.published(t, leaving)
		h.serves(t, addr)
		before := h.cloud.FloatingIPs(ourProject)
		h.token(t, "default", secretTheirs)
		require.NoError(t, h.Controllers[0].Restart())
		fresh := h.create(t, cluster.LoadBalancer(namespace, "fresh"))
		h.refused(t, fresh, lb.ReasonAccountMismatch, "another project")
		require.NoError(t, h.Kube.CoreV1().Services(namespace).Delete(t.Context(), leaving.Name, metav1.DeleteOptions{}))
		h.bound(t, leaving, metav1.ConditionFalse, string(lb.ReasonReleasing))
		h.Throughout(t, settle, "what was published is served", func(ctx context.Context) error { return h.answersAtOnce(ctx, addr) })
		h.publishes(t, steady, []netip.Addr{addr})
		h.created(t, namespace, leaving.Name)
		assert.Equal(t, before, h.cloud.FloatingIPs(ourProject))
		h.untouched(t, theirProject)

		h.token(t, "default", secretNext)
		h.gone(t, leaving)
		_, exists := h.floatingIP(given)
		assert.False(t, exists, "%s is given back", given)
		h.serves(t, h.published(t, fresh))
		h.content(t, steady)
	})

	t.Run("two pools have two tokens of one project: each address is bought, served and released once", func(t *testing.T) {
		h.cloud.AddProject(ourProject, secretOurs)
		h.token(t, "second", secretOurs)
		second := fmt.Sprintf("- {name: second, autoAssign: false, interface: pl0, hetzner: {tokenFile: %q, endpoint: %q, ephemeral: {types: [ipv4]}}}\n",
			filepath.Join(h.secrets, "second"), h.endpoint)
		namespace := h.Namespace(t, "two-tokens")
		first := h.create(t, cluster.LoadBalancer(namespace, "before"))
		addr := h.published(t, first)
		purchases, releases := h.cloud.Purchases(ourProject), h.cloud.Releases(ourProject)
		since := h.lastCall()
		h.reload(t, h.harbour(keptAddress, foreignAddress, missingAddress)+second, taken)
		other := h.create(t, from(cluster.LoadBalancer(namespace, "other"), "second"))
		h.answersFirst(t, h.published(t, other))
		h.Throughout(t, 2*settle, "both are served", func(ctx context.Context) error { return h.answersAtOnce(ctx, addr) })
		h.content(t, other)
		h.content(t, first)
		h.remove(t, other)
		h.remove(t, first)
		assert.Empty(t, append(h.boughtFor(other), h.boughtFor(first)...))
		assert.Equal(t, 1, h.cloud.Purchases(ourProject)-purchases)
		assert.Equal(t, 2, h.cloud.Releases(ourProject)-releases)
		assert.Equal(t, 2, h.calls(operationToUnassign, since))
		assert.Equal(t, 2, h.calls(operationToDelete, since))
	})
}

// untouched sees that nothing was tried in a project but to read.
func (h *rented) untouched(t *testing.T, project string) {
	t.Helper()
	for _, r := range h.cloud.Log() {
		assert.False(t, r.Project == project && r.Class == hetznertest.Write, "%+v", r)
	}
}

// listens watches everything that Mooring tells anybody. The returned function ends that, and the test when a token, or
// a part of one, was told: in a log, an event, a condition, an object or a metric.
func (h *rented) listens(t *testing.T) (end func(*testing.T)) {
	t.Helper()
	var mu sync.Mutex
	var watching sync.WaitGroup
	var heard []string
	hear := func(what, text string) {
		for _, secret := range []string{secretOurs, secretReader, secretNext, secretTheirs} {
			if strings.Contains(text, secret[:partOfASecret]) {
				mu.Lock()
				heard = append(heard, what+" tells a token")
				mu.Unlock()
			}
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	services, err := h.Kube.CoreV1().Services("").Watch(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	events, err := h.Kube.CoreV1().Events("").Watch(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	count := 0
	watching.Go(func() {
		for event := range services.ResultChan() {
			text, _ := json.Marshal(event.Object)
			hear("a Service", string(text))
		}
	})
	watching.Go(func() {
		for event := range events.ResultChan() {
			if e, ok := event.Object.(*corev1.Event); ok {
				count++
				hear("an event", e.Reason+e.Message)
			}
		}
	})
	return func(t *testing.T) {
		t.Helper()
		services.Stop()
		events.Stop()
		cancel()
		watching.Wait()
		assert.Greater(t, count, 20, "events were heard")
		metrics, err := h.ControllerMetrics(t.Context(), 0)
		require.NoError(t, err)
		assert.Contains(t, metrics, "mooring_cloud_calls_total")
		hear("a metric", metrics)
		logs, err := filepath.Glob(filepath.Join(h.Logs, "*.log"))
		require.NoError(t, err)
		for _, log := range logs {
			text, err := os.ReadFile(log)
			require.NoError(t, err)
			hear(log, string(text))
		}
		for _, resource := range []string{"nodes", "nodeaddresses", "leases", "configmaps"} {
			text, err := h.Kubectl(t.Context(), "get", resource, "-A", "-o", "json")
			require.NoError(t, err)
			hear(resource, text)
		}
		assert.Empty(t, heard)
	}
}
