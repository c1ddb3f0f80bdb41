package agent

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// apply makes the host match the object, as far as that is possible now.
func (k *Keeper) apply(ctx context.Context, now time.Time) {
	log := klog.FromContext(ctx)
	done := k.metrics.applying()
	var failed map[netip.Addr]trouble
	for range rounds {
		k.wants = resolve(k.desired.wants, &k.have)
		k.judge(ctx, now)
		var steps []netif.Step
		steps, failed = plan(k.wants, &k.have)
		hopeless := len(failed)
		if len(steps) == 0 || !k.run(ctx, now, steps, failed) {
			break
		}
		if err := k.read(ctx, now); err != nil {
			k.unhealthy(ctx, err)
			k.stale = true
			break
		}
		if len(failed) > hopeless {
			break // tried again later, not at once
		}
	}
	done(len(k.have.Bound), len(failed))
	for _, ip := range slices.SortedFunc(maps.Keys(failed), netip.Addr.Compare) {
		if k.failed[ip] != failed[ip] {
			log.Info("Address cannot be served", "address", ip, "reason", failed[ip].reason, "message", failed[ip].message)
		}
	}
	for _, ip := range slices.SortedFunc(maps.Keys(k.failed), netip.Addr.Compare) {
		if _, still := failed[ip]; !still {
			log.Info("Address has no trouble any more", "address", ip)
		}
	}
	k.failed = failed
	if len(failed) > 0 {
		k.nextRetry = now.Add(k.backoff)
		k.backoff = min(2*k.backoff, retryMost)
	} else {
		k.backoff = retryFirst
	}
	k.conflicts.Watch(now, subjects(k.wants, &k.have)) // what is bound now
	k.unproved = len(k.proofs()) > 0                   // to be done without the API server, should it go away
	k.schedule(now)
}

// run carries out the steps and says whether the host must be read to know the result. Troubles are added to failed.
func (k *Keeper) run(ctx context.Context, now time.Time, steps []netif.Step, failed map[netip.Addr]trouble) (reread bool) {
	log := klog.FromContext(ctx)
	out := map[netip.Addr]bool{}
	for _, step := range steps {
		if len(out) > 0 && step.Kind != netif.BuildGuard {
			had := len(step.Addresses) > 0
			step.Addresses = slices.DeleteFunc(slices.Clone(step.Addresses), func(ip netip.Addr) bool { return out[ip] })
			if had && len(step.Addresses) == 0 {
				continue
			}
		}
		failures := k.host.Do(ctx, step)
		stepFailed := map[netip.Addr]bool{}
		whole := false
		for _, f := range failures {
			ips := []netip.Addr{f.IP}
			if !f.IP.IsValid() {
				ips, whole = step.Addresses, true
			}
			for _, ip := range ips {
				stepFailed[ip], out[ip] = true, true
				failed[ip] = trouble{reason: reasonOf(step.Kind), message: fmt.Sprintf("%s: %v", label(step), f.Err)}
			}
			log.V(1).Info("Step could not be done", "step", step, "address", f.IP, "err", f.Err)
		}
		k.metrics.step(step.Kind, len(failures) == 0)
		if len(failures) == 0 {
			log.Info("Step done", "step", step)
		}
		if whole {
			reread = true
			continue
		}
		if !absorb(&k.have, step, stepFailed) {
			reread = true
		}
		if step.Kind == netif.Bind {
			for _, ip := range step.Addresses {
				k.announcer.restart(now, ip)
			}
		}
	}
	return reread
}

func label(step netif.Step) string {
	if step.Interface == "" {
		return string(step.Kind)
	}
	return string(step.Kind) + " on " + step.Interface
}

// schedule has the addresses announced that are held and bound, and no others.
func (k *Keeper) schedule(now time.Time) {
	for _, w := range k.wants {
		if k.announces(w) {
			k.announcer.hold(now, w.ip, w.uplink, w.chased)
			switch checking, paused := k.conflicts.Checking(w.ip), k.announcer.paused(w.ip); {
			case checking && !paused:
				k.announcer.pause(w.ip, true)
			case !checking && paused:
				k.announcer.resume(now, w.ip)
			}
		} else {
			k.announcer.drop(w.ip)
		}
	}
	for ip := range k.announcer.series {
		if _, ok := find(k.wants, ip); !ok {
			k.announcer.drop(ip)
		}
	}
}

// announces says whether the address is announced by us: held, bound, and with an uplink to announce it on.
func (k *Keeper) announces(w want) bool {
	if w.state != v1alpha1.Hold || w.ifname == interfaceNone || w.uplink == "" || w.unheard {
		return false
	}
	if _, failed := k.failed[w.ip]; failed {
		return false
	}
	_, bound := k.have.Bound[netif.Place{Interface: w.ifname, IP: w.ip}]
	return bound
}

// announce sends what is due, as fast as the pace allows, and returns when it is to be called again.
func (k *Keeper) announce(ctx context.Context, now time.Time) (time.Duration, bool) {
	for {
		s, wait, ok := k.announcer.next(now)
		if !ok || wait > 0 {
			return wait, ok
		}
		if !k.limiter.AllowN(now, 1) {
			return announceBurst / 2 * time.Second / announceRate, true
		}
		err := k.host.Announce(s.uplink, s.ip)
		switch {
		case err != nil && !k.mute[s.uplink]:
			k.mute[s.uplink] = true
			klog.FromContext(ctx).Error(err, "Announcements cannot be sent; trying again", "address", s.ip, "uplink", s.uplink)
		case err == nil && k.mute[s.uplink]:
			delete(k.mute, s.uplink)
			klog.FromContext(ctx).Info("Announcements can be sent again", "uplink", s.uplink)
		}
		k.metrics.announced(err == nil)
		k.news = k.news || !s.heard
		k.announcer.done(now, s, err)
	}
}
