package ledger

// This file is about ports at external load balancers when a controller starts or its cloud-config changes.

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// adoptPorts takes over the ports in a Service's status. Nothing else records them, so what we published ourselves counts
// also when the pool would not serve the Service any more; and a Service that is being deleted has to be waited for.
func (l *Ledger) adoptPorts(v ServiceSnapshot, now time.Time) (notes []string) {
	for _, p := range v.PublishedPorts {
		pool, ok := l.allocator.PoolOfHost(p.Host, p.Port)
		if !ok {
			continue // somebody else's
		}
		var refusal *lb.Refusal
		if !v.Managed {
			refusal = l.allocator.AllowedPool(v.Request, pool)
		}
		if refusal == nil {
			refusal = l.allocator.AdoptPort(v.Request, lb.PortLease{Pool: pool, Port: p.Port, Service: p.Service})
		}
		if refusal != nil {
			notes = append(notes, fmt.Sprintf("%s:%d/%s in the status of %s: %s", p.Host, p.Port, p.Service.Protocol, v.Ref, refusal))
		}
	}
	held := l.allocator.Ports(v.UID)
	if len(held) == 0 {
		return notes
	}
	s := l.services[v.UID]
	if s == nil {
		s = l.newService(v.Request)
		s.wants = v.Wants
	}
	s.ports, s.publishedPorts = held, held
	for _, lease := range held {
		l.backends[keyOf(lease)] = &backend{PortLease: lease, ref: v.Ref}
	}
	if !v.Wants {
		l.unwant(s, now)
	}
	return notes
}

// portsMissing refuses a cloud-config in which ports that are in use belong to no pool any more.
func (l *Ledger) portsMissing(cfg *config.Config) error {
	for _, k := range slices.SortedFunc(maps.Keys(l.backends), BackendKey.compare) {
		before := l.pools[k.Pool]
		if before == nil || before.Updater == nil || l.backends[k].leaving {
			continue
		}
		if !slices.ContainsFunc(cfg.Pools, func(p config.Pool) bool {
			return p.Updater != nil && (p.Name == k.Pool || p.Updater.Host == before.Updater.Host && p.Updater.PortLow <= k.Port && k.Port <= p.Updater.PortHigh)
		}) {
			return fmt.Errorf("pool %q is in use (port %d/%s of Service %s, ...) and cannot be removed: put it back, or delete its Services first",
				k.Pool, k.Port, k.Protocol, l.backends[k].ref)
		}
	}
	return l.portsCollide(cfg)
}

// portsCollide refuses a cloud-config that brings two load balancers to one host on which two Services would have one port.
func (l *Ledger) portsCollide(cfg *config.Config) error {
	type place struct {
		host     string
		port     uint16
		protocol lb.Protocol
	}
	pools := poolsByName(cfg)
	holder := map[place]BackendKey{}
	for _, k := range slices.SortedFunc(maps.Keys(l.backends), BackendKey.compare) {
		before, after := l.pools[k.Pool], pools[k.Pool]
		if before == nil || before.Updater == nil {
			continue
		}
		at := place{before.Updater.Host, k.Port, k.Protocol}
		stays := slices.ContainsFunc(cfg.Pools, func(p config.Pool) bool {
			return p.Updater != nil && p.Updater.Host == at.host && p.Updater.PortLow <= k.Port && k.Port <= p.Updater.PortHigh
		})
		if !stays && after != nil && after.Updater != nil {
			at.host = after.Updater.Host
		}
		if other, taken := holder[at]; taken {
			return fmt.Errorf("port %d/%s of host %s would be that of Service %s and of Service %s: move one of them to another port first, by annotation %s",
				k.Port, k.Protocol, at.host, l.backends[other].ref, l.backends[k].ref, lb.AnnotationLBPorts)
		}
		holder[at] = k
	}
	return nil
}

// portsBefore are the ports of every Service, in the order in which the allocator has them.
func (l *Ledger) portsBefore() map[string][]lb.PortLease {
	before := map[string][]lb.PortLease{}
	for uid := range l.services {
		if ports := l.allocator.Ports(uid); len(ports) > 0 {
			before[uid] = ports
		}
	}
	return before
}

// followPools gives backends to the pool that their ports belong to now. Pools may have swapped their names, so all are
// taken from where they were before the first one is put where it is.
func (l *Ledger) followPools(before map[string][]lb.PortLease) {
	moved := map[BackendKey]*backend{}
	for _, uid := range slices.Sorted(maps.Keys(before)) {
		s := l.services[uid]
		renamed := map[BackendKey]string{}
		for i, lease := range l.allocator.Ports(uid) {
			was := keyOf(before[uid][i])
			if was.Pool == lease.Pool {
				continue
			}
			renamed[was] = lease.Pool
			if b := l.backends[was]; b != nil {
				delete(l.backends, was)
				l.effects.backend(was)
				b.Pool, b.revision = lease.Pool, 0
				moved[keyOf(b.PortLease)] = b
			}
		}
		for _, list := range []*[]lb.PortLease{&s.ports, &s.leavePorts, &s.publishedPorts} {
			*list = slices.Clone(*list)
			for i, lease := range *list {
				if pool, ok := renamed[keyOf(lease)]; ok {
					(*list)[i].Pool = pool
				}
			}
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(moved), BackendKey.compare) {
		l.backends[k] = moved[k]
		l.effects.backend(k)
	}
}
