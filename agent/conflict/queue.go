package conflict

import (
	"cmp"
	"container/heap"
	"time"
)

// at has an entry looked at when its time has come.
func (d *Detector) at(e *entry, due time.Time) {
	e.due = due
	if e.at < 0 {
		heap.Push(&d.queue, e)
	} else {
		heap.Fix(&d.queue, e.at)
	}
}

// drop has an entry left alone until something is heard or asked.
func (d *Detector) drop(e *entry) {
	if e.at >= 0 {
		heap.Remove(&d.queue, e.at)
	}
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
