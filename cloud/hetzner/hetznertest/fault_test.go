package hetznertest_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

const purchase = "POST /floating_ips"

func (w *world) tryToBuy(ctx context.Context, caller string) error {
	_, _, err := w.clientOf(caller, secret).FloatingIP.Create(ctx, hcloud.FloatingIPCreateOpts{
		Type: hcloud.FloatingIPTypeIPv4, HomeLocation: &hcloud.Location{Name: "fsn1"},
	})
	return err
}

// A call that goes wrong has had its effect or has not, exactly as the rule says, and the caller cannot tell.
func TestFaultsBeforeAndAfterTheEffect(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  hetznertest.Fault
		code   string
		cut    bool
		bought int
		later  int
		took   time.Duration
	}{
		{"nothing", hetznertest.Fault{}, "", false, 1, 1, 0},
		{"refused", hetznertest.Fault{Fail: hetznertest.Conflict}, "conflict", false, 0, 0, 0},
		{"refused after the effect", hetznertest.Fault{Fail: hetznertest.Timeout, AfterEffect: true}, "timeout", false, 1, 1, 0},
		{"refused, and has its effect late", hetznertest.Fault{Fail: hetznertest.BadGateway, Late: 5 * time.Second}, "bad_gateway", false, 0, 1, 0},
		{"cut", hetznertest.Fault{Cut: true}, "", true, 0, 0, 0},
		{"cut after the effect", hetznertest.Fault{Cut: true, AfterEffect: true}, "", true, 1, 1, 0},
		{"cut, and has its effect late", hetznertest.Fault{Cut: true, Late: 5 * time.Second}, "", true, 0, 1, 0},
		{"slow", hetznertest.Fault{Delay: 2 * time.Second, DelayAnswer: 3 * time.Second}, "", false, 1, 1, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, hetznertest.Options{})
				w.AddRule(hetznertest.Rule{Operation: purchase, Nth: 2, Fault: tt.fault})
				require.NoError(t, w.tryToBuy(t.Context(), ""))
				assert.Empty(t, w.names(hcloud.FloatingIPListOpts{}))

				began := time.Now()
				err := w.tryToBuy(t.Context(), "")
				assert.Equal(t, tt.took, time.Since(began))
				assert.Equal(t, tt.code, code(err))
				if tt.cut {
					require.ErrorIs(t, err, hetznertest.ErrCut)
				}
				assert.Equal(t, 1+tt.bought, w.Purchases("prod"))
				record := w.Log()[2]
				assert.Equal(t, tt.cut, record.Cut)
				assert.Equal(t, hetznertest.Code(tt.code), record.Code)
				assert.Equal(t, tt.bought == 1, record.Effect)
				assert.False(t, w.Log()[1].Effect, "a list has an effect")
				assert.JSONEq(t, `{"type":"ipv4","home_location":"fsn1"}`, record.Body)
				assert.Equal(t, "page=1&per_page=50", w.Log()[1].Query)
				<-time.After(5 * time.Second)
				synctest.Wait()
				assert.Equal(t, 1+tt.later, w.Purchases("prod"))

				require.NoError(t, w.tryToBuy(t.Context(), ""))
				assert.Len(t, w.FloatingIPs("prod"), 2+tt.later)
			})
		})
	}
}

// Every code can be had, with its status.
func TestEveryCode(t *testing.T) {
	w := newWorld(t, hetznertest.Options{})
	for c, status := range map[hetznertest.Code]int{
		hetznertest.Unauthorized: 401, hetznertest.TokenReadonly: 401, hetznertest.Forbidden: 403,
		hetznertest.ResourceLimitExceeded: 403, hetznertest.NotFound: 404, hetznertest.UniquenessError: 409,
		hetznertest.Conflict: 409, hetznertest.ResourceUnavailable: 412, hetznertest.InvalidInput: 422,
		hetznertest.ServiceError: 422, hetznertest.MustBeUnassigned: 422, hetznertest.FloatingIPAssigned: 422,
		hetznertest.Locked: 423, hetznertest.Protected: 423, hetznertest.RateLimitExceeded: 429,
		hetznertest.ServerError: 500, hetznertest.BadGateway: 502, hetznertest.Unavailable: 503, hetznertest.Timeout: 504,
	} {
		remove := w.AddRule(hetznertest.Rule{Fault: hetznertest.Fault{Fail: c}})
		assert.Equal(t, string(c), code(w.tryToBuy(t.Context(), "")))
		records := w.Log()
		assert.Equal(t, status, records[len(records)-1].Status, c)
		remove()
	}
	require.NoError(t, w.tryToBuy(t.Context(), ""))
}

// A caller that gives up has not taken back what it asked for.
func TestEffectAfterTheCallerHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{})
		w.AddRule(hetznertest.Rule{Caller: "old", Pick: func(r *rand.Rand) hetznertest.Fault {
			return hetznertest.Fault{Delay: 10*time.Second + time.Duration(r.Int64N(int64(10*time.Second)))}
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		require.ErrorIs(t, w.tryToBuy(ctx, "old"), context.DeadlineExceeded)
		assert.Zero(t, w.Purchases("prod"))
		require.ErrorIs(t, w.tryToBuy(ctx, "old"), context.DeadlineExceeded)
		require.NoError(t, w.tryToBuy(t.Context(), "new"))
		assert.Equal(t, 1, w.Purchases("prod"))
		<-time.After(15 * time.Second)
		synctest.Wait()
		assert.Equal(t, 2, w.Purchases("prod"), "what was never sent has had an effect, or what was sent has none")
	})
}

// A caller is killed at a named call: before its effect, before its answer, or when it has read that.
func TestKillTheCaller(t *testing.T) {
	for _, tt := range []struct {
		stage  hetznertest.Stage
		bought int
		knows  bool
	}{
		{hetznertest.BeforeEffect, 0, false}, {hetznertest.AfterEffect, 1, false}, {hetznertest.AfterAnswer, 1, true},
	} {
		t.Run(tt.stage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, hetznertest.Options{})
				ctx, kill := context.WithCancel(t.Context())
				defer kill()
				w.AddHook(func(stage hetznertest.Stage, call hetznertest.Call) bool {
					if stage != tt.stage || call.Operation != purchase {
						return false
					}
					kill()
					return true
				})
				err := w.tryToBuy(ctx, "victim")
				assert.Equal(t, tt.knows, err == nil)
				require.Error(t, ctx.Err(), "the caller is still alive when its call has returned")
				synctest.Wait()
				assert.Equal(t, tt.bought, w.Purchases("prod"))
				require.ErrorIs(t, w.tryToBuy(ctx, "victim"), context.Canceled)
				synctest.Wait()
				assert.Len(t, w.Log(), 1, "a dead caller has called")
			})
		})
	}
}

// An action can end in an error, and has no effect then.
func TestActionFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{})
		f := w.buy("web", nil)
		w.AddRule(hetznertest.Rule{Fault: hetznertest.Fault{ActionFails: hetznertest.Timeout, ActionTime: time.Minute}})
		action, _, err := w.client.FloatingIP.Assign(t.Context(), f, &hcloud.Server{ID: w.n1})
		require.NoError(t, err)
		<-time.After(59 * time.Second)
		assert.Equal(t, action.ID, w.FloatingIPs("prod")[0].Running)
		<-time.After(time.Second)
		got, _, err := w.client.Action.GetByID(t.Context(), action.ID)
		require.NoError(t, err)
		assert.Equal(t, hcloud.ActionStatusError, got.Status)
		assert.Equal(t, "timeout", got.ErrorCode)
		assert.Zero(t, w.FloatingIPs("prod")[0].Server)
		assert.Zero(t, w.FloatingIPs("prod")[0].Running)
	})
}

// What happens by chance is the same for the same seed.
func TestChanceComesFromTheSeed(t *testing.T) {
	outcomes := func(seed uint64) []bool {
		w := newWorld(t, hetznertest.Options{Seed: seed})
		w.AddRule(hetznertest.Rule{Operation: purchase, Probability: 0.3, Fault: hetznertest.Fault{Fail: hetznertest.Conflict}})
		var all []bool
		for range 100 {
			all = append(all, w.tryToBuy(t.Context(), "") == nil)
		}
		return all
	}
	first := outcomes(1)
	assert.Equal(t, first, outcomes(1))
	assert.NotEqual(t, first, outcomes(2))
	failed := 0
	for _, ok := range first {
		if !ok {
			failed++
		}
	}
	assert.InDelta(t, 30, failed, 15)
}

// Nothing is left under way when a stand-in is closed, and what had not happened never does.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{})
		w.AddRule(hetznertest.Rule{Fault: hetznertest.Fault{Delay: time.Hour}})
		answer := make(chan error, 1)
		go func() { answer <- w.tryToBuy(t.Context(), "") }()
		synctest.Wait()
		w.Close()
		require.ErrorIs(t, <-answer, hetznertest.ErrCut)
		assert.Zero(t, w.Purchases("prod"))
		require.ErrorIs(t, w.tryToBuy(t.Context(), ""), hetznertest.ErrCut)
	})
}

// Many callers at once find the same rules: each purchase is counted once, and the log knows what became of every call.
func TestManyCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{Seed: 7, ListLag: -1})
		w.AddRule(hetznertest.Rule{Probability: 0.3, Pick: func(r *rand.Rand) hetznertest.Fault {
			return hetznertest.Fault{
				Delay: time.Duration(r.Int64N(int64(time.Second))), Cut: r.IntN(2) == 0, Fail: hetznertest.ServerError,
				AfterEffect: r.IntN(2) == 0, Late: time.Duration(r.Int64N(int64(time.Second))),
			}
		}})
		var callers sync.WaitGroup
		for i := range 50 {
			callers.Go(func() {
				client := w.clientOf(strconv.Itoa(i), secret)
				got, _, err := client.FloatingIP.Create(t.Context(), hcloud.FloatingIPCreateOpts{
					Type: hcloud.FloatingIPTypeIPv4, HomeLocation: &hcloud.Location{Name: "fsn1"},
				})
				if err != nil {
					return
				}
				_, _, err = client.FloatingIP.Assign(t.Context(), got.FloatingIP, &hcloud.Server{ID: w.n1})
				assert.Contains(t, []string{"", "server_error"}, code(err))
			})
		}
		callers.Wait()
		<-time.After(3 * time.Second)
		synctest.Wait()
		bought, assigned := 0, 0
		for _, r := range w.Log() {
			switch {
			case !r.Effect:
			case r.Operation == purchase:
				bought++
			default:
				assigned++
			}
		}
		assert.Greater(t, bought, 25)
		assert.Equal(t, bought, w.Purchases("prod"))
		routed := 0
		for _, f := range w.FloatingIPs("prod") {
			if f.Server != 0 {
				routed++
			}
		}
		assert.Equal(t, assigned, routed)
	})
}
