package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"

	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/service"
)

const (
	// doorTimeout is how long a call of the service controller waits for the work that it woke. The work goes on
	// without it.
	doorTimeout = 2 * time.Second
	// doorRetry is when the service controller looks again at what was not done in time.
	doorRetry = 30 * time.Second
)

// loadBalancer are the service controller's doors into the room. They decide nothing.
type loadBalancer struct{ room *room }

var _ cloudprovider.LoadBalancer = (*loadBalancer)(nil)

var errNotAdopted = errors.New("what Services hold is not known yet")

// GetLoadBalancer says "does not exist" only when nothing is held: the service controller drops the finalizer
// then.
func (b *loadBalancer) GetLoadBalancer(_ context.Context, _ string, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	l := b.room.ledger()
	if l == nil {
		return nil, false, errNotAdopted
	}
	uid := string(svc.UID)
	return &svc.Status.LoadBalancer, l.Holds(uid) || l.MayHold(uid), nil
}

// GetLoadBalancerName returns the name that the Service would have at a cloud.
func (b *loadBalancer) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return cloudprovider.DefaultLoadBalancerName(svc)
}

// EnsureLoadBalancer wakes the queue and waits for a short time for the result. It returns the status that it was
// given: publish is the one writer of statuses, and the service controller writes nothing when nothing changed.
func (b *loadBalancer) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	if !b.room.serves(svc) {
		b.room.queue.Add(service.KeyOf(svc))
		return svc.Status.LoadBalancer.DeepCopy(), nil
	}
	var v ledger.View
	done := b.room.await(ctx, service.KeyOf(svc), func(l *ledger.Ledger) bool {
		v = l.View(string(svc.UID))
		return v.Refusal != nil && len(v.Addresses)+len(v.Ports) == 0 || v.Published
	})
	switch {
	case done && len(v.Addresses)+len(v.Ports) > 0:
		return svc.Status.LoadBalancer.DeepCopy(), nil
	case v.Refusal != nil:
		return nil, api.NewRetryError(v.Refusal.String(), doorRetry)
	case v.Waiting != nil:
		return nil, api.NewRetryError(v.Waiting.String(), doorRetry)
	default:
		return nil, api.NewRetryError("still working on it", doorRetry)
	}
}

// serves reports whether the Service of which the service controller was shown something is one of ours.
func (r *room) serves(seen *corev1.Service) bool {
	svc, err := r.services.Services(seen.Namespace).Get(seen.Name)
	return err == nil && svc.UID == seen.UID && r.syncer.Ours(svc)
}

// UpdateLoadBalancer wakes the queue. It cannot change a status, and may be late or concurrent: the sync reads what
// is true then.
func (b *loadBalancer) UpdateLoadBalancer(_ context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) error {
	b.room.queue.Add(service.KeyOf(svc))
	return nil
}

// EnsureLoadBalancerDeleted returns nil once nothing is held any more.
func (b *loadBalancer) EnsureLoadBalancerDeleted(ctx context.Context, _ string, svc *corev1.Service) error {
	var v ledger.View
	if b.room.await(ctx, service.KeyOf(svc), func(l *ledger.Ledger) bool {
		v = l.View(string(svc.UID))
		return !v.Holds && !l.MayHold(string(svc.UID))
	}) {
		return nil
	}
	if v.Waiting != nil {
		return errors.New(v.Waiting.String())
	}
	if !v.Holds {
		return fmt.Errorf("whether an address was bought for %s is not known yet: an account at the cloud is being read", service.RefOf(svc))
	}
	return fmt.Errorf("addresses of %s are not released yet", service.RefOf(svc))
}
