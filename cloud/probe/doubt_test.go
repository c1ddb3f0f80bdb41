package probe

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

func TestDoubt(t *testing.T) {
	for _, tt := range []struct{ nodes, silent, lost int }{
		{1, 1, 0}, {2, 1, 1}, {2, 2, 0}, {3, 1, 1}, {3, 2, 0}, {10, 5, 5}, {10, 6, 0}, {10, 10, 0}, {1000, 500, 500}, {1000, 501, 0},
	} {
		t.Run(fmt.Sprintf("%d of %d", tt.silent, tt.nodes), func(t *testing.T) {
			c := cluster(tt.nodes)
			c.silence(0, tt.silent)
			c.rounds(10)
			assert.Len(t, c.lost(), tt.lost)
			stats := c.Stats(c.now)
			assert.Equal(t, tt.silent, stats.Silent)
			assert.Equal(t, tt.lost == 0, stats.Doubting)
			if tt.lost > 0 {
				assert.Zero(t, stats.Doubts)
				return
			}
			assert.Equal(t, 1, stats.Doubts)
			assert.Equal(t, lb.PulseNone, c.pulses["n0"], "the Ready condition alone decides")
			clear(c.mute)
			c.rounds(1)
			assert.Equal(t, lb.PulseAnswering, c.pulses["n0"])
			assert.Equal(t, Stats{Doubts: 1}, c.Stats(c.now))
		})
	}
}

func TestDoubtTakesBackNothingThatWasSaid(t *testing.T) {
	c := cluster(10)
	c.silence(0, 4)
	c.rounds(4)
	require.Len(t, c.lost(), 4)
	c.silence(4, 8)
	c.rounds(400) // two minutes
	assert.Equal(t, []string{"n0", "n1", "n2", "n3"}, c.lost())
	assert.Equal(t, lb.PulseNone, c.pulses["n4"])
	assert.True(t, c.Stats(c.now).Doubting)

	for _, name := range []string{"n5", "n6", "n7"} {
		delete(c.mute, name)
	}
	c.rounds(2)
	assert.Equal(t, []string{"n0", "n1", "n2", "n3", "n4"}, c.lost(), "half is silent: the judge trusts itself again")
	assert.Equal(t, Stats{Silent: 5, Doubts: 1}, c.Stats(c.now))
}

func TestNodesThatDieOneByOneDoNotAddUp(t *testing.T) {
	for _, down := range []bool{true, false} {
		t.Run(fmt.Sprintf("down %t", down), func(t *testing.T) {
			c := cluster(10)
			for i := range 9 {
				c.silence(i, i+1)
				c.rounds(5)
				if i < 8 {
					assert.Len(t, c.lost(), i+1)
				}
				c.rounds(200)
				if down {
					c.nodes[i].Down = true
					c.Set(c.nodes)
				}
			}
			assert.Len(t, c.lost(), 9)
			assert.Zero(t, c.Stats(c.now).Doubts)
		})
	}
	t.Run("and one that came back counts again", func(t *testing.T) {
		c := cluster(3)
		c.silence(0, 1)
		c.rounds(200)
		require.Equal(t, []string{"n0"}, c.lost())
		clear(c.mute)
		c.rounds(1)
		c.silence(0, 2)
		c.rounds(4)
		assert.Empty(t, c.lost())
	})
	t.Run("down from the beginning", func(t *testing.T) {
		c := cluster(0)
		for i := range 10 {
			c.nodes = append(c.nodes, Node{Name: fmt.Sprintf("n%d", i), Answered: true, Down: i < 7})
		}
		c.Set(c.nodes)
		c.silence(0, 7)
		c.rounds(10)
		assert.Empty(t, c.lost(), "the Ready condition has said it")
		c.silence(7, 8)
		c.rounds(4)
		assert.Equal(t, []string{"n7"}, c.lost())
	})
}

// A cable is pulled while a round is under way: those that were asked before are one round behind the others.
func TestAStormThatTwoRoundsSeeIsOne(t *testing.T) {
	c := cluster(10)
	c.silence(0, 5)
	c.round(0, 0)
	c.silence(5, 9)
	c.round(0, 0)
	confirm := c.round(0, 0)
	require.Len(t, confirm, 5)
	c.burst(confirm, 0) // even when it ends before the next round
	assert.Empty(t, c.lost())
	c.rounds(2)
	assert.Empty(t, c.lost())
	assert.True(t, c.Stats(c.now).Doubting)
}
