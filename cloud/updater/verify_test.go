package updater_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/updater"
)

func verifying(listening map[string]bool) func(*site) {
	return func(s *site) { s.config.Verify, s.listening = true, listening }
}

func (s *site) listen(address string, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listening[address] = yes
}

func (s *site) refuse(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listening, address)
}

func TestPublicationWaitsUntilThePortListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, verifying(map[string]bool{}))
		s.set(8100, "192.0.2.3:30001")
		udp := updater.Key{Port: 8100, Protocol: updater.UDP}
		require.NoError(t, s.w.SetBackend(udp, updater.Backend{Targets: targets("192.0.2.3:1")}))
		pass(time.Second)
		state := s.w.State(key(8100))
		assert.Equal(t, updater.PhaseTold, state.Phase)
		assert.Equal(t, updater.ListeningWaiting, state.Listening)
		assert.False(t, state.Ready)
		assert.True(t, s.w.State(udp).Ready, "UDP is not judged")
		told := s.heard(key(8100))
		s.listen("192.0.2.1:8100", true)
		pass(300 * time.Millisecond)
		assert.Equal(t, updater.ListeningYes, s.w.State(key(8100)).Listening)
		assert.True(t, s.w.State(key(8100)).Ready)
		assert.Equal(t, told+1, s.heard(key(8100)))
	})
}

func TestPublicationIsHeldBackForFiveSecondsAtMost(t *testing.T) {
	for what, test := range map[string]struct {
		listening map[string]bool
		says      string
		nudges    int
	}{
		"nothing listens":   {map[string]bool{}, "nothing listens on 192.0.2.1:8100: see the load balancer's log, whether it could be reloaded and whether another process has the port", 1},
		"a silent firewall": {map[string]bool{"192.0.2.1:8100": false}, "no answer on 192.0.2.1:8100: see the load balancer's log, whether it could be reloaded and whether another process has the port", 0},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, verifying(test.listening))
				s.set(8100, "192.0.2.3:30001")
				pass(4900 * time.Millisecond)
				assert.False(t, s.w.State(key(8100)).Ready)
				told := s.heard(key(8100))
				pass(300 * time.Millisecond)
				assert.True(t, s.w.State(key(8100)).Ready)
				assert.Greater(t, s.heard(key(8100)), told, "the caller hears of it")
				pass(3 * time.Second)
				assert.Equal(t, updater.ListeningNo, s.w.State(key(8100)).Listening)
				assert.Equal(t, test.says, s.w.State(key(8100)).Found)
				assert.Equal(t, test.nudges, s.whys()[updater.WhyNothingListens])
				pass(10 * time.Minute)
				assert.True(t, s.w.State(key(8100)).Ready, "never withdrawn")
				assert.LessOrEqual(t, s.whys()[updater.WhyNothingListens], 7, "a port that somebody else has is no reason to reload all the time")
				s.listen("192.0.2.1:8100", true)
				pass(time.Minute)
				assert.Equal(t, updater.ListeningYes, s.w.State(key(8100)).Listening)
			})
		})
	}
}

func TestPortThatListensNoMoreIsPushedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, verifying(map[string]bool{"192.0.2.1:8100": true}))
		s.set(8100, "192.0.2.3:30001")
		udp := updater.Key{Port: 53, Protocol: updater.UDP}
		require.NoError(t, s.w.SetBackend(udp, updater.Backend{Targets: targets("192.0.2.3:1")}))
		pass(time.Minute)
		require.NoError(t, s.a.LoseFiles())
		s.refuse("192.0.2.1:8100")
		pass(9*time.Minute + time.Second/2) // the next look is ten minutes after the last, the next resync later
		assert.Equal(t, 1, s.whys()[updater.WhyNothingListens])
		assert.NotEmpty(t, file(s.a, key(8100)))
		assert.NotEmpty(t, file(s.a, udp), "all files may have been lost")
		assert.Equal(t, updater.ListeningNo, s.w.State(key(8100)).Listening)
		assert.True(t, s.w.State(key(8100)).Ready)
	})
}

func TestChangedHostIsLookedAtAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, verifying(map[string]bool{"192.0.2.1:8100": true}))
		s.set(8100, "192.0.2.3:30001")
		pass(time.Minute)
		next := s.config
		next.Host = "2001:db8::1"
		require.NoError(t, s.w.SetConfig(&next, 10*time.Minute))
		pass(time.Second)
		assert.Contains(t, s.w.State(key(8100)).Found, "nothing listens on [2001:db8::1]:8100")
		assert.True(t, s.w.State(key(8100)).Ready)
		looks := s.looked()
		s.w.RemoveBackend(key(8100))
		pass(time.Hour)
		assert.LessOrEqual(t, s.looked(), looks+1, "what is removed is not looked at")
	})
}
