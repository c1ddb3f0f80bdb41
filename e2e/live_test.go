package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// liveRequests tells what becomes of a request that is edited on a Service that is served.
func liveRequests(t *testing.T, m *moored) {
	t.Run("a live Service asks for something else that is free: it moves there and is served all the while", func(t *testing.T) {
		namespace := m.Namespace(t, "moving")
		service := cluster.LoadBalancer(namespace, "web")
		asking[0].ask(service, netip.MustParseAddr("10.90.0.50"))
		service = m.create(t, service)
		m.serves(t, m.published(t, service))
		for i, way := range asking {
			old, next := netip.AddrFrom4([4]byte{10, 90, 0, byte(50 + i)}), netip.AddrFrom4([4]byte{10, 90, 0, byte(51 + i)})
			m.edit(t, service, func(s *corev1.Service) {
				delete(s.Annotations, lb.AnnotationAddresses)
				s.Spec.ExternalIPs, s.Spec.LoadBalancerIP = nil, ""
				way.ask(s, next)
			})
			m.moves(t, service, old, next)
		}
	})

	t.Run("a live Service asks for an address that no agent binds yet: it is served at the old one until the new one answers", func(t *testing.T) {
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, "lingering"), "web"))
		old := m.published(t, service)
		holder := m.heldBy(t, old, anyNode)
		// Cordoned, the holder keeps what it has and gets nothing new.
		cordon := func(value string) {
			_, err := m.Kube.CoreV1().Nodes().Patch(t.Context(), holder.Name, types.StrategicMergePatchType, []byte(`{"spec":{"unschedulable":`+value+`}}`), metav1.PatchOptions{})
			require.NoError(t, err)
		}
		others := func(do func(*cluster.Process) error) {
			for _, node := range m.Nodes {
				if node != holder {
					require.NoError(t, do(node.Agent))
				}
			}
		}
		cordon("true")
		others((*cluster.Process).Pause)
		next := netip.MustParseAddr("10.90.0.55")
		m.edit(t, service, func(s *corev1.Service) { asking[0].ask(s, next) })
		m.bound(t, service, metav1.ConditionFalse, string(lb.ReasonWaitingForAgent))
		m.stays(t, service, old, holder)
		others((*cluster.Process).Resume)
		m.moves(t, service, old, next)
		cordon("false")
	})

	t.Run("a live Service asks for what it cannot have: it keeps what it has and says so until it asks no more", func(t *testing.T) {
		namespace := m.Namespace(t, "staying")
		const taken = "10.90.0.45"
		m.published(t, m.create(t, annotated(cluster.LoadBalancer(namespace, "holder"), lb.AnnotationAddresses, taken)))
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		node := m.heldBy(t, addr, anyNode)
		for _, c := range []struct {
			key, value string
			reason     lb.Reason
			words      string
		}{
			{lb.AnnotationAddresses, taken, lb.ReasonAddressInUse, "asks for 10.90.0.45, which is held by Service staying/holder"},
			{lb.AnnotationAddresses, "192.0.2.1", lb.ReasonAddressNotInPool, "asks for 192.0.2.1, which is in no pool"},
			{lb.AnnotationPool, "private", lb.ReasonNotAllowed, `does not serve namespace "staying"`},
		} {
			m.edit(t, service, func(s *corev1.Service) { annotated(s, c.key, c.value) })
			m.degraded(t, service, c.reason, c.words)
			m.stays(t, service, addr, node)
			m.edit(t, service, func(s *corev1.Service) { delete(s.Annotations, c.key) })
			m.content(t, service)
		}
	})

	t.Run("over a restart of the controller, what does not parse costs a live Service nothing", func(t *testing.T) {
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, "invalid-restart"), "web"))
		addr := m.published(t, service)
		node := m.heldBy(t, addr, anyNode)
		m.edit(t, service, func(s *corev1.Service) { annotated(s, lb.AnnotationAddresses, "10.90.0.300") })
		m.degraded(t, service, lb.ReasonInvalidRequest, `annotation mooring.dev/addresses: "10.90.0.300" is not an IP address`)
		require.NoError(t, m.Controllers[0].Restart())
		fresh := m.create(t, cluster.LoadBalancer(service.Namespace, "fresh"))
		assert.NotEqual(t, addr, m.published(t, fresh))
		m.degraded(t, service, lb.ReasonInvalidRequest, "10.90.0.300")
		m.stays(t, service, addr, node)
	})

	t.Run("a live Service names another pool: it moves there, and stays when it names none any more", func(t *testing.T) {
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, "renaming"), "web"))
		old := m.published(t, service)
		m.serves(t, old)
		m.edit(t, service, func(s *corev1.Service) { from(s, "annex") })
		next := netip.MustParseAddr("10.90.0.70")
		m.moves(t, service, old, next)
		m.edit(t, service, func(s *corev1.Service) { delete(s.Annotations, lb.AnnotationPool) })
		m.stays(t, service, next, m.heldBy(t, next, anyNode))
		m.content(t, service)
	})

	t.Run("a live Service selects nodes: its address goes to one of them, and stays there when none is selected", func(t *testing.T) {
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, "selecting"), "web"))
		addr := m.published(t, service)
		m.serves(t, addr)
		goal := "n1"
		if m.heldBy(t, addr, anyNode).Name == goal {
			goal = "n2"
		}
		_, err := m.Kube.CoreV1().Nodes().Patch(t.Context(), goal, types.MergePatchType, []byte(`{"metadata":{"labels":{"edge":"true"}}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		m.edit(t, service, func(s *corev1.Service) { annotated(s, lb.AnnotationNodeSelector, "edge=true") })
		holder := m.heldBy(t, addr, only(goal))
		m.serves(t, addr)

		m.edit(t, service, func(s *corev1.Service) { annotated(s, lb.AnnotationNodeSelector, "edge=never") })
		m.degraded(t, service, lb.ReasonNoEligibleNode, addr.String()+" stays where it is: node "+goal+` is not matching node selector "edge=never"`)
		m.stays(t, service, addr, holder)
	})

	t.Run("live Services that share come to clash, and part", func(t *testing.T) {
		namespace := m.Namespace(t, "parting")
		shared := func(name string, port int32) *corev1.Service {
			service := annotated(cluster.LoadBalancer(namespace, name), lb.AnnotationSharingKey, "front")
			service.Spec.Ports[0].Port = port
			return service
		}
		elder := m.create(t, shared("elder", 80))
		addr := m.published(t, elder)
		younger := m.create(t, shared("younger", 81))
		require.Equal(t, addr, m.published(t, younger))
		holder := m.heldBy(t, addr, anyNode)

		m.edit(t, younger, func(s *corev1.Service) { s.Spec.Ports[0].Port = 80 })
		for _, service := range []*corev1.Service{elder, younger} {
			m.degraded(t, service, lb.ReasonSharingConflict, "port 80/TCP on "+addr.String()+" is used by Service parting/")
		}
		assert.Equal(t, addr, m.published(t, younger))

		m.edit(t, younger, func(s *corev1.Service) { delete(s.Annotations, lb.AnnotationSharingKey) })
		var own netip.Addr
		m.Eventually(t, "younger gets an address of its own", func(ctx context.Context) error {
			published, err := m.Published(ctx, namespace, younger.Name)
			if err == nil && (len(published) != 1 || published[0] == addr) {
				err = fmt.Errorf("it publishes %v", published)
			}
			if err == nil {
				own = published[0]
			}
			return err
		})
		m.serves(t, own)
		m.content(t, younger)
		m.content(t, elder)
		m.stays(t, elder, addr, holder)
	})
}

// moves waits until the Service is published at the next address and the old one is on no node. All the while some
// address is published, and that one answers.
func (m *moored) moves(t *testing.T, service *corev1.Service, old, next netip.Addr) {
	t.Helper()
	published := func(ctx context.Context) netip.Addr {
		addrs, err := m.Published(ctx, service.Namespace, service.Name)
		require.NoError(t, err)
		require.Len(t, addrs, 1, "%s publishes one address at any time", service.Name)
		return addrs[0]
	}
	m.Eventually(t, fmt.Sprintf("%s moves from %s to %s", service.Name, old, next), func(ctx context.Context) error {
		addr := published(ctx)
		request, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, err := m.Client.Get(request, netip.AddrPortFrom(addr, 80), "/"); err != nil && published(ctx) == addr {
			t.Fatalf("%s is published and does not answer: %v", addr, err)
		}
		if addr != next {
			return fmt.Errorf("it publishes %s", addr)
		}
		return nil
	})
	m.heldBy(t, next, anyNode)
	m.unbound(t, old)
	m.content(t, service)
}
