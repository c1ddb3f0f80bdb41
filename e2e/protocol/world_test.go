package protocol

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"
)

// epoch is when every schedule begins.
var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// world is one run of a schedule.
type world struct {
	seed    uint64
	now     time.Duration
	seq     uint64
	queue   []event
	dice    // of all that is not said to have its own
	current *coroutine
	trace   *bytes.Buffer // nil: nobody reads it
	broken  []string      // invariants, in words
	steps   int

	// faulty: calls are lost, answered late or in error now. loss is the chance that a frame is lost.
	faulty bool
	loss   float64

	// isolated is a machine that has no way to the API server when all else is well again; nil: there is none.
	isolated *machine
	// troubles are the faults that have begun so far.
	troubles []trouble

	api      *server
	segment  *segment
	machines []*machine
	leaders  []*controller
	users    *users
	kubelets *kubelets
	check    *checker
}

// event is something that happens to a process, or to the world when it has no owner.
type event struct {
	at    time.Duration
	seq   uint64
	owner *process
	life  int
	do    func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// process is what can be frozen and can die, and with it all that is under way in it.
type process struct {
	name       string
	life       int
	alive      bool
	frozen     int
	deferred   []func()
	coroutines []*coroutine
}

// after has something happen to a process that lives then. A frozen one sees it when it is thawed.
func (w *world) after(owner *process, d time.Duration, do func()) {
	e := event{at: w.now + max(d, 0), seq: w.seq, owner: owner, do: do}
	w.seq++
	if owner != nil {
		e.life = owner.life
	}
	w.queue = append(w.queue, e)
	for i := len(w.queue) - 1; i > 0; {
		parent := (i - 1) / 2
		if !w.queue[i].before(&w.queue[parent]) {
			break
		}
		w.queue[i], w.queue[parent] = w.queue[parent], w.queue[i]
		i = parent
	}
}

func (w *world) pop() event {
	q := w.queue
	first := q[0]
	last := len(q) - 1
	q[0], q[last] = q[last], event{}
	q = q[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if q[child].before(&q[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
	w.queue = q
	return first
}

// run lets time pass until then, or until an invariant is broken.
func (w *world) run(until time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= until && len(w.broken) == 0 {
		e := w.pop()
		w.now = e.at
		w.steps++
		switch {
		case e.owner == nil:
			e.do()
		case e.owner.life != e.life:
		case e.owner.frozen > 0:
			e.owner.deferred = append(e.owner.deferred, e.do)
		default:
			e.do()
		}
	}
	w.now = max(w.now, until)
}

func (w *world) time() time.Time { return epoch.Add(w.now) }

// log writes a line into the trace. Its arguments are evaluated in any case, so where many lines are written the
// caller asks whether anybody reads them.
func (w *world) log(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%9.3f ", w.now.Seconds())
		fmt.Fprintf(w.trace, format, args...)
		w.trace.WriteByte('\n')
	}
}

// breach says that an invariant is broken, and ends the schedule.
func (w *world) breach(format string, args ...any) {
	text := fmt.Sprintf("at %.3f: ", w.now.Seconds()) + fmt.Sprintf(format, args...)
	w.log("BROKEN %s", text)
	w.broken = append(w.broken, text)
}

// dice are what chance has the say in. Each come from the seed alone.
type dice struct{ rand *rand.Rand }

func newDice(seed, of uint64) dice { return dice{rand.New(rand.NewPCG(seed, of))} }

// between draws a duration.
func (d dice) between(from, to time.Duration) time.Duration {
	return from + time.Duration(d.rand.Int64N(int64(to-from)+1))
}

func (d dice) chance(p float64) bool { return p > 0 && d.rand.Float64() < p }

func pick[T any](d dice, of []T) T { return of[d.rand.IntN(len(of))] }

func (p *process) start() { p.alive = true }

// kill ends a process. It is never called by what runs in it.
func (w *world) kill(p *process) {
	p.life++
	p.alive, p.frozen, p.deferred = false, 0, nil
	for _, c := range p.coroutines {
		w.end(c)
	}
	p.coroutines = nil
}

func (w *world) freeze(p *process) { p.frozen++ }

// thaw lets a process see what happened meanwhile, in order.
func (w *world) thaw(p *process) {
	if p.frozen--; p.frozen > 0 {
		return
	}
	late := p.deferred
	p.deferred = nil
	for _, do := range late {
		w.after(p, 0, do)
	}
}

// coroutine is a thread of a process. It runs while nothing else does, until it waits.
type coroutine struct {
	owner *process
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	ended bool
}

// spawn starts a coroutine, at once but not before the caller is done.
func (w *world) spawn(owner *process, body func()) {
	c := &coroutine{owner: owner}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		body()
		c.ended = true
	})
	owner.coroutines = append(owner.coroutines, c)
	w.after(owner, 0, func() { w.resume(c) })
}

func (w *world) resume(c *coroutine) {
	before := w.current
	w.current = c
	c.next()
	w.current = before
	if c.ended {
		w.retire(c)
	}
}

// retire forgets a coroutine that has come to its end.
func (w *world) retire(c *coroutine) {
	list := c.owner.coroutines
	for i, other := range list {
		if other == c {
			list[i] = list[len(list)-1]
			c.owner.coroutines = list[:len(list)-1]
			return
		}
	}
}

// end has a coroutine return from whatever it waits for.
func (w *world) end(c *coroutine) {
	before := w.current
	w.current = c
	c.ended = true
	c.stop()
	w.current = before
}

// wait lets the running coroutine wait until it is resumed. It returns false when its process has died.
func (w *world) wait(c *coroutine) bool { return !c.ended && c.yield(struct{}{}) && !c.ended }

// sleep lets the running coroutine wait for a while. It returns false when its process has died.
func (w *world) sleep(d time.Duration) bool {
	c := w.current
	w.after(c.owner, d, func() { w.resume(c) })
	return w.wait(c)
}

// close ends what is still under way when a schedule is over.
func (w *world) close() {
	for _, m := range w.machines {
		w.kill(m.agent.process)
	}
	for _, c := range w.leaders {
		w.kill(c.process)
	}
}
