package probe

import "sync"

// reporter hands changes to a function that may be slow, in order, one call at a time.
type reporter struct {
	mu      sync.Mutex
	waiting []Change
	after   []func()
	wake    chan struct{}
	done    chan struct{}
}

func newReporter(report func([]Change)) *reporter {
	r := &reporter{wake: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for range r.wake {
			r.mu.Lock()
			changes, after := r.waiting, r.after
			r.waiting, r.after = nil, nil
			r.mu.Unlock()
			if len(changes) > 0 {
				report(changes)
			}
			for _, call := range after {
				call()
			}
		}
	}()
	return r
}

// add changes; it does not wait.
func (r *reporter) add(changes []Change) {
	if len(changes) > 0 {
		r.put(changes)
	}
}

// then has a function called when what was added before is reported.
func (r *reporter) then(call func()) { r.put(nil, call) }

func (r *reporter) put(changes []Change, after ...func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := len(r.waiting)+len(r.after) == 0
	r.waiting, r.after = append(r.waiting, changes...), append(r.after, after...)
	if taken {
		r.wake <- struct{}{} // there is room: what was added before is taken
	}
}

// close waits until everything is reported.
func (r *reporter) close() {
	close(r.wake)
	<-r.done
}
