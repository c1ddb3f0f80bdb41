package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/explain"
)

// defaultLease is that of leader election, unless the controller's flags say otherwise.
const defaultLease = "kube-system/mooring-cloud-controller-manager"

// leaseSource is where the Lease of leader election is read.
type leaseSource string

func (s *leaseSource) addFlags(flags *pflag.FlagSet) {
	flags.StringVar((*string)(s), "lease", defaultLease, "namespace/`name` of the Lease by which the controllers elect their leader")
}

// lookAgain is how often a Lease is looked at that seems to be renewed no more.
const lookAgain = time.Second

// leader finds out who leads. It is nil for somebody who may not read the Lease, and standard error says so.
//
// By the clock of this machine a leader may seem to be dead that is not, at the hour when that is believed: so the Lease
// is watched for as long as it lasts, as the other controllers do before they take over.
func (o *options) leader(ctx context.Context, c *cluster, from leaseSource) (*explain.Leader, error) {
	namespace, name, ok := strings.Cut(string(from), "/")
	if !ok {
		return nil, fmt.Errorf("--lease %q is not namespace/name, such as %s", from, defaultLease)
	}
	read := func() (*coordinationv1.Lease, error) {
		lease, err := c.core.CoordinationV1().Leases(namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return lease, err
	}
	lease, err := read()
	if apierrors.IsForbidden(err) {
		_, err = fmt.Fprintf(o.ErrOut, "warning: who leads is not shown: the right to get lease %s is missing, see docs/guides/kubectl.md\n", from)
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("read lease %s: %w", from, err)
	}
	leader := explain.LeaderOf(lease, o.clock.Now())
	if leader.Leads || leader.Identity == "" {
		return &leader, nil
	}
	for range explain.LeaseDuration(lease) / lookAgain {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-o.clock.After(lookAgain):
		}
		again, err := read()
		if err != nil {
			return nil, fmt.Errorf("read lease %s: %w", from, err)
		}
		if again == nil || again.Spec.RenewTime.Equal(lease.Spec.RenewTime) {
			continue
		}
		leader = leaderNow(again, o.clock.Now())
		break
	}
	return &leader, nil
}

// leaderNow judges a Lease that was written between two looks. When it seems to be of another time than this one, a clock
// is wrong; that of a leader who has just come, or was held up, is not.
func leaderNow(lease *coordinationv1.Lease, now time.Time) explain.Leader {
	leader := explain.LeaderOf(lease, now)
	if leader.Leads || leader.Renewed == nil {
		return leader
	}
	written := lease.Spec.RenewTime.Time
	if leader = explain.LeaderOf(lease, written); leader.Leads {
		leader.Message = fmt.Sprintf("its clock and this machine's differ by about %s", now.Sub(written).Abs().Round(time.Second))
	}
	return leader
}

func leaderRows(l *explain.Leader, now time.Time) [][]string {
	who := "nobody"
	if l.Leads {
		who = l.Identity
	}
	return [][]string{{"LEADER", "SINCE", "RENEWED", "MESSAGE"}, {who, age(l.Since, now), age(l.Renewed, now), l.Message}}
}
