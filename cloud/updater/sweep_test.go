package updater_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/updater"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

// inherit has a controller start with ten ports in use, at an updater on which ten more were left behind. Nothing of what
// is in use is right there.
func (s *site) inherit() {
	var unused []updater.Key
	for i := range 10 {
		unused = append(unused, key(8110+i))
		for _, k := range []updater.Key{key(8100 + i), key(8110 + i)} {
			require.NoError(s.t, s.a.Put(updater.Name(prefix, k), stale(k)))
		}
	}
	s.w.SweepUnused(unused)
	for i := range 10 {
		s.set(8100+i, "192.0.2.3:30001")
	}
}

// stale is what an earlier controller has left behind.
func stale(k updater.Key) string {
	const file = "upstream %[1]s { server 192.0.2.99:1; } server { listen %[2]d; proxy_pass %[1]s; proxy_timeout 5s; proxy_connect_timeout 2s; }"
	return fmt.Sprintf(file, updater.Name(prefix, k), k.Port)
}

// left counts the ports that were left behind and are there still.
func (s *site) left() (n int) {
	for i := range 10 {
		if file(s.a, key(8110+i)) != "" {
			n++
		}
	}
	return n
}

// TestPortsInUseComeBeforeUnusedOnes: when the first unused port is cleared, the load balancer serves everything that is
// in use, also when that took several tries, or the updater was down at first.
func TestPortsInUseComeBeforeUnusedOnes(t *testing.T) {
	for name, trouble := range map[string]struct {
		fault updatertest.Fault
		// lasts for so long, of the ports with these last digits.
		lasts  time.Duration
		digits string
	}{
		"all is well":               {},
		"some are refused at first": {fault: updatertest.Fault{NoEffect: true, Answer: updatertest.InternalError}, lasts: 45 * time.Second, digits: "37"},
		"one hangs at first":        {fault: updatertest.Fault{Hang: true}, lasts: 45 * time.Second, digits: "5"},
		"down at first":             {fault: updatertest.Fault{NoEffect: true, Answer: updatertest.Cut}, lasts: 10 * time.Minute, digits: "0123456789"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, nil)
				begin := time.Now()
				s.a.BreakEach(func(c updatertest.Call) updatertest.Fault {
					port := strings.TrimSuffix(c.Request.BackendName, "_tcp")
					if c.At.Sub(begin) < trouble.lasts && strings.ContainsAny(port[len(port)-1:], trouble.digits) {
						return trouble.fault
					}
					return updatertest.Fault{}
				})
				s.inherit()
				for s.left() == 10 {
					require.Less(t, time.Since(begin), trouble.lasts+3*time.Minute, "nothing is cleared")
					pass(50 * time.Millisecond) // half of the pause between two that are cleared
				}
				served := s.a.Served()
				for i := range 10 {
					assert.Contains(t, served[updater.Name(prefix, key(8100+i))], "192.0.2.3:30001", 8100+i)
				}
				pass(10 * time.Second)
				assert.Zero(t, s.left())
			})
		})
	}
}

// TestPortThatIsNeverTakenKeepsNobodyFromSweeping: it is refused, or hangs, for ever.
func TestPortThatIsNeverTakenKeepsNobodyFromSweeping(t *testing.T) {
	for name, fault := range map[string]updatertest.Fault{
		"refused": {NoEffect: true, Answer: updatertest.InternalError},
		"hangs":   {Hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, nil)
				s.a.BreakEach(func(c updatertest.Call) updatertest.Fault {
					if c.Request.LBPort == 8105 {
						return fault
					}
					return updatertest.Fault{}
				})
				s.inherit()
				pass(2 * time.Minute)
				assert.Equal(t, 10, s.left(), "they wait for it")
				pass(5 * time.Minute)
				assert.Zero(t, s.left())
				assert.Equal(t, updater.PhaseTelling, s.w.State(key(8105)).Phase)
			})
		})
	}
}

// TestPortThatChangesAllTheTimeKeepsNobodyFromSweeping: five times a second, for five minutes.
func TestPortThatChangesAllTheTimeKeepsNobodyFromSweeping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.inherit()
		for i := range 4 * 60 * 5 {
			s.set(8105, []string{"192.0.2.3:1", "192.0.2.3:2"}[i%2])
			pass(200 * time.Millisecond)
		}
		assert.Zero(t, s.left())
	})
}
