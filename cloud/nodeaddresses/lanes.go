package nodeaddresses

import (
	"slices"
	"sync"
)

// Lanes is the order in which nodes wait to be written: those that are in a hurry, because traffic is lost until they
// are written, before all others, and each lane in the order of arrival. It is the storage of a client-go work queue,
// which calls Touch, Push, Len and Pop under its own lock; Hurry may be called at any time.
type Lanes struct {
	mu sync.Mutex
	// hurried nodes are to be written ahead of the others and without a pause; each of them until a Sync takes it up.
	hurried map[string]bool
	// front and back are the nodes that wait.
	front, back []string
}

// NewLanes returns empty lanes.
func NewLanes() *Lanes { return &Lanes{hurried: map[string]bool{}} }

// Hurry marks a node for the front lane. It does not queue the node: whoever calls it adds the node to the work queue
// afterwards, which moves it when it waits already.
func (l *Lanes) Hurry(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurried[name] = true
}

// take ends a node's hurry and reports whether it was in one.
func (l *Lanes) take(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	hurried := l.hurried[name]
	delete(l.hurried, name)
	return hurried
}

// Touch implements workqueue.Queue: a node that waits already was added again.
func (l *Lanes) Touch(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hurried[name] {
		return
	}
	if i := slices.Index(l.back, name); i >= 0 {
		l.back = slices.Delete(l.back, i, i+1)
		l.front = append(l.front, name)
	}
}

// Push implements workqueue.Queue.
func (l *Lanes) Push(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hurried[name] {
		l.front = append(l.front, name)
	} else {
		l.back = append(l.back, name)
	}
}

// Len implements workqueue.Queue.
func (l *Lanes) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.front) + len(l.back)
}

// Pop implements workqueue.Queue.
func (l *Lanes) Pop() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lane := &l.back
	if len(l.front) > 0 {
		lane = &l.front
	}
	name := (*lane)[0]
	*lane = slices.Delete(*lane, 0, 1)
	return name
}
