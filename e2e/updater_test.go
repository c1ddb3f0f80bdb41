package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Pools at one load balancer: one that publishes its address, another one, and one that publishes a name, which nobody
// can resolve here.
func (b *balanced) usualPools() []string {
	return []string{
		b.updaterPool("edge", "8100, high: 8119", b.hosted()),
		b.updaterPool("side", "8120, high: 8129", b.hosted()),
		b.updaterPool("named", "8130, high: 8139", ", host: lb.example.com, verify: false"),
		"- {name: office, addresses: [10.90.0.30-10.90.0.99], interface: pl0, autoAssign: false}\n",
	}
}

// TestUpdater tells the life of a Service at an external load balancer. Packets go from the client to nginx, from there
// to a NodePort, and through kube-proxy to a backend.
func TestUpdater(t *testing.T) {
	b := balance(t, newBalancer(t), cluster.Options{})
	b.deploy(t, cloudConfigOf("10m", b.usualPools()...))
	b.untainted(t)

	t.Run("life", b.life)
	t.Run("requests", b.requests)
	t.Run("nodes", b.nodeLife)
	t.Run("trouble", b.trouble)
	b.neverRefused(t)
}

func (b *balanced) life(t *testing.T) {
	t.Run("created, it has a host and a port", func(t *testing.T) {
		service, at := b.serve(t, cluster.LoadBalancer(b.Namespace(t, "created"), "web"), "edge")
		assert.Equal(t, []corev1.LoadBalancerIngress{{
			IP: b.host.IPv4.String(), IPMode: new(corev1.LoadBalancerIPModeProxy),
			Ports: []corev1.PortStatus{{Port: int32(at), Protocol: corev1.ProtocolTCP}},
		}}, b.created(t, service.Namespace, service.Name).Status.LoadBalancer.Ingress)
		b.bound(t, service, metav1.ConditionTrue, fmt.Sprintf("Bound edge %s:%d/TCP -> 80, 3 targets", b.host.IPv4, at))
		b.targets(t, at, b.nodePort(t, service, 0), "n1", "n2", "n3")
	})

	t.Run("from a pool with a name for its host, it publishes the name", func(t *testing.T) {
		service, at := b.serve(t, cluster.LoadBalancer(b.Namespace(t, "hostname"), "web"), "named")
		assert.Equal(t, []corev1.LoadBalancerIngress{{
			Hostname: "lb.example.com", Ports: []corev1.PortStatus{{Port: int32(at), Protocol: corev1.ProtocolTCP}},
		}}, b.created(t, service.Namespace, service.Name).Status.LoadBalancer.Ingress)
		b.bound(t, service, metav1.ConditionTrue, fmt.Sprintf("named lb.example.com:%d/TCP -> 80, 3 targets", at))
		b.passes(t, at, corev1.ProtocolTCP, "n")
	})

	t.Run("every port of it is served, TCP and UDP, and a port that is added or removed is no affair of the others", func(t *testing.T) {
		service := cluster.LoadBalancer(b.Namespace(t, "several"), "dns")
		service.Spec.Ports = []corev1.ServicePort{port("dns", corev1.ProtocolUDP, 53), port("dns-tcp", corev1.ProtocolTCP, 53), port("http", corev1.ProtocolTCP, 8111)}
		service = b.create(t, from(service, "edge"))
		at := b.ports(t, service, 3)
		assert.Equal(t, uint16(8111), at[2], "a number of the range is the Service's own")
		protocols := []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP, corev1.ProtocolTCP}
		for i, protocol := range protocols {
			b.passes(t, at[i], protocol, "n")
		}
		b.file(t, at[0], corev1.ProtocolUDP, "proxy_timeout 30s;")
		b.file(t, at[1], corev1.ProtocolTCP, "proxy_timeout 600s;")

		b.throughEveryNode(t, at[2])
		end := b.keepsPassing(t, at[2])
		b.edit(t, service, func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports[:1], s.Spec.Ports[2], port("more", corev1.ProtocolUDP, 99))
		})
		b.closed(t, at[1])
		next := b.ports(t, service, 3)
		assert.Equal(t, []uint16{at[0], at[2]}, next[:2])
		require.NoError(t, b.Endpoints(t.Context(), b.created(t, service.Namespace, service.Name), b.backends...))
		b.passes(t, next[2], corev1.ProtocolUDP, "n")
		b.passes(t, at[0], corev1.ProtocolUDP, "n")
		end()
	})

	t.Run("its node port changes: it is served at the new one, and nothing is sent to the old one", func(t *testing.T) {
		service, at := b.serve(t, cluster.LoadBalancer(b.Namespace(t, "node-port"), "web"), "edge")
		old := b.nodePort(t, service, 0)
		free := otherNodePort(old)
		b.edit(t, service, func(s *corev1.Service) { s.Spec.Ports[0].NodePort = free })
		b.targets(t, at, free, "n1", "n2", "n3")
		b.passes(t, at, corev1.ProtocolTCP, "n")
		assert.Equal(t, []uint16{at}, b.ports(t, service, 1))
	})

	t.Run("deleted, it leaves nothing behind, and its port is given to somebody else last", func(t *testing.T) {
		namespace := b.Namespace(t, "deleted")
		service, at := b.serve(t, cluster.LoadBalancer(namespace, "web"), "edge")
		b.remove(t, service)
		files, err := b.updater.Files()
		require.NoError(t, err)
		assert.NotContains(t, files, b.backend(at, corev1.ProtocolTCP), "once it is gone, so is its backend")
		b.closed(t, at)
		assert.NotEqual(t, at, b.ports(t, b.create(t, from(cluster.LoadBalancer(namespace, "next"), "edge")), 1)[0])
	})

	t.Run("its type goes to ClusterIP and back", func(t *testing.T) {
		namespace := b.Namespace(t, "type")
		service, at := b.serve(t, cluster.LoadBalancer(namespace, "web"), "edge")
		neighbour, beside := b.serve(t, cluster.LoadBalancer(namespace, "neighbour"), "edge")
		end := b.keepsPassing(t, beside)
		b.setType(t, service, corev1.ServiceTypeClusterIP)
		b.closed(t, at)
		b.unfinished(t, service)
		b.setType(t, service, corev1.ServiceTypeLoadBalancer)
		b.passes(t, b.ports(t, service, 1)[0], corev1.ProtocolTCP, "n")
		end()
		assert.Equal(t, beside, b.ports(t, neighbour, 1)[0])
	})

	t.Run("changed while no controller runs: the next one does all of it, and who was not changed notices nothing", b.changedMeanwhile)
}

func (b *balanced) changedMeanwhile(t *testing.T) {
	namespace := b.Namespace(t, "meanwhile")
	services := map[string]*corev1.Service{}
	for _, name := range []string{"beside", "edited", "deleted", "withdrawn", "asking"} {
		services[name] = b.create(t, from(cluster.LoadBalancer(namespace, name), "edge"))
	}
	edited, deleted, withdrawn, asking := services["edited"], services["deleted"], services["withdrawn"], services["asking"]
	kept, freed, closed, asked := b.served(t, edited), b.served(t, deleted), b.served(t, withdrawn), b.served(t, asking)
	beside := b.served(t, services["beside"])
	end := b.keepsPassing(t, beside)

	require.NoError(t, b.Controllers[0].Kill())
	free := otherNodePort(b.nodePort(t, edited, 0))
	b.edit(t, edited, func(s *corev1.Service) { s.Spec.Ports[0].NodePort = free })
	require.NoError(t, b.Kube.CoreV1().Services(namespace).Delete(t.Context(), deleted.Name, metav1.DeleteOptions{}))
	b.setType(t, withdrawn, corev1.ServiceTypeClusterIP)
	b.edit(t, asking, func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
	require.NoError(t, b.Controllers[0].Start())

	b.gone(t, deleted)
	b.closed(t, freed)
	b.targets(t, kept, free, "n1", "n2", "n3")
	b.passes(t, kept, corev1.ProtocolTCP, "n")
	assert.Equal(t, []uint16{kept}, b.ports(t, edited, 1))
	// What is not done for a new Service is no reason to take anything from one that was published.
	b.degraded(t, asking, lb.ReasonNotSupported, "spec.sessionAffinity ClientIP")
	assert.Equal(t, []uint16{asked}, b.ports(t, asking, 1))
	b.passesAtOnce(t, asked)
	b.edit(t, asking, func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityNone })
	b.content(t, asking)

	b.unfinished(t, withdrawn)
	b.closed(t, closed)
	b.setType(t, withdrawn, corev1.ServiceTypeLoadBalancer)
	b.passes(t, b.ports(t, withdrawn, 1)[0], corev1.ProtocolTCP, "n")
	end()
}

// nodeLife tells what the load balancer is told about nodes.
func (b *balanced) nodeLife(t *testing.T) {
	namespace := b.Namespace(t, "nodes")
	// No connection through another node depends on one that is lost: the endpoints are on n1.
	service, at := b.serve(t, cluster.LoadBalancer(namespace, "web"), "edge", b.backends[0])
	nodePort := b.nodePort(t, service, 0)
	b.targets(t, at, nodePort, "n1", "n2", "n3")
	ready := func(t *testing.T, status corev1.ConditionStatus, names ...string) {
		t.Helper()
		for _, name := range names {
			b.Eventually(t, name+" is Ready="+string(status), func(ctx context.Context) error { return readyIs(ctx, b.Cluster, name, status) })
		}
	}

	t.Run("excluded by label: nothing more is sent there, and no connection is lost", func(t *testing.T) {
		end := b.keepsPassing(t, at)
		label := func(value string) {
			patch := `{"metadata":{"labels":{"` + lb.LabelExcludeNode + `":` + value + `}}}`
			_, err := b.Kube.CoreV1().Nodes().Patch(t.Context(), "n3", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
			require.NoError(t, err)
		}
		label(`"true"`)
		b.targets(t, at, nodePort, "n1", "n2")
		label("null")
		b.targets(t, at, nodePort, "n1", "n2", "n3")
		end()
	})

	t.Run("deleted, and registered again: it is taken out and put back, and no connection is lost", func(t *testing.T) {
		end := b.keepsPassing(t, at)
		n2 := b.Node("n2")
		require.NoError(t, n2.Kubelet.Stop())
		require.NoError(t, b.DeleteNode(t.Context(), "n2"))
		b.targets(t, at, nodePort, "n1", "n3")
		b.condition(t, service, lb.ConditionBound, metav1.ConditionTrue, "2 targets")
		require.NoError(t, n2.Kubelet.Start())
		ready(t, corev1.ConditionTrue, "n2")
		require.NoError(t, b.StartAgent(t.Context(), n2))
		b.targets(t, at, nodePort, "n1", "n2", "n3")
		end()
	})

	t.Run("cut off: once that is noticed, every new connection succeeds at once", func(t *testing.T) {
		require.NoError(t, b.Node("n2").CutOff())
		b.targets(t, at, nodePort, "n1", "n3")
		// nginx's old worker is gone from the port a moment after the reload.
		b.Throughout(t, settle, "connections succeed", func(ctx context.Context) error {
			_, err := b.ask(ctx, at, corev1.ProtocolTCP)
			return err
		})
		require.NoError(t, b.Node("n2").Restore())
		b.targets(t, at, nodePort, "n1", "n2", "n3")
	})

	t.Run("all silent at once, and the data plane is fine: packets flow, and the Service says what is not known", func(t *testing.T) {
		end := b.keepsPassing(t, at)
		for _, node := range b.Nodes {
			require.NoError(t, node.Kubelet.Pause())
		}
		ready(t, corev1.ConditionUnknown, "n1", "n2", "n3")
		b.degraded(t, service, lb.ReasonTargetsUnknown, "that were stay")
		found := targetsIn(b.updater.Served()[b.backend(at, corev1.ProtocolTCP)])
		assert.NotEmpty(t, found, "silence empties nothing")
		for _, node := range b.Nodes {
			require.NoError(t, node.Kubelet.Resume())
		}
		b.targets(t, at, nodePort, "n1", "n2", "n3")
		b.content(t, service)
		end()
	})

	t.Run("policy Local: the nodes with an endpoint are its targets, and that the client's address is hidden is said", func(t *testing.T) {
		local := from(cluster.LoadBalancer(namespace, "local"), "edge")
		local.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		local = b.create(t, local, b.backends[1])
		at, nodePort := b.ports(t, local, 1)[0], b.nodePort(t, local, 0)
		b.targets(t, at, nodePort, "n2")
		b.passes(t, at, corev1.ProtocolTCP, "n2 "+b.host.IPv4.String())
		b.event(t, namespace, string(lb.ReasonClientAddress), "it is a proxy")
		require.NoError(t, b.Endpoints(t.Context(), local, b.backends[0], b.backends[2]))
		b.targets(t, at, nodePort, "n1", "n3")
		require.NoError(t, b.Endpoints(t.Context(), local))
		b.closed(t, at)
		assert.Equal(t, []uint16{at}, b.ports(t, local, 1), "the port stays the Service's")
		require.NoError(t, b.Endpoints(t.Context(), local, b.backends[0]))
		b.passes(t, at, corev1.ProtocolTCP, "n1")
	})
}

// otherNodePort is one far away in the range of node ports.
func otherNodePort(number int32) int32 {
	const low, size = 30000, 2768
	return low + (number-low+size/2)%size
}

// port of a Service, served by the backends.
func port(name string, protocol corev1.Protocol, number int32) corev1.ServicePort {
	p := cluster.LoadBalancer("", "").Spec.Ports[0]
	p.Name, p.Protocol, p.Port = name, protocol, number
	return p
}
