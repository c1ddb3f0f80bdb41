package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// neighbourNumber is the last part of the address of a host on the wire that runs backends and is no Node.
const neighbourNumber = 202

// neighbour makes that host with a backend, which outlives every node.
func (m *moored) neighbour(t *testing.T) *cluster.Backend {
	t.Helper()
	host, err := m.AddHost("neighbour", neighbourNumber)
	require.NoError(t, err)
	backend, err := host.StartBackend(t.Context())
	require.NoError(t, err)
	return backend
}

// reachable is a Service of both families over TCP and UDP.
func reachable(namespace, name string) *corev1.Service {
	service := cluster.DualStack(cluster.LoadBalancer(namespace, name))
	service.Spec.AllocateLoadBalancerNodePorts = new(false)
	service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
		Name: "udp", Protocol: corev1.ProtocolUDP, Port: 80, TargetPort: service.Spec.Ports[0].TargetPort,
	})
	return service
}

// untilAnswered asks all addresses from now on, a datagram to each every few milliseconds, until each has answered,
// and returns how long each took, in the order of the addresses.
func (m *moored) untilAnswered(t *testing.T, addrs ...netip.Addr) []time.Duration {
	t.Helper()
	begin := time.Now()
	conn, err := m.Client.ListenPacket(t.Context(), netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
	require.NoError(t, err)
	var mu sync.Mutex
	answered := map[netip.Addr]time.Duration{}
	var listening sync.WaitGroup
	listening.Go(func() {
		for answer := make([]byte, 1500); ; {
			_, from, err := conn.ReadFrom(answer)
			if err != nil {
				return // closed
			}
			udp, ok := from.(*net.UDPAddr)
			if !ok {
				continue
			}
			addr := udp.AddrPort().Addr().Unmap()
			mu.Lock()
			if _, again := answered[addr]; !again {
				answered[addr] = time.Since(begin)
			}
			mu.Unlock()
		}
	})
	defer listening.Wait()
	defer func() { _ = conn.Close() }()

	pending := func() []netip.Addr {
		mu.Lock()
		defer mu.Unlock()
		return slices.DeleteFunc(slices.Clone(addrs), func(addr netip.Addr) bool { _, ok := answered[addr]; return ok })
	}
	// Fine enough for one address, and no flood for hundreds.
	ticker := time.NewTicker(max(5*time.Millisecond, time.Duration(len(addrs))*100*time.Microsecond))
	defer ticker.Stop()
	guard := time.After(cluster.Guard)
	for left := addrs; len(left) > 0; left = pending() {
		for _, addr := range left {
			// Nobody may be there to take it.
			_, _ = conn.WriteTo([]byte("?"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 80)))
		}
		select {
		case <-ticker.C:
		case <-guard:
			require.FailNow(t, "not all addresses answer", "%d of %d do not within %v, such as %s\n%s\n%s",
				len(left), len(addrs), cluster.Guard, left[0], m.unanswered(t.Context(), left[0]), m.Dump(t.Context()))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	var outages []time.Duration
	for _, addr := range addrs {
		outages = append(outages, answered[addr])
	}
	return outages
}

// unanswered says what can be found out about an address that does not answer one socket over UDP.
func (m *moored) unanswered(ctx context.Context, addr netip.Addr) string {
	answers, err := m.Client.WhoHas(addr)
	text := fmt.Sprintf("on the wire that is %s %v, over TCP: %v\n", m.whose(answers), err, m.answersAtOnce(ctx, addr))
	asked, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := m.Client.AskUDP(asked, netip.AddrPortFrom(addr, 80))
	text += fmt.Sprintf("another socket over UDP: %q %v\n", answer, err)
	for _, node := range m.Nodes {
		flows, err := node.Flows(80)
		text += fmt.Sprintf("flows that %s knows: %v\n", node.Name, err)
		for _, flow := range flows[:min(len(flows), 20)] {
			text += flow + "\n"
		}
	}
	return text
}

// uninterrupted connects to every address again and again until the returned function is called, which fails the test
// when any of them did not answer at once at any time.
func (m *moored) uninterrupted(t *testing.T, addrs ...netip.Addr) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var failures []string
	rounds := 0
	var asking sync.WaitGroup
	asking.Go(func() {
		// A node translates no more than a few hundred new connections a second to one backend.
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for ; ; rounds++ {
			for _, addr := range addrs {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				if err := m.answersAtOnce(ctx, addr); err != nil && ctx.Err() == nil {
					failures = append(failures, fmt.Sprintf("%s %v", time.Now().Format(time.StampMilli), err))
				}
			}
		}
	})
	return func() {
		t.Helper()
		cancel()
		asking.Wait()
		require.Empty(t, failures, "of %d connections to each address", rounds)
	}
}

// answeredBy waits until one machine alone answers on the wire for each address, the node that is to hold it, and looks
// for a while whether it stays so.
func (m *moored) answeredBy(t *testing.T, holders map[netip.Addr]*cluster.Node) {
	t.Helper()
	check := func(context.Context) error { return m.alone(holders) }
	m.Eventually(t, "the holders alone answer on the wire", check)
	m.Throughout(t, settle, "the holders alone answer on the wire", check)
}

// alone is nil when the holders, and no other machines, answer on the wire.
func (m *moored) alone(holders map[netip.Addr]*cluster.Node) error {
	for addr, node := range holders {
		mac, err := node.MAC("eth0")
		if err != nil {
			return err
		}
		answers, err := m.Client.WhoHas(addr)
		if err != nil {
			return err
		}
		if !slices.Equal(answers, []string{mac.String()}) {
			return fmt.Errorf("%s is answered for by %s, and %s has %s", addr, m.whose(answers), node.Name, mac)
		}
	}
	return nil
}

// whose adds the names of nodes to hardware addresses.
func (m *moored) whose(macs []string) string {
	if len(macs) == 0 {
		return "nobody"
	}
	var names []string
	for _, mac := range macs {
		for _, node := range m.Nodes {
			if own, err := node.MAC("eth0"); err == nil && own.String() == mac {
				mac += " (" + node.Name + ")"
			}
		}
		names = append(names, mac)
	}
	return strings.Join(names, " and ")
}

// placed waits until NodeAddresses give each of the addresses to one node, which is acceptable, and returns them.
func (m *moored) placed(t *testing.T, acceptable func(name string) bool, addrs ...netip.Addr) map[netip.Addr]*cluster.Node {
	t.Helper()
	holders := map[netip.Addr]*cluster.Node{}
	m.Eventually(t, "the addresses are given to nodes", func(ctx context.Context) error {
		holding, err := m.holding(ctx)
		if err != nil {
			return err
		}
		for _, addr := range addrs {
			if holders[addr] = m.Node(holding[addr]); holders[addr] == nil || !acceptable(holding[addr]) {
				return fmt.Errorf("%s is to be on %q", addr, holding[addr])
			}
		}
		return nil
	})
	return holders
}

// holding are the nodes that are to hold the addresses, by NodeAddresses. An address between two nodes is on none.
func (m *moored) holding(ctx context.Context) (map[netip.Addr]string, error) {
	list, err := m.NodeAddresses.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	nodes := map[netip.Addr]string{}
	for _, object := range list.Items {
		for _, entry := range object.Spec.Addresses {
			addr, err := netip.ParseAddr(entry.Address)
			if err != nil {
				return nil, err
			}
			if other, twice := nodes[addr]; twice && entry.State == v1alpha1.Hold {
				return nil, fmt.Errorf("%s is to be held by %s and by %s", addr, other, object.Name)
			}
			if entry.State == v1alpha1.Hold {
				nodes[addr] = object.Name
			}
		}
	}
	return nodes, nil
}

// exclude takes the node out of load balancing by its label, or back in.
func (m *moored) exclude(t *testing.T, node *cluster.Node, yes bool) {
	t.Helper()
	value := "null"
	if yes {
		value = `"true"`
	}
	m.patchNode(t, node, `{"metadata":{"labels":{"`+lb.LabelExcludeNode+`":`+value+`}}}`)
}

// recovered waits until a node that was away is Ready, its agent has nothing left to do, and it may get addresses.
func (m *moored) recovered(t *testing.T, node *cluster.Node) {
	t.Helper()
	m.Eventually(t, node.Name+" has come back", func(ctx context.Context) error {
		if err := readyIs(ctx, m.Cluster, node.Name, corev1.ConditionTrue); err != nil {
			return err
		}
		object, err := m.Kube.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(object.Spec.Taints) > 0 {
			return fmt.Errorf("it has taints %v", object.Spec.Taints)
		}
		na, err := m.NodeAddresses.Get(ctx, node.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if na.Status.ObservedGeneration != na.Generation || len(na.Status.Pending) > 0 || len(na.Spec.Addresses) != int(na.Status.Bound) {
			return errors.New("its agent has not done everything yet")
		}
		return nil
	})
}
