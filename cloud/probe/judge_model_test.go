package probe

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// witness is what a test knows of a node.
type witness struct {
	Node
	silences int // in a row, in rounds that were not void
	pulse    lb.Pulse
	told     bool
	asked    bool // a burst is under way
}

// TestJudgeKeepsItsRules feeds two judges with the same random schedule, in which nobody is lost for so long that it
// is left out of the sum.
func TestJudgeKeepsItsRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		options := Options{Interval: 300 * time.Millisecond, Threshold: rapid.IntRange(1, 4).Draw(t, "threshold")}
		now := time.Unix(1e9, 0)
		nodes := make([]*witness, rapid.IntRange(1, 7).Draw(t, "nodes"))
		for i := range nodes {
			nodes[i] = &witness{Node: Node{Name: fmt.Sprintf("n%d", i), UID: "0", Answered: rapid.Bool().Draw(t, "answered")}}
		}
		judge, twin := NewJudge(options), NewJudge(options)
		set := func() {
			var list []Node
			for _, n := range nodes {
				list = append(list, n.Node)
			}
			judge.Set(list)
			slices.Reverse(list)
			twin.Set(list)
		}
		find := func(name string) *witness {
			return nodes[slices.IndexFunc(nodes, func(n *witness) bool { return n.Name == name })]
		}
		most := func() bool {
			silent, all := 0, 0
			for _, n := range nodes {
				if n.Answered && !n.Down {
					all++
					if n.silences >= options.Threshold {
						silent++
					}
				}
			}
			return 2*silent > all
		}
		// hear notes answers, and returns the nodes whose first one is among them.
		hear := func(answers map[string]Answer) map[string]bool {
			firsts := map[string]bool{}
			for name, answer := range answers {
				n := find(name)
				if answer == Silent {
					n.silences++
				}
				if answer == Accepted || answer == Refused {
					n.silences, n.asked = 0, false
				}
				if answer == Accepted {
					firsts[name] = !n.Answered
					n.Answered = true
				}
			}
			return firsts
		}
		check := func(changes []Change, answers map[string]Answer, firsts map[string]bool) {
			require.True(t, slices.IsSortedFunc(changes, func(a, b Change) int {
				if a.Node < b.Node {
					return -1
				}
				return 1
			}), "in the order of names, each once")
			for _, change := range changes {
				n := find(change.Node)
				require.True(t, n.pulse != change.Pulse || !n.told, "a change, or the first word")
				n.pulse, n.told = change.Pulse, true
				require.Equal(t, firsts[change.Node], change.First, change.Node)
				switch change.Pulse {
				case lb.PulseAnswering:
					require.Equal(t, Accepted, answers[change.Node])
				case lb.PulseRefusing:
					require.Equal(t, Refused, answers[change.Node])
				case lb.PulseNone:
					require.True(t, n.Down || most(), "%s fell silent and was neither down nor in doubt", n.Name)
				case lb.PulseLost:
					require.True(t, n.Answered)
					require.False(t, n.Down)
					require.GreaterOrEqual(t, n.silences, options.Threshold)
					require.Equal(t, Silent, answers[change.Node], "the burst")
					require.False(t, most(), "lost in doubt")
				}
			}
			for name, answer := range answers {
				switch answer {
				case Accepted:
					require.Equal(t, lb.PulseAnswering, find(name).pulse)
				case Refused:
					require.Equal(t, find(name).Answered, find(name).pulse == lb.PulseRefusing)
				}
			}
		}
		draw := func(names []string) map[string]Answer {
			answers := map[string]Answer{}
			for _, name := range names {
				answers[name] = rapid.SampledFrom([]Answer{Silent, Silent, Silent, Silent, Accepted, Refused, Void}).Draw(t, name)
			}
			return answers
		}
		var names, confirm []string
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		set()
		round := func(answers map[string]Answer, void bool) {
			began := now.Add(options.Interval)
			if void {
				began = began.Add(options.Interval)
			}
			now = began
			next, changes := judge.Round(began, began.Add(options.Interval/2), answers)
			twinNext, twinChanges := twin.Round(began, began.Add(options.Interval/2), answers)
			require.Equal(t, next, twinNext)
			require.Equal(t, changes, twinChanges)
			if void {
				require.Empty(t, next)
				require.Empty(t, changes)
				return
			}
			firsts := hear(answers)
			check(changes, answers, firsts)
			require.Equal(t, most(), judge.Stats(now).Doubting)
			for _, n := range nodes {
				n.asked = n.asked && !most() && !n.Down
			}
			for _, name := range next {
				n := find(name)
				require.GreaterOrEqual(t, n.silences, options.Threshold)
				require.False(t, n.asked, "one burst at a time")
				n.asked = true
			}
			confirm = append(confirm, next...)
			slices.Sort(confirm)
			confirm = slices.Compact(confirm)
		}
		burst := func(answers map[string]Answer, void bool) {
			length := BurstLength
			if void {
				length += time.Second
			}
			began := now.Add(options.Interval / 2)
			changes := judge.Confirmed(began, began.Add(length), answers)
			require.Equal(t, changes, twin.Confirmed(began, began.Add(length), answers))
			alive := map[string]Answer{}
			for name, answer := range answers {
				if answer != Silent {
					alive[name] = answer
				}
			}
			firsts := hear(alive)
			for _, change := range changes {
				require.False(t, void && change.Pulse == lb.PulseLost, "a void burst")
			}
			check(changes, answers, firsts)
			for _, name := range confirm {
				find(name).asked = false
			}
			confirm = nil
		}
		round(nil, false) // a first round cannot be late
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			default:
				round(draw(names), false)
			case 0:
				round(draw(names), true)
			case 1, 2, 3:
				burst(draw(confirm), rapid.IntRange(0, 4).Draw(t, "slow") == 0)
			case 4:
				name := rapid.SampledFrom(names).Draw(t, "late")
				answers := map[string]Answer{name: rapid.SampledFrom([]Answer{Accepted, Refused}).Draw(t, "answer")}
				changes := judge.Heard(name, answers[name])
				require.Equal(t, changes, twin.Heard(name, answers[name]))
				check(changes, answers, hear(answers))
			case 5:
				n := find(rapid.SampledFrom(names).Draw(t, "node"))
				n.Down = !n.Down
				set()
			case 6:
				n := find(rapid.SampledFrom(names).Draw(t, "node"))
				*n = witness{Node: Node{Name: n.Name, UID: n.UID + "+"}}
				confirm = slices.DeleteFunc(confirm, func(name string) bool { return name == n.Name })
				set()
			}
		}

		// In the end one node stays silent, and everybody else answers.
		answers := map[string]Answer{}
		for _, name := range names {
			answers[name] = Accepted
		}
		judged := 0
		for _, n := range nodes {
			n.Down = false
		}
		set()
		burst(draw(confirm), true)
		round(answers, false)
		for _, n := range nodes {
			if n.Answered {
				judged++
			}
		}
		answers["n0"] = Silent
		for range options.Threshold {
			round(answers, false)
		}
		burst(map[string]Answer{"n0": Silent}, false)
		assert.Equal(t, judged >= 2, nodes[0].pulse == lb.PulseLost)
	})
}
