package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// unusable are the blocks of which no address can be bound to a node and reached by a client.
var unusable = []struct {
	block netip.Prefix
	what  string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "addresses of 0.0.0.0/8 mean this host"},
	{netip.MustParsePrefix("127.0.0.0/8"), "addresses of 127.0.0.0/8 are loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "addresses of 169.254.0.0/16 are link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "addresses of 224.0.0.0/4 are multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "255.255.255.255 is broadcast"},
	{netip.MustParsePrefix("::/128"), ":: means no address"},
	{netip.MustParsePrefix("::1/128"), "::1 is loopback"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "addresses of ::ffff:0:0/96 are IPv4 addresses in IPv6 form"},
	{netip.MustParsePrefix("fe80::/10"), "addresses of fe80::/10 are link-local"},
	{netip.MustParsePrefix("ff00::/8"), "addresses of ff00::/8 are multicast"},
}

// largestIPv4 is the shortest prefix of an IPv4 entry: what is larger is a slip, and nobody's block.
const largestIPv4 = 8

// addresses judges addresses and exclude of one pool, and takes out what is not to be given out. The block has what
// avoidBuggyIPs alone takes out.
func (j *judge) addresses(p *field.Path, f *filePool) (left, block *netipx.IPSet) {
	at := p.Child("addresses")
	if len(f.Addresses) == 0 {
		j.required(at, "the list is empty: write addresses such as 192.0.2.7, 192.0.2.32/28 or 192.0.2.10-192.0.2.20, or remove the pool")
		return nil, nil
	}
	var set netipx.IPSetBuilder
	var entries []entry
	for i, s := range f.Addresses {
		r, complaint := parseRange(string(s))
		if complaint == "" {
			complaint = unusableIn(r)
		}
		if complaint == "" && f.Hetzner != nil {
			r, complaint = floating(r)
		}
		if complaint != "" {
			j.invalid(at.Index(i), string(s), "%s", complaint)
			continue
		}
		set.AddRange(r)
		if f.Hetzner != nil && r.From().Is6() {
			r = netipx.RangeOfPrefix(networkOf(r.From()))
		}
		entries = append(entries, entry{IPRange: r, order: i})
	}
	for a, b := range overlaps(entries) {
		if f.Hetzner != nil && b.From().Is6() {
			j.invalid(at.Index(b.order), string(f.Addresses[b.order]), "is in one /%d with %s (%s), and of a Floating IP one address is used: keep one of the two",
				floatingIPv6, at.Index(a.order), f.Addresses[a.order])
			continue
		}
		j.invalid(at.Index(b.order), string(f.Addresses[b.order]), "overlaps %s (%s) in %s: list an address once",
			at.Index(a.order), f.Addresses[a.order], rangeString(intersection(a.IPRange, b.IPRange)))
	}
	listed, _ := set.IPSet()
	j.exclude(p.Child("exclude"), f.Exclude, listed, len(entries) == len(f.Addresses), &set)
	block, _ = set.IPSet()
	left = block
	if or(f.AvoidBuggyIPs, false) {
		left = withoutBuggy(block)
	}
	if len(left.Ranges()) == 0 && len(entries) == len(f.Addresses) {
		j.invalid(at, strings.Join(words(f.Addresses), ", "), "exclude and avoidBuggyIPs leave no address: add some, or remove the pool")
		return nil, nil
	}
	return left, block
}

// exclude takes the excluded ranges out of the set. One that excludes nothing is a mistake, unless an entry of
// addresses could not be read, which it may have been meant for.
func (j *judge) exclude(p *field.Path, list []text, listed *netipx.IPSet, complete bool, set *netipx.IPSetBuilder) {
	for i, s := range list {
		r, complaint := parseRange(string(s))
		if complaint == "" && complete && !listed.OverlapsRange(r) {
			complaint = "lies outside of the pool's addresses and excludes nothing: correct or remove it"
		}
		if complaint != "" {
			j.invalid(p.Index(i), string(s), "%s", complaint)
			continue
		}
		set.RemoveRange(r)
	}
}

// withoutBuggy takes out the IPv4 addresses that end in .0 and .255, which some clients cannot reach.
func withoutBuggy(from *netipx.IPSet) *netipx.IPSet {
	var set netipx.IPSetBuilder
	set.AddSet(from)
	for _, r := range from.Ranges() {
		if !r.From().Is4() {
			continue
		}
		for net := netip.PrefixFrom(r.From(), 24).Masked(); net.IsValid() && net.Addr().Compare(r.To()) <= 0; {
			set.Remove(net.Addr())
			last := netipx.PrefixLastIP(net)
			set.Remove(last)
			net = netip.PrefixFrom(last.Next(), 24)
		}
	}
	left, _ := set.IPSet()
	return left
}

// parseRange reads one address, a CIDR or a start-end range. The complaint is empty when it is one.
func parseRange(s string) (r netipx.IPRange, complaint string) {
	if strings.Contains(s, "/") {
		return parseCIDR(s)
	}
	start, end, isRange := strings.Cut(s, "-")
	start, end = strings.TrimSpace(start), strings.TrimSpace(end)
	from, complaint := parseAddr(start)
	if complaint != "" {
		return r, complaint
	}
	if !isRange {
		return netipx.IPRangeFrom(from, from), ""
	}
	if end != "" && strings.Trim(end, "0123456789") == "" && from.Is4() {
		return r, fmt.Sprintf("the end of a range is a whole address: write %s-%s", from, start[:strings.LastIndex(start, ".")+1]+end)
	}
	to, complaint := parseAddr(end)
	switch {
	case complaint != "":
		return r, complaint
	case from.Is4() != to.Is4():
		return r, "the range begins in one IP family and ends in the other: write one range for each family"
	case to.Less(from):
		return r, fmt.Sprintf("the range ends before it begins: write %s-%s", to, from)
	}
	return netipx.IPRangeFrom(from, to), ""
}

const addressForms = "is not an address, a CIDR or a range: write it as in 192.0.2.7, 192.0.2.32/28, 192.0.2.10-192.0.2.20 or 2001:db8:1::/112"

func parseAddr(s string) (netip.Addr, string) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, addressForms
	case a.Zone() != "":
		return a, fmt.Sprintf("an address of a pool has no zone: write %s", a.WithZone(""))
	case a.Is4In6():
		return a, fmt.Sprintf("is an IPv4 address in IPv6 form: write %s", a.Unmap())
	}
	return a, ""
}

func parseCIDR(s string) (r netipx.IPRange, complaint string) {
	address, bits, _ := strings.Cut(s, "/")
	a, complaint := parseAddr(address)
	if a.Is4In6() {
		return r, "is an IPv4 block in IPv6 form: write it as in 192.0.2.32/28"
	}
	if complaint != "" {
		return r, complaint
	}
	if strings.Contains(bits, "-") {
		return r, "a range goes from an address to an address, without /: write it as in 192.0.2.10-192.0.2.20"
	}
	net, err := netip.ParsePrefix(s)
	if err != nil {
		return r, fmt.Sprintf("what follows the / must be a number from 0 to %d", a.BitLen())
	}
	if net != net.Masked() {
		return r, fmt.Sprintf("the address is not the first of its /%d: write %s for the whole block, or %s for the one address", net.Bits(), net.Masked(), a)
	}
	return netipx.RangeOfPrefix(net), ""
}

func unusableIn(r netipx.IPRange) string {
	if r.From().Is4() && uint64(index4(r.To()))-uint64(index4(r.From())) >= 1<<(32-largestIPv4) {
		return fmt.Sprintf("is larger than a /%d, the largest block that a pool takes: write a smaller one", largestIPv4)
	}
	for _, u := range unusable {
		if r.Overlaps(netipx.RangeOfPrefix(u.block)) {
			return u.what + " and cannot be given out: take them out"
		}
	}
	return ""
}

func index4(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// disjointAddresses reports the addresses that two pools give out, at the later pool.
func (j *judge) disjointAddresses(p *field.Path, pools []Pool, files []filePool) {
	var entries []entry
	for i := range pools {
		if pools[i].Addresses == nil {
			continue
		}
		for _, r := range pools[i].Addresses.Ranges() {
			entries = append(entries, entry{IPRange: r, order: i})
		}
	}
	for a, b := range overlaps(entries) {
		common := intersection(a.IPRange, b.IPRange)
		at, value := p.Index(b.order).Child("addresses"), ""
		for i, s := range files[b.order].Addresses {
			if r, complaint := parseRange(string(s)); complaint == "" && r.Contains(common.From()) {
				at, value = at.Index(i), string(s)
				break
			}
		}
		j.invalid(at, value, "overlaps pool %q (%s) in %s: an address belongs to one pool; take it out of one of them, or name it in exclude there",
			pools[a.order].Name, p.Index(a.order).Child("addresses"), rangeString(common))
	}
}

// entry is a range and its place in the order of the file.
type entry struct {
	netipx.IPRange
	order int
}

// overlaps yields pairs of ranges with a common address, the earlier in the file first: at least one pair for
// each range that overlaps any. It costs a sort and one pass, so a long list stays cheap.
func overlaps(entries []entry) func(yield func(earlier, later entry) bool) {
	return func(yield func(earlier, later entry) bool) {
		sorted := slices.SortedStableFunc(slices.Values(entries), func(a, b entry) int {
			return cmp.Or(a.From().Compare(b.From()), cmp.Compare(a.order, b.order))
		})
		for i, furthest := 1, 0; i < len(sorted); i++ {
			a, b := sorted[furthest], sorted[i]
			if a.To().Less(b.To()) {
				furthest = i
			}
			if !a.Overlaps(b.IPRange) {
				continue
			}
			if a.order > b.order {
				a, b = b, a
			}
			if !yield(a, b) {
				return
			}
		}
	}
}

// intersection of two ranges that overlap.
func intersection(a, b netipx.IPRange) netipx.IPRange {
	from, to := a.From(), a.To()
	if from.Less(b.From()) {
		from = b.From()
	}
	if b.To().Less(to) {
		to = b.To()
	}
	return netipx.IPRangeFrom(from, to)
}

func rangeString(r netipx.IPRange) string {
	if r.From() == r.To() {
		return r.From().String()
	}
	return r.String()
}

func words(list []text) []string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = string(s)
	}
	return all
}
