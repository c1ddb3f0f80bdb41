package updater_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/updater"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

const prefix = "prod-1a2b3c4d_"

// site is a worker with its updaters, in the time of a synctest bubble.
type site struct {
	t         *testing.T
	w         *updater.Worker
	config    config.Updater
	a, b      *updatertest.Server // at http://a and http://b
	mu        sync.Mutex
	changed   map[updater.Key]int
	calls     []updater.Call
	listening map[string]bool // by address; nil: everything listens
	looks     int
	stop      func()
}

// newSite runs in a bubble. It has one URL unless told otherwise, and does not verify.
func newSite(t *testing.T, change func(*site)) *site {
	t.Helper()
	slow := updatertest.Options{ReloadTime: 300 * time.Millisecond}
	s := &site{t: t, a: updatertest.New(slow), b: updatertest.New(slow), changed: map[updater.Key]int{}}
	s.config = config.Updater{URLs: []string{"http://a/lb"}, Host: "192.0.2.1", Timeout: 10 * time.Second}
	if change != nil {
		change(s)
	}
	w, err := updater.NewWorker(updater.Options{
		Prefix: prefix, Updater: &s.config, ResyncInterval: 10 * time.Minute,
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "b" {
				return s.b.Transport().RoundTrip(r)
			}
			return s.a.Transport().RoundTrip(r)
		}),
		Dial: s.dial,
		Changed: func(k updater.Key) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changed[k]++
		},
		Observe: func(c updater.Call) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.calls = append(s.calls, c)
		},
	})
	require.NoError(t, err)
	s.w = w
	ctx, cancel := context.WithCancel(t.Context())
	loops, ended := context.WithCancel(t.Context())
	go s.a.Run(loops)
	go s.b.Run(loops)
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	s.stop = func() { cancel(); <-done }
	t.Cleanup(func() { s.stop(); ended(); s.a.Wait(); s.b.Wait() })
	return s
}

func (s *site) dial(ctx context.Context, _, address string) (net.Conn, error) {
	s.mu.Lock()
	s.looks++
	listens, known := s.listening[address]
	all := s.listening == nil
	s.mu.Unlock()
	switch {
	case all || listens:
		conn, other := net.Pipe()
		_ = other.Close()
		return conn, nil
	case known:
		<-ctx.Done() // silence
		return nil, ctx.Err()
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

func (s *site) set(port int, list ...string) {
	s.t.Helper()
	require.NoError(s.t, s.w.SetBackend(key(port), updater.Backend{Targets: targets(list...), ProxyTimeout: time.Minute}))
}

func key(port int) updater.Key { return updater.Key{Port: uint16(port), Protocol: updater.TCP} }

// pass lets time go by, and then everything come to rest.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// heard is how often Changed was called with a port, looked how often one was connected to.
func (s *site) heard(k updater.Key) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed[k]
}

func (s *site) looked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

// whys counts the calls that were observed, by reason.
func (s *site) whys() map[updater.Why]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[updater.Why]int{}
	for _, c := range s.calls {
		all[c.Why]++
	}
	return all
}

// file of a port at an updater; empty: there is none.
func file(s *updatertest.Server, k updater.Key) string {
	files, err := s.Files()
	if err != nil {
		return err.Error()
	}
	return files[updater.Name(prefix, k)]
}

func TestBackendIsToldOnceAndOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		assert.Equal(t, updater.PhaseUnknown, s.w.State(key(8100)).Phase)
		s.set(8100, "192.0.2.4:30001", "192.0.2.3:30001")
		state := s.w.State(key(8100))
		assert.Equal(t, updater.PhaseTelling, state.Phase)
		assert.False(t, state.Ready)
		assert.Equal(t, "http://a/lb has not been told yet", fmt.Sprint(state.Lagging[0]))
		s.set(8100, "192.0.2.3:30001", "192.0.2.4:30001")
		pass(time.Second)
		state = s.w.State(key(8100))
		assert.Equal(t, updater.PhaseTold, state.Phase)
		assert.True(t, state.Ready)
		assert.Equal(t, updater.ListeningNotJudged, state.Listening)
		assert.Equal(t, 1, s.heard(key(8100)))
		assert.Contains(t, file(s.a, key(8100)), "server 192.0.2.3:30001;")

		pass(14 * time.Second)
		assert.Equal(t, map[updater.Why]int{updater.WhyChange: 1, updater.WhyRepeat: 1}, s.whys(), "the reload may have missed it")
		pass(10 * time.Second)
		assert.Equal(t, 1, s.whys()[updater.WhyResync], "what the controller before sent may have come late")
		pass(time.Hour)
		assert.Equal(t, map[updater.Why]int{updater.WhyChange: 1, updater.WhyRepeat: 1, updater.WhyResync: 7}, s.whys(), "an hour at rest")
		assert.Equal(t, 1, s.heard(key(8100)), "nothing changed")
	})
}

func TestRemovalNeedsEveryURLAndPublicationOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(s *site) { s.config.URLs = []string{"http://a/lb", "http://b/lb"} })
		s.b.Break(updatertest.Fault{Answer: updatertest.InternalError})
		s.set(8100, "192.0.2.3:30001")
		pass(time.Second)
		state := s.w.State(key(8100))
		assert.Equal(t, updater.PhaseToldSome, state.Phase)
		assert.True(t, state.Ready)
		require.Len(t, state.Lagging, 1)
		assert.EqualError(t, state.Lagging[0].Err, "set backend prod-1a2b3c4d_8100_tcp at http://b/lb: HTTP status 500: update stream: no space left on device: see the updater's log")

		s.w.RemoveBackend(key(8100))
		pass(time.Minute)
		state = s.w.State(key(8100))
		assert.Equal(t, updater.PhaseRemoving, state.Phase)
		assert.Equal(t, "http://b/lb", state.Lagging[0].URL)
		assert.False(t, state.Ready)
		s.b.Break(updatertest.Fault{})
		pass(time.Minute)
		assert.Equal(t, updater.PhaseRemoved, s.w.State(key(8100)).Phase)
		assert.Empty(t, file(s.a, key(8100)))
		assert.Empty(t, file(s.b, key(8100)))
	})
}

func TestNewControllerSweepsWhatNobodyUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		var all []updater.Key
		for i := range 50 {
			all = append(all, key(8100+i))
			require.NoError(t, s.a.Put(updater.Name(prefix, key(8100+i)), "left behind"))
		}
		require.NoError(t, s.a.Put("other-9f8e7d6c_8149_tcp", "of another cluster"))
		s.set(8105, "192.0.2.3:30001")
		s.w.SweepUnused(all)
		pass(19 * time.Second)
		_, deletes := s.a.Count()
		assert.Zero(t, deletes, "what the controller before sent may still arrive")
		pass(2 * time.Second)
		s.set(8140, "192.0.2.3:30001") // before the sweep gets there
		pass(time.Second)
		assert.Equal(t, updater.PhaseTold, s.w.State(key(8140)).Phase, "nothing waits for the sweep")
		pass(time.Minute)
		files, err := s.a.Files()
		require.NoError(t, err)
		assert.Len(t, files, 3)
		assert.Contains(t, file(s.a, key(8105)), "upstream")
		assert.Contains(t, file(s.a, key(8140)), "upstream")
		_, deletes = s.a.Count()
		assert.Equal(t, 48, deletes)
	})
}

func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		require.NoError(t, s.a.Put("shop_web", "upstream shop_web { server 192.0.2.9:1; } server { listen 8100; proxy_pass shop_web; proxy_timeout 5s; proxy_connect_timeout 2s; }"))
		b := updater.Backend{Targets: targets("192.0.2.3:30001"), Replaces: "shop_web"}
		require.NoError(t, s.w.SetBackend(key(8100), b))
		pass(100 * time.Millisecond)
		assert.Len(t, s.a.Calls(), 2, "what comes next would meet the reload that the removal brings")
		pass(3 * time.Second)
		calls := s.a.Calls()
		require.Len(t, calls, 3)
		assert.Equal(t, []string{"POST", "DELETE", "POST"}, []string{calls[0].Method, calls[1].Method, calls[2].Method})
		assert.Equal(t, "shop_web", calls[1].Request.BackendName)
		pass(time.Minute)
		_, deletes := s.a.Count()
		assert.Equal(t, 1, deletes, "taken over once")
		assert.Contains(t, s.a.Served(), updater.Name(prefix, key(8100)))

		require.Error(t, s.w.SetBackend(key(8101), updater.Backend{Targets: b.Targets, Replaces: prefix + "8100_tcp"}), "a backend of our own")
		require.Error(t, s.w.SetBackend(key(8101), updater.Backend{Targets: b.Targets, Replaces: "../shop"}))
		assert.Equal(t, updater.PhaseUnknown, s.w.State(key(8101)).Phase)
	})
}

func TestAbandonForgetsAndSaysWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(s *site) { s.config.URLs = []string{"http://a/lb", "http://b/lb"} })
		s.set(8100, "192.0.2.3:30001")
		pass(30 * time.Second)
		s.b.Break(updatertest.Fault{Hang: true})
		s.w.RemoveBackend(key(8100))
		pass(5 * time.Second)
		assert.Equal(t, []string{"backend prod-1a2b3c4d_8100_tcp at http://b/lb"}, s.w.Abandon(key(8100)))
		assert.Equal(t, updater.PhaseUnknown, s.w.State(key(8100)).Phase)
		s.b.Break(updatertest.Fault{})
		pass(time.Hour)
		assert.NotEmpty(t, file(s.b, key(8100)), "left alone")
		s.set(8100, "192.0.2.9:30001")
		pass(time.Second)
		assert.Contains(t, file(s.b, key(8100)), "192.0.2.9")
	})
}

func TestChangedConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.set(8100, "192.0.2.3:30001")
		s.set(8101, "192.0.2.3:30001")
		pass(time.Second)
		s.a.Break(updatertest.Fault{Answer: updatertest.Cut})
		s.w.RemoveBackend(key(8101))
		pass(time.Minute)
		assert.Equal(t, updater.PhaseRemoving, s.w.State(key(8101)).Phase)

		next := s.config
		next.URLs = []string{"http://a/lb", "http://b/lb"}
		require.NoError(t, s.w.SetConfig(&next, 10*time.Minute))
		pass(time.Second)
		assert.Equal(t, updater.PhaseTold, s.w.State(key(8100)).Phase)
		assert.NotEmpty(t, file(s.b, key(8100)))

		next.URLs = []string{"http://b/lb"}
		require.NoError(t, s.w.SetConfig(&next, 10*time.Minute))
		pass(time.Second)
		assert.Equal(t, updater.PhaseTold, s.w.State(key(8100)).Phase)
		assert.Equal(t, updater.PhaseRemoved, s.w.State(key(8101)).Phase, "a URL that is gone is not waited for")
		assert.Positive(t, s.heard(key(8101)))

		next.URLs = []string{"nowhere"}
		require.Error(t, s.w.SetConfig(&next, 10*time.Minute))
		assert.Equal(t, updater.PhaseTold, s.w.State(key(8100)).Phase)
	})
}
