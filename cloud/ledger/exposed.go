package ledger

// This file is about addresses that Services list in spec.externalIPs. kube-proxy serves them unasked, so whoever else
// got one of them would share its traffic.

import (
	"net/netip"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// SetExposed says which addresses a Service lists in spec.externalIPs, whatever its type and whoever serves it; none when
// it is gone. Nobody else is given one of them from then on (pool.Allocator.SetExposed); who has it keeps it. Services
// that were refused what is not listed any more are asked for again: it reports whether there may be Effects.
func (l *Ledger) SetExposed(k Key, addrs []netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.allocator.SetExposed(lb.Ref{Namespace: k.Namespace, Name: k.Name}, addrs) {
		return false
	}
	l.serveWaiting(netip.Addr{}, now)
	return true
}

// Exposing lists the Services that list addresses in spec.externalIPs, as far as is known.
func (l *Ledger) Exposing() []Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	refs := l.allocator.Exposing()
	keys := make([]Key, len(refs))
	for i, ref := range refs {
		keys[i] = Key{ref.Namespace, ref.Name}
	}
	return keys
}
