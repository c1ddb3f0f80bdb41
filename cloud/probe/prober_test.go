package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	testclock "k8s.io/utils/clock/testing"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// wire is a network in virtual time: it moves the clock when somebody waits.
type wire struct {
	clock  *testclock.FakePassiveClock
	answer func(to netip.AddrPort) (Answer, time.Duration) // Silent: never
	asked  func(to netip.AddrPort)
	coming []coming
}

type coming struct {
	question
	answer Answer
	at     time.Time
}

func (w *wire) ask(now time.Time, to netip.AddrPort, q question) Answer {
	w.asked(to)
	answer, after := w.answer(to)
	if answer.alive() && after > 0 {
		w.coming = append(w.coming, coming{q, answer, now.Add(after)})
		return Silent
	}
	return answer
}

func (w *wire) wait(now time.Time, atMost time.Duration, heard func(question, Answer)) error {
	until := now.Add(atMost)
	for _, c := range w.coming {
		if c.at.Before(until) {
			until = c.at
		}
	}
	if until.After(now) {
		w.clock.SetTime(until)
	}
	rest := w.coming[:0]
	for _, c := range w.coming {
		switch {
		case c.at.Sub(c.asked) > patience:
		case c.at.After(w.clock.Now()):
			rest = append(rest, c)
		default:
			heard(c.question, c.answer)
		}
	}
	w.coming = rest
	return nil
}

func (*wire) close() error { return nil }

// ward is a Prober on a wire, with nodes n0, n1, ... at 10.0.0.0, 10.0.0.1, ... whose ports have answered before.
type ward struct {
	prober *Prober
	*wire
	began   time.Time
	targets []Target
	dead    map[netip.Addr]bool
	asks    map[netip.Addr][]time.Duration
	mu      sync.Mutex
	pulses  map[string]lb.Pulse
	took    []time.Duration
}

func newWard(nodes int) *ward {
	w := &ward{wire: &wire{}, began: time.Unix(1e9, 0), dead: map[netip.Addr]bool{}, asks: map[netip.Addr][]time.Duration{}, pulses: map[string]lb.Pulse{}}
	w.clock = testclock.NewFakePassiveClock(w.began)
	for i := range nodes {
		w.targets = append(w.targets, Target{
			Node:      Node{Name: fmt.Sprintf("n%d", i), UID: "1", Answered: true},
			Addresses: []netip.AddrPort{netip.AddrPortFrom(address(i), 10269)},
		})
	}
	w.answer = func(to netip.AddrPort) (Answer, time.Duration) {
		if w.dead[to.Addr()] {
			return Silent, 0
		}
		return Accepted, time.Millisecond
	}
	w.asked = func(to netip.AddrPort) { w.asks[to.Addr()] = append(w.asks[to.Addr()], w.clock.Since(w.began)) }
	w.prober = NewProber(defaults, func() []Target { return w.targets }, func(changes []Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, change := range changes {
			w.pulses[change.Node] = change.Pulse
		}
	}, func(took time.Duration) { w.took = append(w.took, took) })
	w.prober.clock = w.clock
	w.prober.open = func(context.Context) (network, error) { return w, nil }
	return w
}

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i / 256), byte(i)}) }

// start returns what runs the prober until a condition holds or a time has come, and says when that was.
func (w *ward) start() func(until time.Duration, condition func() bool) time.Duration {
	r := &run{Prober: w.prober, net: w, news: newReporter(w.prober.report)}
	r.at(w.began, r.round)
	return func(until time.Duration, condition func() bool) time.Duration {
		for w.clock.Since(w.began) < until && !condition() {
			if err := r.step(); err != nil {
				return -1
			}
		}
		return w.clock.Since(w.began)
	}
}

func never() bool { return false }

func (w *ward) pulse(name string) lb.Pulse {
	if node := w.prober.judge.nodes[name]; node != nil {
		return node.pulse
	}
	return lb.PulseNone
}

func (w *ward) lost(name string) func() bool {
	return func() bool { return w.pulse(name) == lb.PulseLost }
}

func TestADeadNodeIsNoticedInTime(t *testing.T) {
	for _, after := range []int{0, 1, 30, 70, 150, 299} {
		w := newWard(100)
		step := w.start()
		died := time.Duration(30_000+after) * time.Millisecond
		step(died, never)
		require.Empty(t, w.asks[address(200)])
		w.dead[address(7)] = true
		found := step(time.Minute, w.lost("n7")) - died
		assert.Greater(t, found, 950*time.Millisecond)
		assert.LessOrEqual(t, found, 1360*time.Millisecond, "the package's comment says so")
	}
}

func TestANodeIsAskedOnceAndASuspectMoreOften(t *testing.T) {
	w := newWard(3)
	second := netip.MustParseAddr("2001:db8::1")
	w.targets[1].Addresses = append(w.targets[1].Addresses, netip.AddrPortFrom(second, 10269))
	step := w.start()
	step(2990*time.Millisecond, never)
	assert.Len(t, w.asks[address(1)], 10)
	assert.Empty(t, w.asks[second], "the first address answers")
	w.dead[address(1)], w.dead[second] = true, true
	clear(w.asks)
	step(time.Minute, w.lost("n1"))
	assert.Len(t, w.asks[address(0)], 4, "another round began while the burst was under way")
	assert.Len(t, w.asks[address(1)], 1+5+5+5+1)
	assert.Len(t, w.asks[second], 5+5+5)
	clear(w.asks)
	step(2*time.Minute, never)
	assert.Len(t, w.asks[address(1)], len(w.asks[address(0)]), "who is lost is asked once")
}

func TestTheSecondAddressSavesTheNode(t *testing.T) {
	w := newWard(3)
	second := netip.MustParseAddr("2001:db8::1")
	w.targets[1].Addresses = append(w.targets[1].Addresses, netip.AddrPortFrom(second, 10269))
	w.dead[address(1)] = true
	step := w.start()
	assert.Equal(t, time.Minute, step(time.Minute, w.lost("n1")).Truncate(time.Second))
}

func TestAThousandConnectsAreSpread(t *testing.T) {
	w := newWard(1000)
	w.start()(290*time.Millisecond, never)
	at := map[time.Duration]int{}
	for _, asks := range w.asks {
		require.Len(t, asks, 1)
		at[asks[0].Truncate(volleyDistance)]++
		assert.Less(t, asks[0], 80*time.Millisecond)
	}
	for _, together := range at {
		assert.LessOrEqual(t, together, 70)
	}
	assert.Len(t, w.took, 1000)
	assert.Equal(t, time.Millisecond, w.took[0])
}

func TestErrorsOfOurOwnAreNotSilence(t *testing.T) {
	w := newWard(3)
	w.answer = func(to netip.AddrPort) (Answer, time.Duration) {
		if to.Addr() == address(1) {
			return Void, 0
		}
		return Accepted, time.Millisecond
	}
	step := w.start()
	step(10*time.Second, w.lost("n1"))
	assert.Zero(t, w.prober.Stats())
	assert.Equal(t, lb.PulseNone, w.pulse("n1"))

	t.Run("nor do they take an answer back", func(t *testing.T) {
		w := newWard(3)
		script := []Answer{Silent, Accepted, Void, Void, Void, Void}
		w.answer = func(to netip.AddrPort) (Answer, time.Duration) {
			if to.Addr() != address(1) {
				return Accepted, time.Millisecond
			}
			answer := script[0]
			script = script[1:]
			return answer, 0
		}
		step := w.start()
		step(590*time.Millisecond, func() bool { return w.pulse("n1") != lb.PulseNone })
		assert.Equal(t, lb.PulseAnswering, w.pulse("n1"))
	})

	t.Run("nor is an address that this machine cannot reach", func(t *testing.T) {
		second := netip.MustParseAddr("2001:db8::1")
		w := newWard(3)
		w.targets[1].Addresses = append(w.targets[1].Addresses, netip.AddrPortFrom(second, 10269))
		w.answer = func(to netip.AddrPort) (Answer, time.Duration) {
			switch to.Addr() {
			case second:
				return Void, 0
			case address(1):
				return Silent, 0
			}
			return Accepted, time.Millisecond
		}
		assert.Less(t, w.start()(10*time.Second, w.lost("n1")), 2*time.Second, "the other one decides")
	})
}

// A process that is stopped hears nothing: the answers to what it asked before are lost with the time.
func TestAStoppedProcessConcludesNothing(t *testing.T) {
	w := newWard(10)
	step := w.start()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 50 {
		step(w.clock.Since(w.began)+time.Duration(random.IntN(700))*time.Millisecond, never)
		stop := time.Duration(random.IntN(5000)) * time.Millisecond
		if i%2 == 0 {
			w.coming = nil
		}
		w.clock.SetTime(w.clock.Now().Add(stop))
		require.Zero(t, w.prober.Stats().Doubts)
		for _, target := range w.targets {
			require.NotEqual(t, lb.PulseLost, w.pulse(target.Name))
		}
	}
}

// A round that was sent slowly waits for its last answers.
func TestSlowSendingIsNotSilence(t *testing.T) {
	w := newWard(3)
	w.answer = func(to netip.AddrPort) (Answer, time.Duration) {
		switch to.Addr() {
		case address(0):
			w.clock.SetTime(w.clock.Now().Add(130 * time.Millisecond))
		case address(1):
			return Accepted, 40 * time.Millisecond
		}
		return Accepted, time.Millisecond
	}
	w.prober.Configure(Options{Interval: defaults.Interval, Threshold: 1})
	w.start()(2990*time.Millisecond, never)
	assert.Len(t, w.asks[address(1)], 10, "no burst was needed")
}

// Answers that take longer than a round are late, and prove as much.
func TestASlowNetworkLosesNoNode(t *testing.T) {
	w := newWard(3)
	w.answer = func(netip.AddrPort) (Answer, time.Duration) { return Accepted, 400 * time.Millisecond }
	step := w.start()
	step(time.Minute, w.lost("n1"))
	assert.Equal(t, lb.PulseAnswering, w.pulse("n1"))
}

// A late answer may come after its node was replaced: it says nothing about the new one.
func TestAnAnswerBelongsToTheNodeThatWasAsked(t *testing.T) {
	w := newWard(3)
	w.answer = func(netip.AddrPort) (Answer, time.Duration) { return Accepted, 400 * time.Millisecond }
	step := w.start()
	step(time.Second, never)
	require.Equal(t, lb.PulseAnswering, w.pulse("n1"))
	w.targets[1].UID, w.targets[1].Answered = "2", false
	step(1590*time.Millisecond, func() bool { return w.pulse("n1") != lb.PulseNone && w.prober.judge.nodes["n1"].UID == "2" })
	assert.Equal(t, lb.PulseNone, w.pulse("n1"), "asked from 1.2 s on, answered from 1.6 s on")
	step(1700*time.Millisecond, never)
	assert.Equal(t, lb.PulseAnswering, w.pulse("n1"))
}

func TestConfigureAppliesFromTheNextRoundOn(t *testing.T) {
	w := newWard(3)
	step := w.start()
	step(10*time.Millisecond, never)
	w.prober.Configure(Options{Interval: 100 * time.Millisecond, Threshold: 1})
	step(290*time.Millisecond, never)
	assert.Len(t, w.asks[address(1)], 1)
	step(800*time.Millisecond, never)
	assert.Len(t, w.asks[address(1)], 6)
}

func TestAFalseLossIsPassedOn(t *testing.T) {
	w := newWard(3)
	w.dead[address(1)] = true
	step := w.start()
	step(time.Minute, w.lost("n1"))
	w.prober.FalseLoss("n1")
	assert.Equal(t, 1, w.prober.Stats().FalseLosses)
	w.dead[address(1)] = false
	step(time.Minute, func() bool { return !w.lost("n1")() })
	w.dead[address(1)] = true
	from := w.clock.Since(w.began)
	assert.Greater(t, step(time.Minute, w.lost("n1"))-from, 1800*time.Millisecond, "six rounds")
}

func TestReportsComeInOrderAndHoldUpNothing(t *testing.T) {
	held, done := make(chan struct{}), []Change{}
	r := newReporter(func(changes []Change) {
		<-held
		done = append(done, changes...)
	})
	var want []Change
	for i := range 100 {
		change := Change{Node: fmt.Sprint(i)}
		want = append(want, change)
		r.add([]Change{change}) // it would hang here
	}
	r.add(nil)
	close(held)
	r.close()
	assert.Equal(t, want, done)
}
