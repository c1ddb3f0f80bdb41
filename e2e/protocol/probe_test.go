package protocol

import (
	"math/rand/v2"
	"time"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
	"github.com/mooring-lb/mooring/cloud/probe"
)

// probing is a Judge and the rounds that feed it. It begins before its controller leads, and goes on then.
type probing struct {
	judge *probe.Judge
	// known are the nodes that a standby has seen, which may be a while ago.
	known []ledger.ProbeTarget
	// standing: what is found is not acted on. leads: that has to end.
	standing, leads bool
	// luck of the standby's probes: it leaves that of everybody else alone.
	luck *rand.Rand
}

// lookEvery is how old what a standby knows of the nodes may be without a fault: its watches are not simulated.
const lookEvery = 3 * time.Second

var probeOptions = probe.Options{
	Interval:  cloudConfig.Failover.ProbeInterval,
	Threshold: cloudConfig.Failover.FailureThreshold,
}

// standBy asks all agents whether they live, round by round, and does nothing about it before the controller leads.
func (c *controller) standBy() {
	c.judge = probe.NewJudge(probeOptions)
	c.judge.StandBy()
	c.standing = true
	c.luck = rand.New(rand.NewPCG(c.w.seed, 1))
	c.look()
	c.round()
}

// look has a standby see which nodes there are.
func (c *controller) look() {
	if c.ledger != nil {
		return
	}
	if c.client.cuts == 0 {
		c.known = nil
		for _, name := range c.w.api.names(nodes) {
			n := c.w.api.objects[nodes][name].value.(*lb.Node)
			o, ok := c.w.api.objects[addresses][name].value.(*v1alpha1.NodeAddresses)
			if !ok {
				continue
			}
			if t, ok := ledger.TargetOf(*n, nodeaddresses.SnapshotOf(o, n.UID)); ok {
				c.known = append(c.known, t)
			}
		}
	}
	c.w.after(c.process, lookEvery, c.look)
}

// set has the judge know which nodes there are.
func (c *controller) set() (asked []probe.Node) {
	targets := c.known
	if c.ledger != nil {
		targets = c.ledger.ProbeTargets()
	}
	for _, t := range targets {
		asked = append(asked, probe.Node{Name: t.Node, UID: t.UID, Answered: t.Answered, Down: t.Down})
	}
	c.judge.Set(asked)
	return asked
}

func (c *controller) round() {
	w := c.w
	began := w.time()
	asked := c.set()
	suspects := map[string]bool{}
	for _, name := range c.judge.Suspects(began) {
		suspects[name] = true
	}
	answers := make(map[string]probe.Answer, len(asked))
	for _, n := range asked {
		asks := 1
		if suspects[n.Name] {
			asks = probe.Asks
		}
		answers[n.Name] = c.ask(n.Name, asks)
	}
	w.after(c.process, probeOptions.Interval/2, func() {
		confirm, changes := c.judge.Round(began, w.time(), answers)
		c.found(changes)
		if c.leads {
			c.leads, c.standing = false, false
			c.set()
			confirm, changes = c.judge.Lead(w.time())
			c.found(changes)
		}
		if len(confirm) > 0 {
			c.burst(confirm)
		}
	})
	w.after(c.process, probeOptions.Interval, c.round)
}

// burst asks once more those that may be lost.
func (c *controller) burst(names []string) {
	began := c.w.time()
	c.w.after(c.process, probe.BurstLength, func() {
		answers := map[string]probe.Answer{}
		for _, name := range names {
			answers[name] = c.ask(name, probe.Asks)
		}
		c.found(c.judge.Confirmed(began, c.w.time(), answers))
	})
}

// ask a node so many times.
func (c *controller) ask(name string, times int) probe.Answer {
	for _, m := range c.w.machines {
		if m.name != name {
			continue
		}
		for range times {
			switch {
			case c.blind || m.hidden > 0 || !m.up || m.wire.pauses > 0 || c.unlucky():
			case m.agent.process.alive:
				return probe.Accepted
			default:
				return probe.Refused
			}
		}
	}
	return probe.Silent
}

// unlucky says whether a probe is lost on its way.
func (c *controller) unlucky() bool {
	if c.standing {
		return c.w.loss > 0 && c.luck.Float64() < c.w.loss
	}
	return c.w.chance(c.w.loss)
}

func (c *controller) found(changes []probe.Change) {
	if len(changes) == 0 || c.standing {
		return
	}
	var findings []ledger.Finding
	for _, change := range changes {
		c.w.log("%s: the pulse of %s is %s", c.name, change.Node, change.Pulse)
		findings = append(findings, ledger.Finding{Node: change.Node, Pulse: change.Pulse, First: change.First})
	}
	c.ledger.Probed(findings, c.w.time())
	c.drain()
}

func (c *controller) falseLoss(name string) {
	c.w.log("%s: %s was not lost", c.name, name)
	c.judge.FalseLoss(name, c.w.time())
}
