package place

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Next returns the steps that bring an address nearer to where it should be. It looks at the entries alone, so a
// controller that crashed anywhere is continued by the next one. Taking the steps and asking again gives no
// further step until an acknowledgement, a node or the time has changed something.
//
// Invariants: at most one Hold after the steps; an entry goes only when its agent has acknowledged the Release or
// its Node is deleted; a Yield exists only beside a Hold.
func Next(s Situation) ([]Step, Outcome) {
	m := move{Situation: s}
	m.sweep()
	if s.Wanted {
		m.want()
	} else {
		m.unwant()
	}
	return m.steps, m.outcome
}

type move struct {
	Situation
	live []Entry // entries that are not removed in this pass
	// bereft: the Node of the holder is deleted.
	bereft  bool
	steps   []Step
	outcome Outcome
}

// sweep removes what is over: acknowledged releases, and entries of Nodes that are deleted.
func (m *move) sweep() {
	for _, e := range m.Entries {
		switch {
		case e.Standing == Gone:
			m.step(OpRemove, e.Node, "", "its Node is deleted")
			m.bereft = m.bereft || e.State == Hold
		case e.State == Release && e.Acked:
			m.step(OpRemove, e.Node, "", "the agent has acknowledged the release")
		default:
			m.live = append(m.live, e)
		}
	}
	// The newest Hold first: the highest term, then the one that is bound, then by name.
	slices.SortFunc(m.live, func(a, b Entry) int {
		return cmp.Or(
			cmp.Compare(rank(a.State), rank(b.State)),
			cmp.Compare(b.Term, a.Term),
			compareBool(b.Acked, a.Acked),
			cmp.Compare(a.Node, b.Node))
	})
}

func rank(s State) int {
	switch s {
	case Hold:
		return 0
	case Yield:
		return 1
	default:
		return 2
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

func (m *move) unwant() {
	if len(m.live) == 0 {
		m.outcome.Free = true
		return
	}
	for _, e := range m.live {
		if e.State != Release {
			m.step(OpRelease, e.Node, "", "no Service holds the address any more")
		}
	}
	if limit := m.UnwantedSince.Add(ReleaseTimeout); m.Now.Before(limit) {
		m.outcome.Again = limit
		m.outcome.Waiting = lb.Refuse(lb.ReasonReleasing, "waiting for node %s to let go", m.live[0].Node)
	} else {
		m.outcome.Quarantined = true
	}
}

func (m *move) want() {
	holds := 0
	for holds < len(m.live) && m.live[holds].State == Hold {
		holds++
	}
	for _, e := range m.live[min(1, holds):holds] {
		m.step(OpRelease, e.Node, "", fmt.Sprintf("node %s holds the address in term %d", m.live[0].Node, m.live[0].Term))
	}
	switch {
	case holds == 0:
		m.grant()
	default:
		m.keep(m.live[0])
	}
}

// grant finds a holder for an address that has none.
func (m *move) grant() {
	const why = "its successor is gone"
	if m.back(Fine, nil, why) {
		return
	}
	node, refusal := m.Choose("")
	if refusal != nil {
		if !m.back(Leaving, nil, why) {
			m.outcome.Waiting = refusal
		}
		return
	}
	m.step(OpHold, node, m.predecessorFor(node), "chosen")
	m.held(node)
	if m.bereft {
		m.hurry()
	}
}

// back returns the address to a node that yields it and still has it bound, when that node's standing is good enough;
// the holder, when there is one, is given up.
func (m *move) back(worst Standing, holder *Entry, why string) bool {
	for _, e := range m.live {
		if e.State == Yield && e.Standing <= worst {
			if holder != nil {
				m.step(OpRelease, holder.Node, "", why)
			}
			m.step(OpHold, e.Node, m.predecessorFor(e.Node), why)
			m.held(e.Node)
			m.releaseOthers(e.Node)
			return true
		}
	}
	return false
}

// predecessorFor names a node that may still have the address bound, so that the successor announces it until
// that one has let go.
func (m *move) predecessorFor(node string) string {
	for _, e := range m.live {
		if e.Node != node {
			return e.Node
		}
	}
	return ""
}

// hurry marks the steps as those of a move off a node that does not serve.
func (m *move) hurry() {
	for i := range m.steps {
		m.steps[i].Hard = true
	}
}

func (m *move) held(node string) {
	m.outcome.Holder = node
	m.outcome.Waiting = waiting(node)
	m.outcome.Again = m.Now.Add(AckTimeout)
}

func waiting(node string) *lb.Refusal {
	return lb.Refuse(lb.ReasonWaitingForAgent, "waiting for the agent on node %s to bind the address", node)
}

// keep decides whether the holder stays the holder.
func (m *move) keep(h Entry) {
	m.outcome.Holder = h.Node
	m.soonest(h.Until)
	switch {
	case h.Standing == Leaving && h.Deaf && h.Acked && !h.Unrouted:
		// It would not let go. What it has bound answers.
		m.outcome.Bound = true
		m.outcome.Misplaced = lb.Refuse(lb.ReasonAgentAbsent, "node %s is %s, and its agent does not run to let go "+
			"(connections to its health port are refused): start the agent there, or open the port to the controller", h.Node, h.Why)
		m.releaseOthers(h.Node)
	case h.Standing != Fine:
		m.replace(h)
	case h.Acked && !h.Unrouted:
		m.outcome.Bound = true
		m.settle(h)
		m.watchAgent(h)
	case h.Acked:
		// Who had it before keeps it bound until the cloud has turned the traffic around.
		m.outcome.Waiting = lb.Refuse(lb.ReasonRouting, "waiting for the cloud to send its traffic to node %s", h.Node)
	case h.InUse && !m.yields():
		m.outcome.Waiting = lb.Refuse(lb.ReasonAddressInUse, "node %s: %s; it is bound as soon as nobody else answers for it", h.Node, h.Failed)
	case !h.Written:
		m.outcome.Waiting = lb.Refuse(lb.ReasonWaitingForAPI, "waiting for the API server to take the decision for node %s", h.Node)
	case h.Failed != "" || !m.Now.Before(h.Since.Add(AckTimeout)):
		m.retreat(h)
	default:
		m.outcome.Waiting = waiting(h.Node)
		m.soonest(h.Since.Add(AckTimeout))
	}
}

// yields reports whether a node keeps the address bound until its successor has it. It is the one that answers then, and
// the successor would wait for ever for it to be silent.
func (m *move) yields() bool {
	return slices.ContainsFunc(m.live, func(e Entry) bool { return e.State == Yield })
}

// soonest has the address looked at again at that time, or before; zero is never.
func (m *move) soonest(at time.Time) {
	if !at.IsZero() && (m.outcome.Again.IsZero() || at.Before(m.outcome.Again)) {
		m.outcome.Again = at
	}
}

// watchAgent says so when the agent of a node that serves has been away for longer than a restart takes.
func (m *move) watchAgent(h Entry) {
	switch {
	case h.AbsentAt.IsZero():
	case m.Now.Before(h.AbsentAt):
		m.soonest(h.AbsentAt)
	default:
		m.outcome.Misplaced = lb.Refuse(lb.ReasonAgentAbsent, "the agent on node %s has not run for %s and longer "+
			"(connections to its health port are refused): the address answers, but nothing about it can change; start the agent "+
			"there, or open the port to the controller", h.Node, AbsentAfter)
	}
}

// replace moves the address off a holder that is lost or has to leave. Without another node it stays: a node in
// trouble is better than none, and a lost node that comes back still holds it.
func (m *move) replace(h Entry) {
	node, refusal := m.Choose(h.Node)
	serves := h.Acked && !h.Unrouted && h.Standing == Leaving
	why := "node " + h.Node + " is " + h.Why
	if refusal != nil && !serves && m.back(Leaving, &h, why) {
		return
	}
	if refusal != nil {
		m.outcome.Bound = serves
		m.outcome.Misplaced = lb.Refuse(lb.ReasonNoEligibleNode, "%s; %s", why, refusal.Message)
		if serves {
			m.releaseOthers(h.Node)
		} else {
			m.outcome.Waiting = m.outcome.Misplaced
		}
		return
	}
	if serves {
		m.step(OpYield, h.Node, "", why)
		m.releaseOthers(h.Node, node)
	} else {
		m.step(OpRelease, h.Node, "", why)
	}
	m.step(OpHold, node, h.Node, why)
	m.held(node)
	if h.Standing == Lost {
		m.hurry()
	}
}

// retreat gives up a holder whose agent does not bind the address: the node that had it before takes it back, or
// another one is tried.
func (m *move) retreat(h Entry) {
	why := "node " + h.Node + ": its agent has not acknowledged"
	if h.Failed != "" {
		why = "node " + h.Node + ": its agent could not bind it: " + h.Failed
	}
	if m.back(Fine, &h, why) {
		return
	}
	node, refusal := m.Choose(h.Node)
	switch {
	case refusal == nil:
		m.step(OpRelease, h.Node, "", why)
		m.step(OpHold, node, h.Node, why)
		m.held(node)
	case m.back(Leaving, &h, why):
	default:
		m.outcome.Waiting = lb.Refuse(lb.ReasonWaitingForAgent, "%s; %s", why, refusal.Message)
		m.outcome.Again = m.Now.Add(AckTimeout)
	}
}

// settle ends a move once the successor has the address.
func (m *move) settle(h Entry) {
	m.releaseOthers(h.Node)
	if h.Predecessor != "" && len(m.live) == 1 {
		m.step(OpSettle, h.Node, "", "the predecessor has let go")
	}
}

// releaseOthers ends the yielding of every node but the given ones.
func (m *move) releaseOthers(nodes ...string) {
	for _, e := range m.live {
		if e.State == Yield && !slices.Contains(nodes, e.Node) {
			m.step(OpRelease, e.Node, "", "node "+nodes[len(nodes)-1]+" holds the address")
		}
	}
}

func (m *move) step(op Op, node, predecessor, why string) {
	m.steps = append(m.steps, Step{Op: op, Node: node, Predecessor: predecessor, Why: why})
}
