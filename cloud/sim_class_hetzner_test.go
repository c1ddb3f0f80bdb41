package cloud_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// simulateClassAtHetzner is simulateClass with a pool that buys for the class. What belongs to no Service stays at
// Hetzner, and is reported: a Service that goes too early leaves something behind.
func simulateClassAtHetzner(t *testing.T, plan crash, test func(w *world)) {
	simulateAtHetzner(t, 1, plan, hetznertest.Options{ListLag: longestLag}, func(w *world) {
		w.class = officeClass
		w.configure(strings.Replace(w.rental.config(rentedPool+"  loadBalancerClass: "+officeClass+"\n"), "orphans: release", "orphans: report", 1))
		go w.other()
		test(w)
	})
}

// TestBoughtForClass kills the controller at every call by which it changes something at Hetzner or on a Service of a
// class, while another cloud-controller-manager takes the finalizer that both share off a Service that is being deleted,
// also while no controller runs. Nothing that was bought outlives its Service.
func TestBoughtForClass(t *testing.T) {
	life := func(w *world) {
		w.start()
		w.create("web", dualStack)
		w.settle("published", 5*time.Minute)
		if w.exists(services, "default/web") {
			w.delete("web")
		}
		w.settle("deleted", 10*time.Minute)
		w.pass(maxDowntime + time.Minute)
		w.settle("deleted for good", 5*time.Minute)
	}
	var points []string
	t.Run("none", func(t *testing.T) {
		simulateClassAtHetzner(t, crash{}, func(w *world) {
			life(w)
			points = w.points
		})
	})
	var planned, made atomic.Int32
	t.Run("at", func(t *testing.T) {
		for _, point := range points {
			if readsOnly(point) || strings.Contains(point, "nodeaddresses") {
				continue
			}
			for _, m := range moments {
				for _, downtime := range []string{"", "/deleted"} {
					planned.Add(1)
					t.Run(point+"/"+string(m)+downtime, func(t *testing.T) {
						t.Parallel()
						simulateClassAtHetzner(t, crash{point: point, moment: m, meanwhile: downtimes[downtime]}, func(w *world) {
							life(w)
							if w.crashed {
								made.Add(1)
							}
						})
					})
				}
			}
		}
	})
	require.NotZero(t, planned.Load())
	assert.GreaterOrEqual(t, made.Load(), planned.Load()*9/10, "crashes of %d planned", planned.Load())
	t.Logf("%d crashes", made.Load())
}
