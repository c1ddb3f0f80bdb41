package place

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mooring-lb/mooring/cloud/lb"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func choose(name string) func(string) (string, *lb.Refusal) {
	return func(except string) (string, *lb.Refusal) {
		if name == "" || name == except {
			return "", lb.Refuse(lb.ReasonNoEligibleNode, "none")
		}
		return name, nil
	}
}

// TestNext tells the life of an address step by step.
func TestNext(t *testing.T) {
	held := Entry{Node: "n1", State: Hold, Term: 1, Since: start, Acked: true}
	with := func(e Entry, change func(*Entry)) Entry {
		change(&e)
		return e
	}
	tests := []struct {
		name    string
		s       Situation
		steps   []string
		outcome Outcome
	}{
		{
			name:    "a new address is granted to the chosen node",
			s:       Situation{Wanted: true, Choose: choose("n2")},
			steps:   []string{"hold on n2 after "},
			outcome: Outcome{Holder: "n2", Waiting: waiting("n2"), Again: start.Add(AckTimeout)},
		},
		{
			name:    "without an eligible node it waits and says why",
			s:       Situation{Wanted: true, Choose: choose("")},
			outcome: Outcome{Waiting: lb.Refuse(lb.ReasonNoEligibleNode, "none")},
		},
		{
			name:    "an acknowledged holder stays, whoever else would be eligible",
			s:       Situation{Wanted: true, Entries: []Entry{held}, Choose: choose("n2")},
			outcome: Outcome{Holder: "n1", Bound: true},
		},
		{
			name:    "a lost node is told to release, and the next one holds without waiting for it",
			s:       Situation{Wanted: true, Entries: []Entry{with(held, func(e *Entry) { e.Standing = Lost })}, Choose: choose("n2")},
			steps:   []string{"release on n1", "hold on n2 after n1"},
			outcome: Outcome{Holder: "n2", Waiting: waiting("n2"), Again: start.Add(AckTimeout)},
		},
		{
			name:    "a deleted Node is forgotten at once",
			s:       Situation{Wanted: true, Entries: []Entry{with(held, func(e *Entry) { e.Standing = Gone })}, Choose: choose("n2")},
			steps:   []string{"remove on n1", "hold on n2 after "},
			outcome: Outcome{Holder: "n2", Waiting: waiting("n2"), Again: start.Add(AckTimeout)},
		},
		{
			name:    "a lost node keeps the address while there is no other: it may come back",
			s:       Situation{Wanted: true, Entries: []Entry{with(held, func(e *Entry) { e.Standing, e.Why = Lost, "silent" })}, Choose: choose("")},
			outcome: Outcome{Holder: "n1", Misplaced: lb.Refuse(lb.ReasonNoEligibleNode, "node n1 is silent; none"), Waiting: lb.Refuse(lb.ReasonNoEligibleNode, "node n1 is silent; none")},
		},
		{
			name:    "a node that has to go stays bound and silent until its successor has the address",
			s:       Situation{Wanted: true, Entries: []Entry{with(held, func(e *Entry) { e.Standing = Leaving })}, Choose: choose("n2")},
			steps:   []string{"yield on n1", "hold on n2 after n1"},
			outcome: Outcome{Holder: "n2", Waiting: waiting("n2"), Again: start.Add(AckTimeout)},
		},
		{
			name:    "a node that has to go serves on while there is no other",
			s:       Situation{Wanted: true, Entries: []Entry{with(held, func(e *Entry) { e.Standing, e.Why = Leaving, "excluded" })}, Choose: choose("")},
			outcome: Outcome{Holder: "n1", Bound: true, Misplaced: lb.Refuse(lb.ReasonNoEligibleNode, "node n1 is excluded; none")},
		},
		{
			name: "once the successor has it, the predecessor releases",
			s: Situation{Wanted: true, Choose: choose(""), Entries: []Entry{
				{Node: "n1", State: Yield, Acked: true, Standing: Leaving},
				{Node: "n2", State: Hold, Acked: true, Predecessor: "n1"},
			}},
			steps:   []string{"release on n1"},
			outcome: Outcome{Holder: "n2", Bound: true},
		},
		{
			name: "once the predecessor has let go, the successor need not repeat itself",
			s: Situation{Wanted: true, Choose: choose(""), Entries: []Entry{
				{Node: "n1", State: Release, Acked: true},
				{Node: "n2", State: Hold, Acked: true, Predecessor: "n1"},
			}},
			steps:   []string{"remove on n1", "settle on n2"},
			outcome: Outcome{Holder: "n2", Bound: true},
		},
		{
			name: "a successor that does not answer is given up, and the predecessor holds again",
			s: Situation{Wanted: true, Choose: choose("n3"), Entries: []Entry{
				{Node: "n1", State: Yield, Acked: true},
				{Node: "n2", State: Hold, Written: true, Since: start.Add(-AckTimeout), Predecessor: "n1"},
			}},
			steps:   []string{"release on n2", "hold on n1 after n2"},
			outcome: Outcome{Holder: "n1", Waiting: waiting("n1"), Again: start.Add(AckTimeout)},
		},
		{
			name: "a successor that has found its predecessor in the way is given up, for that one waits for it",
			s: Situation{Wanted: true, Choose: choose("n3"), Entries: []Entry{
				{Node: "n1", State: Yield, Acked: true},
				{Node: "n2", State: Hold, Written: true, Since: start, Failed: "AddressInUse", InUse: true, Predecessor: "n1"},
			}},
			steps:   []string{"release on n2", "hold on n1 after n2"},
			outcome: Outcome{Holder: "n1", Waiting: waiting("n1"), Again: start.Add(AckTimeout)},
		},
		{
			name: "when the predecessor still has to go, another successor is tried, and it stays bound meanwhile",
			s: Situation{Wanted: true, Choose: choose("n3"), Entries: []Entry{
				{Node: "n1", State: Yield, Acked: true, Standing: Leaving},
				{Node: "n2", State: Hold, Written: true, Since: start.Add(-AckTimeout), Predecessor: "n1"},
			}},
			steps:   []string{"release on n2", "hold on n3 after n2"},
			outcome: Outcome{Holder: "n3", Waiting: waiting("n3"), Again: start.Add(AckTimeout)},
		},
		{
			name: "a holder that cannot bind is given up at once for another",
			s: Situation{Wanted: true, Choose: choose("n3"), Entries: []Entry{
				{Node: "n2", State: Hold, Written: true, Since: start, Failed: "InterfaceFailed"},
			}},
			steps:   []string{"release on n2", "hold on n3 after n2"},
			outcome: Outcome{Holder: "n3", Waiting: waiting("n3"), Again: start.Add(AckTimeout)},
		},
		{
			name: "while the API server has not taken the grant, no agent is blamed for it",
			s: Situation{Wanted: true, Choose: choose("n3"), Entries: []Entry{
				{Node: "n2", State: Hold, Since: start.Add(-time.Minute)},
			}},
			outcome: Outcome{Holder: "n2", Waiting: lb.Refuse(lb.ReasonWaitingForAPI, "waiting for the API server to take the decision for node n2")},
		},
		{
			name: "a successor that is lost gives the address back to the node that yields it",
			s: Situation{Wanted: true, Choose: choose(""), Entries: []Entry{
				{Node: "n1", State: Yield, Acked: true, Standing: Leaving},
				{Node: "n2", State: Hold, Written: true, Standing: Lost, Predecessor: "n1"},
			}},
			steps:   []string{"release on n2", "hold on n1 after n2"},
			outcome: Outcome{Holder: "n1", Waiting: waiting("n1"), Again: start.Add(AckTimeout)},
		},
		{
			name: "a crash between Yield and the successor's grant is undone",
			s: Situation{Wanted: true, Choose: choose("n3"), Entries: []Entry{
				{Node: "n1", State: Yield, Acked: true},
			}},
			steps:   []string{"hold on n1 after "},
			outcome: Outcome{Holder: "n1", Waiting: waiting("n1"), Again: start.Add(AckTimeout)},
		},
		{
			name: "a crash between a lost node's Release and the next grant leaves no holder, so one is chosen",
			s: Situation{Wanted: true, Choose: choose("n3"), Entries: []Entry{
				{Node: "n1", State: Release, Standing: Lost},
			}},
			steps:   []string{"hold on n3 after n1"},
			outcome: Outcome{Holder: "n3", Waiting: waiting("n3"), Again: start.Add(AckTimeout)},
		},
		{
			name: "of two Holds the lower term is revoked",
			s: Situation{Wanted: true, Choose: choose("n3"), Entries: []Entry{
				{Node: "n1", State: Hold, Acked: true, Term: 1},
				{Node: "n2", State: Hold, Acked: true, Term: 2},
			}},
			steps:   []string{"release on n1"},
			outcome: Outcome{Holder: "n2", Bound: true},
		},
		{
			name:    "what nobody wants is released everywhere",
			s:       Situation{UnwantedSince: start, Entries: []Entry{held, {Node: "n2", State: Yield}}},
			steps:   []string{"release on n1", "release on n2"},
			outcome: Outcome{Waiting: lb.Refuse(lb.ReasonReleasing, "waiting for node n1 to let go"), Again: start.Add(ReleaseTimeout)},
		},
		{
			name:    "a release is over when the agent says so",
			s:       Situation{UnwantedSince: start, Entries: []Entry{{Node: "n1", State: Release, Acked: true}}},
			steps:   []string{"remove on n1"},
			outcome: Outcome{Free: true},
		},
		{
			name: "a dead node does not hold up a release for ever, but the address goes to nobody else",
			s: Situation{UnwantedSince: start.Add(-ReleaseTimeout), Entries: []Entry{
				{Node: "n1", State: Release, Standing: Lost},
			}},
			outcome: Outcome{Quarantined: true},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.s.Now = start
			steps, outcome := Next(tt.s)
			var got []string
			for _, s := range steps {
				line := fmt.Sprintf("%s on %s", s.Op, s.Node)
				if s.Op == OpHold {
					line += " after " + s.Predecessor
				}
				got = append(got, line)
			}
			assert.Equal(t, tt.steps, got)
			assert.Equal(t, tt.outcome, outcome)
		})
	}
}

// TestNextKeepsItsInvariants drives an address through random acknowledgements, losses and time.
func TestNextKeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := []string{"n1", "n2", "n3", "n4"}
		entries := map[string]Entry{}
		standing := map[string]Standing{}
		unwritten := rapid.SampledFrom([]string{"", "n1"}).Draw(t, "unwritten") // a node whose object cannot be written
		avoid := map[string]bool{}                                              // nodes that were given up and have not answered since
		s := Situation{Now: start, Wanted: true}
		s.Choose = func(except string) (string, *lb.Refusal) {
			for _, n := range nodes {
				if n != except && standing[n] == Fine && !avoid[n] {
					return n, nil
				}
			}
			return "", lb.Refuse(lb.ReasonNoEligibleNode, "none")
		}
		look := func() {
			s.Entries = nil
			for _, n := range nodes {
				if e, ok := entries[n]; ok {
					e.Standing = standing[n]
					s.Entries = append(s.Entries, e)
				}
			}
		}
		apply := func() []Step {
			look()
			steps, outcome := Next(s)
			for _, step := range steps {
				e := entries[step.Node]
				e.Node, e.Since, e.Acked, e.Failed, e.Written = step.Node, s.Now, false, "", unwritten != step.Node
				switch step.Op {
				case OpRemove:
					require.True(t, entries[step.Node].State == Release && entries[step.Node].Acked || standing[step.Node] == Gone,
						"%s: an entry goes only when its agent has let go or its Node is gone", step)
					delete(entries, step.Node)
					continue
				case OpSettle:
					e = entries[step.Node]
					e.Predecessor = ""
				case OpHold:
					e.State, e.Predecessor = Hold, step.Predecessor
				case OpYield:
					e.State = Yield
				case OpRelease:
					avoid[step.Node] = entries[step.Node].State == Hold && !entries[step.Node].Acked
					e.State = Release
				}
				entries[step.Node] = e
			}
			var holds, yields int
			for _, e := range entries {
				switch e.State {
				case Hold:
					holds++
				case Yield:
					yields++
				}
			}
			require.LessOrEqual(t, holds, 1, "at most one holder")
			if yields > 0 {
				require.Equal(t, 1, holds, "a Yield stands beside a Hold")
			}
			if outcome.Bound {
				require.True(t, entries[outcome.Holder].Acked, "bound means acknowledged")
			}
			if outcome.Free {
				require.Empty(t, entries)
			}
			return steps
		}
		for range rapid.IntRange(1, 40).Draw(t, "rounds") {
			node := rapid.SampledFrom(nodes).Draw(t, "node")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				if e, ok := entries[node]; ok {
					e.Acked = e.Written
					avoid[node] = avoid[node] && !e.Acked
					entries[node] = e
				}
			case 2:
				standing[node] = rapid.SampledFrom([]Standing{Fine, Fine, Leaving, Lost, Gone}).Draw(t, "standing")
			case 3:
				s.Now = s.Now.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, "seconds")) * time.Second)
			case 4:
				s.Wanted = !s.Wanted
				s.UnwantedSince = s.Now
			case 5:
				if e, ok := entries[node]; ok && e.State == Hold && e.Written && !e.Acked {
					e.Failed = "InterfaceFailed"
					entries[node] = e
				}
			}
			apply()
			require.Empty(t, apply(), "asking again gives no further step")
		}
		// Once all is well and every agent answers, the address is bound on one node, or free.
		for range 10 {
			for _, n := range nodes {
				standing[n] = Fine
				unwritten = ""
				avoid[n] = false
				if e, ok := entries[n]; ok {
					e.Written, e.Acked, e.Failed = true, true, ""
					entries[n] = e
				}
			}
			apply()
		}
		look()
		_, outcome := Next(s)
		require.Equal(t, s.Wanted, outcome.Bound)
		require.Equal(t, !s.Wanted, outcome.Free)
	})
}

func TestChoose(t *testing.T) {
	subnet := lb.Subnet{Interface: "eth0", Prefix: netip.MustParsePrefix("192.0.2.0/24")}
	node := func(name string, addresses int) *Candidate {
		return &Candidate{
			Node:      lb.Node{Name: name, Ready: lb.Ready},
			Agent:     lb.Agent{Present: true, Ready: true, Subnets: []lb.Subnet{subnet}},
			Addresses: addresses,
		}
	}
	d := Demand{Addr: netip.MustParseAddr("192.0.2.7"), Pool: "office", Bind: true}

	t.Run("the node with the fewest addresses", func(t *testing.T) {
		name, refusal := Choose(d, []*Candidate{node("a", 3), node("b", 1), node("c", 2)}, "")
		assert.Nil(t, refusal)
		assert.Equal(t, "b", name)
	})
	t.Run("a node with an endpoint before an emptier one", func(t *testing.T) {
		d := d
		d.EndpointNodes = map[string]bool{"a": true}
		name, _ := Choose(d, []*Candidate{node("a", 3), node("b", 1)}, "")
		assert.Equal(t, "a", name)
	})
	t.Run("the node that the cloud sends the traffic to before others, when it is eligible", func(t *testing.T) {
		d := d
		d.Server, d.EndpointNodes = 12, map[string]bool{"b": true}
		there, other := node("a", 3), node("b", 1)
		there.Server, other.Server = 12, 13
		name, _ := Choose(d, []*Candidate{there, other}, "")
		assert.Equal(t, "a", name)
		there.Cordoned = true
		name, _ = Choose(d, []*Candidate{there, other}, "")
		assert.Equal(t, "b", name)
	})
	t.Run("equal nodes share evenly, whatever their order", func(t *testing.T) {
		counts := map[string]int{}
		nodes := []*Candidate{node("a", 0), node("b", 0), node("c", 0)}
		for i := range 300 {
			d := d
			d.Addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 256)})
			name, _ := Choose(d, nodes, "")
			slices.Reverse(nodes)
			again, _ := Choose(d, nodes, "")
			require.Equal(t, name, again)
			counts[name]++
		}
		for name, n := range counts {
			assert.InDelta(t, 100, n, 40, "node %s", name)
		}
	})
	t.Run("a refusal counts nodes by what keeps them from it", func(t *testing.T) {
		cordoned, silent, elsewhere, excluded := node("a", 0), node("b", 0), node("c", 0), node("d", 0)
		cordoned.Cordoned = true
		silent.Node.Ready = lb.Unknown
		elsewhere.Subnets = []lb.Subnet{{Interface: "eth0", Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
		excluded.Labels = map[string]string{lb.LabelExcludeNode: "yes please"}
		_, refusal := Choose(d, []*Candidate{cordoned, silent, elsewhere, excluded}, "")
		require.NotNil(t, refusal)
		assert.Equal(t, lb.ReasonNoEligibleNode, refusal.Reason)
		assert.Equal(t, "no node for 192.0.2.7 (pool office): of 4 nodes, 1 cordoned, "+
			"1 excluded by label node.kubernetes.io/exclude-from-external-load-balancers, "+
			"1 not answering (condition Ready is Unknown), 1 without a subnet that holds 192.0.2.7", refusal.Message)
	})
	t.Run("a routed address goes to any node", func(t *testing.T) {
		d := d
		d.Addr, d.Routed = netip.MustParseAddr("198.51.100.1"), true
		name, refusal := Choose(d, []*Candidate{node("a", 0)}, "")
		assert.Nil(t, refusal)
		assert.Equal(t, "a", name)
	})
}
