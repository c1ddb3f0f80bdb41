package place

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Reach is what the targets of an external load balancer have to be.
type Reach struct {
	// Selectors must all match the node's labels.
	Selectors          []labels.Selector
	IgnoreExcludeLabel bool
	// Types of address in order: the first that a node has is its target address.
	Types []corev1.NodeAddressType
	// Families of the Service, the first one before the other.
	Families []lb.Family
	// EndpointNodes, with Local, are the nodes that have an endpoint: all others drop what they get.
	EndpointNodes map[string]bool
	Local         bool
}

// Targets are the addresses of nodes that an external load balancer sends traffic to.
type Targets struct {
	// Ready nodes.
	Ready []netip.Addr
	// Silent nodes are not Ready, and may serve all the same: a Node is NotReady when its kubelet does not report.
	Silent []netip.Addr
}

// TargetsOf returns the addresses of the nodes that can be sent traffic, by address. A node that is excluded, is being
// removed, or has no endpoint of a Service with policy Local is in neither list.
func TargetsOf(r Reach, candidates []*Candidate) Targets {
	var t Targets
	for _, c := range candidates {
		if !reachable(r, c) {
			continue
		}
		addr, ok := targetAddr(r, c)
		switch {
		case !ok:
		case c.Node.Ready == lb.Ready && !hasTaint(c.Taints, corev1.TaintNodeOutOfService):
			t.Ready = append(t.Ready, addr)
		default:
			t.Silent = append(t.Silent, addr)
		}
	}
	for _, list := range []*[]netip.Addr{&t.Ready, &t.Silent} {
		slices.SortFunc(*list, netip.Addr.Compare)
		*list = slices.Compact(*list)
	}
	return t
}

func reachable(r Reach, c *Candidate) bool {
	rule, _ := untargeted(r, c)
	return rule == ""
}

// Untargeted names the first rule that keeps a node from being a target; empty when there is none.
func Untargeted(r Reach, c *Candidate) string {
	rule, selector := untargeted(r, c)
	if selector != nil {
		return fmt.Sprintf("%s %q", rule, selector)
	}
	if _, ok := targetAddr(r, c); rule == "" && !ok {
		return fmt.Sprintf("without an address of type %s (nodeAddressTypes)", joinTypes(r.Types))
	}
	return rule
}

func joinTypes(types []corev1.NodeAddressType) string {
	texts := make([]string, len(types))
	for i, t := range types {
		texts[i] = string(t)
	}
	return strings.Join(texts, " or ")
}

// untargeted is the rule that Untargeted names, and the selector that it is about. Words are for those who read them:
// all nodes are judged for every backend.
func untargeted(r Reach, c *Candidate) (rule string, selector labels.Selector) {
	switch {
	case c.Deleting:
		return "being deleted", nil
	case !r.IgnoreExcludeLabel && Excluded(c.Labels):
		return "excluded by label " + lb.LabelExcludeNode, nil
	case hasTaint(c.Taints, taintToBeDeleted):
		return "tainted " + taintToBeDeleted, nil
	}
	for _, s := range r.Selectors {
		if s != nil && !s.Matches(labels.Set(c.Labels)) {
			return "not matching node selector", s
		}
	}
	if r.Local && !r.EndpointNodes[c.Name] {
		return "without an endpoint of the Service (externalTrafficPolicy Local)", nil
	}
	return "", nil
}

// targetAddr is the first address of the first type that the node has, of the Service's first family if it has one.
func targetAddr(r Reach, c *Candidate) (netip.Addr, bool) {
	for _, family := range r.Families {
		for _, kind := range r.Types {
			for _, a := range c.TypedAddresses {
				if a.Type == kind && lb.FamilyOf(a.Addr) == family {
					return a.Addr, true
				}
			}
		}
	}
	return netip.Addr{}, false
}
