package conflict

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Its API server was away for a moment when the predecessor, which stays bound until the successor is, answered.
func TestAMovedAddressThatWasYieldedComesBackWithTheAPIServer(t *testing.T) {
	w := newWorld(Subject{IP: ip1, Uplink: "eth0", Bound: true, Moved: true})
	w.answers, w.holds = always(them), nil
	w.Recheck(w.now)
	assert.Equal(t, []string{"yielded 10.0.0.10"}, w.play(time.Second))
	w.Watch(w.now, []Subject{moved(ip1)})
	assert.Empty(t, w.play(time.Minute), "it cannot be asked")
	assert.Equal(t, Taken, verdict(w, ip1))

	w.holds = func(netip.Addr) bool { return false }
	assert.NotContains(t, w.play(time.Minute), "returned 10.0.0.10", "it is not ours")
	assert.Equal(t, Taken, verdict(w, ip1))

	w.holds = func(netip.Addr) bool { return true }
	assert.Equal(t, []string{"returned 10.0.0.10"}, w.play(3*time.Second))
	assert.True(t, w.Returning(ip1))
	w.Watch(w.now, []Subject{{IP: ip1, Uplink: "eth0", Bound: true, Moved: true}})
	assert.Empty(t, w.play(time.Minute))
	assert.Equal(t, Free, verdict(w, ip1))
}
