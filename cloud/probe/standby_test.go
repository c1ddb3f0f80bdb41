package probe

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// standbys are nodes n0, n1, ... whose ports have answered before, and a judge that stands by and has asked them once.
func standbys(size int) *court {
	c := cluster(size)
	c.Judge = NewJudge(defaults)
	c.StandBy()
	c.Set(c.nodes)
	c.rounds(1)
	return c
}

// lead ends standing by, right after a round, and forgets what was said before: nobody heard it.
func (c *court) lead() (confirm []string) {
	clear(c.pulses)
	c.firsts = nil
	confirm, changes := c.Lead(c.now.Add(defaults.Interval / 2))
	c.note(changes)
	return confirm
}

func TestALeaderKnowsWhoWasSilentBefore(t *testing.T) {
	for _, silent := range []int{1, 2, 3, 4, 100} {
		t.Run(fmt.Sprintf("for %d rounds", silent), func(t *testing.T) {
			c := standbys(4)
			c.mute["n2"] = true
			c.rounds(silent)
			confirm := c.lead()
			for range max(0, defaults.Threshold-silent) {
				assert.Empty(t, confirm)
				assert.Equal(t, []string{"n2"}, c.Suspects(c.now))
				confirm = c.round(0, 0)
			}
			assert.Equal(t, []string{"n2"}, confirm)
			assert.Empty(t, c.lost(), "what was found before it led moves nothing alone")
			c.burst(confirm, 0)
			assert.Equal(t, []string{"n2"}, c.lost())
			c.rounds(1)
			assert.Equal(t, lb.PulseAnswering, c.pulses["n1"])
		})
	}

	t.Run("and believes an answer", func(t *testing.T) {
		c := standbys(4)
		c.mute["n2"] = true
		c.rounds(100)
		confirm := c.lead()
		delete(c.mute, "n2")
		c.burst(confirm, 0)
		c.rounds(10)
		assert.Empty(t, c.lost())
		assert.Equal(t, lb.PulseAnswering, c.pulses["n2"])
	})
}

// What is not sure to be so now, and without a break, is found out anew: in three rounds.
func TestALeaderBelievesNothingOld(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(c *court)
	}{
		{"its process stood still", func(c *court) { c.round(time.Minute, 0) }},
		{"its process stood still while it asked", func(c *court) { c.round(0, time.Minute) }},
		{"it asked in other intervals", func(c *court) {
			c.Configure(Options{Interval: defaults.Interval, Threshold: 2})
			c.Configure(defaults)
		}},
		{"it asked at other addresses", func(c *court) { c.Elsewhere("n2") }},
		{"it asked at another port", func(c *court) {
			c.nodes[2].Port = 10270
			c.Set(c.nodes)
		}},
		{"it asked another node of this name", func(c *court) {
			c.nodes[2].UID = "2"
			c.Set(c.nodes)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := standbys(4)
			c.mute["n2"] = true
			c.rounds(100)
			tt.then(c)
			require.Empty(t, c.lead())
			assert.Empty(t, c.round(0, 0))
			assert.Empty(t, c.round(0, 0))
			c.rounds(2)
			assert.Equal(t, []string{"n2"}, c.lost())
		})
	}
}

// One that saw the nodes fall silent over the hours may be the one that is cut off.
func TestALeaderDoubtsAllThatWasSilent(t *testing.T) {
	c := standbys(10)
	for i := range 6 {
		c.silence(i, i+1)
		c.rounds(200)
	}
	require.Zero(t, c.Stats(c.now).Doubts, "one by one")
	require.Empty(t, c.lead())
	assert.Equal(t, Stats{Silent: 6, Doubting: true, Doubts: 1}, c.Stats(c.now))
	assert.Equal(t, lb.PulseNone, c.pulses["n3"], "the Ready condition alone decides")
	c.rounds(10)
	assert.Empty(t, c.lost())

	delete(c.mute, "n5")
	c.rounds(2)
	assert.Len(t, c.lost(), 5, "half is silent")
}

// A first answer was recorded by nobody while nobody led.
func TestALeaderRecordsWhatAnswered(t *testing.T) {
	c := standbys(3)
	c.nodes = append(c.nodes, Node{Name: "new", UID: "1"})
	c.Set(c.nodes)
	c.rounds(2)
	require.Contains(t, c.firsts, "new")
	require.Empty(t, c.lead())
	c.rounds(3)
	assert.ElementsMatch(t, []string{"n0", "n1", "n2", "new"}, c.firsts, "each once")
	assert.Equal(t, lb.PulseAnswering, c.pulses["new"])
}

// standBy has the prober of a ward stand by until n1, which dies, has been silent for a while.
func standBy(t *testing.T, options Options) (w *ward, step func(time.Duration, func() bool) time.Duration) {
	w = newWard(4)
	w.prober.Configure(options)
	w.prober.StandBy()
	step = w.start()
	step(10*time.Second, never)
	w.dead[address(1)] = true
	step(20*time.Second, never)
	require.Equal(t, lb.PulseLost, w.pulse("n1"))
	return w, step
}

func (w *ward) reported() map[string]lb.Pulse {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.pulses)
}

func TestAStandbyReportsWhenItLeads(t *testing.T) {
	for _, after := range []int{0, 1, 70, 149, 150, 151, 299} {
		w, step := standBy(t, defaults)
		assert.Empty(t, w.reported())
		led := step(20*time.Second+time.Duration(after)*time.Millisecond, never)
		sure := make(chan map[string]lb.Pulse, 1)
		w.prober.Lead(func() { sure <- w.reported() })
		step(led+310*time.Millisecond, func() bool { return !w.prober.standing })
		assert.LessOrEqual(t, step(time.Minute, w.lost("n1"))-led, 610*time.Millisecond, "the rest of a round, and a burst")
		select {
		case pulses := <-sure:
			assert.Equal(t, lb.PulseLost, pulses["n1"], "it is reported by then")
		case <-time.After(30 * time.Second):
			t.Fatal("it is not sure")
		}
	}
}

func TestAStandbyIsSureAtOnceWhenAllAnswer(t *testing.T) {
	w := newWard(3)
	w.prober.StandBy()
	step := w.start()
	step(time.Second, never)
	sure := make(chan struct{})
	w.prober.Lead(func() { close(sure) })
	step(1300*time.Millisecond, never)
	select {
	case <-sure:
	case <-time.After(30 * time.Second):
		t.Fatal("it is not sure")
	}

	led := false
	newWard(1).prober.Lead(func() { led = true })
	assert.True(t, led, "one that never stood by has nothing to say")
}

// What a standby saw of the cluster may be old. The nodes that it is told of when it leads count.
func TestALeaderAsksTheNodesThatThereAre(t *testing.T) {
	second := netip.MustParseAddr("10.9.9.9")
	for _, tt := range []struct {
		name string
		is   func(*Target)
	}{
		{"at another address", func(t *Target) { t.Addresses = []netip.AddrPort{netip.AddrPortFrom(second, 10269)} }},
		{"at one more", func(t *Target) { t.Addresses = append(t.Addresses, netip.AddrPortFrom(second, 10269)) }},
		{"another one of the name", func(t *Target) {
			t.UID, t.Addresses = "2", []netip.AddrPort{netip.AddrPortFrom(second, 10269)}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, interval := range []time.Duration{defaults.Interval, time.Second} { // a burst ends in the next round, or before
				w, step := standBy(t, Options{Interval: interval, Threshold: 3})
				tt.is(&w.targets[1])
				w.prober.Lead(func() {})
				step(30*time.Second, never)
				assert.NotEqual(t, lb.PulseLost, w.reported()["n1"])
				assert.NotEqual(t, lb.PulseLost, w.pulse("n1"))
				assert.NotEmpty(t, w.asks[second])
			}
		})
	}
}

func TestAStandbyThatStoodStillMovesNothing(t *testing.T) {
	for after := range 60 {
		w, step := standBy(t, defaults)
		at := 20*time.Second + time.Duration(after*10)*time.Millisecond
		step(at, never)
		if after%2 == 0 {
			w.prober.Lead(func() {})
		}
		w.coming = nil
		w.clock.SetTime(w.clock.Now().Add(time.Hour))
		w.dead[address(1)] = false
		w.prober.Lead(func() {})
		step(at+time.Hour+10*time.Second, never)
		if after%2 == 0 && w.reported()["n1"] == lb.PulseLost {
			continue // it was lost before the time stood still
		}
		assert.NotEqual(t, lb.PulseLost, w.reported()["n1"], after)
		assert.NotEqual(t, lb.PulseLost, w.pulse("n1"), after)
	}
}
