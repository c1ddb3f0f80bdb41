package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const paperGroup = "lb.paperlb.com"

// paper is a cluster as PaperLB leaves it when its controller ends: the first port of each Service stands in its status
// with a port of the load balancer's, and at the updater under the Service's name, with every Ready node behind it that
// has an ExternalIP.
type paper struct {
	*balanced
	left []balancedPort
}

// balancedPort is what one LoadBalancer of PaperLB says.
type balancedPort struct {
	service  *corev1.Service
	config   string
	port     uint16
	protocol corev1.Protocol
}

func (p balancedPort) name() string { return p.service.Namespace + "_" + p.service.Name }

// leftByPaperLB makes the cluster. Of its three nodes the last has no ExternalIP.
func leftByPaperLB(t *testing.T) *paper {
	t.Helper()
	p := &paper{balanced: balance(t, newBalancer(t), cluster.Options{Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}})}
	p.initialized(t)
	p.startBackends(t)
	for _, name := range []string{"n1", "n2"} {
		patch := fmt.Appendf(nil, `{"status":{"addresses":[{"type":"ExternalIP","address":%q}]}}`, p.Node(name).IPv4)
		_, err := p.Kube.CoreV1().Nodes().Patch(t.Context(), name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		require.NoError(t, err)
	}
	p.namespace(t, "paperlb-system")
	p.namespace(t, "shop")
	p.applies(t, definition(paperGroup, "LoadBalancerConfig", "loadbalancerconfigs", "Namespaced")+
		definition(paperGroup, "LoadBalancer", "loadbalancers", "Namespaced"))
	for name, spec := range map[string]string{
		"edge": "default: true, portRange: {low: 8100, high: 8119}",
		"side": "portRange: {low: 8120, high: 8129}",
	} {
		p.applies(t, fmt.Sprintf(`apiVersion: lb.paperlb.com/v1alpha1
kind: LoadBalancerConfig
metadata: {namespace: paperlb-system, name: %s}
spec: {%s, host: %s, httpUpdaterURL: %q}
`, name, spec, p.host.IPv4, p.url()))
	}

	web := cluster.LoadBalancer("shop", "web")
	web.Spec.Ports = append(web.Spec.Ports, port("metrics", corev1.ProtocolTCP, 9090))
	p.balance(t, web, "edge", 8100)
	dns := cluster.LoadBalancer("shop", "dns")
	dns.Spec.Ports = []corev1.ServicePort{port("dns", corev1.ProtocolUDP, 53)}
	p.balance(t, dns, "edge", 8101)
	classed := cluster.LoadBalancer("shop", "classed")
	classed.Spec.LoadBalancerClass = new(paperClass)
	p.balance(t, classed, "edge", 8102)
	p.balance(t, annotated(cluster.LoadBalancer("shop", "side"), lb.AnnotationPaperLBConfig, "side"), "side", 8120)
	return p
}

// url of the updater.
func (p *paper) url() string { return "http://" + p.at(updaterPort).String() + "/api/v1/lb" }

// balance makes a Service and everything that PaperLB makes for it.
func (p *paper) balance(t *testing.T, service *corev1.Service, config string, number uint16) {
	t.Helper()
	service = p.create(t, service)
	left := balancedPort{service, config, number, service.Spec.Ports[0].Protocol}
	p.left = append(p.left, left)
	for _, target := range p.request(left).UpstreamServers {
		// nginx leaves out for 10 s what has refused a connection.
		at := netip.AddrPortFrom(netip.MustParseAddr(target.Host), uint16(target.Port))
		answered(t, p.Cluster, at, func(ctx context.Context) (string, error) {
			if left.protocol == corev1.ProtocolUDP {
				return p.Client.AskUDP(ctx, at)
			}
			return p.Client.Get(ctx, at, "/")
		}, "n")
	}
	p.posts(t, left)
	p.awaitFiles(t, balancedPort.name, true)
	p.passes(t, number, left.protocol, "n")
	service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{
		IP: p.host.IPv4.String(), Ports: []corev1.PortStatus{{Port: int32(number), Protocol: left.protocol}},
	}}
	_, err := p.Kube.CoreV1().Services(service.Namespace).UpdateStatus(t.Context(), service, metav1.UpdateOptions{})
	require.NoError(t, err)
	targets, err := json.Marshal(p.request(left).UpstreamServers)
	require.NoError(t, err)
	p.applies(t, fmt.Sprintf(`apiVersion: lb.paperlb.com/v1alpha1
kind: LoadBalancer
metadata:
  namespace: %s
  name: %s
  finalizers: [lb.paperlb.com/lb-finalizer]
  ownerReferences: [{apiVersion: v1, kind: Service, name: %s, uid: %s, controller: true, blockOwnerDeletion: true}]
spec: {configName: %s, httpUpdater: {url: %q}, host: %s, port: %d, protocol: %s, targets: %s}
`, service.Namespace, service.Name, service.Name, service.UID, config, p.url(), p.host.IPv4, number, left.protocol, targets))
	p.status(t, "loadbalancers."+paperGroup, service.Namespace, service.Name, `{"phase":"READY","targetCount":2}`)
}

// request is what PaperLB tells the updater of a Service.
func (p *paper) request(left balancedPort) updatertest.Request {
	request := updatertest.Request{BackendName: left.name(), LBPort: int(left.port), LBProtocol: string(left.protocol)}
	for _, name := range []string{"n1", "n2"} {
		request.UpstreamServers = append(request.UpstreamServers,
			updatertest.Target{Host: p.Node(name).IPv4.String(), Port: int(left.service.Spec.Ports[0].NodePort)})
	}
	return request
}

// posts tells the updater of a Service as PaperLB does: once.
func (p *paper) posts(t *testing.T, left balancedPort) {
	t.Helper()
	body, err := json.Marshal(p.request(left))
	require.NoError(t, err)
	require.NoError(t, p.call(t.Context(), http.MethodPost, string(body)))
}

// call the updater, once.
func (p *paper) call(ctx context.Context, method, body string) error {
	request, err := http.NewRequestWithContext(ctx, method, p.url(), strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := p.Client.HTTPClient(false).Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

// TestTakeOverPaperLB comes over from PaperLB, goes back, and comes over for good. No connection through any of the ports
// fails in all of that, and each Service keeps its port.
func TestTakeOverPaperLB(t *testing.T) {
	p := leftByPaperLB(t)
	var ends []func()
	for _, left := range p.left {
		ends = append(ends, connecting(t, p.at(left.port).String(), func(ctx context.Context) error { return p.answers(ctx, left) }))
	}
	end := sync.OnceFunc(func() {
		for _, end := range ends {
			end()
		}
	})
	defer end()

	inTurn(t, "Mooring takes over", func(t *testing.T) { p.takeOver(t) })
	inTurn(t, "PaperLB could go on", func(t *testing.T) {
		p.stopMooring(t, "from-paperlb.md")
		// PaperLB starts with its objects in phase PENDING. While a port is in two files, nginx goes on as it was.
		for _, left := range p.left {
			p.posts(t, left)
		}
		for _, left := range p.left {
			require.NoError(t, p.call(t.Context(), http.MethodDelete, fmt.Sprintf(`{"backendName":%q}`, p.backend(left.port, left.protocol))))
		}
		p.awaitFiles(t, balancedPort.name, true)
	})
	inTurn(t, "Mooring takes over for good", func(t *testing.T) {
		p.takeOver(t)
		p.does(t, "updater.md", "mooring.dev/replaces-backend-")
		p.forgotten(t, paperGroup, "loadbalancers", "loadbalancerconfigs")
		p.awaitFiles(t, func(left balancedPort) string { return p.backend(left.port, left.protocol) }, false)
	})
	end()
	p.forgive(t, "duplicate ")

	inTurn(t, "what it took over goes with its Service", func(t *testing.T) {
		for _, left := range p.left {
			p.remove(t, left.service)
			p.closed(t, left.port)
		}
		files, err := p.updater.Files()
		require.NoError(t, err)
		assert.Empty(t, files)
	})
}

// answers asks once over TCP. A datagram may be lost on any way: over UDP a client asks again.
func (p *paper) answers(ctx context.Context, left balancedPort) (err error) {
	tries := map[corev1.Protocol]int{corev1.ProtocolTCP: 1, corev1.ProtocolUDP: 3}[left.protocol]
	for range tries {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second/time.Duration(tries))
		_, err = p.ask(ctx, left.port, left.protocol)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

// takeOver does what convert prints and starts Mooring, and waits until it serves everything.
func (p *paper) takeOver(t *testing.T) {
	t.Helper()
	begin := time.Now()
	p.comesOver(t, func(cloudConfig string) string { return cloudConfig })
	for _, left := range p.left {
		p.workedOn(t, left.service)
		p.bound(t, left.service, metav1.ConditionTrue, fmt.Sprintf("%s:%d/%s", p.host.IPv4, left.port, left.protocol))
		assert.Equal(t, []uint16{left.port}, p.ports(t, left.service, 1))
	}
	p.Eventually(t, "the last of Mooring's backends is sent again", func(context.Context) error {
		sent := 0
		for _, left := range p.left {
			sent += len(p.callsFor(p.backend(left.port, left.protocol), begin))
		}
		if sent <= len(p.left) {
			return fmt.Errorf("%d were sent", sent)
		}
		return nil
	})
	p.awaitFiles(t, func(left balancedPort) string { return p.backend(left.port, left.protocol) }, false)
}

// awaitFiles waits until nginx serves each port by a file of that name, and nothing else, with the nodes behind it that
// PaperLB had. The updater misses what changes during a reload; again has PaperLB send one of its backends again for that.
func (p *paper) awaitFiles(t *testing.T, name func(balancedPort) string, again bool) {
	t.Helper()
	want := map[string][]string{}
	for _, left := range p.left {
		for _, target := range p.request(left).UpstreamServers {
			want[name(left)] = append(want[name(left)], fmt.Sprintf("%s:%d", target.Host, target.Port))
		}
	}
	sent := time.Now()
	p.Eventually(t, "nginx serves "+strings.Join(slices.Sorted(maps.Keys(want)), ", "), func(context.Context) error {
		have := map[string][]string{}
		for name, content := range p.updater.Served() {
			have[name] = targetsIn(content)
		}
		if maps.EqualFunc(want, have, slices.Equal) {
			return nil
		}
		if again && time.Since(sent) > time.Second {
			p.posts(t, p.left[0])
			sent = time.Now()
		}
		return fmt.Errorf("it serves %v instead of %v", have, want)
	})
}
