package protocol

import (
	"net"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// fault is something that goes wrong, or that users do. It begins now, and over ends it; it returns nil when it cannot
// be now.
type fault struct {
	name   string
	weight int
	of     theme
	begin  func(w *world) (over func(), what string)
}

// theme is what a schedule is mostly about.
type theme int

const (
	machines theme = iota
	controllers
	wire
	people
	themes
)

var faults = []fault{
	{"the cable of", 4, machines, onMachine(func(_ *world, m *machine) func() {
		m.link(1)
		m.agent.client.sever()
		m.hidden++
		return func() { m.link(-1); m.agent.client.mend(); m.hidden-- }
	})},
	{"the API server for", 3, machines, onMachine(func(_ *world, m *machine) func() {
		m.agent.client.sever()
		return m.agent.client.mend
	})},
	{"the segment for", 3, wire, onMachine(func(_ *world, m *machine) func() {
		m.wire.cuts++
		return func() { m.wire.cuts-- }
	})},
	{"all networks of", 3, machines, onMachine(func(_ *world, m *machine) func() {
		m.wire.cuts++
		m.hidden++
		m.agent.client.sever()
		return func() { m.wire.cuts--; m.hidden--; m.agent.client.mend() }
	})},
	{"probes and the API server of", 3, machines, onMachine(func(_ *world, m *machine) func() {
		m.hidden++
		m.agent.client.sever()
		return func() { m.hidden--; m.agent.client.mend() }
	})},
	{"probes of", 2, machines, onMachine(func(_ *world, m *machine) func() {
		m.hidden++
		return func() { m.hidden-- }
	})},
	{"pause of", 4, machines, onIdleMachine(func(_ *world, m *machine) func() {
		m.pause()
		return m.resume
	})},
	{"stopped processes of", 3, machines, onIdleMachine(func(w *world, m *machine) func() {
		w.freeze(m.agent.process)
		return func() { w.thaw(m.agent.process) }
	})},
	{"agent of", 3, machines, onIdleMachine(func(_ *world, m *machine) func() {
		m.agent.stop()
		return m.agent.start
	})},
	{"power of", 4, machines, onIdleMachine(func(_ *world, m *machine) func() {
		m.crash()
		return m.restart
	})},
	{"a slow agent on", 2, machines, onMachine(func(w *world, m *machine) func() {
		m.agent.lag = w.between(0, time.Second)
		return func() { m.agent.lag = 0 }
	})},
	{"flapping link of", 1, wire, onMachine(func(w *world, m *machine) func() {
		down, ended := false, false
		var flap func()
		flap = func() {
			if ended && !down {
				return
			}
			down = !down
			if down {
				m.link(1)
			} else {
				m.link(-1)
			}
			w.after(nil, w.between(100*time.Millisecond, 2*time.Second), flap)
		}
		flap()
		return func() {
			ended = true
			if down {
				down = false
				m.link(-1)
			}
		}
	})},

	{"crash of", 3, controllers, onController(func(_ *world, c *controller) func() {
		c.exit("crashed")
		return func() {}
	})},
	{"pause of", 3, controllers, onController(func(w *world, c *controller) func() {
		life := c.process.life
		w.freeze(c.process)
		return func() {
			if c.process.life == life {
				w.thaw(c.process)
			}
		}
	})},
	{"the API server for", 3, controllers, onController(func(_ *world, c *controller) func() {
		c.client.sever()
		return c.client.mend
	})},
	{"the lease of", 2, controllers, onController(func(w *world, c *controller) func() {
		c.slow = true
		w.api.leader = leaderRecord{version: w.api.leader.version + 1}
		return func() { c.slow = false }
	})},
	{"all probes of", 1, controllers, onController(func(_ *world, c *controller) func() {
		c.blind = true
		return func() { c.blind = false }
	})},

	{"the API server", 2, controllers, func(w *world) (func(), string) {
		clients := w.clients()
		for _, c := range clients {
			c.sever()
		}
		return func() {
			for _, c := range clients {
				c.mend()
			}
		}, ""
	}},
	{"frames", 2, wire, func(w *world) (func(), string) {
		before := w.loss
		w.loss = 0.2
		return func() { w.loss = before }, ""
	}},
	{"gap of watches", 3, machines, func(w *world) (func(), string) {
		if len(w.api.watches) > 0 {
			pick(w.dice, w.api.watches).lose()
		}
		return func() {}, ""
	}},
	{"a foreign host", 2, wire, func(w *world) (func(), string) {
		ip := pick(w.dice, poolAddresses)
		over := w.stranger(func(other netip.Addr) bool { return other == ip })
		w.segment.announce(w.segment.stations[len(w.segment.stations)-1], ip)
		return over, ip.String()
	}},
	{"a router with proxy ARP", 1, wire, func(w *world) (func(), string) {
		return w.stranger(netip.Addr.Is4), ""
	}},

	{"edit of", 1, people, func(w *world) (func(), string) {
		m := pick(w.dice, w.machines)
		w.users.editAddresses(m.name)
		return func() {}, m.name
	}},
	{"cordon", 2, people, onNode(func(n *lb.Node) { n.Cordoned = true }, func(n *lb.Node) { n.Cordoned = false })},
	{"exclude label", 2, people, onNode(func(n *lb.Node) { n.Labels = map[string]string{lb.LabelExcludeNode: "true"} }, func(n *lb.Node) { n.Labels = nil })},
	{"taint", 2, people, onNode(
		func(n *lb.Node) { n.Taints = []corev1.Taint{{Key: "evict", Effect: corev1.TaintEffectNoExecute}} },
		func(n *lb.Node) { n.Taints = nil })},
	{"deleted Node", 2, people, func(w *world) (func(), string) {
		m := pick(w.dice, w.machines)
		w.users.deleteNode(m.name)
		return func() { w.users.rejoin(m) }, m.name
	}},
	{"new Service", 6, people, func(w *world) (func(), string) {
		if len(w.api.objects[services]) < 6 {
			w.users.createService()
		}
		return func() {}, ""
	}},
	{"deleted Service", 4, people, func(w *world) (func(), string) {
		w.users.deleteService()
		return func() {}, ""
	}},
}

func onMachine(do func(*world, *machine) func()) func(*world) (func(), string) {
	return func(w *world) (func(), string) {
		m := pick(w.dice, w.machines)
		return do(w, m), m.name
	}
}

func onIdleMachine(do func(*world, *machine) func()) func(*world) (func(), string) {
	return func(w *world) (func(), string) {
		m := pick(w.dice, w.machines)
		if m.busy {
			return nil, m.name
		}
		m.busy = true
		over := do(w, m)
		return func() {
			over()
			m.busy = false
		}, m.name
	}
}

func onController(do func(*world, *controller) func()) func(*world) (func(), string) {
	return func(w *world) (func(), string) {
		c := pick(w.dice, w.leaders)
		return do(w, c), c.name
	}
}

func onNode(do, undo func(*lb.Node)) func(*world) (func(), string) {
	return func(w *world) (func(), string) {
		m := pick(w.dice, w.machines)
		w.users.editNode(m.name, do)
		return func() { w.users.editNode(m.name, undo) }, m.name
	}
}

// stranger plugs a machine in that is none of ours.
func (w *world) stranger(answers func(netip.Addr) bool) (over func()) {
	st := w.segment.plug("stranger", answers, func(netip.Addr, net.HardwareAddr) {})
	return func() { w.segment.unplug(st) }
}

// clients of the API server.
func (w *world) clients() (list []*client) {
	for _, m := range w.machines {
		list = append(list, m.agent.client)
	}
	for _, c := range w.leaders {
		list = append(list, c.client)
	}
	return list
}
