package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/cloud-provider/controllers/service"
	"k8s.io/cloud-provider/fake"
	servicehelper "k8s.io/cloud-provider/service/helpers"
	controllermetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/klog/v2"
)

// paperClass is the class that PaperLB's users have in their Services.
const paperClass = "lb.paperlb.com/paperlb-class"

// classPool is officePool for Services of a class.
func classPool(class string) string { return officePool + "  loadBalancerClass: " + class + "\n" }

// otherAddress is what the other cloud-controller-manager publishes.
const otherAddress = "198.51.100.7"

// another starts another cloud-controller-manager: the service controller that all of them have, over a cloud that gives
// every Service the same address. It serves Services without a class.
func (m *moored) another(t *testing.T) {
	t.Helper()
	// Its log would be read as that of the test.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(m.Kube, 0)
	controller, err := service.New(&fake.Cloud{ExternalIP: net.ParseIP(otherAddress)}, m.Kube,
		factory.Core().V1().Services(), factory.Core().V1().Nodes(), "another", nil)
	require.NoError(t, err)
	factory.StartWithContext(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		controller.Run(ctx, 1, controllermetrics.NewControllerManagerMetrics("another"))
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		factory.Shutdown()
	})
}

func ofClass(service *corev1.Service, class string) *corev1.Service {
	service.Spec.LoadBalancerClass = &class
	return service
}

// finalizers waits until the Service has these and no others.
func (m *moored) finalizers(t *testing.T, service *corev1.Service, want ...string) {
	t.Helper()
	m.Eventually(t, fmt.Sprintf("%s has finalizers %v", service.Name, want), func(ctx context.Context) error {
		current, err := m.Kube.CoreV1().Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
		if err == nil && !slices.Equal(want, current.Finalizers) {
			err = fmt.Errorf("it has %v", current.Finalizers)
		}
		return err
	})
}

// TestClassBesideAnotherController has two cloud-controller-managers in a cluster: Mooring for the Services of PaperLB's
// class, and another one for those without a class. Each serves its own, and neither gets in the way of the other.
func TestClassBesideAnotherController(t *testing.T) {
	m := install(t, classPool(paperClass))
	begin := time.Now()
	ours, theirs, later := m.Namespace(t, "ours"), m.Namespace(t, "theirs"), m.Namespace(t, "later")
	m.another(t)

	paper := m.create(t, ofClass(cluster.LoadBalancer(ours, "paper"), paperClass))
	plain := m.create(t, cluster.LoadBalancer(theirs, "plain"))
	nobodys := m.create(t, ofClass(cluster.LoadBalancer(later, "nobodys"), "example.com/later"))
	addr := m.published(t, paper)

	t.Run("each serves its own", func(t *testing.T) {
		m.serves(t, addr)
		m.bound(t, paper, metav1.ConditionTrue, addr.String())
		m.finalizers(t, paper, lb.Finalizer, servicehelper.LoadBalancerCleanupFinalizer)
		current, err := m.Kube.CoreV1().Services(ours).Get(t.Context(), paper.Name, metav1.GetOptions{})
		require.NoError(t, err)
		require.NotNil(t, current.Spec.LoadBalancerClass)
		assert.Equal(t, paperClass, *current.Spec.LoadBalancerClass)

		assert.Equal(t, otherAddress, m.published(t, plain).String())
		m.edit(t, plain, func(svc *corev1.Service) { svc.Annotations = map[string]string{lb.AnnotationPool: "office"} })
	})

	t.Run("the other one removes the shared finalizer, and nothing is left behind", func(t *testing.T) {
		holder := m.heldBy(t, addr, anyNode)
		require.NoError(t, holder.Agent.Pause())
		require.NoError(t, m.Kube.CoreV1().Services(ours).Delete(t.Context(), paper.Name, metav1.DeleteOptions{}))
		m.finalizers(t, paper, lb.Finalizer)
		require.NoError(t, holder.Agent.Resume())
		m.gone(t, paper)
		m.unbound(t, addr)
	})

	t.Run("another type takes the class away, and ours lets go", func(t *testing.T) {
		typed := m.create(t, ofClass(cluster.LoadBalancer(ours, "typed"), paperClass))
		addr := m.published(t, typed)
		m.edit(t, typed, func(svc *corev1.Service) {
			svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
		})
		m.unbound(t, addr)
		m.finalizers(t, typed)
		m.remove(t, typed)
	})

	t.Run("nothing is done for Services of others", func(t *testing.T) {
		m.remove(t, plain)
		writes, err := m.Writes(begin)
		require.NoError(t, err)
		seen := false
		for _, w := range writes {
			if w.User != "system:serviceaccount:mooring-system:mooring-cloud-controller-manager" {
				continue
			}
			seen = seen || w.Namespace == ours
			assert.NotContains(t, []string{theirs, later}, w.Namespace, "%+v", w) // an event is a write too
		}
		assert.True(t, seen, "what is done for ours is seen")
	})

	t.Run("a class that a pool gets is served without a restart", func(t *testing.T) {
		require.NoError(t, m.Configure(classPool("example.com/later")))
		m.serves(t, m.published(t, nobodys))
		m.remove(t, nobodys)
	})

	t.Run("a pool that loses its class keeps what it gave", func(t *testing.T) {
		kept := m.create(t, ofClass(cluster.LoadBalancer(later, "kept"), "example.com/later"))
		addr := m.published(t, kept)
		require.NoError(t, m.Configure(classPool(paperClass)))
		m.condition(t, kept, lb.ConditionDegraded, metav1.ConditionTrue, `serves only Services with spec.loadBalancerClass "`+paperClass+`"`)
		m.serves(t, addr)
		require.NoError(t, m.Controllers[0].Stop())
		require.NoError(t, m.Controllers[0].Start())
		again := m.create(t, ofClass(cluster.LoadBalancer(ours, "again"), paperClass))
		require.NotEqual(t, addr, m.published(t, again), "the new controller serves, and does not give it out again")
		m.serves(t, addr)
		m.remove(t, kept)
		m.unbound(t, addr)
	})
}
