package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// benchPools: addresses that are routed to the nodes, so that there are enough of them, and a pool of one.
const benchPools = `apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- {name: large, addresses: [10.91.0.0/16], interface: pl0}
- {name: single, addresses: [10.92.0.1], interface: pl0, autoAssign: false}
`

const (
	// clients create Services at the same time.
	clients = 16
	// benchGuard is how long the largest number of Services may take.
	benchGuard = 10 * time.Minute
	// idleFor is how long the idle processes are observed.
	idleFor = 20 * time.Second
)

// TestBenchServices measures many Services at once, and what they cost once they are there.
func TestBenchServices(t *testing.T) {
	m := benchmark(t)
	t.Run("1000", func(t *testing.T) { m.createMany(t, 1000).deleteAll(t) })
	t.Run("3000", func(t *testing.T) {
		many := m.createMany(t, 3000)
		m.measureRest(t, 3000)
		many.deleteAll(t)
	})
}

// TestBenchRepair measures how long it takes until something is as it should be again.
func TestBenchRepair(t *testing.T) {
	m := benchmark(t)
	t.Run("an address removed by hand", m.measureMending)
	t.Run("an address that is waited for", m.measureHandover)
}

// bench is a cluster that is measured.
type bench struct {
	*moored
	// kube is the clients' connection, cheap for the machine that everything shares.
	kube kubernetes.Interface
}

func benchmark(t *testing.T) *bench {
	t.Helper()
	if os.Getenv("BENCH") == "" {
		t.Skip("measurements run with make bench")
	}
	m := &bench{moored: install(t, benchPools)}
	config := rest.CopyConfig(m.Config)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	var err error
	m.kube, err = kubernetes.NewForConfig(config)
	require.NoError(t, err)
	m.untainted(t)
	return m
}

// many are Services that were created at once.
type many struct {
	*bench
	namespace string
	names     []string
}

// createMany creates n Services from several clients and measures, for each, the time from the moment that a client
// asks for it until a watch shows its address.
func (m *bench) createMany(t *testing.T, n int) *many {
	t.Helper()
	all := &many{bench: m, namespace: fmt.Sprintf("bench-%d", n)}
	_, err := m.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: all.namespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	for i := range n {
		all.names = append(all.names, fmt.Sprintf("web-%d", i))
	}

	ctx, cancel := context.WithTimeout(t.Context(), benchGuard)
	defer cancel()
	published := m.watchPublished(ctx, t, all.namespace)
	before, used, start := load(t), m.cpu(t), time.Now()
	profiled := m.profile(t, fmt.Sprintf("services-%d", n))
	asked := all.ask(ctx, t)
	seen := map[string]shown{}
	for len(seen) < n {
		select {
		case s := <-published:
			if _, ok := seen[s.name]; !ok {
				seen[s.name] = s
			}
		case <-ctx.Done():
			require.FailNow(t, "not all are published", "%d of %d within %v\n%s", len(seen), n, benchGuard, m.Dump(t.Context()))
		}
	}
	var waits []time.Duration
	for name, s := range seen {
		waits = append(waits, s.at.Sub(asked[name]))
	}
	figure(fmt.Sprintf("ServicesAtOnce/%d", n),
		percentile(waits, 50), "s-p50", percentile(waits, 99), "s-p99", percentile(waits, 100), "s-max",
		time.Since(start).Seconds(), "s-until-all", before, "load-before", float64(runtime.NumCPU()), "cores")
	m.checkBound(t, seen)
	spent := m.cpu(t)
	for _, part := range slices.Sorted(maps.Keys(spent)) {
		figure(fmt.Sprintf("ServicesAtOnceCPU/%d/%s", n, part), (spent[part]-used[part])/float64(n)*1000, "ms/Service")
	}
	profiled()
	m.settled(t)
	m.countWrites(t, n, start)
	return all
}

// shown is a Service's address in a watch.
type shown struct {
	name string
	addr netip.Addr
	at   time.Time
}

// watchPublished tells of each Service of the namespace that is seen with an address; of one more than once.
func (m *bench) watchPublished(ctx context.Context, t *testing.T, namespace string) <-chan shown {
	t.Helper()
	seen := make(chan shown, 16*1024)
	look := func(object any) {
		now := time.Now()
		service, ok := object.(*corev1.Service)
		if !ok || len(service.Status.LoadBalancer.Ingress) == 0 {
			return
		}
		if addr, err := netip.ParseAddr(service.Status.LoadBalancer.Ingress[0].IP); err == nil {
			select {
			case seen <- shown{service.Name, addr, now}:
			case <-ctx.Done():
			}
		}
	}
	informers := informers.NewSharedInformerFactoryWithOptions(m.kube, 0, informers.WithNamespace(namespace))
	_, err := informers.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: look, UpdateFunc: func(_, object any) { look(object) },
	})
	require.NoError(t, err)
	informers.StartWithContext(ctx)
	informers.WaitForCacheSyncWithContext(ctx)
	return seen
}

// ask creates the Services and returns when each was asked for.
func (m *many) ask(ctx context.Context, t *testing.T) map[string]time.Time {
	t.Helper()
	var mu sync.Mutex
	asked := make(map[string]time.Time, len(m.names))
	m.fromClients(t, func(name string) error {
		now := time.Now()
		_, err := m.kube.CoreV1().Services(m.namespace).Create(ctx, benchService(m.namespace, name), metav1.CreateOptions{})
		mu.Lock()
		defer mu.Unlock()
		asked[name] = now
		return err
	})
	return asked
}

// fromClients does something to every Service, from several clients at once.
func (m *many) fromClients(t *testing.T, do func(name string) error) {
	t.Helper()
	failures := make([]error, clients)
	var working sync.WaitGroup
	for client := range clients {
		working.Go(func() {
			for i := client; i < len(m.names) && failures[client] == nil; i += clients {
				failures[client] = do(m.names[i])
			}
		})
	}
	working.Wait()
	require.NoError(t, errors.Join(failures...))
}

// benchService needs no node port: a cluster has 2,768 of them.
func benchService(namespace, name string) *corev1.Service {
	service := cluster.LoadBalancer(namespace, name)
	service.Spec.AllocateLoadBalancerNodePorts = new(false)
	return service
}

// checkBound looks at the nodes: a published address that is on none would have been measured too soon.
func (m *bench) checkBound(t *testing.T, seen map[string]shown) {
	t.Helper()
	holders := map[netip.Addr]int{}
	for _, node := range m.Nodes {
		prefixes, err := node.Addresses("pl0")
		require.NoError(t, err)
		for _, prefix := range prefixes {
			holders[prefix.Addr()]++
		}
	}
	for name, s := range seen {
		require.Equal(t, 1, holders[s.addr], "nodes that hold %s, the address of %s", s.addr, name)
	}
}

// deleteAll deletes the Services and measures until the last is gone.
func (m *many) deleteAll(t *testing.T) {
	t.Helper()
	start := time.Now()
	services := m.kube.CoreV1().Services(m.namespace)
	m.fromClients(t, func(name string) error { return services.Delete(t.Context(), name, metav1.DeleteOptions{}) })
	require.NoError(t, cluster.AwaitFor(t.Context(), benchGuard, "the Services go", func(ctx context.Context) error {
		list, err := services.List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%s is there", list.Items[0].Name)
		}
		return err
	}))
	figure(fmt.Sprintf("ServicesDeleted/%d", len(m.names)), time.Since(start).Seconds(), "s-until-all")
	m.settled(t)
}

// measureRest measures what Mooring needs to do nothing, with so many Services.
func (m *bench) measureRest(t *testing.T, n int) {
	t.Helper()
	before, start := m.cpu(t), time.Now()
	m.Throughout(t, idleFor, "the processes run", func(context.Context) error {
		errs := []error{m.Controllers[0].Ended()}
		for _, node := range m.Nodes {
			errs = append(errs, node.Agent.Ended())
		}
		return errors.Join(errs...)
	})
	after, took := m.cpu(t), time.Since(start).Seconds()
	share := func(part string) float64 { return (after[part] - before[part]) / took * 100 }
	figure(fmt.Sprintf("Rest/%d/controller", n), residentMB(t, m.Controllers[0]), "MB-resident", share("controller"), "%-of-a-core")
	var agents []float64
	for _, node := range m.Nodes {
		agents = append(agents, residentMB(t, node.Agent))
	}
	figure(fmt.Sprintf("Rest/%d/agent", n), slices.Max(agents), "MB-resident", share("agents")/float64(len(m.Nodes)), "%-of-a-core")
}

// measureMending measures the time from an address's removal by hand until it is there again.
func (m *bench) measureMending(t *testing.T) {
	const times = 50
	service, err := m.kube.CoreV1().Services("default").Create(t.Context(), benchService("default", "mended"), metav1.CreateOptions{})
	require.NoError(t, err)
	addr := m.published(t, service)
	holder := m.heldBy(t, addr, anyNode)
	var waits []time.Duration
	for range times {
		start := time.Now()
		require.NoError(t, holder.RemoveAddress("pl0", addr))
		m.look(t, "the address is back", func() bool {
			holds, err := holder.Holds("pl0", addr)
			require.NoError(t, err)
			return holds
		})
		waits = append(waits, time.Since(start))
	}
	figure("MendedAfterDeletionByHand", percentile(waits, 50)*1000, "ms-p50", percentile(waits, 100)*1000, "ms-max", load(t), "load")
	m.remove(t, service)
}

// measureHandover measures the time from the deletion of the Service that holds a pool's only address until the next
// one, which waits for it, is published: released and acknowledged there, bound and acknowledged here.
func (m *bench) measureHandover(t *testing.T) {
	const times = 20
	ctx, cancel := context.WithTimeout(t.Context(), benchGuard)
	defer cancel()
	published := m.watchPublished(ctx, t, "default")
	wanting := func(i int) *corev1.Service {
		service := benchService("default", fmt.Sprintf("next-%d", i))
		service.Annotations = map[string]string{lb.AnnotationPool: "single"}
		service, err := m.kube.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{})
		require.NoError(t, err)
		return service
	}
	holder := wanting(0)
	m.published(t, holder)
	var waits []time.Duration
	for i := range times {
		next := wanting(i + 1)
		m.bound(t, next, metav1.ConditionFalse, "single")
		start := time.Now()
		require.NoError(t, m.kube.CoreV1().Services("default").Delete(ctx, holder.Name, metav1.DeleteOptions{}))
		waits = append(waits, m.awaitShown(ctx, t, published, next.Name).Sub(start))
		holder = next
	}
	figure("FreedAddressToNextHolder", percentile(waits, 50)*1000, "ms-p50", percentile(waits, 100)*1000, "ms-max", load(t), "load")
	m.remove(t, holder)
}

// awaitShown waits until the Service is seen with an address, and returns when that was.
func (m *bench) awaitShown(ctx context.Context, t *testing.T, published <-chan shown, name string) time.Time {
	t.Helper()
	for {
		select {
		case s := <-published:
			if s.name == name {
				return s.at
			}
		case <-ctx.Done():
			require.FailNow(t, name+" got no address", "%s", m.Dump(t.Context()))
		}
	}
}
