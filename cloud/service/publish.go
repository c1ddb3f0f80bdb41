package service

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// Event reasons beside those of lb.Reason. Their comments are the reference, as those of lb.Reason are.
const (
	// EventPublished says that the addresses or ports of the Service answer, and stand in its status.
	//
	// What to do: nothing.
	//
	//reference:event Service Normal
	EventPublished = "AddressPublished"

	// EventAbandoned says that the Service went without being cleaned up, because of annotation `mooring.dev/abandon`.
	//
	// What to do: clean up by hand what the message lists.
	//
	//reference:event Service Warning
	EventAbandoned = "Abandoned"
)

// shortWait is not worth a write of the status: a grant takes some ten milliseconds.
const shortWait = time.Second

// publish writes the Service's status when it is not what it should be: the addresses once all of them answer, and
// our conditions. It is the one writer of both, conditional on the version that the decision was made on.
func (s *Syncer) publish(ctx context.Context, svc *corev1.Service, v ledger.View) error {
	now := s.options.Now()
	uid := string(svc.UID)
	status := svc.Status.DeepCopy()
	setIngress(status, v, s.options.Ledger())
	setDegraded(status, svc.Generation, v, metav1.NewTime(now))
	if !s.waitsShortly(svc, v) {
		setBound(status, svc.Generation, v, metav1.NewTime(now))
	}
	if reflect.DeepEqual(status, &svc.Status) {
		s.published(uid, v)
		return nil
	}
	if err := s.write(ctx, svc, status, svc.Finalizers); err != nil {
		return err
	}
	if v.Ready && !v.Published {
		s.options.Published(now.Sub(svc.CreationTimestamp.Time))
	}
	s.announceChange(svc, status)
	s.published(uid, v)
	return nil
}

// waitsShortly reports whether the Service waits for something that has just begun, and has it looked at again when
// that lasts. The condition Bound stays as it is until then.
func (s *Syncer) waitsShortly(svc *corev1.Service, v ledger.View) bool {
	uid := string(svc.UID)
	if v.Waiting == nil {
		s.waiting.over(uid)
		return false
	}
	rest := shortWait - s.waiting.lasts(uid, s.options.Now())
	if rest > 0 {
		s.options.Again(KeyOf(svc), rest)
	}
	return rest > 0
}

// published tells the ledger what stands in the status now, so that it lets go of what the Service has left.
func (s *Syncer) published(uid string, v ledger.View) {
	if !v.Ready {
		return
	}
	addrs := make([]netip.Addr, 0, len(v.Addresses))
	for _, a := range v.Addresses {
		addrs = append(addrs, a.Addr)
	}
	ports := make([]lb.PortLease, 0, len(v.Ports))
	for _, p := range v.Ports {
		ports = append(ports, p.PortLease)
	}
	s.options.Ledger().Published(uid, addrs, ports, s.options.Now())
}

func (s *Syncer) write(ctx context.Context, svc *corev1.Service, status *corev1.ServiceStatus, finalizers []string) error {
	update := svc.DeepCopy()
	update.Status, update.Finalizers = *status, finalizers
	err := s.options.UpdateStatus(ctx, update)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write status of service %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	return nil
}

// announceChange makes an event of what is new for those who look at the Service.
func (s *Syncer) announceChange(svc *corev1.Service, status *corev1.ServiceStatus) {
	if was, is := svc.Status.LoadBalancer.Ingress, status.LoadBalancer.Ingress; len(is) > 0 && !reflect.DeepEqual(was, is) {
		if c := meta.FindStatusCondition(status.Conditions, lb.ConditionBound); c != nil {
			s.options.Event(svc, corev1.EventTypeNormal, EventPublished, c.Message)
		}
	}
	for _, kind := range []string{lb.ConditionBound, lb.ConditionDegraded} {
		was, is := meta.FindStatusCondition(svc.Status.Conditions, kind), meta.FindStatusCondition(status.Conditions, kind)
		trouble := is != nil && (is.Status == metav1.ConditionTrue) == (kind == lb.ConditionDegraded)
		if trouble && (was == nil || was.Status != is.Status || was.Reason != is.Reason || was.Message != is.Message) {
			s.options.Event(svc, corev1.EventTypeWarning, is.Reason, is.Message)
		}
	}
}

// withdraw takes our conditions and our finalizer off a Service that is no load balancer of ours any more, once nothing of it is held.
// Its status is the API server's to clear, or another implementation's to keep, but for what is our pools'.
//
// A release that takes long is shown, and its end is a write that the service controller notices: it looks at a
// Service that needs cleanup on every change of it, and otherwise only after a backoff.
func (s *Syncer) withdraw(ctx context.Context, svc *corev1.Service, v ledger.View) error {
	status := svc.Status.DeepCopy()
	finalizers := svc.Finalizers
	bound := meta.FindStatusCondition(status.Conditions, lb.ConditionBound)
	switch {
	case v.Holds && v.Waiting != nil:
		if s.waitsShortly(svc, v) {
			return nil
		}
		setBound(status, svc.Generation, v, metav1.NewTime(s.options.Now()))
	case v.Holds:
		return nil
	default:
		s.waiting.over(string(svc.UID))
		finalizers = s.unclaim(svc)
		// Of a deletion the service controller is about to hear, or has, unless it took long.
		stays := svc.DeletionTimestamp != nil && (bound == nil || bound.Reason != string(lb.ReasonReleasing))
		if !stays && !s.shownByCondition(svc) {
			if bound != nil && isLoadBalancer(svc) {
				setIngress(status, v, s.options.Ledger())
			}
			meta.RemoveStatusCondition(&status.Conditions, lb.ConditionBound)
			meta.RemoveStatusCondition(&status.Conditions, lb.ConditionDegraded)
		}
	}
	if reflect.DeepEqual(status, &svc.Status) && len(finalizers) == len(svc.Finalizers) {
		return nil
	}
	return s.write(ctx, svc, status, finalizers)
}
