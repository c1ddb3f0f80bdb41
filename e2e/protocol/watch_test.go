package protocol

import (
	"maps"
	"slices"
	"time"
)

// watch is what a process sees of one kind of objects: a list, changes in order and late, and after a gap another list.
type watch struct {
	client *client
	kind   kind
	only   string // one object; empty: all
	// changed is told of what is new; nil stands for an object that is gone, and comes as it was.
	changed func(name string, was, is any)
	// asked is told whether the API server answers.
	asked func(bool)
	// listed is called after the first list.
	listed func()

	seen      map[string]object
	synced    bool
	connected bool
	number    int // of the connection
	last      time.Duration
	backoff   time.Duration
}

// watch opens a watch that lasts as long as its process.
func (c *client) watch(k kind, only string, changed func(name string, was, is any), listed func()) *watch {
	wt := &watch{client: c, kind: k, only: only, changed: changed, listed: listed, asked: func(bool) {}, seen: map[string]object{}}
	c.watches = append(c.watches, wt)
	c.w.api.watches = append(c.w.api.watches, wt)
	wt.connect(0)
	return wt
}

// forget ends all watches of a process that has ended.
func (c *client) forget() {
	for _, wt := range c.watches {
		wt.connected = false
		wt.number++
		c.w.api.watches = slices.DeleteFunc(c.w.api.watches, func(o *watch) bool { return o == wt })
	}
	c.watches = nil
}

const (
	watchRetryFirst = 200 * time.Millisecond
	watchRetryMost  = 5 * time.Second
)

// connect lists and goes on from there.
func (wt *watch) connect(after time.Duration) {
	w, c := wt.client.w, wt.client
	wt.number++
	number := wt.number
	w.after(c.process, after, func() {
		if wt.number != number {
			return
		}
		if c.cuts > 0 || w.faulty && w.chance(0.05) {
			wt.asked(false)
			wt.backoff = min(max(watchRetryFirst, wt.backoff*8/5), watchRetryMost)
			wt.connect(w.between(wt.backoff, wt.backoff*3/2))
			return
		}
		wt.backoff = 0
		wt.connected = true
		list := map[string]object{}
		for name, o := range w.api.objects[wt.kind] {
			if wt.only == "" || wt.only == name {
				list[name] = o
			}
		}
		wt.deliver(number, func() {
			wt.asked(true)
			for _, name := range slices.Sorted(maps.Keys(wt.seen)) {
				if _, ok := list[name]; !ok {
					wt.see(name, object{})
				}
			}
			for _, name := range slices.Sorted(maps.Keys(list)) {
				if wt.seen[name].version != list[name].version {
					wt.see(name, list[name])
				}
			}
			if !wt.synced {
				wt.synced = true
				wt.listed()
			}
		})
	})
}

// tell sends a change on its way.
func (wt *watch) tell(name string, o object) {
	if wt.connected {
		wt.deliver(wt.number, func() { wt.see(name, o) })
	}
}

func (wt *watch) deliver(number int, do func()) {
	w := wt.client.w
	wt.last = max(wt.last, w.now+wt.client.latency())
	w.after(wt.client.process, wt.last-w.now, func() {
		if wt.number == number {
			do()
		}
	})
}

func (wt *watch) see(name string, o object) {
	was := wt.seen[name].value
	if o.value == nil {
		delete(wt.seen, name)
		wt.changed(name, was, nil)
		return
	}
	wt.seen[name] = o
	if was == nil {
		was = o.value
	}
	wt.changed(name, was, o.value)
}

// lose breaks the connection. That is noticed sooner or later, and then begun anew.
func (wt *watch) lose() {
	if !wt.connected {
		return
	}
	w := wt.client.w
	wt.connected = false
	noticed := w.between(0, 300*time.Millisecond)
	if w.chance(0.3) {
		noticed = w.between(0, 10*time.Second)
	}
	wt.connect(noticed)
}
