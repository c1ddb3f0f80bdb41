package convert

// This file is about pools: what PlenusLB lists in two of them belongs to one, and what it bought is listed, so that it is
// kept whatever happens.

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// secretsDirectory is where the manifests mount the files of the Secret.
const secretsDirectory = "/etc/mooring/secrets/"

// tokenFile is the file of the only token.
const tokenFile = "hcloud-token"

const (
	persistentResource = "persistentippools." + plenusGroup + "/"
	ephemeralResource  = "ephemeralippools." + plenusGroup + "/"
)

// interfaceOf is where a pool binds its addresses.
func (p *plenusPool) interfaceOf() string {
	if o := p.Spec.Options; o == nil || o.HostNetworkInterface == nil || !o.HostNetworkInterface.AddAddressesToInterface {
		return interfaceNone
	}
	return p.Spec.Options.HostNetworkInterface.InterfaceName
}

// token of the pool's account at Hetzner; false when it has none.
func (p *plenusPool) token() (string, bool) {
	if p.Spec.CloudIntegration == nil || p.Spec.CloudIntegration.Hetzner == nil {
		return "", false
	}
	return p.Spec.CloudIntegration.Hetzner.Token, true
}

// listed are the addresses of the pool. What is none PlenusLB never gave out.
func (p *plenus) listed(pool *plenusPool) []netip.Addr {
	var addrs []netip.Addr
	for _, text := range pool.Spec.Addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			p.note("PersistentIPPool "+pool.Name, "lists %q, which is no address: it is left out, and PlenusLB never gave it out", text)
			continue
		}
		if addr = addr.Unmap(); !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// divide makes groups of the addresses: by pool, and by the class of the Services that have them.
func (p *plenus) divide() {
	owner := map[netip.Addr]string{}
	lists := map[string][]netip.Addr{}
	gone := map[string]bool{}
	names := slices.Sorted(maps.Keys(p.persistent))
	for _, name := range names {
		lists[name] = p.listed(p.persistent[name])
	}
	for _, claim := range p.claims {
		if claim.kind != plenusPersistent {
			continue
		}
		switch pool := p.persistent[claim.Pool]; {
		case pool == nil && claim.CloudProvider != "":
			p.first(about(claim.svc), "has %s of PersistentIPPool %s, which is not there any more, and with it the token of its account: make the pool again, and convert anew",
				claim.addr, claim.Pool)
			continue
		case pool == nil:
			p.note("PersistentIPPool "+claim.Pool, "is not there any more; a pool of what Services have of it keeps that")
			p.persistent[claim.Pool], gone[claim.Pool] = lost(claim), true
			names = append(names, claim.Pool)
			lists[claim.Pool] = []netip.Addr{claim.addr}
		case gone[claim.Pool]:
			lists[claim.Pool] = append(lists[claim.Pool], claim.addr)
		case !slices.Contains(lists[claim.Pool], claim.addr):
			p.note("PersistentIPPool "+claim.Pool, "does not list %s any more, which Service %s has: it is listed again, to be kept", claim.addr, keyOf(claim.svc))
			lists[claim.Pool] = append(lists[claim.Pool], claim.addr)
		}
		owner[claim.addr] = claim.Pool
	}
	slices.Sort(names)
	for _, name := range names {
		for _, addr := range lists[name] {
			owner[addr] = cmp.Or(owner[addr], name)
		}
	}
	for _, name := range names {
		var addrs []netip.Addr
		for _, addr := range lists[name] {
			if owner[addr] == name {
				addrs = append(addrs, addr)
			} else {
				p.note("PersistentIPPool "+name, "lists %s like PersistentIPPool %s, which keeps it: an address belongs to one pool", addr, owner[addr])
			}
		}
		if len(addrs) == 0 {
			p.note("PersistentIPPool "+name, "has no pool: no address is left for it")
			continue
		}
		p.group(p.persistent[name], plenusPersistent, name, "PersistentIPPool "+name, addrs)
	}
	p.divideBought()
}

// lost is what is known of a pool from one of its addresses.
func lost(claim *plenusClaim) *plenusPool {
	pool := &plenusPool{}
	pool.Name = claim.Pool
	if claim.NetworkInterface != "" {
		pool.Spec.Options = &plenusOptions{HostNetworkInterface: &plenusInterface{AddAddressesToInterface: true, InterfaceName: claim.NetworkInterface}}
	}
	return pool
}

// divideBought lists what was bought.
func (p *plenus) divideBought() {
	bought := map[string][]netip.Addr{}
	for _, claim := range p.claims {
		switch {
		case claim.kind != plenusEphemeral || p.homes[claim.addr] != nil:
		case p.ephemeral[claim.Pool] == nil:
			p.first(about(claim.svc), "has the Floating IP %s of EphemeralIPPool %s, which is not there any more, and with it the token of its account: make the pool again, and convert anew",
				claim.addr, claim.Pool)
		default:
			bought[claim.Pool] = append(bought[claim.Pool], claim.addr)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(bought)) {
		addrs := slices.SortedFunc(slices.Values(bought[name]), netip.Addr.Compare)
		p.group(p.ephemeral[name], plenusEphemeral, name+"-kept", "what EphemeralIPPool "+name+" has bought: kept, assigned as it is, and never deleted", addrs)
		p.note("EphemeralIPPool "+name, "has bought %s: Mooring keeps what it did not buy also when the Service goes. Delete it at Hetzner then, and take it out of the pool", join(addrs))
	}
}

// group parts addresses by the class of the Services that have them: PlenusLB serves every class, and a pool serves one.
func (p *plenus) group(pool *plenusPool, kind, wants, comment string, addrs []netip.Addr) {
	byClass := map[string]*group{}
	var order []*group
	for _, addr := range addrs {
		class := ""
		claim := p.byAddr[addr]
		if claim != nil {
			class = classOf(claim.svc)
		}
		g := byClass[class]
		if g == nil {
			g = &group{pool: pool, kind: kind, wants: wants, comment: comment, class: class, iface: pool.interfaceOf()}
			byClass[class] = g
			order = append(order, g)
		}
		g.addresses = append(g.addresses, addr)
		p.homes[addr] = g
		if claim != nil {
			g.excluded = g.excluded || p.excluded(claim)
		}
	}
	slices.SortFunc(order, func(a, b *group) int { return cmp.Compare(a.class, b.class) })
	for i, g := range order {
		if i > 0 {
			g.wants = fmt.Sprintf("%s-%s", wants, g.class)
			g.comment += ", for class " + g.class
		}
	}
	p.groups = append(p.groups, order...)
}

// excluded says whether the node of an address is one that Mooring places nothing on.
func (p *plenus) excluded(claim *plenusClaim) bool {
	n := p.nodes[claim.NodeName]
	return n != nil && place.Excluded(n.Labels)
}

// addPools makes pools: of the groups, and of what buys.
func (p *plenus) addPools() {
	for _, g := range p.groups {
		g.name = p.names.take(g.wants)
		made := pool{comment: g.comment, Name: g.name, LoadBalancerClass: g.class, AllowedNamespaces: unique(g.pool.Spec.AllowedNamespaces),
			IgnoreExcludeLabel: g.excluded, Interface: g.iface, from: g.pool, resource: g.resource()}
		for _, addr := range g.addresses {
			made.Addresses = append(made.Addresses, addr.String())
		}
		if _, ok := g.pool.token(); ok {
			made.Hetzner = &hetznerPool{}
		}
		p.pools = append(p.pools, made)
		if g.excluded {
			p.note("pool "+g.name, "has ignoreExcludeLabel: true, because addresses of it are on Nodes with the label %s. Without it they move away", lb.LabelExcludeNode)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.ephemeral)) {
		from := p.ephemeral[name]
		if _, ok := from.token(); !ok {
			p.note("EphemeralIPPool "+name, "has no pool: it has no cloudIntegration, and nothing could be bought by it")
			continue
		}
		p.pools = append(p.pools, pool{
			comment: "EphemeralIPPool " + name, Name: p.names.take(name), AutoAssign: true, AllowedNamespaces: unique(from.Spec.AllowedNamespaces),
			Interface: from.interfaceOf(), Hetzner: &hetznerPool{Ephemeral: &ephemeral{Types: []string{"ipv4"}}},
			from: from, resource: ephemeralResource + name,
		})
	}
	p.accounts()
}

// resource is the group's pool as kubectl names it.
func (g *group) resource() string {
	if g.kind == plenusEphemeral {
		return ephemeralResource + g.pool.Name
	}
	return persistentResource + g.pool.Name
}

// accounts names the files of tokens: one for all pools, or one for each token that there is.
func (p *plenus) accounts() {
	files := map[string]string{}
	for i := range p.pools {
		made := &p.pools[i]
		if made.Hetzner == nil {
			continue
		}
		token, _ := made.from.token()
		if token == "" {
			p.first("pool "+made.Name, "has no token: %s has none", made.resource)
		}
		if files[token] == "" {
			files[token] = tokenFile + "-" + made.Name
			p.secrets = append(p.secrets, Secret{File: files[token], Resource: made.resource, JSONPath: "{.spec.cloudIntegration.hetzner.token}"})
		}
		made.Hetzner.TokenFile = secretsDirectory + files[token]
	}
	if len(p.secrets) != 1 {
		return
	}
	p.secrets[0].File = tokenFile
	p.account = &account{TokenFile: secretsDirectory + tokenFile}
	for i := range p.pools {
		if h := p.pools[i].Hetzner; h != nil {
			h.TokenFile = ""
		}
	}
}

func unique(list []string) []string {
	var once []string
	for _, s := range list {
		if !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}
