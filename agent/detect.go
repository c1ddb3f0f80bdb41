package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/conflict"
	"github.com/mooring-lb/mooring/agent/netif"
)

// Reasons of the ConflictDetection condition, when it is False. The controller shows them as events on the Node.
const (
	// ReasonProxyARP says that a machine answers for every address on a segment, as a router with proxy ARP does.
	//
	// What to do: switch proxy ARP off there, or set `conflictDetection: off`; see
	// [proxy ARP](../guides/failover.md#proxy-arp).
	//
	//reference:in NodeAddresses/ConflictDetection
	//reference:event Node Warning
	ReasonProxyARP = "ProxyARP"

	// ReasonNotListening says that the agent cannot hear what other machines claim; the message says why.
	//
	// What to do: see that the agent has the capability `NET_RAW`, and that the uplink exists.
	//
	//reference:in NodeAddresses/ConflictDetection
	//reference:event Node Warning
	ReasonNotListening = "NotListening"
)

const (
	// probeRate and probeBurst keep the probes of 500 addresses from flooding the segment.
	probeRate  = 2000
	probeBurst = 200
	// absence is how much later than it asked for a turn may come before the keeper takes it that time went by in
	// which it heard nothing: it was stopped, or its machine was.
	absence = 3 * time.Second
	// listenRetry is when listening is tried again that did not work.
	listenRetry = 5 * time.Second
	// proxiesNamed is how many proxies a message names.
	proxiesNamed = 3
	// hardwareAddrLen is that of Ethernet: other links have no neighbours that could claim anything.
	hardwareAddrLen = 6
)

// errNoCarrier: what is sent on a link without carrier is lost without an error, and the silence proves nothing.
var errNoCarrier = errors.New("the link has no carrier")

// detection is what a keeper knows about other machines with its addresses.
type detection struct {
	conflicts *conflict.Detector
	probing   *rate.Limiter
	claims    []netif.Event // not judged yet
	answer    *answer       // of a live read, not judged yet
	live      bool          // a live read has shown the object since the last apply
	rejoined  bool          // the watch of the API server is whole again
	turned    time.Time     // of the last turn
	expected  time.Time     // when the keeper wanted its last turn at the latest
	proved    bool          // a verdict has changed that no apply has seen
	unproved  bool          // what the wire has proved could not be done
	deaf      error         // why claims cannot be heard
	relisten  bool          // the host could not listen any more somewhere
	unlistens time.Time     // when listening is tried again
	dumb      map[string]bool
	inherited []want // what was bound here before the first object
}

type answer struct {
	object *v1alpha1.NodeAddresses
	err    error
}

func newDetection() detection {
	return detection{
		conflicts: conflict.New(),
		probing:   rate.NewLimiter(probeRate, probeBurst),
		dumb:      map[string]bool{},
	}
}

// Asks says whether the node's object is to be read live now: from the API server, from no cache, within about a second.
// It says so once, after a Turn, and of reads that are answered at most four times a second. Answered must follow, whatever
// comes of it.
func (k *Keeper) Asks() bool { return k.conflicts.Asks(k.turned) }

// Answered tells what came of the live read that Asks asked for: the object, or an error when it could not be had for
// whatever reason, be it that there is none. A turn is due then.
func (k *Keeper) Answered(object *v1alpha1.NodeAddresses, err error) {
	if object == nil && err == nil {
		err = errors.New("the API server has shown no object")
	}
	k.answer = &answer{object, err}
	k.metrics.readLive(err == nil)
}

// Reconnected tells that the watch of the API server is whole again after it was broken, so that for some time what it
// showed was old without a sign of it. Object notices by itself when online becomes true again.
func (k *Keeper) Reconnected() { k.rejoined = true }

// notWhileAway has everything asked for, probed and announced anew when this host may have been away. When only the
// watch of the API server was broken each address is announced once, for neighbours that may have heard otherwise: the
// host has heard and said everything on its segments meanwhile, and an API server that restarts breaks the watches of all
// agents at once.
func (k *Keeper) notWhileAway(ctx context.Context, now time.Time) {
	log := klog.FromContext(ctx)
	late := time.Duration(0)
	if !k.expected.IsZero() {
		// A stopped process sees it in the monotonic clock, a machine that was suspended or put back often only in the
		// time of day.
		late = max(now.Sub(k.expected), now.Round(0).Sub(k.expected.Round(0)))
	}
	switch {
	case late >= absence:
		log.Info("The clock jumped or this process stood still; asking and probing before anything is announced", "late", late)
	case k.rejoined:
		log.Info("The watch of the API server is back; asking and probing before anything is announced")
	default:
		return
	}
	k.rejoined = false
	k.conflicts.Recheck(now)
	k.hush(now, func(*series) bool { return late >= absence })
}

// relinked has the addresses of an uplink asked for, probed and announced anew.
func (k *Keeper) relinked(now time.Time, uplink string) {
	k.conflicts.Relinked(now, uplink)
	k.hush(now, func(s *series) bool { return s.uplink == uplink })
}

// replugged announces the addresses of an uplink that leads elsewhere now, and has them asked for and probed beside it.
// Those that are being checked already wait for that.
func (k *Keeper) replugged(now time.Time, uplink string) {
	k.conflicts.Replugged(now, uplink)
	for ip, s := range k.announcer.series {
		switch {
		case s.uplink != uplink:
		case k.conflicts.Checking(ip):
			k.announcer.pause(ip, true)
		default:
			k.announcer.repeat(now, ip)
		}
	}
}

// hush ends the announcements of addresses that are being checked. Those for which again says so are announced from the
// beginning: after the check, or at once when they are not watched.
func (k *Keeper) hush(now time.Time, again func(*series) bool) {
	for ip, s := range k.announcer.series {
		if k.conflicts.Checking(ip) {
			k.announcer.pause(ip, again(s))
		} else if again(s) {
			k.announcer.repeat(now, ip)
		}
	}
}

// own tells the detector which hardware addresses are this host's.
func (k *Keeper) own() {
	var own []net.HardwareAddr
	for _, link := range k.have.Links {
		own = append(own, link.HardwareAddr)
	}
	k.conflicts.Own(own)
}

// inherit makes wants of what is bound when no object was read yet: the agent was restarted while the API server is
// away. They are yielded like others, and nothing else is done about them; in particular they are not announced, because
// they may have been moved away while the agent did not run. Which of them are unwatched is not known: those in no
// subnet of the host are taken for it, for they are routed here, and who answers for all of them is the cloud's router.
func (k *Keeper) inherit() {
	if k.desired != nil || k.inherited != nil || len(k.have.Bound) == 0 {
		return
	}
	var wants []want
	for place := range k.have.Bound {
		_, guarded := k.have.Guard.Addresses[place.IP]
		wants = append(wants, want{ip: place.IP, ifname: place.Interface, state: v1alpha1.Hold, guarded: guarded,
			watched: neighbourhood(place.IP, &k.have) != "", unheard: true})
	}
	slices.SortFunc(wants, func(a, b want) int {
		if c := a.ip.Compare(b.ip); c != 0 {
			return c
		}
		return strings.Compare(a.ifname, b.ifname)
	})
	k.inherited = slices.CompactFunc(wants, func(a, b want) bool { return a.ip == b.ip })
	k.proved = true
}

// ruled judges the answer of a live read. An object that is newer than the one in force takes effect with it.
func (k *Keeper) ruled(ctx context.Context, now time.Time) {
	a := k.answer
	if a == nil {
		return
	}
	k.answer = nil
	if a.err == nil {
		k.order(a.object)
		if k.desired.uid != a.object.UID || k.desired.generation != a.object.Generation {
			a.err = errors.New("the API server has shown an object that is older than one seen before")
		}
	}
	if a.err != nil {
		klog.FromContext(ctx).Info("The API server cannot be asked whose addresses these are", "err", a.err)
		k.conflicts.Answer(now, nil)
		return
	}
	k.live = true
	wants := k.desired.wants
	k.conflicts.Answer(now, func(ip netip.Addr) bool {
		w, ok := find(wants, ip)
		return ok && w.state == v1alpha1.Hold
	})
}

// subjects are the addresses that other machines may not answer for: held here, on a link with neighbours. One that
// yields is among them while it is bound: when the order to release it cannot come, its successor has to be believed.
func subjects(wants []want, have *netif.State) []conflict.Subject {
	bound := boundOn(have)
	list := make([]conflict.Subject, 0, len(wants))
	for _, w := range wants {
		link, ok := have.Links[w.uplink]
		yields := w.state == v1alpha1.Yield && bound[w.ip]
		if w.state != v1alpha1.Hold && !yields || w.ifname == interfaceNone || !w.watched || !ok || link.Loopback ||
			len(link.HardwareAddr) != hardwareAddrLen {
			continue
		}
		list = append(list, conflict.Subject{IP: w.ip, Uplink: w.uplink, Bound: bound[w.ip], Moved: w.chased})
	}
	return list
}

// judge brings the detector up to date with what is wanted, and the wants with its verdicts.
func (k *Keeper) judge(ctx context.Context, now time.Time) {
	if k.conflicts.Watch(now, subjects(k.wants, &k.have)) {
		k.listen(ctx, now)
	}
	for i, w := range k.wants {
		k.wants[i].verdict, k.wants[i].other = k.conflicts.Verdict(w.ip)
	}
}

func (k *Keeper) listen(ctx context.Context, now time.Time) {
	err := k.host.Listen(k.conflicts.Watched())
	switch {
	case err != nil && k.deaf == nil:
		klog.FromContext(ctx).Error(err, "Claims of other machines cannot be heard; trying again")
	case err == nil && k.deaf != nil:
		klog.FromContext(ctx).Info("Claims of other machines can be heard again")
	}
	k.news = k.news || (err == nil) != (k.deaf == nil)
	k.deaf, k.unlistens = err, now.Add(listenRetry)
}

// detect judges what was heard, sends the probes that are due as fast as the pace allows, acts on what was decided, and
// returns when it is to be called again.
func (k *Keeper) detect(ctx context.Context, now time.Time) (time.Duration, bool) {
	if k.deaf == nil && k.relisten || k.deaf != nil && !now.Before(k.unlistens) {
		k.listen(ctx, now)
	}
	k.relisten = false
	for _, c := range k.claims {
		if k.conflicts.Heard(now, c.Interface, c.IP, c.HardwareAddr) {
			k.metrics.claimed()
		}
	}
	k.claims = k.claims[:0]
	next, more := k.probe(ctx, now)
	for _, d := range k.conflicts.Decisions() {
		k.act(ctx, now, d)
	}
	if k.deaf != nil {
		if wait := k.unlistens.Sub(now); !more || wait < next {
			next, more = wait, true
		}
	}
	return next, more
}

func (k *Keeper) probe(ctx context.Context, now time.Time) (time.Duration, bool) {
	log := klog.FromContext(ctx)
	for {
		p, wait, ok := k.conflicts.Next(now)
		if !ok || wait > 0 {
			return wait, ok
		}
		if !k.probing.AllowN(now, 1) {
			return probeBurst / 2 * time.Second / probeRate, true
		}
		err := errNoCarrier
		if k.have.Links[p.Uplink].Running {
			err = k.host.Probe(p.Uplink, p.IP)
		}
		switch {
		case err != nil && !k.dumb[p.Uplink]:
			k.dumb[p.Uplink] = true
			log.Error(err, "Probes cannot be sent; trying again", "address", p.IP, "uplink", p.Uplink)
		case err == nil && k.dumb[p.Uplink]:
			delete(k.dumb, p.Uplink)
			log.Info("Probes can be sent again", "uplink", p.Uplink)
		}
		k.metrics.probed(err == nil)
		k.conflicts.Sent(now, p, err)
	}
}

// act does what the detector decided, and says so: who reads the log at night learns what was heard and what came of it.
func (k *Keeper) act(ctx context.Context, now time.Time, d conflict.Decision) {
	log := klog.FromContext(ctx).WithValues("address", d.IP, "uplink", d.Uplink)
	if d.Other != "" {
		log = log.WithValues("hardwareAddress", d.Other)
	}
	switch d.Kind {
	case conflict.Cleared:
		log.V(1).Info("Nobody answers for the new address")
		k.dirty, k.proved = true, true
	case conflict.Occupied:
		log.Info("Another machine answers for the new address; it is not bound while it does")
		k.metrics.conflicted("occupied")
		k.dirty, k.proved = true, true
	case conflict.Doubted:
		log.V(1).Info("Another machine claims the address; probing")
	case conflict.Stray:
		log.V(1).Info("Nobody answers for the address; the claim is ignored")
	case conflict.Answered:
		log.Info("Another machine answers for the address that is held here; asking the API server whose it is")
	case conflict.Contested:
		log.Info("The API server says that the address belongs here; it is defended against the other machine")
		k.news = true
	case conflict.Defend:
		log.Info("Defending the address by an announcement")
		k.metrics.conflicted("defended")
		k.announcer.once(now, d.IP)
	case conflict.Denied:
		log.Info("The API server says that the address is not held here any more")
	case conflict.Yielded:
		log.Info("The API server cannot be asked and another machine answers for the address: yielding it until nobody does")
		k.metrics.conflicted("yielded")
		k.dirty, k.proved = true, true
	case conflict.Returned:
		log.Info("The address may be bound: nobody answers for it any more, or the API server says that it was moved here")
		if i := slices.IndexFunc(k.inherited, func(w want) bool { return w.ip == d.IP }); i >= 0 {
			k.inherited[i].unheard = false // who had it has told everybody
		}
		k.dirty, k.proved = true, true
	case conflict.Checked:
		log.V(1).Info("The address is announced anew")
		k.announcer.resume(now, d.IP)
	case conflict.Settled:
		log.Info("Nothing was heard of the other machine for a while; the address is not contested any more")
		k.news = true
	case conflict.ProxyFound:
		log.Info("A machine answers for every address (proxy ARP); what it says is ignored on this uplink")
		k.dirty, k.proved, k.news = true, true, true
	case conflict.ProxyForgotten:
		log.Info("A machine does not answer for every address any more; what it says counts again on this uplink")
		k.news = true
	}
}

// blindness is the condition that says why conflicts cannot be detected; ok is false when they can.
func (k *Keeper) blindness() (c metav1.Condition, ok bool) {
	c = metav1.Condition{Type: v1alpha1.ConditionConflictDetection, Status: metav1.ConditionFalse}
	if k.deaf != nil {
		c.Reason, c.Message = ReasonNotListening, "what other machines claim cannot be heard: "+k.deaf.Error()
		return c, true
	}
	proxies := k.conflicts.Proxies()
	if len(proxies) == 0 {
		return metav1.Condition{}, false
	}
	var names []string
	for _, p := range proxies[:min(len(proxies), proxiesNamed)] {
		names = append(names, p.Other+" on "+p.Uplink)
	}
	who := strings.Join(names, ", ")
	if more := len(proxies) - len(names); more > 0 {
		who += fmt.Sprintf(" and %d more", more)
	}
	c.Reason = ReasonProxyARP
	c.Message = "answers for every address (proxy ARP), so it is not known who else has one: " + who +
		"; switch proxy ARP (or proxy NDP) off there, or set conflictDetection: off on the pools of this segment"
	return c, true
}
