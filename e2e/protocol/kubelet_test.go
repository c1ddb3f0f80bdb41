package protocol

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
)

const (
	// kubeletGrace is how long a kubelet may say that it is not ready before that costs its node anything, as is promised.
	kubeletGrace = 30 * time.Second
	// moved is how long an address may take to leave a node by plan when nothing else is wrong, and taken how long it may
	// take until another controller leads.
	moved = 2 * time.Second
	taken = 12 * time.Second
	// looks is how often a Node's condition is written.
	looks = time.Second
	// echo is how long a fault may have consequences that are seen only then.
	echo = 15 * time.Second
	// judging is how long the node lifecycle controller takes at most to taint a Node as its condition says, or untaint it.
	judging = 5 * time.Second
)

// kubelet is what a machine's kubelet says of itself while it is heard.
type kubelet struct {
	notReady, shuttingDown bool
	// since the Node says that it is not ready.
	since time.Duration
}

// kubelets are faults of kubelets, in some of the schedules, and in some when all else is well again. What they draw is
// drawn from dice of their own, so the other schedules do not change with them.
type kubelets struct {
	dice
	w *world
	// gone is a machine whose kubelet stays not ready for ever; nil: there is none.
	gone *machine
}

func newKubelets(w *world) *kubelets { return &kubelets{dice: newDice(w.seed, 13), w: w} }

// strike begins a fault among the others, in one schedule of four.
func (k *kubelets) strike(begin, end time.Duration) {
	if !k.chance(0.25) {
		return
	}
	at, m, kind := k.between(begin, end), pick(k.dice, k.w.machines), k.rand.IntN(3)
	k.w.after(nil, at-k.w.now, func() {
		switch {
		case m == k.w.isolated:
		case kind == 0:
			k.restart(m, k.between(time.Second, 25*time.Second))
		case kind == 1:
			k.lose(m)
		case !m.busy:
			off := k.between(0, min(20*time.Second, end-at))
			k.shutDown(m, off, k.between(off, end-at))
		}
	})
}

// restart has the kubelet say that it is not ready until it has looked at everything.
func (k *kubelets) restart(m *machine, length time.Duration) {
	k.w.log("fault: the kubelet of %s restarts, for %s", m.name, length)
	m.kubelet.notReady = true
	k.w.after(nil, length, func() {
		k.w.log("over: the kubelet of %s has restarted", m.name)
		m.kubelet.notReady = m.kubelet.shuttingDown
	})
}

// lose has the kubelet say for ever that it is not ready.
func (k *kubelets) lose(m *machine) {
	k.w.log("fault: the kubelet of %s is not ready, and that stays so", m.name)
	m.kubelet.notReady = true
	k.gone = m
}

// shutDown shuts the host down gracefully: the kubelet says so, ends all pods and at last the agent, and then the power
// is off.
func (k *kubelets) shutDown(m *machine, off, on time.Duration) {
	k.w.log("fault: %s shuts down, is off in %s and on in %s", m.name, off, on)
	m.busy = true
	m.kubelet.notReady, m.kubelet.shuttingDown = true, true
	k.w.after(nil, off*3/4, m.agent.stop)
	k.w.after(nil, off, m.crash)
	k.w.after(nil, on, func() {
		k.w.log("over: %s is on again", m.name)
		m.kubelet.notReady, m.kubelet.shuttingDown = false, false
		m.restart()
		m.busy = false
	})
}

// alone has a kubelet go wrong when all is well again, in one schedule of five: nothing else is to blame then for what
// becomes of its machine's addresses, unless the controller that leads crashes, too.
func (k *kubelets) alone() {
	w := k.w
	m := pick(k.dice, w.machines)
	carried := k.carries(m)
	if !k.chance(0.2) || k.gone != nil || m == w.isolated || len(carried) == 0 {
		return
	}
	grace, limit := kubeletGrace, looks+moved
	if k.chance(0.5) {
		crash := k.between(0, 2*time.Second)
		w.after(nil, crash, func() {
			for _, c := range w.leaders {
				if c.name == w.api.leader.holder {
					c.exit("crashed")
				}
			}
		})
		limit += crash + taken
	}
	switch k.rand.IntN(3) {
	case 0:
		length := k.between(4*time.Second, 25*time.Second)
		k.restart(m, length)
		w.after(nil, looks+time.Second, w.users.createService)
		w.run(w.now + length)
		for _, ip := range without(k.carries(m), carried) {
			w.breach("%s gets %s, and its kubelet is not ready", m.name, ip)
		}
		k.watch(looks + judging + limit)
		for _, ip := range without(carried, k.carries(m)) {
			w.breach("%s has lost %s, and all that happened is that its kubelet restarted", m.name, ip)
		}
	case 1:
		k.lose(m)
		k.watch(grace + limit)
	default:
		off := limit * 3 / 2
		k.shutDown(m, off, off+time.Minute)
		w.run(w.now + limit)
		if has := m.has(); len(has) > 0 {
			w.breach("%s shuts down and still has %v", m.name, has)
		}
		k.watch(off)
	}
}

// without are the addresses of one set that another one has not, in order.
func without(set, other map[netip.Addr]bool) []netip.Addr {
	return slices.DeleteFunc(slices.SortedFunc(maps.Keys(set), netip.Addr.Compare), func(ip netip.Addr) bool { return other[ip] })
}

// watch lets time pass, after which all has to be well.
func (k *kubelets) watch(length time.Duration) {
	k.w.run(k.w.now + length)
	if len(k.w.broken) > 0 {
		return // and so it was ended, somewhere on the way
	}
	for _, text := range k.w.check.amiss() {
		k.w.breach("%s", text)
	}
}

// says is what the Node of a kubelet that is heard is to say.
func (m *machine) says() lb.Readiness {
	if m.kubelet.notReady {
		return lb.NotReady
	}
	return lb.Ready
}

// heard has a Node follow what its kubelet says, and the node lifecycle controller follow the Node.
func (u *users) heard(m *machine, n *lb.Node) {
	w, want := u.w, m.says()
	if n.Ready == want && n.ShuttingDown == m.kubelet.shuttingDown && n.BootID == m.bootID() {
		return
	}
	was := n.Ready
	u.editNode(m.name, func(n *lb.Node) {
		w.log("node %s is %s", m.name, map[lb.Readiness]string{lb.Ready: "Ready", lb.NotReady: "NotReady"}[want])
		n.Ready, n.ShuttingDown, n.BootID = want, m.kubelet.shuttingDown, m.bootID()
		n.Taints = slices.DeleteFunc(slices.Clone(n.Taints), func(t corev1.Taint) bool { return t.Key != corev1.TaintNodeNotReady })
	})
	if was == want || was == lb.Unknown && want == lb.Ready {
		return
	}
	m.kubelet.since = w.now
	w.after(nil, w.kubelets.between(0, judging), func() {
		u.editNode(m.name, func(n *lb.Node) {
			n.Taints = slices.DeleteFunc(slices.Clone(n.Taints), func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady })
			if n.Ready == lb.NotReady {
				n.Taints = append(n.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute})
			}
		})
	})
}

// carries are the addresses that a machine holds, has bound, and has acknowledged.
func (k *kubelets) carries(m *machine) map[netip.Addr]bool {
	carries := map[netip.Addr]bool{}
	o := k.w.api.addresses(m.name)
	if o == nil || o.Status.ObservedGeneration != o.Generation || len(o.Status.Pending)+len(o.Status.Failed) > 0 {
		return carries
	}
	for _, a := range o.Spec.Addresses {
		if ip := netip.MustParseAddr(a.Address); a.State == v1alpha1.Hold && m.answers(ip) {
			carries[ip] = true
		}
	}
	return carries
}

// kept looks whether a controller takes from a node what it carries only because its kubelet restarts.
func (c *checker) kept(node string, before map[string]hold) {
	m := c.w.machine(node)
	k := &m.kubelet
	if !k.notReady || k.shuttingDown || c.w.now-k.since >= kubeletGrace || c.w.troubled(m) {
		return
	}
	for _, ip := range slices.Sorted(maps.Keys(before)) {
		// An agent that is not known to have bound an address may lose it for that.
		_, still := c.holds[ip][node]
		if !still && c.w.now-before[ip].since > echo && !c.edits[netip.MustParseAddr(ip)] && c.shown(ip) {
			c.w.breach("%s loses %s, and its kubelet is not ready for %s only", node, ip, c.w.now-k.since)
		}
	}
}

// shown reports whether a Service that is to stay shows an address.
func (c *checker) shown(ip string) bool {
	return slices.ContainsFunc(c.w.api.names(services), func(name string) bool {
		svc := c.w.api.service(name)
		return svc.DeletionTimestamp == nil && slices.Contains(ingress(svc), ip)
	})
}

// trouble is a fault, and until when it lasted.
type trouble struct {
	*fault
	what  string
	until time.Duration
}

// troubled reports whether something else may give a reason to take a machine's addresses from it.
func (w *world) troubled(m *machine) bool {
	return slices.ContainsFunc(w.troubles, func(t trouble) bool {
		return t.until+echo > w.now && t.what == m.name
	})
}
