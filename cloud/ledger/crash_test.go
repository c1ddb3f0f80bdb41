package ledger

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// whileDown is what happens between the death of a controller and the start of the next.
var whileDown = map[string]func(w *world, uid string){
	"nothing": func(*world, string) {},
	"the Service deleted": func(w *world, uid string) {
		if s := w.services[uid]; s != nil {
			s.wants = false
		}
	},
	"the pool removed": func(w *world, _ string) {
		w.cfg = parse(w.t, `{apiVersion: mooring.dev/v1alpha1, kind: CloudConfig, hetzner: {tokenFile: /token}, pools: [{name: office, addresses: [192.0.2.10], autoAssign: false, interface: pl0}]}`)
		w.rental.Accounts = map[string]string{}
	},
	"the token swapped": func(w *world, _ string) {
		ips, servers := w.cloud.ips, w.cloud.servers
		w.cloud.ips, w.cloud.servers = map[int64]*lb.FloatingIP{}, []lb.Server{{ID: 1, Name: "somebody"}}
		w.restart()
		w.goOn()
		require.Empty(w.t, w.cloud.ips, "nothing is bought in a foreign project")
		w.cloud.ips, w.cloud.servers = ips, servers
	},
	"the node lost": func(w *world, _ string) {
		if w.objects["n1"] != nil {
			w.objects["n1"].dead = true
		}
		w.setNode("n1", func(n *lb.Node) { n.Ready = lb.Unknown })
		if w.objects["n2"] != nil {
			w.objects["n2"].dead = false
		}
		w.setNode("n2", func(n *lb.Node) { n.Ready = lb.Ready })
	},
}

// goOn lets time pass and everybody work.
func (w *world) goOn() {
	for _, d := range []time.Duration{0, time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, time.Minute, 10 * time.Minute} {
		w.pass(d)
		w.settle()
	}
}

// life of a Service with bought addresses: published, moved, deleted.
func (w *world) life(uid string) {
	w.settle()
	w.pass(5 * time.Second)
	w.settle()
	w.objects["n2"].dead = true
	w.setNode("n2", func(n *lb.Node) { n.Ready = lb.Unknown })
	w.settle()
	w.objects["n2"].dead = false
	w.setNode("n2", func(n *lb.Node) { n.Ready = lb.Ready })
	w.objects["n1"].dead = true
	w.setNode("n1", func(n *lb.Node) { n.Ready = lb.Unknown })
	w.settle()
	w.objects["n1"].dead = false
	w.setNode("n1", func(n *lb.Node) { n.Ready = lb.Ready })
	w.settle()
	w.services[uid].wants = false
	w.settle()
	w.goOn()
}

// until runs a part of a life, and reports the point at which the controller was killed.
func (w *world) until(kill int, life func()) (point string, dead bool) {
	defer func() {
		if k, ok := recover().(killed); ok {
			point, dead = k.point, true
		}
	}()
	w.passed, w.kill = 0, kill
	life()
	return "", false
}

// TestKilledAnywhere kills the controller at every point of a Service's life, lets something happen while there is none,
// and starts the next: nothing is bought twice, nothing leaks, and what was published stays.
func TestKilledAnywhere(t *testing.T) {
	for _, what := range slices.Sorted(maps.Keys(whileDown)) {
		for kill := 1; ; kill++ {
			w := newRentalWorld(t, bought, "n1", "n2")
			uid := w.create("web", func(r *lb.Request) {
				r.Families, r.FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.RequireDualStack
			})
			point, dead := w.until(kill, func() { w.life(uid) })
			if !dead {
				assert.Empty(t, w.cloud.ips)
				assert.Greater(t, kill, 40)
				break
			}
			w.kill = 0
			name := fmt.Sprintf("%s: killed at %d, %s", what, kill, point)
			published := slices.Clone(publishedBy(w, uid))
			whileDown[what](w, uid)
			w.restart()
			w.goOn()
			checkOutcome(t, name, w, uid, what == "the pool removed", published)
			if s := w.services[uid]; s != nil {
				s.wants = false
				w.goOn()
			}
			require.Empty(t, w.cloud.ips, name)
			require.NotContains(t, w.services, uid, name)
		}
	}
}

func publishedBy(w *world, uid string) []netip.Addr {
	if s := w.services[uid]; s != nil {
		return s.published
	}
	return nil
}

func checkOutcome(t *testing.T, name string, w *world, uid string, poolGone bool, published []netip.Addr) {
	require.LessOrEqual(t, w.cloud.bought, 2, "%s: nothing is bought twice", name)
	s := w.services[uid]
	if s == nil || !s.wants {
		require.Nil(t, s, name)
		require.Empty(t, w.cloud.ips, name)
		return
	}
	if len(published) > 0 {
		require.Equal(t, published, s.published, name)
	}
	if poolGone && len(published) == 0 {
		return // what was not bought before cannot be had
	}
	ips := w.cloud.of(uid)
	require.Len(t, ips, 2, name)
	require.Len(t, s.published, 2, "%s: %+v", name, w.ledger.View(uid))
	for i, f := range ips {
		require.Equal(t, f.Addr(), s.published[i], name)
		require.True(t, slices.ContainsFunc(w.holders(f.Addr()), func(node string) bool {
			return w.cloud.server(node) == f.Server && w.nodes[node].Ready == lb.Ready
		}), "%s: %s is routed to %d and bound by %v", name, f.Addr(), f.Server, w.holders(f.Addr()))
	}
}
