// Command mooring-e2e-kube is the real Kubernetes that the e2e tests and the demo run against: etcd,
// kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet and kubectl in one binary, each a subcommand with its
// usual flags. Only the kubelet differs: it is the real one over a fake container runtime, so that Nodes register,
// renew their leases and carry their taints as in production while no container is started.
//
// It is a Go module of its own, so that nothing of it reaches the product's go.mod, and it knows nothing of Mooring.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // request metrics of every component
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// components by subcommand. Each finds its own arguments in os.Args[1:] and returns its exit code.
var components = map[string]func() int{
	"etcd": func() int {
		etcdmain.Main(os.Args)
		return 0
	},
	"kube-apiserver":          run(apiserver.NewAPIServerCommand),
	"kube-controller-manager": run(controllermanager.NewControllerManagerCommand),
	"kube-proxy":              run(proxy.NewProxyCommand),
	"kube-scheduler":          run(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 run(newKubeletCommand),
	"kubectl": func() int {
		// CheckErr prints the way kubectl does, and exits.
		kubectlutil.CheckErr(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()))
		return 0
	},
}

func run(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

func main() {
	if len(os.Args) > 1 {
		if component, ok := components[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			os.Exit(component())
		}
	}
	names := make([]string, 0, len(components))
	for name := range components {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(os.Stderr, "usage: %s COMPONENT [flags]\n\nCOMPONENT is one of %s; COMPONENT --help lists its flags.\n",
		os.Args[0], strings.Join(names, ", "))
	os.Exit(2)
}
