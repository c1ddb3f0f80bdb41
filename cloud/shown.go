package cloud

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/service"
)

// This file is what stands in front of the upstream service controller: Services as it is to see them. It decides
// nothing; how a Service looks is decided in service.

// Services is the informer of the upstream service controller: it shows the Services that are ours, those with a class
// without it, and hides the others.
func (c *Cloud) Services() coreinformers.ServiceInformer { return shown{c.room} }

// shown implements coreinformers.ServiceInformer.
type shown struct{ room *room }

func (s shown) Informer() cache.SharedIndexInformer {
	return shownInformer{s.room.options.Informers.Core().V1().Services().Informer(), s.room}
}

func (s shown) Lister() corelisters.ServiceLister { return shownLister(s) }

// shownInformer tells handlers of what is shown. Its store is that of all Services.
type shownInformer struct {
	cache.SharedIndexInformer
	room *room
}

func (i shownInformer) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandler(i.room.show(h))
}

func (i shownInformer) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, every time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithResyncPeriod(i.room.show(h), every)
}

func (i shownInformer) AddEventHandlerWithOptions(h cache.ResourceEventHandler, o cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithOptions(i.room.show(h), o)
}

// show returns a handler of all Services that tells h of those that are shown.
func (r *room) show(h cache.ResourceEventHandler) cache.ResourceEventHandler {
	v := &viewer{room: r, told: h, looks: map[ledger.Key]service.Look{}}
	r.viewing.Lock()
	defer r.viewing.Unlock()
	r.viewers = append(r.viewers, v)
	return v
}

// showAnew tells of the Services that look otherwise since the cloud-config has changed.
func (r *room) showAnew() {
	r.viewing.Lock()
	defer r.viewing.Unlock()
	services, _ := r.services.List(labels.Everything()) // an informer's cache has no error to give
	for _, v := range r.viewers {
		for _, svc := range services {
			v.lookAgain(svc)
		}
	}
}

// viewer tells a handler of Services as they look, and of those that come to be shown, or hidden, as of those that come
// and go. As with every handler of an informer, it is told one thing at a time.
type viewer struct {
	room  *room
	told  cache.ResourceEventHandler
	mu    sync.Mutex
	looks map[ledger.Key]service.Look // of what is shown
}

func (v *viewer) OnAdd(o any, initial bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tell(o.(*corev1.Service), o.(*corev1.Service), initial)
}

func (v *viewer) OnUpdate(was, is any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tell(was.(*corev1.Service), is.(*corev1.Service), false)
}

func (v *viewer) OnDelete(o any) {
	svc, ok := deleted(o).(*corev1.Service)
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	before := v.looks[service.KeyOf(svc)]
	if before == service.Hidden {
		return
	}
	delete(v.looks, service.KeyOf(svc))
	gone := any(before.Of(svc))
	if unseen, ok := o.(cache.DeletedFinalStateUnknown); ok {
		gone = cache.DeletedFinalStateUnknown{Key: unseen.Key, Obj: gone}
	}
	v.told.OnDelete(gone)
}

// lookAgain tells of a Service when it looks otherwise than it did.
func (v *viewer) lookAgain(svc *corev1.Service) {
	v.mu.Lock()
	defer v.mu.Unlock()
	// What is gone by now is told, or was.
	newest, err := v.room.services.Services(svc.Namespace).Get(svc.Name)
	if err == nil && v.room.syncer.LookOf(newest) != v.looks[service.KeyOf(newest)] {
		v.tell(newest, newest, false)
	}
}

func (v *viewer) tell(was, is *corev1.Service, initial bool) {
	key := service.KeyOf(is)
	before, now := v.looks[key], v.room.syncer.LookOf(is)
	if now == service.Hidden {
		delete(v.looks, key)
	} else {
		v.looks[key] = now
	}
	switch {
	case before == service.Hidden && now == service.Hidden:
	case before == service.Hidden:
		v.told.OnAdd(now.Of(is), initial)
	case now == service.Hidden:
		v.told.OnDelete(before.Of(is))
	default:
		v.told.OnUpdate(before.Of(was), now.Of(is))
	}
}

// shownLister lists what is shown.
type shownLister struct{ room *room }

func (l shownLister) List(selector labels.Selector) ([]*corev1.Service, error) {
	services, err := l.room.services.List(selector)
	return l.look(services), err
}

func (l shownLister) look(services []*corev1.Service) []*corev1.Service {
	var seen []*corev1.Service
	for _, svc := range services {
		if s := l.room.syncer.LookOf(svc).Of(svc); s != nil {
			seen = append(seen, s)
		}
	}
	return seen
}

func (l shownLister) Services(namespace string) corelisters.ServiceNamespaceLister {
	return shownIn{l, namespace}
}

// shownIn lists what is shown of a namespace.
type shownIn struct {
	shownLister
	namespace string
}

func (l shownIn) List(selector labels.Selector) ([]*corev1.Service, error) {
	services, err := l.room.services.Services(l.namespace).List(selector)
	return l.look(services), err
}

func (l shownIn) Get(name string) (*corev1.Service, error) {
	svc, err := l.room.services.Services(l.namespace).Get(name)
	if err != nil {
		return nil, err
	}
	if s := l.room.syncer.LookOf(svc).Of(svc); s != nil {
		return s, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("services"), name)
}
