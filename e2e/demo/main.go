// Command demo shows the main job on this machine: a cluster of real parts in namespaces (e2e/cluster), a Service of
// type LoadBalancer that gets an address, a request that reaches it, and what a client notices when the node that
// holds the address is lost. It tells what it does while it does it, measures, and removes everything.
//
// KEEP=1 leaves the cluster running until Ctrl-C and says how to look around. GRACE=20s sets after how long Kubernetes
// itself calls a silent node NotReady (node-monitor-grace-period; 50s unless set, as in production). It is not what the
// address waits for: the probe notices a lost node long before.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const cloudConfig = `apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: office
  addresses: [10.90.0.100-10.90.0.119]
  interface: pl0
`

func main() { os.Exit(cluster.Enter(run)) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := demo(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Println("\nInterrupted; everything is removed.")
		return 130
	default:
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		return 1
	}
}

func demo(ctx context.Context) error {
	grace, err := graceOf(os.Getenv("GRACE"))
	if err != nil {
		return err
	}
	s := &show{begin: time.Now()}

	s.title("A cluster of three nodes, on this machine, in namespaces of its own")
	if s.cluster, err = cluster.Start(ctx, cluster.Options{
		NodeMonitorGracePeriod: grace, Manifests: "manifests/base", Progress: s.say,
	}); err != nil {
		return err
	}
	if err := s.run(ctx, grace); err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%w\n%s", err, s.cluster.Dump(ctx))
		}
		return err
	}
	if os.Getenv("KEEP") == "1" {
		s.title("The cluster stays until Ctrl-C")
		fmt.Println(s.cluster.LookAround())
		<-ctx.Done()
	}
	s.say("done; everything is removed")
	return nil
}

// run tells the story in a running cluster.
func (s *show) run(ctx context.Context, grace time.Duration) error {
	s.title("Mooring starts: an agent on each node, and the controller with this cloud-config")
	fmt.Print(indent(cloudConfig))
	if err := s.startMooring(ctx); err != nil {
		return err
	}

	s.title("A Service of type LoadBalancer gets an address, and the address answers")
	at, err := s.serve(ctx)
	if err != nil {
		return err
	}
	if err := s.tables(ctx); err != nil {
		return err
	}

	s.title("The node that holds the address is cut off the network")
	if err := s.lose(ctx, at, grace); err != nil {
		return err
	}
	if err := s.tables(ctx); err != nil {
		return err
	}

	s.title("The lost node comes back")
	return s.comeBack(ctx, at)
}

func graceOf(text string) (time.Duration, error) {
	if text == "" {
		return 50 * time.Second, nil
	}
	grace, err := time.ParseDuration(text)
	if err != nil || grace < time.Second {
		return 0, fmt.Errorf("GRACE is %q: give a duration of at least 1s, such as 20s", text)
	}
	return grace, nil
}

func (s *show) startMooring(ctx context.Context) error {
	if err := s.cluster.Configure(cloudConfig); err != nil {
		return err
	}
	controller, err := s.cluster.AddController(ctx)
	if err != nil {
		return err
	}
	if err := controller.Start(); err != nil {
		return err
	}
	for _, node := range s.cluster.Nodes {
		if err := s.cluster.StartAgent(ctx, node); err != nil {
			return err
		}
	}
	for _, node := range s.cluster.Nodes {
		if err := s.cluster.AwaitAgent(ctx, node); err != nil {
			return err
		}
	}
	s.say("the agents are ready")
	if err := cluster.Await(ctx, "every Node is initialized", s.initialized); err != nil {
		return err
	}
	s.say("every Node is initialized: the taint node.cloudprovider.kubernetes.io/uninitialized is gone")
	for _, node := range s.cluster.Nodes {
		if err := s.cluster.AwaitProxy(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

// initialized is nil when no Node waits for a cloud controller any more.
func (s *show) initialized(ctx context.Context) error {
	nodes, err := s.cluster.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		for _, taint := range node.Spec.Taints {
			if strings.HasPrefix(taint.Key, "node.cloudprovider.kubernetes.io/") {
				return fmt.Errorf("node %s has the taint %s", node.Name, taint.Key)
			}
		}
	}
	return nil
}

// tables prints what a user looks at.
func (s *show) tables(ctx context.Context) error {
	for _, args := range [][]string{{"get", "nodes"}, {"get", "service", "web"}, {"get", "na"}} {
		text, err := s.cluster.Kubectl(ctx, args...)
		if err != nil {
			return err
		}
		fmt.Printf("    $ kubectl %s\n%s\n", strings.Join(args, " "), indent(text))
	}
	return nil
}

// condition of the Service as a user reads it.
func condition(service *corev1.Service) string {
	for _, c := range service.Status.Conditions {
		if c.Type == "mooring.dev/Bound" {
			return c.Message
		}
	}
	return ""
}

// show is the telling.
type show struct {
	begin   time.Time
	cluster *cluster.Cluster
	service *corev1.Service
}

func (s *show) title(text string) { fmt.Printf("\n== %s\n", text) }

// say prints a line with the seconds since the beginning.
func (s *show) say(format string, args ...any) {
	fmt.Printf("%6.1f s  %s\n", time.Since(s.begin).Seconds(), fmt.Sprintf(format, args...))
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ") + "\n"
}

var errNoHolder = errors.New("no node holds it")
