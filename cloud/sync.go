package cloud

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/service"
)

// newSyncer returns what syncs the room's Services.
func (r *room) newSyncer() *service.Syncer {
	return service.NewSyncer(service.Options{
		Ledger: r.ledger,
		Seen: func(key ledger.Key) (*corev1.Service, error) {
			return r.services.Services(key.Namespace).Get(key.Name)
		},
		NamespaceLabels: r.namespaceLabels,
		EndpointNodes:   r.endpointNodes,
		UpdateStatus: func(ctx context.Context, svc *corev1.Service) error {
			_, err := r.options.Client.CoreV1().Services(svc.Namespace).UpdateStatus(ctx, svc, metav1.UpdateOptions{})
			r.metrics.wrote("service_status", err)
			return err
		},
		Drain: r.drain,
		Again: r.queue.AddAfter,
		Event: func(svc *corev1.Service, kind, reason, message string) {
			r.options.Recorder.Event(svc, kind, reason, message)
		},
		Published: func(after time.Duration) { r.metrics.published.Observe(after.Seconds()) },
		Now:       r.options.Clock.Now,
	})
}

// sync brings one Service, by name, nearer to what it asks for, and tells the doors that wait for it.
func (r *room) sync(ctx context.Context, key ledger.Key) error {
	defer r.bell.ring(key)
	return r.syncer.Sync(ctx, key)
}

func (r *room) namespaceLabels(name string) map[string]string {
	ns, err := r.namespaces.Get(name)
	if err != nil {
		return nil
	}
	return ns.Labels
}

// endpointNodes returns the nodes with an endpoint of the Service.
func (r *room) endpointNodes(svc *corev1.Service) []string {
	objects, err := r.slices.ByIndex(indexByService, svc.Namespace+"/"+svc.Name)
	if err != nil {
		return nil
	}
	endpointSlices := make([]*discoveryv1.EndpointSlice, 0, len(objects))
	for _, o := range objects {
		endpointSlices = append(endpointSlices, o.(*discoveryv1.EndpointSlice))
	}
	return service.EndpointNodes(endpointSlices)
}
