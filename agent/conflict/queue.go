package conflict

import (
	"cmp"
	"container/heap"
	"time"
)

// at has an entry looked at when its time has come.
func (d *Detector) at(e *entry, due time.Time) {
	d.drop(e)
	e.due, e.in = due, &d.queue
	switch {
	case e.step == probing && e.sent > 0:
		e.in = &d.rounds
	case e.verdict == Tested:
		e.in = &d.tested
	}
	heap.Push(e.in, e)
}

// drop has an entry left alone until something is heard or asked.
func (d *Detector) drop(e *entry) {
	if e.at >= 0 {
		heap.Remove(e.in, e.at)
	}
}

// first returns the entry to look at first, or nil. When probes are paced, rounds that have begun are ended before others
// begin: of thousands of new addresses the first can be bound while the last are not probed yet. And new addresses are
// probed before the others: one waits to be bound, while thousands that are held and checked anew are served meanwhile.
func (d *Detector) first(now time.Time) *entry {
	var first *entry
	for _, q := range [...]queue{d.rounds, d.tested, d.queue} {
		switch {
		case len(q) == 0:
		case !q[0].due.After(now):
			return q[0]
		case first == nil || q[0].due.Before(first.due):
			first = q[0]
		}
	}
	return first
}

// queue is a heap of entries by time, then by address.
type queue []*entry

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	return cmp.Or(q[i].due.Compare(q[j].due), q[i].IP.Compare(q[j].IP)) < 0
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push is for container/heap.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.at = len(*q)
	*q = append(*q, e)
}

// Pop is for container/heap.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.at = -1
	return e
}
