// Package agent is what runs on each node: it makes the host match the node's NodeAddresses object and reports how far
// it is. It is level-triggered: whatever woke it, it compares what is wanted with what is there and carries out the
// difference.
//
// The rules that it never breaks:
//
//   - Only an entry in state Release, or one that is missing from an object that exists, is unbound. An object that is
//     gone, and an API server that does not answer or refuses, mean "cannot ask": nothing changes then.
//   - Before the first object was read nothing changes, and when the agent stops nothing changes either.
//   - What is acknowledged is done: covered by the guard, bound, answered for by proxy-NDP and announced once.
//
// It decides no placement and imports nothing of the controller.
package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// Host is the host's network. Read returns all or an error, Do is idempotent and reports only what it could not do.
type Host interface {
	Read(ctx context.Context) (netif.State, error)
	Do(ctx context.Context, step netif.Step) []netif.Failure
	Announce(uplink string, ip netip.Addr) error
}

// Options of an Agent.
type Options struct {
	NodeName string
	// BootID of the running kernel and the port of the health server, as reported.
	BootID     string
	HealthPort int32
	// Resync is how often the host is read again although nothing seems to have changed; 3 minutes when zero.
	Resync time.Duration
}

const (
	defaultResync = 3 * time.Minute
	// heartbeat is how often the loop turns at least; wedged is when it is said to have stopped.
	heartbeat = 5 * time.Second
	wedged    = time.Minute
	// rereadGap bounds how often changes on the host make us read it: many come together.
	rereadGap = 50 * time.Millisecond
	// retryFirst and retryMost bound the wait before failed addresses are tried again.
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	// rounds of plan and apply in one turn: the second sees what the first made, such as a new interface.
	rounds = 3
	// reportDelay holds an acknowledgement back while first announcements are still being paced.
	reportDelay = 200 * time.Millisecond
)

// Agent keeps one node's addresses.
type Agent struct {
	host    Host
	events  <-chan netif.Event
	source  *source
	report  *reporter
	metrics *Metrics
	options Options

	beat    atomic.Int64 // Unix nanoseconds of the loop's last turn
	healthy atomic.Bool  // the last turn read the host and applied without an error of the host as a whole

	// What follows belongs to the loop.
	desired   *desired // nil until the first object
	wants     []want   // those of applied, resolved
	have      netif.State
	names     map[int]string // of have.Links by index
	known     bool           // have is the result of a reading
	stale     bool           // have must be read again
	dirty     bool           // desired or have changed since the last apply
	applied   *desired       // what the last apply worked on
	news      bool           // there may be something to report
	failed    map[netip.Addr]trouble
	announcer *announcer
	limiter   *rate.Limiter
	nextRead  time.Time
	nextRetry time.Time
	backoff   time.Duration
	unread    error           // why the host could not be read the last time
	mute      map[string]bool // uplinks on which the last announcement could not be sent
	interrupt map[string]bool // uplinks that lost their carrier, or moved, since their addresses were announced
	heldBack  time.Time       // since when an acknowledgement waits for announcements
}

// New returns an agent that works on host; events are the host's changes.
func New(host Host, events <-chan netif.Event, client *v1alpha1.Client, m *Metrics, options Options) *Agent {
	if options.Resync == 0 {
		options.Resync = defaultResync
	}
	a := &Agent{
		host:      host,
		events:    events,
		source:    newSource(client, options.NodeName),
		report:    newReporter(client, options.NodeName, m),
		metrics:   m,
		options:   options,
		stale:     true,
		failed:    map[netip.Addr]trouble{},
		mute:      map[string]bool{},
		interrupt: map[string]bool{},
		announcer: newAnnouncer(),
		limiter:   rate.NewLimiter(announceRate, announceBurst),
		backoff:   retryFirst,
	}
	a.beat.Store(time.Now().UnixNano())
	return a
}

// Run works until ctx ends. It leaves everything on the host as it is.
func (a *Agent) Run(ctx context.Context) {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { a.source.run(ctx) })
	beside.Go(func() { a.report.run(ctx) })

	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	resync := time.NewTicker(a.options.Resync)
	defer resync.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	events := a.events
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.source.changed:
		case event, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			a.notice(event)
			a.drain(events)
		case <-resync.C:
			a.stale = true
		case <-beat.C:
		case <-timer.C:
		}
		now := time.Now()
		wait := a.turn(ctx, now)
		a.beat.Store(now.UnixNano())
		timer.Reset(wait)
	}
}

// Alive returns an error when the loop has stopped turning.
func (a *Agent) Alive(now time.Time) error {
	if age := now.Sub(time.Unix(0, a.beat.Load())); age > wedged {
		return fmt.Errorf("the agent's loop has not turned for %s", age.Round(time.Second))
	}
	return nil
}

// Ready returns an error until the node's object, or its absence, was seen and the host could be read and changed.
func (a *Agent) Ready() error {
	if !a.source.synced() {
		return errors.New("the node's NodeAddresses could not be read from the API server yet")
	}
	if !a.healthy.Load() {
		return errors.New("the host's network could not be read or changed; see the log")
	}
	return nil
}

// drain takes the events that wait already: a hundred addresses removed by hand are one reading.
func (a *Agent) drain(events <-chan netif.Event) {
	for {
		select {
		case event, ok := <-events:
			if !ok {
				return
			}
			a.notice(event)
		default:
			return
		}
	}
}

func (a *Agent) notice(event netif.Event) {
	if event.Kind == netif.LostEvent {
		a.metrics.watchRestarts.Inc()
	}
	_, uplink := a.have.Settings[event.Interface]
	if event.Kind == netif.LinkEvent && uplink && (event.Moved || !event.Running) {
		// A carrier that was gone for a moment only is back when the host is read.
		a.interrupt[event.Interface] = true
		a.stale = true
	}
	if !a.stale && a.matters(event) {
		a.stale = true
	}
}

// turn does what is to be done now and returns how long nothing else will be.
func (a *Agent) turn(ctx context.Context, now time.Time) time.Duration {
	wait := heartbeat
	wake := func(at time.Time) {
		if d := at.Sub(now); d < wait {
			wait = max(d, 0)
		}
	}
	object, online := a.source.get()
	if object != nil {
		a.report.saw(object)
	}
	// A generation that goes back can only come from an API server that lags: the newer one stays in force.
	if object != nil && (a.desired == nil || a.desired.uid != object.UID || a.desired.generation < object.Generation) {
		d := read(object)
		a.desired = &d
		a.backoff, a.nextRetry = retryFirst, time.Time{}
		a.dirty = true
	}
	if a.stale && !now.Before(a.nextRead) {
		a.nextRead = now.Add(rereadGap)
		if err := a.read(ctx, now); err != nil {
			a.unhealthy(ctx, err)
			a.nextRead = now.Add(retryFirst)
		} else {
			a.dirty, a.news = true, true
		}
	}
	if a.stale {
		wake(a.nextRead)
	}
	// An object that is gone or cannot be asked for orders nothing.
	mayChange := a.desired != nil && a.known && object != nil && online
	retry := len(a.failed) > 0 && !now.Before(a.nextRetry)
	if mayChange && (a.dirty || retry) {
		a.apply(ctx, now)
		a.dirty, a.applied, a.news = false, a.desired, true
	}
	if mayChange && len(a.failed) > 0 {
		wake(a.nextRetry)
	}
	if next, more := a.announce(ctx, now); more {
		wake(now.Add(next))
	}
	if a.news && object != nil && a.applied != nil && a.applied.uid == object.UID {
		if at, later := a.tell(now); later {
			wake(at)
		}
	}
	return wait
}

func (a *Agent) unhealthy(ctx context.Context, err error) {
	a.metrics.readErrors.Inc()
	if a.unread == nil {
		klog.FromContext(ctx).Error(err, "The host's network cannot be read; nothing is changed until it can")
	}
	a.unread, a.news = err, true
	a.healthy.Store(false)
}

// read replaces what is known of the host, and has addresses announced again whose uplink came up meanwhile.
func (a *Agent) read(ctx context.Context, now time.Time) error {
	have, err := a.host.Read(ctx)
	if err != nil {
		return fmt.Errorf("read the host's network: %w", err)
	}
	before := a.have
	a.have, a.known, a.stale, a.unread = have, true, false, nil
	a.names = make(map[int]string, len(have.Links))
	for name, link := range have.Links {
		a.names[link.Index] = name
	}
	a.healthy.Store(true)
	for ip, s := range a.announcer.series {
		old, link := before.Links[s.uplink], have.Links[s.uplink]
		if link.Running && (!old.Running || a.interrupt[s.uplink] || !bytes.Equal(old.HardwareAddr, link.HardwareAddr)) {
			a.announcer.restart(now, ip)
		}
	}
	maps.DeleteFunc(a.interrupt, func(uplink string, _ bool) bool { return have.Links[uplink].Running })
	return nil
}
