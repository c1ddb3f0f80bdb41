package updater_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/updater"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

func TestURLThatIsDownIsAskedRarelyAndToldEverythingWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(s *site) { s.config.URLs = []string{"http://a/lb", "http://b/lb"} })
		s.b.Break(updatertest.Fault{Hang: true})
		for i := range 100 {
			s.set(8100+i, "192.0.2.3:30001")
		}
		pass(time.Second)
		for i := range 100 {
			assert.Equal(t, updater.PhaseToldSome, s.w.State(key(8100+i)).Phase)
		}
		pass(10 * time.Minute)
		state := s.w.State(key(8150))
		assert.EqualError(t, state.Lagging[0].Err, "call the updater at http://b/lb: no answer in 10s: is the updater running, and reachable from the controller?")
		assert.Equal(t, 100, s.w.Health()[1].Pending)
		assert.Less(t, len(s.b.Calls()), 30, "calls to an updater that hangs, in ten minutes")
		for i := range 100 {
			assert.LessOrEqual(t, s.heard(key(8100+i)), 3)
		}
		s.b.Break(updatertest.Fault{})
		pass(45 * time.Second)
		for i := range 100 {
			assert.Equal(t, updater.PhaseTold, s.w.State(key(8100+i)).Phase)
		}
	})
}

// TestPortThatTheUpdaterRefusesHoldsUpNoOther: the updater answers 400 to one, hangs with another.
func TestPortThatTheUpdaterRefusesHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.a.BreakEach(func(c updatertest.Call) updatertest.Fault {
			switch c.Request.LBPort {
			case 8101:
				return updatertest.Fault{NoEffect: true, Answer: updatertest.InternalError}
			case 8102:
				return updatertest.Fault{Hang: true}
			}
			return updatertest.Fault{}
		})
		for i := range 20 {
			s.set(8100+i, "192.0.2.3:30001")
		}
		pass(15 * time.Second)
		for i := range 20 {
			want := updater.PhaseTold
			if i == 1 || i == 2 {
				want = updater.PhaseTelling
			}
			assert.Equal(t, want, s.w.State(key(8100+i)).Phase, i)
		}
	})
}

func TestFilesThatWereLostComeBackWithTheResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		for i := range 10 {
			s.set(8100+i, "192.0.2.3:30001")
		}
		pass(time.Minute)
		require.NoError(t, s.a.LoseFiles())
		pass(10 * time.Minute)
		assert.Len(t, s.a.Served(), 10)
	})
}

// TestPortThatHangsKeepsNoOtherFromBeingSentAgain: for every call about it the updater seems to be down.
func TestPortThatHangsKeepsNoOtherFromBeingSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.a.BreakEach(func(c updatertest.Call) updatertest.Fault { return updatertest.Fault{Hang: c.Request.LBPort == 8105} })
		for i := range 10 {
			s.set(8100+i, "192.0.2.3:30001")
		}
		pass(time.Minute)
		require.NoError(t, s.a.LoseFiles())
		pass(11 * time.Minute)
		assert.Len(t, s.a.Served(), 9)
	})
}

func TestCallToAURLThatIsGoneIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.a.Break(updatertest.Fault{Hang: true})
		s.set(8100, "192.0.2.3:30001")
		pass(time.Second)
		next := s.config
		next.URLs = []string{"http://b/lb"}
		require.NoError(t, s.w.SetConfig(&next, 10*time.Minute))
		began := time.Now()
		s.a.Wait()
		assert.Equal(t, began, time.Now())
	})
}

func TestShortOutageCostsASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.a.Break(updatertest.Fault{Answer: updatertest.Cut, NoEffect: true})
		for i := range 20 {
			s.set(8100+i, "192.0.2.3:30001")
		}
		pass(200 * time.Millisecond)
		s.a.Break(updatertest.Fault{})
		pass(1500 * time.Millisecond)
		for i := range 20 {
			assert.Equal(t, updater.PhaseTold, s.w.State(key(8100+i)).Phase)
		}
	})
}

func TestNothingIsSentAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.a.Break(updatertest.Fault{Hang: true})
		s.set(8100, "192.0.2.3:30001")
		pass(time.Second)
		s.stop()
		before := len(s.a.Calls())
		s.set(8101, "192.0.2.3:30001")
		pass(time.Hour)
		assert.Len(t, s.a.Calls(), before)
		assert.Empty(t, s.whys(), "a call that was given up is nobody's failure")
	})
}
