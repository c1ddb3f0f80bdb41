package pool

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// canonicalHost is the one form by which published hosts are compared: as an address, else as a lower-case name without
// a dot at its end.
func canonicalHost(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String()
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// PoolOfHost names the configured updater pool that a port at a published host (an address or a DNS name) belongs to:
// the one whose range contains the port, else the first by name that publishes the host. False when none does.
func (a *Allocator) PoolOfHost(host string, port uint16) (string, bool) {
	host = canonicalHost(host)
	if s := a.portsAt(host, port); s != nil {
		return s.pool.Name, true
	}
	for _, s := range a.portSpaces {
		if s.host == host {
			return s.pool.Name, true
		}
	}
	return "", false
}

// AllowedPool refuses when the pool is not configured or does not serve the Service.
func (a *Allocator) AllowedPool(req lb.Request, pool string) *lb.Refusal {
	p := a.named[pool]
	if p == nil {
		return lb.Refuse(lb.ReasonPoolNotFound, "pool %q is not in the cloud-config", pool)
	}
	if d := p.admits(&req); d != admitted {
		return lb.Refuse(lb.ReasonNotAllowed, "pool %q %s", pool, p.explain(d, &req))
	}
	return nil
}

// AdoptPort records at start, before the first Assign, that the Service holds a port already, and which of its ports is
// served there. The port is kept also when held.Pool is not configured or its range does not contain it; when the range
// of another pool on the same host does, it belongs to that one. Adopting twice changes nothing.
//
// It is refused when another Service holds the port: adopt the older Service first. It is refused too when no updater
// pool could ever have given it out: port 0, or a protocol other than TCP and UDP.
func (a *Allocator) AdoptPort(req lb.Request, held lb.PortLease) *lb.Refusal {
	if held.Port == 0 || !slices.Contains(protocols, held.Service.Protocol) {
		return lb.Refuse(lb.ReasonNotSupported, "%d/%s is no port of an external load balancer", held.Port, held.Service.Protocol)
	}
	key := portKey{unknownHost(held.Pool), held.Service.Protocol, held.Port}
	if p := a.named[held.Pool]; p != nil && p.ports != nil {
		key.host = p.ports.host
	}
	r := a.portRecords[key]
	if r != nil && r.holder != nil {
		if r.holder.service.UID == req.UID {
			return nil
		}
		return lb.Refuse(lb.ReasonPortInUse, "port %d/%s of pool %q is held by Service %s already, and %s may not have it too",
			held.Port, held.Service.Protocol, r.pool, r.holder.service.Ref, req.Ref)
	}
	a.holdPort(a.know(&req), key, held.Pool, held.Service)
	return nil
}

// Ports lists all ports that the Service holds. Those that the last Assign told to leave may stand anywhere among them.
func (a *Allocator) Ports(uid string) []lb.PortLease {
	s := a.services[uid]
	if s == nil {
		return nil
	}
	var leases []lb.PortLease
	for _, l := range s.portLeases {
		leases = append(leases, l.lease())
	}
	return leases
}

// HolderOfPort is the Service that holds a port of the pool; false when nobody does.
func (a *Allocator) HolderOfPort(pool string, port uint16, protocol lb.Protocol) (lb.Ref, bool) {
	p := a.named[pool]
	if p == nil || p.ports == nil {
		return lb.Ref{}, false
	}
	if r := a.portRecords[p.ports.key(protocol, port)]; r != nil && r.holder != nil {
		return r.holder.service.Ref, true
	}
	return lb.Ref{}, false
}

// UnusedPorts yields every port in the range of an updater pool that nobody holds, ascending, TCP before UDP; nothing for
// another pool. Whoever takes its time between two of them asks HolderOfPort before it acts on one.
func (a *Allocator) UnusedPorts(pool string) iter.Seq2[uint16, lb.Protocol] {
	return func(yield func(uint16, lb.Protocol) bool) {
		p := a.named[pool]
		if p == nil || p.ports == nil {
			return
		}
		for n := int(p.ports.low); n <= int(p.ports.high); n++ {
			for _, protocol := range protocols {
				if _, held := a.HolderOfPort(pool, uint16(n), protocol); !held && !yield(uint16(n), protocol) {
					return
				}
			}
		}
	}
}

// ReleasePort ends the Service's hold on a port: nothing answers there any more on the Service's behalf. It is true when
// the Service held it. The port then waits at the back of its pool's queue, and is forgotten when it lies in no range.
// Releasing what is not held changes nothing.
//
// Ask for the Services again that were refused with ReasonPortInUse or ReasonPoolExhausted.
func (a *Allocator) ReleasePort(uid, pool string, port uint16, protocol lb.Protocol) bool {
	s := a.services[uid]
	if s == nil {
		return false
	}
	var released *portLease
	for _, l := range s.portLeases {
		r := l.record
		if r.pool == pool && r.number == port && r.protocol == protocol && (released == nil || l.leaving) {
			released = l // of two hosts that a pool had, the one that is left
		}
	}
	if released == nil {
		return false
	}
	s.portLeases = slices.DeleteFunc(s.portLeases, func(l *portLease) bool { return l == released })
	a.freePort(released.record)
	a.forget(s)
	return true
}

// PortUsage counts each updater pool's ports by protocol, sorted by pool name, TCP before UDP. It costs nothing per port.
func (a *Allocator) PortUsage() []lb.PortUsage {
	var usage []lb.PortUsage
	for _, s := range a.portSpaces {
		for _, protocol := range protocols {
			usage = append(usage, lb.PortUsage{Pool: s.pool.Name, Protocol: protocol, Size: s.size(), Used: s.lane(protocol).used})
		}
	}
	return usage
}

// OutsidePorts lists the ports that are held although no configured pool gives them out, sorted by pool, port and
// protocol. Pool is where the port was last known to belong. The cost is linear in the ports touched.
func (a *Allocator) OutsidePorts() []lb.PortLease {
	var outside []lb.PortLease
	for _, r := range a.portRecords {
		if r.holder != nil && !r.inRange() {
			outside = append(outside, r.holder.lease())
		}
	}
	slices.SortFunc(outside, func(x, y lb.PortLease) int {
		return cmp.Or(cmp.Compare(x.Pool, y.Pool), cmp.Compare(x.Port, y.Port), cmp.Compare(x.Service.Protocol, y.Service.Protocol))
	})
	return outside
}

// portsAt is the updater pool whose range contains the port of the host, nil when there is none.
func (a *Allocator) portsAt(host string, port uint16) *portSpace {
	for _, s := range a.portSpaces {
		if s.host == host && s.contains(port) {
			return s
		}
	}
	return nil
}

// holdPort takes a port that nobody holds for the Service.
func (a *Allocator) holdPort(s *service, key portKey, pool string, serves lb.Port) *portLease {
	r := a.portRecords[key]
	if r == nil {
		r = &portRecord{portKey: key, pool: pool}
		a.portRecords[key] = r
	}
	l := &portLease{service: s, record: r, serves: serves}
	s.portLeases = append(s.portLeases, l)
	if r.queued != nil {
		r.lane.freed.Remove(r.queued)
		r.queued = nil
	}
	r.holder = l
	a.placePort(r)
	return l
}

// freePort puts a port that nobody holds any more at the back of its queue, or forgets it.
func (a *Allocator) freePort(r *portRecord) {
	if r.inRange() {
		r.lane.used--
		a.releases++
		r.holder, r.freedAt = nil, a.releases
		r.queued = r.lane.freed.PushBack(r)
		return
	}
	delete(a.portRecords, r.portKey)
}

// placePort finds the pool of a port that is held and not counted, and counts it.
func (a *Allocator) placePort(r *portRecord) {
	space := a.portsAt(r.host, r.number)
	if p := a.named[r.pool]; space == nil && p != nil && p.ports != nil && p.ports.host == r.host {
		space = p.ports
	}
	if r.lane = nil; space != nil {
		r.lane, r.pool = space.lane(r.protocol), space.pool.Name
	}
	if r.inRange() {
		r.lane.used++
		r.lane.unused.remove(r.number)
	}
}
