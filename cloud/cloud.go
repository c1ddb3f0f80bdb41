// Package cloud is the provider that the upstream cloud-controller-manager drives: LoadBalancer, InstancesV2, and
// behind them one queue and one sync.
//
// Every event - a call of the service controller, a changed Service, Node, endpoint or NodeAddresses, a reloaded
// configuration, the slow loop - is a door that puts a key into a queue. One sync for each key observes, lets the
// ledger decide, and publishes. Decisions are made in ledger, pool and place and nowhere here; nothing here holds
// state that a restart would miss; and nothing but publish writes the status of a Service.
package cloud

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/component-base/metrics"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
)

// ProviderName as in --cloud-provider.
const ProviderName = "mooring"

// Options are what a Cloud is made of.
type Options struct {
	// ConfigFile is the path of the cloud-config.
	ConfigFile string
	// PollConfig: changes of the cloud-config are looked for every few seconds, and the operating system is not asked
	// to tell of them.
	PollConfig bool
	Client     kubernetes.Interface
	// REST is the connection for NodeAddresses.
	REST      *rest.Config
	Informers informers.SharedInformerFactory
	Recorder  record.EventRecorder
	// Metrics are served with the upstream ones.
	Metrics Registry
	Clock   clock.Clock
	// LeaseNamespace is where the Leases of leader election and of the epoch live; LeaseName is that of leader
	// election, empty when there is none.
	LeaseNamespace, LeaseName string
	// NoProbe: the agents' health ports are not probed, and a node is lost when its Ready condition says so.
	NoProbe bool
	// ClusterName is --cluster-name: part of the names and labels of what is bought.
	ClusterName string
	// Hetzner is the transport of all calls to Hetzner; nil: the network.
	Hetzner http.RoundTripper
	// Updater is the transport of all calls to updaters; nil: the network.
	Updater http.RoundTripper
	// Registerer takes up the metrics of the client of Hetzner; nil: there are none.
	Registerer prometheus.Registerer
	// Version of Mooring.
	Version string
	// Namespace of Mooring's own objects, where what the admission policies know of the pools is kept current (package
	// externalips); empty: it is not.
	Namespace string
	// Pod of this controller, for events about its configuration; empty outside of a cluster.
	Pod corev1.ObjectReference
	// Exit ends the process: this controller must not write any more.
	Exit func(error)
}

// Registry takes up metrics. Registering one name twice is a fault of the program.
type Registry interface {
	MustRegister(...metrics.Registerable)
	CustomMustRegister(...metrics.StableCollector)
}

// Cloud is the provider.
type Cloud struct {
	options Options
	config  *config.Config
	// initializeNodes as it was at the start: which controllers run is decided once.
	initializeNodes bool
	// watcher of the cloud-config; it knows what was loaded at the start.
	watcher *config.Watcher
	room    *room
	lease   *leadership
}

var (
	_ cloudprovider.Interface    = (*Cloud)(nil)
	_ cloudprovider.InformerUser = (*Cloud)(nil)
)

// New reads and judges the cloud-config and prepares the provider. It asks nothing of the cluster; that waits for
// leadership (Initialize), or for StandBy.
func New(o Options) (*Cloud, error) {
	c := &Cloud{options: o}
	addresses, err := v1alpha1.NewClient(o.REST)
	if err != nil {
		return nil, err
	}
	c.room = newRoom(o, addresses)
	if err := c.loadConfig(); err != nil {
		c.room.stop()
		return nil, err
	}
	c.initializeNodes = c.config.InitializeNodes
	c.lease = &leadership{client: o.Client, namespace: o.LeaseNamespace, name: o.LeaseName}
	return c, nil
}

// retryAdoption is the pause before the cluster is read again when that went wrong at the start.
const retryAdoption = time.Second

// Initialize is called once this process leads. It returns when the ledger is rebuilt from live reads, so that no
// controller asks for anything before.
func (c *Cloud) Initialize(_ cloudprovider.ControllerClientBuilder, stop <-chan struct{}) {
	ctx := wait.ContextForChannel(stop)
	if err := c.lease.note(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "The lease will not be released at the end, only expire")
	}
	// A standby has not followed the cloud-config; what it read at its start may be old.
	if err := c.loadConfig(); err != nil {
		c.room.metrics.reloaded(err)
		klog.FromContext(ctx).Error(err, "Cloud-config refused; what was loaded at the start is in force")
	}
	for {
		err := c.room.adopt(ctx, c.config)
		if err == nil {
			break
		}
		klog.FromContext(ctx).Error(err, "The cluster could not be read; nothing is handed out before", "retryIn", retryAdoption)
		select {
		case <-ctx.Done():
			return
		case <-c.options.Clock.After(retryAdoption):
		}
	}
	if err := c.room.balancers.follow(c.config); err != nil {
		klog.FromContext(ctx).Error(err, "An updater pool cannot be served")
	}
	c.room.lead()
	c.room.watch(ctx)
	go c.room.run(ctx)
	// Run ends with the context and not before.
	go func() { _ = c.watcher.Run(ctx) }()
}

// SetInformers implements cloudprovider.InformerUser; the informers are those of Options already.
func (c *Cloud) SetInformers(informers.SharedInformerFactory) {}

// Stop ends all writing, and then releases the lease, so that the next leader need not wait for it to expire.
func (c *Cloud) Stop(ctx context.Context) {
	c.room.stop()
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if err := c.lease.release(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "The lease is not released; the next leader waits until it expires")
	}
}

// releaseTimeout bounds the release of the lease: a process that is asked to end, ends.
const releaseTimeout = 2 * time.Second

// LoadBalancer implements cloudprovider.Interface.
func (c *Cloud) LoadBalancer() (cloudprovider.LoadBalancer, bool) { return &loadBalancer{c.room}, true }

// InstancesV2 implements cloudprovider.Interface: with initializeNodes the cloud-node controller initialises Nodes
// through it.
func (c *Cloud) InstancesV2() (cloudprovider.InstancesV2, bool) {
	if !c.initializeNodes {
		return nil, false
	}
	return &instances{objects: c.room.objects, synced: c.room.objectsSynced, server: c.room.serverOf, clock: c.options.Clock}, true
}

// Instances implements cloudprovider.Interface: superseded by InstancesV2.
func (c *Cloud) Instances() (cloudprovider.Instances, bool) { return nil, false }

// Zones implements cloudprovider.Interface: superseded by InstancesV2.
func (c *Cloud) Zones() (cloudprovider.Zones, bool) { return nil, false }

// Clusters implements cloudprovider.Interface.
func (c *Cloud) Clusters() (cloudprovider.Clusters, bool) { return nil, false }

// Routes implements cloudprovider.Interface.
func (c *Cloud) Routes() (cloudprovider.Routes, bool) { return nil, false }

// ProviderName implements cloudprovider.Interface.
func (c *Cloud) ProviderName() string { return ProviderName }

// HasClusterID implements cloudprovider.Interface: a cluster is identified by the UID of its kube-system namespace.
func (c *Cloud) HasClusterID() bool { return true }
