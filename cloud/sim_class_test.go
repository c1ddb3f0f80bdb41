package cloud_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/service"
)

const (
	officeClass = "example.com/office"
	otherClass  = "example.com/other"
)

// officeOf is the pool office for Services of a class.
func officeOf(class string) string { return office + "  loadBalancerClass: " + class + "\n" }

// simulateClass runs a test in a world with a pool of a class, and beside another cloud-controller-manager.
func simulateClass(t *testing.T, seed uint64, plan crash, test func(w *world)) {
	simulate(t, seed, plan, func(w *world) {
		w.class = officeClass
		w.configure(officeOf(officeClass))
		go w.other()
		test(w)
	})
}

func ofClass(class string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &class }
}

func classOf(svc *corev1.Service) string {
	if svc.Spec.LoadBalancerClass == nil {
		return ""
	}
	return *svc.Spec.LoadBalancerClass
}

// other is another cloud-controller-manager. It serves Services without a class, and takes the finalizer that all of them
// share off every Service that is being deleted.
func (w *world) other() {
	for {
		changed := w.api.next()
		list, _ := w.api.list(services)
		for _, o := range list {
			svc := as[corev1.Service](o)
			patch := w.otherWants(svc)
			if patch == nil || !w.wait(w.ctx, w.latency("other"+o.text("resourceVersion"), time.Second)) {
				continue
			}
			raw, err := json.Marshal(patch)
			require.NoError(w.t, err)
			w.trace("another controller patches service %s: %s", svc.Name, raw)
			_, _ = w.api.patch(services, svc.Namespace+"/"+svc.Name, "status", types.StrategicMergePatchType, raw) // gone is fine
		}
		select {
		case <-w.ctx.Done():
			return
		case <-changed:
		}
	}
}

func (w *world) otherWants(svc *corev1.Service) fields {
	finalizers := []string{servicehelper.LoadBalancerCleanupFinalizer}
	switch {
	case svc.DeletionTimestamp != nil && servicehelper.HasLBFinalizer(svc):
		return fields{"metadata": fields{"$deleteFromPrimitiveList/finalizers": finalizers}, "status": fields{"loadBalancer": fields{"ingress": nil}}}
	case svc.DeletionTimestamp == nil && svc.Spec.Type == corev1.ServiceTypeLoadBalancer && classOf(svc) == "" && !servicehelper.HasLBFinalizer(svc):
		return fields{
			"metadata": fields{"finalizers": finalizers},
			"status":   fields{"loadBalancer": fields{"ingress": []fields{{"ip": "203.0.113.7"}}}},
		}
	default:
		return nil
	}
}

// classLife is what Services of a class go through, and one without: it is another's.
func classLife(w *world) {
	w.start()
	w.create("web")
	w.create("theirs", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = nil })
	w.settle("published", 2*time.Minute)
	if w.exists(services, "default/web") {
		w.delete("web")
	}
	w.create("typed", dualStack)
	w.settle("published", 2*time.Minute)
	w.edit("typed", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	w.settle("withdrawn", 5*time.Minute)
	w.delete("theirs")
	w.settle("deleted", 10*time.Minute)
	w.pass(maxDowntime + time.Second)
	w.settle("deleted for good", time.Minute)
}

// TestCrashAtEveryCallWithClass kills the controller at every call that it makes for Services of a class, while another
// cloud-controller-manager takes the finalizer that both share off those that are being deleted. Nothing is left of a
// Service that is gone, and nothing of ours is on the one that is the other's.
func TestCrashAtEveryCallWithClass(t *testing.T) {
	var points []string
	t.Run("none", func(t *testing.T) {
		simulateClass(t, 1, crash{}, func(w *world) {
			classLife(w)
			points = w.points
		})
	})
	require.NotEmpty(t, points)
	assert.True(t, slices.ContainsFunc(points, func(p string) bool { return strings.HasPrefix(p, "update services/status default/web") }))
	var planned, made atomic.Int32
	t.Run("at", func(t *testing.T) {
		for _, point := range points {
			for _, m := range moments {
				for name, meanwhile := range map[string]func(*world){"": nil, "/deleted": meanwhiles["/deleted"], "/retyped": meanwhiles["/retyped"]} {
					if reads(point) || meanwhile != nil && m == answered {
						continue
					}
					planned.Add(1)
					t.Run(point+"/"+string(m)+name, func(t *testing.T) {
						t.Parallel()
						simulateClass(t, 1, crash{point: point, moment: m, meanwhile: meanwhile}, func(w *world) {
							classLife(w)
							if w.crashed {
								made.Add(1)
							}
						})
					})
				}
			}
		}
	})
	assert.GreaterOrEqual(t, made.Load(), planned.Load()*9/10, "crashes of %d planned", planned.Load())
	t.Logf("%d crashes", made.Load())
}

// TestClassIsReloaded has the cloud-config change while Services are there. Those of a class are served as soon as a pool
// has the class; what is held stays when no pool has it any more, over restarts, and goes with its Service.
func TestClassIsReloaded(t *testing.T) {
	for _, class := range []string{officeClass, ""} {
		t.Run("class "+class, func(t *testing.T) {
			simulate(t, 1, crash{}, func(w *world) {
				serving := office
				if class != "" {
					serving = officeOf(class)
				}
				w.class = class
				w.configure(officeOf(otherClass))
				w.start()
				w.create("web")
				o, err := w.api.get(services, "default/web")
				require.NoError(w.t, err)
				w.pass(time.Minute)
				untouched, err := w.api.get(services, "default/web")
				require.NoError(w.t, err)
				require.Equal(w.t, string(o.raw), string(untouched.raw), "nobody writes it")

				w.configure(serving)
				w.settle("served", time.Minute)
				w.until("shown to the upstream service controller", time.Minute, func() []string {
					o, err := w.api.get(services, "default/web")
					require.NoError(w.t, err)
					if !servicehelper.HasLBFinalizer(as[corev1.Service](o)) {
						return []string{"it has finalizers " + fmt.Sprint(o.meta()["finalizers"])}
					}
					return nil
				})
				for turn, change := range []func(){func() { w.configure(officeOf(otherClass)) }, w.replaceController} {
					change()
					w.until("kept", time.Minute, w.notKept)
					w.pass(time.Minute)
					require.Empty(w.t, w.notKept(), "turn %d", turn)
				}
				w.delete("web")
				w.settle("deleted", time.Minute)

				// Without a class it may have the finalizer of nobody who serves it.
				w.create("theirs")
				w.pass(time.Minute)
				o, err = w.api.get(services, "default/theirs")
				require.NoError(w.t, err)
				require.False(w.t, service.Marked(as[corev1.Service](o)))
				require.Empty(w.t, o.meta()["finalizers"])
			})
		})
	}
}

// notKept says what is not as it should be with a Service that keeps its address although no pool serves it.
func (w *world) notKept() (reasons []string) {
	o, err := w.api.get(services, "default/web")
	require.NoError(w.t, err)
	svc := as[corev1.Service](o)
	wanted := map[string]string{}
	for _, ip := range addressesOf(svc) {
		wanted[ip] = svc.Name
	}
	degraded := meta.FindStatusCondition(svc.Status.Conditions, lb.ConditionDegraded)
	if len(wanted) == 0 || degraded == nil || degraded.Status != metav1.ConditionTrue {
		reasons = append(reasons, fmt.Sprintf("service web has %v: %v", wanted, svc.Status.Conditions))
	}
	return append(reasons, w.notHeld(wanted)...)
}

// TestClassChangesQuickly has a Service become another's while the controller is about to notice: it lets go of it, with
// all that it held.
func TestClassChangesQuickly(t *testing.T) {
	for _, pause := range []time.Duration{0, 3 * time.Millisecond, 20 * time.Millisecond, time.Second} {
		for _, to := range []string{"", otherClass} {
			t.Run(fmt.Sprint(pause, " to ", to), func(t *testing.T) {
				t.Parallel()
				simulateClass(t, 1, crash{}, func(w *world) {
					w.start()
					w.create("web")
					w.settle("published", time.Minute)
					w.edit("web", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
					w.pass(pause)
					w.edit("web", func(svc *corev1.Service) {
						svc.Spec.Type = corev1.ServiceTypeLoadBalancer
						if to != "" {
							ofClass(to)(svc)
						}
					})
					w.settle("let go of", 2*time.Minute)
				})
			})
		}
	}
}

// TestFinalizerIsTakenOff has another cloud-controller-manager take the shared finalizer off a Service that is being
// deleted, long before the hosts have let go of its addresses: the Service waits for them.
func TestFinalizerIsTakenOff(t *testing.T) {
	simulateClass(t, 1, crash{}, func(w *world) {
		w.start()
		w.create("web")
		w.settle("published", time.Minute)
		for _, a := range w.agents {
			a.change(func() { a.slow = 5 * time.Second })
		}
		w.delete("web")
		w.settle("deleted", time.Minute)
	})
}
