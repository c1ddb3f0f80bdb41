package cloud

import (
	"context"
	"fmt"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// EpochName is the Lease whose leaseTransitions count leaderships. It is never held: it is a counter that is
// raised by compare-and-swap.
//
//reference:keeps Lease, in the namespace of leader election
const EpochName = "mooring-epoch"

// epoch orders leaders. Each writes its number, the term, into whatever it decides; of two the higher counts.
type epoch struct {
	client    kubernetes.Interface
	namespace string
}

// current returns the number of the newest epoch.
func (e *epoch) current(ctx context.Context) (int64, error) {
	lease, err := e.client.CoordinationV1().Leases(e.namespace).Get(ctx, EpochName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the epoch in lease %s/%s: %w", e.namespace, EpochName, err)
	}
	return int64(ptr.Deref(lease.Spec.LeaseTransitions, 0)), nil
}

// raise begins a new epoch and returns its number.
func (e *epoch) raise(ctx context.Context) (int64, error) {
	leases := e.client.CoordinationV1().Leases(e.namespace)
	lease, err := leases.Get(ctx, EpochName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: EpochName, Namespace: e.namespace},
			Spec:       coordinationv1.LeaseSpec{LeaseTransitions: ptr.To[int32](1)},
		}, metav1.CreateOptions{})
	} else if err == nil {
		lease.Spec.LeaseTransitions = new(ptr.Deref(lease.Spec.LeaseTransitions, 0) + 1)
		// The update carries the resourceVersion that was read: of two that raise at once one fails and tries
		// again.
		lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return 0, fmt.Errorf("raise the epoch in lease %s/%s: %w", e.namespace, EpochName, err)
	}
	return int64(ptr.Deref(lease.Spec.LeaseTransitions, 0)), nil
}
