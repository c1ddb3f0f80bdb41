package cloud_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// life is what Services and nodes go through, with a controller that is replaced on the way.
func life(w *world) {
	w.start()
	w.create("first")
	w.settle("published", 2*time.Minute)
	// The others do not have what is given out first to whoever comes.
	w.create("web")
	w.create("dual", dualStack)
	w.delete("first")
	w.settle("published", 2*time.Minute)
	node := w.holder("dual")
	w.loseNode(node)
	w.settle("moved", 2*time.Minute)
	w.replaceController()
	w.returnNode(node)
	w.settle("back", 2*time.Minute)
	if w.exists(services, "default/web") {
		w.delete("web")
	}
	w.delete("dual")
	w.settle("deleted", 10*time.Minute)
	w.pass(maxDowntime + time.Second)
	w.settle("deleted for good", time.Minute)
}

// reads reports whether a call changes nothing.
func reads(point string) bool {
	verb, _, _ := strings.Cut(point, " ")
	return verb == "get" || verb == "list" || verb == "watch"
}

// meanwhiles are what may happen while there is no controller.
var meanwhiles = map[string]func(*world){
	"":           nil,
	"/forgotten": forget,
	"/deleted": func(w *world) {
		if w.exists(services, "default/web") {
			w.delete("web")
		}
	},
	"/retyped": func(w *world) {
		if w.exists(services, "default/web") {
			w.edit("web", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
		}
	},
}

// forget takes all NodeAddresses away, as whoever installs the CustomResourceDefinition anew does.
func forget(w *world) {
	list, _ := w.api.list(nodeAddresses)
	for _, o := range list {
		name := o.text("name")
		_, err := w.api.delete(nodeAddresses, name, "")
		require.NoError(w.t, err)
		_, err = w.api.patch(nodeAddresses, name, "", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
		require.NoError(w.t, err)
	}
}

// TestCrashAtEveryCall kills the controller at every call that it makes and at every acknowledgement of an agent.
// Whatever the moment: Services keep what they have published, no two nodes are told to hold one address, and in the
// end everything is as the Services ask for, and nothing is left of those that are gone. After every write it
// does so once more with a Service deleted, with its type changed, or with all NodeAddresses gone before the next controller starts.
func TestCrashAtEveryCall(t *testing.T) {
	var points []string
	t.Run("none", func(t *testing.T) {
		simulate(t, 1, crash{}, func(w *world) {
			life(w)
			points = w.points
		})
	})
	require.NotEmpty(t, points)
	var planned, made atomic.Int32
	t.Run("at", func(t *testing.T) {
		for _, point := range points {
			for _, m := range moments {
				for name, meanwhile := range meanwhiles {
					if meanwhile != nil && (m != unanswered || reads(point)) {
						continue
					}
					planned.Add(1)
					t.Run(point+"/"+string(m)+name, func(t *testing.T) {
						t.Parallel()
						simulate(t, 1, crash{point: point, moment: m, meanwhile: meanwhile}, func(w *world) {
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
	// The order of what goes on at one moment is Go's to choose, so now and then a call is not made.
	assert.GreaterOrEqual(t, made.Load(), planned.Load()*9/10, "crashes of %d planned", planned.Load())
	t.Logf("%d crashes", made.Load())
}

// TestTwoLeaders has two controllers think that they lead, with the older one's calls delayed, while much happens for
// 30 s. The older one finds out by itself, and in the end everything is as the Services ask for.
func TestTwoLeaders(t *testing.T) {
	for _, seed := range seeds(t, 20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			simulate(t, seed, crash{}, func(w *world) {
				f := fate{w, rand.New(rand.NewPCG(seed, 0))}
				older := w.start()
				w.create("a")
				w.create("b", dualStack)
				w.settle("published", time.Minute)
				w.rivals.Store(true)
				older.delay.Store(int64(w.latency("delay", 20*time.Second)))
				w.start()
				for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
					f.serviceHappens(f.oneOf(f.services()))
					if node := f.oneOf(f.names()); w.agents[node].down {
						w.returnNode(node)
					} else if f.coin() {
						w.loseNode(node)
					}
					w.pass(w.latency(fmt.Sprint("pause", time.Since(w.begin)), 6*time.Second))
				}
				for end := time.Now().Add(time.Minute); older.ctx.Err() == nil && time.Now().Before(end); {
					w.pass(time.Second)
				}
				require.Error(w.t, older.ctx.Err(), "the older one still thinks that it leads")
				w.rivals.Store(false)
				f.mend()
				w.settle("settled", 2*time.Minute)
			})
		})
	}
}
