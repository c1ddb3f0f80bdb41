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
func (a *Agent) apply(ctx context.Context, now time.Time) {
	log := klog.FromContext(ctx)
	began := time.Now()
	var failed map[netip.Addr]trouble
	for range rounds {
		a.wants = resolve(a.desired.wants, &a.have)
		var steps []netif.Step
		steps, failed = plan(a.wants, &a.have)
		hopeless := len(failed)
		if len(steps) == 0 || !a.run(ctx, now, steps, failed) {
			break
		}
		if err := a.read(ctx, now); err != nil {
			a.unhealthy(ctx, err)
			a.stale = true
			break
		}
		if len(failed) > hopeless {
			break // tried again later, not at once
		}
	}
	a.metrics.applySeconds.Observe(time.Since(began).Seconds())
	a.metrics.bound.Set(float64(len(a.have.Bound)))
	a.metrics.failed.Set(float64(len(failed)))
	for _, ip := range slices.SortedFunc(maps.Keys(failed), netip.Addr.Compare) {
		if a.failed[ip] != failed[ip] {
			log.Info("Address cannot be served", "address", ip, "reason", failed[ip].reason, "message", failed[ip].message)
		}
	}
	for _, ip := range slices.SortedFunc(maps.Keys(a.failed), netip.Addr.Compare) {
		if _, still := failed[ip]; !still {
			log.Info("Address has no trouble any more", "address", ip)
		}
	}
	a.failed = failed
	if len(failed) > 0 {
		a.nextRetry = now.Add(a.backoff)
		a.backoff = min(2*a.backoff, retryMost)
	} else {
		a.backoff = retryFirst
	}
	a.schedule(now)
}

// run carries out the steps and says whether the host must be read to know the result. Troubles are added to failed.
func (a *Agent) run(ctx context.Context, now time.Time, steps []netif.Step, failed map[netip.Addr]trouble) (reread bool) {
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
		failures := a.host.Do(ctx, step)
		stepFailed := map[netip.Addr]bool{}
		whole := false
		for _, f := range failures {
			ips := []netip.Addr{f.IP}
			if !f.IP.IsValid() {
				ips, whole = step.Addresses, true
			}
			for _, ip := range ips {
				stepFailed[ip], out[ip] = true, true
				failed[ip] = trouble{reasonOf(step.Kind), fmt.Sprintf("%s: %v", label(step), f.Err)}
			}
			log.V(1).Info("Step could not be done", "step", step, "address", f.IP, "err", f.Err)
		}
		a.metrics.step(step.Kind, len(failures) == 0)
		if len(failures) == 0 {
			log.Info("Step done", "step", step)
		}
		if whole {
			reread = true
			continue
		}
		if !absorb(&a.have, step, stepFailed) {
			reread = true
		}
		if step.Kind == netif.Bind {
			for _, ip := range step.Addresses {
				a.announcer.restart(now, ip)
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
func (a *Agent) schedule(now time.Time) {
	for _, w := range a.wants {
		if a.announces(w) {
			a.announcer.hold(now, w.ip, w.uplink, w.chased)
		} else {
			a.announcer.drop(w.ip)
		}
	}
	for ip := range a.announcer.series {
		if _, ok := find(a.wants, ip); !ok {
			a.announcer.drop(ip)
		}
	}
}

// announces says whether the address is announced by us: held, bound, and with an uplink to announce it on.
func (a *Agent) announces(w want) bool {
	if w.state != v1alpha1.Hold || w.ifname == interfaceNone || w.uplink == "" {
		return false
	}
	if _, failed := a.failed[w.ip]; failed {
		return false
	}
	_, bound := a.have.Bound[netif.Place{Interface: w.ifname, IP: w.ip}]
	return bound
}

// announce sends what is due, as fast as the pace allows, and returns when it is to be called again.
func (a *Agent) announce(ctx context.Context, now time.Time) (time.Duration, bool) {
	for {
		s, wait, ok := a.announcer.next(now)
		if !ok || wait > 0 {
			return wait, ok
		}
		if !a.limiter.AllowN(now, 1) {
			return announceBurst / 2 * time.Second / announceRate, true
		}
		err := a.host.Announce(s.uplink, s.ip)
		switch {
		case err != nil && !a.mute[s.uplink]:
			a.mute[s.uplink] = true
			klog.FromContext(ctx).Error(err, "Announcements cannot be sent; trying again", "address", s.ip, "uplink", s.uplink)
		case err == nil && a.mute[s.uplink]:
			delete(a.mute, s.uplink)
			klog.FromContext(ctx).Info("Announcements can be sent again", "uplink", s.uplink)
		}
		a.metrics.announced(err == nil)
		a.news = a.news || s.sent == 0
		a.announcer.done(now, s, err)
	}
}
