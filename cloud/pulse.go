package cloud

import (
	"context"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/probe"
)

// This file connects the probe of the agents' health ports with the ledger.

// probeOptions are what the cloud-config says of the probe.
func probeOptions(cfg *config.Config) probe.Options {
	return probe.Options{Interval: cfg.Failover.ProbeInterval, Threshold: cfg.Failover.FailureThreshold}
}

// probe asks the nodes until the context ends.
func (r *room) probe(ctx context.Context) {
	if r.options.NoProbe {
		return
	}
	for {
		err := r.prober.Run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		klog.FromContext(ctx).Error(err, "Nodes cannot be probed; a lost one is noticed by its Ready condition alone", "retryIn", retryProbe)
		r.unprobed()
		select {
		case <-ctx.Done():
			return
		case <-r.options.Clock.After(retryProbe):
		}
	}
}

// retryProbe is the pause before nodes are probed again when that went wrong.
const retryProbe = 10 * time.Second

// unprobed takes back what the probe found: nobody looks any more.
func (r *room) unprobed() {
	var findings []ledger.Finding
	for _, t := range r.ledger().ProbeTargets() {
		findings = append(findings, ledger.Finding{Node: t.Node, Pulse: lb.PulseNone})
	}
	r.ledger().Probed(findings, r.options.Clock.Now())
	r.drain()
}

func (r *room) probeTargets() []probe.Target {
	nodes := r.ledger().ProbeTargets()
	targets := make([]probe.Target, 0, len(nodes))
	for _, n := range nodes {
		t := probe.Target{
			Node:      probe.Node{Name: n.Node, UID: n.UID, Port: n.Port, Answered: n.Answered, Down: n.Down},
			Addresses: make([]netip.AddrPort, 0, len(n.Addresses)),
		}
		for _, addr := range n.Addresses {
			t.Addresses = append(t.Addresses, netip.AddrPortFrom(addr, n.Port))
		}
		targets = append(targets, t)
	}
	return targets
}

// probed hands what the probe found to the ledger, and then says so.
func (r *room) probed(changes []probe.Change) {
	findings := make([]ledger.Finding, 0, len(changes))
	for _, c := range changes {
		findings = append(findings, ledger.Finding{Node: c.Node, Pulse: c.Pulse, First: c.First})
	}
	r.ledger().Probed(findings, r.options.Clock.Now())
	r.drain()
	for _, c := range changes {
		klog.Background().Info("Probe", "node", c.Node, "pulse", c.Pulse.String())
		if c.Pulse == lb.PulseLost {
			r.tellNode(c.Node, eventNodeLost, "the health port of its agent is silent, and so is the whole host: its addresses move")
		}
	}
}

// notLost takes notice of a node that the probe gave up and that lives.
func (r *room) notLost(name string) {
	klog.Background().Info("Node was taken for lost and is not; its threshold is doubled for ten minutes", "node", name)
	r.prober.FalseLoss(name)
	r.tellNode(name, eventFalseLoss, "it was taken for lost, but its agent answers to the API server: look at the network between "+
		"the controller and the health port of the agent")
}

// tellNode says something to those who look at a Node.
func (r *room) tellNode(name, reason, message string) {
	if node, err := r.nodes.Get(name); err == nil {
		r.options.Recorder.Event(node, corev1.EventTypeWarning, reason, message)
	}
}
