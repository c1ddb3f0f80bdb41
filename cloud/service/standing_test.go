package service

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// What alerts say of a Service is what its status says: a published address that nobody answers for is told from one that
// nobody was promised, and a Service of somebody else is not spoken of.
func TestStanding(t *testing.T) {
	long := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	later := metav1.NewTime(long.Add(time.Hour))
	bound := func(status metav1.ConditionStatus, reason lb.Reason) metav1.Condition {
		return metav1.Condition{Type: lb.ConditionBound, Status: status, Reason: string(reason), LastTransitionTime: long}
	}
	degraded := metav1.Condition{Type: lb.ConditionDegraded, Status: metav1.ConditionTrue, Reason: string(lb.ReasonAgentAbsent), LastTransitionTime: later}

	for name, row := range map[string]struct {
		change func(*corev1.Service)
		want   Standing
		not    bool
	}{
		"new": {func(*corev1.Service) {}, Standing{StateWaiting, NotSeen, long.Time}, false},
		"refused": {func(s *corev1.Service) {
			s.Status.Conditions = []metav1.Condition{bound(metav1.ConditionFalse, lb.ReasonPoolExhausted)}
		}, Standing{StateWaiting, "PoolExhausted", long.Time}, false},
		"bound": {func(s *corev1.Service) {
			s.Status.Conditions = []metav1.Condition{bound(metav1.ConditionTrue, lb.ReasonBound)}
		}, Standing{StateBound, "Bound", long.Time}, false},
		"degraded": {func(s *corev1.Service) {
			s.Status.Conditions = []metav1.Condition{bound(metav1.ConditionTrue, lb.ReasonBound), degraded}
		}, Standing{StateDegraded, "AgentAbsent", later.Time}, false},
		"published, and no node has it": {func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.10"}}
			s.Status.Conditions = []metav1.Condition{bound(metav1.ConditionFalse, lb.ReasonNoEligibleNode), degraded}
		}, Standing{StateDown, "NoEligibleNode", long.Time}, false},
		"deleted": {func(s *corev1.Service) {
			s.DeletionTimestamp = &later
			s.Status.Conditions = []metav1.Condition{bound(metav1.ConditionTrue, lb.ReasonBound)}
		}, Standing{StateReleasing, "Releasing", later.Time}, false},
		"no load balancer any more": {func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeClusterIP
			s.Status.Conditions = []metav1.Condition{bound(metav1.ConditionFalse, lb.ReasonReleasing)}
		}, Standing{StateReleasing, "Releasing", long.Time}, false},
		"never a load balancer": {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }, Standing{}, true},
		"another class":         {func(s *corev1.Service) { s.Spec.LoadBalancerClass = new(otherClass) }, Standing{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			svc := loadBalancer("")
			svc.CreationTimestamp = long
			row.change(svc)
			standing, ok := newBorder(t, "", nil).StandingOf(svc)
			assert.Equal(t, !row.not, ok)
			assert.Equal(t, row.want, standing)
		})
	}
}
