package updater_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/updater"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

func TestChangesOfOnePortAreSentTogetherAndTheNewestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.set(8100, "192.0.2.3:30001")
		pass(5 * time.Second)
		before, _ := s.a.Count()
		for i := range 300 { // a change every 10 ms, for 3 s
			s.set(8100, fmt.Sprintf("192.0.2.3:%d", 31000+i))
			pass(10 * time.Millisecond)
		}
		pass(1500 * time.Millisecond)
		after, _ := s.a.Count()
		assert.InDelta(t, 4, after-before, 1, "at most one push a second")
		assert.Contains(t, file(s.a, key(8100)), "192.0.2.3:31299;")
	})
}

func TestOlderRevisionNeverOverwritesANewerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		require.NoError(t, s.w.SetBackend(key(8100), updater.Backend{Targets: targets("192.0.2.3:2"), Revision: 2}))
		require.NoError(t, s.w.SetBackend(key(8100), updater.Backend{Targets: targets("192.0.2.3:1"), Revision: 1}))
		pass(time.Second)
		assert.Equal(t, uint64(2), s.w.State(key(8100)).Revision)
		require.NoError(t, s.w.SetBackend(key(8100), updater.Backend{Targets: targets("192.0.2.3:2"), Revision: 7}))
		assert.Equal(t, uint64(7), s.w.State(key(8100)).Revision, "the same under a newer revision is told already")
		pass(10 * time.Second)
		assert.Contains(t, file(s.a, key(8100)), "192.0.2.3:2;")
		posts, _ := s.a.Count()
		assert.Equal(t, 2, posts)
	})
}

// TestCallThatTakesEffectLateIsOverwritten: the updater takes 15 s for the first set, we wait for 10 s and send the second
// one, which it writes at once.
func TestCallThatTakesEffectLateIsOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.a.BreakEach(func(c updatertest.Call) updatertest.Fault {
			if strings.Contains(c.Body, "192.0.2.3") {
				return updatertest.Fault{Delay: 15 * time.Second}
			}
			return updatertest.Fault{}
		})
		s.set(8100, "192.0.2.3:30001")
		pass(time.Second)
		s.set(8100, "192.0.2.4:30001")
		pass(12 * time.Second)
		assert.Contains(t, file(s.a, key(8100)), "192.0.2.4", "sent after the first one had no answer")
		pass(3 * time.Second)
		assert.Contains(t, file(s.a, key(8100)), "192.0.2.3", "the late effect")
		pass(20 * time.Second)
		assert.Contains(t, file(s.a, key(8100)), "192.0.2.4")
	})
}

// TestRemovalOutlivesALateSet: the same with a removal.
func TestRemovalOutlivesALateSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		pass(time.Minute) // a controller of long standing
		s.a.BreakEach(func(c updatertest.Call) updatertest.Fault {
			if c.Method == http.MethodPost {
				return updatertest.Fault{Delay: 15 * time.Second}
			}
			return updatertest.Fault{}
		})
		s.set(8100, "192.0.2.3:30001")
		pass(time.Second)
		s.w.RemoveBackend(key(8100))
		pass(12 * time.Second)
		assert.Equal(t, updater.PhaseRemoved, s.w.State(key(8100)).Phase)
		pass(30 * time.Second)
		assert.Empty(t, file(s.a, key(8100)))
	})
}

func TestOneCallAboutAPortAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.a.Break(updatertest.Fault{Delay: 5 * time.Second})
		s.set(8100, "192.0.2.3:1")
		pass(time.Second)
		s.set(8100, "192.0.2.3:2")
		s.set(8100, "192.0.2.3:3")
		pass(2 * time.Second)
		assert.Len(t, s.a.Calls(), 1)
		pass(10 * time.Second)
		posts, _ := s.a.Count()
		assert.Equal(t, 2, posts, "the second one was never sent")
		assert.Contains(t, file(s.a, key(8100)), "192.0.2.3:3;")
	})
}

// TestPortThatIsRemovedAndSetAgainIsNotPublishedForWhatWasSentBefore: the first set is still under way meanwhile.
func TestPortThatIsRemovedAndSetAgainIsNotPublishedForWhatWasSentBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.a.Break(updatertest.Fault{Delay: 5 * time.Second})
		s.set(8100, "192.0.2.3:30001")
		pass(time.Second)
		s.w.RemoveBackend(key(8100))
		s.set(8100, "192.0.2.9:30009")
		pass(5 * time.Second)
		assert.Contains(t, file(s.a, key(8100)), "192.0.2.3")
		assert.False(t, s.w.State(key(8100)).Ready)
		pass(6 * time.Second)
		assert.True(t, s.w.State(key(8100)).Ready)
	})
}

// TestRemovalOutlivesTheControllerBefore: a set that it sent arrives after our removal.
func TestRemovalOutlivesTheControllerBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.w.RemoveBackend(key(8100))
		pass(15 * time.Second)
		assert.Equal(t, updater.PhaseRemoved, s.w.State(key(8100)).Phase)
		require.NoError(t, s.a.Put(updater.Name(prefix, key(8100)), "late"))
		pass(10 * time.Second)
		assert.Empty(t, file(s.a, key(8100)))
	})
}
