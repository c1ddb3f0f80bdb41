package ledger

// This file is about Floating IPs that a pool lists: what keeps one from being given to anybody.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// listings are the addresses that pools list, in order: what is given free again queues up in it.
func (l *Ledger) listings() []lb.Lease {
	return slices.SortedFunc(maps.Values(l.listed), func(x, y lb.Lease) int { return x.Addr.Compare(y.Addr) })
}

// judgeListed looks at every address that a pool of this account lists, and withholds what cannot be used.
func (l *Ledger) judgeListed(a *account) {
	for _, listing := range l.listings() {
		if l.rental.Accounts[listing.Pool] == a.key {
			l.allocator.Withhold(listing.Addr, l.unusable(a, prefixOf(listing.Addr), listing))
		}
	}
}

// giveOut ends the withholding of an address, unless the cloud has something against it. What an account that is closed
// says is looked at when it opens; until then nothing of its pools is given out.
func (l *Ledger) giveOut(addr netip.Addr) {
	var why *lb.Refusal
	if listing := l.listed[prefixOf(addr)]; listing.Addr == addr {
		if a := l.accounts[l.rental.Accounts[listing.Pool]]; a != nil && a.closed == nil {
			why = l.unusable(a, prefixOf(addr), listing)
		}
	}
	l.allocator.Withhold(addr, why)
}

// unusable says why a listed address cannot be given to anybody; nil when it can.
func (l *Ledger) unusable(a *account, prefix netip.Prefix, listing lb.Lease) *lb.Refusal {
	r := l.rented[prefix]
	if r == nil {
		for id := range a.servers {
			s := a.servers[id]
			if s.Has(listing.Addr) {
				return lb.Refuse(lb.ReasonWrongType, "%s of pool %q is the own address of server %s and no Floating IP: take it out of the pool",
					listing.Addr, listing.Pool, s.Name)
			}
		}
		return lb.Refuse(lb.ReasonFloatingIPMissing, "%s of pool %q is no Floating IP of account %s: buy it there, or take it out of the pool",
			listing.Addr, listing.Pool, a.key)
	}
	if other := l.neighbour(prefix, listing.Addr); other != nil {
		return lb.Refuse(lb.ReasonAddressInUse, "%s of pool %q is in one network with %s, which is in use, and %s is routed to one server: list %s, or wait until it is released",
			listing.Addr, listing.Pool, other.addr, prefix, other.addr)
	}
	return l.trouble(r, listing.Pool)
}

// trouble says what keeps a Floating IP of a pool's list from being used; nil when nothing does.
func (l *Ledger) trouble(r *rented, pool string) *lb.Refusal {
	takeover := false
	if p := l.pools[pool]; p != nil && p.Hetzner != nil {
		takeover = p.Hetzner.Takeover
	}
	switch {
	case r.Blocked:
		return lb.Refuse(lb.ReasonFloatingIPBlocked, "Hetzner has blocked Floating IP %d (%s): ask its support", r.ID, r.Prefix)
	case takeover:
		return nil
	case r.Owner.ClusterUID != "" && r.Owner.ClusterUID != l.rental.ClusterUID:
		return lb.Refuse(lb.ReasonHeldElsewhere, "Floating IP %d (%s) was bought by cluster %s for Service %s: release it there, or set takeover: true on pool %q",
			r.ID, r.Prefix, r.Owner.Cluster, r.Owner.Service, pool)
	case r.Server != 0 && !l.ourServer(r.Server):
		return lb.Refuse(lb.ReasonHeldElsewhere, "Floating IP %d (%s) is assigned to server %s, which is no Node of this cluster: unassign it there, or set takeover: true on pool %q",
			r.ID, r.Prefix, l.serverName(r), pool)
	}
	return nil
}

func (l *Ledger) serverName(r *rented) string {
	if s, ok := l.accounts[r.account].servers[r.Server]; ok {
		return s.Name
	}
	return fmt.Sprint(r.Server)
}

// isListed reports whether a pool lists an address, or another one of its network: it is never deleted at the cloud,
// whoever bought it.
func (l *Ledger) isListed(a *address) bool {
	_, ok := l.listed[prefixOf(a.addr)]
	return ok
}
