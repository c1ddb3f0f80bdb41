package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
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

// TestPools tells what Services notice of a pool that is full, grows and shrinks.
func TestPools(t *testing.T) {
	m := install(t, pools("name: tiny, addresses: [10.90.0.100]"))

	t.Run("exhausted: who waits is told which pool is full, and gets the address that another Service frees", func(t *testing.T) {
		namespace := m.Namespace(t, "exhausted")
		first := m.create(t, cluster.LoadBalancer(namespace, "first"))
		addr := m.published(t, first)
		second := m.create(t, cluster.LoadBalancer(namespace, "second"))
		m.refused(t, second, lb.ReasonPoolExhausted, "pool tiny: all 1 IPv4 addresses are in use")
		m.remove(t, first)
		assert.Equal(t, addr, m.publishedSoon(t, second))
		m.bound(t, second, metav1.ConditionTrue, "pool tiny")
		m.serves(t, addr)
	})

	t.Run("enlarged: who waits is served, and the others notice nothing", func(t *testing.T) {
		m.reload(t, pools("name: tiny, addresses: [10.90.0.110]"), taken)
		namespace := m.Namespace(t, "enlarged")
		first := m.create(t, cluster.LoadBalancer(namespace, "first"))
		addr := m.published(t, first)
		holder := m.heldBy(t, addr, anyNode)
		second := m.create(t, cluster.LoadBalancer(namespace, "second"))
		m.refused(t, second, lb.ReasonPoolExhausted, "pool tiny")

		m.reload(t, pools("name: tiny, addresses: [10.90.0.110-10.90.0.111]"), taken)
		next := m.publishedSoon(t, second)
		assert.Equal(t, netip.MustParseAddr("10.90.0.111"), next)
		m.serves(t, next)
		m.content(t, second)
		m.stays(t, first, addr, holder)
		m.content(t, first)
	})

	t.Run("enlarged by less than what is waited for: the oldest are served first", func(t *testing.T) {
		m.reload(t, pools("name: queue, addresses: [10.90.0.140]"), taken)
		namespace := m.Namespace(t, "queue")
		m.published(t, m.create(t, cluster.LoadBalancer(namespace, "served")))
		var waiting []*corev1.Service
		for i := range 6 {
			waiting = append(waiting, m.create(t, cluster.LoadBalancer(namespace, fmt.Sprintf("wait-%d", i))))
			m.refused(t, waiting[i], lb.ReasonPoolExhausted, "pool queue")
		}
		for i, service := range waiting[:3] {
			m.reload(t, pools(fmt.Sprintf("name: queue, addresses: [10.90.0.140-10.90.0.%d]", 141+i)), taken)
			assert.Equal(t, netip.AddrFrom4([4]byte{10, 90, 0, byte(141 + i)}), m.published(t, service))
		}
		// Also when the room was made while nobody looked.
		require.NoError(t, m.Controllers[0].Stop())
		require.NoError(t, m.Configure(pools("name: queue, addresses: [10.90.0.140-10.90.0.144]")))
		require.NoError(t, m.Controllers[0].Start())
		assert.Equal(t, netip.MustParseAddr("10.90.0.144"), m.published(t, waiting[3]))
	})

	t.Run("closed to a namespace: what is published stays and is reported, and nothing more is given", func(t *testing.T) {
		m.reload(t, pools("name: closing, addresses: [10.90.0.150-10.90.0.159]"), taken)
		namespace := m.Namespace(t, "closed")
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		holder := m.heldBy(t, addr, anyNode)

		m.reload(t, pools("name: closing, addresses: [10.90.0.150-10.90.0.159], allowedNamespaces: [others]"), taken)
		m.degraded(t, service, lb.ReasonNotAllowed, `is kept, but its pool "closing" does not serve namespace "closed" (allowedNamespaces)`)
		m.refused(t, m.create(t, cluster.LoadBalancer(namespace, "late")), lb.ReasonNoPool, "pool closing does not serve namespace")
		m.stays(t, service, addr, holder)
	})

	t.Run("selecting by labels: a namespace and a Service that are labelled are served", func(t *testing.T) {
		m.reload(t, pools("name: public, addresses: [10.90.0.160-10.90.0.169], namespaceSelector: {matchLabels: {tier: public}}, serviceSelector: {matchLabels: {expose: yes-please}}"), taken)
		namespace := m.Namespace(t, "labels")
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		m.refused(t, service, lb.ReasonNoPool, "namespaceSelector")
		_, err := m.Kube.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, []byte(`{"metadata":{"labels":{"tier":"public"}}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		m.refused(t, service, lb.ReasonNoPool, "serviceSelector")
		m.edit(t, service, func(s *corev1.Service) { metav1.SetMetaDataLabel(&s.ObjectMeta, "expose", "yes-please") })
		m.serves(t, m.published(t, service))
	})

	t.Run("put on another interface: its addresses go there and are served", func(t *testing.T) {
		m.reload(t, pools("name: office, addresses: [10.90.0.170-10.90.0.179]"), taken)
		namespace := m.Namespace(t, "interface")
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		m.serves(t, addr)
		m.reload(t, strings.ReplaceAll(pools("name: office, addresses: [10.90.0.170-10.90.0.179]"), "pl0", "pl1"), taken)
		m.unbound(t, addr)
		m.Eventually(t, "one node holds it on pl1", func(context.Context) error {
			holders, err := m.Holders("pl1", addr)
			if err == nil && len(holders) != 1 {
				err = fmt.Errorf("%d nodes hold it", len(holders))
			}
			return err
		})
		m.serves(t, addr)
		m.content(t, service)
	})

	t.Run("a free part removed: nobody notices, and it is given to nobody", func(t *testing.T) {
		m.reload(t, pools("name: shrinking, addresses: [10.90.0.120-10.90.0.121]"), taken)
		namespace := m.Namespace(t, "free-part")
		first := m.create(t, cluster.LoadBalancer(namespace, "first"))
		addr := m.published(t, first)
		holder := m.heldBy(t, addr, anyNode)

		m.reload(t, pools("name: shrinking, addresses: ["+addr.String()+"]"), taken)
		second := m.create(t, cluster.LoadBalancer(namespace, "second"))
		m.refused(t, second, lb.ReasonPoolExhausted, "pool shrinking: all 1 IPv4 addresses are in use")
		m.stays(t, first, addr, holder)
		m.content(t, first)
	})

	t.Run("a part in use removed: it stays and is reported, and goes with its Service", func(t *testing.T) {
		whole := pools("name: shrinking, addresses: [10.90.0.130-10.90.0.131]")
		m.reload(t, whole, taken)
		namespace := m.Namespace(t, "used-part")
		out, in := m.create(t, cluster.LoadBalancer(namespace, "out")), m.create(t, cluster.LoadBalancer(namespace, "in"))
		removed, left := m.published(t, out), m.published(t, in)
		holder := m.heldBy(t, removed, anyNode)
		rest := pools("name: shrinking, addresses: [" + left.String() + "]")

		m.reload(t, rest, taken)
		m.degraded(t, out, lb.ReasonAddressNotInPool, removed.String()+` is kept, but pool "shrinking" does not contain it any more: put the address back`)
		m.stays(t, out, removed, holder)
		m.content(t, in)

		m.reload(t, whole, taken)
		m.content(t, out)

		m.reload(t, rest, taken)
		m.remove(t, out)
		m.unbound(t, removed)
		next := m.create(t, cluster.LoadBalancer(namespace, "next"))
		m.refused(t, next, lb.ReasonPoolExhausted, "pool shrinking: all 1 IPv4 addresses are in use")
	})
}

// pools is a cloud-config of pools on pl0, each given by its other keys.
func pools(keys ...string) string {
	var text strings.Builder
	text.WriteString("apiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\npools:\n")
	for _, k := range keys {
		fmt.Fprintf(&text, "- {interface: pl0, %s}\n", k)
	}
	return text.String()
}

// publishedSoon waits until the Service's status holds an address, for a time that is well below the 30 s after which
// the service controller asks again for a Service that was refused: room is given away when it is made.
func (m *moored) publishedSoon(t *testing.T, service *corev1.Service) netip.Addr {
	t.Helper()
	var addr netip.Addr
	require.NoError(t, cluster.AwaitFor(t.Context(), 15*time.Second, service.Name+" is served as soon as there is room", func(ctx context.Context) error {
		addresses, err := m.Published(ctx, service.Namespace, service.Name)
		if err == nil && len(addresses) == 0 {
			err = errors.New("its status holds none")
		}
		if err == nil {
			addr = addresses[0]
		}
		return err
	}))
	return addr
}

// stays sees that for a while the Service is served at the address, the only one it publishes, on one node.
func (m *moored) stays(t *testing.T, service *corev1.Service, addr netip.Addr, holder *cluster.Node) {
	t.Helper()
	m.Throughout(t, settle, fmt.Sprintf("%s keeps %s on %s", service.Name, addr, holder.Name), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		published, err := m.Published(ctx, service.Namespace, service.Name)
		if err != nil {
			return err
		}
		if len(published) != 1 || published[0] != addr {
			return fmt.Errorf("its status holds %v", published)
		}
		holders, err := m.Holders("pl0", addr)
		if err != nil {
			return err
		}
		if len(holders) != 1 || holders[0] != holder {
			return errors.Join(errMoved, fmt.Errorf("%d nodes hold it", len(holders)))
		}
		_, err = m.Client.Get(ctx, netip.AddrPortFrom(addr, 80), "/")
		return err
	})
}
