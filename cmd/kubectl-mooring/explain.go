package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/explain"
)

func (o *options) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Explain why something is as it is",

		DisableFlagsInUseLine: true,

		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("%q cannot be explained, only a Service can: kubectl mooring explain service NAME", args[0])
		},
	}
	var from configSource
	var lease leaseSource
	var out output
	svc := &cobra.Command{
		Use:     "service NAME",
		Aliases: []string{"svc", "services"},
		Short:   "Explain why a Service has what it has, or has nothing",
		Long: `Shows what a Service asks for; every pool, and why it does not serve the
Service; every node, and why it may not carry the address; what the Service
waits for; and its events.

The controller's own code is asked, on what the API server shows at this moment.
What it does not show is told by the conditions of the Service: whether
Hetzner's API or an updater is in the way, and what the probe of a node says.`,
		Example: `  kubectl mooring explain service web -n shop
  kubectl mooring explain service web -n shop -f new-cloud-config.yaml`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return o.explain(cmd.Context(), args[0], from, lease, out)
		},
	}
	from.addFlags(svc.Flags())
	lease.addFlags(svc.Flags())
	out.addFlag(svc, "lines are not broken")
	cmd.AddCommand(svc)
	return cmd
}

func (o *options) explain(ctx context.Context, name string, from configSource, lease leaseSource, out output) error {
	c, err := o.connect(o.flags)
	if err != nil {
		return err
	}
	svc, err := c.core.CoreV1().Services(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("namespace %s has no Service %s: name another namespace with -n", c.namespace, name)
	}
	if err != nil {
		return doing(fmt.Sprintf("read service %s/%s", c.namespace, name), err)
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
	if all.Endpoints, err = c.endpoints(ctx, svc); err != nil {
		return err
	}
	if all.Events, err = c.events(ctx, svc); err != nil {
		return err
	}
	x := explain.ServiceOf(all, svc, o.clock.Now())
	if done, err := out.object(o.Out, "ServiceExplanation", x); done {
		return err
	}
	width := columns
	if out == wide {
		width = 0
	}
	p := page{w: o.Out, width: width}
	o.printExplanation(&p, x)
	return p.err
}

// page prints titled lists and remembers the first error.
type page struct {
	w     io.Writer
	width int
	err   error
}

func (p *page) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// list prints items of a name and a text. The texts stand below each other, and break where the line ends.
func (p *page) list(title string, items [][2]string) {
	p.line("")
	p.line("%s", title)
	name := 0
	for _, i := range items {
		name = max(name, utf8.RuneCountInString(i[0]))
	}
	for _, i := range items {
		indent := "  "
		if name > 0 {
			indent += strings.Repeat(" ", name+gap)
		}
		lines := []string{i[1]}
		if p.width > 0 {
			lines = wrap(i[1], max(p.width-len(indent), least))
		}
		for n, text := range lines {
			start := indent
			if n == 0 && name > 0 {
				start = fmt.Sprintf("  %-*s", name+gap, i[0])
			}
			p.line("%s", strings.TrimRight(start+text, " "))
		}
	}
}

func (o *options) printExplanation(p *page, x explain.Explanation) {
	p.line("Service %s/%s", x.Namespace, x.Name)
	var rows [][2]string
	for _, w := range x.Asked {
		rows = append(rows, [2]string{w.Field, w.Value})
	}
	p.list("Asks for", rows)

	has := [][2]string{{"address", or(strings.Join(x.Addresses, ", "))}}
	if len(x.Service.Pools) > 0 {
		has = append(has, [2]string{"pool", strings.Join(x.Service.Pools, ", ")})
	}
	state := stateOf(x.Service)
	if x.Since != nil {
		state += fmt.Sprintf(" since %s", age(x.Since, o.clock.Now()))
	}
	switch x.State {
	case explain.StateNotSeen:
		state = "no controller of Mooring has looked at it"
	case explain.StateNotServed:
		state = "Mooring does not serve it"
	}
	has = append(has, [2]string{"node", or(where(x.Service))}, [2]string{"state", state})
	p.list("Has", has)

	rows = nil
	for _, v := range x.Pools {
		text := "would serve it"
		switch {
		case v.Message != "" && v.Holds:
			text = "serves it, but " + v.Message
		case v.Message != "":
			text = v.Message
		case v.Holds:
			text = "serves it"
		}
		rows = append(rows, [2]string{v.Name, text})
	}
	if len(rows) > 0 {
		p.list("Pools, in the order of a free choice", rows)
	}
	for _, n := range x.Nodes {
		rows = nil
		for _, v := range n.Verdicts {
			rows = append(rows, [2]string{v.Name, verdict(v)})
		}
		p.list("Nodes for "+strings.Join(n.For, ", "), rows)
	}

	rows = nil
	for _, w := range x.Waits {
		rows = append(rows, [2]string{"", w})
	}
	if len(rows) == 0 {
		rows = [][2]string{{"", "nothing"}}
	}
	p.list("Waits for", rows)

	rows = nil
	for _, e := range x.Events {
		times := ""
		if e.Count > 1 {
			times = fmt.Sprintf(" (%d times)", e.Count)
		}
		rows = append(rows, [2]string{age(&e.Last, o.clock.Now()), e.Reason + times + ": " + e.Message})
	}
	if len(rows) > 0 {
		p.list("Events, newest first", rows)
	}
}

func verdict(v explain.NodeVerdict) string {
	switch {
	case v.Serves && v.Why != "":
		return "serves it, and is " + v.Why
	case v.Serves:
		return "serves it"
	case v.Why != "":
		return v.Why
	default:
		return "may serve it"
	}
}
