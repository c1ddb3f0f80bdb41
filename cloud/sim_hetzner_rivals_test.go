package cloud_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// TestTwoLeadersAtHetzner has two controllers think that they lead, with the older one's calls to both APIs delayed, while
// Services come and go and nodes are lost for 30 s. A minute later everything is as the Services ask for, and nothing was
// bought twice.
func TestTwoLeadersAtHetzner(t *testing.T) {
	for _, seed := range seeds(t, 10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			simulateAtHetzner(t, seed, crash{}, hetznertest.Options{RefuseMoves: seed%2 == 0}, func(w *world) {
				f := landlord{fate{w, rand.New(rand.NewPCG(seed, 0))}, map[string]*tenancy{}}
				w.rental.handmade.Store(true)
				older := w.start()
				for _, name := range []string{"c", "d"} {
					f.serviceHappens(name)
				}
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
				w.settle("settled", time.Minute)
				f.empty(10 * time.Minute)
			})
		})
	}
}

// TestTwoClustersInOneProject: neither touches what the other has bought, although both have the same name and their
// Services, too. That no call names a Floating IP of the other one is looked at with each call.
func TestTwoClustersInOneProject(t *testing.T) {
	for _, seed := range seeds(t, 3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one, endOne := newWorld(t, seed, crash{}, "n")
				two, endTwo := newWorld(t, seed, crash{}, "m")
				two.offset = 10
				api := newHetzner(t, seed, hetznertest.Options{}, one, two)
				defer api.Close()
				defer endOne()
				defer endTwo()
				both := []*world{one, two}
				for _, w := range both {
					w.move(api)
				}
				two.rental.lists = false
				two.configure(fmt.Sprintf("apiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\nhetzner: {tokenFile: %s, orphans: release}\npools:%s",
					two.rental.tokenFile, rentedPool))
				for _, w := range both {
					w.furnish()
					w.start()
					w.create("web", dualStack)
					w.create("kept", retained)
				}
				settle := func(what string) {
					for _, w := range both {
						w.settle(what, 2*time.Minute)
					}
				}
				settle("published")
				require.Equal(t, 6, api.Purchases(ourProject))
				for _, w := range both {
					w.loseNode(w.holder("web"))
					w.crash()
				}
				settle("moved")
				two.edit("web", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
				one.delete("kept")
				settle("changed")
				two.edit("web", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeLoadBalancer })
				one.delete("web")
				settle("changed again")
				// Long enough for what is orphaned to be given back.
				one.pass(time.Hour)
				settle("left alone")
				assert.Len(t, api.FloatingIPs(ourProject), 3+1+3, "listed, kept by the one, and bought for the other")
				two.delete("web")
				two.delete("kept")
				settle("empty")
				assert.Len(t, api.FloatingIPs(ourProject), 3+1+1)
			})
		})
	}
}
