package protocol

import "time"

// backlog is the order in which keys wait, as client-go's work queue has it.
type backlog[K comparable] interface {
	Touch(K)
	Push(K)
	Len() int
	Pop() K
}

// fifo is the order of arrival.
type fifo[K comparable] []K

func (q *fifo[K]) Touch(K)  {}
func (q *fifo[K]) Push(k K) { *q = append(*q, k) }
func (q *fifo[K]) Len() int { return len(*q) }

func (q *fifo[K]) Pop() K {
	k := (*q)[0]
	*q = (*q)[1:]
	return k
}

const (
	// retryMin, and retryMax for Services and retryNode for nodes, bound the backoff after a failed try, as in the
	// controller.
	retryMin  = 20 * time.Millisecond
	retryMax  = 30 * time.Second
	retryNode = time.Second
)

// queue is a work queue: a key waits once, is worked on once at a time, and is tried again after a failure.
type queue[K comparable] struct {
	w        *world
	owner    *process
	waiting  backlog[K]
	workers  int
	longest  time.Duration // between two tries
	work     func(K) error
	dirty    map[K]bool
	busy     map[K]bool
	failures map[K]int
	running  int
	opened   bool
	closed   bool
}

func newQueue[K comparable](w *world, owner *process, waiting backlog[K], workers int, longest time.Duration, work func(K) error) *queue[K] {
	return &queue[K]{w: w, owner: owner, waiting: waiting, workers: workers, longest: longest, work: work,
		dirty: map[K]bool{}, busy: map[K]bool{}, failures: map[K]int{}}
}

func (q *queue[K]) add(k K) {
	switch {
	case q.closed:
	case q.dirty[k]:
		if !q.busy[k] {
			q.waiting.Touch(k)
		}
	default:
		q.dirty[k] = true
		if !q.busy[k] {
			q.waiting.Push(k)
			q.go1()
		}
	}
}

// open lets the workers begin.
func (q *queue[K]) open() {
	q.opened = true
	for range q.waiting.Len() {
		q.go1()
	}
}

func (q *queue[K]) addAfter(k K, d time.Duration) {
	q.w.after(q.owner, d, func() { q.add(k) })
}

// go1 starts a worker when there is something to do for one.
func (q *queue[K]) go1() {
	if !q.opened || q.running == q.workers || q.waiting.Len() == 0 {
		return
	}
	q.running++
	q.w.spawn(q.owner, func() {
		for q.waiting.Len() > 0 && !q.closed {
			k := q.waiting.Pop()
			delete(q.dirty, k)
			q.busy[k] = true
			err := q.work(k)
			if !q.owner.alive {
				return
			}
			delete(q.busy, k)
			if q.dirty[k] {
				q.waiting.Push(k)
			}
			if err == nil {
				delete(q.failures, k)
				continue
			}
			q.addAfter(k, min(retryMin<<min(q.failures[k], 20), q.longest))
			q.failures[k]++
		}
		q.running--
	})
}
