// Package service is the border between Services as the Kubernetes API has them and the ledger's words: what a Service
// asks for (RequestOf), what its status says that it has (SnapshotOf), and the one sync that brings a Service nearer
// to what it asks for and publishes how far it is (Syncer).
//
// Which address and which node is decided in the ledger and not here. It keeps no goroutines, looks at no clock of
// its own and knows no informers and queues, so that the simulation of the protocol can drive it; and nothing but
// Syncer writes the status of a Service.
package service

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// Options are what a Syncer works with. All are required.
type Options struct {
	// Ledger returns the ledger that decides.
	Ledger func() *ledger.Ledger
	// Seen returns what the watch shows of a Service; NotFound when there is none.
	Seen func(ledger.Key) (*corev1.Service, error)
	// NamespaceLabels are those of a Service's namespace, as far as is known.
	NamespaceLabels func(namespace string) map[string]string
	// EndpointNodes are the nodes with an endpoint of a Service. Only policy Local asks for them.
	EndpointNodes func(*corev1.Service) []string
	// UpdateStatus writes the status and the finalizers of a Service, provided that the Service still has its
	// resourceVersion.
	UpdateStatus func(context.Context, *corev1.Service) error
	// Drain has carried out what the ledger decided.
	Drain func()
	// Again has Sync called for a Service after a while.
	Again func(key ledger.Key, after time.Duration)
	// Event tells those who look at a Service.
	Event func(svc *corev1.Service, kind, reason, message string)
	// Published is told how long after its creation a Service had its addresses.
	Published func(after time.Duration)
	Now       func() time.Time
}

// Syncer brings Services nearer to what they ask for. Sync runs for a name once at a time; different ones may be
// synced at once.
type Syncer struct {
	options Options
	waiting waiting
}

// NewSyncer returns a Syncer.
func NewSyncer(o Options) *Syncer { return &Syncer{options: o} }

// Sync brings one Service, by name, nearer to what it asks for: observe, decide, publish. Whatever door it came
// through, a Service that is absent, deleting or not ours takes the release path only. An error means that it is to be
// tried again.
func (s *Syncer) Sync(ctx context.Context, key ledger.Key) error {
	svc, err := s.options.Seen(key)
	gone := apierrors.IsNotFound(err)
	if err != nil && !gone {
		return fmt.Errorf("read service %s/%s: %w", key.Namespace, key.Name, err)
	}
	l := s.options.Ledger()
	if !gone {
		l.Retain(string(svc.UID), svc.Annotations[lb.AnnotationRetain] == "true", s.options.Now())
	}
	for _, uid := range l.UIDs(key) {
		if gone || uid != string(svc.UID) || !s.Ours(svc) {
			// Once on the release path it waits for one thing, however often it is looked at.
			if l.Unwant(uid, s.options.Now()) || gone || uid != string(svc.UID) {
				s.waiting.over(uid)
			}
		}
	}
	if gone {
		return nil
	}
	if !s.Ours(svc) {
		if svc.DeletionTimestamp != nil && svc.Annotations[lb.AnnotationAbandon] == "true" {
			s.abandon(svc)
		}
		s.options.Drain()
		return s.withdraw(ctx, svc, l.View(string(svc.UID)))
	}
	if Unclaimed(svc) {
		return s.Claim(ctx, svc)
	}
	s.Want(svc)
	s.options.Drain()
	return s.publish(ctx, svc, l.View(string(svc.UID)))
}

// abandon forgets what a Service that is being deleted holds at the cloud, because its user says so.
func (s *Syncer) abandon(svc *corev1.Service) {
	left := s.options.Ledger().Abandon(string(svc.UID), s.options.Now())
	if len(left) > 0 {
		s.options.Event(svc, corev1.EventTypeWarning, EventAbandoned, "left behind because of annotation "+lb.AnnotationAbandon+": "+strings.Join(left, "; "))
	}
}

// Want tells the ledger what the Service asks for, or that this does not parse.
func (s *Syncer) Want(svc *corev1.Service) {
	var nodes []string
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		nodes = s.options.EndpointNodes(svc)
	}
	request, refusal := RequestOf(svc, s.options.NamespaceLabels(svc.Namespace), nodes)
	if refusal != nil {
		s.options.Ledger().Refuse(request, refusal)
		return
	}
	s.options.Ledger().Want(request, s.options.Now())
}

// waiting remembers since when a Service waits, so that a wait of some milliseconds is not written into its status.
type waiting struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// lasts returns how long the Service waits already.
func (w *waiting) lasts(uid string, now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since == nil {
		w.since = map[string]time.Time{}
	}
	if _, ok := w.since[uid]; !ok {
		w.since[uid] = now
	}
	return now.Sub(w.since[uid])
}

func (w *waiting) over(uid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.since, uid)
}
