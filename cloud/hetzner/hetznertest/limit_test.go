package hetznertest_test

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// call once; what the headers say is returned.
func (w *world) call() (status, remaining int, reset time.Time) {
	w.t.Helper()
	got := w.send(http.MethodGet, "/locations", "")
	assert.Equal(w.t, "3600", got.header.Get("RateLimit-Limit"))
	remaining, err := strconv.Atoi(got.header.Get("RateLimit-Remaining"))
	require.NoError(w.t, err)
	seconds, err := strconv.ParseInt(got.header.Get("RateLimit-Reset"), 10, 64)
	require.NoError(w.t, err)
	return got.status, remaining, time.Unix(seconds, 0)
}

// A project has 3600 calls, gets one back each second, and is told so by every answer.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{})
		w.AddProject("dev", "other")
		status, remaining, reset := w.call()
		assert.Equal(t, http.StatusOK, status)
		assert.Equal(t, 3599, remaining)
		assert.Equal(t, time.Now().Add(time.Second).Unix(), reset.Unix())

		w.Spend("prod", 3598)
		status, remaining, reset = w.call()
		assert.Equal(t, http.StatusOK, status)
		assert.Zero(t, remaining)
		assert.Equal(t, time.Now().Add(time.Hour).Unix(), reset.Unix())
		status, remaining, reset = w.call()
		assert.Equal(t, http.StatusTooManyRequests, status)
		assert.Zero(t, remaining)
		assert.Equal(t, time.Now().Add(time.Hour).Unix(), reset.Unix())
		_, err := w.client.FloatingIP.All(t.Context())
		assert.Equal(t, "rate_limit_exceeded", code(err))
		records := w.Log()
		assert.Equal(t, []int{3599, 0, 0, 0}, []int{records[0].Remaining, records[1].Remaining, records[2].Remaining, records[3].Remaining})
		assert.Equal(t, reset, records[2].Reset)
		assert.Equal(t, hetznertest.RateLimitExceeded, records[2].Code)
		_, err = w.clientOf("", "other").FloatingIP.All(t.Context())
		require.NoError(t, err, "another project has a limit of its own")

		<-time.After(3 * time.Second)
		for range 3 {
			status, _, _ = w.call()
			assert.Equal(t, http.StatusOK, status)
		}
		status, _, _ = w.call()
		assert.Equal(t, http.StatusTooManyRequests, status)
		<-time.After(2 * time.Hour)
		assert.Equal(t, 3600, w.Remaining("prod"))
	})
}

// RateLimit-Reset of a refusal can be the time at which the next call is let through.
func TestResetOfTheNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{ResetIsNext: true})
		w.Spend("prod", 3600)
		<-time.After(300 * time.Millisecond)
		status, _, reset := w.call()
		assert.Equal(t, http.StatusTooManyRequests, status)
		assert.Equal(t, time.Second, reset.Sub(time.Now().Truncate(time.Second)))
		<-time.After(time.Until(reset))
		status, _, _ = w.call()
		assert.Equal(t, http.StatusOK, status)
	})
}

// Another tool of the project that uses half of the limit leaves the other half.
func TestAnotherClientOfTheProject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{})
		w.SetOtherClient("prod", 1800)
		w.Spend("prod", 3600)
		served := 0
		for range 3600 {
			<-time.After(time.Second)
			if status, _, _ := w.call(); status == http.StatusOK {
				served++
			}
		}
		assert.InDelta(t, 1800, served, 1)
	})
}
