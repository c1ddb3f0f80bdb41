package ledger

import (
	"net/netip"
	"slices"
)

// subnets are the networks that nodes stand in. With one network of pods on each of 1,000 nodes there are thousands, and
// each address is asked about whenever it is looked at.
type subnets struct {
	prefixes map[netip.Prefix]bool
	bits     []int // the lengths that there are
}

// onLink reports whether a node stands in a subnet that holds the address.
func (l *Ledger) onLink(addr netip.Addr) bool {
	if l.subnets == nil {
		l.subnets = &subnets{prefixes: map[netip.Prefix]bool{}}
		for _, c := range l.candidates {
			for _, s := range c.Subnets {
				l.subnets.prefixes[s.Prefix.Masked()] = true
				if !slices.Contains(l.subnets.bits, s.Prefix.Bits()) {
					l.subnets.bits = append(l.subnets.bits, s.Prefix.Bits())
				}
			}
		}
	}
	return slices.ContainsFunc(l.subnets.bits, func(bits int) bool {
		prefix, err := addr.Prefix(bits) // an error: the length is one of IPv6
		return err == nil && l.subnets.prefixes[prefix]
	})
}
