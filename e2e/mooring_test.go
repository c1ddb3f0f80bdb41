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
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// officePool has addresses enough for every test, in both families.
const officePool = `apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: office
  addresses: [10.90.0.30-10.90.0.189, "fd00:90::1000/116"]
  interface: pl0
`

// moored is a cluster that Mooring runs in: one controller, and an agent on each node, installed from the manifests.
type moored struct {
	*cluster.Cluster
	backends []*cluster.Backend
}

// install starts a cluster with Mooring in it and waits until its Nodes are initialized.
func install(t *testing.T, cloudConfig string) *moored {
	t.Helper()
	m := &moored{Cluster: start(t, cluster.Options{Manifests: "manifests/base"})}
	m.deploy(t, cloudConfig)
	return m
}

// deploy starts a controller, with flags beside those of the manifests, and the agents, and waits until the Nodes are
// initialized.
func (m *moored) deploy(t *testing.T, cloudConfig string, flags ...string) {
	t.Helper()
	require.NoError(t, m.Configure(cloudConfig))
	controller, err := m.AddController(t.Context(), flags...)
	require.NoError(t, err)
	require.NoError(t, controller.Start())
	for _, node := range m.Nodes {
		require.NoError(t, m.StartAgent(t.Context(), node))
		backend, err := node.StartBackend(t.Context())
		require.NoError(t, err)
		m.backends = append(m.backends, backend)
	}
	for _, node := range m.Nodes {
		m.Eventually(t, node.Name+" is initialized", func(ctx context.Context) error {
			object, err := m.Kube.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, taint := range object.Spec.Taints {
				if taint.Key == "node.cloudprovider.kubernetes.io/uninitialized" {
					return errors.New("it has the taint")
				}
			}
			return nil
		})
		require.NoError(t, m.AwaitAgent(t.Context(), node))
		require.NoError(t, m.AwaitProxy(t.Context(), node))
	}
}

// create creates the Service, served by a backend on every node unless others are given.
func (m *moored) create(t *testing.T, service *corev1.Service, backends ...*cluster.Backend) *corev1.Service {
	t.Helper()
	if backends == nil {
		backends = m.backends
	}
	require.NoError(t, m.Endpoints(t.Context(), service, backends...))
	created, err := m.Kube.CoreV1().Services(service.Namespace).Create(t.Context(), service, metav1.CreateOptions{})
	require.NoError(t, err)
	return created
}

// published waits until the Service's status holds addresses and returns the first.
func (m *moored) published(t *testing.T, service *corev1.Service) netip.Addr {
	t.Helper()
	var addr netip.Addr
	m.Eventually(t, service.Name+" gets an address", func(ctx context.Context) error {
		addresses, err := m.Published(ctx, service.Namespace, service.Name)
		if err != nil {
			return err
		}
		if len(addresses) == 0 {
			return errors.New("its status holds none")
		}
		addr = addresses[0]
		return nil
	})
	return addr
}

// edit changes the live Service, again when somebody else wrote it in between.
func (m *moored) edit(t *testing.T, service *corev1.Service, change func(*corev1.Service)) {
	t.Helper()
	services := m.Kube.CoreV1().Services(service.Namespace)
	m.Eventually(t, service.Name+" is edited", func(ctx context.Context) error {
		current, err := services.Get(ctx, service.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(current)
		_, err = services.Update(ctx, current, metav1.UpdateOptions{})
		return err
	})
}

// serves waits until the client is answered at the address by a backend.
func (m *moored) serves(t *testing.T, addr netip.Addr) {
	t.Helper()
	at := netip.AddrPortFrom(addr, 80)
	answered(t, m.Cluster, at, func(ctx context.Context) (string, error) { return m.Client.Get(ctx, at, "/") }, "n")
}

// heldBy waits until one node alone holds the address, and that one is acceptable.
func (m *moored) heldBy(t *testing.T, addr netip.Addr, acceptable func(name string) bool) *cluster.Node {
	t.Helper()
	var holder *cluster.Node
	m.Eventually(t, "one node holds "+addr.String(), func(context.Context) error {
		holders, err := m.Holders("pl0", addr)
		if err != nil {
			return err
		}
		var names []string
		for _, node := range holders {
			names = append(names, node.Name)
		}
		if len(holders) != 1 || !acceptable(holders[0].Name) {
			return fmt.Errorf("it is on %v", names)
		}
		holder = holders[0]
		return nil
	})
	return holder
}

func anyNode(string) bool { return true }

func otherThan(name string) func(string) bool { return func(n string) bool { return n != name } }

func only(name string) func(string) bool { return func(n string) bool { return n == name } }

// unbound waits until no node holds the address.
func (m *moored) unbound(t *testing.T, addr netip.Addr, nodes ...*cluster.Node) {
	t.Helper()
	if nodes == nil {
		nodes = m.Nodes
	}
	m.Eventually(t, addr.String()+" is on no node", func(context.Context) error {
		for _, node := range nodes {
			if holds, err := node.Holds("pl0", addr); err != nil || holds {
				return errors.Join(err, fmt.Errorf("%s holds it: %v", node.Name, holds))
			}
		}
		return nil
	})
}

// remove deletes the Service and waits until it is gone, its finalizers too.
func (m *moored) remove(t *testing.T, service *corev1.Service) {
	t.Helper()
	services := m.Kube.CoreV1().Services(service.Namespace)
	require.NoError(t, services.Delete(t.Context(), service.Name, metav1.DeleteOptions{}))
	m.gone(t, service)
}

func (m *moored) gone(t *testing.T, service *corev1.Service) {
	t.Helper()
	m.Eventually(t, service.Name+" goes", func(ctx context.Context) error {
		left, err := m.Kube.CoreV1().Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, fmt.Errorf("it is there, with finalizers %v", left.Finalizers))
	})
}

// bound waits until the Service's condition Bound has the status and its message or reason contains the words.
func (m *moored) bound(t *testing.T, service *corev1.Service, status metav1.ConditionStatus, words string) {
	t.Helper()
	m.condition(t, service, lb.ConditionBound, status, words)
}

func (m *moored) condition(t *testing.T, service *corev1.Service, kind string, status metav1.ConditionStatus, words string) {
	t.Helper()
	m.Eventually(t, fmt.Sprintf("%s says %s=%s: ...%s...", service.Name, kind, status, words), func(ctx context.Context) error {
		current, err := m.Kube.CoreV1().Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range current.Status.Conditions {
			if condition.Type == kind && condition.Status == status && strings.Contains(condition.Reason+" "+condition.Message, words) {
				return nil
			}
		}
		return fmt.Errorf("its conditions are %+v", current.Status.Conditions)
	})
}

// event waits for an event in the namespace with that reason whose message contains the words.
func (m *moored) event(t *testing.T, namespace, reason, words string) {
	t.Helper()
	m.Eventually(t, fmt.Sprintf("event %s: ...%s...", reason, words), func(ctx context.Context) error {
		events, err := m.Kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var seen []string
		for _, event := range events.Items {
			if event.Reason == reason && strings.Contains(event.Message, words) {
				return nil
			}
			seen = append(seen, event.Reason+": "+event.Message)
		}
		return fmt.Errorf("the events are %q", seen)
	})
}

// settle is how long something that must not happen is looked for.
const settle = 3 * time.Second

var (
	errNotMoved = errors.New("it has not moved")
	errMoved    = errors.New("it is gone from there")
)
