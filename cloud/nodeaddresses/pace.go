package nodeaddresses

import (
	"sync"
	"time"
)

// maxPause bounds how long a decision waits for others to be written with it.
const maxPause = 500 * time.Millisecond

// pace keeps the writes of one object apart, so that what is decided meanwhile goes out in one of them. A write
// costs the API server, and everybody who watches, work in proportion to the size of the object: while a thousand
// Services arrive one by one, a write for each would be nearly all that the API server does. An object that was not
// written for a while is written at once.
type pace struct {
	mu   sync.Mutex
	next map[string]time.Time
}

// wait is how long the object must not be written yet.
func (p *pace) wait(name string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.next[name].Sub(now))
}

// wrote says that the object was written and how long that took. The pause is eight times as long: together with the
// agent's answer, which costs the same, an object that changes without end keeps the API server busy for less than
// a quarter of the time.
func (p *pace) wrote(name string, now time.Time, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = map[string]time.Time{}
	}
	p.next[name] = now.Add(min(8*took, maxPause))
}

// forget an object that is gone.
func (p *pace) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.next, name)
}
