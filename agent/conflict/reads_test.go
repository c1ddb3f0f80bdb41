package conflict

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// An answer that was read before the other machine was heard proves nothing about it.
func TestAReadFromBeforeDoesNotCount(t *testing.T) {
	w := newWorld(held(ip1), held(ip2))
	w.answers, w.apiDelay = always(them), 500*time.Millisecond
	w.claim(ip1, them)
	w.play(200 * time.Millisecond) // the read for the first one is under way
	w.claim(ip2, them)
	assert.NotContains(t, w.play(450*time.Millisecond), "contested fd00::10")
	assert.Equal(t, 2, w.asked)
	assert.Contains(t, w.play(time.Second), "contested fd00::10")
}

// A thousand addresses after an absence are one read, and each is probed twice.
func TestAThousandAreAskedForOnce(t *testing.T) {
	var all []Subject
	for i := range 1000 {
		all = append(all, held(addr(i)))
	}
	w := newWorld(all...)
	w.Recheck(w.now)
	assert.Len(t, w.play(time.Second), 1000)
	assert.Equal(t, 1, w.asked)
	for _, s := range all {
		assert.Len(t, w.probed[s.IP], 2)
	}
}

// Machines that contest addresses one after the other do not make an agent read as often as they like.
func TestReadsAreNotBegunTooOften(t *testing.T) {
	for name, test := range map[string]struct {
		holds    func(netip.Addr) bool
		decision string
		most     int
	}{
		"they are answered":    {func(netip.Addr) bool { return true }, "contested 10.0.2.249", 45},
		"they come to nothing": {nil, "yielded 10.0.2.249", 500}, // whoever answers is to have its address at once
	} {
		t.Run(name, func(t *testing.T) {
			var all []Subject
			for i := range 500 {
				all = append(all, held(addr(i)))
			}
			w := newWorld(all...)
			w.answers, w.holds = always(them), test.holds
			var decided []string
			for _, s := range all {
				w.claim(s.IP, them)
				decided = append(decided, w.play(20*time.Millisecond)...)
			}
			decided = append(decided, w.play(time.Second)...)
			assert.Contains(t, decided, test.decision)
			assert.LessOrEqual(t, w.asked, test.most)
			assert.Greater(t, w.asked, test.most/2)
		})
	}
}
