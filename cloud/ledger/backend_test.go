package ledger

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// proxy is an external load balancer that does what it is told, when it is up.
type proxy struct {
	told map[BackendKey]BackendView
	down bool
}

const edge = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: edge
  updater: {urls: ["http://192.0.2.1:3000/api/v1/lb"], host: 192.0.2.1, portRange: {low: 8100, high: 8102}}
- name: office
  addresses: [192.0.2.10-192.0.2.13]
  autoAssign: false
  interface: pl0
`

func newProxyWorld(t *testing.T, text string, nodes ...string) *world {
	w := emptyWorld(t, text, nodes...)
	w.proxy = &proxy{told: map[BackendKey]BackendView{}}
	for i, name := range nodes {
		n := w.nodes[name]
		n.TypedAddresses = []lb.NodeAddress{{Type: corev1.NodeInternalIP, Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}}
		w.nodes[name] = n
	}
	w.restart()
	w.settle()
	return w
}

func (p *proxy) work(w *world) {
	for k := range w.ledger.Drain().Backends {
		v := w.ledger.Backend(k)
		switch {
		case p.down:
			w.ledger.BackendState(k, BackendState{Trouble: "down"}, w.now)
		case len(v.Targets) == 0:
			delete(p.told, k)
			w.ledger.BackendState(k, BackendState{Removed: true}, w.now)
		default:
			p.told[k] = v
			w.ledger.BackendState(k, BackendState{Ready: true, Revision: v.Revision}, w.now)
		}
	}
}

func (p *proxy) targets(port uint16) (targets []string) {
	for _, a := range p.told[BackendKey{"edge", port, lb.TCP}].Targets {
		targets = append(targets, a.String())
	}
	return targets
}

func web(r *lb.Request) {
	r.Ports = []lb.Port{{Name: "http", Number: 80, Protocol: lb.TCP, NodePort: 30080}}
}

func TestServiceOnPorts(t *testing.T) {
	w := newProxyWorld(t, edge, "n1", "n2")
	uid := w.create("web", web)
	w.settle()
	require.Len(t, w.services[uid].ports, 1)
	assert.Equal(t, "192.0.2.1", w.services[uid].host)
	assert.EqualValues(t, 8100, w.services[uid].ports[0].Port)
	assert.Equal(t, []string{"10.0.0.1:30080", "10.0.0.2:30080"}, w.proxy.targets(8100))

	w.setNode("n1", func(n *lb.Node) { n.Ready = lb.Unknown })
	w.settle()
	assert.Equal(t, []string{"10.0.0.2:30080"}, w.proxy.targets(8100), "a lost node is taken out")
	w.setNode("n2", func(n *lb.Node) { n.Ready = lb.NotReady })
	w.settle()
	assert.Equal(t, []string{"10.0.0.2:30080"}, w.proxy.targets(8100), "silence alone never empties the set")
	require.NotNil(t, w.ledger.View(uid).Refusal)
	assert.Equal(t, lb.ReasonTargetsUnknown, w.ledger.View(uid).Refusal.Reason)
	w.removeNode("n1")
	w.removeNode("n2")
	w.settle()
	assert.Empty(t, w.proxy.told, "a backend without nodes would break the file")
	assert.True(t, w.ledger.View(uid).Ready, "what is published stays")

	w.services[uid].wants = false
	w.settle()
	assert.NotContains(t, w.services, uid)
	assert.Len(t, w.ledger.UnusedPorts("edge"), 6)
}

func TestPortsAreKeptOverRestarts(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	a, b := w.create("a", web), w.create("b", web)
	w.settle()
	first, second := w.services[a].ports[0].Port, w.services[b].ports[0].Port
	assert.NotEqual(t, first, second)
	w.services[a].wants = false
	w.restart()
	w.settle()
	assert.Equal(t, second, w.services[b].ports[0].Port)
	assert.Contains(t, w.ledger.UnusedPorts("edge"), BackendKey{"edge", first, lb.TCP}, "the sweep clears what the deleted one left")
}

func TestUpdaterDown(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	a := w.create("a", web)
	w.settle()
	w.proxy.down = true
	b := w.create("b", web)
	w.services[a].wants = false
	w.settle()
	assert.Contains(t, w.services, a, "the deletion waits")
	assert.Contains(t, w.ledger.View(a).Waiting.Message, "down")
	assert.Empty(t, w.services[b].ports)
	assert.Equal(t, lb.ReasonUpdater, w.ledger.View(b).Waiting.Reason)
	assert.Len(t, w.ledger.Abandon(a, w.now), 1)
	w.settle()
	assert.NotContains(t, w.services, a)
}

func TestMoveBetweenAddressesAndPorts(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.services[uid].Pool = "office"
	w.settle()
	addr, _ := w.served(uid)
	assert.Equal(t, "192.0.2.10", addr.String())
	assert.Empty(t, w.services[uid].ports)
	assert.Empty(t, w.proxy.told, "withdrawn after the address was published")
	w.services[uid].Pool = "edge"
	w.settle()
	assert.Len(t, w.services[uid].ports, 1)
	assert.Empty(t, w.services[uid].published)
	assert.Empty(t, w.holders(addr))
}

func TestPortsOfAServiceChange(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.services[uid].Ports = append(w.services[uid].Ports, lb.Port{Name: "dns", Number: 53, Protocol: lb.UDP, NodePort: 30053})
	w.settle()
	require.Len(t, w.services[uid].ports, 2)
	assert.EqualValues(t, 8100, w.services[uid].ports[0].Port)
	w.services[uid].Ports = w.services[uid].Ports[1:]
	w.settle()
	require.Len(t, w.services[uid].ports, 1)
	assert.Equal(t, lb.UDP, w.services[uid].ports[0].Service.Protocol)
	assert.Len(t, w.proxy.told, 1)
	w.services[uid].Ports[0].NodePort = 31000
	w.settle()
	for _, v := range w.proxy.told {
		assert.Equal(t, "10.0.0.1:31000", v.Targets[0].String(), "a new node port is told")
	}
}

func TestPoolIsRenamed(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.cfg = parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: outside
  updater: {urls: ["http://192.0.2.1:3000/api/v1/lb"], host: 192.0.2.1, portRange: {low: 8100, high: 8102}}
`)
	require.ErrorContains(t, w.ledger.SetConfig(parse(t, office), w.rental, w.now), `pool "edge" is in use`)
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.settle()
	require.Len(t, w.services[uid].ports, 1)
	assert.Equal(t, "outside", w.services[uid].ports[0].Pool)
	assert.EqualValues(t, 8100, w.services[uid].ports[0].Port)
	assert.Len(t, w.proxy.told[BackendKey{"outside", 8100, lb.TCP}].Targets, 1)
}

func TestWishedPortComesFree(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	a := w.create("a", web)
	w.settle()
	b := w.create("b", web, func(r *lb.Request) {
		r.LBPorts = []lb.PortWish{{Number: 80, Protocol: lb.TCP, Port: 8100}}
	})
	w.settle()
	assert.Equal(t, lb.ReasonPortInUse, w.ledger.View(b).Refusal.Reason)
	w.services[a].wants = false
	w.settle()
	require.Len(t, w.services[b].ports, 1)
	assert.EqualValues(t, 8100, w.services[b].ports[0].Port)
}

// TestDeletedWhileTheControllerIsDown: what a Service that is being deleted had published is removed before it goes.
func TestDeletedWhileTheControllerIsDown(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.services[uid].wants = false
	w.proxy.down = true
	w.restart()
	w.settle()
	assert.Contains(t, w.services, uid)
	assert.Len(t, w.proxy.told, 1)
	w.proxy.down = false
	w.restart()
	w.settle()
	assert.NotContains(t, w.services, uid)
	assert.Empty(t, w.proxy.told)
}

// TestRestrictedWhileTheControllerIsDown: a pool that would not serve a Service any more goes on with it.
func TestRestrictedWhileTheControllerIsDown(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.cfg.Pools[0].AllowedNamespaces = []string{"other"}
	w.restart()
	w.settle()
	require.Len(t, w.services[uid].ports, 1)
	assert.Len(t, w.proxy.told, 1)
	assert.Equal(t, lb.ReasonNotAllowed, w.ledger.View(uid).Refusal.Reason)
}

// TestHostChanges: another host of a pool is published with the ports as they are.
func TestHostChanges(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.cfg = parse(t, strings.Replace(edge, "host: 192.0.2.1", "host: lb.example.com", 1))
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.settle()
	assert.Equal(t, "lb.example.com", w.services[uid].host)
	require.Len(t, w.services[uid].ports, 1)
	assert.EqualValues(t, 8100, w.services[uid].ports[0].Port)
	w.restart()
	w.settle()
	assert.EqualValues(t, 8100, w.services[uid].ports[0].Port, "and adopted by it")
}
