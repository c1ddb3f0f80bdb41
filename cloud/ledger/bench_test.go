package ledger

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

const wide = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: wide
  addresses: [10.0.0.0/16]
  interface: pl0
`

// benchWorld has so many Services on the nodes, all served.
func benchWorld(b *testing.B, services int, nodes ...string) *world {
	b.Helper()
	w := newWorld(b, wide, nodes...)
	uids := make([]string, services)
	for i := range uids {
		uids[i] = w.create(fmt.Sprintf("s%d", i))
		w.sync(uids[i])
	}
	w.everybodyWorks()
	for _, uid := range uids {
		w.sync(uid)
		require.Len(b, w.services[uid].published, 1)
	}
	w.ledger.Drain()
	return w
}

func (w *world) everybodyWorks() {
	for _, name := range w.ledger.NodeNames() {
		w.write(name)
		w.work(name)
	}
}

// BenchmarkServe is what the ledger computes for one Service from its creation until it is gone again, on a cluster
// that serves so many others: asked for, granted, written, acknowledged, published, released, written, acknowledged.
// The reads and writes of a node's whole book are most of it, and in a burst many Services share them.
func BenchmarkServe(b *testing.B) {
	for _, services := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			w := benchWorld(b, services, "n1", "n2", "n3")
			for b.Loop() {
				uid := w.create("bench")
				w.sync(uid)
				w.writeChanged()
				w.sync(uid)
				require.Len(b, w.services[uid].published, 1)
				w.services[uid].wants = false
				w.sync(uid)
				w.writeChanged()
				require.False(b, w.ledger.Holds(uid))
				delete(w.services, uid)
				w.writeChanged()
			}
		})
	}
}

func (w *world) writeChanged() {
	for name := range w.ledger.Drain().Nodes {
		w.write(name)
		w.work(name)
	}
}

// BenchmarkBurst is what the ledger computes for 1,000 Services that are created at once, and then deleted at once,
// beside so many others: each node's book is written and acknowledged in one piece.
func BenchmarkBurst(b *testing.B) {
	for _, services := range []int{100, 10000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			w := benchWorld(b, services, "n1", "n2", "n3")
			for b.Loop() {
				uids := make([]string, 1000)
				for i := range uids {
					uids[i] = w.create(fmt.Sprintf("bench-%d", i))
					w.sync(uids[i])
				}
				w.writeChanged()
				for _, uid := range uids {
					w.sync(uid)
					require.Len(b, w.services[uid].published, 1)
					w.services[uid].wants = false
					w.sync(uid)
				}
				w.writeChanged()
				for _, uid := range uids {
					require.False(b, w.ledger.Holds(uid))
					delete(w.services, uid)
				}
				w.writeChanged()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/Service")
		})
	}
}

// BenchmarkLostNode is the decision for all addresses of a node that is lost: 300 at first, released there and granted
// to the survivors. The other nodes carry as many each.
func BenchmarkLostNode(b *testing.B) {
	for _, nodes := range []int{10, 30} {
		b.Run(fmt.Sprint(nodes), func(b *testing.B) {
			names := make([]string, nodes)
			for i := range names {
				names[i] = fmt.Sprintf("n%02d", i)
			}
			w := benchWorld(b, 300*nodes, names...)
			moved, lost := 0, 0
			for b.Loop() {
				name := names[lost%nodes]
				lost++
				w.setNode(name, func(n *lb.Node) { n.Ready = lb.Unknown })
				b.StopTimer()
				for _, m := range w.ledger.Drain().Moves {
					if m.Op == place.OpHold {
						moved++
					}
				}
				for range 3 {
					w.everybodyWorks()
				}
				w.setNode(name, func(n *lb.Node) { n.Ready = lb.Ready })
				w.everybodyWorks()
				require.Empty(b, w.ledger.stuck)
				w.ledger.Drain()
				b.StartTimer()
			}
			b.ReportMetric(float64(moved)/float64(b.N), "addresses/op")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(moved), "µs/address")
		})
	}
}
