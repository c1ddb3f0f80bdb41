package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

const (
	// liveTimeout is how long a live read may take: whoever waits for it may be answering for another's address.
	liveTimeout = time.Second
	// watchSlack is how much shorter than asked for a watch may last without having been broken.
	watchSlack = 2 * time.Second
)

// source is the node's object as the API server tells it. A reflector keeps it; there is one object, so a store with
// an index is not needed, and what is "cannot ask" is decided here.
type source struct {
	client    *v1alpha1.Client
	nodeName  string
	reflector *cache.Reflector
	changed   chan struct{}

	mu     sync.Mutex
	object *v1alpha1.NodeAddresses // nil: there is none, or it was never read
	listed bool
	online bool
	// A watch that ends before its time was broken, however soon the next one works.
	watching time.Time     // when the last one was asked for
	lasting  time.Duration // for how long it was asked for
	broken   bool          // one was broken, and the next one works
}

func newSource(client *v1alpha1.Client, nodeName string) *source {
	s := &source{client: client, nodeName: nodeName, changed: make(chan struct{}, 1)}
	inner := v1alpha1.NewListWatch(client, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, nodeName).String()
	})
	listWatch := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			if o.ResourceVersion == "0" {
				// Any version would do for a reflector, but an old one may lack an address that this node was
				// given since, and it would be unbound.
				o.ResourceVersion = ""
			}
			list, err := inner.ListWithContext(ctx, o)
			s.asked(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			began := time.Now() // a proxy may hold the answer back until there is something to show
			w, err := inner.WatchWithContext(ctx, o)
			s.asked(err)
			s.watched(began, err, o.TimeoutSeconds)
			return w, err
		},
	}
	s.reflector = cache.NewReflectorWithOptions(listWatch, &v1alpha1.NodeAddresses{}, s, cache.ReflectorOptions{
		Name: "nodeaddresses/" + nodeName,
		// An agent asks for one object: it need not wait half a minute for an API server that is back.
		Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Cap: 5 * time.Second, Steps: 25, Factor: 1.6, Jitter: 0.5},
	})
	return s
}

func (s *source) run(ctx context.Context) { s.reflector.RunWithContext(ctx) }

// asked notes whether the API server answered.
func (s *source) asked(err error) {
	s.mu.Lock()
	was := s.online
	s.online = err == nil
	s.mu.Unlock()
	if was != (err == nil) {
		s.wake()
	}
}

// watched notes that a watch was asked for at that time, and whether the one before had been broken.
func (s *source) watched(began time.Time, err error, seconds *int64) {
	if err != nil {
		return
	}
	s.mu.Lock()
	was := !s.watching.IsZero() && began.Sub(s.watching) < s.lasting-watchSlack
	s.broken = s.broken || was
	s.watching, s.lasting = began, 0
	if seconds != nil {
		s.lasting = time.Duration(*seconds) * time.Second
	}
	s.mu.Unlock()
	if was {
		s.wake()
	}
}

// rejoined says, once, that a watch works again after one that was broken.
func (s *source) rejoined() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	broken := s.broken
	s.broken = false
	return broken
}

// live reads the object from the API server, which asks etcd: no resourceVersion means the newest.
func (s *source) live(ctx context.Context) (*v1alpha1.NodeAddresses, error) {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	object, err := s.client.Get(ctx, s.nodeName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read NodeAddresses %s: %w", s.nodeName, err)
	}
	return object, nil
}

func (s *source) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// get returns the object, or nil when there is none, and whether the API server can be asked.
func (s *source) get() (*v1alpha1.NodeAddresses, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.object, s.online
}

// synced says whether the API server has answered once.
func (s *source) synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}

func (s *source) set(object *v1alpha1.NodeAddresses) error {
	s.mu.Lock()
	s.object, s.listed = object, true
	s.mu.Unlock()
	s.wake()
	return nil
}

// Add, Update, Delete, Replace and Resync make the source the reflector's store.
func (s *source) Add(object any) error { return s.set(object.(*v1alpha1.NodeAddresses)) }

// Update is for the reflector.
func (s *source) Update(object any) error { return s.Add(object) }

// Delete is for the reflector.
func (s *source) Delete(any) error { return s.set(nil) }

// Replace is for the reflector.
func (s *source) Replace(list []any, _ string) error {
	if len(list) == 0 {
		return s.set(nil)
	}
	return s.Add(list[0])
}

// Resync is for the reflector.
func (s *source) Resync() error { return nil }
