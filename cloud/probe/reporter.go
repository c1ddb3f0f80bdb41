package probe

import "sync"

// reporter hands changes to a function that may be slow, in order, one call at a time.
type reporter struct {
	mu      sync.Mutex
	waiting []Change
	wake    chan struct{}
	done    chan struct{}
}

func newReporter(report func([]Change)) *reporter {
	r := &reporter{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for range r.wake {
			r.mu.Lock()
			changes := r.waiting
			r.waiting = nil
			r.mu.Unlock()
			report(changes)
		}
	}()
	return r
}

// add changes; it does not wait.
func (r *reporter) add(changes []Change) {
	if len(changes) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting = append(r.waiting, changes...); len(r.waiting) == len(changes) {
		r.wake <- struct{}{} // there is room: what was added before is taken
	}
}

// close waits until everything is reported.
func (r *reporter) close() {
	close(r.wake)
	<-r.done
}
