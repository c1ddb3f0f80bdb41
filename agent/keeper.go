package agent

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

const (
	// heartbeat is how often a keeper wants its turn at least.
	heartbeat = 5 * time.Second
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

// Keeper decides everything that an agent does: it is the agent without its surroundings. It starts no goroutine, waits
// for nothing, reads no clock and speaks to no API server. Whoever drives it tells it what is known and what time it is,
// from one thread, and takes what it has to report; given the same calls and the same answers of the host it makes the
// same steps in the same order. An agent that is restarted is a new keeper of the same host.
type Keeper struct {
	host    Host
	metrics *Metrics
	options Options

	object    *v1alpha1.NodeAddresses // as the API server shows it; nil: there is none, or it was never read
	online    bool                    // the API server can be asked
	desired   *desired                // nil until the first object
	wants     []want                  // those of applied, resolved
	have      netif.State
	names     map[int]string                // of have.Links by index
	known     bool                          // have is the result of a reading
	stale     bool                          // have must be read again
	dirty     bool                          // desired or what there is has changed since the last apply
	applied   *desired                      // what the last apply worked on
	news      bool                          // there may be something to report
	offered   *v1alpha1.NodeAddressesStatus // what Report returns next
	failed    map[netip.Addr]trouble
	announcer *announcer
	limiter   *rate.Limiter
	detection
	nextRead  time.Time
	nextRetry time.Time
	backoff   time.Duration
	unread    error           // why the host could not be read the last time
	mute      map[string]bool // uplinks on which the last announcement could not be sent
	interrupt map[string]bool // uplinks that lost their carrier since the host was read
	moved     map[string]bool // those that lead elsewhere since then
	heldBack  time.Time       // since when an acknowledgement waits for announcements
}

// NewKeeper returns a keeper of host that knows nothing yet. Metrics may be nil: nothing is counted then.
func NewKeeper(host Host, options Options, m *Metrics) *Keeper {
	return &Keeper{
		host:      host,
		metrics:   m,
		options:   options,
		stale:     true,
		failed:    map[netip.Addr]trouble{},
		mute:      map[string]bool{},
		interrupt: map[string]bool{},
		moved:     map[string]bool{},
		announcer: newAnnouncer(),
		limiter:   rate.NewLimiter(announceRate, announceBurst),
		backoff:   retryFirst,
		detection: newDetection(),
	}
}

// Object tells the keeper what the API server shows of the node's object, nil when there is none or it was never read,
// and whether it can be asked. The keeper does not change the object, and nobody else may.
func (k *Keeper) Object(object *v1alpha1.NodeAddresses, online bool) {
	if online && !k.online && k.desired != nil {
		k.Reconnected()
	}
	k.object, k.online = object, online
}

// Resync has the host read again although nothing seems to have changed.
func (k *Keeper) Resync() { k.stale = true }

// Report returns the newest status when there is one that it has not returned yet.
func (k *Keeper) Report() (v1alpha1.NodeAddressesStatus, bool) {
	if k.offered == nil {
		return v1alpha1.NodeAddressesStatus{}, false
	}
	status := *k.offered
	k.offered = nil
	return status, true
}

// Healthy says whether the host could be read the last time that it was tried.
func (k *Keeper) Healthy() bool { return k.known && k.unread == nil }

// Notice tells the keeper of a change of the host, or of what was heard on a segment.
func (k *Keeper) Notice(event netif.Event) {
	if event.Kind == netif.LostEvent {
		k.metrics.watchBegan()
	}
	switch event.Kind {
	case netif.ClaimEvent:
		k.claims = append(k.claims, event)
		return
	case netif.DeafEvent:
		k.relisten = true
		return
	default:
	}
	if event.Kind == netif.LinkEvent && (event.Moved || !event.Running) && k.announcesOn(event.Interface) {
		if event.Running {
			k.moved[event.Interface] = true
		} else {
			// A carrier that was gone for a moment only is back when the host is read.
			k.interrupt[event.Interface] = true
		}
		k.stale = true
	}
	if !k.stale && k.matters(event) {
		k.stale = true
	}
}

// announcesOn says whether addresses are, or may be, announced on the interface.
func (k *Keeper) announcesOn(ifname string) bool {
	_, found := k.have.Settings[ifname]
	return found || slices.ContainsFunc(k.wants, func(w want) bool { return w.uplink == ifname })
}

// Turn does what is to be done now and returns for how long nothing else will be, unless the keeper is told something.
func (k *Keeper) Turn(ctx context.Context, now time.Time) (wait time.Duration) {
	wait = heartbeat
	wake := func(at time.Time) {
		if d := at.Sub(now); d < wait {
			wait = max(d, 0)
		}
	}
	defer func() { k.turned, k.expected = now, now.Add(wait) }()
	object := k.object
	k.notWhileAway(ctx, now)
	k.order(object)
	k.ruled(ctx, now)
	if k.stale && !now.Before(k.nextRead) {
		k.nextRead = now.Add(rereadGap)
		if err := k.read(ctx, now); err != nil {
			k.unhealthy(ctx, err)
			k.nextRead = now.Add(retryFirst)
		} else {
			k.dirty, k.news = true, true
		}
	}
	if k.stale {
		wake(k.nextRead)
	}
	k.detect(ctx, now)
	// An object that is gone or cannot be asked for orders nothing.
	mayChange := k.desired != nil && k.known && (object != nil && k.online || k.live)
	retry := len(k.failed) > 0 && !now.Before(k.nextRetry)
	if mayChange && (k.dirty || retry) {
		k.apply(ctx, now)
		k.dirty, k.proved, k.applied, k.news = false, false, k.desired, true
	} else if !mayChange && k.known && (k.proved || k.unproved && !now.Before(k.nextRetry)) {
		k.obeyWire(ctx, now)
		k.proved, k.news = false, true
	}
	k.live = k.live && k.dirty
	if mayChange && len(k.failed) > 0 || !mayChange && k.unproved {
		wake(k.nextRetry)
	}
	if next, more := k.detect(ctx, now); more {
		wake(now.Add(next))
	}
	if k.known && (k.dirty && mayChange || k.proved && !mayChange) {
		wake(now)
	}
	if next, more := k.announce(ctx, now); more {
		wake(now.Add(next))
	}
	if k.news && object != nil && k.applied != nil && k.applied.uid == object.UID {
		if at, later := k.tell(now); later {
			wake(at)
		}
	}
	return wait
}

// order puts an object in force that is newer than the one that is.
func (k *Keeper) order(object *v1alpha1.NodeAddresses) {
	if object == nil || !k.desired.overtakenBy(object) {
		return
	}
	d := read(object)
	k.desired = &d
	k.backoff, k.nextRetry = retryFirst, time.Time{}
	k.dirty = true
}

func (k *Keeper) unhealthy(ctx context.Context, err error) {
	k.metrics.unreadable()
	if k.unread == nil {
		klog.FromContext(ctx).Error(err, "The host's network cannot be read; nothing is changed until it can")
	}
	k.unread, k.news = err, true
}

// read replaces what is known of the host, and has addresses checked and announced again whose uplink came up
// meanwhile.
func (k *Keeper) read(ctx context.Context, now time.Time) error {
	have, err := k.host.Read(ctx)
	if err != nil {
		return fmt.Errorf("read the host's network: %w", err)
	}
	before := k.have
	k.have, k.known, k.stale, k.unread = have, true, false, nil
	k.names = make(map[int]string, len(have.Links))
	for name, link := range have.Links {
		k.names[link.Index] = name
	}
	k.own()
	k.inherit()
	for _, name := range slices.Sorted(maps.Keys(have.Links)) {
		old, link := before.Links[name], have.Links[name]
		changed := !bytes.Equal(old.HardwareAddr, link.HardwareAddr)
		switch {
		case !link.Running:
		case !old.Running || k.interrupt[name] || changed && !k.moved[name]:
			k.relinked(now, name)
		case k.moved[name]: // a bond may have the hardware address of its port
			k.replugged(now, name)
		}
	}
	for _, events := range []map[string]bool{k.interrupt, k.moved} {
		maps.DeleteFunc(events, func(uplink string, _ bool) bool { return have.Links[uplink].Running })
	}
	return nil
}
