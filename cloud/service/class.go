package service

// This file is about whose a Service is: which ones are ours to serve, how that is marked on them, and how they look to
// the upstream service controller, which serves Services without a class and no others.

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Ours reports whether a Service is a load balancer for us to serve: a pool serves its class, or it keeps what it got
// when one did.
func (s *Syncer) Ours(svc *corev1.Service) bool {
	l := s.options.Ledger()
	return l != nil && isLoadBalancer(svc) && (l.Serves(classOf(svc)) || l.Keeps(string(svc.UID), classOf(svc)))
}

func isLoadBalancer(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil
}

// classOf returns the class of a Service, empty when it has none.
func classOf(svc *corev1.Service) string {
	if svc.Spec.LoadBalancerClass == nil {
		return ""
	}
	return *svc.Spec.LoadBalancerClass
}

// Marked reports whether a Service carries what we alone put on one, so that it was ours once and may be still.
func Marked(svc *corev1.Service) bool {
	return hasFinalizer(svc) || meta.FindStatusCondition(svc.Status.Conditions, lb.ConditionBound) != nil
}

func hasFinalizer(svc *corev1.Service) bool { return slices.Contains(svc.Finalizers, lb.Finalizer) }

// Unclaimed reports whether a Service needs our finalizer and does not have it: nothing may be done for it before.
// The one that all cloud-controller-managers share is any of them's to remove. Services without a class do without
// ours: whoever removes the shared finalizer of these serves them too, and for two of those there is no order.
func Unclaimed(svc *corev1.Service) bool {
	return svc.Spec.LoadBalancerClass != nil && !hasFinalizer(svc)
}

// Claim puts our finalizer on a Service. The watch shows it then, and the Service is synced.
func (s *Syncer) Claim(ctx context.Context, svc *corev1.Service) error {
	return s.write(ctx, svc, &svc.Status, append(slices.Clone(svc.Finalizers), lb.Finalizer))
}

// unclaim returns the finalizers of a Service that is not ours any more. Ours goes last: until the upstream service
// controller has removed the shared one, it has to be shown the Service, and until nothing is held, the Service stays.
func (s *Syncer) unclaim(svc *corev1.Service) []string {
	if !hasFinalizer(svc) || servicehelper.HasLBFinalizer(svc) {
		return svc.Finalizers
	}
	if s.options.Ledger().MayHold(string(svc.UID)) {
		s.options.Again(KeyOf(svc), shortWait)
		return svc.Finalizers
	}
	return slices.DeleteFunc(slices.Clone(svc.Finalizers), func(f string) bool { return f == lb.Finalizer })
}

// shownByCondition reports whether the upstream service controller has still to clean up after a Service that it is
// shown for its condition alone.
func (s *Syncer) shownByCondition(svc *corev1.Service) bool {
	return servicehelper.HasLBFinalizer(svc) && !hasFinalizer(svc) && s.LookOf(svc) != Plain
}

// Look is how a Service looks to the upstream service controller. What that writes it computes as the difference of two
// versions of what it was shown, finalizers and status only, so that what it was not shown it does not change.
type Look int

const (
	// Hidden is a Service of somebody else.
	Hidden Look = iota
	// Plain is a Service as it is.
	Plain
	// Classless is a load balancer without a class, which the upstream service controller takes for its own.
	Classless
	// Withdrawn is no load balancer, and publishes nothing: the upstream service controller cleans up after it, and
	// leaves its status to whoever serves it now.
	Withdrawn
)

// LookOf says how a Service has to look. One that carries our marks is shown, whatever the pools serve by now: the
// upstream service controller has to remove the finalizer that it put on.
func (s *Syncer) LookOf(svc *corev1.Service) Look {
	l := s.options.Ledger()
	switch {
	case l == nil:
		return Hidden
	case svc.Spec.LoadBalancerClass == nil && !hasFinalizer(svc) && l.Serves(""):
		return Plain
	case Unclaimed(svc) && s.Ours(svc), !Marked(svc):
		return Hidden
	case s.Ours(svc):
		return Classless
	default:
		return Withdrawn
	}
}

// Of returns a Service with that look, nil when it is hidden.
func (l Look) Of(svc *corev1.Service) *corev1.Service {
	switch l {
	case Hidden:
		return nil
	case Plain:
		return svc
	}
	shown := *svc
	shown.Spec.LoadBalancerClass = nil
	if l == Withdrawn {
		shown.Spec.Type = corev1.ServiceTypeClusterIP
		shown.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
	return &shown
}
