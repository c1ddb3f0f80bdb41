package nodeaddresses

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestPace: the first write of an object that rested is not held back, the next one is, for as long as writing is
// expensive and never for longer than maxPause.
func TestPace(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name        string
		took, later time.Duration
		wait        time.Duration
	}{
		{"a cheap write", 5 * time.Millisecond, 0, 40 * time.Millisecond},
		{"part of the pause is over", 5 * time.Millisecond, 30 * time.Millisecond, 10 * time.Millisecond},
		{"the pause is over", 5 * time.Millisecond, 40 * time.Millisecond, 0},
		{"the object rested", 5 * time.Millisecond, time.Hour, 0},
		{"an expensive write", 10 * time.Second, 0, maxPause},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pace
			assert.Zero(t, p.wait("n1", now), "never written")
			p.wrote("n1", now, c.took)
			assert.Equal(t, c.wait, p.wait("n1", now.Add(c.later)))
			assert.Zero(t, p.wait("n2", now), "nodes do not wait for each other")
			p.forget("n1")
			assert.Zero(t, p.wait("n1", now))
		})
	}
}
