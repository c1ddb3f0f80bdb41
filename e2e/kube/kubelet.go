package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	cadvisorapi "github.com/google/cadvisor/info/v1"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace/noop"
	v1 "k8s.io/api/core/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	fakeruntime "k8s.io/cri-api/pkg/apis/testing"
	remote "k8s.io/cri-client/pkg"
	fakeremote "k8s.io/cri-client/pkg/fake"
	cadvisor "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubemark"
)

// kubelet is what a Node of a test cluster needs to be told.
type kubelet struct {
	kubeconfig string
	nodeName   string
	nodeIP     string
	// cloudProvider is external unless the kubelet initializes its Node itself.
	cloudProvider string
	// podIPs are what the fake container runtime says of every pod that is not in the network of the host.
	podIPs  []string
	rootDir string
	labels  map[string]string
	// leaseSeconds of the Node's lease, which is renewed four times in that time.
	leaseSeconds int32
	// statusFrequency is how often the Node's status is computed, and so how soon a Node that was taken for lost is
	// Ready again.
	statusFrequency time.Duration
}

func newKubeletCommand() *cobra.Command {
	k := kubelet{}
	cmd := &cobra.Command{
		Use:   "kubelet",
		Short: "The real kubelet over a fake container runtime, without a provider ID",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return k.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&k.kubeconfig, "kubeconfig", "", "kubeconfig of the node's user")
	flags.StringVar(&k.nodeName, "node-name", "", "name of the Node")
	flags.StringVar(&k.nodeIP, "node-ip", "", "address of the Node, or one of each family; empty: left to the cloud provider")
	flags.StringVar(&k.cloudProvider, "cloud-provider", "external", "external, or empty")
	flags.StringSliceVar(&k.podIPs, "pod-ips", nil, "addresses of each pod, as the container runtime reports them; empty: its own")
	flags.StringVar(&k.rootDir, "root-dir", "", "directory for the kubelet's files and the container runtime's socket")
	flags.StringToStringVar(&k.labels, "node-labels", nil, "labels that the Node registers with")
	flags.Int32Var(&k.leaseSeconds, "node-lease-duration-seconds", 40, "duration of the Node's lease; it is renewed four times in it")
	flags.DurationVar(&k.statusFrequency, "node-status-update-frequency", 10*time.Second, "how often the Node's status is computed")
	return cmd
}

func (k *kubelet) run(ctx context.Context) error {
	if k.kubeconfig == "" || k.nodeName == "" || k.rootDir == "" {
		return errors.New("--kubeconfig, --node-name and --root-dir are required")
	}
	config, err := clientcmd.BuildConfigFromFlags("", k.kubeconfig)
	if err != nil {
		return err
	}
	config.UserAgent = "kubelet"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return err
	}

	flags, settings := kubemark.GetHollowKubeletConfig(&kubemark.HollowKubeletOptions{
		NodeName:    k.nodeName,
		KubeletPort: 10250,
		MaxPods:     110,
		NodeLabels:  k.labels,
	})
	// The directory that was made in /tmp would outlive the cluster.
	if err := os.RemoveAll(flags.RootDirectory); err != nil {
		return err
	}
	flags.RootDirectory = k.rootDir
	settings.StaticPodPath = ""
	settings.PodLogsDir = filepath.Join(k.rootDir, "pod-logs")
	flags.CloudProvider = k.cloudProvider
	flags.NodeIP = k.nodeIP
	// The cloud controller under test decides about the provider ID.
	settings.ProviderID = ""
	settings.ResolverConfig = ""
	settings.NodeLeaseDurationSeconds = k.leaseSeconds
	settings.NodeStatusUpdateFrequency.Duration = k.statusFrequency

	// Heartbeats have a client of their own, as in the kubelet's main: a full rate limit must not cost the lease.
	config.QPS = -1
	config.Timeout = min(settings.NodeStatusUpdateFrequency.Duration, time.Duration(settings.NodeLeaseDurationSeconds)*time.Second)
	heartbeat, err := clientset.NewForConfig(config)
	if err != nil {
		return err
	}

	if len(k.podIPs) > 0 {
		fakeruntime.FakePodSandboxIPs = k.podIPs
	}
	endpoint := "unix://" + filepath.Join(k.rootDir, "runtime.sock")
	runtime := fakeremote.NewFakeRemoteRuntime()
	if err := runtime.Start(endpoint); err != nil {
		return fmt.Errorf("start the container runtime on %s: %w", endpoint, err)
	}
	defer runtime.Stop()
	service, err := remote.NewRemoteRuntimeService(ctx, endpoint, 15*time.Second, noop.NewTracerProvider(), false)
	if err != nil {
		return fmt.Errorf("connect to the container runtime on %s: %w", endpoint, err)
	}

	kubemark.NewHollowKubelet(
		flags, settings, client, heartbeat,
		machine{&cadvisor.Fake{NodeName: k.nodeName}},
		runtime.ImageService, service,
		cm.NewStubContainerManagerWithDevicePluginResource(v1.ResourceList{}),
	).Run(ctx)
	return nil
}

// machine is kubemark's, with the boot id that this process sees: a Node of a host that was started again says so.
type machine struct{ *cadvisor.Fake }

// MachineInfo is what the kubelet reports of the host.
func (m machine) MachineInfo() (*cadvisorapi.MachineInfo, error) {
	info, err := m.Fake.MachineInfo()
	if err != nil {
		return nil, err
	}
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	info.BootID = strings.TrimSpace(string(bootID))
	return info, nil
}
