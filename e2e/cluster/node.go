package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeOptions describe a Node.
type NodeOptions struct {
	Name string
	// NoNodeIP starts the kubelet without --node-ip: it then reports no address until a cloud controller gives it
	// one.
	NoNodeIP bool
	// OwnAddress starts the kubelet without --cloud-provider=external: it initializes its Node itself.
	OwnAddress bool
	// Labels that the Node registers with.
	Labels map[string]string
}

// Node is a host with a kubelet, a kube-proxy and, once StartAgent was called, Mooring's agent. Its pods are
// addresses of its own pod subnet.
type Node struct {
	*Host
	Kubelet, Proxy *Process
	// Agent is nil until StartAgent.
	Agent *Process

	options NodeOptions
	number  byte
	// others run on the node, too.
	others  []*Process
	cluster *Cluster
	pods    netlink.Link
	nextPod byte
	// podIPv4 and podIPv6 are the addresses of all pods of the node that the cluster runs.
	podIPv4, podIPv6 netip.Addr
}

// podInterface carries the addresses of a node's pods.
const podInterface = "pods"

// addNode makes the i-th node's host with its pod network, and its processes, which are not started yet.
func (c *Cluster) addNode(options NodeOptions, i int) error {
	number := byte(10 + i)
	host, err := c.addHost(options.Name, number)
	if err != nil {
		return err
	}
	node := &Node{Host: host, options: options, number: number, cluster: c}
	c.Nodes = append(c.Nodes, node)
	if err := errors.Join(node.makePodNetwork(), node.newBoot(c.file(options.Name+".boot-id"))); err != nil {
		return err
	}
	for _, other := range c.Nodes[:len(c.Nodes)-1] {
		if err := errors.Join(node.routePods(other), other.routePods(node)); err != nil {
			return err
		}
	}

	if err := os.MkdirAll(c.file(options.Name), 0o755); err != nil {
		return err
	}
	// The kubelet's own values at Kubernetes' own grace period, and in proportion to a shorter one.
	grace := c.options.NodeMonitorGracePeriod
	flags := []string{
		"--kubeconfig=" + c.kubeconfig(node.Name), "--node-name=" + node.Name, "--root-dir=" + c.file(node.Name),
		fmt.Sprintf("--node-lease-duration-seconds=%d", min(40, max(1, int(grace.Seconds()*40/50)))),
		"--node-status-update-frequency=" + min(10*time.Second, max(time.Second, grace/5)).String(),
	}
	if !options.NoNodeIP {
		flags = append(flags, "--node-ip="+node.IPv4.String()+","+node.IPv6.String())
	}
	if options.OwnAddress {
		flags = append(flags, "--cloud-provider=")
	}
	if c.options.RunPods {
		if node.podIPv4, node.podIPv6, err = node.newPod(); err != nil {
			return err
		}
		flags = append(flags, "--pod-ips="+node.podIPv4.String()+","+node.podIPv6.String())
	}
	var labels []string
	for key, value := range options.Labels {
		labels = append(labels, key+"="+value)
	}
	if len(labels) > 0 {
		flags = append(flags, "--node-labels="+strings.Join(labels, ","))
	}
	node.Kubelet = c.kube(node.Name+"-kubelet", host, "kubelet", flags...)
	node.Proxy = c.kube(node.Name+"-kube-proxy", host, "kube-proxy", "--config="+c.file(node.Name+"-kube-proxy.yaml"))
	return os.WriteFile(c.file(node.Name+"-kube-proxy.yaml"), []byte(c.proxyConfiguration(node)), 0o600)
}

// proxyConfiguration is kube-proxy's default but for what a network namespace without privileges on the machine
// forbids: the size of the connection table.
func (c *Cluster) proxyConfiguration(n *Node) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: %s
bindAddress: %s
clientConnection: {kubeconfig: %s}
clusterCIDR: %s
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, n.Name, n.IPv4, c.kubeconfig("kube-proxy"), podSubnets)
}

// makePodNetwork does what a CNI plugin does: an interface with the pod subnet, and forwarding.
func (n *Node) makePodNetwork() error {
	// A bridge without ports: unlike the dummy driver it is in every kernel that can run the rest.
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: podInterface}}
	if err := n.netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make interface %s of %s: %w", podInterface, n.Name, err)
	}
	n.pods = bridge
	if err := n.netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set %s of %s up: %w", podInterface, n.Name, err)
	}
	return errors.Join(
		n.Sysctl("ipv4/ip_forward", "1"),
		n.Sysctl("ipv6/conf/all/forwarding", "1"),
	)
}

// podSubnets of the node: 10.244.<number>.0/24 and fd00:244:0:<number>::/64.
func (n *Node) podSubnets() (v4, v6 netip.Prefix) {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, n.number, 0}), 24),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0x02, 0x44, 0, 0, 0, n.number}), 64)
}

func (n *Node) routePods(other *Node) error {
	v4, v6 := other.podSubnets()
	return errors.Join(n.addRoute(v4, other.IPv4), n.addRoute(v6, other.IPv6))
}

// newPod gives the node one more pod's addresses.
func (n *Node) newPod() (v4, v6 netip.Addr, err error) {
	n.nextPod++
	subnet4, subnet6 := n.podSubnets()
	v4, v6 = withNumber(subnet4, n.nextPod), withNumber(subnet6, n.nextPod)
	return v4, v6, errors.Join(
		n.addAddress(n.pods, netip.PrefixFrom(v4, v4.BitLen())),
		n.addAddress(n.pods, netip.PrefixFrom(v6, v6.BitLen())),
	)
}

// nodeReady is nil when the Node is Ready.
func (c *Cluster) nodeReady(ctx context.Context, name string) error {
	node, err := c.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("node %s is not Ready: %s: %s", name, condition.Status, condition.Message)
		}
	}
	return fmt.Errorf("node %s has no Ready condition", name)
}

func (c *Cluster) awaitNodes(ctx context.Context) error {
	for _, node := range c.Nodes {
		err := Await(ctx, "node "+node.Name+" is Ready", func(ctx context.Context) error {
			return errors.Join(node.Kubelet.Ended(), c.nodeReady(ctx, node.Name))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitProxies waits for every kube-proxy whose Node knows its address. The others wait for that themselves.
func (c *Cluster) awaitProxies(ctx context.Context) error {
	for _, node := range c.Nodes {
		if node.options.NoNodeIP {
			continue
		}
		if err := c.AwaitProxy(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

// AwaitProxy waits until the node's kube-proxy has written its rules once. Until its Node has an address, which
// without --node-ip comes from a cloud controller, kube-proxy waits up to 30 s for one.
func (c *Cluster) AwaitProxy(ctx context.Context, node *Node) error {
	return Await(ctx, "kube-proxy serves on "+node.Name, func(ctx context.Context) error {
		if err := node.Proxy.Ended(); err != nil {
			return err
		}
		_, err := node.Get(ctx, netip.MustParseAddrPort(localhost(10256)), "/livez")
		return err
	})
}

// DeleteNode deletes the Node object, as an administrator would. Its kubelet, when it runs, registers it again.
func (c *Cluster) DeleteNode(ctx context.Context, name string) error {
	err := c.Kube.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// OccupyPort makes a daemon of the host that listens on every address and answers with its name, as sshd does.
func (n *Node) OccupyPort(ctx context.Context, port uint16) (net.Listener, error) {
	listener, err := n.Listen(ctx, netip.AddrPortFrom(netip.IPv6Unspecified(), port))
	if err != nil {
		return nil, fmt.Errorf("listen on port %d of %s: %w", port, n.Name, err)
	}
	go answer(listener, "daemon of "+n.Name)
	return listener, nil
}
