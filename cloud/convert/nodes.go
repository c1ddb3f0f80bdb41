package convert

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

// This file is about nodes. That a Service has an address its status can say, or its wish; on which node the address is
// nothing but a NodeAddresses says. So each node's object is made as the controller would have made it: owned by the Node,
// or it would count as that of an earlier one, with the finalizer, and in term 0, which any decision of a controller
// beats.

// hold writes that an address is on a node.
func (c *conversion) hold(node string, svc *corev1.Service, addr netip.Addr, g *group) {
	_, rented := g.pool.token()
	if g.iface == interfaceNone && !rented {
		return // it is wherever somebody else puts it
	}
	n := c.nodes[node]
	if n == nil {
		server := ""
		if rented {
			server = "; when the server exists still, the pool needs takeover: true for that"
		}
		c.note(about(svc), "has %s on node %s, which does not exist: Mooring places it on another one%s", addr, node, server)
		return
	}
	if i := slices.IndexFunc(n.Spec.Taints, keepsAgentsOff); i >= 0 {
		c.first(about(svc), "has %s on node %s, whose taint %s keeps Mooring's agents off: add a toleration for it to the DaemonSet mooring-agent, or the address moves",
			addr, node, n.Spec.Taints[i].ToString())
	}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		c.note(about(svc), "has %s on node %s and externalTrafficPolicy Local: the address moves when another node has a pod of the Service and this one has none",
			addr, node)
	}
	o := c.objects[node]
	if o == nil {
		o = &v1alpha1.NodeAddresses{
			TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeAddresses"},
			ObjectMeta: metav1.ObjectMeta{
				Name: node, Finalizers: []string{v1alpha1.Finalizer},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: n.UID}},
			},
		}
		c.objects[node] = o
	}
	o.Spec.Addresses = append(o.Spec.Addresses, v1alpha1.Address{
		Address: addr.String(), Interface: g.iface, Pool: g.name, State: v1alpha1.Hold, Unwatched: rented,
		Services: []v1alpha1.ServiceReference{{Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID}},
	})
}

// keepsAgentsOff says whether no agent runs on a node with the taint, as manifests/ have them: they tolerate what Kubernetes
// itself sets, and all that evicts.
func keepsAgentsOff(t corev1.Taint) bool {
	return t.Effect == corev1.TaintEffectNoSchedule && !strings.HasPrefix(t.Key, "node.kubernetes.io/") && !strings.HasPrefix(t.Key, "node.cloudprovider.kubernetes.io/")
}

// keepObjects sorts what the objects say, and leaves those alone that Mooring has already.
func (c *conversion) keepObjects(in *Input) {
	for _, name := range slices.Sorted(maps.Keys(c.objects)) {
		o := c.objects[name]
		slices.SortFunc(o.Spec.Addresses, func(a, b v1alpha1.Address) int {
			x, _ := netip.ParseAddr(a.Address)
			y, _ := netip.ParseAddr(b.Address)
			return x.Compare(y)
		})
		if has := len(o.Spec.Addresses); has > v1alpha1.MaxAddresses {
			c.first("Node "+o.Name, "has %d addresses, and with Mooring a node has at most %d: the API server refuses its NodeAddresses; "+
				"have at least %d of them moved to other nodes", has, v1alpha1.MaxAddresses, has-v1alpha1.MaxAddresses)
		}
	}
	for i := range in.addresses {
		have, want := &in.addresses[i], c.objects[in.addresses[i].Name]
		if want == nil {
			continue
		}
		delete(c.objects, have.Name)
		for _, a := range want.Spec.Addresses {
			if !slices.ContainsFunc(have.Spec.Addresses, func(b v1alpha1.Address) bool { return b.Address == a.Address }) {
				c.first("NodeAddresses "+have.Name, "exists already and does not have %s, which is on the node: stop Mooring, add it to spec.addresses as in "+
					"{address: %s, interface: %s, pool: %s, state: Hold, term: 0, services: [{namespace: %s, name: %s, uid: %s}]}",
					a.Address, a.Address, a.Interface, a.Pool, a.Services[0].Namespace, a.Services[0].Name, a.Services[0].UID)
			}
		}
	}
}
