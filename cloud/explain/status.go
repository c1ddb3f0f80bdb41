package explain

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/place"
)

// Status is how Mooring stands in a cluster.
type Status struct {
	// Leader is nil when that is not known.
	Leader   *Leader   `json:"leader,omitempty"`
	Pools    []Pool    `json:"pools"`
	Services []Service `json:"services"`
	Nodes    []Node    `json:"nodes"`
}

// Pool is one pool's part of one family, or of one protocol at an external load balancer.
type Pool struct {
	Name string `json:"name"`
	// Kind is addresses, hetzner, hetzner.ephemeral or updater; empty without a cloud-config.
	Kind string `json:"kind,omitempty"`
	// Of is IPv4, IPv6, TCP or UDP.
	Of string `json:"of"`
	// Size and Free are absent without a limit, and without a cloud-config.
	Size *uint64 `json:"size,omitempty"`
	Used uint64  `json:"used"`
	// Quarantined addresses are held by nobody and given to nobody.
	Quarantined uint64  `json:"quarantined,omitempty"`
	Free        *uint64 `json:"free,omitempty"`
	// Namespaces counts what is used by the namespace of the Service that holds it.
	Namespaces map[string]int `json:"namespaces,omitempty"`
}

// Service is one Service of type LoadBalancer.
type Service struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Addresses are published: addresses, or host:port/protocol at an external load balancer.
	Addresses []string `json:"addresses"`
	Pools     []string `json:"pools,omitempty"`
	// Nodes carry the addresses; Targets counts the nodes behind a port at an external load balancer.
	Nodes   []string `json:"nodes,omitempty"`
	Targets *int     `json:"targets,omitempty"`
	// State is Bound, or the reason why not; Degraded the reason of that condition.
	State    string       `json:"state"`
	Degraded string       `json:"degraded,omitempty"`
	Since    *metav1.Time `json:"since,omitempty"`
	Message  string       `json:"message,omitempty"`
}

// Node is one Node and its agent.
type Node struct {
	Name    string `json:"name"`
	Bound   int    `json:"bound"`
	Pending int    `json:"pending"`
	Failed  int    `json:"failed"`
	// Agent is one of the Agent constants.
	Agent   string `json:"agent"`
	Message string `json:"message,omitempty"`
}

const (
	// AgentReady: the agent can do its work on this node, as it said last.
	AgentReady = "Ready"
	// AgentNotReady: the agent says what is in its way.
	AgentNotReady = "NotReady"
	// AgentStopped: a Service with an address on this node says that the agent does not run, which the controller has found
	// out at its health port. One on a node without addresses goes on being what it said last.
	AgentStopped = "Stopped"
	// AgentAbsent: no agent has reported on the node's NodeAddresses.
	AgentAbsent = "Absent"
	// AgentNoObject: the controller has made no NodeAddresses for the node.
	AgentNoObject = "NoObject"
)

const (
	// StateNotSeen is that of a Service that no controller of ours has looked at.
	StateNotSeen = "NotSeen"
	// StateNotServed is that of a Service whose class no pool serves: it is somebody else's.
	StateNotServed = "NotServed"
)

// StatusOf says how Mooring stands at a moment.
func StatusOf(c *Cluster, now time.Time) Status {
	in := look(c, now)
	s := Status{Leader: c.Leader, Services: []Service{}, Nodes: []Node{}}
	if c.Config != nil {
		s.Pools = poolsOf(c.Config, in.ledger)
	} else {
		s.Pools = poolsSeen(c)
	}
	for i := range c.Services {
		if svc := &c.Services[i]; svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			s.Services = append(s.Services, in.serviceOf(svc))
		}
	}
	slices.SortFunc(s.Services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	stopped := stoppedAgents(s.Services)
	for i := range c.Nodes {
		s.Nodes = append(s.Nodes, in.nodeOf(&c.Nodes[i], stopped[c.Nodes[i].Name]))
	}
	slices.SortFunc(s.Nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// KindOf names what a pool gives out, as the cloud-config does.
func KindOf(p *config.Pool) string {
	switch {
	case p.Updater != nil:
		return "updater"
	case p.Hetzner == nil:
		return "addresses"
	case p.Hetzner.Ephemeral != nil:
		return "hetzner.ephemeral"
	default:
		return "hetzner"
	}
}

// poolsOf counts in the order of the cloud-config.
func poolsOf(cfg *config.Config, l *ledger.Ledger) []Pool {
	stats := l.Stats()
	byNamespace := namespaces(l.Holdings())
	pools := []Pool{}
	for i := range cfg.Pools {
		p := &cfg.Pools[i]
		for _, u := range stats.Pools {
			if u.Pool != p.Name {
				continue
			}
			row := Pool{Name: p.Name, Kind: KindOf(p), Of: string(u.Family), Used: u.Used, Quarantined: u.Quarantined}
			row.limit(u.Size, u.Used+u.Ordered+u.Quarantined)
			row.Namespaces = byNamespace[poolPart{p.Name, row.Of}]
			pools = append(pools, row)
		}
		for _, u := range stats.Ports {
			if u.Pool != p.Name {
				continue
			}
			row := Pool{Name: p.Name, Kind: KindOf(p), Of: string(u.Protocol), Used: uint64(u.Used)}
			row.limit(uint64(u.Size), uint64(u.Used))
			row.Namespaces = byNamespace[poolPart{p.Name, row.Of}]
			pools = append(pools, row)
		}
	}
	return pools
}

// limit sets size and what is left of it, unless there is none.
func (p *Pool) limit(size, taken uint64) {
	if size == math.MaxUint64 {
		return
	}
	free := size - min(size, taken)
	p.Size, p.Free = &size, &free
}

// poolPart is a pool and a family or a protocol.
type poolPart struct{ pool, of string }

// namespaces counts what the Services of each namespace hold. An address that they share counts once.
func namespaces(holdings []ledger.Holding) map[poolPart]map[string]int {
	counts := map[poolPart]map[string]int{}
	count := func(part poolPart, namespace string) {
		if counts[part] == nil {
			counts[part] = map[string]int{}
		}
		counts[part][namespace]++
	}
	seen := map[netip.Addr]bool{}
	for _, h := range holdings {
		for _, lease := range h.Addresses {
			if !seen[lease.Addr] {
				seen[lease.Addr] = true
				count(poolPart{lease.Pool, string(lb.FamilyOf(lease.Addr))}, h.Namespace)
			}
		}
		for _, lease := range h.Ports {
			count(poolPart{lease.Pool, string(lease.Service.Protocol)}, h.Namespace)
		}
	}
	return counts
}

// poolsSeen counts what NodeAddresses say, when there is no cloud-config to count by.
func poolsSeen(c *Cluster) []Pool {
	counts := map[poolPart]map[string]int{}
	used := map[poolPart]uint64{}
	seen := map[netip.Addr]bool{}
	for i := range c.Addresses {
		for _, e := range c.Addresses[i].Spec.Addresses {
			addr, err := netip.ParseAddr(e.Address)
			if err != nil || seen[addr] {
				continue
			}
			seen[addr] = true
			part := poolPart{e.Pool, string(lb.FamilyOf(addr))}
			used[part]++
			if len(e.Services) > 0 {
				if counts[part] == nil {
					counts[part] = map[string]int{}
				}
				counts[part][e.Services[0].Namespace]++
			}
		}
	}
	pools := []Pool{}
	for _, part := range slices.SortedFunc(maps.Keys(used), func(a, b poolPart) int {
		return cmp.Or(cmp.Compare(a.pool, b.pool), cmp.Compare(a.of, b.of))
	}) {
		pools = append(pools, Pool{Name: part.pool, Of: part.of, Used: used[part], Namespaces: counts[part]})
	}
	return pools
}

// serviceOf reads what the controller published, and adds the pool and the nodes.
func (in *sight) serviceOf(svc *corev1.Service) Service {
	s := Service{Namespace: svc.Namespace, Name: svc.Name, Addresses: []string{}}
	for _, i := range svc.Status.LoadBalancer.Ingress {
		if len(i.Ports) > 0 {
			host := cmp.Or(i.IP, i.Hostname)
			for _, p := range i.Ports {
				s.Addresses = append(s.Addresses, fmt.Sprintf("%s/%s", net.JoinHostPort(host, strconv.Itoa(int(p.Port))), p.Protocol))
			}
			continue
		}
		s.Addresses = append(s.Addresses, cmp.Or(i.IP, i.Hostname))
		addr, err := netip.ParseAddr(i.IP)
		if by := in.carriers[addr]; err == nil && by.node != "" {
			s.Nodes, s.Pools = add(s.Nodes, by.node), add(s.Pools, by.entry.Pool)
		} else if err == nil && in.ledger != nil {
			pool, _ := in.ledger.PoolOf(addr)
			s.Pools = add(s.Pools, pool)
		}
	}
	if in.ledger != nil {
		for _, p := range in.ledger.View(string(svc.UID)).Ports {
			s.Pools = add(s.Pools, p.Pool)
			if s.Targets == nil {
				s.Targets = new(in.targets(svc, p.Pool))
			}
		}
	}
	s.State = StateNotSeen
	if why := in.otherClass(svc); why != "" {
		s.State, s.Message = StateNotServed, why
	}
	if b := meta.FindStatusCondition(svc.Status.Conditions, lb.ConditionBound); b != nil {
		s.State, s.Message, s.Since = b.Reason, b.Message, since(b.LastTransitionTime)
	}
	if d := meta.FindStatusCondition(svc.Status.Conditions, lb.ConditionDegraded); d != nil && d.Status == metav1.ConditionTrue {
		s.Degraded, s.Message, s.Since = d.Reason, d.Message, since(d.LastTransitionTime)
	}
	return s
}

func add(list []string, item string) []string {
	if item == "" || slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}

// stoppedAgents are the nodes whose agent does not run, each with a Service that says so. One whose addresses are on several
// nodes does not say of which.
func stoppedAgents(services []Service) map[string]string {
	stopped := map[string]string{}
	for _, s := range services {
		if s.Degraded == string(lb.ReasonAgentAbsent) && len(s.Nodes) == 1 {
			node := s.Nodes[0]
			stopped[node] = cmp.Or(stopped[node], s.Namespace+"/"+s.Name)
		}
	}
	return stopped
}

// nodeOf says how a node stands. stopped names a Service that says that its agent does not run.
func (in *sight) nodeOf(node *corev1.Node, stopped string) Node {
	n := Node{Name: node.Name, Agent: AgentNoObject}
	var messages []string
	for _, cond := range node.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Status != corev1.ConditionTrue {
			messages = append(messages, fmt.Sprintf("the Node's condition Ready is %s", cond.Status))
		}
	}
	if place.Excluded(node.Labels) {
		messages = append(messages, "excluded by label")
	}
	if node.Spec.Unschedulable {
		messages = append(messages, "cordoned")
	}
	if o := in.objects[node.Name]; o == nil {
		messages = append(messages, "the controller has made no NodeAddresses for it: is it running?")
	} else {
		n.Bound, n.Pending, n.Failed = int(o.Status.Bound), len(o.Status.Pending), len(o.Status.Failed)
		var message string
		n.Agent, message = agentOf(o, stopped)
		if message != "" && (n.Agent != AgentAbsent || in.needsAgents()) {
			messages = append(messages, message)
		}
		for _, f := range o.Status.Failed {
			messages = append(messages, fmt.Sprintf("%s: %s", f.Address, cmp.Or(f.Message, f.Reason)))
		}
	}
	n.Message = strings.Join(messages, "; ")
	return n
}

// agentOf says how an agent stands, and what is in its way.
func agentOf(o *v1alpha1.NodeAddresses, stopped string) (state, message string) {
	ready := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case o.Status.ObjectUID != o.UID:
		return AgentAbsent, "no agent has reported: is mooring-agent running there?"
	case stopped != "":
		return AgentStopped, fmt.Sprintf("Service %s says %s: its agent does not run", stopped, lb.ReasonAgentAbsent)
	case ready != nil && ready.Status != metav1.ConditionTrue:
		return AgentNotReady, ready.Message
	case o.Status.ObservedGeneration < o.Generation:
		return AgentReady, "has not taken up the newest spec yet"
	default:
		return AgentReady, ""
	}
}

// needsAgents is false when nothing but external load balancers is configured.
func (in *sight) needsAgents() bool {
	return in.Config == nil || slices.ContainsFunc(in.Config.Pools, func(p config.Pool) bool { return p.Updater == nil })
}

// otherClass says that no pool serves the class of a Service; empty when one does, and when that is not known.
func (in *sight) otherClass(svc *corev1.Service) string {
	class := ptr.Deref(svc.Spec.LoadBalancerClass, "")
	switch {
	case in.Config == nil || in.Config.ServesClass(class):
		return ""
	case class == "":
		return "it has no spec.loadBalancerClass, and every pool serves a class: it is another controller's, or needs a pool without loadBalancerClass"
	default:
		return fmt.Sprintf("no pool has loadBalancerClass %s, its spec.loadBalancerClass: it is another controller's, or needs such a pool", class)
	}
}

// targets counts the nodes behind a Service's ports at an external load balancer.
func (in *sight) targets(svc *corev1.Service, pool string) (n int) {
	request, _ := in.requestOf(svc)
	for _, j := range in.ledger.JudgeTargets(request, pool) {
		if j.Serves {
			n++
		}
	}
	return n
}
