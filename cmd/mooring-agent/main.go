// Command mooring-agent keeps the addresses of one node: it binds what the node's NodeAddresses object says, announces
// it and reports. It is wiring only: flags, clients, the health server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/restclient" // API request metrics
	_ "k8s.io/component-base/metrics/prometheus/version"    // kubernetes_build_info
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent"
	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

const (
	bootIDFile = "/proc/sys/kernel/random/boot_id"
	// A watch whose connection died without a word is noticed after these two together. client-go reads them from
	// the environment, where an operator may set others.
	readIdleVariable, readIdleSeconds       = "HTTP2_READ_IDLE_TIMEOUT_SECONDS", "3"
	pingTimeoutVariable, pingTimeoutSeconds = "HTTP2_PING_TIMEOUT_SECONDS", "3"
	// One object is watched and one status written, so these are far above the need.
	apiQPS, apiBurst = 20, 40
	headerTimeout    = 5 * time.Second
)

// version and commit are stamped by hack/build.sh.
var (
	version = "unknown"
	commit  = "unknown"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer klog.Flush()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mooring-agent:", err)
		return 1
	}
	return 0
}

type options struct {
	kubeconfig    string
	nodeName      string
	healthAddress string
	releaseAll    bool
}

func newCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "mooring-agent",
		Short: "Keeps the load balancer addresses of one node",
		Long: `mooring-agent runs on every node. It reads one object, the NodeAddresses of its node,
binds and announces the addresses that the object says, guards them, and reports.

When it stops, everything stays as it is: addresses go on working without it. To take
a node out of service for good, delete the agent there and run it once with --release-all.

Environment:
  NODE_NAME                        the node's name, when --node-name is not given
  HTTP2_READ_IDLE_TIMEOUT_SECONDS  after how long a silent API connection is tested (default 3)
  HTTP2_PING_TIMEOUT_SECONDS       how long that test waits for an answer (default 3)`,
		Example: `  mooring-agent --kubeconfig=/etc/kubernetes/mooring-agent.conf --node-name=n1
  mooring-agent --release-all`,
		Version:       fmt.Sprintf("%s (commit %s)", version, commit),
		Args:          noArgument,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.releaseAll {
				return releaseAll(cmd.Context())
			}
			return serve(cmd.Context(), o)
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: %s --help lists the flags", err, cmd.Name())
	})
	cmd.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	flags := cmd.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig file; without it the pod's service account is used")
	flags.StringVar(&o.nodeName, "node-name", os.Getenv("NODE_NAME"), "name of the Node that this host is (default $NODE_NAME)")
	flags.StringVar(&o.healthAddress, "health-address", ":10269", "address that /healthz, /readyz and /metrics are served on")
	flags.BoolVar(&o.releaseAll, "release-all", false, "remove everything that Mooring has put on this host, and exit; needs no API server")
	klogFlags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(klogFlags)
	for _, name := range []string{"v", "vmodule"} {
		flags.AddGoFlag(klogFlags.Lookup(name))
	}
	return cmd
}

// noArgument refuses what is no flag, such as "release-all" without its dashes.
func noArgument(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes flags alone, and %q is none: %s --help lists them", cmd.Name(), args[0], cmd.Name())
	}
	return nil
}

func releaseAll(ctx context.Context) (err error) {
	host, err := netif.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	return agent.ReleaseAll(ctx, host)
}

func serve(ctx context.Context, o options) (err error) {
	if o.nodeName == "" {
		return errors.New("the name of the node is not known: give --node-name, or set NODE_NAME in the environment " +
			"(in a pod from the field spec.nodeName)")
	}
	config, err := clientConfig(o.kubeconfig)
	if err != nil {
		return err
	}
	client, err := v1alpha1.NewClient(config)
	if err != nil {
		return err
	}
	bootID, err := os.ReadFile(bootIDFile)
	if err != nil {
		return fmt.Errorf("read the boot id: %w", err)
	}
	// The port is open before anything else: whoever probes it must not take a starting agent for a dead host.
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.healthAddress)
	if err != nil {
		return fmt.Errorf("listen on --health-address %s (is another agent running?): %w", o.healthAddress, err)
	}
	host, err := netif.Open()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, host.Close()) }()

	a := agent.New(host, host.Watch(ctx), client, agent.NewMetrics(legacyregistry.MustRegister, host.ClaimsDropped), agent.Options{
		NodeName:   o.nodeName,
		BootID:     strings.TrimSpace(string(bootID)),
		HealthPort: int32(listener.Addr().(*net.TCPAddr).Port),
	})
	server := &http.Server{Handler: a.HealthHandler(legacyregistry.Handler()), ReadHeaderTimeout: headerTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		klog.FromContext(ctx).Info("Agent started", "version", version, "node", o.nodeName,
			"healthAddress", listener.Addr().String())
		a.Run(ctx)
	}()
	select {
	case <-done:
		// Addresses and guard stay: traffic goes on while the agent restarts.
		return server.Close()
	case err := <-served:
		cancel()
		<-done
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
}

func clientConfig(kubeconfig string) (*rest.Config, error) {
	for variable, value := range map[string]string{readIdleVariable: readIdleSeconds, pingTimeoutVariable: pingTimeoutSeconds} {
		if os.Getenv(variable) == "" {
			if err := os.Setenv(variable, value); err != nil {
				return nil, fmt.Errorf("set %s: %w", variable, err)
			}
		}
	}
	var config *rest.Config
	var err error
	if kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	} else {
		config, err = rest.InClusterConfig()
	}
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("no way to the API server: give --kubeconfig, or run in a pod with a service account")
	}
	if err != nil {
		return nil, fmt.Errorf("read the way to the API server: %w", err)
	}
	config.QPS, config.Burst = apiQPS, apiBurst
	config.UserAgent = "mooring-agent/" + version
	return config, nil
}
