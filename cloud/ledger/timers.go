package ledger

import (
	"container/heap"
	"net/netip"
	"time"
)

// timers holds at most one wake-up for each address.
type timers struct {
	at    map[netip.Addr]time.Time
	queue wakeups
}

type wakeup struct {
	at   time.Time
	addr netip.Addr
}

// set plans the wake-up of an address; zero cancels it. What is out of date in the queue is skipped when it is due.
func (t *timers) set(addr netip.Addr, at time.Time) {
	if at.IsZero() {
		delete(t.at, addr)
		return
	}
	if t.at == nil {
		t.at = map[netip.Addr]time.Time{}
	}
	if t.at[addr].Equal(at) {
		return
	}
	t.at[addr] = at
	heap.Push(&t.queue, wakeup{at, addr})
}

// next is the earliest wake-up, zero when there is none.
func (t *timers) next() time.Time {
	for len(t.queue) > 0 {
		if w := t.queue[0]; t.at[w.addr].Equal(w.at) {
			return w.at
		}
		heap.Pop(&t.queue)
	}
	return time.Time{}
}

// due takes one address out whose time has come.
func (t *timers) due(now time.Time) (netip.Addr, bool) {
	at := t.next()
	if at.IsZero() || at.After(now) {
		return netip.Addr{}, false
	}
	w := heap.Pop(&t.queue).(wakeup)
	delete(t.at, w.addr)
	return w.addr, true
}

type wakeups []wakeup

func (w wakeups) Len() int { return len(w) }
func (w wakeups) Less(i, j int) bool {
	if w[i].at.Equal(w[j].at) {
		return w[i].addr.Less(w[j].addr)
	}
	return w[i].at.Before(w[j].at)
}
func (w wakeups) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w *wakeups) Push(x any)   { *w = append(*w, x.(wakeup)) }
func (w *wakeups) Pop() any {
	old := *w
	x := old[len(old)-1]
	*w = old[:len(old)-1]
	return x
}
