package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// annotationEvacuated stands on a Node whose exclude label `kubectl mooring evacuate` has set. Its value is what the label
// said before; empty when there was none. Nothing but that command reads it.
//
//reference:mark annotation on Nodes
const annotationEvacuated = "mooring.dev/evacuated"

const (
	// pollInterval between looks at the node's object.
	pollInterval = time.Second
	// evacuateTimeout is enough for thousands of addresses.
	evacuateTimeout = 2 * time.Minute
	// named bounds how many addresses a message names.
	named = 5
)

func (o *options) evacuateCommand() *cobra.Command {
	var undo bool
	var dryRun string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "evacuate NODE",
		Short: "Move all addresses away from a node, and keep new ones off it",
		Long: `Sets the label ` + lb.LabelExcludeNode + `
on the Node, and waits until its NodeAddresses holds nothing. Addresses move as
planned, one node answering at any moment; connections that are open break. The
node is no target of external load balancers either, Mooring's or others'.

--undo takes the label back, if this command has set it. Addresses do not come
back by themselves: the node is chosen again when one has to be placed.

The exit code is 0 when the node is empty, and 1 when it is not after --timeout;
the label stays then, and the command may be given again.`,
		Example: `  kubectl mooring evacuate n1
  kubectl mooring evacuate n1 --undo`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dryRun != "none" && dryRun != "client" {
				return fmt.Errorf("--dry-run=%s is not known: write none or client", dryRun)
			}
			c, err := o.connect(o.flags)
			if err != nil {
				return err
			}
			e := evacuation{options: o, cluster: c, node: args[0], dry: dryRun == "client"}
			if undo {
				return e.undo(cmd.Context())
			}
			return e.run(cmd.Context(), timeout)
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "let the node carry addresses again")
	cmd.Flags().StringVar(&dryRun, "dry-run", "none", "none or client: client only says what would be done")
	cmd.Flags().DurationVar(&timeout, "timeout", evacuateTimeout, "how long to wait until the node is empty; 0 does not wait")
	return cmd
}

// evacuation of one node.
type evacuation struct {
	*options
	*cluster
	node string
	dry  bool
}

func (e *evacuation) say(format string, args ...any) error {
	_, err := fmt.Fprintf(e.Out, format+"\n", args...)
	return err
}

func (e *evacuation) run(ctx context.Context, timeout time.Duration) error {
	node, err := e.read(ctx)
	if err != nil {
		return err
	}
	held, err := e.held(ctx)
	if err != nil {
		return err
	}
	if e.dry {
		if place.Excluded(node.Labels) {
			return e.say("node/%s is excluded already; it holds %s (dry run)", e.node, addresses(len(held)))
		}
		return e.say("node/%s would be excluded, and %s would move (dry run)", e.node, addresses(len(held)))
	}
	if err := e.exclude(ctx); err != nil {
		return err
	}
	if timeout <= 0 {
		return e.say("node/%s holds %s; not waiting", e.node, addresses(len(held)))
	}
	return e.wait(ctx, timeout)
}

// exclude sets the label, unless it stands there already: then it is somebody else's, or ours from before.
func (e *evacuation) exclude(ctx context.Context) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := e.read(ctx)
		if err != nil {
			return err
		}
		if place.Excluded(node.Labels) {
			return e.say("node/%s is excluded already", e.node)
		}
		if err := e.patch(ctx, node, new("true"), new(node.Labels[lb.LabelExcludeNode])); err != nil {
			return err
		}
		return e.say("node/%s is excluded", e.node)
	})
}

// undo restores the label as it was, provided that it is what we made of it.
func (e *evacuation) undo(ctx context.Context) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := e.read(ctx)
		if err != nil {
			return err
		}
		before, ours := node.Annotations[annotationEvacuated]
		switch {
		case !ours && place.Excluded(node.Labels):
			return fmt.Errorf("node %s was not excluded by this command: when nobody needs that any more, kubectl label node %s %s-",
				e.node, e.node, lb.LabelExcludeNode)
		case !ours:
			return e.say("node/%s is not excluded", e.node)
		case e.dry:
			return e.say("node/%s would carry addresses again (dry run)", e.node)
		}
		label := &before
		switch now, set := node.Labels[lb.LabelExcludeNode]; {
		case !set:
			label = nil // somebody has taken it back already
		case now != "true":
			label = &now
		case before == "":
			label = nil
		}
		if err := e.patch(ctx, node, label, nil); err != nil {
			return err
		}
		return e.say("node/%s may carry addresses again; none moves back by itself", e.node)
	})
}

func (e *evacuation) read(ctx context.Context) (*corev1.Node, error) {
	node, err := e.core.CoreV1().Nodes().Get(ctx, e.node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("the cluster has no node %s: kubectl get nodes lists them", e.node)
	}
	if err != nil {
		return nil, doing("read node "+e.node, err)
	}
	return node, nil
}

// patch sets the label and our annotation, or removes what is nil, provided that the Node is as it was read.
func (e *evacuation) patch(ctx context.Context, node *corev1.Node, label, annotation *string) error {
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": node.ResourceVersion,
		"labels":          map[string]*string{lb.LabelExcludeNode: label},
		"annotations":     map[string]*string{annotationEvacuated: annotation},
	}})
	if err != nil {
		return fmt.Errorf("patch node %s: %w", e.node, err)
	}
	_, err = e.core.CoreV1().Nodes().Patch(ctx, e.node, types.MergePatchType, data, metav1.PatchOptions{FieldManager: "kubectl-mooring"})
	if err != nil {
		return doing("patch node "+e.node, err) // a conflict inside is found by whoever tries again
	}
	return nil
}

// held is what the node's object says; nothing when there is none.
func (e *evacuation) held(ctx context.Context) ([]v1alpha1.Address, error) {
	o, err := e.addresses.Get(ctx, e.node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, doing("read nodeaddresses "+e.node, err)
	}
	return o.Spec.Addresses, nil
}

// wait until the node holds nothing, and print whenever it holds something else. The first look does not count: the
// controller may have placed an address there at the moment at which the label was set.
func (e *evacuation) wait(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	printed := ""
	for looked := false; ; looked = true {
		held, err := e.held(ctx)
		switch {
		case err != nil:
			return err
		case len(held) == 0 && looked:
			return e.say("node/%s is empty", e.node)
		}
		if progress := states(held); len(held) > 0 && progress != printed {
			printed = progress
			if err := e.say("node/%s: %s left: %s", e.node, addresses(len(held)), progress); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return fmt.Errorf("interrupted: node %s stays excluded; kubectl mooring evacuate %s --undo takes that back", e.node, e.node)
			}
			return e.late(held, timeout)
		case <-e.clock.After(pollInterval):
		}
	}
}

// states counts addresses by what is done with them.
func states(held []v1alpha1.Address) string {
	counts := map[v1alpha1.State]int{}
	for _, a := range held {
		counts[a.State]++
	}
	words := map[v1alpha1.State]string{
		v1alpha1.Hold: "to move", v1alpha1.Yield: "being taken over", v1alpha1.Release: "being released",
	}
	var parts []string
	for _, s := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[s], words[s]))
	}
	return strings.Join(parts, ", ")
}

// late says what is still there, and where to look.
func (e *evacuation) late(held []v1alpha1.Address, timeout time.Duration) error {
	var list []string
	for _, a := range held[:min(named, len(held))] {
		text := a.Address
		if len(a.Services) > 0 {
			text += fmt.Sprintf(" of Service %s/%s", a.Services[0].Namespace, a.Services[0].Name)
		}
		list = append(list, text)
	}
	more := ""
	if n := len(held) - len(list); n > 0 {
		more = fmt.Sprintf(", and %d more", n)
	}
	way := "kubectl mooring explain service says why no other node may carry it; pools with ignoreExcludeLabel leave theirs where they are"
	if !slices.ContainsFunc(held, func(a v1alpha1.Address) bool { return a.State != v1alpha1.Release }) {
		way = "they are served elsewhere, and wait for the agent of this node to release them: is mooring-agent running there?"
	}
	return fmt.Errorf("node %s is not empty after %s, it holds %s%s: %s", e.node, timeout, strings.Join(list, ", "), more, way)
}

func addresses(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}
