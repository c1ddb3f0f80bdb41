package service

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// State is how a Service stands, in one word. Its text is a metric label and never changes.
type State string

const (
	// StateBound: it has what it asks for.
	StateBound State = "bound"
	// StateDegraded: it is published, and something that it asks for is not done.
	StateDegraded State = "degraded"
	// StateWaiting: it has no address yet.
	StateWaiting State = "waiting"
	// StateDown: it is published, and an address of it is bound by no node.
	StateDown State = "down"
	// StateReleasing: it is deleted, or is no load balancer any more, and what it had is not given back yet.
	StateReleasing State = "releasing"
)

// States are all of them.
var States = []State{StateBound, StateDegraded, StateWaiting, StateDown, StateReleasing}

// NotSeen is the reason of a Service that the controller has said nothing about yet.
const NotSeen = "NotSeen"

// Standing of a Service, as those who look at it see it.
type Standing struct {
	State State
	// Reason of the condition that says so.
	Reason string
	// Since when it is in this state, whatever the reason was.
	Since time.Time
}

// StandingOf reads how a Service that is ours, or was, stands; ok is false when it is none of ours.
func (s *Syncer) StandingOf(svc *corev1.Service) (standing Standing, ok bool) {
	bound := meta.FindStatusCondition(svc.Status.Conditions, lb.ConditionBound)
	switch {
	case s.Ours(svc):
	case !Marked(svc):
		return Standing{}, false
	case svc.DeletionTimestamp != nil:
		return Standing{StateReleasing, string(lb.ReasonReleasing), svc.DeletionTimestamp.Time}, true
	case bound != nil:
		return Standing{StateReleasing, string(lb.ReasonReleasing), bound.LastTransitionTime.Time}, true
	default:
		return Standing{}, false
	}
	if bound == nil {
		return Standing{StateWaiting, NotSeen, svc.CreationTimestamp.Time}, true
	}
	standing = Standing{StateBound, bound.Reason, bound.LastTransitionTime.Time}
	degraded := meta.FindStatusCondition(svc.Status.Conditions, lb.ConditionDegraded)
	switch {
	case bound.Status != metav1.ConditionTrue && len(svc.Status.LoadBalancer.Ingress) > 0:
		standing.State = StateDown
	case bound.Status != metav1.ConditionTrue:
		standing.State = StateWaiting
	case degraded != nil && degraded.Status == metav1.ConditionTrue:
		standing = Standing{StateDegraded, degraded.Reason, degraded.LastTransitionTime.Time}
	}
	return standing, true
}
