package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestExamples tells that what users copy is taken by an API server, which warns of nothing in it, and that the pods of it
// may be made: no admission of the cluster is in their way.
func TestExamples(t *testing.T) {
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
			for component, want := range map[string]int{"cloud-controller-manager": 2, "agent": row.agents} {
				c.Eventually(t, fmt.Sprintf("there are %d pods of the %s", want, component), func(ctx context.Context) error {
					pods, err := c.Kube.CoreV1().Pods(cluster.Namespace).List(ctx, metav1.ListOptions{
						LabelSelector: "app.kubernetes.io/name=mooring,app.kubernetes.io/component=" + component,
					})
					if err == nil && len(pods.Items) != want {
						err = fmt.Errorf("there are %d", len(pods.Items))
					}
					return err
				})
			}
			c.Eventually(t, "the budget knows both controllers", func(ctx context.Context) error {
				budget, err := c.Kube.PolicyV1().PodDisruptionBudgets(cluster.Namespace).Get(ctx, "mooring-cloud-controller-manager", metav1.GetOptions{})
				if err == nil && budget.Status.ExpectedPods != 2 {
					err = fmt.Errorf("its status is %+v", budget.Status)
				}
				return err
			})
		})
	}
}
