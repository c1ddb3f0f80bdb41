package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Options of a cluster. The zero value is a cluster of three nodes for tests.
type Options struct {
	// Nodes of the cluster; empty: n1 and n2 with --node-ip, n3 without.
	Nodes []NodeOptions
	// NodeMonitorGracePeriod is how long a silent node stays Ready. Kubernetes' own is 50 s; default here 4 s, so
	// that a test need not wait for it.
	NodeMonitorGracePeriod time.Duration
	// Manifests is a directory that is applied with `kubectl apply -k` once the API server is ready; empty: none.
	Manifests string
	// Namespace that Mooring is installed in; empty: that of the manifests.
	Namespace string
	// RunPods has pods scheduled, and runs those of Mooring's images and of nginx on their nodes: for tests that install
	// Mooring as a user does. No node may be without --node-ip then.
	RunPods bool
	// SecretsInObjects: somebody else's objects hold secrets, so that what was written to etcd is not looked through for them.
	SecretsInObjects bool
	// Progress is told what is being waited for; nil: nobody is.
	Progress func(format string, args ...any)
}

// Cluster is a running cluster. Its control plane is in the network namespace that Enter made, so the test itself
// reaches the API server without ado.
type Cluster struct {
	// Etcd, APIServer and ControllerManager are the control plane.
	Etcd, APIServer, ControllerManager *Process
	// Scheduler is nil unless pods are run.
	Scheduler *Process
	// Nodes in order of their names.
	Nodes []*Node
	// Client is a host on the wire that is no Node.
	Client *Host
	// Controllers in the order in which AddController made them.
	Controllers []*Process

	// Config is a cluster administrator's connection; Kube and NodeAddresses are clients of it.
	Config        *rest.Config
	Kube          kubernetes.Interface
	NodeAddresses *v1alpha1.Client

	// Logs is the directory with every process's log; see Enter.
	Logs string
	// Kubeconfig of the administrator; it exists inside the namespaces only.
	Kubeconfig string

	options Options
	root    string
	work    string // files that need not outlive the namespaces
	wire    *wire
	hosts   []*Host
	secrets secrets
	// runner and stopPods are nil unless pods are run.
	runner   *podRunner
	stopPods context.CancelFunc
}

// Start starts a cluster and returns when its API server answers, every Node is registered and Ready, and kube-proxy
// serves on every Node that knows its address. One process can run one cluster at a time.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if os.Getenv(stageVariable) != stageRun {
		return nil, errors.New("a cluster runs only inside the namespaces that cluster.Enter makes")
	}
	if len(options.Nodes) == 0 {
		options.Nodes = []NodeOptions{{Name: "n1"}, {Name: "n2"}, {Name: "n3", NoNodeIP: true}}
	}
	if options.NodeMonitorGracePeriod == 0 {
		options.NodeMonitorGracePeriod = 4 * time.Second
	}
	if options.Namespace == "" {
		options.Namespace = Namespace
	}
	if options.Progress == nil {
		options.Progress = func(string, ...any) {}
	}
	c := &Cluster{options: options}
	err := c.start(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("%w\n%s", err, c.Dump(ctx)), c.Close())
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) (err error) {
	if c.root, err = Root(); err != nil {
		return err
	}
	if c.Logs, err = os.MkdirTemp(os.Getenv(logsVariable), "cluster-"); err != nil {
		return err
	}
	// Never the same twice: clients remember what they read under a path, such as the CA.
	if c.work, err = os.MkdirTemp(scratch, "cluster-"); err != nil {
		return err
	}
	if err := c.writeShell(); err != nil {
		return err
	}
	if c.wire, err = newWire(); err != nil {
		return err
	}
	if c.Client, err = c.addHost("client", 200); err != nil {
		return err
	}
	for i, options := range c.options.Nodes {
		if err := c.addNode(options, i+1); err != nil {
			return err
		}
	}
	if err := c.startControlPlane(ctx); err != nil {
		return err
	}
	for _, node := range c.Nodes {
		if err := errors.Join(node.Kubelet.Start(), node.Proxy.Start()); err != nil {
			return err
		}
	}
	if c.options.RunPods {
		if err := c.startPods(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	if c.options.Manifests != "" {
		c.options.Progress("applying %s", c.options.Manifests)
		if err := c.Apply(ctx, c.options.Manifests); err != nil {
			return err
		}
	}
	c.options.Progress("waiting for %d Nodes to register", len(c.Nodes))
	return errors.Join(c.awaitNodes(ctx), c.awaitProxies(ctx))
}

// AddHost makes one more host on the wire that is no Node, at the addresses of Subnet4 and Subnet6 that end in number.
// Nodes begin at 11, the client is 200.
func (c *Cluster) AddHost(name string, number byte) (*Host, error) { return c.addHost(name, number) }

// addHost makes a host and plugs it in.
func (c *Cluster) addHost(name string, number byte) (*Host, error) {
	h, err := newHost(name)
	if err != nil {
		return nil, err
	}
	c.hosts = append(c.hosts, h)
	return h, c.wire.plug(h, number)
}

// Get makes one HTTP request from the control plane, over a connection of its own, and returns the body.
func (c *Cluster) Get(ctx context.Context, address netip.AddrPort, path string) (string, error) {
	return get(ctx, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, address, path)
}

// Node of that name, nil when the cluster has none.
func (c *Cluster) Node(name string) *Node {
	i := slices.IndexFunc(c.Nodes, func(n *Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return c.Nodes[i]
}

// processes of the cluster, in the order in which they are stopped.
func (c *Cluster) processes() []*Process {
	all := slices.Clone(c.Controllers)
	if c.runner != nil {
		all = append(all, c.runner.processes(nil)...)
	}
	for _, node := range c.Nodes {
		all = append(all, node.Agent, node.Proxy, node.Kubelet)
	}
	all = append(all, c.Scheduler, c.ControllerManager, c.APIServer, c.Etcd)
	return slices.DeleteFunc(all, func(p *Process) bool { return p == nil })
}

// Close ends every process and removes the network, so that another cluster can be started. Nothing needs it at the
// end of the program: what is left then ends with the namespaces.
//
// Its error says too what a whole test may not have: that Mooring told a secret, or wanted what its accounts may not.
func (c *Cluster) Close() error {
	errs := []error{c.collectMetrics()}
	if c.stopPods != nil {
		c.stopPods()
		c.runner.stopping.Wait()
	}
	for _, process := range c.processes() {
		errs = append(errs, process.Kill())
	}
	for _, host := range c.hosts {
		errs = append(errs, host.close())
	}
	if c.wire != nil {
		errs = append(errs, c.wire.close())
	}
	errs = append(errs, c.told(), c.rights(), os.RemoveAll(c.work))
	return errors.Join(errs...)
}

// process makes a process of the cluster; a nil host is the control plane's.
func (c *Cluster) process(name string, host *Host, args ...string) *Process {
	return &Process{Name: name, Log: filepath.Join(c.Logs, name+".log"), host: host, args: args}
}

// kube is a process of one of Kubernetes' own parts.
func (c *Cluster) kube(name string, host *Host, component string, flags ...string) *Process {
	return c.process(name, host, append([]string{filepath.Join(c.root, KubeBinary), component}, flags...)...)
}

func (c *Cluster) file(name string) string { return filepath.Join(c.work, name) }
