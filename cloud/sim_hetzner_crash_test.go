package cloud_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
)

func fromPool(name string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{lb.AnnotationPool: name}
	}
}

func retained(svc *corev1.Service) { svc.Annotations = map[string]string{lb.AnnotationRetain: "true"} }

// rentedLife is what Services go through whose addresses are bought, listed, and kept.
func rentedLife(w *world) {
	const limit = 5 * time.Minute
	w.start()
	w.create("web", dualStack)
	w.create("listed", fromPool("listed"))
	w.create("kept", retained)
	w.settle("published", limit)
	node := w.names()[0]
	if w.exists(services, "default/web") && isLoadBalancer(w, "web") {
		node = w.holder("web")
	}
	w.loseNode(node)
	w.settle("moved", limit)
	w.returnNode(node)
	w.settle("back", limit)
	for _, name := range []string{"web", "listed", "kept"} {
		if w.exists(services, "default/"+name) {
			w.delete(name)
		}
	}
	w.settle("deleted", limit)
	// What lands late is seen by the reads of a new controller.
	w.pass(maxDowntime + 2*time.Minute)
	w.settle("deleted for good", limit)
	for p, n := range w.rental.purchases() {
		if n > 1 {
			w.violate("%d Floating IPs were bought for %v", n, p)
		}
	}
	retained := 0
	for _, f := range w.rental.hetzner.FloatingIPs(ourProject) {
		if !isListed(f.Prefix) {
			retained++
		}
	}
	assert.LessOrEqual(w.t, retained, 1)
	if w.plan.point == "" {
		assert.Equal(w.t, 1, retained)
		assert.Equal(w.t, 3, w.rental.hetzner.Purchases(ourProject))
	}
}

func isLoadBalancer(w *world, name string) bool {
	o, err := w.api.get(services, "default/"+name)
	require.NoError(w.t, err)
	return as[corev1.Service](o).Spec.Type == corev1.ServiceTypeLoadBalancer
}

// downtimes are what may happen while there is no controller.
var downtimes = map[string]func(*world){
	"":           nil,
	"/forgotten": forget,
	"/deleted": func(w *world) {
		for _, name := range []string{"web", "kept", "listed"} {
			if w.exists(services, "default/"+name) {
				w.delete(name)
			}
		}
	},
	"/retyped": func(w *world) {
		if w.exists(services, "default/web") {
			w.edit("web", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
		}
	},
	// The pool, or the project, is missing for a minute.
	"/poolless": func(w *world) {
		w.configure(w.rental.config(""))
		time.AfterFunc(absence, func() { w.configure(w.rental.config(rentedPool)) })
	},
	"/elsewhere": func(w *world) {
		w.rental.useToken(foreignToken)
		time.AfterFunc(absence, func() { w.rental.useToken(ourToken) })
	},
}

const (
	absence = time.Minute
	// longestLag of lists is nearly as much as the controller reckons with.
	longestLag = 2900 * time.Millisecond
)

// TestCrashAtEveryCallToHetzner kills the controller at every call that it makes to Hetzner, at every write to the API
// server and at every acknowledgement of an agent, and lets calls to Hetzner have their effect long after that. Whatever
// the moment: nothing is bought twice or leaks, what was published stays, what is listed is not deleted, and in the end
// everything is as the Services ask for. After every write it does so once more with something done before the next
// controller starts: after those to Hetzner, and after every eighth of the others, with LONG=1 after all.
func TestCrashAtEveryCallToHetzner(t *testing.T) {
	var points []string
	t.Run("none", func(t *testing.T) {
		simulateAtHetzner(t, 1, crash{}, hetznertest.Options{ListLag: longestLag}, func(w *world) {
			rentedLife(w)
			points = w.points
		})
	})
	require.NotEmpty(t, points)
	var planned, made atomic.Int32
	t.Run("at", func(t *testing.T) {
		for _, plan := range crashes(points) {
			planned.Add(1)
			t.Run(plan.name, func(t *testing.T) {
				t.Parallel()
				simulateAtHetzner(t, 1, plan.crash, hetznertest.Options{ListLag: longestLag}, func(w *world) {
					rentedLife(w)
					if w.crashed {
						made.Add(1)
					}
				})
			})
		}
	})
	// The order of what goes on at one moment is Go's to choose, so now and then a call is not made.
	assert.GreaterOrEqual(t, made.Load(), planned.Load()*9/10, "crashes of %d planned", planned.Load())
	t.Logf("%d crashes at %d points", made.Load(), len(points))
}

type namedCrash struct {
	name string
	crash
}

// crashes at these points.
func crashes(points []string) (all []namedCrash) {
	add := func(point string, m moment, downtime string) {
		all = append(all, namedCrash{point + "/" + string(m) + downtime, crash{point: point, moment: m, meanwhile: downtimes[downtime]}})
	}
	for _, point := range points {
		if readsOnly(point) {
			add(point, unanswered, "")
			add(point, answered, "")
			continue
		}
		for _, m := range moments {
			add(point, m, "")
		}
		for _, name := range slices.Sorted(maps.Keys(downtimes)) {
			always := strings.HasPrefix(point, "hetzner ") || os.Getenv("LONG") != ""
			if name != "" && (always || xxhash.Sum64String(point+name)%8 == 0) {
				add(point, unanswered, name)
			}
		}
		if strings.HasPrefix(point, "hetzner ") {
			for _, name := range []string{"", "/deleted", "/retyped"} {
				add(point, landsLate, name)
			}
		}
	}
	return all
}

// readsOnly reports whether a call changes nothing.
func readsOnly(point string) bool {
	return reads(point) || strings.HasPrefix(point, "hetzner GET ")
}
