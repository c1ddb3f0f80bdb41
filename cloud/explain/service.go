package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// Explanation is why a Service has what it has, or has nothing.
type Explanation struct {
	Service
	// Asked is what the Service asks for.
	Asked []Wish `json:"asked"`
	// Pools in the order in which a free choice tries them; empty without a cloud-config.
	Pools []PoolVerdict `json:"consideredPools"`
	// Nodes that were considered for each address, or for the ports at an external load balancer.
	Nodes []NodeVerdicts `json:"consideredNodes"`
	// Waits is what stands between the Service and what it asks for; empty when nothing does.
	Waits []string `json:"waitsFor"`
	// Events that stand on the Service, the newest first.
	Events []Event `json:"events"`
}

// Wish is one thing that a Service asks for, and the field or annotation that says so.
type Wish struct {
	Field string `json:"field"`
	Value string `json:"value"`
}

// PoolVerdict is how one pool stands to what a Service asks for.
type PoolVerdict struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Holds: the Service has something of the pool.
	Holds bool `json:"holds,omitempty"`
	// Reason and Message of the refusal; empty when the pool would serve.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// NodeVerdicts are those about addresses for which they are the same, or about the ports at an external load balancer.
type NodeVerdicts struct {
	For      []string      `json:"for"`
	Verdicts []NodeVerdict `json:"nodes"`
}

// NodeVerdict is how one node stands to an address, or to a port at an external load balancer.
type NodeVerdict struct {
	Name string `json:"name"`
	// Serves: the node carries the address, or is a target.
	Serves bool `json:"serves,omitempty"`
	// Why the node may not; empty when it may.
	Why string `json:"why,omitempty"`
}

// Event is one that stands on the Service.
type Event struct {
	Last    metav1.Time `json:"last"`
	Count   int32       `json:"count"`
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
}

// ServiceOf explains one Service of the cluster at a moment.
func ServiceOf(c *Cluster, svc *corev1.Service, now time.Time) Explanation {
	x := explanationOf(c, svc, now)
	x.waitForLeader(svc, c.Leader)
	return x
}

func explanationOf(c *Cluster, svc *corev1.Service, now time.Time) Explanation {
	in := look(c, now)
	l := in.ledger
	x := Explanation{Service: in.serviceOf(svc), Asked: wishes(svc), Pools: []PoolVerdict{}, Nodes: []NodeVerdicts{}, Events: events(c.Events, svc)}
	if l == nil {
		x.Waits = waits(svc, nil)
		return x
	}
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.DeletionTimestamp != nil {
		x.Waits = waits(svc, l.View(string(svc.UID)).Waiting)
		return x
	}
	if x.State == StateNotServed {
		x.Waits = []string{x.Message}
		return x
	}
	request, refusal := in.requestOf(svc)
	if refusal != nil {
		x.Waits = waits(svc, refusal)
		return x
	}
	prospect := l.Consider(request)
	for _, p := range prospect.Pools {
		v := PoolVerdict{Name: p.Pool, Kind: kindOf(c.Config, p.Pool), Holds: p.Holds}
		if p.Refusal != nil {
			v.Reason, v.Message = string(p.Refusal.Reason), strings.TrimPrefix(p.Refusal.Message, "pool "+p.Pool+": ")
		}
		x.Pools = append(x.Pools, v)
	}
	for _, lease := range prospect.Want {
		x.judge(lease.String(), in.carried(lease, l.JudgeNodes(request, lease, now)))
	}
	for _, o := range prospect.Orders {
		x.judge(fmt.Sprintf("an %s address that is to be bought (pool %s)", o.Family, o.Pool), l.JudgeNodes(request, lb.Lease{Pool: o.Pool}, now))
	}
	if len(prospect.Ports) > 0 {
		pool := prospect.Ports[0].Pool
		x.judge("the ports of pool "+pool, l.JudgeTargets(request, pool))
	}
	x.Waits = waits(svc, prospect.Refusal)
	if x.State == string(lb.ReasonNoEligibleNode) {
		return x
	}
	for _, n := range x.Nodes {
		if !slices.ContainsFunc(n.Verdicts, func(v NodeVerdict) bool { return v.Serves || v.Why == "" }) {
			x.Waits = append(x.Waits, fmt.Sprintf("a node for %s: none of the %d may serve it", strings.Join(n.For, ", "), len(n.Verdicts)))
		}
	}
	return x
}

// carried has the node serve an address that has it as the NodeAddresses say. The ledger, as a controller's at its start,
// has decided a move already that nobody makes while no controller leads.
func (in *sight) carried(lease lb.Lease, judgements []ledger.Judgement) []ledger.Judgement {
	for i := range judgements {
		judgements[i].Serves = judgements[i].Node == in.carriers[lease.Addr].node
	}
	return judgements
}

func (x *Explanation) judge(what string, judgements []ledger.Judgement) {
	verdicts := []NodeVerdict{}
	for _, j := range judgements {
		verdicts = append(verdicts, NodeVerdict{Name: j.Node, Serves: j.Serves, Why: j.Why})
	}
	for i := range x.Nodes {
		if slices.Equal(x.Nodes[i].Verdicts, verdicts) {
			x.Nodes[i].For = append(x.Nodes[i].For, what)
			return
		}
	}
	x.Nodes = append(x.Nodes, NodeVerdicts{For: []string{what}, Verdicts: verdicts})
}

func kindOf(cfg *config.Config, pool string) string {
	i := slices.IndexFunc(cfg.Pools, func(p config.Pool) bool { return p.Name == pool })
	if i < 0 {
		return ""
	}
	return KindOf(&cfg.Pools[i])
}

// annotations that ask for something, in the order in which they are told.
var annotations = []string{
	lb.AnnotationPool, lb.AnnotationPaperLBConfig, lb.AnnotationAddresses, lb.AnnotationSharingKey, lb.AnnotationNodeSelector,
	lb.AnnotationLBPorts, lb.AnnotationProxyTimeout, lb.AnnotationProxyConnectTimeout, lb.AnnotationReplacesBackend,
	lb.AnnotationRetain, lb.AnnotationAbandon,
}

func wishes(svc *corev1.Service) []Wish {
	asked := []Wish{}
	wish := func(field, value string) {
		if value != "" {
			asked = append(asked, Wish{field, value})
		}
	}
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		wish("spec.type", string(svc.Spec.Type))
	}
	for _, a := range annotations {
		wish(a, svc.Annotations[a])
	}
	wish("spec.loadBalancerIP", svc.Spec.LoadBalancerIP)
	wish("spec.externalIPs", strings.Join(svc.Spec.ExternalIPs, ", "))
	if svc.Spec.LoadBalancerClass != nil {
		wish("spec.loadBalancerClass", *svc.Spec.LoadBalancerClass)
	}
	families := make([]string, len(svc.Spec.IPFamilies))
	for i, f := range svc.Spec.IPFamilies {
		families[i] = string(f)
	}
	wish("spec.ipFamilies", strings.Join(families, ", "))
	if p := svc.Spec.IPFamilyPolicy; p != nil {
		wish("spec.ipFamilyPolicy", string(*p))
	}
	wish("spec.externalTrafficPolicy", string(svc.Spec.ExternalTrafficPolicy))
	return asked
}

// notSeen is what a Service without conditions waits for.
const notSeen = "the controller, which has not looked at it yet: " + isItRunning

// waits says what stands in the way: what the controller wrote into the conditions first, then what its own code says
// now, when that is something else.
func waits(svc *corev1.Service, refusal *lb.Refusal) []string {
	list := []string{}
	bound := meta.FindStatusCondition(svc.Status.Conditions, lb.ConditionBound)
	degraded := meta.FindStatusCondition(svc.Status.Conditions, lb.ConditionDegraded)
	if svc.DeletionTimestamp != nil {
		list = append(list, "it is being deleted, and its finalizers are not done: "+strings.Join(svc.Finalizers, ", "))
	}
	if bound != nil && bound.Status != metav1.ConditionTrue {
		list = append(list, bound.Reason+": "+bound.Message)
	}
	if degraded != nil && degraded.Status == metav1.ConditionTrue {
		list = append(list, degraded.Reason+": "+degraded.Message)
	}
	switch said := func(c *metav1.Condition) bool {
		return c != nil && refusal != nil && c.Reason == string(refusal.Reason)
	}; {
	case refusal != nil && !said(bound) && !said(degraded):
		list = append(list, refusal.String())
	case svc.Spec.Type != corev1.ServiceTypeLoadBalancer && bound == nil:
		list = append(list, fmt.Sprintf("it is no load balancer: spec.type is %s, and Mooring serves LoadBalancer", svc.Spec.Type))
	}
	if bound == nil && svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil {
		list = append(list, notSeen)
	}
	return list
}

// events are those about this Service, and not about one that had its name before.
func events(all []corev1.Event, svc *corev1.Service) []Event {
	list := []Event{}
	for i := range all {
		e := &all[i]
		if about := e.InvolvedObject; about.Kind != "Service" || about.Namespace != svc.Namespace || about.Name != svc.Name || about.UID != svc.UID {
			continue
		}
		last := e.LastTimestamp
		if last.IsZero() {
			last = metav1.NewTime(e.EventTime.Time)
		}
		list = append(list, Event{Last: last, Count: max(e.Count, 1), Reason: e.Reason, Message: e.Message})
	}
	slices.SortStableFunc(list, func(a, b Event) int { return b.Last.Compare(a.Last.Time) })
	return list
}
