package cloud

import (
	"context"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
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

// beginProbe begins to ask the nodes, unless this process does so already.
func (r *room) beginProbe(ctx context.Context) {
	r.probing.Do(func() { r.working.Go(func() { r.probe(ctx) }) })
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
	if r.ledger() == nil {
		return // nothing was said yet
	}
	var findings []ledger.Finding
	for _, t := range r.ledger().ProbeTargets() {
		findings = append(findings, ledger.Finding{Node: t.Node, Pulse: lb.PulseNone})
	}
	r.ledger().Probed(findings, r.options.Clock.Now())
	r.drain()
}

// probeTargets are the nodes that are asked: those of the ledger, once it is rebuilt from live reads.
func (r *room) probeTargets() []probe.Target {
	l := r.ledger()
	if l == nil {
		return r.standby.list()
	}
	nodes := l.ProbeTargets()
	targets := make([]probe.Target, 0, len(nodes))
	for _, n := range nodes {
		targets = append(targets, probeTarget(n))
	}
	return targets
}

func probeTarget(n ledger.ProbeTarget) probe.Target {
	t := probe.Target{
		Node:      probe.Node{Name: n.Node, UID: n.UID, Port: n.Port, Answered: n.Answered, Down: n.Down},
		Addresses: make([]netip.AddrPort, 0, len(n.Addresses)),
	}
	for _, addr := range n.Addresses {
		t.Addresses = append(t.Addresses, netip.AddrPortFrom(addr, n.Port))
	}
	return t
}

// probeTook counts an answer where this controller leads, as all else.
func (r *room) probeTook(took time.Duration) {
	if r.ledger() != nil {
		r.metrics.probes.Observe(took.Seconds())
	}
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
		// A new leader may know of a loss before its informers know of the Node.
		if c.Pulse == lb.PulseLost && cache.WaitForCacheSync(r.stopped, r.nodesSynced) {
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
