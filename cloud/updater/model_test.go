package updater_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/updater"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

// TestWhatIsWantedIsWhatIsServedInTheEnd has a cluster change its mind, updaters fail in every way, files get lost and
// controllers be killed, with calls of theirs that have their effect later. When all is mended, each load balancer serves
// exactly what is wanted, and at no time was there a file that nginx -t refuses.
func TestWhatIsWantedIsWhatIsServedInTheEnd(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newWorld(t, seed).run() })
		})
	}
}

type world struct {
	t       *testing.T
	random  *rand.Rand
	config  config.Updater
	a, b    *updatertest.Server
	w       *updater.Worker
	kill    func()
	wanted  map[updater.Key]updater.Backend
	history int
}

func newWorld(t *testing.T, seed uint64) *world {
	slow := updatertest.Options{WriteTime: time.Millisecond, TestTime: 20 * time.Millisecond, ReloadTime: 200 * time.Millisecond}
	return &world{
		t: t, random: rand.New(rand.NewPCG(seed, 4)), a: updatertest.New(slow), b: updatertest.New(slow), wanted: map[updater.Key]updater.Backend{},
		config: config.Updater{URLs: []string{"http://a/lb", "http://b/lb"}, Host: "192.0.2.1", Timeout: 10 * time.Second, Verify: true},
	}
}

func (w *world) ports() []updater.Key {
	var all []updater.Key
	for i := range 6 {
		all = append(all, key(8100+i), updater.Key{Port: uint16(8100 + i), Protocol: updater.UDP})
	}
	return all
}

// lead starts a controller that knows what is wanted, as a new leader does.
func (w *world) lead() {
	ctx, cancel := context.WithCancel(w.t.Context())
	var err error
	w.w, err = updater.NewWorker(updater.Options{
		Prefix: prefix, Updater: &w.config, ResyncInterval: 10 * time.Minute,
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "b" {
				return w.b.Transport().RoundTrip(r)
			}
			return w.a.Transport().RoundTrip(r)
		}),
		Dial: (&site{}).dial,
	})
	require.NoError(w.t, err)
	for k, b := range w.wanted {
		require.NoError(w.t, w.w.SetBackend(k, b))
	}
	w.w.SweepUnused(slices.DeleteFunc(w.ports(), func(k updater.Key) bool { return len(w.wanted[k].Targets) > 0 }))
	done := make(chan struct{})
	running := w.w
	go func() { defer close(done); running.Run(ctx) }()
	w.kill = func() { cancel(); <-done }
}

func (w *world) run() {
	loops, end := context.WithCancel(w.t.Context())
	go w.a.Run(loops)
	go w.b.Run(loops)
	w.lead()
	for range 60 {
		w.act()
		pass(time.Duration(w.random.IntN(3000)) * time.Millisecond)
	}
	w.a.Break(updatertest.Fault{})
	w.b.Break(updatertest.Fault{})
	// What was lost comes back with the next resync at the latest.
	pass(12 * time.Minute)
	for _, s := range []*updatertest.Server{w.a, w.b} {
		files, err := s.Files()
		require.NoError(w.t, err)
		var names []string
		for k, b := range w.wanted {
			name := updater.Name(prefix, k)
			names = append(names, name)
			assert.Contains(w.t, files[name], fmt.Sprintf("server %s;", b.Targets[0]), k)
			state := w.w.State(k)
			assert.Equal(w.t, updater.PhaseTold, state.Phase, k)
			assert.True(w.t, state.Ready, k)
		}
		assert.ElementsMatch(w.t, names, slices.Collect(maps.Keys(files)))
		assert.True(w.t, maps.Equal(files, s.Served()), "the load balancer missed something")
		_, refusals := s.Reloads()
		assert.Empty(w.t, refusals)
	}
	w.kill()
	end()
	w.a.Wait()
	w.b.Wait()
}

// act does one thing that happens.
func (w *world) act() {
	k := w.ports()[w.random.IntN(12)]
	s := []*updatertest.Server{w.a, w.b}[w.random.IntN(2)]
	switch w.random.IntN(10) {
	case 0, 1, 2, 3:
		w.history++
		b := updater.Backend{Targets: targets(fmt.Sprintf("192.0.2.3:%d", 30000+w.history)), Revision: uint64(w.history)}
		w.wanted[k] = b
		require.NoError(w.t, w.w.SetBackend(k, b))
	case 4, 5:
		if _, there := w.wanted[k]; there {
			delete(w.wanted, k)
			w.w.RemoveBackend(k)
		}
	case 6, 7:
		fault := []updatertest.Fault{
			{}, {Hang: true}, {Delay: time.Second}, {Delay: 15 * time.Second}, {Answer: updatertest.Cut}, {Answer: updatertest.Cut, NoEffect: true},
			{Answer: updatertest.Half}, {Answer: updatertest.Garbage, NoEffect: true}, {Answer: updatertest.InternalError}, {Answer: updatertest.InternalError, NoEffect: true},
			{Answer: updatertest.Redirect, NoEffect: true}, {Answer: updatertest.Unauthorized, NoEffect: true}, {Answer: updatertest.Huge},
		}[w.random.IntN(13)]
		s.Break(fault)
	case 8:
		if w.random.IntN(3) == 0 {
			require.NoError(w.t, s.LoseFiles())
		}
	case 9:
		if w.random.IntN(3) == 0 {
			w.kill()
			w.lead()
		}
	}
}
