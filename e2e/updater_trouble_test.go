package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// trouble tells what becomes of Services when something is wrong with their updater.
func (b *balanced) trouble(t *testing.T) {
	namespace := b.Namespace(t, "trouble")
	steady, kept := b.serve(t, cluster.LoadBalancer(namespace, "steady"), "edge")

	t.Run("it answers badly: nothing is lost, who waits reads why, and is served when it is mended", func(t *testing.T) {
		end := b.keepsPassing(t, kept)
		for i, bad := range []struct {
			fault updatertest.Fault
			words string
		}{
			{updatertest.Fault{Answer: updatertest.InternalError, NoEffect: true}, "no space left on device"},
			{updatertest.Fault{Answer: updatertest.Garbage, NoEffect: true}, "is no JSON object"},
			{updatertest.Fault{Answer: updatertest.Half, NoEffect: true}, "ended in the middle"},
			{updatertest.Fault{Answer: updatertest.Huge, NoEffect: true}, "the answer is longer than"},
			{updatertest.Fault{Answer: updatertest.Redirect, NoEffect: true}, "redirects are not followed"},
			{updatertest.Fault{Answer: updatertest.Unauthorized, NoEffect: true}, "bearerTokenFile"},
			{updatertest.Fault{Answer: updatertest.Cut, NoEffect: true}, "is the updater running"},
			{updatertest.Fault{Delay: 3 * time.Second}, "no answer in 1s"},
			{updatertest.Fault{Hang: true}, "no answer in 1s"},
		} {
			b.updater.Break(bad.fault)
			service := b.create(t, from(cluster.LoadBalancer(namespace, fmt.Sprintf("bad-%d", i)), "edge"))
			b.refused(t, service, lb.ReasonUpdater, bad.words)
			b.updater.Break(updatertest.Fault{})
			b.ports(t, service, 1)
		}
		end()
		b.content(t, steady)
	})

	t.Run("it is down: a change waits, a deletion waits and says why, and can be abandoned", func(t *testing.T) {
		var leaving []*corev1.Service
		var at []uint16
		for _, name := range []string{"patient", "abandoned"} {
			service := b.create(t, from(cluster.LoadBalancer(namespace, name), "edge"))
			leaving, at = append(leaving, service), append(at, b.ports(t, service, 1)[0])
		}
		end := b.keepsPassing(t, kept)
		b.updater.Break(updatertest.Fault{Answer: updatertest.Cut, NoEffect: true})
		for _, service := range leaving {
			require.NoError(t, b.Kube.CoreV1().Services(namespace).Delete(t.Context(), service.Name, metav1.DeleteOptions{}))
		}
		for _, service := range leaving {
			b.bound(t, service, metav1.ConditionFalse, "is the updater running")
		}
		b.edit(t, steady, func(s *corev1.Service) { annotated(s, lb.AnnotationProxyTimeout, "77s") })
		b.degraded(t, steady, lb.ReasonUpdater, "is the updater running")

		b.edit(t, leaving[1], func(s *corev1.Service) { annotated(s, lb.AnnotationAbandon, "true") })
		b.gone(t, leaving[1])
		b.event(t, namespace, "Abandoned", fmt.Sprintf("a backend on port %d/TCP of pool \"edge\"", at[1]))
		assert.NotEmpty(t, b.created(t, namespace, "patient").Finalizers, "the other one still waits")

		b.updater.Break(updatertest.Fault{})
		b.gone(t, leaving[0])
		b.closed(t, at[0])
		b.file(t, kept, corev1.ProtocolTCP, "proxy_timeout 77s;")
		end()
		b.content(t, steady)
		b.remove(t, steady)
	})

	t.Run("it hangs, with 30 Services on it: one with an address waits no longer than usual", b.bystander)
	t.Run("its files are lost: they are back, those of UDP too, when everything is sent again", b.losesFiles)
}

// bystander is a Service that has nothing to do with the updater.
func (b *balanced) bystander(t *testing.T) {
	namespace := b.Namespace(t, "bystander")
	const times = 7
	median := func(name string) time.Duration {
		var waits []time.Duration
		for i := range times {
			service := from(cluster.LoadBalancer(namespace, fmt.Sprintf("%s-%d", name, i)), "office")
			begin := time.Now()
			service = b.create(t, service)
			b.published(t, service)
			waits = append(waits, time.Since(begin))
			b.remove(t, service)
		}
		slices.Sort(waits)
		return waits[times/2]
	}
	usual := median("usual")
	b.reload(t, cloudConfigOf("10m", append(b.usualPools(), b.updaterPool("large", "8200, high: 8299", b.hosted()))...), taken)
	b.updater.Break(updatertest.Fault{Hang: true})
	var waiting []*corev1.Service
	for i := range 30 {
		waiting = append(waiting, b.create(t, from(cluster.LoadBalancer(namespace, fmt.Sprintf("hangs-%d", i)), "large")))
	}
	b.refused(t, waiting[0], lb.ReasonUpdater, "no answer in 1s")
	beside := median("beside")
	t.Logf("usually %v, beside 30 Services on a hanging updater %v", usual, beside)
	assert.LessOrEqual(t, beside, 2*usual+100*time.Millisecond)
	b.updater.Break(updatertest.Fault{})
	for _, service := range waiting {
		b.ports(t, service, 1)
	}
}

func (b *balanced) losesFiles(t *testing.T) {
	b.reload(t, cloudConfigOf("3s", b.usualPools()...), taken)
	namespace := b.Namespace(t, "files")
	service := cluster.LoadBalancer(namespace, "dns")
	service.Spec.Ports = []corev1.ServicePort{port("dns", corev1.ProtocolUDP, 53), port("dns-tcp", corev1.ProtocolTCP, 53)}
	service = b.create(t, from(service, "edge"))
	udp := cluster.LoadBalancer(namespace, "udp")
	udp.Spec.Ports = []corev1.ServicePort{port("udp", corev1.ProtocolUDP, 53)}
	udp = b.create(t, from(udp, "side"))
	at, alone := b.ports(t, service, 2), b.ports(t, udp, 1)[0]
	for range 2 {
		b.passes(t, at[0], corev1.ProtocolUDP, "n")
		b.passes(t, at[1], corev1.ProtocolTCP, "n")
		b.passes(t, alone, corev1.ProtocolUDP, "n")
		reloads, _ := b.updater.Reloads()
		require.NoError(t, b.updater.LoseFiles())
		b.Eventually(t, "nginx is reloaded without them", func(context.Context) error {
			if now, _ := b.updater.Reloads(); now == reloads {
				return fmt.Errorf("%d reloads, as before", now)
			}
			return nil
		})
	}
	b.passes(t, at[0], corev1.ProtocolUDP, "n")
	b.passes(t, at[1], corev1.ProtocolTCP, "n")
	b.passes(t, alone, corev1.ProtocolUDP, "n")
	assert.Equal(t, at, b.ports(t, service, 2), "what is published is not withdrawn")
	b.reload(t, cloudConfigOf("10m", b.usualPools()...), taken)
}
