package cloud_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

const (
	rateLimit = 3600
	tenth     = rateLimit / 10
)

// callsOf are the calls of the cluster at Hetzner so far.
func (r *rental) callsOf() []hetznertest.Record {
	return slices.DeleteFunc(r.hetzner.Log(), func(record hetznertest.Record) bool { return !strings.HasPrefix(record.Caller, r.world.hosts+"/") })
}

// checkBudget: no call below a tenth of the limit but those that are urgent, and none after a 429 before it is time.
func (r *rental) checkBudget(urgent ...string) {
	var blocked time.Time
	for _, c := range r.callsOf() {
		if c.Time.Before(blocked) {
			r.world.violate("%s at %s, and not before %s", c.Operation, c.Time, blocked)
		}
		if c.Code == hetznertest.RateLimitExceeded {
			blocked = c.Reset
		} else if c.Remaining < tenth && !slices.Contains(urgent, c.Operation) {
			r.world.violate("%s with %d calls left", c.Operation, c.Remaining)
		}
	}
}

// underWay is the longest that a purchase takes to reach Hetzner once it is next: the epoch is read before it.
const underWay = 3 * maxLatency

// purchasesByAge: a purchase is overtaken only by such as were made while it was under way. It returns how many there
// were, of Services that are named as flock does.
func (r *rental) purchasesByAge() int {
	type purchase struct {
		service int
		at      time.Time
	}
	var made []purchase
	for _, c := range r.callsOf() {
		if c.Operation != "POST /floating_ips" || !c.Effect {
			continue
		}
		_, name, _ := strings.Cut(nameIn(c.Body), "default-s")
		p := purchase{at: c.Time}
		_, err := fmt.Sscanf(name, "%d-", &p.service)
		require.NoError(r.world.t, err)
		for _, earlier := range made {
			if waited := p.at.Sub(earlier.at); earlier.service > p.service && waited > underWay {
				r.world.violate("s%03d was bought %s before s%03d, which is older", earlier.service, waited, p.service)
			}
		}
		made = append(made, p)
	}
	return len(made)
}

// flock creates so many Services, one a second, while there is no controller.
func (w *world) flock(n int) {
	for i := range n {
		w.create(fmt.Sprintf("s%03d", i))
		w.pass(time.Second)
	}
}

// TestManyServicesAtOnce against a rate limit of which another client of the project uses half: they are served by age,
// with no more calls than it takes, and the last tenth is left alone.
func TestManyServicesAtOnce(t *testing.T) {
	const many = 300
	simulateAtHetzner(t, 1, crash{}, hetznertest.Options{RateLimit: rateLimit}, func(w *world) {
		w.flock(many)
		w.rental.hetzner.SetOtherClient(ourProject, rateLimit/2)
		w.rental.hetzner.Spend(ourProject, rateLimit-tenth-100)
		w.start()
		w.pass(20 * time.Minute)
		// Somebody uses up what is left, and the next call is refused.
		w.rental.hetzner.Spend(ourProject, rateLimit)
		w.settle("published", 4*time.Hour)
		w.rental.checkBudget()

		assert.Equal(w.t, many, w.rental.purchasesByAge())

		counts, refused := map[string]int{}, 0
		for _, c := range w.rental.callsOf() {
			counts[c.Operation]++
			if c.Code == hetznertest.RateLimitExceeded {
				refused++
			}
		}
		w.t.Logf("%d Services, calls: %v, of them refused: %d", many, counts, refused)
		assert.Equal(w.t, many, w.rental.hetzner.Purchases(ourProject))
		assert.LessOrEqual(w.t, refused, 50, "those that were under way")
		assert.LessOrEqual(w.t, counts["POST /floating_ips"]+counts["POST /floating_ips/{id}/actions/assign"]+counts["GET /floating_ips/{id}"], 3*many)
	})
}

// TestFailoverOfManyAddresses: when the node is lost that has them all, they are assigned to others at once, also with
// what is left of the rate limit for that.
func TestFailoverOfManyAddresses(t *testing.T) {
	const many = 300
	simulateAtHetzner(t, 1, crash{}, hetznertest.Options{RateLimit: rateLimit}, func(w *world) {
		w.exclude("n2", true)
		w.exclude("n3", true)
		w.start()
		for i := range many {
			w.create(fmt.Sprintf("s%03d", i))
		}
		w.settle("published", time.Hour)
		w.exclude("n2", false)
		w.exclude("n3", false)
		w.pass(2 * time.Minute)
		w.rental.hetzner.Spend(ourProject, w.rental.hetzner.Remaining(ourProject)-tenth-100)
		w.rental.hetzner.ForgetLog()
		w.loseNode("n1")
		lost := time.Now()
		w.settle("moved", 10*time.Minute)
		took := time.Since(lost)
		w.rental.checkBudget("POST /floating_ips/{id}/actions/assign", "GET /actions")
		counts := map[string]int{}
		for _, c := range w.rental.callsOf() {
			counts[c.Operation]++
		}
		w.t.Logf("%d addresses moved in %s, calls: %v", many, took, counts)
		assert.Equal(w.t, many, counts["POST /floating_ips/{id}/actions/assign"])
		assert.Less(w.t, took, time.Minute)
	})
}

// TestIdleHour counts the calls of an hour in which nothing happens.
func TestIdleHour(t *testing.T) {
	const held = 47 // and three that are listed
	simulateAtHetzner(t, 1, crash{}, hetznertest.Options{}, func(w *world) {
		w.start()
		for i := range held {
			w.create(fmt.Sprintf("s%03d", i))
		}
		w.settle("published", time.Hour)
		w.pass(5 * time.Minute)
		w.rental.hetzner.ForgetLog()
		w.pass(time.Hour)
		counts := w.rental.hetzner.Counts()
		w.t.Log(counts)
		assert.LessOrEqual(w.t, counts["GET /floating_ips"], 6)
		assert.LessOrEqual(w.t, counts["GET /servers"], 1)
		assert.Len(w.t, counts, 2)
	})
}
