package updater

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/cloud/config"
)

// Options of a Worker.
type Options struct {
	// Prefix of the names of all backends of this cluster, as Prefix makes it.
	Prefix string
	// Updater of the pool, and how often everything is sent again.
	Updater        *config.Updater
	ResyncInterval time.Duration
	// Transport of all calls; nil: the network.
	Transport http.RoundTripper
	// Dial connects to host:port of the load balancer; nil: the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Clock; nil: the real one.
	Clock clock.Clock
	// Version of Mooring for the User-Agent.
	Version string
	// Changed is told of a port whose State is another one now. Observe is shown what was done. Both are called from the
	// Worker's goroutines, without a lock; they must not block.
	Changed func(Key)
	Observe func(Call)
}

// Worker looks after the backends of one updater pool. What is wanted is set; calls to the updaters, one about each port
// and URL at a time, are made in goroutines of the Worker, so that what hangs holds up nobody else. Its methods are safe
// for concurrent use and do not block.
type Worker struct {
	options Options
	wakeup  chan struct{}
	calls   sync.WaitGroup

	mu sync.Mutex
	// ctx of Run; nil before it.
	ctx     context.Context
	updater config.Updater
	resync  time.Duration
	entries map[Key]*entry
	// lines to the URLs, in the order of the cloud-config.
	lines []*line
	// unused ports to be cleared.
	unused []Key
	// seq counts what was wanted.
	seq uint64
	// checking is how many ports are being connected to.
	checking int
	// compare: what happened may have changed the State of any port.
	compare bool
}

// entry is what is wanted of a port.
type entry struct {
	key Key
	// want is never changed, only replaced; nil: no backend.
	want *Backend
	// seq is the number of want, changed when it came, and born the number since when there has been a backend.
	seq     uint64
	changed time.Time
	born    uint64
	// since is when the first URL took the backend; zero: none has. proven: it was found to listen once.
	since  time.Time
	proven bool
	check  check
	// shown is the text of the State that Changed was told of last.
	shown string
}

// NewWorker returns a Worker that is told what is wanted, and does it once it runs. The error is about the options.
func NewWorker(o Options) (*Worker, error) {
	if err := ValidName(o.Prefix); err != nil {
		return nil, fmt.Errorf("prefix: %w", err)
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Changed == nil {
		o.Changed = func(Key) {}
	}
	if o.Observe == nil {
		o.Observe = func(Call) {}
	}
	w := &Worker{options: o, wakeup: make(chan struct{}, 1), entries: make(map[Key]*entry)}
	if err := w.SetConfig(o.Updater, o.ResyncInterval); err != nil {
		return nil, err
	}
	return w, nil
}

// SetConfig puts another configuration of the pool in force. A new URL is told everything; one that is gone is not called
// and not waited for any more, and keeps what it has. Nothing changes when there is an error.
func (w *Worker) SetConfig(u *config.Updater, resync time.Duration) error {
	if len(u.URLs) == 0 {
		return errors.New("urls is empty: name the updater, such as http://192.0.2.1:3000/api/v1/lb")
	}
	if resync <= 0 {
		return fmt.Errorf("resyncInterval %s is none: write one such as 10m", resync)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.options.Clock.Now()
	old := make(map[string]*line)
	for _, l := range w.lines {
		old[l.url] = l
	}
	equalFiles := w.updater.BearerTokenFile == u.BearerTokenFile && w.updater.Timeout == u.Timeout && equalTLS(w.updater.TLS, u.TLS)
	clients, mistakes := make([]*Client, len(u.URLs)), []error(nil)
	for i, url := range u.URLs {
		if l := old[url]; l != nil && equalFiles {
			clients[i] = l.client
			continue
		}
		client, err := NewClient(ClientOptions{
			URL: url, BearerTokenFile: u.BearerTokenFile, TLS: u.TLS, Timeout: u.Timeout,
			Transport: w.options.Transport, Clock: w.options.Clock, Version: w.options.Version,
		})
		clients[i] = client
		mistakes = append(mistakes, err)
	}
	if err := errors.Join(mistakes...); err != nil {
		return err
	}
	lines := make([]*line, len(u.URLs))
	for i, url := range u.URLs {
		l := old[url]
		delete(old, url)
		switch {
		case l == nil:
			l = &line{url: url, jobs: make(map[Key]*job), client: clients[i], unused: slices.Clone(w.unused)}
			if w.ctx != nil {
				l.begin(w.ctx, now, u.Timeout)
			}
		case l.client != clients[i]:
			l.client.Close()
			l.client, l.pause = clients[i], time.Time{}
		}
		lines[i] = l
	}
	for _, l := range old {
		l.end()
	}
	if w.updater.Host != u.Host || w.updater.Verify != u.Verify {
		for _, e := range w.entries {
			w.seq++
			e.check = check{gen: w.seq, listening: ListeningWaiting}
			if !e.since.IsZero() {
				e.check.at = now
			}
		}
	}
	w.updater, w.resync, w.lines, w.compare = *u, resync, lines, true
	for _, l := range w.lines {
		if next := now.Add(resync); l.resyncAt.After(next) {
			l.resyncAt = next
		}
	}
	w.wake()
	return nil
}

func equalTLS(a, b *config.TLS) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// SetBackend says what is wanted behind a port. Saying the same again costs nothing, and what comes while a call is under
// way is sent when that has ended, the newest alone. An error says what would break the file on the other side; then what
// was wanted before remains.
func (w *Worker) SetBackend(k Key, b Backend) error {
	if err := errors.Join(k.Validate(), b.Validate()); err != nil {
		return err
	}
	if strings.HasPrefix(b.Replaces, w.options.Prefix) {
		return fmt.Errorf("backend %q is one of this cluster's own: it belongs to the Service that has its port", b.Replaces)
	}
	c := b.canonical()
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.entries[k]
	switch {
	case e == nil:
		e = &entry{key: k}
		w.entries[k] = e
	case e.want == nil:
	case c.Revision < e.want.Revision:
		return nil
	case c.same(e.want):
		e.want = &c
		w.differs(e, w.options.Clock.Now())
		return nil
	}
	if e.want == nil {
		e.since, e.proven, e.born = time.Time{}, false, w.seq+1
		e.check = check{gen: w.seq + 1, listening: ListeningWaiting}
	}
	w.want(e, &c)
	return nil
}

// RemoveBackend says that there is to be nothing behind a port. It waits for a URL that does not answer for as long as
// that takes.
func (w *Worker) RemoveBackend(k Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.entries[k]
	if e == nil {
		e = &entry{key: k}
		w.entries[k] = e
	} else if e.want == nil {
		return
	}
	w.want(e, nil)
}

func (w *Worker) want(e *entry, b *Backend) {
	w.seq++
	now := w.options.Clock.Now()
	e.want, e.seq = b, w.seq
	if now.Sub(e.changed) >= gather {
		e.changed = now // else it is still waiting for company
	}
	for _, l := range w.lines {
		if j := l.jobs[e.key]; j != nil {
			// What went wrong was about something else.
			j.failures, j.retryAt, j.again = 0, time.Time{}, ""
		}
	}
	w.differs(e, now)
	w.wake()
}

// Abandon forgets a port without clearing it, and returns what is left behind, for people: one sentence for each URL that
// has not confirmed a removal.
func (w *Worker) Abandon(k Key) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.entries[k]
	if e == nil {
		return nil
	}
	delete(w.entries, k)
	var left []string
	for _, l := range w.lines {
		j := l.jobs[k]
		if e.want != nil || j == nil || j.told != e.seq {
			left = append(left, fmt.Sprintf("backend %s at %s", Name(w.options.Prefix, k), l.client.URL()))
		}
		if j != nil {
			*j = job{flying: j.flying, late: j.late}
		}
	}
	w.wake()
	return left
}

// SweepUnused clears ports that nobody uses: what a controller left there that crashed. It goes slowly, when there is nothing
// else to do, and leaves out every port about which something was said. A URL has two minutes from its first answer to take
// every port that is in use before that. Once for each start, after everything that is in use was set.
func (w *Worker) SweepUnused(ports []Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unused = slices.Clone(ports)
	for _, l := range w.lines {
		l.unused = slices.Clone(ports)
	}
	w.wake()
}

// Run works until the context ends, and returns when every call has ended. It is called once.
func (w *Worker) Run(ctx context.Context) {
	w.mu.Lock()
	w.ctx = ctx
	now := w.options.Clock.Now()
	for _, l := range w.lines {
		l.begin(ctx, now, w.updater.Timeout)
	}
	w.mu.Unlock()
	for ctx.Err() == nil {
		w.wait(ctx, w.step())
	}
	w.calls.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lines {
		l.end()
	}
}

// wait returns when there may be something to do, at the given time at the latest.
func (w *Worker) wait(ctx context.Context, at time.Time) {
	var alarm <-chan time.Time
	if !at.IsZero() {
		timer := w.options.Clock.NewTimer(max(0, at.Sub(w.options.Clock.Now())))
		defer timer.Stop()
		alarm = timer.C()
	}
	select {
	case <-w.wakeup:
	case <-alarm:
	case <-ctx.Done():
	}
}

func (w *Worker) wake() {
	select {
	case w.wakeup <- struct{}{}:
	default: // it has not looked since the last one
	}
}

// step begins what can be begun, and returns when there is more to do; zero: not before something happens.
func (w *Worker) step() time.Time {
	w.mu.Lock()
	now := w.options.Clock.Now()
	var next time.Time
	for _, l := range w.lines {
		next = earlier(next, w.drive(l, now))
	}
	next = earlier(next, w.startChecks(now))
	changed := w.differing(now, &next)
	w.mu.Unlock()
	w.tell(changed)
	return next
}

// differing returns the ports whose State has become another one: by what happened to a line, or because enough time has
// passed for a port to be published. next becomes the time at which that will be so for another one.
func (w *Worker) differing(now time.Time, next *time.Time) []Key {
	var changed []Key
	for k, e := range w.entries {
		ripe := false
		if e.want != nil && !e.since.IsZero() && !e.proven && w.judges(k) {
			at := e.since.Add(patience)
			ripe = !at.After(now)
			if !ripe {
				*next = earlier(*next, at)
			}
		}
		if (ripe || w.compare) && w.differs(e, now) {
			changed = append(changed, k)
		}
	}
	w.compare = false
	slices.SortFunc(changed, Key.compare)
	return changed
}

// differs reports whether the State of a port is another one than Changed was told of, and takes it as told.
func (w *Worker) differs(e *entry, now time.Time) bool {
	s := w.state(e.key, now)
	text := s.text()
	if text == e.shown {
		return false
	}
	e.shown = text
	return true
}

// tell is called without the lock.
func (w *Worker) tell(changed []Key) {
	for _, k := range changed {
		w.options.Changed(k)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
