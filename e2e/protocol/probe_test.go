package protocol

import (
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/probe"
)

// probing is a Judge and the rounds that feed it.
type probing struct {
	judge *probe.Judge
}

var probeOptions = probe.Options{
	Interval:  cloudConfig.Failover.ProbeInterval,
	Threshold: cloudConfig.Failover.FailureThreshold,
}

// probe asks all agents whether they live, round by round.
func (c *controller) probe() {
	c.judge = probe.NewJudge(probeOptions)
	c.round()
}

func (c *controller) round() {
	w := c.w
	began := w.time()
	var asked []probe.Node
	for _, t := range c.ledger.ProbeTargets() {
		n, _ := c.machines.seen[t.Node].value.(*lb.Node)
		if n == nil {
			continue
		}
		asked = append(asked, probe.Node{Name: t.Node, UID: n.UID, Answered: t.Answered, Down: t.Down})
	}
	c.judge.Set(asked)
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
			case c.blind || m.hidden > 0 || !m.up || m.wire.pauses > 0 || c.w.chance(c.w.loss):
			case m.agent.process.alive:
				return probe.Accepted
			default:
				return probe.Refused
			}
		}
	}
	return probe.Silent
}

func (c *controller) found(changes []probe.Change) {
	if len(changes) == 0 {
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
	if c.judge != nil {
		c.w.log("%s: %s was not lost", c.name, name)
		c.judge.FalseLoss(name, c.w.time())
	}
}
