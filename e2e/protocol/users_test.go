package protocol

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
)

// users create and delete Services, and change Nodes; and they are the kubelets and the node controller, which say how
// the Nodes are.
type users struct {
	w       *world
	created int
	// grace is how long a kubelet may be silent before its Node's condition is Unknown.
	grace time.Duration
	// away are the Nodes that are deleted, and come back.
	away map[string]lb.Node
}

func (u *users) createService() {
	u.created++
	s := u.w.api
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: fmt.Sprintf("s%d", u.created), UID: types.UID(s.uid()),
			CreationTimestamp: metav1.NewTime(u.w.time()), Finalizers: []string{finalizer}, Annotations: map[string]string{},
			Generation: 1,
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack),
			Ports:          []corev1.ServicePort{{Port: int32(1000 + u.created), Protocol: corev1.ProtocolTCP}},
		},
	}
	switch u.w.rand.IntN(6) {
	case 0:
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	case 1:
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	case 2:
		svc.Annotations[lb.AnnotationSharingKey] = "shared"
		svc.Annotations["shared"] = "true"
	}
	u.w.log("user: creates %s %v", svc.Name, svc.Spec.IPFamilies)
	s.putService(svc)
}

func (u *users) deleteService() {
	names := u.w.api.names(services)
	if len(names) == 0 {
		return
	}
	svc := u.w.api.service(pick(u.w.dice, names))
	if svc.DeletionTimestamp != nil {
		return
	}
	u.w.log("user: deletes %s", svc.Name)
	svc = svc.DeepCopy()
	svc.DeletionTimestamp = new(metav1.NewTime(u.w.time()))
	u.w.api.putService(svc)
}

// editAddresses has somebody grant a node by hand what another one holds.
func (u *users) editAddresses(name string) {
	o := u.w.api.addresses(name)
	if o == nil {
		return
	}
	for _, other := range u.w.api.names(addresses) {
		for _, e := range u.w.api.addresses(other).Spec.Addresses {
			if other == name || e.State != v1alpha1.Hold || slices.ContainsFunc(o.Spec.Addresses, func(a v1alpha1.Address) bool { return a.Address == e.Address }) {
				continue
			}
			e.Term -= int64(u.w.rand.IntN(2))
			spec := v1alpha1.NodeAddressesSpec{Addresses: append(slices.Clone(o.Spec.Addresses), e)}
			u.w.check.edited(name, e.Address)
			_, err := u.w.api.write(name, ledger.Object{UID: string(o.UID), Generation: o.Generation}, nodeaddresses.EpochOf(o), spec, 0)
			u.w.log("user: grants %s to %s by hand: %v", e.Address, name, err)
			return
		}
	}
}

// editNode replaces a Node, when it exists.
func (u *users) editNode(name string, edit func(*lb.Node)) {
	if was := u.w.api.node(name); was != nil {
		n := *was
		edit(&n)
		u.w.api.put(nodes, name, &n)
	}
}

func (u *users) join(m *machine) {
	u.w.api.put(nodes, m.name, &lb.Node{
		Name: m.name, UID: u.w.api.uid(), Ready: lb.Ready, BootID: m.bootID(),
		TypedAddresses: []lb.NodeAddress{{Type: corev1.NodeInternalIP, Addr: m.ip()}},
	})
}

// deleteNode says that a host is gone for good. Whoever says so of one that runs and cannot be told has two answers.
func (u *users) deleteNode(name string) {
	if u.w.api.node(name) == nil || u.w.isolated != nil && u.w.isolated.name == name {
		return
	}
	u.w.log("user: deletes Node %s", name)
	u.away[name] = *u.w.api.node(name)
	u.w.api.put(nodes, name, nil)
}

// rejoin makes a Node that was deleted anew.
func (u *users) rejoin(m *machine) {
	if _, ok := u.away[m.name]; ok {
		u.w.log("user: Node %s comes back", m.name)
		delete(u.away, m.name)
		u.join(m)
	}
}

// watchNodes has the conditions of Nodes follow their machines: silence is noticed after the grace, life at once.
func (u *users) watchNodes() {
	silent := map[string]time.Duration{}
	var look func()
	look = func() {
		for _, m := range u.w.machines {
			n := u.w.api.node(m.name)
			if n == nil {
				continue
			}
			lives := m.up && m.agent.process.frozen == 0 && m.agent.client.cuts == 0
			if lives {
				delete(silent, m.name)
				u.heard(m, n)
				continue
			}
			since, ok := silent[m.name]
			if !ok {
				silent[m.name] = u.w.now
			} else if n.Ready != lb.Unknown && u.w.now-since > u.grace {
				u.editNode(m.name, func(n *lb.Node) {
					u.w.log("node %s is Unknown", m.name)
					n.Ready, n.ShuttingDown = lb.Unknown, false
					n.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}}
				})
			}
		}
		u.w.after(nil, looks, look)
	}
	look()
}
