package cloud_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// seeds of random runs: 1 to n, with LONG=1 twenty times as many, or the one that SEED says.
func seeds(t *testing.T, n uint64) []uint64 {
	if text := os.Getenv("SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "SEED")
		return []uint64{seed}
	}
	if os.Getenv("LONG") != "" {
		n *= 20
	}
	all := make([]uint64, n)
	for i := range all {
		all[i] = uint64(i) + 1
	}
	return all
}

// TestRandomLives puts clusters through whatever may happen to one, in random order. Once that stops, everything is
// as the Services ask for, and after the last one is deleted nothing is left. SEED=<n> repeats one run.
func TestRandomLives(t *testing.T) {
	for _, seed := range seeds(t, 50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			simulate(t, seed, crash{}, func(w *world) {
				f := fate{w, rand.New(rand.NewPCG(seed, 0))}
				others := fate{w, rand.New(rand.NewPCG(seed, 1))}
				w.start()
				for range 30 {
					f.strike()
					others.expose()
					w.pass(time.Duration(f.random.ExpFloat64() * float64(time.Second)))
				}
				f.mend()
				w.settle("settled", 15*time.Minute)
				for _, name := range f.services() {
					if w.exists(services, "default/"+name) {
						w.delete(name)
					}
				}
				w.settle("empty", 15*time.Minute)
			})
		})
	}
}

// fate decides what happens next.
type fate struct {
	*world
	random *rand.Rand
}

func (f fate) services() []string { return []string{"a", "b", "c", "d", "e", "f"} }

func (f fate) oneOf(names []string) string { return names[f.random.IntN(len(names))] }

func (f fate) coin() bool { return f.random.IntN(2) == 0 }

// strike does one thing.
func (f fate) strike() {
	if f.random.IntN(14) < 3 {
		f.serviceHappens(f.oneOf(f.services()))
	} else {
		f.hit()
	}
}

// hit something that is no Service.
func (f fate) hit() {
	node := f.oneOf(f.names())
	there := f.exists(nodes, node)
	switch f.random.IntN(11) {
	case 0:
		f.crashIn(1+f.random.IntN(20), moments[f.random.IntN(len(moments))])
	case 1:
		f.crash()
	case 2:
		f.replaceController()
	case 3:
		on := f.coin()
		f.trace("calls fail: %v", on)
		f.faulty.Store(on)
	case 4:
		slow := time.Duration(f.random.ExpFloat64() * float64(3*time.Second))
		f.trace("agent %s is slow by %s", node, slow)
		f.agents[node].change(func() { f.agents[node].slow = slow })
	case 5:
		broken := f.coin()
		f.trace("agent %s is broken: %v", node, broken)
		f.agents[node].change(func() { f.agents[node].broken = broken })
	case 6:
		f.reload()
	case 7, 8:
		switch {
		case !there:
			f.addNode(node)
		case f.agents[node].down:
			f.returnNode(node)
		default:
			f.loseNode(node)
		}
	case 9:
		if there {
			f.exclude(node, f.coin())
		}
	case 10:
		if there && f.coin() {
			f.removeNode(node)
		} else if f.exists(nodeAddresses, node) {
			f.trace("user deletes NodeAddresses %s", node)
			_, err := f.api.delete(nodeAddresses, node, "")
			require.NoError(f.t, err)
		}
	}
}

// serviceHappens creates, changes or deletes a Service.
func (f fate) serviceHappens(name string) {
	_, err := f.api.get(services, "default/"+name)
	switch {
	case err != nil:
		port := int32(f.random.IntN(30000) + 1)
		f.create(name, func(svc *corev1.Service) {
			svc.Spec.Ports[0].Port = port
			switch f.random.IntN(4) {
			case 0:
				dualStack(svc)
			case 1:
				svc.Annotations = map[string]string{lb.AnnotationSharingKey: "key"}
			}
		})
	case !f.exists(services, "default/"+name):
	case f.coin():
		f.delete(name)
	default:
		f.edit(name, func(svc *corev1.Service) {
			if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
				svc.Spec.Type = corev1.ServiceTypeClusterIP
			} else {
				svc.Spec.Type = corev1.ServiceTypeLoadBalancer
			}
		})
	}
}

// expose has Services that are none of ours list addresses of the pool in spec.externalIPs, and go again.
func (f fate) expose() {
	if f.random.IntN(4) > 0 {
		return
	}
	name := f.oneOf([]string{"x", "y"})
	if f.exists(services, "default/"+name) {
		f.delete(name)
		return
	}
	f.create(name, func(svc *corev1.Service) {
		svc.Spec.Type = corev1.ServiceTypeClusterIP
		svc.Spec.ExternalIPs = []string{fmt.Sprintf(f.oneOf([]string{"192.0.2.1%d", "2001:db8::1%d"}), f.random.IntN(8))}
	})
}

// reload the cloud-config, with another pool or without it, or one that does not parse.
func (f fate) reload() {
	if f.rental != nil {
		return
	}
	f.trace("the cloud-config is changed")
	const spare = office + "- {name: spare, addresses: [192.0.2.32/28], interface: pl0, autoAssign: false}\n"
	f.configure(f.oneOf([]string{office, spare, "pools: 7"}))
}

// mend ends all trouble.
func (f fate) mend() {
	f.trace("all is mended")
	f.faulty.Store(false)
	f.crashIn(0, "")
	if f.rental == nil {
		f.configure(office)
	}
	for _, name := range f.names() {
		a := f.agents[name]
		a.change(func() { a.slow, a.broken = 0, false })
		switch {
		case !f.exists(nodes, name):
			f.addNode(name)
		case a.down:
			f.returnNode(name)
		}
		f.exclude(name, false)
	}
}
