package nodeaddresses

import (
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// What a kubelet says of itself decides whether its node's addresses stay, wait or go.
func TestReadinessOfANode(t *testing.T) {
	for _, row := range []struct {
		name         string
		conditions   []corev1.NodeCondition
		ready        lb.Readiness
		shuttingDown bool
	}{
		{"no condition yet", nil, lb.Unknown, false},
		{"ready", []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}, lb.Ready, false},
		{"restarted", []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse,
			Message: "container runtime status check may not have completed yet"}}, lb.NotReady, false},
		{"shut down, among other complaints", []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse,
			Message: "[container runtime is down, node is shutting down]"}}, lb.NotReady, true},
		{"silent since it was shut down", []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown,
			Message: "node is shutting down"}}, lb.Unknown, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			node := NodeOf(&corev1.Node{Status: corev1.NodeStatus{Conditions: row.conditions}})
			assert.Equal(t, row.ready, node.Ready)
			assert.Equal(t, row.shuttingDown, node.ShuttingDown)
		})
	}
}
