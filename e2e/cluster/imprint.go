package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Imprint is what Mooring's agent leaves in a host's kernel when it stops, in a form that can be stored and pressed into
// another host.
type Imprint struct {
	// HardwareAddress of eth0.
	HardwareAddress string `json:"hardwareAddress"`
	// Bridges are the interfaces that the agent makes, by name, with their alias.
	Bridges map[string]string `json:"bridges,omitempty"`
	// Entries are addresses on those interfaces, and proxy-NDP entries on eth0.
	Entries []ImprintEntry `json:"entries,omitempty"`
	// Ruleset is the nftables table. nft does not print the mark that a rule carries.
	Ruleset string `json:"ruleset,omitempty"`
	// Sysctls under /proc/sys/net.
	Sysctls map[string]string `json:"sysctls,omitempty"`
}

// ImprintEntry is an entry of the kernel as netlink tells it, with marks that no tool prints.
type ImprintEntry struct {
	Interface string `json:"interface"`
	// Proxy says that it is a neighbour entry and not an address.
	Proxy bool `json:"proxy,omitempty"`
	// Header of the message but for the interface, which has another number elsewhere, and its attributes.
	Header     []byte           `json:"header"`
	Attributes []ImprintContent `json:"attributes"`
}

// ImprintContent is one attribute.
type ImprintContent struct {
	Type  uint16 `json:"type"`
	Value []byte `json:"value"`
}

// GuardTable is the agent's nftables table, in the words of nft.
const GuardTable = "inet mooring"

// agentSysctls are those that the agent may change.
var agentSysctls = []string{
	"ipv4/conf/eth0/arp_announce", "ipv6/conf/eth0/accept_ra", "ipv6/conf/eth0/forwarding", "ipv6/conf/eth0/proxy_ndp",
	"ipv6/neigh/eth0/proxy_delay",
}

// Imprint reads what the agent has left. Of a host that it never ran on, it has the sysctls alone.
func (h *Host) Imprint(ctx context.Context) (Imprint, error) {
	mac, err := h.MAC(uplink)
	if err != nil {
		return Imprint{}, err
	}
	i := Imprint{HardwareAddress: mac.String(), Bridges: map[string]string{}, Sysctls: map[string]string{}}
	links, err := h.netlink.LinkList()
	if err != nil {
		return i, fmt.Errorf("list interfaces of %s: %w", h.Name, err)
	}
	names := map[int]string{}
	for _, link := range links {
		names[link.Attrs().Index] = link.Attrs().Name
		if link.Type() == "bridge" && link.Attrs().Name != podInterface {
			i.Bridges[link.Attrs().Name] = link.Attrs().Alias
		}
	}
	err = h.Do(func() error {
		for _, name := range agentSysctls {
			value, err := os.ReadFile("/proc/sys/net/" + name)
			if err != nil {
				return err
			}
			i.Sysctls[name] = strings.TrimSpace(string(value))
		}
		addresses, err := entries(names, false)
		if err != nil {
			return err
		}
		proxies, err := entries(names, true)
		i.Entries = append(slices.DeleteFunc(addresses, func(e ImprintEntry) bool { _, ours := i.Bridges[e.Interface]; return !ours }), proxies...)
		return err
	})
	if err != nil {
		return i, fmt.Errorf("read what the agent of %s leaves: %w", h.Name, err)
	}
	if tables, err := h.Run(ctx, "nft", "list", "tables"); err != nil || !strings.Contains(tables, GuardTable) {
		return i, err
	}
	i.Ruleset, err = h.Run(ctx, "nft", append([]string{"list", "table"}, strings.Fields(GuardTable)...)...)
	return i, err
}

// messages are how netlink calls a kind of entry.
func messages(proxy bool) (get, create uint16, header int) {
	if proxy {
		return unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, unix.SizeofNdMsg
	}
	return unix.RTM_GETADDR, unix.RTM_NEWADDR, unix.SizeofIfAddrmsg
}

// interfaceOffset is where both kinds of header have the interface, as 32 bits.
const interfaceOffset = 4

// entries of the calling thread's kernel, link-local addresses left out.
func entries(names map[int]string, proxy bool) ([]ImprintEntry, error) {
	get, create, size := messages(proxy)
	header := make([]byte, size)
	if proxy {
		header[10] = unix.NTF_PROXY
	}
	request := nl.NewNetlinkRequest(int(get), unix.NLM_F_DUMP)
	request.AddRawData(header)
	answers, err := request.Execute(unix.NETLINK_ROUTE, create)
	if err != nil {
		return nil, err
	}
	var list []ImprintEntry
	for _, answer := range answers {
		header := bytes.Clone(answer[:size])
		e := ImprintEntry{Interface: names[int(binary.NativeEndian.Uint32(header[interfaceOffset:]))], Proxy: proxy, Header: header}
		if !proxy && header[3] == unix.RT_SCOPE_LINK {
			continue
		}
		binary.NativeEndian.PutUint32(header[interfaceOffset:], 0)
		attributes, err := nl.ParseRouteAttr(answer[size:])
		if err != nil {
			return nil, err
		}
		for _, a := range attributes {
			if proxy && (a.Attr.Type == unix.NDA_CACHEINFO || a.Attr.Type == unix.NDA_PROBES) {
				continue // statistics
			}
			e.Attributes = append(e.Attributes, ImprintContent{a.Attr.Type, bytes.Clone(a.Value)})
		}
		list = append(list, e)
	}
	return list, nil
}

// Press makes the host's kernel hold what another one held.
func (h *Host) Press(i Imprint) error {
	var errs []error
	for name, alias := range i.Bridges {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
		if err := h.netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("make interface %s of %s: %w", name, h.Name, err)
		}
		errs = append(errs, h.netlink.LinkSetAlias(bridge, alias), h.netlink.LinkSetUp(bridge))
	}
	for name, value := range i.Sysctls {
		errs = append(errs, h.Sysctl(name, value))
	}
	for _, e := range i.Entries {
		link, err := h.netlink.LinkByName(e.Interface)
		if err != nil {
			return fmt.Errorf("find %s of %s: %w", e.Interface, h.Name, err)
		}
		errs = append(errs, h.Do(func() error { return e.press(link.Attrs().Index) }))
	}
	if i.Ruleset != "" {
		errs = append(errs, h.Do(func() error { return nft(i.Ruleset) }))
	}
	return errors.Join(errs...)
}

// press an entry into the calling thread's kernel.
func (e ImprintEntry) press(number int) error {
	_, create, _ := messages(e.Proxy)
	header := bytes.Clone(e.Header)
	binary.NativeEndian.PutUint32(header[interfaceOffset:], uint32(number))
	message := header
	for _, a := range e.Attributes {
		if !e.Proxy && a.Type == unix.IFA_CACHEINFO && header[2]&unix.IFA_F_DEPRECATED != 0 {
			// The kernel tells of an address for ever that it is preferred for ever, and tells by a flag alone that it is not.
			a.Value = append(make([]byte, 4), a.Value[4:]...)
		}
		message = append(message, nl.NewRtAttr(int(a.Type), a.Value).Serialize()...)
	}
	request := nl.NewNetlinkRequest(int(create), unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddRawData(message)
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("make an entry on %s: %w", e.Interface, err)
	}
	return nil
}
