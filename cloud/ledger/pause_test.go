package ledger

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// TestPauses: whatever the cloud answers for an hour to one kind of call, one address does not use up the rate limit.
func TestPauses(t *testing.T) {
	kinds := []FaultKind{FaultTemporary, FaultUnknown, FaultNotFound, FaultRateLimited, FaultLimit, FaultUnauthorized,
		FaultProtected, FaultAssigned, FaultRefused}
	for _, kind := range kinds {
		for _, op := range []Op{OpBuy, OpAssign, OpUnassign, OpDelete} {
			w := newRentalWorld(t, bought, "n1")
			uid := w.create("web")
			if op == OpUnassign || op == OpDelete {
				w.settle()
				w.services[uid].wants = false
			}
			w.cloud.fail = func(j Job) *Fault {
				if j.Op == op {
					return &Fault{Kind: kind, Message: "no"}
				}
				return nil
			}
			w.cloud.lastRead = w.now.Add(2 * time.Hour)
			calls := w.callsIn(uid, time.Hour)
			assert.Less(t, calls, 80, "%s fails: %s", op, kind)
		}
	}
}

// callsIn counts the calls about a Service in a time.
func (w *world) callsIn(uid string, d time.Duration) (calls int) {
	for end := w.now.Add(d); w.now.Before(end); w.pass(time.Second) {
		w.sync(uid)
		for _, name := range w.ledger.NodeNames() {
			w.write(name)
			w.work(name)
		}
		for range 20 {
			job, ok, _ := w.ledger.Next(projectKey, false, w.now)
			if !ok {
				break
			}
			calls++
			w.ledger.Done(job, w.cloud.call(job), w.now)
		}
	}
	return calls
}

// TestFailoverDoesNotWait for the pause after something else failed about the address: a label, or the assignment to the
// node that is lost now.
func TestFailoverDoesNotWait(t *testing.T) {
	for _, op := range []Op{OpLabel, OpAssign} {
		for _, kind := range []FaultKind{FaultRateLimited, FaultRefused, FaultTemporary, FaultUnauthorized} {
			w := newRentalWorld(t, bought, "n1", "n2")
			uid := w.create("web")
			w.settle()
			_, node := w.served(uid)
			lost := w.cloud.server(node)
			w.cloud.fail = func(j Job) *Fault {
				if j.Op == op && (op == OpLabel || j.Server == lost) {
					return &Fault{Kind: kind, Message: "no", RetryAt: w.now.Add(time.Hour)}
				}
				return nil
			}
			w.cloud.lastRead = w.now.Add(2 * time.Hour)
			if op == OpLabel {
				w.services[uid].Retain = true
			} else {
				w.ledger.rented[prefixOf(w.cloud.of(uid)[0].Addr())].Server = 0 // as a read has shown
				w.cloud.of(uid)[0].Server = 0
			}
			w.callsIn(uid, 20*time.Minute)
			w.setNode(node, func(n *lb.Node) { n.Ready = lb.Unknown })
			w.objects[node].dead = true
			job := w.next(OpAssign)
			assert.NotEqual(t, lost, job.Server, "%s fails: %s", op, kind)
			assert.True(t, job.Urgent)
		}
	}
}
