package place

import (
	"fmt"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// ReleaseTimeout is how long an address that no Service wants any more waits for a node that does not
// acknowledge. After it the Service goes, and the address stays quarantined: nobody else gets it until the node
// has acknowledged or is deleted.
const ReleaseTimeout = 10 * time.Second

// State of an entry, as in the NodeAddresses API.
type State string

const (
	Hold    State = "Hold"
	Yield   State = "Yield"
	Release State = "Release"
)

// Entry is what one node has been told about an address.
type Entry struct {
	Node        string
	State       State
	Predecessor string
	Term        int64
	// Since the entry is in this state: decided, and once it is Written, written.
	Since time.Time
	// Written: the agent can know of it.
	Written bool
	// Acked: the agent has done what the entry says.
	Acked bool
	// Unrouted: what is sent to the address does not reach the node, because the cloud has not assigned it to the
	// node's server. Where agents announce addresses on the wire this is never so.
	Unrouted bool
	// Failed says why the agent could not, empty when it did not say so. InUse: because another machine answers for the
	// address, which no other node can change.
	Failed string
	InUse  bool
	// Deaf: the agent does not run, so it neither lets go nor binds. AbsentAt is when that is more than a restart.
	Deaf     bool
	AbsentAt time.Time
	// Standing of the node towards the address, and why when it is not Fine. Until is when time alone changes it; zero:
	// never.
	Standing Standing
	Why      string
	Until    time.Time
}

// Situation is all that is known about one address at one moment.
type Situation struct {
	Now time.Time
	// Wanted: a Service holds the address. Otherwise it is released everywhere, since UnwantedSince.
	Wanted        bool
	UnwantedSince time.Time
	// Entries of the address, at most one for each node.
	Entries []Entry
	// Choose an eligible node other than the excepted one; a refusal when there is none.
	Choose func(except string) (string, *lb.Refusal)
}

// Op is what one step does to a node's entry.
type Op string

const (
	// OpHold grants the address, or makes an entry Hold again.
	OpHold Op = "hold"
	// OpYield leaves it bound and silent while the successor binds it.
	OpYield Op = "yield"
	// OpRelease unbinds it.
	OpRelease Op = "release"
	// OpRemove forgets the entry: the agent has acknowledged, or there is no Node any more.
	OpRemove Op = "remove"
	// OpSettle ends a move: the predecessor has let go, the successor need not repeat itself.
	OpSettle Op = "settle"
)

// Step is one change to one node's entry, with its reason in words.
type Step struct {
	Op          Op
	Node        string
	Predecessor string
	// Hard: the step is part of a move off a node that does not serve, and nothing goes before it.
	Hard bool
	Why  string
}

func (s Step) String() string { return fmt.Sprintf("%s on %s: %s", s.Op, s.Node, s.Why) }

// Outcome is how the address stands once the steps are taken.
type Outcome struct {
	// Holder is the node that is to carry the address, empty when there is none.
	Holder string
	// Bound: the holder has acknowledged, and what is sent to the address reaches it.
	Bound bool
	// Misplaced says why the holder should not have the address, and why there is no other node.
	Misplaced *lb.Refusal
	// Waiting says what an address that is wanted and not bound waits for, or what is wrong with its holder.
	Waiting *lb.Refusal
	// Quarantined: nobody wants the address, and a node that does not answer may still answer for it.
	Quarantined bool
	// Free: nobody wants the address, and no node has it.
	Free bool
	// Again is when time alone changes the answer; zero when it never does.
	Again time.Time
}
