package updater_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/updater"
)

// TestRollingRestart counts what 500 backends on 50 nodes cost when ten nodes restart.
func TestRollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		const backends, nodes, restarts = 500, 50, 10
		push := func(missing int) {
			for i := range backends {
				var list []netip.AddrPort
				for n := range nodes {
					if n != missing {
						list = append(list, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n + 1)}), uint16(30000+i)))
					}
				}
				require.NoError(t, s.w.SetBackend(key(8000+i), updater.Backend{Targets: list}))
			}
		}
		push(-1)
		pass(time.Minute)
		before, _ := s.a.Count()
		for n := range restarts {
			push(n)
			pass(20 * time.Second)
			push(-1)
			pass(20 * time.Second)
		}
		after, _ := s.a.Count()
		whys := s.whys()
		changing, _ := s.a.Reloads()
		t.Logf("%d pushes for %d changes of %d backends: %v, %d reloads", after-before, 2*restarts, backends, whys, changing)
		assert.Equal(t, (1+2*restarts)*backends, whys[updater.WhyChange], "one push for each change")
		assert.LessOrEqual(t, whys[updater.WhyRepeat], 1+2*restarts+5)
		for i := range backends {
			assert.Equal(t, updater.PhaseTold, s.w.State(key(8000+i)).Phase)
		}
		pass(time.Hour)
		idle, refusals := s.a.Reloads()
		t.Logf("%d reloads in an hour at rest", idle-changing)
		assert.LessOrEqual(t, idle-changing, 14, "two for each resync: the burst, and the one that misses nothing of it")
		assert.Empty(t, refusals)
	})
}
