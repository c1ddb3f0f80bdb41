package cloud_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// The listed Floating IPs, of which Services want the first.
const (
	wantedListed   = "198.51.100.1"
	unwantedListed = "198.51.100.2"
)

// assignByHand has the listed Floating IPs serve from a node before a controller knows of them, and the first one never
// be cut off again while a Service wants it. It returns the calls that change anything about that one.
func (r *rental) assignByHand(node string) (calls *atomic.Int32) {
	calls = new(atomic.Int32)
	for _, ip := range []string{wantedListed, unwantedListed} {
		f, _ := r.floatingIP(ip)
		require.NoError(r.world.t, r.hetzner.Route(f.ID, r.servers[node]))
	}
	wanted, _ := r.floatingIP(wantedListed)
	r.hetzner.AddHook(func(stage hetznertest.Stage, call hetznertest.Call) bool {
		if stage != hetznertest.BeforeEffect || call.Class != hetznertest.Write || len(call.IDs) == 0 || call.IDs[0] != wanted.ID {
			return false
		}
		calls.Add(1)
		if strings.HasSuffix(call.Operation, "/unassign") && r.world.exists(services, "default/web") {
			r.world.violate("%s is unassigned, and service web wants it", wanted.Prefix)
		}
		return false
	})
	return calls
}

// wishes are the ways in which a Service comes to the listed address.
var wishes = map[string]func(*corev1.Service){
	"annotation":     func(svc *corev1.Service) { svc.Annotations = map[string]string{lb.AnnotationAddresses: wantedListed} },
	"loadBalancerIP": func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = wantedListed },
	"externalIPs":    func(svc *corev1.Service) { svc.Spec.ExternalIPs = []string{wantedListed} },
	"pool":           fromPool("listed"),
	"class": func(svc *corev1.Service) {
		svc.Spec.LoadBalancerClass = new(officeClass)
		svc.Annotations = map[string]string{lb.AnnotationAddresses: wantedListed}
	},
}

// TestAssignedByHand: a controller that comes to Floating IPs that serve already leaves the one where it is that a Service
// wants, without a call about it, and unassigns the one that nobody wants.
func TestAssignedByHand(t *testing.T) {
	for name, wish := range wishes {
		t.Run(name, func(t *testing.T) {
			for _, node := range []string{"n1", "n2", "n3"} {
				simulateAtHetzner(t, 1, crash{}, hetznertest.Options{ListLag: longestLag}, func(w *world) {
					w.classify(name)
					w.start()
					w.settle("without Services", time.Minute) // and with agents that have reported
					w.leader().terminate()
					calls := w.rental.assignByHand(node)
					w.create("web", wish)
					w.start()
					w.settle("published", 5*time.Minute)
					assert.Equal(w.t, node, w.holder("web"))
					assert.Equal(w.t, node, w.rental.nodeOf(w.rental.serverOf(wantedListed)))
					assert.Zero(w.t, calls.Load(), "calls about it")
					w.delete("web")
					w.settle("deleted", 5*time.Minute)
				})
			}
		})
	}
}

// classify gives the listed pool to the Services of a class when it is one of those that is wished for.
func (w *world) classify(wish string) {
	if wish == "class" {
		w.class = officeClass
		w.configure(strings.Replace(w.rental.config(rentedPool), "  hetzner: {}\n", "  hetzner: {}\n  loadBalancerClass: "+officeClass+"\n", 1))
	}
}

// TestCrashWhileAssignedByHand installs Mooring where Floating IPs serve already, and kills the controller at every call
// that it makes: no controller unassigns the one that a Service wants.
func TestCrashWhileAssignedByHand(t *testing.T) {
	life := func(w *world, name string) {
		w.classify(name)
		w.rental.assignByHand("n2")
		w.create("web", wishes[name])
		w.start()
		w.settle("published", 5*time.Minute)
		w.pass(maxDowntime + 2*time.Minute)
		w.settle("published for good", 5*time.Minute)
		o, err := w.api.get(services, "default/web")
		require.NoError(w.t, err)
		assert.Equal(w.t, []string{wantedListed}, addressesOf(as[corev1.Service](o)))
	}
	for _, name := range []string{"annotation", "class"} {
		var points []string
		t.Run(name, func(t *testing.T) {
			simulateAtHetzner(t, 1, crash{}, hetznertest.Options{ListLag: longestLag}, func(w *world) {
				life(w, name)
				points = w.points
			})
		})
		require.NotEmpty(t, points)
		var planned, made atomic.Int32
		t.Run(name+" at", func(t *testing.T) {
			for _, point := range points {
				if reads(point) {
					continue
				}
				for _, m := range []moment{beforeEffect, unanswered} {
					planned.Add(1)
					t.Run(point+"/"+string(m), func(t *testing.T) {
						t.Parallel()
						simulateAtHetzner(t, 1, crash{point: point, moment: m}, hetznertest.Options{ListLag: longestLag}, func(w *world) {
							life(w, name)
							if w.crashed {
								made.Add(1)
							}
						})
					})
				}
			}
		})
		assert.GreaterOrEqual(t, made.Load(), planned.Load()*9/10, "crashes of %d planned", planned.Load())
	}
}
