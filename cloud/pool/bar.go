package pool

import (
	"net/netip"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// Quarantine keeps an address, in a pool or not, from being given to anybody until Unquarantine. A Service that holds
// it keeps it: to give it another one, Release it from the Service. Quarantine survives SetPools.
func (a *Allocator) Quarantine(addr netip.Addr) {
	r := a.touch(addr)
	a.uncount(r)
	r.quarantined = true
	a.count(r)
}

// Unquarantine ends a quarantine. An address that nobody holds goes to the back of its pool's queue.
func (a *Allocator) Unquarantine(addr netip.Addr) {
	r := a.records[addr]
	if r == nil || !r.quarantined {
		return
	}
	a.uncount(r)
	r.quarantined = false
	a.count(r)
}

// Withhold keeps an address, in a pool or not, from being given to anybody until it is called with nil: an address that
// the cloud does not have, or has blocked, or that serves somebody else. A free choice passes it over. A Service that asks
// for it, by address or by its sharing key, is refused with the reason, and told the message. A Service that holds it
// keeps it, and that is no flaw. It has nothing to do with Quarantine: an address may be under both. It survives SetPools.
//
// When it is lifted, an address that nobody holds goes to the back of its pool's queue; ask for the Services again that
// were refused with the reason, or for want of an address.
func (a *Allocator) Withhold(addr netip.Addr, why *lb.Refusal) {
	if a.records[addr] == nil && why == nil {
		return
	}
	r := a.touch(addr)
	if (r.withheld == nil) == (why == nil) {
		r.withheld = why // as it was, but for the words
		return
	}
	a.uncount(r)
	r.withheld = why
	a.count(r)
}

// SetClosed keeps a pool from giving out anything new until it is called with nil. A Service whose free choice falls on
// the pool, or that asks for an address of it that nobody holds, is refused with the reason, and told the message; no
// other pool stands in. What is held stays held, and that is no flaw; it may be shared as before. An order that was
// taken before stays too, with the reason as Refusal of its Service: whoever buys has to see that the pool is closed. It
// survives SetPools, unless the pool does not. A pool that is not configured cannot be closed.
//
// When the pool is opened, ask for the Services again that were refused with the reason.
func (a *Allocator) SetClosed(pool string, why *lb.Refusal) {
	if p := a.named[pool]; p != nil {
		p.closed = why
	}
}
