package protocol

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

// checker knows what must never be, and what must be when all faults are over.
type checker struct {
	w *world
	// holds are the nodes whose objects say Hold of an address.
	holds map[string]map[string]hold
	// announcements that were sent last, and when the router learned where it sends an address.
	sent map[netip.Addr]announcement
	// specs are the objects as they were written last, and byHand what somebody else than a controller put into them.
	specs   map[string]*v1alpha1.NodeAddresses
	byHand  map[string]map[string]bool
	edits   map[netip.Addr]bool
	learned map[netip.Addr]learned
}

type hold struct {
	term int64
	// late: a controller wrote it whose term was over when the write arrived.
	late bool
	// since the node holds the address.
	since time.Duration
	uids  []string
}

// learned is when the router learned where it sends an address, how old that was by then, and who could not know.
type learned struct {
	at     time.Duration
	age    time.Duration
	missed map[*station]bool
}

type announcement struct {
	from *station
	at   time.Duration
}

func newChecker(w *world) *checker {
	return &checker{w: w, holds: map[string]map[string]hold{}, sent: map[netip.Addr]announcement{},
		specs: map[string]*v1alpha1.NodeAddresses{}, byHand: map[string]map[string]bool{}, edits: map[netip.Addr]bool{}, learned: map[netip.Addr]learned{}}
}

// written looks at a spec that the API server took from a controller of the given term; nil: the object is gone.
func (c *checker) written(node string, o *v1alpha1.NodeAddresses, term int64) {
	held := map[string]hold{}
	for ip, nodes := range c.holds {
		if h, ok := nodes[node]; ok {
			held[ip] = h
			delete(nodes, node)
		}
	}
	if o == nil {
		return
	}
	late := term < c.w.api.epoch
	c.letGo(node, o)
	for _, a := range o.Spec.Addresses {
		if a.State != v1alpha1.Hold {
			continue
		}
		h := hold{term: a.Term, late: late, since: c.w.now}
		if was, ok := held[a.Address]; ok {
			h.late, h.since = was.late, was.since
		}
		for _, s := range a.Services {
			h.uids = append(h.uids, string(s.UID))
		}
		for _, other := range sortedNames(c.holds[a.Address]) {
			if o := c.holds[a.Address][other]; !h.late && !o.late {
				c.w.breach("%s is held by %s (term %d) and by %s (term %d)", a.Address, other, o.term, node, a.Term)
			}
		}
		if c.holds[a.Address] == nil {
			c.holds[a.Address] = map[string]hold{}
		}
		c.holds[a.Address][node] = h
		c.oneAddress(a.Address, h)
	}
	if !late {
		c.kept(node, held)
	}
}

// letGo looks whether an entry goes from an object before its agent has let go of the address.
func (c *checker) letGo(node string, o *v1alpha1.NodeAddresses) {
	was, m := c.specs[node], c.w.machine(node)
	c.specs[node] = o
	if was == nil || was.UID != o.UID || c.w.api.node(node) == nil || !ownedBy(o, c.w.api.node(node).UID) {
		return
	}
	for _, e := range was.Spec.Addresses {
		still := slices.ContainsFunc(o.Spec.Addresses, func(a v1alpha1.Address) bool { return a.Address == e.Address })
		if !still && !c.byHand[node][e.Address] && m.bound[netip.MustParseAddr(e.Address)] {
			c.w.breach("%s of %s is forgotten while it is bound there", e.Address, node)
		}
	}
}

// edited says that somebody puts an address into a node's object by hand, who asks nobody whether it is bound there.
func (c *checker) edited(node, ip string) {
	if c.byHand[node] == nil {
		c.byHand[node] = map[string]bool{}
	}
	c.byHand[node][ip] = true
	c.edits[netip.MustParseAddr(ip)] = true
}

func ownedBy(o *v1alpha1.NodeAddresses, uid string) bool {
	return len(o.OwnerReferences) > 0 && string(o.OwnerReferences[0].UID) == uid
}

// oneAddress looks whether a Service is granted an address while it shows another one of its family. While it shows none
// it may have two: one that another machine answered for, on a node that was not told yet to let go of it and binds it
// once that machine is silent, and the one that it got instead.
func (c *checker) oneAddress(ip string, h hold) {
	if h.late {
		return
	}
	for _, name := range c.w.api.names(services) {
		svc := c.w.api.service(name)
		shown := slices.DeleteFunc(ingress(svc), func(other string) bool {
			return netip.MustParseAddr(other).Is4() != netip.MustParseAddr(ip).Is4()
		})
		if slices.Contains(h.uids, string(svc.UID)) && len(shown) > 0 && !slices.Contains(shown, ip) {
			c.w.breach("%s is granted %s, and shows %v", svc.Name, ip, shown)
		}
	}
}

func sortedNames(of map[string]hold) []string {
	var names []string
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// published looks at a status that the API server took.
func (c *checker) published(was, is *corev1.Service) {
	before, after := ingress(was), ingress(is)
	c.w.log("api: %s/%s shows %v", is.Namespace, is.Name, after)
	if len(before) > 0 && !slices.Equal(before, after) && is.DeletionTimestamp == nil {
		c.w.breach("what is published of %s changes from %v to %v", is.Name, before, after)
	}
	for _, ip := range after {
		if !slices.Contains(before, ip) && !c.named(ip, string(is.UID)) {
			c.w.breach("%s shows %s, and no object names it there", is.Name, ip)
		}
	}
	v4 := slices.DeleteFunc(slices.Clone(after), func(ip string) bool { return !netip.MustParseAddr(ip).Is4() })
	if len(v4) > 1 || len(after)-len(v4) > 1 {
		c.w.breach("two addresses of one family are published of %s: %v", is.Name, after)
	}
}

// named reports whether an object names a Service at an address: by that the next controller knows it.
func (c *checker) named(ip, uid string) bool {
	for _, name := range c.w.api.names(addresses) {
		for _, e := range c.w.api.addresses(name).Spec.Addresses {
			if e.Address == ip && slices.ContainsFunc(e.Services, func(r v1alpha1.ServiceReference) bool { return string(r.UID) == uid }) {
				return true
			}
		}
	}
	return false
}

func ingress(svc *corev1.Service) (ips []string) {
	for _, i := range svc.Status.LoadBalancer.Ingress {
		ips = append(ips, i.IP)
	}
	return ips
}

// acknowledged looks at what an agent says that is done.
func (c *checker) acknowledged(a *agentProcess, s *v1alpha1.NodeAddressesStatus) {
	o := a.orders[s.ObservedGeneration]
	if o == nil || o.UID != s.ObjectUID {
		c.w.breach("%s acknowledges generation %d, which it never saw", a.machine.name, s.ObservedGeneration)
		return
	}
	for _, e := range o.Spec.Addresses {
		if slices.Contains(s.Pending, e.Address) || slices.ContainsFunc(s.Failed, func(f v1alpha1.FailedAddress) bool { return f.Address == e.Address }) {
			continue
		}
		ip := netip.MustParseAddr(e.Address)
		switch {
		case e.State == v1alpha1.Hold && !a.machine.answers(ip):
			c.w.breach("%s acknowledges %s, which is not bound", a.machine.name, ip)
		case e.State == v1alpha1.Release && a.machine.bound[ip]:
			c.w.breach("%s acknowledges the release of %s, which is bound", a.machine.name, ip)
		}
	}
}

func (c *checker) announced(from *station, ip netip.Addr) {
	c.w.log("wire: %s announces %s", from.name, ip)
	if from.downs == 0 && from.pauses == 0 {
		c.sent[ip] = announcement{from, c.w.now}
	}
}

// amiss lists what is not as it must be once all faults are over.
func (c *checker) amiss() (list []string) {
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	wanted := map[string]bool{} // UIDs
	shown := map[string]string{}
	for _, name := range c.w.api.names(services) {
		svc := c.w.api.service(name)
		if svc.DeletionTimestamp != nil {
			say("%s is not gone", name)
			continue
		}
		wanted[string(svc.UID)] = true
		ips := ingress(svc)
		if len(ips) != len(svc.Spec.IPFamilies) {
			say("%s shows %v", name, ips)
		}
		for _, ip := range ips {
			if svc.Annotations["shared"] == "" && shown[ip] != "" {
				say("%s and %s show %s", shown[ip], name, ip)
			}
			shown[ip] = name
			c.served(name, netip.MustParseAddr(ip), say)
		}
	}
	for _, name := range c.w.api.names(addresses) {
		for _, e := range c.w.api.addresses(name).Spec.Addresses {
			switch {
			case c.w.isolated != nil && c.w.isolated.name == name:
				// Nobody knows what it has. It may not answer beside another one.
			case e.State != v1alpha1.Hold:
				say("%s still says %s of %s", name, e.State, e.Address)
			case c.w.kubelets.gone != nil && c.w.kubelets.gone.name == name:
				say("%s holds %s, and its kubelet stays not ready", name, e.Address)
			case !slices.ContainsFunc(e.Services, func(r v1alpha1.ServiceReference) bool { return wanted[string(r.UID)] }):
				say("%s holds %s, which nobody wants", name, e.Address)
			case shown[e.Address] == "":
				say("%s holds %s, which no Service shows", name, e.Address)
			}
		}
	}
	for _, m := range c.w.machines {
		for _, ip := range m.has() {
			if _, ok := c.holds[ip.String()][m.name]; !ok && m != c.w.isolated {
				say("%s has %s, which is not held there", m.name, ip)
			}
		}
	}
	return list
}

// served looks whether one machine answers for a published address, the one that holds it, and the router knows.
func (c *checker) served(name string, ip netip.Addr, say func(string, ...any)) {
	holders := sortedNames(c.holds[ip.String()])
	answering := c.w.segment.answering(ip)
	if len(holders) != 1 {
		say("%s of %s is held by %v", ip, name, holders)
		return
	}
	answering = slices.DeleteFunc(answering, func(st *station) bool { return st.name != holders[0] && c.deaf(st, ip) })
	if len(answering) != 1 || answering[0].name != holders[0] {
		var names []string
		for _, st := range answering {
			names = append(names, st.name)
		}
		say("%s of %s is held by %s, and %v answer", ip, name, holders[0], names)
		return
	}
	// Where a router answers for everything nobody listens to claims. And whoever was granted an address by hand
	// announced it, and who has it now was never told that it moved.
	if unwatched(c.w.api.addresses(holders[0]), ip) {
		return
	}
	if route := c.w.segment.routes[ip]; route != nil && !slices.Equal(route, answering[0].mac) && !c.edits[ip] {
		if sent := c.sent[ip]; sent.from != answering[0] || sent.at < c.learned[ip].at {
			say("the router sends %s of %s to %s, and %s has not told it", ip, name, route, holders[0])
		}
	}
}

// misled reports whether the router sends an address to whoever announced it last while a machine that has it could not
// hear that, or heard it so much sooner that the router took its answer for the older word. Nobody there knows that
// anything is wrong.
func (c *checker) misled() bool {
	for ip, route := range c.w.segment.routes {
		for _, st := range c.w.segment.answering(ip) {
			if l := c.learned[ip]; (l.missed[st] || l.age > prompt) && !slices.Equal(route, st.mac) {
				return true
			}
		}
	}
	return false
}

// unwatched reports whether conflict detection is off for an address.
func unwatched(o *v1alpha1.NodeAddresses, ip netip.Addr) bool {
	return o != nil && slices.ContainsFunc(o.Spec.Addresses, func(a v1alpha1.Address) bool {
		return a.Address == ip.String() && a.Unwatched
	})
}

// deaf reports whether a station is a machine without the API server whose agent was told, when it could be told, not to
// listen to claims of an address: neither way is left to let it know that it has lost that.
func (c *checker) deaf(st *station, ip netip.Addr) bool {
	m := c.w.isolated
	return m != nil && m.wire == st && unwatched(m.agent.object, ip)
}
