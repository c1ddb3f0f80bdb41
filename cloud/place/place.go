// Package place decides which node carries an address (Choose) and how an address gets from one node to another
// (Next).
//
// It consists of pure functions: the same arguments give the same answer, time is an argument, nothing is
// remembered and no client is called. What it decides is carried out by others.
package place

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// AckTimeout is how long an agent may take to acknowledge a grant before the next node is tried: an agent needs
// some milliseconds; seconds mean that it is not there.
const AckTimeout = 5 * time.Second

// UnknownGrace is how long a node that answers the probe keeps its addresses although its kubelet is silent: after an
// outage of the API server the condition of a node that is well may be Unknown for some seconds.
const UnknownGrace = time.Minute

// NotReadyGrace is how long a node keeps its addresses whose kubelet says that it is not ready, unless its host shuts down:
// a kubelet that restarts says so until it has looked at everything, at the latest with its next status after 10 s, and
// what the node carries is served all the while.
const NotReadyGrace = 30 * time.Second

// ReturnGrace is how much later than another node a node may be heard again after an outage that both had part in: a
// kubelet writes its status every 10 s, and the node lifecycle controller looks every 5 s.
const ReturnGrace = 20 * time.Second

// FirstPulse is how long a controller that has just come waits for what its probe says of a node that answered an
// earlier one, before it believes the node's condition alone: with the defaults the probe takes some 1.2 s.
const FirstPulse = 5 * time.Second

// AbsentAfter is when an agent that does not run is more than a restart or a rollout.
const AbsentAfter = 30 * time.Second

// MaxAddresses that one node carries at most, the bound of one NodeAddresses object.
const MaxAddresses = 5000

// taintToBeDeleted is set by the cluster autoscaler on a node that it is about to remove
// (k8s.io/cloud-provider controllers/service, ToBeDeletedTaint).
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// Demand is what one address asks of the node that carries it: the pool's rules and those of every Service that
// holds the address.
type Demand struct {
	Addr netip.Addr
	Pool string
	// Bind is false when no agent binds the address (interface none).
	Bind bool
	// Selectors must all match the node's labels.
	Selectors          []labels.Selector
	Tolerations        []corev1.Toleration
	IgnoreExcludeLabel bool
	// Uplink named by the pool; empty: the interface whose subnet holds the address.
	Uplink string
	// Routed: no node stands in a subnet that holds the address, so its traffic is routed to the node.
	Routed bool
	// EndpointNodes are the nodes with a local endpoint. Preferred, and with Local required.
	EndpointNodes map[string]bool
	Local         bool
	// EvacuateCordoned: a cordoned node does not keep the address.
	EvacuateCordoned bool
	// Account at the cloud whose servers alone can have the address; empty: any machine can.
	Account string
	// Server that the cloud sends the address's traffic to as it is; 0: none. Its node comes before others: nothing has to
	// be turned around.
	Server int64
	// Avoid are nodes where binding this address failed lately.
	Avoid map[string]bool
}

// Candidate is a node with what is known of its agent and its load.
type Candidate struct {
	lb.Node
	lb.Agent
	// Addresses that the node carries.
	Addresses int
	// Server at the cloud that the node runs on; 0: none that is known. Accounts are those that have it.
	Server   int64
	Accounts []string
	// ServerGone: the node ran on a server that exists no more.
	ServerGone bool
	// Pulse is what the probe says of the node, since PulseSince.
	Pulse      lb.Pulse
	PulseSince time.Time
	// JudgedBy is when the probe will have said something, if it can at all; zero when that is past.
	JudgedBy time.Time
	// UnknownSince is since when the control plane says that it does not hear of the node (Unheard), or later when that has
	// to count less; zero while it does.
	UnknownSince time.Time
	// NotReadySince is since when the node's kubelet says that it is not ready (NotReady); zero while it does not.
	NotReadySince time.Time
}

// rebooted reports whether what the agent had bound is gone, and the agent is not there to bind it again.
func (n *Candidate) rebooted() bool {
	return n.Pulse == lb.PulseRefusing && n.Node.BootID != "" && n.Agent.BootID != "" && n.Node.BootID != n.Agent.BootID
}

// answers reports whether the probe finds the host alive.
func (n *Candidate) answers() bool {
	return n.Pulse == lb.PulseAnswering || n.Pulse == lb.PulseRefusing
}

// AbsentAt is when the agent is away for longer than a restart takes; zero while it runs, as far as the probe knows.
func (n *Candidate) AbsentAt() time.Time {
	if n.Pulse != lb.PulseRefusing {
		return time.Time{}
	}
	return n.PulseSince.Add(AbsentAfter)
}

// Standing of a node towards an address that it carries.
type Standing int

const (
	// Fine: the address stays.
	Fine Standing = iota
	// Leaving: the node lives, but the address belongs elsewhere. It moves as planned.
	Leaving
	// Lost: the node does not answer. The address moves at once.
	Lost
	// Gone: the Node is deleted.
	Gone
)

func (s Standing) String() string {
	return [...]string{"fine", "leaving", "lost", "gone"}[s]
}

// StandingOf says how a node that carries an address stands towards it at a moment, and in words why when it is not
// Fine. When time alone changes the answer, it says at which; else that is zero.
//
// The agent's state is no criterion: an agent that restarts leaves its addresses in place. The probe has the say
// about a kubelet that is silent: a host that answers loses nothing at once.
func StandingOf(d Demand, n *Candidate, now time.Time) (Standing, string, time.Time) {
	var never time.Time
	switch {
	case n.Name == "":
		return Gone, "deleted", never
	case hasTaint(n.Taints, corev1.TaintNodeOutOfService):
		return Lost, "tainted " + corev1.TaintNodeOutOfService, never
	case d.Account != "" && n.ServerGone:
		return Lost, "without its server: the cloud has deleted it", never
	case n.Pulse == lb.PulseLost:
		return Lost, "not answering (its health port is silent)", never
	case n.rebooted():
		return Lost, "rebooted, and its agent does not run yet", never
	}
	if why := Unheard(n.Node); why != "" {
		until := n.UnknownSince.Add(UnknownGrace)
		switch {
		case n.Pulse == lb.PulseNone && now.Before(n.JudgedBy):
			return Fine, "", n.JudgedBy
		case !n.answers():
			return Lost, why, never
		case !now.Before(until):
			return Leaving, why, never
		}
		return Fine, "", until
	}
	if why := unfit(d, n); why != "" {
		return Leaving, why, never
	}
	if n.Cordoned && d.EvacuateCordoned {
		return Leaving, "cordoned", never
	}
	if why := NotReady(n.Node); why != "" {
		if until := n.NotReadySince.Add(NotReadyGrace); !n.ShuttingDown && now.Before(until) {
			return Fine, "", until
		}
		return Leaving, why, never
	}
	return Fine, "", never
}

// Unheard is what the control plane says of a node that it does not hear of; empty when it does. The taint outlives the
// condition by the seconds until the node lifecycle controller looks again.
func Unheard(n lb.Node) string {
	switch {
	case n.Ready == lb.Unknown:
		return "not answering (condition Ready is Unknown)"
	case hasTaint(n.Taints, corev1.TaintNodeUnreachable):
		return "tainted " + corev1.TaintNodeUnreachable
	default:
		return ""
	}
}

// NotReady is what a node's kubelet says that keeps addresses off it; empty when nothing does. The taint outlives the
// condition as in Unheard.
func NotReady(n lb.Node) string {
	switch {
	case n.ShuttingDown:
		return "shutting down"
	case n.Ready != lb.Ready:
		return "not Ready"
	case hasTaint(n.Taints, corev1.TaintNodeNotReady):
		return "tainted " + corev1.TaintNodeNotReady
	default:
		return ""
	}
}

// unfit names the first rule that keeps an address off a living node, whether it is there already or not.
func unfit(d Demand, n *Candidate) string {
	if n.Deleting {
		return "being deleted"
	}
	if d.Account != "" && !slices.Contains(n.Accounts, d.Account) {
		return fmt.Sprintf("without a server in account %s", d.Account)
	}
	for _, s := range d.Selectors {
		if s != nil && !s.Matches(labels.Set(n.Labels)) {
			return fmt.Sprintf("not matching node selector %q", s.String())
		}
	}
	if !d.IgnoreExcludeLabel && Excluded(n.Labels) {
		return "excluded by label " + lb.LabelExcludeNode
	}
	for i := range n.Taints {
		t := &n.Taints[i]
		switch {
		case t.Key == corev1.TaintNodeNotReady:
			// NotReady has the say.
		case t.Key == taintToBeDeleted:
			return "tainted " + t.Key
		case t.Effect == corev1.TaintEffectNoExecute && !tolerated(d.Tolerations, t):
			return fmt.Sprintf("tainted %s (NoExecute)", t.Key)
		}
	}
	if d.Local && len(d.EndpointNodes) > 0 && !d.EndpointNodes[n.Name] {
		return "without an endpoint of the Service (externalTrafficPolicy Local)"
	}
	return ""
}

// Excluded reads the exclude label of a node as the upstream service controller does: what is not a bool counts as true.
func Excluded(l map[string]string) bool {
	text, ok := l[lb.LabelExcludeNode]
	value, err := strconv.ParseBool(text)
	return ok && (value || err != nil)
}

// Ineligible names the first rule that keeps an address from being granted to a node; empty when there is none.
func Ineligible(d Demand, c *Candidate) string {
	// What time may still bring counts as having come: a node in doubt gets nothing new.
	if s, why, _ := StandingOf(d, c, latest(c.UnknownSince.Add(UnknownGrace), c.NotReadySince.Add(NotReadyGrace))); s != Fine {
		return why
	}
	switch {
	case c.Cordoned:
		return "cordoned"
	case !d.Bind:
		return ""
	case !c.Present:
		return "without an agent that has reported"
	case !c.Agent.Ready:
		return "with an agent that is not ready"
	case c.Pulse == lb.PulseRefusing:
		return "with an agent that does not run"
	case !c.Overdue.IsZero():
		return "with an agent that does not acknowledge"
	case c.Addresses >= MaxAddresses:
		return fmt.Sprintf("full (%d addresses)", MaxAddresses)
	case !reaches(d, c):
		if d.Uplink != "" {
			return "without uplink " + d.Uplink
		}
		return fmt.Sprintf("without a subnet that holds %s", d.Addr)
	case d.Avoid[c.Name]:
		return "where binding the address was tried just now"
	}
	return ""
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func reaches(d Demand, c *Candidate) bool {
	if d.Account != "" || d.Routed && d.Uplink == "" {
		return true
	}
	return slices.ContainsFunc(c.Subnets, func(s lb.Subnet) bool {
		if d.Uplink != "" {
			return s.Interface == d.Uplink
		}
		return s.Prefix.Contains(d.Addr)
	})
}

// Choose returns the eligible node that is to carry the address: the one that its traffic goes to already, then one
// with a local endpoint before others, then the one with the fewest addresses, then by a hash of node and address, so
// that equal nodes share evenly and the answer does not depend on the order of nodes. When none is eligible the refusal
// counts the nodes by what keeps them from it.
func Choose(d Demand, candidates []*Candidate, except string) (string, *lb.Refusal) {
	var best *Candidate
	counts := map[string]int{}
	for _, c := range candidates {
		if c.Name == except {
			continue
		}
		if why := Ineligible(d, c); why != "" {
			counts[why]++
			continue
		}
		if best == nil || less(d, c, best) {
			best = c
		}
	}
	if best != nil {
		return best.Name, nil
	}
	if len(counts) == 0 {
		return "", lb.Refuse(lb.ReasonNoEligibleNode, "the cluster has no other node for %s (pool %s)", d.Addr, d.Pool)
	}
	var reasons []string
	total := 0
	for why, n := range counts {
		reasons = append(reasons, fmt.Sprintf("%d %s", n, why))
		total += n
	}
	slices.Sort(reasons)
	return "", lb.Refuse(lb.ReasonNoEligibleNode, "no node for %s (pool %s): of %d nodes, %s", d.Addr, d.Pool,
		total, strings.Join(reasons, ", "))
}

func less(d Demand, a, b *Candidate) bool {
	if x, y := d.routesTo(a), d.routesTo(b); x != y {
		return x
	}
	if x, y := d.EndpointNodes[a.Name], d.EndpointNodes[b.Name]; x != y {
		return x
	}
	return cmp.Or(
		cmp.Compare(a.Addresses, b.Addresses),
		cmp.Compare(score(d.Addr, a.Name), score(d.Addr, b.Name)),
		cmp.Compare(a.Name, b.Name)) < 0
}

// routesTo reports whether the traffic of the address goes to a node as it is.
func (d Demand) routesTo(c *Candidate) bool { return d.Server != 0 && d.Server == c.Server }

func score(addr netip.Addr, node string) uint64 {
	return xxhash.Sum64(append(addr.AsSlice(), node...))
}

func hasTaint(taints []corev1.Taint, key string) bool {
	return slices.ContainsFunc(taints, func(t corev1.Taint) bool { return t.Key == key })
}

func tolerated(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	return slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			return false
		}
		return t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value
	})
}
