package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// twoPools has one pool of both families and one of IPv4 alone, which serves only who asks for it.
const twoPools = officePool + `- name: four
  addresses: [10.90.0.190-10.90.0.199]
  autoAssign: false
  interface: pl0
`

// TestDualStack tells which families a Service gets addresses of, and that both carry packets.
func TestDualStack(t *testing.T) {
	m := install(t, twoPools)

	t.Run("an address of each family, and both are served over TCP and UDP", func(t *testing.T) {
		service := cluster.DualStack(cluster.LoadBalancer(m.Namespace(t, "both"), "web"))
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
			Name: "udp", Protocol: corev1.ProtocolUDP, Port: 80, TargetPort: service.Spec.Ports[0].TargetPort,
		})
		service = m.create(t, service)
		addresses := m.publishedAll(t, service, 2)
		assert.True(t, addresses[0].Is4() && addresses[1].Is6(), "in the order of its ipFamilies: %v", addresses)
		m.bound(t, service, metav1.ConditionTrue, addresses[1].String()+" on ")
		for _, addr := range addresses {
			m.serves(t, addr)
			at := netip.AddrPortFrom(addr, 80)
			answered(t, m.Cluster, at, func(ctx context.Context) (string, error) { return m.Client.AskUDP(ctx, at) }, "n")
			m.heldBy(t, addr, anyNode)
		}
	})

	// The kernel answers for an IPv6 address of pl0 only as a proxy.
	t.Run("on the wire the holder, and no other machine, answers for each address", func(t *testing.T) {
		service := m.create(t, cluster.DualStack(cluster.LoadBalancer(m.Namespace(t, "wire"), "web")))
		for _, addr := range m.publishedAll(t, service, 2) {
			holder := m.heldBy(t, addr, anyNode)
			mac, err := holder.MAC("eth0")
			require.NoError(t, err)
			capture, err := m.Client.Capture()
			require.NoError(t, err)
			require.NoError(t, m.Client.ForgetNeighbours())
			m.serves(t, addr)
			m.Eventually(t, "an answer for "+addr.String()+" is captured", func(context.Context) error {
				for _, claim := range capture.Claims(addr) {
					if claim.Kind == cluster.Announcement && !claim.Gratuitous {
						return nil
					}
				}
				return fmt.Errorf("captured %v", capture.Claims(addr))
			})
			capture.Stop()
			for _, claim := range capture.Claims(addr) {
				assert.Equal(t, mac, claim.MAC, "%s is on %s", addr, holder.Name)
			}
		}
	})

	t.Run("both addresses move, and clients are told", func(t *testing.T) {
		service := m.create(t, cluster.DualStack(cluster.LoadBalancer(m.Namespace(t, "move"), "web")))
		for _, addr := range m.publishedAll(t, service, 2) {
			holder := m.heldBy(t, addr, anyNode)
			m.serves(t, addr)
			label := func(value string) {
				patch := `{"metadata":{"labels":{"` + lb.LabelExcludeNode + `":` + value + `}}}`
				_, err := m.Kube.CoreV1().Nodes().Patch(t.Context(), holder.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
				require.NoError(t, err)
			}
			capture, err := m.Client.Capture()
			require.NoError(t, err)
			label(`"true"`)
			successor := m.heldBy(t, addr, otherThan(holder.Name))
			mac, err := successor.MAC("eth0")
			require.NoError(t, err)
			m.Eventually(t, successor.Name+" tells everybody", func(context.Context) error {
				claims := capture.Claims(addr)
				if !slices.ContainsFunc(claims, func(claim cluster.Claim) bool { return claim.Gratuitous && slices.Equal(claim.MAC, mac) }) {
					return fmt.Errorf("captured %v", claims)
				}
				return nil
			})
			capture.Stop()
			m.serves(t, addr)
			label("null")
		}
	})

	t.Run("IPv6 alone", func(t *testing.T) {
		service := cluster.LoadBalancer(m.Namespace(t, "six"), "web")
		service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
		service = m.create(t, service)
		addresses := m.publishedAll(t, service, 1)
		require.True(t, addresses[0].Is6(), "%v", addresses)
		m.serves(t, addresses[0])
		m.remove(t, service)
		m.unbound(t, addresses[0])
	})

	t.Run("IPv6 first", func(t *testing.T) {
		service := cluster.DualStack(cluster.LoadBalancer(m.Namespace(t, "sixfour"), "web"))
		service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		service = m.create(t, service)
		addresses := m.publishedAll(t, service, 2)
		assert.True(t, addresses[0].Is6() && addresses[1].Is4(), "in the order of its ipFamilies: %v", addresses)
		for _, addr := range addresses {
			m.serves(t, addr)
		}
	})

	t.Run("from one family to both and back, under an open connection", func(t *testing.T) {
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, "live"), "web"))
		first := m.published(t, service)
		m.serves(t, first)
		holder := m.heldBy(t, first, anyNode)
		connection := keptAlive(t, m.Client.HTTPClient(true), first)
		for range 2 {
			m.edit(t, service, func(s *corev1.Service) { cluster.DualStack(s) })
			both := m.publishedAll(t, service, 2)
			assert.Equal(t, first, both[0], "what it has stays")
			m.serves(t, both[1])
			require.NoError(t, connection())

			m.edit(t, service, func(s *corev1.Service) {
				policy := corev1.IPFamilyPolicySingleStack
				s.Spec.IPFamilyPolicy = &policy
			})
			m.publishes(t, service, []netip.Addr{first})
			m.unbound(t, both[1])
			require.NoError(t, connection())
		}
		m.heldBy(t, first, only(holder.Name))
	})

	t.Run("in a pool of one family: what prefers both gets one, what requires both gets none and is told why", func(t *testing.T) {
		namespace := m.Namespace(t, "four")
		asks := func(name string, policy corev1.IPFamilyPolicy) *corev1.Service {
			service := cluster.LoadBalancer(namespace, name)
			service.Annotations = map[string]string{lb.AnnotationPool: "four"}
			service.Spec.IPFamilyPolicy = &policy
			return m.create(t, service)
		}
		prefers := asks("prefers", corev1.IPFamilyPolicyPreferDualStack)
		m.serves(t, m.publishedAll(t, prefers, 1)[0])
		requires := asks("requires", corev1.IPFamilyPolicyRequireDualStack)
		m.bound(t, requires, metav1.ConditionFalse, "IPv6")
		addresses, err := m.Published(t.Context(), namespace, requires.Name)
		require.NoError(t, err)
		assert.Empty(t, addresses)
	})
}
