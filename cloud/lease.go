package cloud

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// leadership gives the lease of leader election back at the end of the process. The upstream command acquires and
// renews it, and lets it expire.
type leadership struct {
	client          kubernetes.Interface
	namespace, name string

	mu     sync.Mutex
	holder string
}

// note remembers who holds the lease; it is called when that is this process.
func (l *leadership) note(ctx context.Context) error {
	if l.name == "" {
		return nil
	}
	lease, err := l.client.CoordinationV1().Leases(l.namespace).Get(ctx, l.name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read lease %s/%s: %w", l.namespace, l.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holder = ptr.Deref(lease.Spec.HolderIdentity, "")
	return nil
}

// release empties the lease as client-go's leader election does with ReleaseOnCancel, provided that this process
// still holds it. Until the process ends, its leader election goes on renewing the lease: an update that meets such
// a renewal is made again.
func (l *leadership) release(ctx context.Context) error {
	l.mu.Lock()
	holder := l.holder
	l.mu.Unlock()
	if holder == "" {
		return nil
	}
	leases := l.client.CoordinationV1().Leases(l.namespace)
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		lease, err := leases.Get(ctx, l.name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read lease %s/%s: %w", l.namespace, l.name, err)
		}
		if ptr.Deref(lease.Spec.HolderIdentity, "") != holder {
			return nil
		}
		now := metav1.NewMicroTime(time.Now())
		lease.Spec.HolderIdentity = new("")
		lease.Spec.LeaseDurationSeconds = ptr.To[int32](1)
		lease.Spec.RenewTime, lease.Spec.AcquireTime = &now, &now
		if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("release lease %s/%s: %w", l.namespace, l.name, err)
		}
		return nil
	})
}
