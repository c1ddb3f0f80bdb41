package cloud

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

const officeClass = "example.com/office"

func configOf(t *testing.T, class string) *config.Config {
	cfg, err := config.Parse([]byte(edgePool + "  loadBalancerClass: " + class + "\n"))
	require.NoError(t, err)
	return cfg
}

// gallery is what a handler behind the informer is told of, and what the lister shows.
type gallery struct {
	*room
	t    *testing.T
	mu   sync.Mutex
	told []string
}

// newGallery has informers on an API server with some Services, and a pool of a class.
func newGallery(t *testing.T, services ...*corev1.Service) *gallery {
	r := newBalancedRoom(t, configOf(t, officeClass), updatertest.New(updatertest.Options{}))
	g := &gallery{room: r, t: t}
	for _, svc := range services {
		_, err := r.options.Client.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	informer := (&Cloud{room: r}).Services().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { g.tell("add", o) },
		UpdateFunc: func(_, o any) { g.tell("update", o) },
		DeleteFunc: func(o any) { g.tell("delete", deleted(o)) },
	})
	require.NoError(t, err)
	r.options.Informers.StartWithContext(t.Context())
	t.Cleanup(r.options.Informers.Shutdown)
	require.True(t, cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced))
	return g
}

func (g *gallery) tell(what string, o any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	svc := o.(*corev1.Service)
	class := "-"
	if svc.Spec.LoadBalancerClass != nil {
		class = *svc.Spec.LoadBalancerClass
	}
	g.told = append(g.told, fmt.Sprintf("%s %s %s %s", what, svc.Name, svc.Spec.Type, class))
}

// hears waits for what the handler is told next.
func (g *gallery) hears(want ...string) {
	g.t.Helper()
	assert.EventuallyWithT(g.t, func(t *assert.CollectT) {
		g.mu.Lock()
		defer g.mu.Unlock()
		assert.ElementsMatch(t, want, g.told)
	}, 30*time.Second, time.Millisecond)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = nil
}

// shows are the names in the list, all of which can be had one by one, and no others.
func (g *gallery) shows(want ...string) {
	g.t.Helper()
	lister := shown{g.room}.Lister()
	all, err := lister.List(labels.Everything())
	require.NoError(g.t, err)
	inNamespace, err := lister.Services("default").List(labels.Everything())
	require.NoError(g.t, err)
	assert.ElementsMatch(g.t, all, inNamespace)
	var names []string
	for _, svc := range all {
		names = append(names, svc.Name)
		assert.Nil(g.t, svc.Spec.LoadBalancerClass)
		got, err := lister.Services("default").Get(svc.Name)
		require.NoError(g.t, err)
		assert.Equal(g.t, svc, got)
	}
	assert.ElementsMatch(g.t, want, names)
	services, err := g.services.List(labels.Everything())
	require.NoError(g.t, err)
	hidden := 0
	for _, svc := range services {
		if _, err := lister.Services("default").Get(svc.Name); apierrors.IsNotFound(err) {
			hidden++
		}
	}
	assert.Equal(g.t, len(services)-len(want), hidden)
}

func (g *gallery) update(svc *corev1.Service) {
	_, err := g.options.Client.CoreV1().Services("default").Update(g.t.Context(), svc, metav1.UpdateOptions{})
	require.NoError(g.t, err)
}

// reload has the pool serve another class.
func (g *gallery) reload(cfg *config.Config) {
	require.NoError(g.t, g.ledger().SetConfig(cfg, ledger.Rental{}, time.Now()))
	g.showAnew()
}

func serviceOf(name, class string, finalizers ...string) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: uidOf(lb.Ref{UID: name}), Finalizers: finalizers},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
	}
	if class != "" {
		svc.Spec.LoadBalancerClass = &class
	}
	return svc
}

// The upstream service controller sees Services of our classes, without the class, from the moment that they have our
// finalizer to the moment that they do not, and of the others nothing.
func TestShownWhileItHasOurFinalizer(t *testing.T) {
	g := newGallery(t, serviceOf("claimed", officeClass, lb.Finalizer), serviceOf("new", officeClass),
		serviceOf("other", "example.com/other"), serviceOf("classless", "", servicehelper.LoadBalancerCleanupFinalizer))
	g.hears("add claimed LoadBalancer -")
	g.shows("claimed")

	g.update(serviceOf("new", officeClass, lb.Finalizer))
	g.hears("add new LoadBalancer -")
	g.shows("claimed", "new")

	edited := serviceOf("new", officeClass, lb.Finalizer)
	edited.Annotations = map[string]string{"a": "b"}
	g.update(edited)
	g.hears("update new LoadBalancer -")

	ending := serviceOf("new", officeClass, lb.Finalizer)
	ending.DeletionTimestamp = new(metav1.Now())
	g.update(ending)
	g.hears("update new ClusterIP -")
	ending = ending.DeepCopy()
	ending.Finalizers = []string{"example.com/somebody"}
	g.update(ending)
	g.hears("delete new ClusterIP -")
	g.shows("claimed")

	require.NoError(t, g.options.Client.CoreV1().Services("default").Delete(t.Context(), "claimed", metav1.DeleteOptions{}))
	require.NoError(t, g.options.Client.CoreV1().Services("default").Delete(t.Context(), "other", metav1.DeleteOptions{}))
	g.hears("delete claimed LoadBalancer -")
	g.shows()
}

// A changed cloud-config shows what is served from now on, and what is not any more and has to be cleaned up, without any
// change of the Services.
func TestShownAfterReload(t *testing.T) {
	refused := serviceOf("refused", officeClass, lb.Finalizer)
	g := newGallery(t, refused, serviceOf("classless", ""))
	g.hears("add refused LoadBalancer -")

	classless, err := config.Parse([]byte(edgePool))
	require.NoError(t, err)
	g.reload(classless)
	g.hears("add classless LoadBalancer -", "update refused ClusterIP -")
	g.shows("classless", "refused")

	g.reload(configOf(t, officeClass))
	g.hears("delete classless LoadBalancer -", "update refused LoadBalancer -")
	g.shows("refused")
	g.showAnew()
	g.hears()
}
