package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestDrift tells what happens when somebody changes by hand what Mooring has made: it is mended.
func TestDrift(t *testing.T) {
	m := install(t, officePool)

	t.Run("a status edited by hand is written again", func(t *testing.T) {
		namespace := m.Namespace(t, "status")
		service := m.create(t, cluster.DualStack(cluster.LoadBalancer(namespace, "web")))
		neighbour := m.create(t, cluster.LoadBalancer(namespace, "neighbour"))
		want, taken := m.publishedAll(t, service, 2), m.published(t, neighbour)
		m.bound(t, service, metav1.ConditionTrue, want[0].String())

		ingress := func(addresses ...netip.Addr) func(*corev1.ServiceStatus) {
			return func(s *corev1.ServiceStatus) {
				s.LoadBalancer.Ingress = nil
				for _, addr := range addresses {
					s.LoadBalancer.Ingress = append(s.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: addr.String()})
				}
			}
		}
		for _, edit := range []struct {
			name   string
			change func(*corev1.ServiceStatus)
		}{
			{"every address removed", ingress()},
			{"one address removed", ingress(want[1])},
			{"order changed", ingress(want[1], want[0])},
			{"a free address of the pool added", ingress(want[0], want[1], netip.MustParseAddr("10.90.0.189"))},
			{"a foreign address added", ingress(want[0], want[1], netip.MustParseAddr("203.0.113.9"))},
			{"another Service's address put in", ingress(taken)},
			{"the condition removed", func(s *corev1.ServiceStatus) {
				apimeta.RemoveStatusCondition(&s.Conditions, lb.ConditionBound)
			}},
			{"the condition turned", func(s *corev1.ServiceStatus) {
				apimeta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: lb.ConditionBound, Status: metav1.ConditionFalse, Reason: "ByHand"})
			}},
		} {
			t.Run(edit.name, func(t *testing.T) {
				m.editStatus(t, service, edit.change)
				m.publishes(t, service, want)
				m.bound(t, service, metav1.ConditionTrue, want[1].String())
			})
		}
		m.publishes(t, neighbour, []netip.Addr{taken})
		for _, addr := range append(want, taken) {
			m.serves(t, addr)
		}
	})

	t.Run("an address, or its whole interface, removed by hand comes back", func(t *testing.T) {
		service := m.create(t, cluster.DualStack(cluster.LoadBalancer(m.Namespace(t, "removed"), "web")))
		addresses := m.publishedAll(t, service, 2)
		for _, addr := range addresses {
			holder := m.heldBy(t, addr, anyNode)
			m.serves(t, addr)
			require.NoError(t, holder.RemoveAddress("pl0", addr))
			m.heldBy(t, addr, only(holder.Name))
			m.serves(t, addr)

			require.NoError(t, holder.RemoveInterface("pl0"))
			m.heldBy(t, addr, only(holder.Name))
			m.serves(t, addr)
		}
		m.publishes(t, service, addresses)
	})

	t.Run("the guard table removed by hand comes back", func(t *testing.T) {
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, "unguarded"), "web"))
		addr := m.published(t, service)
		m.serves(t, addr)
		holder := m.heldBy(t, addr, anyNode)
		daemon, err := holder.OccupyPort(t.Context(), 2222)
		require.NoError(t, err)
		defer func() { require.NoError(t, daemon.Close()) }()

		for _, verb := range []string{"flush", "delete"} {
			_, err = holder.Run(t.Context(), "nft", verb, "table", "inet", "mooring")
			require.NoError(t, err)
			m.Eventually(t, "the host's daemon is hidden again after nft "+verb, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				defer cancel()
				if answer, err := m.Client.Get(ctx, netip.AddrPortFrom(addr, 2222), "/"); err == nil {
					return fmt.Errorf("it answers %q", answer)
				}
				return nil
			})
			m.serves(t, addr)
		}
	})

	// The agents keep what they have while there is no object, and work on the new one.
	t.Run("NodeAddresses deleted by hand are made again, and no client notices", func(t *testing.T) {
		service := m.create(t, cluster.DualStack(cluster.LoadBalancer(m.Namespace(t, "objects"), "web")))
		addresses := m.publishedAll(t, service, 2)
		for _, addr := range addresses {
			m.serves(t, addr)
		}
		for _, way := range []struct {
			name     string
			finalize bool
		}{{"deleted", false}, {"deleted, with the finalizer taken off before", true}} {
			t.Run(way.name, func(t *testing.T) {
				before := m.objects(t)
				if way.finalize {
					for name := range before {
						_, err := m.NodeAddresses.Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
						require.NoError(t, err)
					}
				}
				_, err := m.Kubectl(t.Context(), "delete", "na", "--all", "--wait=false")
				require.NoError(t, err)
				m.Throughout(t, settle, "every connection succeeds", func(ctx context.Context) error {
					return m.answersAtOnce(ctx, addresses...)
				})
				m.Eventually(t, "there are new objects with the same entries, and the agents have taken them over", func(ctx context.Context) error {
					return m.remade(ctx, before)
				})
				require.NoError(t, m.answersAtOnce(t.Context(), addresses...))
			})
		}
	})

	t.Run("a NodeAddresses edited by hand is written again", func(t *testing.T) {
		service := m.create(t, cluster.LoadBalancer(m.Namespace(t, "entries"), "web"))
		addr := m.published(t, service)
		holder := m.heldBy(t, addr, anyNode)
		before := m.entries(t)
		for _, edit := range []struct{ name, patch string }{
			{"emptied", `{"spec":{"addresses":[]}}`},
			{"an address that nobody holds, added", `{"spec":{"addresses":[` +
				`{"address":"10.90.0.188","interface":"pl0","pool":"office","state":"Hold","term":1}]}}`},
		} {
			t.Run(edit.name, func(t *testing.T) {
				_, err := m.NodeAddresses.Patch(t.Context(), holder.Name, types.MergePatchType, []byte(edit.patch), metav1.PatchOptions{})
				require.NoError(t, err)
				m.Eventually(t, "the entries are as before", func(ctx context.Context) error {
					now, err := m.readEntries(ctx)
					if err == nil && !assert.ObjectsAreEqual(before, now) {
						err = fmt.Errorf("they are %v instead of %v", now, before)
					}
					return err
				})
				m.heldBy(t, addr, only(holder.Name))
				m.unbound(t, netip.MustParseAddr("10.90.0.188"))
				m.serves(t, addr)
			})
		}
	})
}

// editStatus changes the status of the live Service by hand.
func (m *moored) editStatus(t *testing.T, service *corev1.Service, change func(*corev1.ServiceStatus)) {
	t.Helper()
	services := m.Kube.CoreV1().Services(service.Namespace)
	m.Eventually(t, "the status of "+service.Name+" is edited", func(ctx context.Context) error {
		current, err := services.Get(ctx, service.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(&current.Status)
		_, err = services.UpdateStatus(ctx, current, metav1.UpdateOptions{})
		return err
	})
}

// publishedAll waits until the Service's status holds so many addresses.
func (m *moored) publishedAll(t *testing.T, service *corev1.Service, count int) []netip.Addr {
	t.Helper()
	var addresses []netip.Addr
	m.Eventually(t, fmt.Sprintf("%s gets %d addresses", service.Name, count), func(ctx context.Context) (err error) {
		addresses, err = m.Published(ctx, service.Namespace, service.Name)
		if err == nil && len(addresses) != count {
			err = fmt.Errorf("its status holds %v", addresses)
		}
		return err
	})
	return addresses
}

// publishes waits until the Service's status holds exactly these addresses.
func (m *moored) publishes(t *testing.T, service *corev1.Service, want []netip.Addr) {
	t.Helper()
	m.Eventually(t, fmt.Sprintf("the status of %s holds %v", service.Name, want), func(ctx context.Context) error {
		addresses, err := m.Published(ctx, service.Namespace, service.Name)
		if err == nil && !slices.Equal(addresses, want) {
			err = fmt.Errorf("it holds %v", addresses)
		}
		return err
	})
}

// answersAtOnce is nil when the client connects to each address and is answered before a lost packet would be sent
// again.
func (m *moored) answersAtOnce(ctx context.Context, addresses ...netip.Addr) error {
	for _, addr := range addresses {
		ctx, cancel := context.WithTimeout(ctx, 900*time.Millisecond)
		_, err := m.Client.Get(ctx, netip.AddrPortFrom(addr, 80), "/")
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// objects are the NodeAddresses by name.
func (m *moored) objects(t *testing.T) map[string]v1alpha1.NodeAddresses {
	t.Helper()
	list, err := m.NodeAddresses.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	objects := map[string]v1alpha1.NodeAddresses{}
	for _, object := range list.Items {
		objects[object.Name] = object
	}
	require.Len(t, objects, len(m.Nodes))
	return objects
}

// remade is nil when every object is another one than before, carries the same addresses, and its agent has done
// what it says.
func (m *moored) remade(ctx context.Context, before map[string]v1alpha1.NodeAddresses) error {
	list, err := m.NodeAddresses.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(list.Items) != len(before) {
		return fmt.Errorf("there are %d of %d", len(list.Items), len(before))
	}
	for _, now := range list.Items {
		was, ok := before[now.Name]
		switch {
		case !ok || now.UID == was.UID:
			return fmt.Errorf("%s is the old one", now.Name)
		case now.DeletionTimestamp != nil:
			return fmt.Errorf("%s is being deleted", now.Name)
		case now.Status.ObjectUID != now.UID || now.Status.ObservedGeneration != now.Generation:
			return fmt.Errorf("the agent of %s has not taken it over", now.Name)
		case now.Status.Bound != was.Status.Bound || len(now.Status.Pending)+len(now.Status.Failed) > 0:
			return fmt.Errorf("the agent of %s says %+v", now.Name, now.Status)
		case len(now.Finalizers) == 0:
			return fmt.Errorf("%s has no finalizer", now.Name)
		}
		if is, had := holding(now), holding(was); !slices.Equal(is, had) {
			return fmt.Errorf("%s carries %v instead of %v", now.Name, is, had)
		}
	}
	return nil
}

// holding are the addresses that the object lets its node hold, sorted.
func holding(object v1alpha1.NodeAddresses) []string {
	var addresses []string
	for _, entry := range object.Spec.Addresses {
		if entry.State == v1alpha1.Hold {
			addresses = append(addresses, entry.Address)
		}
	}
	slices.Sort(addresses)
	return addresses
}

var errNotSettled = errors.New("an address is between two nodes")

// readEntries are the nodes of all addresses that NodeAddresses hold. An address that is not in state Hold on one
// node alone is an error.
func (m *moored) readEntries(ctx context.Context) (map[string]string, error) {
	list, err := m.NodeAddresses.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	nodes := map[string]string{}
	for _, object := range list.Items {
		for _, entry := range object.Spec.Addresses {
			if other, twice := nodes[entry.Address]; twice || entry.State != v1alpha1.Hold {
				return nil, fmt.Errorf("%w: %s is %s on %s and on %q", errNotSettled, entry.Address, entry.State, object.Name, other)
			}
			nodes[entry.Address] = object.Name
		}
	}
	return nodes, nil
}

// entries waits until no address is between two nodes, and says where each is.
func (m *moored) entries(t *testing.T) map[string]string {
	t.Helper()
	var nodes map[string]string
	m.Eventually(t, "every address is on one node", func(ctx context.Context) (err error) {
		nodes, err = m.readEntries(ctx)
		return err
	})
	return nodes
}
