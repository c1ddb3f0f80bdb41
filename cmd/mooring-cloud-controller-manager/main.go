// Command mooring-cloud-controller-manager is a Kubernetes cloud-controller-manager for clusters without a cloud
// load balancer. It consists of the upstream command and the provider in package cloud; nothing is decided here.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	"k8s.io/cloud-provider/names"
	"k8s.io/cloud-provider/options"
	"k8s.io/component-base/cli"
	cliflag "k8s.io/component-base/cli/flag"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	_ "k8s.io/component-base/metrics/prometheus/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/cloud"
)

const description = `mooring-cloud-controller-manager gives Services of type LoadBalancer an address in clusters that have
no cloud load balancer: it takes addresses from the pools of its cloud-config and places each on a
node, where mooring-agent binds and announces it. When the node fails, its addresses move.

--cloud-config is required. All other flags are those of every cloud-controller-manager.`

// version and commit are stamped by hack/build.sh.
var (
	version = "unknown"
	commit  = "unknown"
)

func main() { os.Exit(run()) }

func run() int {
	if err := noticeDeadWatches(); err != nil {
		fmt.Fprintln(os.Stderr, "mooring-cloud-controller-manager:", err)
		return 1
	}
	o, err := options.NewCloudControllerManagerOptions()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mooring-cloud-controller-manager:", err)
		return 1
	}
	o.KubeCloudShared.CloudProvider.Name = cloud.ProviderName
	o.ServiceController.ConcurrentServiceSyncs = 32
	o.Generic.ClientConnection.QPS = 1000
	o.Generic.ClientConnection.Burst = 2000
	o.Generic.LeaderElection.ResourceName = "mooring-cloud-controller-manager"

	p := &process{stop: make(chan struct{})}
	go p.handleSignals()
	command := app.NewCloudControllerManagerCommand(o, p.newCloud, controllers(),
		names.CCMControllerAliases(), cliflag.NamedFlagSets{}, p.stop)
	command.Use = "mooring-cloud-controller-manager"
	command.Long = description
	upstream := command.RunE
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if v := cmd.Flags().Lookup("version"); v != nil && v.Changed && v.Value.String() != "false" {
			fmt.Printf("mooring-cloud-controller-manager %s (commit %s)\n", version, commit)
			return nil
		}
		return upstream(cmd, args)
	}
	return cli.Run(command)
}

// noticeDeadWatches has client-go test a silent connection to the API server after 5 s and not after 30: until then a
// controller acts on what it last heard. An operator's own setting stays.
func noticeDeadWatches() error {
	for name, value := range map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "5", "HTTP2_PING_TIMEOUT_SECONDS": "5"} {
		if os.Getenv(name) != "" {
			continue
		}
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// process ends in order: first all writing, then the lease, then the rest.
type process struct {
	stop  chan struct{}
	cloud atomic.Pointer[cloud.Cloud]
}

// defaultNamespace of the manifests.
const defaultNamespace = "mooring-system"

// newCloud implements app.InitCloudFunc, which has no way to return an error.
func (p *process) newCloud(c *config.CompletedConfig) cloudprovider.Interface {
	election := c.ComponentConfig.Generic.LeaderElection
	leaseName := ""
	if election.LeaderElect {
		leaseName = election.ResourceName
	}
	made, err := cloud.New(cloud.Options{
		ConfigFile:     c.ComponentConfig.KubeCloudShared.CloudProvider.CloudConfigFile,
		Client:         c.Client,
		REST:           c.Kubeconfig,
		Informers:      c.SharedInformers,
		Recorder:       c.EventRecorder,
		Metrics:        registry{},
		Clock:          clock.RealClock{},
		LeaseNamespace: election.ResourceNamespace,
		LeaseName:      leaseName,
		ClusterName:    c.ComponentConfig.KubeCloudShared.ClusterName,
		Registerer:     legacyregistry.Registerer(),
		Version:        version,
		Namespace:      cmp.Or(os.Getenv("POD_NAMESPACE"), defaultNamespace),
		Pod: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: os.Getenv("POD_NAMESPACE"), Name: os.Getenv("POD_NAME"), UID: types.UID(os.Getenv("POD_UID")),
		},
		Exit: exit,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "mooring-cloud-controller-manager:", err)
		os.Exit(1) //nolint:revive // upstream gives this function no way to return an error
	}
	if election.LeaderElect {
		made.StandBy(wait.ContextForChannel(p.stop))
	}
	p.cloud.Store(made)
	return made
}

// registry is the one that the upstream command serves on /metrics.
type registry struct{}

func (registry) MustRegister(m ...metrics.Registerable) { legacyregistry.MustRegister(m...) }
func (registry) CustomMustRegister(m ...metrics.StableCollector) {
	legacyregistry.CustomMustRegister(m...)
}

func exit(err error) {
	klog.ErrorS(err, "This controller writes no more")
	klog.FlushAndExit(klog.ExitFlushTimeout, 1)
}

func (p *process) handleSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	<-signals
	signal.Stop(signals) // a second one ends the process at once
	if c := p.cloud.Load(); c != nil {
		c.Stop(context.Background())
	}
	close(p.stop)
}
