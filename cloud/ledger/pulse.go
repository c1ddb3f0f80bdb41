package ledger

// This file is about what the probe says of nodes.

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// falseLoss is how soon a node that was lost lets go of its addresses when it was not lost at all.
const falseLoss = 2 * time.Second

// ProbeTarget is a node whose agent can be probed.
type ProbeTarget struct {
	Node, UID string
	// Addresses of the machine, the one that the cluster knows it by first.
	Addresses []netip.Addr
	Port      uint16
	// Answered: this port has answered once, to this controller or to an earlier one.
	Answered bool
	// Down: the control plane knows already that the node does not answer.
	Down bool
}

// ProbeTargets returns the nodes whose agents have said where they listen, by name.
func (l *Ledger) ProbeTargets() []ProbeTarget {
	l.mu.Lock()
	defer l.mu.Unlock()
	targets := make([]ProbeTarget, 0, len(l.candidates))
	for _, c := range l.candidates {
		if t := targetOf(c.Node, c.Agent.Addresses, c.HealthPort, l.nodes[c.Name].probed()); t.Port != 0 {
			targets = append(targets, t)
		}
	}
	return targets
}

// TargetOf is what ProbeTargets says of a Node and its object once they are adopted; false: nothing.
func TargetOf(node lb.Node, o ObjectSnapshot) (ProbeTarget, bool) {
	if o.Former || o.UID == "" || o.Report.UID != o.UID {
		return ProbeTarget{}, false
	}
	t := targetOf(node, o.Report.Addresses, o.Report.HealthPort, o.Probed)
	return t, t.Port != 0
}

// targetOf is the zero value for a node that cannot be asked.
func targetOf(node lb.Node, reported []netip.Addr, port uint16, answered bool) ProbeTarget {
	t := ProbeTarget{Node: node.Name, UID: node.UID, Port: port, Answered: answered, Down: node.Ready == lb.Unknown}
	for _, a := range node.TypedAddresses {
		if a.Type == corev1.NodeInternalIP {
			t.Addresses = append(t.Addresses, a.Addr)
		}
	}
	for _, addr := range reported {
		if len(t.Addresses) == 0 || !slices.Contains(t.Addresses, addr) && len(node.TypedAddresses) == 0 {
			t.Addresses = append(t.Addresses, addr)
		}
	}
	if port == 0 || len(t.Addresses) == 0 {
		return ProbeTarget{}
	}
	return t
}

// Finding is what the probe says of a node now.
type Finding struct {
	Node  string
	Pulse lb.Pulse
	// First: the port has answered for the first time, which is to be remembered.
	First bool
}

// Probed takes in what the probe says. All that lost nodes carry is placed anew in one pass.
func (l *Ledger) Probed(findings []Finding, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	addrs := map[netip.Addr]bool{}
	for _, f := range findings {
		n := l.nodes[f.Node]
		if n == nil || n.Name == "" {
			continue
		}
		if f.First && !n.probed() {
			n.probedPort = n.HealthPort
			l.dirty(n)
		}
		if n.Pulse == f.Pulse && n.JudgedBy.IsZero() {
			continue
		}
		n.JudgedBy = time.Time{}
		n.Pulse, n.PulseSince, n.lostAt = f.Pulse, now, time.Time{}
		if f.Pulse == lb.PulseLost {
			n.lostAt = now
		}
		for addr := range n.book {
			addrs[addr] = true
		}
		l.addStuck(addrs, n, now)
	}
	l.evaluateAll(addrs, now)
}

// notLost looks whether a node that was given up has done what it was told after that, and so lives.
func (l *Ledger) notLost(n *node, c commit, now time.Time) {
	if n.lostAt.IsZero() || c.at.Before(n.lostAt) {
		return
	}
	if now.Sub(n.lostAt) <= falseLoss {
		l.effects.FalseLosses = append(l.effects.FalseLosses, n.name)
	}
	n.lostAt = time.Time{}
}

// timeRescue measures how long an address that was moved off a lost node is bound by nobody that answers.
func (l *Ledger) timeRescue(a *address, now time.Time) {
	switch {
	case len(a.refs) == 0:
		a.rescuedSince = time.Time{}
	case a.outcome.Bound && !a.rescuedSince.IsZero():
		l.effects.Rescues = append(l.effects.Rescues, now.Sub(a.rescuedSince))
		a.rescuedSince = time.Time{}
	case a.rescued && a.rescuedSince.IsZero():
		a.rescuedSince = now
	}
}

// contest takes in which addresses a node defends against others, and shows it to those whose addresses they are.
func (l *Ledger) contest(n *node, contested map[netip.Addr]string) {
	for _, addrs := range []map[netip.Addr]string{n.contested, contested} {
		for addr := range addrs {
			if a := l.addresses[addr]; a != nil && n.contested[addr] != contested[addr] {
				for _, ref := range a.refs {
					l.wake(ref)
				}
			}
		}
	}
	n.contested = contested
}

// contestedBy is the hardware address of a machine that answers for an address beside the node that holds it. What
// others have said, who had it before and may be dead by now, says nothing of today.
func (l *Ledger) contestedBy(a *address) string {
	if n := l.nodes[a.outcome.Holder]; n != nil {
		return n.contested[a.addr]
	}
	return ""
}
