package hetzner_test

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner"
	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// read makes one call that is not urgent.
func (w *world) read() error {
	_, err := w.Inventory(w.t.Context(), false)
	return err
}

// spend lets others leave so many calls, and has the account see it.
func (w *world) spend(left int) {
	w.t.Helper()
	w.Spend(project, w.Remaining(project)-left-1)
	require.NoError(w.t, w.read())
	require.Equal(w.t, left, w.Remaining(project))
	w.ForgetLog()
}

// What is left is known from each answer, and grows by a call a second.
func TestBudget(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		_, _, known := w.Budget()
		assert.False(t, known)
		assert.Zero(t, w.Ready(false), "nothing is known, so a call finds out")
		w.spend(1000)
		left, limit, known := w.Budget()
		assert.True(t, known)
		assert.Equal(t, 3600, limit)
		assert.Equal(t, 1000, left)
		<-time.After(time.Minute)
		left, _, _ = w.Budget()
		assert.Equal(t, 1060, left)
		<-time.After(2 * time.Hour)
		left, _, _ = w.Budget()
		assert.Equal(t, 3600, left)
	})
}

// The last tenth is for lost nodes: nothing else goes out, and Ready tells when it will.
func TestReserve(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		id := w.many(1)[0]
		w.spend(300)
		assert.Zero(t, w.Ready(true))
		at := w.Ready(false)
		assert.WithinDuration(t, time.Now().Add(62*time.Second), at, time.Second)
		e := w.failsWith(hetzner.RateLimited, w.read())
		assert.Equal(t, at, e.RetryAt)
		assert.False(t, e.Uncertain)
		_, err := w.Buy(t.Context(), order("web", "IPv4"))
		assert.False(t, w.failsWith(hetzner.RateLimited, err).Uncertain, "it was not sent")
		assert.Empty(t, w.Log())

		require.NoError(t, w.Assign(t.Context(), id, w.n1, true))
		<-time.After(time.Until(w.Ready(false)))
		assert.Zero(t, w.Ready(false))
		require.NoError(t, w.read())
		assert.GreaterOrEqual(t, w.Remaining(project), 360)
	})
}

// Not even an urgent call goes out when there is none left, and each finds that out without being sent.
func TestNothingLeft(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		ids := w.many(5)
		w.AddRule(hetznertest.Rule{Operation: assign, Fault: hetznertest.Fault{ActionTime: -1}})
		w.spend(370)
		w.Spend(project, 368)
		require.NoError(t, w.read())
		assert.Equal(t, 1, w.Remaining(project))
		w.ForgetLog()
		refused := 0
		for _, err := range w.assignAll(ids, true) {
			w.fails(hetzner.RateLimited, err)
			refused++
		}
		assert.Equal(t, 4, refused)
		assert.Len(t, w.Log(), 1)
		for _, call := range w.Log() {
			assert.NotEqual(t, 429, call.Status)
		}
	})
}

// After a 429 nothing goes out before the time that Hetzner told, whatever it is.
func TestNothingBeforeReset(t *testing.T) {
	for name, options := range map[string]hetznertest.Options{
		"whole limit": {}, "next call": {ResetIsNext: true},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, options, func(t *testing.T, w *world) {
				id := w.many(1)[0]
				require.NoError(t, w.read())
				w.Spend(project, 3600)
				e := w.failsWith(hetzner.RateLimited, w.read())
				require.Equal(t, "rate_limit_exceeded", e.Code)
				reset := w.Ready(true)
				assert.Equal(t, reset, e.RetryAt)
				assert.Equal(t, reset.After(time.Now().Add(time.Minute)), !options.ResetIsNext)
				w.ForgetLog()
				for time.Now().Before(reset) {
					assert.Equal(t, reset, w.Ready(true))
					w.fails(hetzner.RateLimited, w.Assign(t.Context(), id, w.n1, true))
					w.fails(hetzner.RateLimited, w.read())
					<-time.After(max(time.Millisecond, time.Until(reset)/3))
				}
				assert.Empty(t, w.Log())
				require.NoError(t, w.Assign(t.Context(), id, w.n1, true))
			})
		})
	}
}

// A time that makes no sense is none to wait for.
func TestResetThatMakesNoSense(t *testing.T) {
	for name, test := range map[string]struct {
		reset func(now time.Time) string
		want  time.Duration
	}{
		"absent":      {func(time.Time) string { return "" }, time.Minute},
		"no number":   {func(time.Time) string { return "soon" }, time.Minute},
		"far ahead":   {func(now time.Time) string { return strconv.FormatInt(now.Add(24*time.Hour).Unix(), 10) }, time.Hour},
		"in the past": {func(now time.Time) string { return strconv.FormatInt(now.Add(-time.Hour).Unix(), 10) }, time.Second},
		"as it is":    {func(now time.Time) string { return strconv.FormatInt(now.Add(10*time.Minute).Unix(), 10) }, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
				calls := 0
				account := w.through(func(req *http.Request) (*http.Response, error) {
					calls++
					resp, err := answers(429, "application/json", `{"error": {"code": "rate_limit_exceeded", "message": "m"}}`)(req)
					resp.Header.Set("RateLimit-Reset", test.reset(time.Now()))
					return resp, err
				})
				_, err := account.FloatingIP(t.Context(), 42)
				e := w.failsWith(hetzner.RateLimited, err)
				assert.Equal(t, time.Now().Add(test.want), e.RetryAt)
				_, err = account.FloatingIP(t.Context(), 42)
				assert.Equal(t, e.RetryAt, w.failsWith(hetzner.RateLimited, err).RetryAt)
				assert.Equal(t, 1, calls)
			})
		})
	}
}

// An action is awaited without polls that the limit does not allow; an urgent one may use the reserve.
func TestPollsWaitForTheBudget(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		ids := w.many(2)
		w.spend(362)
		began := time.Now()
		w.AddRule(hetznertest.Rule{Operation: assign, Nth: 1, Fault: hetznertest.Fault{Delay: 100 * time.Millisecond}})
		ended := make(chan error)
		go func() { ended <- w.Assign(t.Context(), ids[0], w.n1, false) }()
		<-time.After(200 * time.Millisecond)
		w.Spend(project, 50)
		require.NoError(t, w.Assign(t.Context(), ids[1], w.n1, true))
		require.NoError(t, <-ended)
		assert.Less(t, time.Since(began), 3*time.Second, "what is not urgent goes along with what is")
	})
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		id := w.many(1)[0]
		w.spend(362)
		began := time.Now()
		require.NoError(t, w.Assign(t.Context(), id, w.n1, false))
		assert.Equal(t, 1, w.calls(polls))
		assert.Greater(t, time.Since(began), time.Second)
		assert.GreaterOrEqual(t, w.Remaining(project), 360)
	})
}

// A tool that makes half of the calls takes none of the reserve from us: we live on what is left beside it.
func TestAnotherTool(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		require.NoError(t, w.read())
		w.Spend(project, 3000)
		w.SetOtherClient(project, 1800)
		lowest := 3600
		for end := time.Now().Add(time.Hour); time.Now().Before(end); {
			if at := w.Ready(false); !at.IsZero() {
				<-time.After(time.Until(at))
				continue
			}
			require.NoError(t, w.read())
			lowest = min(lowest, w.Remaining(project))
			<-time.After(100 * time.Millisecond)
		}
		assert.GreaterOrEqual(t, lowest, 360)
		assert.Greater(t, w.calls(lists), 1900, "what there is, is used")
	})
}

// Answers overtake one another: the older one does not bring back what was used after it.
func TestAnswersOvertake(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		left, waits := make(chan string, 1), make(chan time.Duration, 1)
		account := w.through(func(req *http.Request) (*http.Response, error) {
			told := <-left
			<-time.After(<-waits)
			resp, err := answers(404, "application/json", `{"error": {"code": "not_found"}}`)(req)
			resp.Header.Set("RateLimit-Limit", "3600")
			resp.Header.Set("RateLimit-Remaining", told)
			return resp, err
		})
		ended := make(chan error)
		read := func(told string, wait time.Duration) {
			left <- told
			waits <- wait
			go func() {
				_, err := account.FloatingIP(t.Context(), 42)
				ended <- err
			}()
			synctest.Wait()
		}
		read("1000", 100*time.Millisecond)
		read("600", 10*time.Millisecond)
		w.fails(hetzner.NotFound, <-ended)
		w.fails(hetzner.NotFound, <-ended)
		remaining, _, _ := account.Budget()
		assert.InDelta(t, 600, remaining, 2)

		read("900", 0)
		w.fails(hetzner.NotFound, <-ended)
		remaining, _, _ = account.Budget()
		assert.Equal(t, 900, remaining, "alone it is believed")
	})
}
