package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const plenusGroup = "loadbalancing.plenus.io"

// plenus is a cluster as PlenusLB leaves it when its controller and its operators end: each address is on pl0 of one
// node with PlenusLB's label, a Floating IP is assigned to the server of that node, a persistent address stands in
// spec.externalIPs alone, and an ephemeral one in the status alone.
type plenus struct {
	*rented
	services  []*corev1.Service
	addresses []allocated
	// conns are connections that stay open, one to each address.
	conns []net.Conn
}

// allocated is an address that an IPAllocation names.
type allocated struct {
	netip.Addr
	node, pool string
	service    *corev1.Service
}

// allocate has an address on a node for a Service, as PlenusLB's operator there does when its controller tells it to.
func (p *plenus) allocate(t *testing.T, service *corev1.Service, pool, address, node string) {
	t.Helper()
	p.run(t, p.Node(node), "ip", "address", "add", address+"/32", "dev", "pl0", "scope", "link", "label", "pl0:pllb")
	p.addresses = append(p.addresses, allocated{netip.MustParseAddr(address), node, pool, service})
}

// serve makes a Service as people made it for PlenusLB.
func (p *plenus) serve(t *testing.T, namespace, name string, externalIPs ...string) *corev1.Service {
	t.Helper()
	service := cluster.LoadBalancer(namespace, name)
	service.Spec.ExternalIPs = externalIPs
	service = p.create(t, service)
	p.services = append(p.services, service)
	return service
}

// floating makes a Floating IP at Hetzner that is assigned to the server of a node.
func (p *plenus) floating(t *testing.T, name, node string, labels map[string]string, prefix netip.Prefix) string {
	t.Helper()
	f, err := p.cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Name: name, Prefix: prefix, Server: p.serverOf(node), Labels: labels})
	require.NoError(t, err)
	return f.Prefix.Addr().String()
}

// leftByPlenusLB makes the cluster.
func leftByPlenusLB(t *testing.T) *plenus {
	t.Helper()
	p := &plenus{rented: rent(t, cluster.Options{
		Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}, SecretsInObjects: true, // PlenusLB's pools
	}, "n1", "n2", "n3")}
	p.initialized(t)
	p.startBackends(t)
	for _, node := range p.Nodes {
		// Of the host's own configuration, as PlenusLB's README tells people to make it.
		p.run(t, node, "ip", "link", "add", "pl0", "type", "bridge")
		p.run(t, node, "ip", "link", "set", "pl0", "up")
	}
	_, err := p.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	require.NoError(t, err)

	web := p.serve(t, "shop", "web", "10.90.0.40")
	p.allocate(t, web, "office", "10.90.0.40", "n3")
	both := p.serve(t, "shop", "both", "10.90.0.41", "10.90.0.42")
	p.allocate(t, both, "office", "10.90.0.41", "n3")
	p.allocate(t, both, "office", "10.90.0.42", "n1")
	kept := p.serve(t, "shop", "kept", "203.0.113.10")
	p.allocate(t, kept, "kept", p.floating(t, "our-web-address", "n2", nil, netip.MustParsePrefix("203.0.113.10/32")), "n2")

	bought := p.serve(t, "shop", "bought")
	address := p.floating(t, "plenuslb-ephemeral-harbour-shop-bought", "n3", map[string]string{"managed-by": "plenuslb"}, netip.MustParsePrefix("198.51.100.7/32"))
	p.allocate(t, bought, "bought", address, "n3")
	bought.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	_, err = p.Kube.CoreV1().Services("shop").UpdateStatus(t.Context(), bought, metav1.UpdateOptions{})
	require.NoError(t, err)

	p.applies(t, definition(plenusGroup, "PersistentIPPool", "persistentippools", "Cluster")+
		definition(plenusGroup, "EphemeralIPPool", "ephemeralippools", "Cluster")+
		definition(plenusGroup, "IPAllocation", "ipallocations", "Namespaced"))
	p.applies(t, p.objects())
	for _, service := range p.services {
		p.status(t, "ipallocations."+plenusGroup, service.Namespace, service.Name, `{"state":"success","message":"Allocated"}`)
	}
	for _, a := range p.addresses {
		p.serves(t, a.Addr)
	}
	return p
}

// objects of PlenusLB.
func (p *plenus) objects() string {
	var text strings.Builder
	pool := func(kind, name, addresses, cloud string) {
		fmt.Fprintf(&text, `---
apiVersion: loadbalancing.plenus.io/v1alpha1
kind: %s
metadata: {name: %s}
spec: {%s%s allowedNamespaces: [shop], options: {hostNetworkInterface: {addAddressesToInterface: true, interfaceName: pl0}}}
`, kind, name, addresses, cloud)
	}
	token := fmt.Sprintf("cloudIntegration: {hetzner: {token: %s}},", secretOurs)
	pool("PersistentIPPool", "office", "addresses: [10.90.0.40, 10.90.0.41, 10.90.0.42, 10.90.0.43], ", "")
	pool("PersistentIPPool", "kept", "addresses: [203.0.113.10], ", token)
	pool("EphemeralIPPool", "bought", "", token)
	for _, service := range p.services {
		kind := "persistent"
		if len(service.Spec.ExternalIPs) == 0 {
			kind = "ephemeral"
		}
		fmt.Fprintf(&text, `---
apiVersion: loadbalancing.plenus.io/v1alpha1
kind: IPAllocation
metadata: {namespace: %s, name: %s, labels: {app.kubernetes.io/managed-by: plenuslb}}
spec:
  type: %s
  allocations:
`, service.Namespace, service.Name, kind)
		for _, a := range p.addresses {
			if a.service == service {
				fmt.Fprintf(&text, "  - {address: %s, pool: %s, nodeName: %s, networkInterface: pl0}\n", a, a.pool, a.node)
			}
		}
	}
	return text.String()
}

// TestTakeOverPlenusLB comes over from PlenusLB, goes back, and comes over for good. No connection to any of the
// addresses fails in all of that, none of them moves to another node, and Hetzner is told nothing.
func TestTakeOverPlenusLB(t *testing.T) {
	p := leftByPlenusLB(t)
	var ends []func()
	for _, a := range p.addresses {
		ends = append(ends, p.connects(t, a.Addr))
	}
	end := sync.OnceFunc(func() {
		for _, end := range ends {
			end()
		}
	})
	defer end()
	p.open(t)
	calls := p.lastCall()

	inTurn(t, "Mooring takes over", func(t *testing.T) {
		p.takeOver(t)
		p.asLeft(t, calls)
		p.publish(t, func(*corev1.Service) bool { return true })
	})
	inTurn(t, "PlenusLB could go on", func(t *testing.T) {
		p.stopMooring(t, "from-plenuslb.md")
		for _, node := range p.Nodes {
			p.run(t, node, "ip", "-4", "address", "flush", "dev", "pl0", "label", "pl0:moor")
			p.run(t, node, "nft", "delete", "table", "inet", "mooring")
			p.operatorStarts(t, node)
		}
		p.does(t, "from-plenuslb.md", `{"status":{"loadBalancer":{"ingress":null}}}`)
		p.asLeft(t, calls)
		p.publish(t, func(service *corev1.Service) bool { return len(service.Spec.ExternalIPs) == 0 })
	})
	inTurn(t, "Mooring takes over for good", func(t *testing.T) {
		p.run(t, p.Node("n1"), "ip", "address", "add", "10.90.0.43/32", "dev", "pl0", "scope", "link", "label", "pl0:pllb")
		p.takeOver(t)
		p.forgotten(t, plenusGroup, "ipallocations", "persistentippools", "ephemeralippools")
		// What PlenusLB has bound and nobody has any more is told from the rest.
		p.run(t, p.Node("n1"), "ip", "-4", "address", "flush", "dev", "pl0", "-deprecated", "label", "pl0:pllb")
		p.unbound(t, netip.MustParseAddr("10.90.0.43"))
		for _, service := range p.services {
			p.kubectl(t, "patch", "service", service.Name, "--namespace", service.Namespace, "--type=merge", "--patch", `{"spec":{"externalIPs":null}}`)
		}
		p.asLeft(t, calls)
		p.publish(t, func(*corev1.Service) bool { return true })
	})
	end()

	inTurn(t, "what it took over goes with its Service", func(t *testing.T) {
		for _, service := range p.services {
			p.remove(t, service)
		}
		for _, a := range p.addresses {
			p.unbound(t, a.Addr)
		}
		for _, address := range []string{"203.0.113.10", "198.51.100.7"} {
			f := p.mustHave(t, netip.MustParseAddr(address))
			assert.Zero(t, f.Server, "%s is assigned to no server, and is not deleted", address)
		}
	})
}

// run a command on a node.
func (p *plenus) run(t *testing.T, node *cluster.Node, name string, args ...string) {
	t.Helper()
	_, err := node.Run(t.Context(), name, args...)
	require.NoError(t, err)
}

// takeOver applies what convert prints and starts Mooring, and waits until it has everything.
func (p *plenus) takeOver(t *testing.T) {
	t.Helper()
	p.comesOver(t, func(cloudConfig string) string {
		var printed struct {
			Secrets []struct{ File, Resource, JSONPath string }
		}
		out, err := p.KubectlMooring(t.Context(), "convert", "-o", "json")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal([]byte(out), &printed))
		require.Len(t, printed.Secrets, 1)
		secret := printed.Secrets[0]
		assert.NotContains(t, out, secretOurs)
		token := p.token(t, secret.File, p.kubectl(t, "get", secret.Resource, "-o", "jsonpath="+secret.JSONPath))
		return strings.ReplaceAll(cloudConfig, "tokenFile: /etc/mooring/secrets/"+secret.File, fmt.Sprintf("tokenFile: %s\n  endpoint: %s", token, p.endpoint))
	}, clusterName)
	for _, service := range p.services {
		p.workedOn(t, service)
		for _, a := range p.addresses {
			if a.service == service {
				p.bound(t, service, metav1.ConditionTrue, a.String()+" on "+a.node)
			}
		}
	}
}

// open a connection to each address.
func (p *plenus) open(t *testing.T) {
	t.Helper()
	for _, a := range p.addresses {
		conn, err := p.Client.DialContext(t.Context(), "tcp", netip.AddrPortFrom(a.Addr, 80).String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		p.conns = append(p.conns, conn)
	}
}

// asLeft sees that each address is where PlenusLB had it, with its label, and stays there, that connections go on, and
// that Hetzner was told nothing.
func (p *plenus) asLeft(t *testing.T, calls int) {
	t.Helper()
	p.Throughout(t, settle, "every address is on its node", func(context.Context) error {
		for _, a := range p.addresses {
			holders, err := p.Holders("pl0", a.Addr)
			if err != nil || len(holders) != 1 || holders[0].Name != a.node {
				return errors.Join(err, fmt.Errorf("%s is on %v instead of %s", a, holders, a.node))
			}
		}
		return nil
	})
	for i, conn := range p.conns {
		require.NoError(t, conn.SetDeadline(time.Now().Add(cluster.Guard)))
		assert.True(t, isAnswered(conn), "a connection to %s goes on", p.addresses[i])
	}
	for _, a := range p.addresses {
		holder := p.heldBy(t, a.Addr, only(a.node))
		out, err := holder.Run(t.Context(), "ip", "-4", "-oneline", "address", "show", "dev", "pl0", "to", a.String())
		require.NoError(t, err)
		assert.Contains(t, out, "pl0:pllb")
	}
	for _, call := range p.cloud.Log() {
		if call.Seq > calls {
			assert.True(t, strings.HasPrefix(call.Operation, "GET "), "Hetzner is told %s", call.Operation)
		}
	}
	for _, f := range p.cloud.FloatingIPs(ourProject) {
		for key := range f.Labels {
			assert.False(t, strings.HasPrefix(key, "mooring.dev/"), "%s has label %s", f.Prefix, key)
		}
	}
}

// publish sees that those Services that should show their addresses in the status, and no others.
func (p *plenus) publish(t *testing.T, should func(*corev1.Service) bool) {
	t.Helper()
	for _, service := range p.services {
		published, err := p.Published(t.Context(), service.Namespace, service.Name)
		require.NoError(t, err)
		var want []netip.Addr
		for _, a := range p.addresses {
			if a.service == service && should(service) {
				want = append(want, a.Addr)
			}
		}
		assert.ElementsMatch(t, want, published, service.Name)
	}
}

// operatorStarts does what PlenusLB's operator does on its node when its controller is back: what carries the label and
// is not on the list goes, and what is on the list is added, unless it is there.
func (p *plenus) operatorStarts(t *testing.T, node *cluster.Node) {
	t.Helper()
	labelled, err := node.Run(t.Context(), "ip", "-4", "-oneline", "address", "show", "label", "pl0:pllb")
	require.NoError(t, err)
	for line := range strings.Lines(labelled) {
		prefix, err := netip.ParsePrefix(strings.Fields(line)[3])
		require.NoError(t, err)
		assert.True(t, slices.ContainsFunc(p.addresses, func(a allocated) bool { return a.Addr == prefix.Addr() && a.node == node.Name }),
			"%s is on %s, and would be removed", prefix, node.Name)
	}
	for _, a := range p.addresses {
		if a.node == node.Name {
			_, err := node.Run(t.Context(), "ip", "address", "add", a.String()+"/32", "dev", "pl0", "scope", "link", "label", "pl0:pllb")
			assert.ErrorContains(t, err, "already assigned", "%s is there", a)
		}
	}
}
