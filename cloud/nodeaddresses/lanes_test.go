package nodeaddresses_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"k8s.io/client-go/util/workqueue"

	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
)

// queue returns a work queue whose order is that of lanes.
func queue(t *testing.T) (*nodeaddresses.Lanes, *workqueue.Typed[string]) {
	lanes := nodeaddresses.NewLanes()
	q := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{Queue: lanes})
	t.Cleanup(q.ShutDown)
	return lanes, q
}

// order takes everything out of a queue.
func order(q *workqueue.Typed[string]) (names []string) {
	for q.Len() > 0 {
		name, _ := q.Get()
		names = append(names, name)
		q.Done(name)
	}
	return names
}

// TestHurry: nodes on which traffic waits are written before all others, in the order in which they came, whether they
// waited already or not.
func TestHurry(t *testing.T) {
	lanes, q := queue(t)
	for _, name := range []string{"n1", "n2", "n3", "n4"} {
		q.Add(name)
	}
	for _, name := range []string{"n5", "n3", "n4"} {
		lanes.Hurry(name)
		q.Add(name)
	}
	q.Add("n2") // added again without a hurry: it stays where it is
	q.Add("n3") // in front already
	assert.Equal(t, []string{"n5", "n3", "n4", "n1", "n2"}, order(q))
}

// TestHurryWhileWritten: a node whose next write is urgent while one is under way is the next one.
func TestHurryWhileWritten(t *testing.T) {
	lanes, q := queue(t)
	q.Add("n1")
	name, _ := q.Get()
	q.Add("n2")
	lanes.Hurry("n1")
	q.Add("n1")
	q.Done(name)
	assert.Equal(t, []string{"n1", "n2"}, order(q))
}
