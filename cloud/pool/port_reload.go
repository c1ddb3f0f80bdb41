package pool

import (
	"cmp"
	"slices"
)

// rehomePorts sorts the touched ports into new pools. A port that is held belongs to the pool on its host whose range
// contains it; else to the pool whose name it had, at the host that this has now; else to none. Where the new host has a
// Service on the port already, that one keeps it, and the other Service's port stays where it was.
func (a *Allocator) rehomePorts() {
	var held, freed []*portRecord
	for _, r := range a.portRecords {
		if r.holder != nil {
			held = append(held, r)
		} else {
			freed = append(freed, r)
		}
	}
	slices.SortFunc(held, func(x, y *portRecord) int { return x.compare(y.portKey) })
	slices.SortFunc(freed, func(x, y *portRecord) int { return cmp.Compare(x.freedAt, y.freedAt) })
	for _, r := range freed {
		delete(a.portRecords, r.portKey)
	}
	for _, r := range held {
		a.rehost(r)
		a.placePort(r)
	}
	for _, r := range freed {
		s := a.portsAt(r.host, r.number)
		if _, taken := a.portRecords[r.portKey]; taken || s == nil {
			continue
		}
		r.lane, r.pool = s.lane(r.protocol), s.pool.Name
		r.lane.unused.remove(r.number)
		r.queued = r.lane.freed.PushBack(r)
		a.portRecords[r.portKey] = r
	}
}

// rehost moves a port to the host that its pool has now.
func (a *Allocator) rehost(r *portRecord) {
	p := a.named[r.pool]
	if p == nil || p.ports == nil || p.ports.host == r.host || a.portsAt(r.host, r.number) != nil {
		return
	}
	moved := r.portKey
	moved.host = p.ports.host
	if _, taken := a.portRecords[moved]; taken {
		return
	}
	delete(a.portRecords, r.portKey)
	r.portKey = moved
	a.portRecords[moved] = r
}

func (k portKey) compare(o portKey) int {
	return cmp.Or(cmp.Compare(k.host, o.host), cmp.Compare(k.number, o.number), cmp.Compare(k.protocol, o.protocol))
}
