package agent

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What could not be unbound while the API server was away is unbound when it is back, and then the keeper rests.
func TestAfterAFailedYieldItRests(t *testing.T) {
	s := newStage(t)
	o := order(1, hold(vip4))
	s.watch(o)
	s.play(time.Minute)
	s.cut(o)
	s.host.stuck = map[netip.Addr]error{netip.MustParseAddr(vip4): errors.New("no")}
	s.take(vip4)
	s.claim(vip4)
	s.play(5 * time.Second)
	require.Len(t, s.host.bound(), 1)
	s.host.stuck = nil
	s.watch(order(2))
	s.play(2 * time.Second)
	require.Empty(t, s.host.bound())
	assert.Positive(t, s.keeper.Turn(t.Context(), s.now))
}

// A live read that comes to nothing in the middle of a planned move costs seconds, and does not stop the move: the
// predecessor answers until the address is bound here.
func TestAPlannedMoveSurvivesAnUnansweredRead(t *testing.T) {
	s := newStage(t)
	o := order(1, movedFrom("n2", hold(vip4)))
	s.take(vip4)
	s.watch(o)
	s.play(time.Second)
	require.Len(t, s.host.bound(), 1)
	s.stored = nil
	s.keeper.Reconnected()
	s.play(5 * time.Second)
	require.Empty(t, s.host.bound())
	s.stored = o
	s.play(5 * time.Second)
	assert.Len(t, s.host.bound(), 1)
	assert.Empty(t, s.status.Failed)
	assert.Empty(t, s.status.Pending)
}
