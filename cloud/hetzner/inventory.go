package hetzner

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// perPage is the most entries that the API lists at once.
const perPage = 50

// Inventory reads all Floating IPs of the project, and all its servers when asked to: 1 call for each 50 of them. It is
// complete, or an error. The API has no snapshots: when others delete while more than one page is read, an entry can slip
// from a page that comes into one that was read. A list whose length changed meanwhile is Temporary; still, what is
// absent is to be asked for by its id before much depends on it.
func (a *Account) Inventory(ctx context.Context, withServers bool) (lb.Inventory, error) {
	c := a.conn()
	inventory := lb.Inventory{Began: c.clock.Now()}
	floatingIPs, err := list(c, "list floating ips", func(page hcloud.ListOpts) ([]*hcloud.FloatingIP, *hcloud.Response, error) {
		return c.client.FloatingIP.List(ctx, hcloud.FloatingIPListOpts{ListOpts: page, Sort: []string{"id:asc"}})
	})
	if err != nil {
		return lb.Inventory{}, err
	}
	for _, f := range floatingIPs {
		one, err := c.read("list floating ips", f)
		if err != nil {
			return lb.Inventory{}, err
		}
		inventory.FloatingIPs = append(inventory.FloatingIPs, one)
	}
	if !withServers {
		return inventory, nil
	}
	servers, err := list(c, "list servers", func(page hcloud.ListOpts) ([]*hcloud.Server, *hcloud.Response, error) {
		return c.client.Server.List(ctx, hcloud.ServerListOpts{ListOpts: page, Sort: []string{"id:asc"}})
	})
	if err != nil {
		return lb.Inventory{}, err
	}
	inventory.Servers = make([]lb.Server, 0, len(servers))
	for _, s := range servers {
		inventory.Servers = append(inventory.Servers, serverOf(s))
	}
	return inventory, nil
}

// list reads every page.
func list[T any](c *conn, op string, read func(hcloud.ListOpts) ([]*T, *hcloud.Response, error)) ([]*T, error) {
	var all []*T
	total := -1
	for page := 1; page != 0; {
		entries, resp, err := read(hcloud.ListOpts{Page: page, PerPage: perPage})
		if err != nil {
			return nil, c.failure(op, false, resp, err)
		}
		p := resp.Meta.Pagination
		if p == nil {
			return nil, &Error{Op: op, Kind: Temporary, Message: "the answer does not say how many pages there are"}
		}
		if total >= 0 && p.TotalEntries != total {
			return nil, &Error{Op: op, Kind: Temporary, Message: "the list changed while its pages were read"}
		}
		total = p.TotalEntries
		all = append(all, entries...)
		if p.NextPage != 0 && p.NextPage <= page {
			return nil, &Error{Op: op, Kind: Temporary, Message: fmt.Sprintf("page %d names page %d as its next", page, p.NextPage)}
		}
		page = p.NextPage
	}
	if len(all) != total {
		return nil, &Error{Op: op, Kind: Temporary, Message: fmt.Sprintf("%d entries came of %d", len(all), total)}
	}
	return all, nil
}

// floatingIP reads one as the API shows it.
func (c *conn) floatingIP(ctx context.Context, op string, id int64) (*hcloud.FloatingIP, error) {
	f, resp, err := c.client.FloatingIP.GetByID(ctx, id)
	if err != nil {
		return nil, c.failure(op, false, resp, err)
	}
	if f == nil {
		return nil, &Error{Op: op, Kind: NotFound, Code: "not_found", Message: "it does not exist in the project"}
	}
	return f, nil
}

// read turns a Floating IP into ours.
func (c *conn) read(op string, f *hcloud.FloatingIP) (lb.FloatingIP, error) {
	addr, ok := addrOf(f.IP)
	if !ok {
		return lb.FloatingIP{}, &Error{Op: op, Kind: Temporary, Message: fmt.Sprintf("the address of floating ip %d cannot be read", f.ID)}
	}
	one := lb.FloatingIP{
		ID: f.ID, Name: c.clean(f.Name), Prefix: netip.PrefixFrom(addr, addr.BitLen()),
		Blocked: f.Blocked, Protected: f.Protection.Delete, Owner: ownerOf(f.Labels),
	}
	if network, ok := prefixOf(f.Network); ok {
		one.Prefix = network
	}
	if f.Server != nil {
		one.Server = f.Server.ID
	}
	return one, nil
}

// serverOf turns a server into ours.
func serverOf(s *hcloud.Server) lb.Server {
	server := lb.Server{ID: s.ID, Name: s.Name}
	if s.ServerType != nil {
		server.Type = s.ServerType.Name
	}
	if s.Location != nil {
		server.Location, server.Region, server.Zone = s.Location.Name, s.Location.Name, zoneOf(s.Location.Name)
	}
	if addr, ok := addrOf(s.PublicNet.IPv4.IP); ok && !addr.IsUnspecified() {
		server.Networks = append(server.Networks, netip.PrefixFrom(addr, addr.BitLen()))
	}
	if network, ok := prefixOf(s.PublicNet.IPv6.Network); ok && !network.Addr().IsUnspecified() {
		server.Networks = append(server.Networks, network)
	}
	for _, private := range s.PrivateNet {
		if addr, ok := addrOf(private.IP); ok {
			server.Networks = append(server.Networks, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return server
}

// zones by location: the names of the datacenters that the API does not show any more since July 2026.
// hcloud-cloud-controller-manager goes on labelling Nodes with them, and with the location's name where a location is
// newer (its package internal/legacydatacenter), so that a cluster that changes over keeps its zones. Its switch that
// leaves the zone out (HCLOUD_INSTANCES_ZONE_LABEL_ENABLED) is on by default.
var zones = map[string]string{
	"ash": "ash-dc1", "fsn1": "fsn1-dc14", "hel1": "hel1-dc2", "hil": "hil-dc1", "nbg1": "nbg1-dc3", "sin": "sin-dc1",
}

func zoneOf(location string) string {
	if zone, ok := zones[location]; ok {
		return zone
	}
	return location
}

func addrOf(ip net.IP) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(ip)
	return addr.Unmap(), ok
}

func prefixOf(network *net.IPNet) (netip.Prefix, bool) {
	if network == nil {
		return netip.Prefix{}, false
	}
	addr, ok := addrOf(network.IP)
	bits, _ := network.Mask.Size()
	prefix := netip.PrefixFrom(addr, bits)
	return prefix.Masked(), ok && prefix.IsValid()
}
