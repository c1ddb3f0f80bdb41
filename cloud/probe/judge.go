package probe

import (
	"cmp"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Node is what Judge needs to know of a node.
type Node struct {
	Name string
	// UID of the Node object: another one under the same name is another node.
	UID string
	// Port that its agent listens on. What another one has said before says nothing of it: it may be closed.
	Port uint16
	// Answered: the health port has accepted a connection once, as spec.probed says. One that never did may be closed by
	// a firewall, so neither its silence nor its refusal means anything.
	Answered bool
	// Down: the Ready condition is Unknown already. The node is not judged, and does not count among those that may
	// fall silent together.
	Down bool
}

// Change is news about a node.
type Change struct {
	Node string
	// Pulse as it is now. PulseNone is reported, too, of a node that is silent and not judged: whoever waits for the
	// probe need not wait any more.
	Pulse lb.Pulse
	// First: the port has answered for the first time, or for the first time after Lead, which is to be recorded for the
	// next leader.
	First bool
}

// Stats for metrics.
type Stats struct {
	// Silent nodes: their port has answered once, and is silent for Threshold rounds or more.
	Silent int
	// Doubting: more than half of the nodes are silent, so nothing is concluded from silence.
	Doubting bool
	// Doubts is how often that began.
	Doubts int
	// FalseLosses is how many losses were none.
	FalseLosses int
}

// Judge tells from answers which nodes are lost. What it returns is in the order of the nodes' names. It may not be
// called from several goroutines at once.
//
// When more than half of the nodes that it judges are silent, the fault is more likely on its own side. It then
// concludes nothing from silence until that is over: a silent node's pulse is PulseNone. A node that it called lost
// before, it still calls lost: addresses that have moved do not move back. Who was lost more than 10 s before the
// doubt began (or 3·Threshold intervals, when that is more) is part of neither side of that sum, nor is a node whose
// Ready condition says that it is down, so that nodes which die one by one never add up to a doubt.
type Judge struct {
	options Options
	nodes   map[string]*node
	names   []string // of nodes, sorted
	began   time.Time
	stats   Stats
	// standing by: nobody acts on what is judged yet.
	standing bool
}

// node is what Judge remembers of one.
type node struct {
	Node
	pulse lb.Pulse
	// said: something was reported of it, if only that nothing is known.
	said bool
	// unrecorded: that the port has answered may have been reported while nobody acted on it.
	unrecorded bool
	// run is the number of silent rounds in a row.
	run int
	// asked for a burst at this time, which has not been judged; zero: no.
	asked time.Time
	// lost since; settled: for so long that it has no part in what happens now.
	lost    time.Time
	settled bool
	// careful until then: the threshold is doubled.
	careful time.Time
}

// NewJudge returns a judge of no nodes.
func NewJudge(options Options) *Judge {
	j := &Judge{nodes: map[string]*node{}}
	j.Configure(options)
	return j
}

// Configure changes the options; runs of silence go on, unless the judge stands by: a run that it hands over is one of
// rounds as they are now.
func (j *Judge) Configure(options Options) {
	if j.standing && j.options != options {
		j.forgetAll()
	}
	j.options = options
}

// StandBy says, before anything is judged, that nobody acts on it until Lead. A void round then ends every run of
// silence: what is handed over was heard without a gap.
func (j *Judge) StandBy() { j.standing = true }

// Lead says that somebody acts from now on, right after a round. All that was concluded before is dropped, and of what
// was heard only the runs of silence go on: the judge concludes from them what it would, had they been its first. So
// nothing is lost before a burst that begins now, and a doubt counts all nodes that are silent, however long. It returns
// what Round does; every pulse is reported anew.
func (j *Judge) Lead(now time.Time) (confirm []string, changes []Change) {
	j.standing = false
	j.stats = Stats{}
	for name, n := range j.nodes {
		j.nodes[name] = &node{Node: n.Node, run: n.run, unrecorded: n.Answered}
	}
	return j.conclude(now)
}

// forgetAll that was heard and concluded, but for whose port has answered.
func (j *Judge) forgetAll() {
	for name, n := range j.nodes {
		j.nodes[name] = &node{Node: n.Node}
	}
}

// Elsewhere says that a node is asked at other addresses from now on: its silence at the former ones, and a burst there,
// say nothing of it.
func (j *Judge) Elsewhere(name string) {
	if n := j.nodes[name]; n != nil {
		n.run, n.asked = 0, time.Time{}
	}
}

// Set says which nodes there are. A node that is missing, or has another UID, is forgotten. One whose agent has moved to
// another port has to answer there before it is judged again.
func (j *Judge) Set(nodes []Node) {
	known := make(map[string]*node, len(nodes))
	for _, is := range nodes {
		n := j.nodes[is.Name]
		if n == nil || n.UID != is.UID {
			n = &node{}
		}
		if n.Port != is.Port {
			n.Answered, n.run, n.asked, n.settled = false, 0, time.Time{}, false
		}
		is.Answered = is.Answered || n.Answered // who has heard it knows before it is recorded
		n.Node = is
		known[is.Name] = n
	}
	j.nodes = known
	j.names = j.names[:0]
	for name := range known {
		j.names = append(j.names, name)
	}
	slices.Sort(j.names)
}

// Round judges a round that began, and whose answers were collected, at these times. It returns the nodes that are to
// be asked in a burst at once, for Confirmed to judge. Nodes without an answer were not asked.
//
// The round is void when it began, or was collected, half an interval late or more: who does not run cannot hear
// either. A void round proves nothing: neither silence nor its end.
func (j *Judge) Round(began, now time.Time, answers map[string]Answer) (confirm []string, changes []Change) {
	late := !j.began.IsZero() && began.Sub(j.began) > j.options.Interval*3/2
	j.began = began
	if late || now.Sub(began) > j.options.roundLength()+j.options.Interval/2 {
		if j.standing {
			j.forgetAll()
		}
		return nil, nil
	}
	for _, name := range j.names {
		n := j.nodes[name]
		switch answer := answers[name]; {
		case answer.alive():
			changes = append(changes, n.answered(answer)...)
		case answer == Silent:
			n.run++
		}
	}
	confirm, concluded := j.conclude(now)
	return confirm, sorted(append(changes, concluded...))
}

// conclude what follows from silence at this time.
func (j *Judge) conclude(now time.Time) (confirm []string, changes []Change) {
	j.doubt(now)
	for _, name := range j.names {
		n := j.nodes[name]
		switch {
		case !j.silent(n, now):
		case !n.Answered:
			changes = append(changes, n.forget()...)
		case n.pulse == lb.PulseLost:
		case n.Down || j.stats.Doubting:
			n.asked = time.Time{}
			changes = append(changes, n.turn(lb.PulseNone)...)
		case n.asked.IsZero():
			n.asked = now
			confirm = append(confirm, name)
		}
	}
	return confirm, changes
}

// Heard takes an answer that came after its round was judged. A Silent or Void one says nothing.
func (j *Judge) Heard(name string, answer Answer) []Change {
	n := j.nodes[name]
	if n == nil || !answer.alive() {
		return nil
	}
	return n.answered(answer)
}

// Confirmed judges the bursts that Round asked for, begun and collected at these times. A burst that took half as
// long again, or whose answer is Void, proves nothing, and Round will ask for another. So does one at the end of
// which more than half of the nodes are silent or one round short of it: others may be about to follow.
func (j *Judge) Confirmed(began, now time.Time, answers map[string]Answer) (changes []Change) {
	for name, answer := range answers {
		changes = append(changes, j.Heard(name, answer)...)
	}
	void := now.Sub(began) > BurstLength+burstDelay || j.most(now, -1)
	for name, answer := range answers {
		n := j.nodes[name]
		if n == nil || n.asked.IsZero() || began.Before(n.asked) {
			continue // nobody asked for this one any more
		}
		n.asked = time.Time{}
		if answer == Silent && !void && !n.Down {
			n.lost = now
			changes = append(changes, n.turn(lb.PulseLost)...)
		}
	}
	return sorted(changes)
}

// FalseLoss says that a node was called lost and is not: it has acknowledged what it was told since. Its threshold is
// doubled for 10 minutes.
func (j *Judge) FalseLoss(name string, now time.Time) {
	j.stats.FalseLosses++
	if n := j.nodes[name]; n != nil {
		n.careful = now.Add(caution)
	}
}

// Suspects returns the nodes that are to be asked Asks times in the next round: they were silent, and when that goes
// on they may be lost.
func (j *Judge) Suspects(now time.Time) []string {
	var names []string
	for _, name := range j.names {
		if n := j.nodes[name]; n.run > 0 && j.judged(n) && !j.silent(n, now) && n.pulse != lb.PulseLost {
			names = append(names, name)
		}
	}
	return names
}

// Stats at this time.
func (j *Judge) Stats(now time.Time) Stats {
	s := j.stats
	for _, n := range j.nodes {
		if n.Answered && j.silent(n, now) {
			s.Silent++
		}
	}
	return s
}

// judged says whether silence of the node can mean that it is lost.
func (j *Judge) judged(n *node) bool { return n.Answered && !n.Down }

// threshold of the node.
func (j *Judge) threshold(n *node, now time.Time) int {
	if now.Before(n.careful) {
		return 2 * j.options.Threshold
	}
	return j.options.Threshold
}

// silent says whether the node's silence has reached its threshold.
func (j *Judge) silent(n *node, now time.Time) bool { return n.run >= j.threshold(n, now) }

// doubt finds out whether the judge can trust itself.
func (j *Judge) doubt(now time.Time) {
	window := max(together, time.Duration(3*j.options.Threshold)*j.options.Interval)
	for _, n := range j.nodes {
		if n.pulse == lb.PulseLost && !j.stats.Doubting && now.Sub(n.lost) > window {
			n.settled = true
		}
	}
	doubting := j.most(now, 0)
	if doubting && !j.stats.Doubting {
		j.stats.Doubts++
	}
	j.stats.Doubting = doubting
}

// most says whether more than half of the nodes that may fall silent together are silent, or so many rounds away from
// it and not answering.
func (j *Judge) most(now time.Time, offset int) bool {
	silent, all := 0, 0
	for _, n := range j.nodes {
		if !j.judged(n) || n.settled {
			continue
		}
		all++
		if n.run >= max(1, j.threshold(n, now)+offset) {
			silent++
		}
	}
	return 2*silent > all
}

// answered notes that the host lives.
func (n *node) answered(answer Answer) []Change {
	n.run, n.asked, n.settled = 0, time.Time{}, false
	pulse := lb.PulseAnswering
	if answer == Refused {
		pulse = lb.PulseRefusing
	}
	if !n.Answered {
		if answer == Refused {
			return n.forget()
		}
		n.Answered, n.pulse, n.said = true, pulse, true
		return []Change{{Node: n.Name, Pulse: pulse, First: true}}
	}
	changes := n.turn(pulse)
	if n.unrecorded && answer == Accepted {
		n.unrecorded = false
		for i := range changes {
			changes[i].First = true
		}
	}
	return changes
}

// forget what was said of a node before its agent moved to a port that has not answered yet.
func (n *node) forget() []Change {
	if !n.said {
		return nil
	}
	return n.turn(lb.PulseNone)
}

// turn returns a change when the pulse is another one, or the first that is reported.
func (n *node) turn(pulse lb.Pulse) []Change {
	if n.pulse == pulse && n.said {
		return nil
	}
	n.pulse, n.said = pulse, true
	return []Change{{Node: n.Name, Pulse: pulse}}
}

func sorted(changes []Change) []Change {
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Node, b.Node) })
	return changes
}
