package cloud

import (
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/cloud/ledger"
)

// bell tells the doors that wait for a Service that its sync has ended once more.
type bell struct {
	mu        sync.Mutex
	listeners map[ledger.Key]map[chan struct{}]bool
}

func (b *bell) listen(key ledger.Key) (rung <-chan struct{}, done func()) {
	ch := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners == nil {
		b.listeners = map[ledger.Key]map[chan struct{}]bool{}
	}
	if b.listeners[key] == nil {
		b.listeners[key] = map[chan struct{}]bool{}
	}
	b.listeners[key][ch] = true
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners[key], ch)
		if len(b.listeners[key]) == 0 {
			delete(b.listeners, key)
		}
	}
}

func (b *bell) ring(key ledger.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.listeners[key] {
		select {
		case ch <- struct{}{}:
		default: // it has not heard the last one yet
		}
	}
}

// alarm calls a function at the time set last.
type alarm struct {
	mu     sync.Mutex
	clock  clock.Clock
	call   func()
	at     time.Time
	cancel chan struct{}
	// stopped: no time that is set counts any more.
	stopped bool
}

func (a *alarm) start(c clock.Clock, call func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clock, a.call = c, call
}

// stop switches the alarm off for good.
func (a *alarm) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	if a.cancel != nil {
		close(a.cancel)
		a.cancel = nil
	}
}

// set moves the alarm; zero switches it off.
func (a *alarm) set(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.clock == nil || a.stopped || a.at.Equal(at) {
		return
	}
	a.at = at
	if a.cancel != nil {
		close(a.cancel)
		a.cancel = nil
	}
	if at.IsZero() {
		return
	}
	timer := a.clock.NewTimer(max(0, at.Sub(a.clock.Now())))
	cancel := make(chan struct{})
	a.cancel = cancel
	go func() {
		defer timer.Stop()
		select {
		case <-cancel:
			return
		case <-timer.C():
		}
		a.mu.Lock()
		mine := a.cancel == cancel
		if mine {
			a.cancel, a.at = nil, time.Time{}
		}
		a.mu.Unlock()
		if mine {
			a.call()
		}
	}()
}
