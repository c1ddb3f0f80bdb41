package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// agentUser is what the API server calls every agent.
const agentUser = accounts + "mooring-agent"

// TestAgentPolicy tells what one agent can do to the node of another, even where RBAC would let it: nothing.
func TestAgentPolicy(t *testing.T) {
	c := start(t, cluster.Options{Manifests: "manifests/base", Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}}})
	for _, node := range c.Nodes {
		_, err := c.NodeAddresses.Create(t.Context(), &v1alpha1.NodeAddresses{ObjectMeta: metav1.ObjectMeta{Name: node.Name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	token, err := c.AgentToken(t.Context(), "n1")
	require.NoError(t, err)
	agent := bearer(t, c, token)
	report := func(ctx context.Context, a account, node string, bound int32) error {
		body := fmt.Appendf(nil, `{"status":{"bound":%d}}`, bound)
		_, err := a.addresses.Patch(ctx, node, types.MergePatchType, body, metav1.PatchOptions{}, "status")
		return err
	}
	reported := func(t *testing.T, node string) int32 {
		t.Helper()
		object, err := c.NodeAddresses.Get(t.Context(), node, metav1.GetOptions{})
		require.NoError(t, err)
		return object.Status.Bound
	}
	// refused says whether the policy refused, and with a message of all these words.
	refused := func(t *testing.T, err error, words ...string) {
		t.Helper()
		require.Error(t, err)
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
		for _, word := range append(words, "ValidatingAdmissionPolicy 'mooring-agent'", agentUser) {
			assert.ErrorContains(t, err, word)
		}
	}

	t.Run("what it says is understood whole by the API server", func(t *testing.T) {
		c.Eventually(t, "the policy is checked", func(ctx context.Context) error {
			policy, err := c.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(ctx, "mooring-agent", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if policy.Status.ObservedGeneration != policy.Generation || policy.Status.TypeChecking == nil {
				return fmt.Errorf("its status is %+v", policy.Status)
			}
			assert.Empty(t, policy.Status.TypeChecking.ExpressionWarnings)
			return nil
		})
	})

	t.Run("an agent cannot report for another node", func(t *testing.T) {
		// A policy is in force some moments after it was written.
		c.Eventually(t, "the policy is in force", func(ctx context.Context) error {
			if report(ctx, agent, "n2", 0) == nil {
				return fmt.Errorf("the agent of n1 wrote the status of n2")
			}
			return nil
		})
		refused(t, report(t.Context(), agent, "n2", 7), "on node n1", "nodeaddresses/status of n2", "--node-name")
		assert.Zero(t, reported(t, "n2"))
	})

	t.Run("an agent reports for its own node, whatever its token is bound to", func(t *testing.T) {
		require.NoError(t, report(t.Context(), agent, "n1", 1))
		assert.EqualValues(t, 1, reported(t, "n1"))
		bound, err := c.Kubectl(t.Context(), "create", "token", "mooring-agent", "-n", cluster.Namespace,
			"--bound-object-kind=Node", "--bound-object-name=n1")
		require.NoError(t, err)
		byNode := bearer(t, c, strings.TrimSpace(bound))
		require.NoError(t, report(t.Context(), byNode, "n1", 2))
		assert.EqualValues(t, 2, reported(t, "n1"))
		refused(t, report(t.Context(), byNode, "n2", 7), "on node n1", "nodeaddresses/status of n2")
	})

	t.Run("a token that names no node reports for none", func(t *testing.T) {
		unbound, err := c.Kubectl(t.Context(), "create", "token", "mooring-agent", "-n", cluster.Namespace)
		require.NoError(t, err)
		nowhere := bearer(t, c, strings.TrimSpace(unbound))
		for _, node := range []string{"n1", "n2"} {
			refused(t, report(t.Context(), nowhere, node, 7), "names no node", "nodeaddresses/status of "+node, "--bound-object-kind=Node")
		}
		assert.EqualValues(t, 2, reported(t, "n1"))
	})

	t.Run("an agent writes nothing but status, were RBAC to let it", func(t *testing.T) {
		everything := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "everything-of-mooring"}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"mooring.dev"}, Resources: []string{"*"}, Verbs: []string{"*"}},
		}}
		_, err := c.Kube.RbacV1().ClusterRoles().Create(t.Context(), everything, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = c.Kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: everything.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: everything.Name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: cluster.Namespace, Name: "mooring-agent"}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		c.Eventually(t, "RBAC lets it write the spec", func(ctx context.Context) error {
			_, err := agent.addresses.Patch(ctx, "n1", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
			if err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
				return fmt.Errorf("it answers: %w", err)
			}
			return nil
		})
		for _, attempt := range []struct {
			what, node string
			try        func(ctx context.Context) error
		}{
			{"UPDATE nodeaddresses", "n1", func(ctx context.Context) error {
				_, err := agent.addresses.Patch(ctx, "n1", types.MergePatchType, []byte(`{"spec":{"addresses":[]}}`), metav1.PatchOptions{})
				return err
			}},
			{"CREATE nodeaddresses", "n3", func(ctx context.Context) error {
				_, err := agent.addresses.Create(ctx, &v1alpha1.NodeAddresses{ObjectMeta: metav1.ObjectMeta{Name: "n3"}}, metav1.CreateOptions{})
				return err
			}},
			{"DELETE nodeaddresses", "n1", func(ctx context.Context) error {
				return agent.addresses.Delete(ctx, "n1", metav1.DeleteOptions{})
			}},
		} {
			t.Run(attempt.what, func(t *testing.T) {
				refused(t, attempt.try(t.Context()), attempt.what+" of "+attempt.node, "nothing but the status")
			})
		}
		refused(t, report(t.Context(), agent, "n2", 7), "on node n1", "nodeaddresses/status of n2")
		require.NoError(t, report(t.Context(), agent, "n1", 3))
	})

	t.Run("others are not concerned", func(t *testing.T) {
		controller := newAccount(t, c, cluster.Namespace, "mooring-cloud-controller-manager")
		_, err := controller.addresses.Patch(t.Context(), "n2", types.MergePatchType, []byte(`{"spec":{"addresses":[]}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		require.NoError(t, controller.addresses.Delete(t.Context(), "n2", metav1.DeleteOptions{}))
	})
}

// bearer is who has the token.
func bearer(t *testing.T, c *cluster.Cluster, token string) account {
	t.Helper()
	config := rest.AnonymousClientConfig(c.Config)
	config.BearerToken = token
	kube, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	addresses, err := v1alpha1.NewClient(config)
	require.NoError(t, err)
	return account{kube, addresses}
}
