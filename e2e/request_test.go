package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// asking are the ways to ask for an address.
var asking = []struct {
	field string
	ask   func(service *corev1.Service, addr netip.Addr)
}{
	{"annotation " + lb.AnnotationAddresses, func(s *corev1.Service, addr netip.Addr) { annotated(s, lb.AnnotationAddresses, addr.String()) }},
	{"spec.externalIPs", func(s *corev1.Service, addr netip.Addr) { s.Spec.ExternalIPs = []string{addr.String()} }},
	{"spec.loadBalancerIP", func(s *corev1.Service, addr netip.Addr) { s.Spec.LoadBalancerIP = addr.String() }},
}

// TestRequests tells what becomes of what a Service asks for: given, refused with the reason, or changed while it lives.
func TestRequests(t *testing.T) {
	m := install(t, pools(
		"name: office, addresses: [10.90.0.30-10.90.0.59]",
		"name: private, addresses: [10.90.0.60-10.90.0.69], allowedNamespaces: [members]",
		"name: annex, addresses: [10.90.0.70-10.90.0.79], autoAssign: false",
	))

	t.Run("a namespace that is not allowed gets nothing, however it asks", func(t *testing.T) {
		members, strangers := m.Namespace(t, "members"), m.Namespace(t, "strangers")
		var away []*corev1.Service
		var addrs []netip.Addr
		for i, way := range asking {
			addr := netip.AddrFrom4([4]byte{10, 90, 0, byte(60 + i)})
			service := cluster.LoadBalancer(strangers, fmt.Sprintf("web-%d", i))
			if way.field == "spec.externalIPs" {
				// kube-proxy would serve it whatever Mooring says: the API server does not take the Service.
				way.ask(service, addr)
				m.inForce(t, service)
				addrs = append(addrs, addr)
				continue
			}
			way.ask(service, addr)
			service = m.create(t, service)
			m.refused(t, service, lb.ReasonNotAllowed, fmt.Sprintf(`%s asks for %s of pool "private", which does not serve namespace "strangers" (allowedNamespaces)`, way.field, addr))
			away, addrs = append(away, service), append(addrs, addr)
		}
		byName := m.create(t, from(cluster.LoadBalancer(strangers, "by-name"), "private"))
		m.refused(t, byName, lb.ReasonNotAllowed, `does not serve namespace "strangers"`)
		away = append(away, byName)
		m.Throughout(t, settle, "they get nothing", func(ctx context.Context) error {
			for _, service := range away {
				published, err := m.Published(ctx, strangers, service.Name)
				if err != nil || len(published) > 0 {
					return errors.Join(err, fmt.Errorf("the status of %s holds %v", service.Name, published))
				}
			}
			for _, addr := range addrs {
				holders, err := m.Holders("pl0", addr)
				if err != nil || len(holders) > 0 {
					return errors.Join(err, fmt.Errorf("%d nodes hold %s", len(holders), addr))
				}
			}
			return nil
		})

		for i, way := range asking {
			service := cluster.LoadBalancer(members, fmt.Sprintf("web-%d", i))
			way.ask(service, addrs[i])
			assert.Equal(t, addrs[i], m.published(t, m.create(t, service)), "a namespace that is allowed asks by %s", way.field)
			m.serves(t, addrs[i])
		}
	})

	t.Run("an address that two ask for: the first keeps it, the second reads who holds it and gets it afterwards", func(t *testing.T) {
		namespace := m.Namespace(t, "rivals")
		addr := netip.MustParseAddr("10.90.0.40")
		holder := cluster.LoadBalancer(namespace, "holder")
		asking[0].ask(holder, addr)
		holder = m.create(t, holder)
		assert.Equal(t, addr, m.published(t, holder))
		node := m.heldBy(t, addr, anyNode)
		for i, way := range asking {
			service := cluster.LoadBalancer(namespace, fmt.Sprintf("late-%d", i))
			way.ask(service, addr)
			m.refused(t, m.create(t, service), lb.ReasonAddressInUse, way.field+" asks for 10.90.0.40, which is held by Service rivals/holder")
		}
		m.stays(t, holder, addr, node)
		m.content(t, holder)

		m.remove(t, holder)
		var heirs []string
		m.Eventually(t, "one of those who waited gets it", func(ctx context.Context) error {
			heirs = nil
			for i := range asking {
				published, err := m.Published(ctx, namespace, fmt.Sprintf("late-%d", i))
				if err != nil {
					return err
				}
				if slices.Contains(published, addr) {
					heirs = append(heirs, fmt.Sprintf("late-%d", i))
				}
			}
			if len(heirs) == 0 {
				return errors.New("nobody has it")
			}
			return nil
		})
		assert.Len(t, heirs, 1)
		m.serves(t, addr)
	})

	t.Run("shared with the key: one address, both are served at their ports", func(t *testing.T) {
		namespace := m.Namespace(t, "sharing")
		shared := func(name string, ports ...corev1.ServicePort) *corev1.Service {
			service := annotated(cluster.LoadBalancer(namespace, name), lb.AnnotationSharingKey, "front")
			for i := range ports {
				ports[i].TargetPort = service.Spec.Ports[0].TargetPort
			}
			service.Spec.Ports = ports
			return service
		}
		tcp := func(number int32) corev1.ServicePort {
			return corev1.ServicePort{Name: fmt.Sprintf("tcp-%d", number), Protocol: corev1.ProtocolTCP, Port: number}
		}
		udp := func(number int32) corev1.ServicePort {
			return corev1.ServicePort{Name: fmt.Sprintf("udp-%d", number), Protocol: corev1.ProtocolUDP, Port: number}
		}
		web := m.create(t, shared("web", tcp(80)), m.backends[0])
		addr := m.published(t, web)
		mail := m.create(t, shared("mail", tcp(25), udp(80)), m.backends[1])
		require.Equal(t, addr, m.published(t, mail))
		m.heldBy(t, addr, anyNode)
		askTCP := func(port uint16) (netip.AddrPort, func(context.Context) (string, error)) {
			at := netip.AddrPortFrom(addr, port)
			return at, func(ctx context.Context) (string, error) { return m.Client.Get(ctx, at, "/") }
		}
		at, ask := askTCP(80)
		answered(t, m.Cluster, at, ask, "n1 ")
		atMail, askMail := askTCP(25)
		answered(t, m.Cluster, atMail, askMail, "n2 ")
		answered(t, m.Cluster, at, func(ctx context.Context) (string, error) { return m.Client.AskUDP(ctx, at) }, "n2 ")

		m.refused(t, m.create(t, shared("again", tcp(443), tcp(80))), lb.ReasonSharingConflict, "port 80/TCP on "+addr.String()+" is used by Service sharing/web")
		keyless := cluster.LoadBalancer(namespace, "keyless")
		keyless.Spec.Ports[0].Port = 8080
		asking[0].ask(keyless, addr)
		m.refused(t, m.create(t, keyless), lb.ReasonAddressInUse, "which is held by Service sharing/mail")

		m.remove(t, web)
		assert.Equal(t, addr, m.published(t, m.created(t, namespace, "again")), "its port is free now")
		answered(t, m.Cluster, at, ask, "n")
		answered(t, m.Cluster, atMail, askMail, "n2 ")
	})

	t.Run("what does not parse is said on the Service", func(t *testing.T) {
		namespace := m.Namespace(t, "invalid")
		for i, c := range []struct {
			change func(*corev1.Service)
			reason lb.Reason
			words  string
		}{
			{func(s *corev1.Service) { annotated(s, lb.AnnotationAddresses, "10.90.0.31, office") }, lb.ReasonInvalidRequest,
				`annotation mooring.dev/addresses: "office" is not an IP address`},
			{func(s *corev1.Service) { s.Spec.LoadBalancerIP = "office-1" }, lb.ReasonInvalidRequest, `spec.loadBalancerIP: "office-1" is not an IP address`},
			{func(s *corev1.Service) { annotated(s, lb.AnnotationNodeSelector, "edge in (") }, lb.ReasonInvalidRequest,
				`annotation mooring.dev/node-selector: "edge in (" is not a label selector`},
			{func(s *corev1.Service) { annotated(s, lb.AnnotationPool, "offce") }, lb.ReasonPoolNotFound,
				`annotation mooring.dev/pool names pool "offce", which is not in the cloud-config: name one of annex, office, private`},
			{func(s *corev1.Service) { annotated(s, lb.AnnotationAddresses, "fd00:90::1") }, lb.ReasonFamilyMismatch,
				"annotation mooring.dev/addresses asks for fd00:90::1, which is IPv6, but spec.ipFamilies of the Service is IPv4"},
		} {
			service := cluster.LoadBalancer(namespace, fmt.Sprintf("web-%d", i))
			c.change(service)
			m.refused(t, m.create(t, service), c.reason, c.words)
		}
	})

	liveRequests(t, m)
}

// created is a Service that exists.
func (m *moored) created(t *testing.T, namespace, name string) *corev1.Service {
	t.Helper()
	service, err := m.Kube.CoreV1().Services(namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return service
}

// refused waits until the Service reads that it gets nothing and why, in its condition and in an event, and sees that
// it has nothing.
func (m *moored) refused(t *testing.T, service *corev1.Service, reason lb.Reason, words string) {
	t.Helper()
	m.says(t, service, lb.ConditionBound, metav1.ConditionFalse, reason, words)
	published, err := m.Published(t.Context(), service.Namespace, service.Name)
	require.NoError(t, err)
	assert.Empty(t, published, "the status of %s", service.Name)
}

// degraded waits until the Service reads that what it asks for is not done although it is published, in its condition
// and in an event.
func (m *moored) degraded(t *testing.T, service *corev1.Service, reason lb.Reason, words string) {
	t.Helper()
	m.says(t, service, lb.ConditionDegraded, metav1.ConditionTrue, reason, words)
	m.bound(t, service, metav1.ConditionTrue, "")
}

func (m *moored) says(t *testing.T, service *corev1.Service, kind string, status metav1.ConditionStatus, reason lb.Reason, words string) {
	t.Helper()
	m.condition(t, service, kind, status, words)
	condition := meta.FindStatusCondition(m.created(t, service.Namespace, service.Name).Status.Conditions, kind)
	require.NotNil(t, condition)
	assert.Equal(t, string(reason), condition.Reason)
	m.event(t, service.Namespace, string(reason), words)
}

// content waits until the Service has all that it asks for.
func (m *moored) content(t *testing.T, service *corev1.Service) {
	t.Helper()
	m.bound(t, service, metav1.ConditionTrue, "")
	m.Eventually(t, service.Name+" is not Degraded", func(ctx context.Context) error {
		current, err := m.Kube.CoreV1().Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if condition := meta.FindStatusCondition(current.Status.Conditions, lb.ConditionDegraded); condition != nil {
			return fmt.Errorf("its condition is %s: %s", condition.Reason, condition.Message)
		}
		return nil
	})
}
