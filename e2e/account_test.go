package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestAccounts tells what whoever gets hold of a token of Mooring's can do with it: nothing but Mooring's own work.
func TestAccounts(t *testing.T) {
	c := start(t, cluster.Options{Manifests: "manifests/base", Nodes: []cluster.NodeOptions{{Name: "n1"}}})
	node, err := c.Kube.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	require.NoError(t, err)
	service, err := c.Kube.CoreV1().Services("default").Create(t.Context(), cluster.LoadBalancer("default", "web"), metav1.CreateOptions{})
	require.NoError(t, err)
	held, err := c.NodeAddresses.Create(t.Context(), &v1alpha1.NodeAddresses{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Spec: v1alpha1.NodeAddressesSpec{Addresses: []v1alpha1.Address{
			{Address: "10.90.0.30", Interface: "pl0", Pool: "office", State: v1alpha1.Hold, Term: 1},
		}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = c.Kube.CoreV1().Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "secret"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	lease, err := c.Kube.CoordinationV1().Leases(metav1.NamespaceSystem).Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "of-another"}}, metav1.CreateOptions{})
	require.NoError(t, err)

	patch := func(text string) (types.PatchType, []byte, metav1.PatchOptions) {
		return types.MergePatchType, []byte(text), metav1.PatchOptions{}
	}
	type attempt struct {
		what string
		try  func(ctx context.Context, a account) error
	}
	both := []attempt{
		{"read a Secret", func(ctx context.Context, a account) error {
			_, err := a.kube.CoreV1().Secrets("default").Get(ctx, "secret", metav1.GetOptions{})
			return err
		}},
		{"make a Pod", func(ctx context.Context, a account) error {
			_, err := a.kube.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "pod"}}, metav1.CreateOptions{})
			return err
		}},
		{"delete a Node", func(ctx context.Context, a account) error {
			return a.kube.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{})
		}},
		{"delete all Nodes", func(ctx context.Context, a account) error {
			return a.kube.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		}},
		{"delete a Service", func(ctx context.Context, a account) error {
			return a.kube.CoreV1().Services("default").Delete(ctx, service.Name, metav1.DeleteOptions{})
		}},
		{"write the spec of a Service", func(ctx context.Context, a account) error {
			kind, body, options := patch(`{"spec":{"externalIPs":["10.90.0.1"]}}`)
			_, err := a.kube.CoreV1().Services("default").Patch(ctx, service.Name, kind, body, options)
			return err
		}},
		{"take the lease of another component", func(ctx context.Context, a account) error {
			_, err := a.kube.CoordinationV1().Leases(metav1.NamespaceSystem).Update(ctx, lease, metav1.UpdateOptions{})
			return err
		}},
	}
	for _, row := range []struct {
		account  string
		can      []string
		attempts []attempt
	}{
		{"mooring-agent", []string{
			"get mooring.dev/nodeaddresses", "list mooring.dev/nodeaddresses", "patch mooring.dev/nodeaddresses/status", "watch mooring.dev/nodeaddresses",
		}, []attempt{
			{"write the spec of its NodeAddresses", func(ctx context.Context, a account) error {
				kind, body, options := patch(`{"spec":{"addresses":[]}}`)
				_, err := a.addresses.Patch(ctx, "n1", kind, body, options)
				return err
			}},
			{"make NodeAddresses", func(ctx context.Context, a account) error {
				_, err := a.addresses.Create(ctx, &v1alpha1.NodeAddresses{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, metav1.CreateOptions{})
				return err
			}},
			{"delete NodeAddresses", func(ctx context.Context, a account) error {
				return a.addresses.Delete(ctx, "n1", metav1.DeleteOptions{})
			}},
			{"publish an address of a Service", func(ctx context.Context, a account) error {
				kind, body, options := patch(`{"status":{"loadBalancer":{"ingress":[{"ip":"10.90.0.1"}]}}}`)
				_, err := a.kube.CoreV1().Services("default").Patch(ctx, service.Name, kind, body, options, "status")
				return err
			}},
			{"write its Node", func(ctx context.Context, a account) error {
				kind, body, options := patch(`{"spec":{"unschedulable":true}}`)
				_, err := a.kube.CoreV1().Nodes().Patch(ctx, "n1", kind, body, options)
				return err
			}},
		}},
		{"mooring-cloud-controller-manager", nil, []attempt{
			{"acknowledge in the agent's name", func(ctx context.Context, a account) error {
				kind, body, options := patch(`{"status":{"observedGeneration":7}}`)
				_, err := a.addresses.Patch(ctx, "n1", kind, body, options, "status")
				return err
			}},
			{"delete a namespace", func(ctx context.Context, a account) error {
				return a.kube.CoreV1().Namespaces().Delete(ctx, "default", metav1.DeleteOptions{})
			}},
			{"write a ConfigMap", func(ctx context.Context, a account) error {
				_, err := a.kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "mine"}}, metav1.CreateOptions{})
				return err
			}},
		}},
	} {
		t.Run(row.account, func(t *testing.T) {
			a := newAccount(t, c, cluster.Namespace, row.account)
			for _, attempt := range slices.Concat(both, row.attempts) {
				assert.True(t, apierrors.IsForbidden(attempt.try(t.Context(), a)), "it tries to %s", attempt.what)
			}
			if row.can != nil {
				anybody := newAccount(t, c, "default", "default")
				for _, namespace := range []string{"default", cluster.Namespace, metav1.NamespaceSystem} {
					more := slices.DeleteFunc(a.can(t, namespace), func(line string) bool { return slices.Contains(anybody.can(t, namespace), line) })
					assert.Equal(t, row.can, more, "what it can do in namespace %s that not every account can", namespace)
				}
			}
		})
	}

	t.Run("what an agent reports does not change what it was told", func(t *testing.T) {
		token, err := c.AgentToken(t.Context(), "n1")
		require.NoError(t, err)
		agent := bearer(t, c, token)
		kind, body, options := patch(`{"metadata":{"finalizers":["example.com/mine"]},"spec":{"addresses":[]},"status":{"bound":1}}`)
		_, err = agent.addresses.Patch(t.Context(), "n1", kind, body, options, "status")
		require.NoError(t, err)
		now, err := c.NodeAddresses.Get(t.Context(), "n1", metav1.GetOptions{})
		require.NoError(t, err)
		assert.EqualValues(t, 1, now.Status.Bound)
		assert.Equal(t, held.Spec, now.Spec)
		assert.Empty(t, now.Finalizers)
	})

	after, err := c.Kube.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, node.UID, after.UID)
}

// account is a ServiceAccount as the API server sees it.
type account struct {
	kube      kubernetes.Interface
	addresses *v1alpha1.Client
}

func newAccount(t *testing.T, c *cluster.Cluster, namespace, name string) account {
	t.Helper()
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + name,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	kube, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	addresses, err := v1alpha1.NewClient(config)
	require.NoError(t, err)
	return account{kube, addresses}
}

// can lists what the account may do in the namespace and with what is in none, as "verb group/resource".
func (a account) can(t *testing.T, namespace string) []string {
	t.Helper()
	review, err := a.kube.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	var lines []string
	for _, rule := range review.Status.ResourceRules {
		for _, verb := range rule.Verbs {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s/%s %s", verb, group, resource, strings.Join(rule.ResourceNames, ","))))
				}
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
