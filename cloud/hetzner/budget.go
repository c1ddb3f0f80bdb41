package hetzner

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// reserve is the share of the limit that is left to urgent calls, and to other tools.
	reserve = 10
	// longestWait after a 429: the limit is one of an hour, so a later Reset is a mistake.
	longestWait = time.Hour
	// blindWait after a 429 that does not say when.
	blindWait = time.Minute
)

// budget is the rate limit of a project, which others use too. Hetzner tells with each answer how many calls are left,
// and gives back limit/3600 a second. Between answers it is estimated: what the last one said, plus what came back,
// minus our calls that are under way. What others use meanwhile shows with the next answer.
type budget struct {
	clock clock.PassiveClock

	mu sync.Mutex
	// limit per hour; 0: no answer said it yet.
	limit int
	// left at the time of the last answer.
	left float64
	at   time.Time
	// flying calls are sent and not answered.
	flying int
	// answers counts them, so that one can tell whether another came while it was under way.
	answers uint64
	// blocked: nothing goes out before.
	blocked time.Time
}

// refusal is the error of a call that was not sent.
type refusal struct{ until time.Time }

func (r *refusal) Error() string { return "the rate limit of the project is used up" }

// estimate of the calls left, with the lock held.
func (b *budget) estimate(now time.Time) float64 {
	back := max(0, now.Sub(b.at).Seconds()) * b.rate()
	return min(b.left+back, float64(b.limit)) - float64(b.flying)
}

// rate at which calls come back, a second.
func (b *budget) rate() float64 { return float64(b.limit) / 3600 }

// next says when a call may go out, with the lock held. The zero time means now.
func (b *budget) next(now time.Time, urgent bool) time.Time {
	if b.blocked.After(now) {
		return b.blocked
	}
	if b.limit == 0 {
		return time.Time{}
	}
	// The call itself is counted: after it, the reserve is still whole. One more is left for what the estimate is off,
	// since Hetzner tells whole calls.
	need := 1.0
	if !urgent {
		need += float64(b.limit)/reserve + 1
	}
	missing := need - b.estimate(now)
	if missing <= 0 {
		return time.Time{}
	}
	wait := time.Duration(missing / b.rate() * float64(time.Second))
	return now.Add(wait.Truncate(time.Millisecond) + time.Millisecond)
}

func (b *budget) ready(urgent bool) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next(b.clock.Now(), urgent)
}

func (b *budget) remains() (remaining, limit int, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, int(b.estimate(b.clock.Now()))), b.limit, b.limit > 0
}

func (b *budget) blockedUntil() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.blocked
}

// send counts a call that goes out, or refuses it. answered is to be called once, with nil when no answer came.
func (b *budget) send(urgent bool) (answered func(*http.Response), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := b.next(b.clock.Now(), urgent); !until.IsZero() {
		return nil, &refusal{until: until}
	}
	b.flying++
	before := b.answers
	return func(resp *http.Response) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.answer(resp, before)
	}, nil
}

// answer takes what an answer says, with the lock held. before is how many answers there were when its call was sent.
func (b *budget) answer(resp *http.Response, before uint64) {
	now := b.clock.Now()
	b.flying--
	// The estimate counts the calls under way; what is kept does not.
	own := b.estimate(now) + float64(b.flying) - 1
	limit, left, told := told(resp)
	if b.limit > 0 {
		b.left, b.at = own, now
	}
	if told {
		// Calls overtake one another: an answer during which others came may be the older one, and is believed only
		// when it says less.
		if b.limit == 0 || b.answers == before || float64(left) < own {
			b.left = float64(left)
		}
		b.limit, b.at = limit, now
		b.answers++
	}
	if resp != nil && resp.StatusCode == http.StatusTooManyRequests {
		b.left, b.at = 0, now
		b.blocked = reset(resp, now)
	}
}

// told reads the headers that come with each answer of the API.
func told(resp *http.Response) (limit, left int, ok bool) {
	if resp == nil {
		return 0, 0, false
	}
	limit, err := strconv.Atoi(resp.Header.Get("RateLimit-Limit"))
	if err != nil || limit <= 0 {
		return 0, 0, false
	}
	left, err = strconv.Atoi(resp.Header.Get("RateLimit-Remaining"))
	return limit, min(max(left, 0), limit), err == nil
}

// reset is when calls may go out again after a 429.
func reset(resp *http.Response, now time.Time) time.Time {
	seconds, err := strconv.ParseInt(resp.Header.Get("RateLimit-Reset"), 10, 64)
	if err != nil {
		return now.Add(blindWait)
	}
	at := time.Unix(seconds, 0)
	if !at.After(now) {
		return now.Add(time.Second)
	}
	if latest := now.Add(longestWait); at.After(latest) {
		return latest
	}
	return at
}

type urgency struct{}

// withUrgency marks the calls of a context as urgent.
func withUrgency(ctx context.Context, urgent bool) context.Context {
	return context.WithValue(ctx, urgency{}, urgent)
}

// gate is the transport of a conn: it lets through what the budget allows, and tells the budget what came back.
type gate struct {
	budget *budget
	next   http.RoundTripper
}

func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	urgent, _ := req.Context().Value(urgency{}).(bool)
	answered, err := g.budget.send(urgent)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		answered(nil)
		return nil, err
	}
	answered(resp)
	return resp, nil
}
