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
// All decisions are a Keeper's, which one thread can drive on any clock; an Agent is what a Keeper needs around it: the
// watch of the API server, the writer of the status, timers.
//
// It decides no placement and imports nothing of the controller.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// Host is the host's network. Read returns all or an error, Do is idempotent and reports only what it could not do.
type Host interface {
	Read(ctx context.Context) (netif.State, error)
	Do(ctx context.Context, step netif.Step) []netif.Failure
	Wire
}

// Wire is what a host says and hears on the segments behind its uplinks. What other machines claim comes as events of
// kind netif.ClaimEvent.
type Wire interface {
	// Announce tells the segment that ip is here.
	Announce(uplink string, ip netip.Addr) error
	// Probe asks the segment who has ip, without saying that it is here.
	Probe(uplink string, ip netip.Addr) error
	// Listen replaces the addresses, by uplink, whose claims are told. It keeps the map.
	Listen(watched map[string][]netip.Addr) error
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
	// wedged is when the loop is said to have stopped.
	wedged = time.Minute
)

// Agent keeps one node's addresses: it gives a Keeper what it needs to know, and its turns.
type Agent struct {
	keeper  *Keeper
	events  <-chan netif.Event
	source  *source
	report  *reporter
	metrics *Metrics
	resync  time.Duration
	live    chan answer // of the live read under way

	beat    atomic.Int64 // Unix nanoseconds of the loop's last turn
	healthy atomic.Bool  // the last turn read the host and applied without an error of the host as a whole
}

// New returns an agent that works on host; events are the host's changes.
func New(host Host, events <-chan netif.Event, client *v1alpha1.Client, m *Metrics, options Options) *Agent {
	a := &Agent{
		keeper:  NewKeeper(host, options, m),
		events:  events,
		source:  newSource(client, options.NodeName),
		report:  newReporter(client, options.NodeName, m),
		metrics: m,
		resync:  cmp.Or(options.Resync, defaultResync),
		live:    make(chan answer, 1),
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
	resync := time.NewTicker(a.resync)
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
			a.keeper.Notice(event)
		case answer := <-a.live:
			a.keeper.Answered(answer.object, answer.err)
		case <-resync.C:
			a.keeper.Resync()
		case <-beat.C:
			a.metrics.beat()
		case <-timer.C:
		}
		// What was heard before a time ran out counts.
		a.drain(events)
		timer.Reset(a.turn(ctx))
		if a.keeper.Asks() {
			beside.Go(func() {
				object, err := a.source.live(ctx)
				a.live <- answer{object, err}
			})
		}
	}
}

// turn gives the keeper its turn and returns when the next one is due.
func (a *Agent) turn(ctx context.Context) time.Duration {
	if a.source.rejoined() {
		a.keeper.Reconnected()
	}
	object, online := a.source.get()
	if object != nil {
		a.report.saw(object)
	}
	a.keeper.Object(object, online)
	now := time.Now()
	wait := a.keeper.Turn(ctx, now)
	a.healthy.Store(a.keeper.Healthy())
	if status, ok := a.keeper.Report(); ok {
		a.report.offer(status)
	}
	a.beat.Store(now.UnixNano())
	return wait
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
			a.keeper.Notice(event)
		default:
			return
		}
	}
}
