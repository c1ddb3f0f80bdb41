package cloud

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// sync brings one Service, by name, nearer to what it asks for: observe, decide, publish. Whatever door it came
// through, a Service that is absent, deleting or not ours takes the release path only.
func (r *room) sync(ctx context.Context, key ledger.Key) error {
	defer r.bell.ring(key)
	svc, err := r.services.Services(key.Namespace).Get(key.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read service %s/%s: %w", key.Namespace, key.Name, err)
	}
	l := r.ledger()
	if err == nil {
		l.Retain(string(svc.UID), svc.Annotations[lb.AnnotationRetain] == "true", r.options.Clock.Now())
	}
	for _, uid := range l.UIDs(key) {
		if err != nil || uid != string(svc.UID) || !ours(svc) {
			// Once on the release path it waits for one thing, however often it is looked at.
			if l.Unwant(uid, r.options.Clock.Now()) || err != nil || uid != string(svc.UID) {
				r.waiting.over(uid)
			}
		}
	}
	if err != nil {
		return nil
	}
	if !ours(svc) {
		if svc.DeletionTimestamp != nil && svc.Annotations[lb.AnnotationAbandon] == "true" {
			r.abandon(svc)
		}
		r.drain()
		return r.withdraw(ctx, svc, l.View(string(svc.UID)))
	}
	r.want(svc)
	r.drain()
	return r.publish(ctx, svc, l.View(string(svc.UID)))
}

// abandon forgets what a Service that is being deleted holds at the cloud, because its user says so.
func (r *room) abandon(svc *corev1.Service) {
	left := r.ledger().Abandon(string(svc.UID), r.options.Clock.Now())
	if len(left) > 0 {
		r.options.Recorder.Event(svc, corev1.EventTypeWarning, eventAbandoned, "left behind because of annotation "+lb.AnnotationAbandon+": "+strings.Join(left, "; "))
	}
}

// want tells the ledger what the Service asks for, or that this does not parse.
func (r *room) want(svc *corev1.Service) {
	var namespaceLabels map[string]string
	if ns, err := r.namespaces.Get(svc.Namespace); err == nil {
		namespaceLabels = ns.Labels
	}
	request, refusal := requestOf(svc, namespaceLabels, r.endpointNodes(svc))
	if refusal != nil {
		r.ledger().Refuse(request, refusal)
		return
	}
	r.ledger().Want(request, r.options.Clock.Now())
}

// endpointNodes returns the nodes with an endpoint of the Service; only policy Local asks for them.
func (r *room) endpointNodes(svc *corev1.Service) []string {
	if svc.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		return nil
	}
	objects, err := r.slices.ByIndex(indexByService, svc.Namespace+"/"+svc.Name)
	if err != nil {
		return nil
	}
	endpointSlices := make([]*discoveryv1.EndpointSlice, 0, len(objects))
	for _, o := range objects {
		endpointSlices = append(endpointSlices, o.(*discoveryv1.EndpointSlice))
	}
	return endpointNodes(endpointSlices)
}
