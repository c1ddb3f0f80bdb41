package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// lease is the leader's.
const lease = "mooring-cloud-controller-manager"

// TestLeader tells what happens to addresses when the controller that leads changes, when two believe that they
// lead, and when the API server is away: nothing.
func TestLeader(t *testing.T) {
	m := install(t, officePool)
	_, err := m.AddController(t.Context())
	require.NoError(t, err)
	require.NoError(t, m.Controllers[1].Start())

	namespace := m.Namespace(t, "steady")
	var steady []*corev1.Service
	for i := range 6 {
		steady = append(steady, m.create(t, cluster.DualStack(cluster.LoadBalancer(namespace, fmt.Sprintf("web-%d", i)))))
	}
	published := map[string][]netip.Addr{}
	for _, service := range steady {
		published[service.Name] = m.publishedAll(t, service, 2)
	}
	watched := published[steady[0].Name]
	for _, addr := range watched {
		m.serves(t, addr)
	}
	before := m.entries(t)
	// unmoved says that the Services that were there at the beginning are as they were then.
	unmoved := func(t *testing.T) {
		t.Helper()
		for _, service := range steady {
			m.publishes(t, service, published[service.Name])
		}
		assert.Equal(t, before, m.entries(t), "the node of every address")
		require.NoError(t, m.answersAtOnce(t.Context(), watched...))
	}
	// works says that somebody leads: a new Service gets an address that nobody has, and lets it go.
	works := func(t *testing.T) {
		t.Helper()
		service := m.create(t, cluster.LoadBalancer(namespace, "probe"))
		addr := m.published(t, service)
		assert.NotContains(t, before, addr.String(), "no address is given twice")
		m.serves(t, addr)
		m.remove(t, service)
		m.unbound(t, addr)
	}

	t.Run("the leader is stopped: it gives the lease back, and the other one leads", func(t *testing.T) {
		leader, other := m.leader(t)
		holders := m.holdersOfLease(t)
		begin := time.Now()
		require.NoError(t, leader.Stop())
		m.leads(t, other)
		t.Logf("%.1f s from SIGTERM until %s leads", time.Since(begin).Seconds(), other.Name)
		assert.Contains(t, holders(), "", "the lease is given back before it is taken")
		works(t)
		t.Logf("%.1f s from SIGTERM until a new Service has come and gone", time.Since(begin).Seconds())
		unmoved(t)
		require.NoError(t, leader.Start())
	})

	t.Run("the leader is killed: the other one leads when the lease has expired", func(t *testing.T) {
		leader, other := m.leader(t)
		holders := m.holdersOfLease(t)
		begin := time.Now()
		require.NoError(t, leader.Kill())
		m.leads(t, other)
		t.Logf("%.1f s from SIGKILL until %s leads", time.Since(begin).Seconds(), other.Name)
		assert.NotContains(t, holders(), "")
		works(t)
		unmoved(t)
		require.NoError(t, leader.Start())
	})

	t.Run("the leader freezes, is succeeded and wakes up: what happened meanwhile stays", func(t *testing.T) {
		leader, other := m.leader(t)
		deleted := m.create(t, cluster.LoadBalancer(namespace, "deleted"))
		freed := m.published(t, deleted)
		require.NoError(t, leader.Pause())
		pending := m.create(t, cluster.LoadBalancer(namespace, "pending"))
		m.leads(t, other)
		got := m.published(t, pending)
		m.remove(t, deleted)
		m.unbound(t, freed)

		// Both write now, until the one that woke up looks at the clock.
		require.NoError(t, leader.Resume())
		latest := m.create(t, cluster.LoadBalancer(namespace, "latest"))
		m.serves(t, m.published(t, latest))
		m.Throughout(t, settle, "it stays so", func(ctx context.Context) error {
			now, err := m.Published(ctx, namespace, pending.Name)
			if err == nil && !slices.Equal(now, []netip.Addr{got}) {
				err = fmt.Errorf("%s has %v instead of %s", pending.Name, now, got)
			}
			return errors.Join(err, m.answersAtOnce(ctx, watched...))
		})
		m.leads(t, other)
		m.serves(t, got)
		m.consistent(t, namespace)
		m.remove(t, pending)
		m.remove(t, latest)
		unmoved(t)
	})

	// Kubernetes' own controllers go with it: the outage is longer than this cluster's short grace period, after which
	// they would take whichever kubelet is the last to come back for dead.
	t.Run("the control plane is killed and comes back", func(t *testing.T) {
		require.NoError(t, m.ControllerManager.Kill())
		require.NoError(t, m.APIServer.Kill())
		m.Throughout(t, settle, "every connection succeeds", func(ctx context.Context) error { return m.answersAtOnce(ctx, watched...) })
		back := time.Now()
		require.NoError(t, m.APIServer.Start())
		require.NoError(t, m.AwaitAPIServer(t.Context()))
		for _, node := range m.Nodes {
			m.Eventually(t, "the kubelet of "+node.Name+" says that it lives", func(ctx context.Context) error {
				life, err := m.Kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, node.Name, metav1.GetOptions{})
				if err == nil && (life.Spec.RenewTime == nil || life.Spec.RenewTime.Time.Before(back)) {
					err = errors.New("not yet")
				}
				return err
			})
		}
		require.NoError(t, m.ControllerManager.Start())
		works(t)
		unmoved(t)
	})

	t.Run("two controllers both believe that they lead for 30 s", func(t *testing.T) {
		for _, controller := range m.Controllers {
			require.NoError(t, controller.Stop())
		}
		var both []*cluster.Process
		for range 2 {
			controller, err := m.AddController(t.Context(), "--leader-elect=false")
			require.NoError(t, err)
			require.NoError(t, controller.Start())
			both = append(both, controller)
		}
		split := m.Namespace(t, "split")
		count, next := 0, time.Now()
		m.Throughout(t, 30*time.Second, "whoever was served is served", func(ctx context.Context) error {
			if err := m.answersAtOnce(ctx, watched...); err != nil || time.Now().Before(next) {
				return err
			}
			next = time.Now().Add(300 * time.Millisecond)
			m.create(t, cluster.LoadBalancer(split, fmt.Sprintf("web-%d", count)))
			if count++; count%2 == 0 {
				return m.Kube.CoreV1().Services(split).Delete(ctx, fmt.Sprintf("web-%d", count/2-1), metav1.DeleteOptions{})
			}
			return nil
		})
		assert.Contains(t, both[0].Tail(1<<20)+both[1].Tail(1<<20), "another controller leads",
			"the one that meets a newer epoch ends, and starts again in a newer one")
		require.NoError(t, both[1].Kill())
		m.consistent(t, namespace, split)
		unmovedSoFar := m.entries(t)
		for addr, node := range before {
			assert.Equal(t, node, unmovedSoFar[addr], "node of %s", addr)
		}

		// What the last one believes is what the next one finds.
		require.NoError(t, both[0].Stop())
		require.NoError(t, m.Controllers[0].Start())
		works(t)
		m.consistent(t, namespace, split)
	})
}

// leader waits until one of the first two controllers leads, and returns it and the other.
func (m *moored) leader(t *testing.T) (leader, other *cluster.Process) {
	t.Helper()
	m.Eventually(t, "a controller leads", func(ctx context.Context) (err error) {
		leader, err = m.Leader(ctx)
		if err == nil && (leader == nil || !leader.Running()) {
			err = errors.New("nobody does")
		}
		return err
	})
	return leader, m.Controllers[1-slices.Index(m.Controllers[:2], leader)]
}

// leads waits until the controller holds the lease.
func (m *moored) leads(t *testing.T, controller *cluster.Process) {
	t.Helper()
	m.Eventually(t, controller.Name+" leads", func(ctx context.Context) error {
		leader, err := m.Leader(ctx)
		if err == nil && leader != controller {
			err = errors.New("it does not hold the lease")
		}
		return err
	})
}

// holdersOfLease watches who holds the lease; the returned function ends that and says it, in order.
func (m *moored) holdersOfLease(t *testing.T) func() []string {
	t.Helper()
	w, err := m.Kube.CoordinationV1().Leases(metav1.NamespaceSystem).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + lease})
	require.NoError(t, err)
	seen := make(chan []string, 1)
	go func() {
		var holders []string
		for event := range w.ResultChan() {
			object, ok := event.Object.(*coordinationv1.Lease)
			if !ok || event.Type == watch.Deleted {
				continue
			}
			holder := ""
			if object.Spec.HolderIdentity != nil {
				holder = *object.Spec.HolderIdentity
			}
			if len(holders) == 0 || holders[len(holders)-1] != holder {
				holders = append(holders, holder)
			}
		}
		seen <- holders
	}()
	return func() []string {
		w.Stop()
		return <-seen
	}
}

// consistent waits until every Service of these namespaces, which are all that there are, has the addresses that it
// asks for, each address is one Service's and on one node, and nothing else is held anywhere.
func (m *moored) consistent(t *testing.T, namespaces ...string) {
	t.Helper()
	m.Eventually(t, "every address is one Service's and on one node, and there are no others", func(ctx context.Context) error {
		owners := map[string]string{}
		for _, namespace := range namespaces {
			services, err := m.Kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, service := range services.Items {
				if service.DeletionTimestamp != nil {
					return fmt.Errorf("%s is being deleted", service.Name)
				}
				if got, want := len(service.Status.LoadBalancer.Ingress), len(service.Spec.IPFamilies); got != want {
					return fmt.Errorf("%s has %d of %d addresses", service.Name, got, want)
				}
				for _, ingress := range service.Status.LoadBalancer.Ingress {
					if other, taken := owners[ingress.IP]; taken {
						return fmt.Errorf("%s belongs to %s and %s", ingress.IP, other, service.Name)
					}
					owners[ingress.IP] = service.Name
				}
			}
		}
		entries, err := m.readEntries(ctx)
		if err != nil {
			return err
		}
		bound := map[string]string{}
		for _, node := range m.Nodes {
			prefixes, err := node.Addresses("pl0")
			if err != nil {
				return err
			}
			for _, prefix := range prefixes {
				if other, twice := bound[prefix.Addr().String()]; twice {
					return fmt.Errorf("%s is on %s and %s", prefix.Addr(), other, node.Name)
				}
				bound[prefix.Addr().String()] = node.Name
			}
		}
		if !maps.Equal(entries, bound) {
			return fmt.Errorf("NodeAddresses say %v, the nodes hold %v", entries, bound)
		}
		if have, want := slices.Sorted(maps.Keys(bound)), slices.Sorted(maps.Keys(owners)); !slices.Equal(have, want) {
			return fmt.Errorf("the nodes hold %v, the Services %v", have, want)
		}
		return nil
	})
}
