package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mooring-lb/mooring/cloud/explain"
)

func (o *options) statusCommand() *cobra.Command {
	var from configSource
	var lease leaseSource
	var out output
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show who leads, pools, Services of type LoadBalancer, and nodes",
		Long: `Shows which controller leads, what the pools have left, where each Service of
type LoadBalancer is served and since when, and what each node carries. With -n
only Services of that namespace are shown.`,
		Example: `  kubectl mooring status
  kubectl mooring status -o wide
  kubectl mooring status -n shop -o json`,
		Args: noArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return o.status(cmd.Context(), from, lease, out)
		},
	}
	from.addFlags(cmd.Flags())
	lease.addFlags(cmd.Flags())
	out.addFlag(cmd, "use by namespace, whole messages")
	return cmd
}

func (o *options) status(ctx context.Context, from configSource, lease leaseSource, out output) error {
	c, err := o.connect(o.flags)
	if err != nil {
		return err
	}
	all, err := c.read(ctx)
	if err != nil {
		return err
	}
	if all.Config, err = o.config(ctx, c, from); err != nil {
		return err
	}
	if all.Leader, err = o.leader(ctx, c, lease); err != nil {
		return err
	}
	for i := range all.Services {
		svc := &all.Services[i]
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
			endpoints, err := c.endpoints(ctx, svc)
			if err != nil {
				return err
			}
			all.Endpoints = append(all.Endpoints, endpoints...)
		}
	}
	s := explain.StatusOf(all, o.clock.Now())
	if c.given {
		s.Services = slices.DeleteFunc(s.Services, func(s explain.Service) bool { return s.Namespace != c.namespace })
	}
	if done, err := out.object(o.Out, "Status", s); done {
		return err
	}
	return o.printStatus(s, out)
}

func (o *options) printStatus(s explain.Status, out output) error {
	width := columns
	if out == wide {
		width = 0
	}
	if s.Leader != nil {
		if err := table(o.Out, width, leaderRows(s.Leader, o.clock.Now())); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(o.Out); err != nil {
			return err
		}
	}
	for i, rows := range [][][]string{poolRows(s.Pools, out), serviceRows(s.Services, out, o.clock.Now()), nodeRows(s.Nodes)} {
		if i > 0 {
			if _, err := fmt.Fprintln(o.Out); err != nil {
				return err
			}
		}
		if len(rows) == 1 {
			if _, err := fmt.Fprintln(o.Out, [...]string{"No pools.", "No Services of type LoadBalancer.", "No nodes."}[i]); err != nil {
				return err
			}
			continue
		}
		if err := table(o.Out, width, rows); err != nil {
			return err
		}
	}
	return nil
}

func poolRows(pools []explain.Pool, out output) [][]string {
	head := []string{"POOL", "KIND", "OF", "SIZE", "USED", "FREE"}
	if out == wide {
		head = append(head, "QUARANTINED", "BY NAMESPACE")
	}
	rows := [][]string{head}
	for _, p := range pools {
		row := []string{p.Name, or(p.Kind), p.Of, count(p, p.Size), strconv.FormatUint(p.Used, 10), count(p, p.Free)}
		if out == wide {
			var uses []string
			for _, namespace := range slices.Sorted(maps.Keys(p.Namespaces)) {
				uses = append(uses, fmt.Sprintf("%s %d", namespace, p.Namespaces[namespace]))
			}
			row = append(row, strconv.FormatUint(p.Quarantined, 10), or(strings.Join(uses, ", ")))
		}
		rows = append(rows, row)
	}
	return rows
}

// count is a number, or why there is none: without a kind there was no cloud-config.
func count(p explain.Pool, n *uint64) string {
	switch {
	case n != nil:
		return strconv.FormatUint(*n, 10)
	case p.Kind == "":
		return "?"
	default:
		return "no limit"
	}
}

func serviceRows(services []explain.Service, out output, now time.Time) [][]string {
	head := []string{"SERVICE", "ADDRESS", "POOL", "NODE", "SINCE", "STATE"}
	if out == wide {
		head = append(head, "MESSAGE")
	}
	rows := [][]string{head}
	for _, s := range services {
		state := stateOf(s)
		// One line for each address; what is the Service's own stands on the first.
		for i := range max(1, len(s.Addresses)) {
			row := []string{"", "-", "", "", "", ""}
			if i < len(s.Addresses) {
				row[1] = s.Addresses[i]
			}
			if i == 0 {
				row[0], row[2], row[3] = s.Namespace+"/"+s.Name, or(strings.Join(s.Pools, ",")), or(where(s))
				row[4], row[5] = age(s.Since, now), state
			}
			if out == wide {
				row = append(row, "")
				if i == 0 {
					row[6] = s.Message
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// stateOf a Service is Bound, the reason why not, or what is not as it asks for.
func stateOf(s explain.Service) string {
	if s.Degraded != "" {
		return "Degraded: " + s.Degraded
	}
	return s.State
}

// where names the nodes that carry the addresses, or counts the targets.
func where(s explain.Service) string {
	targets := ""
	if s.Targets != nil {
		targets = fmt.Sprintf("%d nodes", *s.Targets)
	}
	return cmp.Or(strings.Join(s.Nodes, ","), targets)
}

// age is how long ago something was. What another machine's clock has in the future was just now.
func age(t *metav1.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return duration.HumanDuration(max(now.Sub(t.Time), 0))
}

func nodeRows(nodes []explain.Node) [][]string {
	rows := [][]string{{"NODE", "BOUND", "PENDING", "FAILED", "AGENT", "MESSAGE"}}
	for _, n := range nodes {
		rows = append(rows, []string{
			n.Name, strconv.Itoa(n.Bound), strconv.Itoa(n.Pending), strconv.Itoa(n.Failed), n.Agent, n.Message,
		})
	}
	return rows
}
