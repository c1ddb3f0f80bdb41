package hetzner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner"
	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// many Floating IPs that others bought.
func (w *world) many(n int) []int64 {
	w.t.Helper()
	var ids []int64
	for range n {
		f, err := w.AddFloatingIP(project, hetznertest.FloatingIP{})
		require.NoError(w.t, err)
		ids = append(ids, f.ID)
	}
	return ids
}

// assignAll at once, and return the errors when all have ended.
func (w *world) assignAll(ids []int64, urgent bool) []error {
	errs := make(chan error, len(ids))
	for _, id := range ids {
		go func() { errs <- w.Assign(w.t.Context(), id, w.n1, urgent) }()
	}
	var all []error
	for range ids {
		if err := <-errs; err != nil {
			all = append(all, err)
		}
	}
	return all
}

// rounds of polls, by when they went out, with how many calls each had.
func (w *world) rounds() map[time.Duration]int {
	rounds := make(map[time.Duration]int)
	var began time.Time
	for _, call := range w.Log() {
		switch call.Operation {
		case assign:
			began = call.Time
		case polls:
			rounds[call.Time.Sub(began)]++
		}
	}
	return rounds
}

// Thirty addresses of a lost node cost thirty calls and two per round of polls, which come more rarely with time.
func TestManyActionsShareTheirPolls(t *testing.T) {
	in(t, hetznertest.Options{ActionTime: 12 * time.Second}, func(t *testing.T, w *world) {
		ids := w.many(30)
		began := time.Now()
		require.Empty(t, w.assignAll(ids, true))
		assert.Equal(t, 30, w.calls(assign))
		assert.Equal(t, map[time.Duration]int{
			300 * time.Millisecond: 2, 600 * time.Millisecond: 2, 1200 * time.Millisecond: 2, 2400 * time.Millisecond: 2,
			4800 * time.Millisecond: 2, 9600 * time.Millisecond: 2, 14600 * time.Millisecond: 2,
		}, w.rounds())
		assert.Less(t, time.Since(began), 15*time.Second)
		for _, f := range w.FloatingIPs(project) {
			assert.Equal(t, w.n1, f.Server)
		}
	})
}

// An action that begins while another is awaited goes along with its polls.
func TestLaterActionGoesAlong(t *testing.T) {
	in(t, hetznertest.Options{ActionTime: time.Second}, func(t *testing.T, w *world) {
		ids := w.many(2)
		ended := make(chan error)
		go func() { ended <- w.Assign(t.Context(), ids[0], w.n1, false) }()
		<-time.After(250 * time.Millisecond)
		go func() { ended <- w.Assign(t.Context(), ids[1], w.n1, false) }()
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
		assert.LessOrEqual(t, w.calls(polls), 5)
	})
}

// Nobody is polled for who has gone.
func TestPollingEndsWithTheLastWaiter(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		id := w.many(1)[0]
		w.AddRule(hetznertest.Rule{Operation: assign, Fault: hetznertest.Fault{ActionTime: time.Hour}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := w.Assign(ctx, id, w.n1, false)
		e := w.failsWith(hetzner.Unknown, err)
		assert.True(t, e.Uncertain)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		before := w.calls(polls)
		<-time.After(time.Hour)
		assert.Equal(t, before, w.calls(polls))

		require.NoError(t, w.Unassign(t.Context(), w.many(1)[0]), "and begins again with the next")
	})
}

// The one who began the polling goes: the others are polled for all the same.
func TestPollingOutlivesItsFirstWaiter(t *testing.T) {
	in(t, hetznertest.Options{ActionTime: 10 * time.Second}, func(t *testing.T, w *world) {
		ids := w.many(2)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- w.Assign(ctx, ids[0], w.n1, false) }()
		synctest.Wait()
		began := time.Now()
		require.NoError(t, w.Assign(t.Context(), ids[1], w.n1, false))
		assert.Less(t, time.Since(began), 15*time.Second)
		w.fails(hetzner.Unknown, <-ended)
	})
}

// An action that never ends is given up.
func TestActionWithoutEnd(t *testing.T) {
	in(t, hetznertest.Options{ActionTime: 24 * time.Hour}, func(t *testing.T, w *world) {
		began := time.Now()
		e := w.failsWith(hetzner.Unknown, w.Assign(t.Context(), w.many(1)[0], w.n1, false))
		assert.True(t, e.Uncertain)
		assert.Equal(t, 5*time.Minute, time.Since(began))
		assert.LessOrEqual(t, w.calls(polls), 64)
	})
}

// What an action ended with reaches who asked for it, and nobody else.
func TestActionEndsInError(t *testing.T) {
	for code, kind := range map[hetznertest.Code]hetzner.Kind{
		"action_failed":                hetzner.Temporary,
		"novelty":                      hetzner.Temporary,
		hetznertest.Locked:             hetzner.Temporary,
		hetznertest.FloatingIPAssigned: hetzner.Assigned,
		hetznertest.NotFound:           hetzner.NotFound,
	} {
		t.Run(string(code), func(t *testing.T) {
			in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
				w.AddRule(hetznertest.Rule{Operation: assign, Nth: 2, Fault: hetznertest.Fault{ActionFails: code}})
				errs := w.assignAll(w.many(3), false)
				require.Len(t, errs, 1)
				assert.Equal(t, string(code), w.failsWith(kind, errs[0]).Code)
			})
		})
	}
}

// An action that has ended with its answer is not polled for.
func TestActionThatHasEnded(t *testing.T) {
	in(t, hetznertest.Options{ActionTime: -1}, func(t *testing.T, w *world) {
		id := w.many(1)[0]
		require.NoError(t, w.Assign(t.Context(), id, w.n1, false))
		assert.Zero(t, w.calls(polls))
	})
}

// A poll that fails tells nothing of the action; a token that was revoked meanwhile leaves it open.
func TestPollsFail(t *testing.T) {
	in(t, hetznertest.Options{ActionTime: 2 * time.Second}, func(t *testing.T, w *world) {
		ids := w.many(2)
		w.AddRule(hetznertest.Rule{Operation: polls, Nth: 1, Fault: hetznertest.Fault{Fail: hetznertest.ServerError}})
		w.AddRule(hetznertest.Rule{Operation: polls, Nth: 2, Fault: hetznertest.Fault{Cut: true}})
		require.NoError(t, w.Assign(t.Context(), ids[0], w.n1, false))

		ended := make(chan error)
		go func() { ended <- w.Assign(t.Context(), ids[1], w.n1, false) }()
		synctest.Wait()
		w.RevokeToken(secret)
		w.ForgetLog()
		e := w.failsWith(hetzner.Unknown, <-ended)
		assert.Equal(t, "unauthorized", e.Code)
		assert.True(t, e.Uncertain)
		assert.Equal(t, 1, w.calls(polls), "a revoked token is not hammered")
	})
}
