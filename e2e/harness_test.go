package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestClusterWithoutMooring shows that the cluster is what the other tests take it for: where they fail and this one
// does not, it is Mooring.
func TestClusterWithoutMooring(t *testing.T) {
	c := start(t, cluster.Options{})

	t.Run("every Node waits for a cloud controller", func(t *testing.T) {
		nodes, err := c.Kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		require.Len(t, nodes.Items, 3)
		for _, node := range nodes.Items {
			assert.True(t, slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool {
				return taint.Key == "node.cloudprovider.kubernetes.io/uninitialized" && taint.Effect == corev1.TaintEffectNoSchedule
			}), "node %s has taints %v", node.Name, node.Spec.Taints)
			assert.Empty(t, node.Spec.ProviderID, "node %s", node.Name)
			var addresses []string
			for _, address := range node.Status.Addresses {
				if address.Type == corev1.NodeInternalIP {
					addresses = append(addresses, address.Address)
				}
			}
			want := map[string][]string{"n1": {"10.90.0.11", "fd00:90::11"}, "n2": {"10.90.0.12", "fd00:90::12"}}[node.Name]
			assert.Equal(t, want, addresses, "node %s", node.Name)
		}
	})

	t.Run("a NodePort is served to the client, over TCP and UDP, IPv4 and IPv6", func(t *testing.T) {
		namespace := c.Namespace(t, "nodeport")
		service := cluster.DualStack(cluster.LoadBalancer(namespace, "web"))
		service.Spec.Type = corev1.ServiceTypeNodePort
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 80, TargetPort: service.Spec.Ports[0].TargetPort})
		service, err := c.Kube.CoreV1().Services(namespace).Create(t.Context(), service, metav1.CreateOptions{})
		require.NoError(t, err)
		backend, err := c.Node("n2").StartBackend(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, backend.Stop()) }()
		require.NoError(t, c.Endpoints(t.Context(), service, backend))

		n1 := c.Node("n1")
		for _, addr := range []netip.Addr{n1.IPv4, n1.IPv6} {
			tcp := netip.AddrPortFrom(addr, uint16(service.Spec.Ports[0].NodePort))
			udp := netip.AddrPortFrom(addr, uint16(service.Spec.Ports[1].NodePort))
			answered(t, c, tcp, func(ctx context.Context) (string, error) { return c.Client.Get(ctx, tcp, "/") }, "n2 ")
			answered(t, c, udp, func(ctx context.Context) (string, error) { return c.Client.AskUDP(ctx, udp) }, "n2 ")
		}
	})

	t.Run("claims on the wire are seen", func(t *testing.T) {
		capture, err := c.Client.Capture()
		require.NoError(t, err)
		defer capture.Stop()
		n1 := c.Node("n1")
		mac, err := n1.MAC("eth0")
		require.NoError(t, err)
		for _, addr := range []netip.Addr{n1.IPv4, n1.IPv6} {
			require.NoError(t, c.Client.ForgetNeighbours())
			_, err := c.Client.Get(t.Context(), netip.AddrPortFrom(addr, 10256), "/livez")
			require.NoError(t, err)
			c.Eventually(t, "the answer for "+addr.String()+" is captured", func(context.Context) error {
				claims := capture.Claims(addr)
				for _, claim := range claims {
					if claim.Kind == cluster.Announcement && claim.MAC.String() == mac.String() {
						return nil
					}
				}
				return fmt.Errorf("captured %v", claims)
			})
		}
	})

	t.Run("everybody on the wire who has an address answers for it", func(t *testing.T) {
		n1, n2 := c.Node("n1"), c.Node("n2")
		mac := func(h *cluster.Node) string {
			mac, err := h.MAC("eth0")
			require.NoError(t, err)
			return mac.String()
		}
		require.NoError(t, n2.AddAddress("eth0", n1.IPv4))
		require.NoError(t, n2.AddAddress("eth0", n1.IPv6))
		for _, addr := range []netip.Addr{n1.IPv4, n1.IPv6} {
			answers, err := c.Client.WhoHas(addr)
			require.NoError(t, err)
			assert.ElementsMatch(t, []string{mac(n1), mac(n2)}, answers, "%s", addr)
			require.NoError(t, n2.RemoveAddress("eth0", addr))
			answers, err = c.Client.WhoHas(addr)
			require.NoError(t, err)
			assert.Equal(t, []string{mac(n1)}, answers, "%s", addr)
			answers, err = c.Client.WhoHas(addr.Next().Next().Next())
			require.NoError(t, err)
			assert.Empty(t, answers)
		}
	})

	t.Run("a claim is heard", func(t *testing.T) {
		n1 := c.Node("n1")
		capture, err := n1.Capture()
		require.NoError(t, err)
		defer capture.Stop()
		foreign := net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
		for _, addr := range []netip.Addr{netip.MustParseAddr("10.90.0.99"), netip.MustParseAddr("fd00:90::99")} {
			require.NoError(t, c.Client.Claim(addr, foreign))
			c.Eventually(t, "n1 hears of "+addr.String(), func(context.Context) error {
				claims := capture.Claims(addr)
				if len(claims) != 1 || !claims[0].Gratuitous || claims[0].MAC.String() != foreign.String() {
					return fmt.Errorf("captured %v", claims)
				}
				return nil
			})
		}
	})

	t.Run("a node is cut off from the control plane alone, or from all others", func(t *testing.T) {
		n1 := c.Node("n1")
		health := netip.AddrPortFrom(n1.IPv4, 10256)
		reaches := func(get func(context.Context, netip.AddrPort, string) (string, error)) bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := get(ctx, health, "/livez")
			return err == nil
		}
		for _, cut := range []struct {
			fault                func(*cluster.Host) (*cluster.Fault, error)
			client, controlPlane bool
		}{{c.CutControlPlane, true, false}, {c.CutOthers, false, true}} {
			fault, err := cut.fault(n1.Host)
			require.NoError(t, err)
			assert.Equal(t, cut.client, reaches(c.Client.Get))
			assert.Equal(t, cut.controlPlane, reaches(c.Get))
			require.NoError(t, fault.Mend())
			assert.True(t, reaches(c.Client.Get))
			assert.True(t, reaches(c.Get))
		}
	})

	t.Run("a node that loses its power comes back with another boot id", func(t *testing.T) {
		n1 := c.Node("n1")
		bootID := func(ctx context.Context) string {
			node, err := c.Kube.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
			require.NoError(t, err)
			return node.Status.NodeInfo.BootID
		}
		before := bootID(t.Context())
		require.NoError(t, n1.PowerOff())
		require.NoError(t, c.PowerOn(n1))
		c.Eventually(t, "n1 reports another boot id", func(ctx context.Context) error {
			if now := bootID(ctx); now == before {
				return errors.New("it reports " + now)
			}
			return nil
		})
		c.Eventually(t, "n1 is Ready", func(ctx context.Context) error { return readyIs(ctx, c, "n1", corev1.ConditionTrue) })
		require.NoError(t, c.AwaitProxy(t.Context(), n1))
	})

	t.Run("writes are counted", func(t *testing.T) {
		since := time.Now()
		configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "counted"}}
		_, err := c.Kube.CoreV1().ConfigMaps("default").Create(t.Context(), configMap, metav1.CreateOptions{})
		require.NoError(t, err)
		writes, err := c.Writes(since)
		require.NoError(t, err)
		assert.True(t, slices.ContainsFunc(writes, func(w cluster.Write) bool {
			return w.User == "admin" && w.Verb == "create" && w.Resource == "configmaps" && w.Name == "counted" && w.Code == 201
		}), "%v", writes)
	})

	t.Run("a node that is cut off is not reached, turns NotReady, and comes back", func(t *testing.T) {
		n2 := c.Node("n2")
		health := netip.AddrPortFrom(n2.IPv4, 10256)
		require.NoError(t, n2.CutOff())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Client.Get(ctx, health, "/livez")
		require.Error(t, err)
		c.Eventually(t, "n2 turns NotReady", func(ctx context.Context) error { return readyIs(ctx, c, "n2", corev1.ConditionUnknown) })

		require.NoError(t, n2.Restore())
		c.Eventually(t, "n2 turns Ready", func(ctx context.Context) error { return readyIs(ctx, c, "n2", corev1.ConditionTrue) })
		_, err = c.Client.Get(t.Context(), health, "/livez")
		require.NoError(t, err)
	})

	t.Run("parts can be paused, killed and started again", func(t *testing.T) {
		require.NoError(t, c.APIServer.Pause())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		require.Error(t, err)
		require.NoError(t, c.APIServer.Resume())
		require.NoError(t, c.AwaitAPIServer(t.Context()))

		require.NoError(t, c.APIServer.Kill())
		assert.False(t, c.APIServer.Running())
		require.NoError(t, c.APIServer.Start())
		require.NoError(t, c.AwaitAPIServer(t.Context()))
	})
}

// answered waits until a backend answers, with the beginning of what it says.
func answered(t *testing.T, c *cluster.Cluster, at netip.AddrPort, ask func(context.Context) (string, error), want string) {
	t.Helper()
	c.Eventually(t, at.String()+" answers "+want, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		answer, err := ask(ctx)
		if err == nil && (len(answer) < len(want) || answer[:len(want)] != want) {
			err = fmt.Errorf("it answers %q", answer)
		}
		return err
	})
}

// readyIs is nil when the Node's Ready condition has the status.
func readyIs(ctx context.Context, c *cluster.Cluster, name string, want corev1.ConditionStatus) error {
	node, err := c.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == want {
			return nil
		}
	}
	return fmt.Errorf("its conditions are %v", node.Status.Conditions)
}
