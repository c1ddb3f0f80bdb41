package netif

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// guardInput keeps what is for the host from it. guardForward drops what would be sent on: the kernel makes an IPv6
	// address its own only some time after it has taken it (net/ipv6/addrconf.c, addrconf_dad_work), and what comes in
	// between is for nobody. Sent on, it would leave a flow in the kernel's connection tracking that kube-proxy's
	// translation does not touch, for as long as the client keeps asking.
	guardInput   = "input"
	guardForward = "forward"
	// guardPriority is behind the host's own filter (0) and behind IPVS, which takes its traffic out of the input
	// hook at 98.
	guardPriority = 99
	// guardRule marks our rules; its number changes when their meaning does, so that a new agent replaces the
	// table of an old one.
	guardRule = "mooring guard 2"
	// elementsPerMessage keeps a message's element list below the 64 KiB of one netlink attribute.
	elementsPerMessage = 1000
	guardSendSpace     = 4 << 20
)

const (
	icmp4EchoRequest = 8
	icmp6EchoRequest = 128
)

// guardTable is the nftables table that keeps the host's own listeners off virtual addresses. What kube-proxy serves
// is translated in the prerouting hook and never gets to input or forward with a virtual address.
type guardTable struct {
	conn  *nftables.Conn
	table *nftables.Table
	set4  *nftables.Set
	set6  *nftables.Set
}

// newGuardTable opens no socket: each operation has one of its own, so that none meets what an interrupted one left.
func newGuardTable() (*guardTable, error) {
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(guardSendSpace), c.SetReadBuffer(guardSendSpace))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: GuardTable}
	return &guardTable{
		conn:  conn,
		table: table,
		set4:  &nftables.Set{Table: table, Name: "vips4", KeyType: nftables.TypeIPAddr},
		set6:  &nftables.Set{Table: table, Name: "vips6", KeyType: nftables.TypeIP6Addr},
	}, nil
}

// rules are, for each family: what is for the host passes when it is an echo request or IPv6 neighbour discovery, the
// rest is dropped.
func (g *guardTable) rules(chain *nftables.Chain) []*nftables.Rule {
	to := func(set *nftables.Set, family byte, offset, length uint32) []expr.Any {
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
			&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
		}
	}
	to4 := func() []expr.Any { return to(g.set4, unix.NFPROTO_IPV4, 16, 4) }
	to6 := func() []expr.Any { return to(g.set6, unix.NFPROTO_IPV6, 24, 16) }
	icmp := func(match []expr.Any, protocol byte, types ...byte) []expr.Any {
		match = append(match,
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1})
		if len(types) == 1 {
			match = append(match, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: types})
		} else {
			match = append(match, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: types[:1], ToData: types[1:2]})
		}
		return append(match, &expr.Verdict{Kind: expr.VerdictAccept})
	}
	drop := func(match []expr.Any) []expr.Any {
		return append(match, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
	}
	list := [][]expr.Any{drop(to4()), drop(to6())}
	if chain.Name == guardInput {
		list = append([][]expr.Any{
			icmp(to4(), unix.IPPROTO_ICMP, icmp4EchoRequest),
			icmp(to6(), unix.IPPROTO_ICMPV6, icmp6EchoRequest),
			icmp(to6(), unix.IPPROTO_ICMPV6, icmp6NeighborSolicitation, icmp6NeighborAdvertisement),
		}, list...)
	}
	rules := make([]*nftables.Rule, len(list))
	for i, exprs := range list {
		rules[i] = &nftables.Rule{Table: g.table, Chain: chain, Exprs: exprs, UserData: []byte(guardRule)}
	}
	return rules
}

func (g *guardTable) chains() []*nftables.Chain {
	policy := nftables.ChainPolicyAccept
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return &nftables.Chain{
			Name: name, Table: g.table, Type: nftables.ChainTypeFilter,
			Hooknum: hook, Priority: nftables.ChainPriorityRef(guardPriority), Policy: &policy,
		}
	}
	return []*nftables.Chain{chain(guardInput, nftables.ChainHookInput), chain(guardForward, nftables.ChainHookForward)}
}

// read says what the kernel holds of the table.
func (g *guardTable) read() (Guard, error) {
	state := Guard{Addresses: map[netip.Addr]struct{}{}}
	tables, err := g.conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return state, nil // no nftables in this kernel: building the guard will say so
	}
	if err != nil {
		return state, fmt.Errorf("list nftables tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == GuardTable }) {
		return state, nil
	}
	state.Exists = true
	intact, err := g.structureIntact()
	if err != nil || !intact {
		return state, err
	}
	for _, set := range []*nftables.Set{g.set4, g.set6} {
		elements, err := g.conn.GetSetElements(set)
		if err != nil {
			return state, fmt.Errorf("list the addresses of nftables set %s %s: %w", GuardTable, set.Name, err)
		}
		for _, element := range elements {
			if ip, ok := netip.AddrFromSlice(element.Key); ok {
				state.Addresses[ip] = struct{}{}
			}
		}
	}
	state.Intact = true
	return state, nil
}

// structureIntact compares sets, chains and rules with what we make. A table that vanishes meanwhile is not intact.
func (g *guardTable) structureIntact() (bool, error) {
	sets, err := g.conn.GetSets(g.table)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list the sets of nftables table %s: %w", GuardTable, err)
	}
	for _, want := range []*nftables.Set{g.set4, g.set6} {
		if !slices.ContainsFunc(sets, func(s *nftables.Set) bool {
			return s.Name == want.Name && s.KeyType.Bytes == want.KeyType.Bytes
		}) {
			return false, nil
		}
	}
	for _, want := range g.chains() {
		if intact, err := g.chainIntact(want); !intact || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (g *guardTable) chainIntact(want *nftables.Chain) (bool, error) {
	chain, err := g.conn.ListChain(g.table, want.Name)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read nftables chain %s %s: %w", GuardTable, want.Name, err)
	}
	if chain.Hooknum == nil || *chain.Hooknum != *want.Hooknum || chain.Priority == nil || *chain.Priority != *want.Priority {
		return false, nil
	}
	rules, err := g.conn.GetRules(g.table, chain)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list the rules of nftables chain %s %s: %w", GuardTable, want.Name, err)
	}
	foreign := func(rule *nftables.Rule) bool { return !bytes.Equal(rule.UserData, []byte(guardRule)) }
	return len(rules) == len(g.rules(want)) && !slices.ContainsFunc(rules, foreign), nil
}

// build replaces the table in one transaction: there is no moment without it.
func (g *guardTable) build(ips []netip.Addr) error {
	g.conn.AddTable(g.table) // deleting a table that does not exist is an error
	g.conn.DelTable(g.table)
	g.conn.AddTable(g.table)
	for _, set := range []*nftables.Set{g.set4, g.set6} {
		if err := g.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("describe nftables set %s: %w", set.Name, err)
		}
	}
	for _, chain := range g.chains() {
		g.conn.AddChain(chain)
		for _, rule := range g.rules(chain) {
			g.conn.AddRule(rule)
		}
	}
	if err := g.queue(ips, g.conn.SetAddElements); err != nil {
		return err
	}
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("build nftables table %s: %w", GuardTable, err)
	}
	return nil
}

func (g *guardTable) cover(ips []netip.Addr) error {
	if err := g.queue(ips, g.conn.SetAddElements); err != nil {
		return err
	}
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("add to nftables table %s: %w", GuardTable, err)
	}
	return nil
}

// uncover removes addresses. When the kernel says that one of them is not there, nothing was removed, and they go one
// by one.
func (g *guardTable) uncover(ips []netip.Addr) error {
	if err := g.queue(ips, g.conn.SetDeleteElements); err != nil {
		return err
	}
	err := g.conn.Flush()
	if isMissing(err) && len(ips) > 1 {
		err = nil
		for _, ip := range ips {
			err = errors.Join(err, g.uncover([]netip.Addr{ip}))
		}
	}
	if err != nil && !isMissing(err) {
		return fmt.Errorf("remove from nftables table %s: %w", GuardTable, err)
	}
	return nil
}

func (g *guardTable) remove() error {
	g.conn.AddTable(g.table)
	g.conn.DelTable(g.table)
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("delete nftables table %s: %w", GuardTable, err)
	}
	return nil
}

func (g *guardTable) queue(ips []netip.Addr, change func(*nftables.Set, []nftables.SetElement) error) error {
	var elements4, elements6 []nftables.SetElement
	for _, ip := range ips {
		element := nftables.SetElement{Key: ip.AsSlice()}
		if ip.Is4() {
			elements4 = append(elements4, element)
		} else {
			elements6 = append(elements6, element)
		}
	}
	for _, half := range []struct {
		set      *nftables.Set
		elements []nftables.SetElement
	}{{g.set4, elements4}, {g.set6, elements6}} {
		for part := range slices.Chunk(half.elements, elementsPerMessage) {
			if err := change(half.set, part); err != nil {
				return fmt.Errorf("describe the addresses of nftables set %s: %w", half.set.Name, err)
			}
		}
	}
	return nil
}

func isMissing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}

// tableOf returns the table that an nftables notification is about: the first attribute of tables, chains, rules, sets
// and elements alike.
func tableOf(data []byte) string {
	const nfgenmsgLen, attributeHeaderLen = 4, 4
	if len(data) < nfgenmsgLen+attributeHeaderLen {
		return ""
	}
	attr := data[nfgenmsgLen:]
	n := int(binaryutil.NativeEndian.Uint16(attr))
	if n < attributeHeaderLen || n > len(attr) || binaryutil.NativeEndian.Uint16(attr[2:])&^unix.NLA_F_NESTED != 1 {
		return ""
	}
	return string(bytes.TrimRight(attr[attributeHeaderLen:n], "\x00"))
}

// elementOf returns the address that a notification about a set's elements names: the kernel sends one for each
// element. It is invalid when there is none that can be read.
func elementOf(data []byte) netip.Addr {
	const nfgenmsgLen = 4
	var ip netip.Addr
	err := eachAttribute(data, nfgenmsgLen, func(d *netlink.AttributeDecoder) {
		if d.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		nested(d, unix.NFTA_LIST_ELEM, func(d *netlink.AttributeDecoder) {
			nested(d, unix.NFTA_SET_ELEM_KEY, func(d *netlink.AttributeDecoder) {
				nested(d, unix.NFTA_DATA_VALUE, func(d *netlink.AttributeDecoder) {
					ip, _ = netip.AddrFromSlice(d.Bytes())
				})
			})
		})
	})
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

// nested visits the attributes of one type inside the current one.
func nested(d *netlink.AttributeDecoder, kind uint16, visit func(*netlink.AttributeDecoder)) {
	d.Nested(func(n *netlink.AttributeDecoder) error {
		for n.Next() {
			if n.Type() == kind {
				visit(n)
			}
		}
		return nil
	})
}
