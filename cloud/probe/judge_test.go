package probe

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

var defaults = Options{Interval: 300 * time.Millisecond, Threshold: 3}

// court asks nodes as Prober does, in no time at all, and keeps what Judge said.
type court struct {
	*Judge
	now    time.Time
	slow   time.Duration // the last round was
	nodes  []Node
	mute   map[string]bool // they answer nothing, to rounds and bursts
	pulses map[string]lb.Pulse
	firsts []string
}

func newCourt(nodes ...Node) *court {
	c := &court{Judge: NewJudge(defaults), now: time.Unix(1e9, 0), nodes: nodes, mute: map[string]bool{}, pulses: map[string]lb.Pulse{}}
	c.Set(nodes)
	return c
}

// cluster of nodes n0, n1, ... whose ports have answered before.
func cluster(size int) *court {
	nodes := make([]Node, size)
	for i := range nodes {
		nodes[i] = Node{Name: fmt.Sprintf("n%d", i), UID: "1", Answered: true}
	}
	c := newCourt(nodes...)
	c.rounds(1)
	return c
}

func (c *court) note(changes []Change) {
	for _, change := range changes {
		c.pulses[change.Node] = change.Pulse
		if change.First {
			c.firsts = append(c.firsts, change.Node)
		}
	}
}

func (c *court) silence(from, to int) {
	for i := from; i < to; i++ {
		c.mute[fmt.Sprintf("n%d", i)] = true
	}
}

func (c *court) ask(names []string) map[string]Answer {
	answers := map[string]Answer{}
	for _, name := range names {
		answers[name] = Accepted
		if c.mute[name] {
			answers[name] = Silent
		}
	}
	return answers
}

// round asks every node, and judges after the delay and the time that a round takes.
func (c *court) round(late, slow time.Duration) (confirm []string) {
	c.now, c.slow = c.now.Add(defaults.Interval+late), slow
	confirm, changes := c.Round(c.now, c.now.Add(defaults.Interval/2+slow), c.ask(c.names))
	c.note(changes)
	return confirm
}

func (c *court) burst(names []string, slow time.Duration) {
	began := c.now.Add(defaults.Interval/2 + c.slow)
	c.note(c.Confirmed(began, began.Add(BurstLength+slow), c.ask(names)))
}

// rounds on time, with the bursts that are asked for: each ends with the next round, after it.
func (c *court) rounds(n int) {
	var confirm []string
	for range n {
		next := c.round(0, 0)
		c.now = c.now.Add(-defaults.Interval)
		c.burst(confirm, 0)
		c.now = c.now.Add(defaults.Interval)
		confirm = next
	}
	c.burst(confirm, 0)
}

func (c *court) lost() []string {
	var names []string
	for name, pulse := range c.pulses {
		if pulse == lb.PulseLost {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestANodeIsLostAfterSilentRoundsAndASilentBurst(t *testing.T) {
	c := cluster(4)
	assert.Equal(t, lb.PulseAnswering, c.pulses["n2"])
	c.mute["n2"] = true
	assert.Empty(t, c.round(0, 0))
	assert.Equal(t, []string{"n2"}, c.Suspects(c.now))
	assert.Empty(t, c.round(0, 0))
	assert.Equal(t, []string{"n2"}, c.round(0, 0))
	assert.Empty(t, c.Suspects(c.now), "the burst is under way")
	assert.Empty(t, c.lost())
	c.burst([]string{"n2"}, 0)
	assert.Equal(t, []string{"n2"}, c.lost())
	assert.Equal(t, Stats{Silent: 1}, c.Stats(c.now))
	assert.Empty(t, c.round(0, 0), "it is not asked for again")
}

func TestAnAnswerProvesThatTheHostLives(t *testing.T) {
	for answer, want := range map[Answer]lb.Pulse{Refused: lb.PulseRefusing, Accepted: lb.PulseAnswering} {
		for name, say := range map[string]func(c *court){
			"in a round": func(c *court) {
				c.rounds(2)
				c.now = c.now.Add(defaults.Interval)
				_, changes := c.Round(c.now, c.now, map[string]Answer{"n1": answer})
				c.note(changes)
			},
			"late": func(c *court) {
				c.rounds(2)
				c.note(c.Heard("n1", answer))
			},
			"late, while the burst is under way": func(c *court) {
				c.round(0, 0)
				c.round(0, 0)
				confirm := c.round(0, 0)
				c.note(c.Heard("n1", answer))
				c.burst(confirm, 0)
			},
			"in the burst": func(c *court) {
				c.round(0, 0)
				c.round(0, 0)
				c.round(0, 0)
				c.note(c.Confirmed(c.now, c.now, map[string]Answer{"n1": answer}))
			},
			"after it was lost": func(c *court) {
				c.rounds(4)
				require.Equal(t, []string{"n1"}, c.lost())
				c.note(c.Heard("n1", answer))
			},
		} {
			t.Run(answer.String()+" "+name, func(t *testing.T) {
				c := cluster(4)
				c.mute["n1"] = true
				say(c)
				assert.Equal(t, want, c.pulses["n1"])
				assert.Zero(t, c.Stats(c.now).Silent)
				c.rounds(2)
				assert.Empty(t, c.lost(), "its silence begins anew")
				c.rounds(2)
				assert.Equal(t, []string{"n1"}, c.lost())
			})
		}
	}
}

func TestAPortThatNeverAnsweredIsNotJudged(t *testing.T) {
	c := newCourt(Node{Name: "a", UID: "1"}, Node{Name: "b", UID: "1", Answered: true}, Node{Name: "c", UID: "1", Answered: true})
	c.mute["a"] = true
	c.rounds(20)
	assert.Equal(t, map[string]lb.Pulse{"b": lb.PulseAnswering, "c": lb.PulseAnswering}, c.pulses)
	assert.Empty(t, c.Suspects(c.now))
	assert.Zero(t, c.Stats(c.now).Silent)

	delete(c.mute, "a")
	c.rounds(2)
	c.Set(c.nodes) // its answer is not recorded yet
	c.rounds(2)
	assert.Equal(t, []string{"a"}, c.firsts, "once")
	assert.Equal(t, lb.PulseAnswering, c.pulses["a"])
	c.mute["a"] = true
	c.rounds(4)
	assert.Equal(t, []string{"a"}, c.lost())
}

// A firewall may refuse connections in the name of a host: that its agent does not run is said of none that was heard.
func TestAPortThatHasOnlyRefusedIsNotJudged(t *testing.T) {
	c := newCourt(Node{Name: "a", UID: "1"}, Node{Name: "b", UID: "1", Answered: true}, Node{Name: "c", UID: "1", Answered: true})
	c.mute["a"] = true
	for range 10 {
		c.note(c.Heard("a", Refused))
		c.rounds(1)
	}
	c.rounds(10)
	assert.NotContains(t, c.pulses, "a")
	assert.Empty(t, c.firsts)

	delete(c.mute, "a")
	c.rounds(1)
	assert.Equal(t, []string{"a"}, c.firsts)
	c.note(c.Heard("a", Refused))
	assert.Equal(t, lb.PulseRefusing, c.pulses["a"])
}

// An agent that comes back on a port that a firewall closes is not lost, and nothing is said of it any more that the old
// port has said.
func TestAnAgentThatMovesToAnotherPortIsNotJudgedBeforeItAnswers(t *testing.T) {
	c := cluster(4)
	for i := range c.nodes {
		c.nodes[i].Port = 10269
	}
	c.Set(c.nodes)
	c.rounds(1)
	c.note(c.Heard("n1", Refused))
	require.Equal(t, lb.PulseRefusing, c.pulses["n1"])
	c.nodes[1].Port, c.nodes[1].Answered = 10270, false
	c.Set(c.nodes)
	c.mute["n1"] = true
	c.rounds(20)
	assert.Empty(t, c.lost())
	assert.Equal(t, lb.PulseNone, c.pulses["n1"])
	assert.Zero(t, c.Stats(c.now).Silent)

	delete(c.mute, "n1")
	c.rounds(1)
	assert.Equal(t, []string{"n1"}, c.firsts[len(c.firsts)-1:])
	c.mute["n1"] = true
	c.rounds(4)
	assert.Equal(t, []string{"n1"}, c.lost())
}

func TestANewLeaderNoticesWhatDiedBefore(t *testing.T) {
	c := newCourt(Node{Name: "a", Answered: true}, Node{Name: "b", Answered: true})
	c.mute["b"] = true
	c.rounds(4)
	assert.Equal(t, []string{"b"}, c.lost())
}

func TestAVoidRoundProvesNothing(t *testing.T) {
	const slightly, much = 140 * time.Millisecond, 160 * time.Millisecond
	for name, tt := range map[string]struct {
		late, slow time.Duration
		lost       bool
	}{
		"on time":             {0, 0, true},
		"slightly late":       {slightly, 0, true},
		"late":                {much, 0, false},
		"a second late":       {time.Second, 0, false},
		"collected in time":   {0, slightly, true},
		"collected late":      {0, much, false},
		"stopped for 5 s":     {5 * time.Second, 0, false},
		"stopped in a rounds": {0, 5 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(4)
			c.mute["n1"] = true
			for range 10 {
				c.burst(c.round(tt.late, tt.slow), 0)
			}
			assert.Equal(t, tt.lost, c.pulses["n1"] == lb.PulseLost)
		})
	}

	t.Run("does not end a silence", func(t *testing.T) {
		c := cluster(4)
		c.mute["n1"] = true
		c.rounds(2)
		delete(c.mute, "n1")
		c.round(time.Second, 0)
		c.mute["n1"] = true
		c.rounds(1)
		assert.Equal(t, []string{"n1"}, c.lost())
	})

	t.Run("burst", func(t *testing.T) {
		c := cluster(4)
		c.mute["n1"] = true
		c.rounds(2)
		confirm := c.round(0, 0)
		c.burst(confirm, burstDelay+1)
		assert.Empty(t, c.lost(), "we were stopped while it ran")
		confirm = c.round(0, 0)
		assert.Equal(t, []string{"n1"}, confirm, "another one")
		c.note(c.Confirmed(c.now.Add(time.Second), c.now.Add(time.Second), map[string]Answer{"n1": Void}))
		assert.Empty(t, c.lost(), "we had no socket for it")
		c.burst(c.round(0, 0), burstDelay)
		assert.Equal(t, []string{"n1"}, c.lost())
	})

	t.Run("a node that could not be asked", func(t *testing.T) {
		c := cluster(4)
		for range 10 {
			c.now = c.now.Add(defaults.Interval)
			confirm, changes := c.Round(c.now, c.now, map[string]Answer{"n1": Void})
			assert.Empty(t, confirm)
			assert.Empty(t, changes)
		}
	})
}

func TestAFalseLossMakesCareful(t *testing.T) {
	c := cluster(4)
	c.mute["n1"] = true
	c.rounds(4)
	require.Equal(t, []string{"n1"}, c.lost())
	c.FalseLoss("n1", c.now)
	assert.Equal(t, 1, c.Stats(c.now).FalseLosses)
	assert.Equal(t, lb.PulseLost, c.pulses["n1"], "until its port answers")
	until := c.now.Add(10 * time.Minute)

	delete(c.mute, "n1")
	c.rounds(1)
	c.mute["n1"] = true
	c.rounds(5)
	assert.Empty(t, c.lost())
	c.rounds(1)
	assert.Equal(t, []string{"n1"}, c.lost(), "twice as many rounds")

	delete(c.mute, "n1")
	for c.now.Before(until) {
		c.rounds(1)
	}
	c.mute["n1"] = true
	c.rounds(2)
	assert.Empty(t, c.lost())
	c.rounds(1)
	assert.Equal(t, []string{"n1"}, c.lost(), "as before")
}

func TestANodeThatIsRecreatedOrRemovedIsForgotten(t *testing.T) {
	for name, then := range map[string]func(c *court){
		"recreated": func(c *court) {
			c.nodes[1] = Node{Name: "n1", UID: "2"}
			c.Set(c.nodes)
		},
		"removed and back": func(c *court) {
			c.Set(c.nodes[2:])
			c.nodes[1].Answered = false
			c.Set(c.nodes)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := cluster(4)
			c.mute["n1"] = true
			c.rounds(4)
			c.FalseLoss("n1", c.now)
			c.rounds(2)
			then(c)
			c.rounds(10)
			assert.Zero(t, c.Stats(c.now).Silent, "its port has not answered yet")
			delete(c.mute, "n1")
			c.rounds(1)
			assert.Equal(t, []string{"n1"}, c.firsts)
			c.mute["n1"] = true
			c.rounds(3)
			assert.Equal(t, []string{"n1"}, c.lost(), "its threshold is not doubled")
		})
	}
	t.Run("while the burst is under way", func(t *testing.T) {
		c := cluster(4)
		c.mute["n1"] = true
		c.rounds(2)
		confirm := c.round(0, 0)
		c.Set(c.nodes[2:])
		c.burst(confirm, 0)
		assert.Empty(t, c.lost())
	})
}

// A node answers while a burst is under way, and is silent for so long again that another one begins.
func TestABurstThatAnAnswerOvertookProvesNothing(t *testing.T) {
	c := cluster(4)
	c.Configure(Options{Interval: defaults.Interval, Threshold: 1})
	c.mute["n1"] = true
	first := c.round(0, 0)
	began := c.now.Add(defaults.Interval / 2)
	c.note(c.Heard("n1", Accepted))
	second := c.round(0, 0)
	c.note(c.Confirmed(began, began.Add(BurstLength), c.ask(first)))
	assert.Empty(t, c.lost())
	c.burst(second, 0)
	assert.Equal(t, []string{"n1"}, c.lost())
}

func TestConfigureChangesTheThreshold(t *testing.T) {
	c := cluster(4)
	c.Configure(Options{Interval: defaults.Interval, Threshold: 1})
	c.mute["n1"] = true
	c.rounds(1)
	assert.Equal(t, []string{"n1"}, c.lost())
}

// One hundred nodes are asked for five minutes while packets are lost, and are not called lost; the arithmetic is in
// the package's comment. Then one dies, and is noticed all the same.
func TestLossOfPacketsIsNotLossOfNodes(t *testing.T) {
	for name, p := range map[string]float64{"20 percent one way": 0.2, "20 percent both ways": 0.36} {
		t.Run(name, func(t *testing.T) {
			c := cluster(100)
			random := rand.New(rand.NewPCG(1, 2))
			dead := ""
			connect := func(name string, times int) Answer {
				for range times {
					if name != dead && random.Float64() >= p {
						return Accepted
					}
				}
				return Silent
			}
			opened := 0
			var confirm []string
			round := func() {
				suspects := c.Suspects(c.now)
				answers := map[string]Answer{}
				for _, name := range c.names {
					times := 1
					if slices.Contains(suspects, name) {
						times = Asks
					}
					opened += times
					answers[name] = connect(name, times)
				}
				c.now = c.now.Add(defaults.Interval)
				burst := map[string]Answer{}
				for _, name := range confirm {
					burst[name] = connect(name, Asks)
				}
				next, changes := c.Round(c.now, c.now.Add(defaults.Interval/2), answers)
				c.note(changes)
				c.note(c.Confirmed(c.now.Add(-defaults.Interval/2), c.now.Add(defaults.Interval/2), burst))
				confirm = next
			}
			for range 1000 {
				round()
				require.Empty(t, c.lost())
			}
			assert.Less(t, opened, 250_000, "connections")
			dead = "n7"
			for range 4 {
				round()
			}
			assert.Equal(t, []string{"n7"}, c.lost())
		})
	}
}
