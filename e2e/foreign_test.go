package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// crowdedPools are on a segment where other machines have addresses, too.
const crowdedPools = officePool + `- {name: shared, addresses: [10.90.0.190-10.90.0.191, "fd00:90::2000-fd00:90::2001"], autoAssign: false, interface: pl0}
- {name: proxied, addresses: [10.90.0.192-10.90.0.199], autoAssign: false, interface: pl0}
`

// foreigners tells what becomes of a Service when machines that are no Nodes answer for the addresses of its pool.
func foreigners(t *testing.T, m *moored, neighbour *cluster.Backend) {
	t.Run("a foreign host has an address of the pool: the Service gets another one, and is told of the host", func(t *testing.T) {
		foreign, err := m.AddHost("foreign", 203)
		require.NoError(t, err)
		used := []netip.Addr{netip.MustParseAddr("10.90.0.190"), netip.MustParseAddr("fd00:90::2000")}
		for _, addr := range used {
			require.NoError(t, foreign.AddAddress("eth0", addr))
		}
		mac, err := foreign.MAC("eth0")
		require.NoError(t, err)
		namespace := m.Namespace(t, "foreign")
		service := m.create(t, annotated(reachable(namespace, "web"), lb.AnnotationPool, "shared"), neighbour)
		addrs := m.publishedAll(t, service, 2)
		assert.Equal(t, []netip.Addr{netip.MustParseAddr("10.90.0.191"), netip.MustParseAddr("fd00:90::2001")}, addrs)
		m.untilAnswered(t, addrs...)
		for _, addr := range used {
			m.unbound(t, addr)
			m.eventSays(t, namespace, addr.String(), mac.String())
			answers, err := m.Client.WhoHas(addr)
			require.NoError(t, err)
			assert.Equal(t, []string{mac.String()}, answers, "the host keeps %s", addr)
		}
	})

	t.Run("a router answers for every address by proxy: Services are served all the same", func(t *testing.T) {
		router, err := m.AddHost("router", 204)
		require.NoError(t, err)
		proxied := netip.MustParsePrefix("10.90.0.192/29")
		require.NoError(t, router.AnswerByProxy(proxied))
		m.Eventually(t, "the router answers for what nobody has", func(context.Context) error {
			answers, err := m.Client.WhoHas(proxied.Addr())
			if err == nil && len(answers) != 1 {
				err = fmt.Errorf("the answers are %v", answers)
			}
			return err
		})
		namespace := m.Namespace(t, "proxied")
		var services []*corev1.Service
		for i := range 5 {
			service := cluster.LoadBalancer(namespace, fmt.Sprintf("web-%d", i))
			services = append(services, m.create(t, annotated(service, lb.AnnotationPool, "proxied"), neighbour))
		}
		var addrs []netip.Addr
		for _, service := range services {
			addr := m.published(t, service)
			m.heldBy(t, addr, anyNode)
			addrs = append(addrs, addr)
		}
		require.NoError(t, router.CutOff())
		require.NoError(t, m.Client.ForgetNeighbours())
		for _, addr := range addrs {
			m.serves(t, addr)
		}
	})
}

// eventSays waits for an event in the namespace that contains all of the words.
func (m *moored) eventSays(t *testing.T, namespace string, words ...string) {
	t.Helper()
	m.Eventually(t, fmt.Sprintf("an event says %q", words), func(ctx context.Context) error {
		events, err := m.Kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var seen []string
		for _, event := range events.Items {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(event.Message, word) }) {
				return nil
			}
			seen = append(seen, event.Reason+": "+event.Message)
		}
		return fmt.Errorf("the events are %q", seen)
	})
}
