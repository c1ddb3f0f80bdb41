package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/e2e/cluster"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestService tells the life of a Service of type LoadBalancer.
func TestService(t *testing.T) {
	m := install(t, officePool)

	// EXTERNAL-IP means that it answers: one connection is made the moment it appears, and none is refused.
	t.Run("the first connection succeeds, 100 times", func(t *testing.T) {
		namespace := m.Namespace(t, "first")
		// Beside each other, because each of them waits for a second until kube-proxy has looked.
		var rows sync.WaitGroup
		for row := range 5 {
			rows.Go(func() {
				for i := range 20 {
					service := cluster.LoadBalancer(namespace, fmt.Sprintf("web-%d-%d", row, i))
					if !assert.NoError(t, m.firstConnection(t.Context(), service)) {
						return
					}
				}
			})
		}
		rows.Wait()
	})

	t.Run("a daemon of the host is not reached on the address", func(t *testing.T) {
		namespace := m.Namespace(t, "guard")
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		m.serves(t, addr)
		holder := m.heldBy(t, addr, anyNode)
		daemon, err := holder.OccupyPort(t.Context(), 2222)
		require.NoError(t, err)
		defer func() { require.NoError(t, daemon.Close()) }()

		answer, err := m.Client.Get(t.Context(), netip.AddrPortFrom(holder.IPv4, 2222), "/")
		require.NoError(t, err)
		assert.Contains(t, answer, "daemon of "+holder.Name, "on the node's own address it answers")
		ctx, cancel := context.WithTimeout(t.Context(), settle)
		defer cancel()
		_, err = m.Client.Get(ctx, netip.AddrPortFrom(addr, 2222), "/")
		require.Error(t, err, "on the Service's address it must not")
	})

	t.Run("deleted, it leaves nothing behind", func(t *testing.T) {
		namespace := m.Namespace(t, "deleted")
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		m.remove(t, service)
		m.unbound(t, addr)
	})

	t.Run("deleted while the controller is down, it goes when the controller is back", func(t *testing.T) {
		namespace := m.Namespace(t, "down")
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		require.NoError(t, m.Controllers[0].Kill())
		require.NoError(t, m.Kube.CoreV1().Services(namespace).Delete(t.Context(), service.Name, metav1.DeleteOptions{}))
		require.NoError(t, m.Controllers[0].Start())
		m.gone(t, service)
		m.unbound(t, addr)
	})

	t.Run("its type goes to ClusterIP and back", func(t *testing.T) {
		for _, down := range []bool{false, true} {
			t.Run(fmt.Sprintf("controller down: %v", down), func(t *testing.T) {
				namespace := m.Namespace(t, fmt.Sprintf("type-%v", down))
				service := m.create(t, cluster.LoadBalancer(namespace, "web"))
				addr := m.published(t, service)
				if down {
					require.NoError(t, m.Controllers[0].Stop())
				}
				m.edit(t, service, func(s *corev1.Service) {
					s.Spec.Type = corev1.ServiceTypeClusterIP
					s.Spec.Ports[0].NodePort = 0
				})
				if down {
					require.NoError(t, m.Controllers[0].Start())
				}
				m.unbound(t, addr)
				m.Eventually(t, "its finalizers go", func(ctx context.Context) error {
					current, err := m.Kube.CoreV1().Services(namespace).Get(ctx, service.Name, metav1.GetOptions{})
					if err == nil && len(current.Finalizers) > 0 {
						err = fmt.Errorf("they are %v", current.Finalizers)
					}
					return err
				})
				m.edit(t, service, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
				m.serves(t, m.published(t, service))
			})
		}
	})

	t.Run("its namespace is deleted with it", func(t *testing.T) {
		const namespace = "whole"
		_, err := m.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		require.NoError(t, err)
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		require.NoError(t, m.DeleteNamespace(t.Context(), namespace))
		m.unbound(t, addr)
	})

	t.Run("an open connection survives the death of controller and agents, and the address stays", func(t *testing.T) {
		namespace := m.Namespace(t, "restart")
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		holder := m.heldBy(t, addr, anyNode)
		client := m.Client.HTTPClient(true)
		connection := keptAlive(t, client, addr)

		for _, signal := range []func(*cluster.Process) error{(*cluster.Process).Stop, (*cluster.Process).Kill} {
			require.NoError(t, signal(m.Controllers[0]))
			require.NoError(t, signal(holder.Agent))
			require.NoError(t, connection(), "while both are away")
			require.NoError(t, holder.Agent.Start())
			require.NoError(t, m.Controllers[0].Start())
			require.NoError(t, m.AwaitAgent(t.Context(), holder))

			// That the controller leads again shows in what it does: a new Service gets an address, and another one.
			next := m.create(t, cluster.LoadBalancer(namespace, "next"))
			assert.NotEqual(t, addr, m.published(t, next), "no address is given twice")
			m.remove(t, next)

			assert.Equal(t, addr, m.published(t, service))
			m.heldBy(t, addr, only(holder.Name))
			require.NoError(t, connection(), "afterwards")
		}
	})

	t.Run("an agent that starts while the API server is down leaves everything as it is", func(t *testing.T) {
		namespace := m.Namespace(t, "blind")
		service := m.create(t, cluster.LoadBalancer(namespace, "web"))
		addr := m.published(t, service)
		m.serves(t, addr)
		holder := m.heldBy(t, addr, anyNode)
		require.NoError(t, m.APIServer.Kill())
		require.NoError(t, holder.Agent.Restart())
		m.Throughout(t, settle, "the address is served without the API server", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := m.Client.Get(ctx, netip.AddrPortFrom(addr, 80), "/")
			return err
		})
		require.NoError(t, m.APIServer.Start())
		require.NoError(t, m.AwaitAPIServer(t.Context()))
		m.heldBy(t, addr, only(holder.Name))
		m.serves(t, addr)
	})
}

// firstConnection creates the Service and makes one connection the moment its address appears.
func (m *moored) firstConnection(ctx context.Context, service *corev1.Service) error {
	if err := m.Endpoints(ctx, service, m.backends...); err != nil {
		return err
	}
	if _, err := m.Kube.CoreV1().Services(service.Namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	var addrs []netip.Addr
	err := cluster.Await(ctx, service.Name+" gets an address", func(ctx context.Context) (err error) {
		if addrs, err = m.Published(ctx, service.Namespace, service.Name); err == nil && len(addrs) == 0 {
			err = errors.New("its status holds none")
		}
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cluster.Guard)
	defer cancel()
	if _, err := m.Client.Get(ctx, netip.AddrPortFrom(addrs[0], 80), "/"); err != nil {
		return fmt.Errorf("the first connection to %s, the address of %s: %w", addrs[0], service.Name, err)
	}
	return nil
}

// keptAlive opens a connection to the address; the returned function uses that same one again.
func keptAlive(t *testing.T, client *http.Client, addr netip.Addr) func() error {
	t.Helper()
	conns := 0
	transport, ok := client.Transport.(*http.Transport)
	require.True(t, ok)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conns++
		return dial(ctx, network, address)
	}
	use := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+netip.AddrPortFrom(addr, 80).String()+"/", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return err
		}
		if conns != 1 {
			return errors.New("the connection was lost, a new one was made")
		}
		return response.Body.Close()
	}
	require.NoError(t, use())
	return use
}
