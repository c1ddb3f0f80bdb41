package hetznertest

import (
	"net/http"
	"strconv"
	"time"
)

// budget of calls that a project has, which all its clients share. It is given back evenly.
type budget struct {
	limit float64
	left  float64
	// others is how many calls a second other clients make.
	others float64
	at     time.Time
}

func newBudget(limit int, now time.Time) budget {
	return budget{limit: float64(limit), left: float64(limit), at: now}
}

// rate at which calls are given back, in calls a second.
func (b *budget) rate() float64 { return b.limit / time.Hour.Seconds() }

func (b *budget) refill(now time.Time) {
	passed := now.Sub(b.at).Seconds()
	b.at = now
	b.left = min(b.limit, max(0, b.left+passed*(b.rate()-b.others)))
}

// calls that can be made now. What is missing by less than a rounding error is there.
func (b *budget) calls() int { return int(b.left + 1e-6) }

// take one call; false: there is none.
func (b *budget) take(now time.Time) bool {
	b.refill(now)
	if b.calls() == 0 {
		return false
	}
	b.left = max(0, b.left-1)
	return true
}

// header tells what is left and when the whole limit is there again, were nobody to call.
func (b *budget) header(h http.Header) {
	b.tell(h, b.calls(), (b.limit-b.left)/b.rate())
}

// headerNext tells that nothing is left and when the next call is let through.
func (b *budget) headerNext(h http.Header) {
	b.tell(h, 0, max(0, 1-b.left)/b.rate())
}

func (b *budget) tell(h http.Header, left int, seconds float64) {
	reset := b.at.Add(time.Duration(seconds * float64(time.Second)).Round(time.Microsecond))
	h.Set("RateLimit-Limit", strconv.Itoa(int(b.limit)))
	h.Set("RateLimit-Remaining", strconv.Itoa(left))
	// Rounded up: at the time that is told the promise holds.
	h.Set("RateLimit-Reset", strconv.FormatInt(reset.Add(time.Second-time.Microsecond).Unix(), 10))
}
