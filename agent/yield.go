package agent

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/conflict"
	"github.com/mooring-lb/mooring/agent/netif"
)

// obeyWire is what is done while the API server cannot be asked: what another machine has proved to hold is unbound,
// and what was yielded so is bound again once nobody answers for it. Everything else stays as it is.
func (k *Keeper) obeyWire(ctx context.Context, now time.Time) {
	switch {
	case k.desired != nil:
		k.wants = resolve(k.desired.wants, &k.have)
	default:
		k.wants = resolve(k.inherited, &k.have)
	}
	k.judge(ctx, now)
	moved := k.proofs()
	if len(moved) > 0 {
		steps, failed := plan(k.wants, &k.have)
		if k.run(ctx, now, only(steps, moved, boundOn(&k.have)), failed) {
			if err := k.read(ctx, now); err != nil {
				k.unhealthy(ctx, err)
				k.stale = true
			}
		}
		for ip := range moved {
			if t, ok := failed[ip]; ok {
				k.failed[ip] = t
			} else {
				delete(k.failed, ip)
			}
		}
		klog.FromContext(ctx).V(1).Info("Did what the wire has proved", "addresses", len(moved))
	}
	k.conflicts.Watch(now, subjects(k.wants, &k.have))
	k.schedule(now)
	if k.unproved = len(k.proofs()) > 0; k.unproved {
		k.nextRetry = now.Add(k.backoff)
		k.backoff = min(2*k.backoff, retryMost)
	}
}

// proofs are the addresses that are bound and taken by another machine, and those that were and are free again.
func (k *Keeper) proofs() map[netip.Addr]bool {
	bound := boundOn(&k.have)
	proofs := map[netip.Addr]bool{}
	for _, w := range k.wants {
		if w.verdict == conflict.Taken && bound[w.ip] || k.conflicts.Returning(w.ip) && !bound[w.ip] {
			proofs[w.ip] = true
		}
	}
	return proofs
}

// only leaves of the steps what they do to the given addresses. A guard that has to be made anew before one is bound
// covers what else is bound, too.
func only(steps []netif.Step, ips, bound map[netip.Addr]bool) []netif.Step {
	binds := slices.ContainsFunc(steps, func(s netif.Step) bool {
		return s.Kind == netif.Bind && slices.ContainsFunc(s.Addresses, func(ip netip.Addr) bool { return ips[ip] })
	})
	var kept []netif.Step
	for _, s := range steps {
		build := s.Kind == netif.BuildGuard
		s.Addresses = slices.DeleteFunc(slices.Clone(s.Addresses), func(ip netip.Addr) bool {
			return !ips[ip] && !(build && bound[ip])
		})
		if len(s.Addresses) > 0 && (!build || binds) {
			kept = append(kept, s)
		}
	}
	return kept
}

func boundOn(have *netif.State) map[netip.Addr]bool {
	bound := make(map[netip.Addr]bool, len(have.Bound))
	for place := range have.Bound {
		bound[place.IP] = true
	}
	return bound
}
