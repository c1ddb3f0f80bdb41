package netif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// ifaProto is IFA_PROTO of linux/if_addr.h (5.18).
	ifaProto = 11
	// forever is INFINITY_LIFE_TIME of linux/if_addr.h.
	forever         = 0xffffffff
	ifaddrHeaderLen = 8
	vipFlags6       = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
)

// address is one entry of the kernel's address list.
type address struct {
	index  int
	prefix netip.Prefix
	label  string
	flags  uint32
	proto  uint8
}

// addressRequest is the body of RTM_NEWADDR and RTM_DELADDR for a virtual address.
//
// Preferred lifetime 0 makes the address deprecated, so that neither the kernel nor a CNI or DHCP client takes it for
// the host's own. IPv4's source selection does not look at lifetimes but at scopes: with scope host the address is no
// source for anybody else, not even of an ARP request (for that one scope link would still do).
func addressRequest(index int, label string, ip netip.Addr) ([]byte, error) {
	body := make([]byte, ifaddrHeaderLen)
	body[0], body[1] = unix.AF_INET6, 128
	scope := uint8(unix.RT_SCOPE_UNIVERSE)
	var flags uint32 = vipFlags6
	if ip.Is4() {
		body[0], body[1] = unix.AF_INET, 32
		scope = unix.RT_SCOPE_HOST
		flags = 0
	}
	body[3] = scope
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	attrs, err := attributes(func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.IFA_LOCAL, ip.AsSlice())
		e.Bytes(unix.IFA_ADDRESS, ip.AsSlice())
		if ip.Is4() && label != "" {
			e.String(unix.IFA_LABEL, label)
		}
		if flags != 0 {
			e.Uint32(unix.IFA_FLAGS, flags)
		}
		cache := make([]byte, 16) // struct ifa_cacheinfo: preferred, valid, created, updated
		binary.NativeEndian.PutUint32(cache[4:], forever)
		e.Bytes(unix.IFA_CACHEINFO, cache)
		e.Uint8(ifaProto, Protocol)
	})
	return append(body, attrs...), err
}

func parseAddress(data []byte) (address, error) {
	var a address
	var local, peer netip.Addr
	err := eachAttribute(data, ifaddrHeaderLen, func(d *netlink.AttributeDecoder) {
		switch d.Type() {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(d.Bytes())
		case unix.IFA_ADDRESS:
			peer, _ = netip.AddrFromSlice(d.Bytes())
		case unix.IFA_LABEL:
			a.label = d.String()
		case unix.IFA_FLAGS:
			a.flags = d.Uint32()
		case ifaProto:
			a.proto = d.Uint8()
		}
	})
	if err != nil {
		return a, err
	}
	if !local.IsValid() {
		local = peer // IPv6 has no IFA_LOCAL unless the address has a peer
	}
	if !local.IsValid() {
		return a, errors.New("address message without an address")
	}
	a.flags |= uint32(data[2])
	a.index = int(binary.NativeEndian.Uint32(data[4:]))
	a.prefix = netip.PrefixFrom(local, int(data[1]))
	return a, nil
}

// ours says whether the address carries our mark. link is the interface that it stands on.
func (a address) ours(link Link) bool {
	if a.proto == Protocol {
		return true
	}
	if a.proto != 0 || !a.prefix.IsSingleIP() {
		return false
	}
	if a.prefix.Addr().Is4() {
		label := Label(link.Name)
		return label != "" && a.label == label
	}
	const shape = vipFlags6 | unix.IFA_F_DEPRECATED
	return link.Ours && a.flags&shape == shape
}

// inherited says whether PlenusLB's operator bound the address, and we have not taken it over. link is the interface that
// it stands on.
func (a address) inherited(link Link) bool {
	label := labelWith(link.Name, inheritedSuffix)
	return a.proto == 0 && a.prefix.Addr().Is4() && a.prefix.IsSingleIP() && label != "" && a.label == label
}

// passing says that a node should not be known by the address.
func (a address) passing() bool {
	const unusable = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	flags := a.flags
	if a.prefix.Addr().Is4() {
		flags &^= unix.IFA_F_TEMPORARY // the same bit means "secondary" for IPv4
	}
	return flags&unusable != 0
}

func (r *rtnl) addresses() ([]address, error) {
	messages, err := r.dump(unix.RTM_GETADDR, make([]byte, ifaddrHeaderLen))
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	list := make([]address, 0, len(messages))
	for _, m := range messages {
		a, err := parseAddress(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		list = append(list, a)
	}
	return list, nil
}

// bind adds the addresses to an interface, unbind removes them. Both report what the kernel refused.
func (r *rtnl) bind(link Link, ips []netip.Addr) []Failure {
	return r.changeAddresses(link, ips, unix.RTM_NEWADDR, netlink.Create|netlink.Excl, Label(link.Name), unix.EEXIST)
}

// unbind names no label: what was taken over has another one than ours, and would not be found by it.
func (r *rtnl) unbind(link Link, ips []netip.Addr) []Failure {
	return r.changeAddresses(link, ips, unix.RTM_DELADDR, 0, "", unix.EADDRNOTAVAIL)
}

// takeOver marks addresses as ours in place: the kernel replaces protocol and lifetimes of an address that is there, and
// keeps its label and its scope. One that does not store the protocol knows ours by their label alone, which no message
// changes: there they are removed and added at once, and what is translated for Services does not notice.
func (r *rtnl) takeOver(link Link, ips []netip.Addr) []Failure {
	if failures := r.changeAddresses(link, ips, unix.RTM_NEWADDR, netlink.Replace, Label(link.Name), nil); len(failures) > 0 {
		return failures
	}
	list, err := r.addresses()
	if err != nil {
		return whole(err)
	}
	var unmarked []netip.Addr
	for _, a := range list {
		if a.index == link.Index && a.inherited(link) && slices.Contains(ips, a.prefix.Addr()) {
			unmarked = append(unmarked, a.prefix.Addr())
		}
	}
	return r.relabel(link, unmarked)
}

// relabel removes addresses and adds them as ours.
func (r *rtnl) relabel(link Link, ips []netip.Addr) []Failure {
	var failures []Failure
	for _, ip := range ips {
		alone := []netip.Addr{ip}
		failures = append(append(failures, r.unbind(link, alone)...), r.bind(link, alone)...)
	}
	return failures
}

func (r *rtnl) changeAddresses(link Link, ips []netip.Addr, kind uint16, flags netlink.HeaderFlags, label string, done error) []Failure {
	bodies := make([][]byte, len(ips))
	for i, ip := range ips {
		body, err := addressRequest(link.Index, label, ip)
		if err != nil {
			return []Failure{{Err: err}}
		}
		bodies[i] = body
	}
	var failures []Failure
	for i, err := range r.batch(kind, flags, bodies) {
		if err != nil && (done == nil || !errors.Is(err, done)) {
			failures = append(failures, Failure{IP: ips[i], Err: explainAddress(link.Name, ips[i], err)})
		}
	}
	return failures
}

func explainAddress(ifname string, ip netip.Addr, err error) error {
	if ip.Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL)) {
		return fmt.Errorf("IPv6 may be off on %s (set net.ipv6.conf.%s.disable_ipv6=0): %w", ifname, ifname, err)
	}
	return err
}
