package explain

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

var now = time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)

const pools = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /etc/mooring/secrets/hcloud-token}
pools:
- {name: office, addresses: [192.0.2.10-192.0.2.11], interface: pl0}
- {name: mail, addresses: [198.51.100.4], allowedNamespaces: [mail], interface: pl0}
- {name: rack, addresses: [192.0.2.200], autoAssign: false, nodeSelector: {matchLabels: {rack: b}}, interface: pl0}
- {name: bought, hetzner: {ephemeral: {types: [ipv4], homeLocation: fsn1, maxAddresses: 2}}, autoAssign: false, interface: pl0}
- {name: kept, addresses: [203.0.113.4, 203.0.113.5], hetzner: {}, interface: pl0}
- {name: edge, autoAssign: false, updater: {urls: ["http://192.0.2.1:3000/api/v1/lb"], host: 192.0.2.1, portRange: {low: 8100, high: 8101}}}
`

// clusterOf is a cluster with these pools and two nodes whose agents are well.
func clusterOf(t *testing.T, services ...*corev1.Service) *Cluster {
	t.Helper()
	cfg, err := config.Parse([]byte(pools))
	require.NoError(t, err)
	c := &Cluster{Config: cfg}
	for _, name := range []string{"n1", "n2"} {
		c.Nodes = append(c.Nodes, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
			Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.10" + name[1:]}},
			},
		})
		c.Addresses = append(c.Addresses, v1alpha1.NodeAddresses{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("object-" + name), Generation: 1, OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name),
			}}},
			Status: v1alpha1.NodeAddressesStatus{
				ObjectUID: types.UID("object-" + name), ObservedGeneration: 1,
				NodeAddresses: []v1alpha1.NodeAddress{{Interface: "eth0", Address: "192.0.2.10" + name[1:] + "/24", Default: true}},
			},
		})
	}
	for _, svc := range services {
		c.Services = append(c.Services, *svc)
	}
	return c
}

// serviceAsking is a Service of namespace default that nobody has looked at, with pairs of annotations and values.
func serviceAsking(name string, annotations ...string) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30080}},
		},
	}
	for i := 0; i < len(annotations); i += 2 {
		svc.Annotations[annotations[i]] = annotations[i+1]
	}
	return svc
}

// bind has a node carry an address for a Service, which is published.
func (c *Cluster) bind(node int, addr, pool string, svc *corev1.Service) {
	o := &c.Addresses[node]
	o.Spec.Addresses = append(o.Spec.Addresses, v1alpha1.Address{
		Address: addr, Interface: "pl0", Pool: pool, State: v1alpha1.Hold, Term: 3,
		Services: []v1alpha1.ServiceReference{{Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID}},
	})
	for i := range c.Services {
		if c.Services[i].UID == svc.UID {
			published := &c.Services[i].Status
			published.LoadBalancer.Ingress = append(published.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: addr})
			published.Conditions = []metav1.Condition{{
				Type: lb.ConditionBound, Status: metav1.ConditionTrue, Reason: "Bound", LastTransitionTime: metav1.NewTime(now.Add(-time.Hour)),
			}}
		}
	}
}

const unseen = "the controller, which has not looked at it yet: is mooring-cloud-controller-manager running in namespace mooring-system?"

// What keeps a Service from its address is said of the pool and of the node that it is about.
func TestServiceOfRefusals(t *testing.T) {
	first, second := serviceAsking("first"), serviceAsking("second")
	for name, test := range map[string]struct {
		svc    *corev1.Service
		change func(*Cluster)
		// pool is the one that the user looks for, and what is said of it; so are nodes.
		pool, poolSays string
		nodes          map[string]string
		waits          []string
	}{
		"the pool is exhausted": {
			svc: serviceAsking("new", lb.AnnotationPool, "office"),
			change: func(c *Cluster) {
				c.bind(0, "192.0.2.10", "office", first)
				c.bind(1, "192.0.2.11", "office", second)
			},
			pool: "office", poolSays: "PoolExhausted: all 2 IPv4 addresses are in use; enlarge it or delete a Service",
			waits: []string{"PoolExhausted: pool office: all 2 IPv4 addresses are in use; enlarge it or delete a Service", unseen},
		},
		"the namespace is not allowed": {
			svc: serviceAsking("new", lb.AnnotationPool, "mail"), pool: "mail",
			poolSays: `NotAllowed: does not serve namespace "default" (allowedNamespaces)`,
			waits: []string{`NotAllowed: annotation mooring.dev/pool names pool "mail", which does not serve namespace "default" (allowedNamespaces): ` +
				"name another pool", unseen},
		},
		"no node is eligible": {
			svc: serviceAsking("new", lb.AnnotationPool, "rack"), pool: "rack",
			nodes: map[string]string{"n1": `not matching node selector "rack=b"`, "n2": `not matching node selector "rack=b"`},
			waits: []string{unseen, "a node for 192.0.2.200 (pool rack): none of the 2 may serve it"},
		},
		"an agent is absent": {
			svc: serviceAsking("new"), change: func(c *Cluster) { c.Addresses[1].Status = v1alpha1.NodeAddressesStatus{} },
			pool: "office", nodes: map[string]string{"n1": "", "n2": "without an agent that has reported"},
			waits: []string{unseen},
		},
		"a port range is exhausted": {
			svc: func() *corev1.Service {
				svc := serviceAsking("new", lb.AnnotationPool, "edge")
				for port := range int32(3) {
					svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", port), Port: 8000 + port, Protocol: corev1.ProtocolTCP, NodePort: 30081 + port})
				}
				return svc
			}(),
			pool: "edge", poolSays: "PoolExhausted: all 2 TCP ports (8100-8101) are in use, and p1 (8001/TCP) gets none; enlarge portRange or delete a Service",
			waits: []string{"PoolExhausted: pool edge: all 2 TCP ports (8100-8101) are in use, and p1 (8001/TCP) gets none; enlarge portRange or delete a Service", unseen},
		},
		"what cannot be read": {
			svc:   serviceAsking("new", lb.AnnotationAddresses, "192.0.2.300"),
			waits: []string{`InvalidRequest: annotation mooring.dev/addresses: "192.0.2.300" is not an IP address; write addresses separated by commas`, unseen},
		},
		"an address that is to be bought": {
			svc: serviceAsking("new", lb.AnnotationPool, "bought"), pool: "bought", nodes: map[string]string{"n1": "", "n2": ""}, waits: []string{unseen},
		},
		"a class that no pool has": {
			svc: func() *corev1.Service {
				svc := serviceAsking("new")
				svc.Spec.LoadBalancerClass = new("example.com/other")
				return svc
			}(),
			waits: []string{"no pool has loadBalancerClass example.com/other, its spec.loadBalancerClass: it is another controller's, or needs such a pool"},
		},
		"no class where every pool has one": {
			svc: serviceAsking("new"),
			change: func(c *Cluster) {
				for i := range c.Config.Pools {
					c.Config.Pools[i].LoadBalancerClass = "example.com/mooring"
				}
			},
			waits: []string{"it has no spec.loadBalancerClass, and every pool serves a class: it is another controller's, or needs a pool without loadBalancerClass"},
		},
		"no load balancer": {
			svc: func() *corev1.Service {
				svc := serviceAsking("new")
				svc.Spec.Type = corev1.ServiceTypeClusterIP
				return svc
			}(),
			waits: []string{"it is no load balancer: spec.type is ClusterIP, and Mooring serves LoadBalancer"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := clusterOf(t, first, second, test.svc)
			if test.change != nil {
				test.change(c)
			}
			x := ServiceOf(c, test.svc, now)
			assert.Equal(t, test.waits, x.Waits)
			says := map[string]string{}
			for _, p := range x.Pools {
				says[p.Name] = p.Reason
				if p.Reason != "" {
					says[p.Name] += ": " + p.Message
				}
			}
			assert.Equal(t, test.poolSays, says[test.pool])
			var nodes map[string]string
			for _, n := range x.Nodes {
				nodes = map[string]string{}
				for _, v := range n.Verdicts {
					nodes[v.Name] = v.Why
				}
			}
			assert.Equal(t, test.nodes, nodes)
		})
	}
}

// What is rented is counted and explained although nobody has asked the cloud.
func TestRentedAddresses(t *testing.T) {
	bought, kept := serviceAsking("bought"), serviceAsking("kept")
	c := clusterOf(t, bought, kept)
	c.bind(0, "203.0.113.77", "bought", bought)
	c.Addresses[0].Spec.Addresses[0].FloatingIP, c.Addresses[0].Spec.Addresses[0].Account = 42, "api.hetzner.cloud hcloud-token"
	c.bind(1, "203.0.113.4", "kept", kept)
	c.Addresses[1].Spec.Addresses[0].FloatingIP = 43

	used := map[string]string{}
	for _, p := range StatusOf(c, now).Pools {
		used[p.Name] = fmt.Sprint(p.Kind, " ", p.Used, " of ", *p.Size, ", ", *p.Free, " free, ", p.Namespaces)
	}
	assert.Equal(t, "hetzner.ephemeral 1 of 2, 1 free, map[default:1]", used["bought"])
	assert.Equal(t, "hetzner 1 of 2, 1 free, map[default:1]", used["kept"])

	for i, svc := range []*corev1.Service{bought, kept} {
		x := ServiceOf(c, &c.Services[i], now)
		assert.Empty(t, x.Waits)
		assert.Equal(t, []string{svc.Name}, x.Service.Pools)
		require.Len(t, x.Nodes, 1)
		assert.True(t, x.Nodes[0].Verdicts[i].Serves, "the node that carries it")
		assert.Empty(t, x.Nodes[0].Verdicts[1-i].Why, "the other may: whether its server is in the project only the cloud knows")
	}
}

// A Service is shown where it is going while its address moves, and where it was while nobody takes over.
func TestCarrier(t *testing.T) {
	svc := serviceAsking("web")
	c := clusterOf(t, svc)
	c.bind(0, "192.0.2.10", "office", svc)
	c.Addresses[0].Spec.Addresses[0].State = v1alpha1.Yield
	assert.Equal(t, []string{"n1"}, StatusOf(c, now).Services[0].Nodes)

	c.Addresses[1].Spec.Addresses = append(c.Addresses[1].Spec.Addresses, c.Addresses[0].Spec.Addresses[0])
	c.Addresses[1].Spec.Addresses[0].State = v1alpha1.Hold
	assert.Equal(t, []string{"n2"}, StatusOf(c, now).Services[0].Nodes)

	c.Addresses[1].Spec.Addresses[0].State = v1alpha1.Release
	c.Addresses[0].Spec.Addresses[0].State = v1alpha1.Release
	assert.Empty(t, StatusOf(c, now).Services[0].Nodes)
}

// While no controller leads nothing moves, and the node that has the address is shown as the one that serves it, not the
// one that a controller would choose.
func TestNobodyMovesIt(t *testing.T) {
	svc := serviceAsking("web")
	c := clusterOf(t, svc)
	c.bind(0, "192.0.2.10", "office", svc)
	c.Nodes[0].Labels = map[string]string{lb.LabelExcludeNode: "true"}
	x := ServiceOf(c, &c.Services[0], now)
	require.Len(t, x.Nodes, 1)
	assert.Equal(t, NodeVerdict{Name: "n1", Serves: true, Why: "excluded by label " + lb.LabelExcludeNode}, x.Nodes[0].Verdicts[0])
	assert.Equal(t, NodeVerdict{Name: "n2"}, x.Nodes[0].Verdicts[1], "may serve it")
}

// An agent that has crashed goes on saying that it is ready: nobody else writes its status. What its Services say counts.
func TestAgentThatHasStopped(t *testing.T) {
	web, other, both := serviceAsking("web"), serviceAsking("other"), serviceAsking("both")
	c := clusterOf(t, web, other, both)
	c.bind(0, "192.0.2.10", "office", web)
	c.bind(1, "192.0.2.11", "office", other)
	c.bind(0, "203.0.113.4", "kept", both)
	c.bind(1, "203.0.113.5", "kept", both)
	agents := func() (agents []string) {
		for _, n := range StatusOf(c, now).Nodes {
			agents = append(agents, n.Agent, n.Message)
		}
		return agents
	}
	says := func(i int, reason lb.Reason) {
		conditions := &c.Services[i].Status.Conditions
		*conditions = append(*conditions, metav1.Condition{Type: lb.ConditionDegraded, Status: metav1.ConditionTrue, Reason: string(reason)})
	}
	says(0, lb.ReasonContested)
	says(2, lb.ReasonAgentAbsent)
	assert.Equal(t, []string{AgentReady, "", AgentReady, ""}, agents(), "of both nodes one has stopped, and nobody says which")

	says(1, lb.ReasonAgentAbsent)
	assert.Equal(t, []string{AgentReady, "", AgentStopped, "Service default/other says AgentAbsent: its agent does not run"}, agents())

	c.Addresses[1].Status.ObjectUID = "another object"
	assert.Equal(t, AgentAbsent, agents()[2], "it has not said anything of this object")
}
