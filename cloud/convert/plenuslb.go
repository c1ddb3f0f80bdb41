package convert

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/cloud/lb"
)

const (
	plenusName = "PlenusLB"
	// plenusPersistent is the type of an IPAllocation of addresses that a PersistentIPPool lists; plenusEphemeral that of one
	// that was bought.
	plenusPersistent = "persistent"
	plenusEphemeral  = "ephemeral"
	// plenusSuccess is the state of an IPAllocation that is bound.
	plenusSuccess = "success"
	// interfaceNone as interface of a pool: nobody of ours binds the address.
	interfaceNone = "none"
)

// plenus converts what PlenusLB has.
type plenus struct {
	*conversion
	persistent, ephemeral map[string]*plenusPool
	claims                []*plenusClaim
	byAddr                map[netip.Addr]*plenusClaim
	groups                []*group
	// homes are the groups with an address.
	homes map[netip.Addr]*group
}

// plenusClaim is an address that a Service has.
type plenusClaim struct {
	svc  *corev1.Service
	addr netip.Addr
	kind string
	plenusAddress
}

// group is what becomes one pool of addresses.
type group struct {
	pool *plenusPool
	kind string
	// wants is the name that it shall have; name the one that it got.
	wants, name, comment string
	class, iface         string
	addresses            []netip.Addr
	excluded             bool
}

func convertPlenusLB(c *conversion, in *Input) {
	p := &plenus{
		conversion: c, persistent: map[string]*plenusPool{}, ephemeral: map[string]*plenusPool{}, byAddr: map[netip.Addr]*plenusClaim{},
		homes: map[netip.Addr]*group{},
	}
	for i := range in.persistent {
		p.persistent[in.persistent[i].Name] = &in.persistent[i]
	}
	for i := range in.ephemeral {
		p.ephemeral[in.ephemeral[i].Name] = &in.ephemeral[i]
	}
	if len(in.persistent)+len(in.ephemeral)+len(in.allocations) == 0 {
		return
	}
	p.readAllocations(in.allocations)
	p.divide()
	p.addPools()
	for _, claim := range p.claims {
		p.place(claim)
	}
	for _, svc := range p.served() {
		p.wishes(svc)
	}
}

// readAllocations finds what Services have. The rest is on nodes, or at the cloud, for nobody.
func (p *plenus) readAllocations(allocations []plenusAllocation) {
	byService := map[types.NamespacedName]*plenusAllocation{}
	for i := range allocations {
		byService[keyOf(&allocations[i])] = &allocations[i]
	}
	for _, svc := range p.served() {
		a := byService[keyOf(svc)]
		if a == nil {
			continue
		}
		delete(byService, keyOf(svc))
		if other := p.taken[keyOf(svc)]; other != "" {
			p.first(about(svc), "is served by %s and by PlenusLB, which fight for its status: let one of them have it, and convert anew", other)
			continue
		}
		p.taken[keyOf(svc)] = plenusName
		if a.Status.State != plenusSuccess {
			p.first("IPAllocation "+keyOf(a).String(), "is in state %q and not %s (%s): what it says may not be what the node and the cloud have",
				a.Status.State, plenusSuccess, cmp.Or(a.Status.Message, "without a message"))
		}
		for _, address := range a.Spec.Allocations {
			p.claim(svc, a.Spec.Type, address)
		}
	}
	for i := range allocations {
		a := &allocations[i]
		if byService[keyOf(a)] == nil {
			continue
		}
		for _, address := range a.Spec.Allocations {
			p.leftover(a, address)
		}
	}
}

// claim notes that a Service has an address, unless somebody else has it or the Service wants it no more.
func (p *plenus) claim(svc *corev1.Service, kind string, address plenusAddress) {
	addr, err := netip.ParseAddr(address.Address)
	addr = addr.Unmap()
	switch {
	case err != nil:
		p.note(about(svc), "has an IPAllocation with the address %q, which is none: PlenusLB could not buy it", address.Address)
	case p.byAddr[addr] != nil:
		p.first(about(svc), "has %s like the older Service %s, which keeps it", addr, keyOf(p.byAddr[addr].svc))
	case kind == plenusPersistent && !slices.Contains(addressesOf(svc), addr):
		p.first(about(svc), "does not ask for %s any more (spec.externalIPs), and PlenusLB has not released it%s", addr, remains(address))
	default:
		claim := &plenusClaim{svc: svc, addr: addr, kind: kind, plenusAddress: address}
		p.byAddr[addr] = claim
		p.claims = append(p.claims, claim)
	}
}

// leftover says what is left of an allocation without a Service.
func (p *plenus) leftover(a *plenusAllocation, address plenusAddress) {
	about, why := "IPAllocation "+keyOf(a).String(), p.gone(keyOf(a))
	if a.Spec.Type == plenusEphemeral && address.CloudProvider != "" {
		p.first(about, "is of a Service %s: the Floating IP %s that was bought for it costs money, and nobody has it. Delete it at Hetzner when it is of no use%s",
			why, address.Address, remains(address))
		return
	}
	p.first(about, "is of a Service %s, and is not kept%s", why, remains(address))
}

// remains says where an address is bound that nobody wants. No agent of ours removes what it did not add.
func remains(a plenusAddress) string {
	if a.NodeName == "" || a.NetworkInterface == "" {
		return ""
	}
	return fmt.Sprintf("; it is still on %s of node %s: ip address del %s/32 dev %s", a.NetworkInterface, a.NodeName, a.Address, a.NetworkInterface)
}

// addressesOf are the addresses that a Service asks for by spec.externalIPs.
func addressesOf(svc *corev1.Service) []netip.Addr {
	var addrs []netip.Addr
	for _, text := range svc.Spec.ExternalIPs {
		if addr, err := netip.ParseAddr(text); err == nil && !slices.Contains(addrs, addr.Unmap()) {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

// place writes into the node's object that the address is there.
func (p *plenus) place(claim *plenusClaim) {
	home := p.homes[claim.addr]
	if home == nil {
		return
	}
	svc := claim.svc
	if len(home.pool.Spec.AllowedNamespaces) > 0 && !slices.Contains(home.pool.Spec.AllowedNamespaces, svc.Namespace) {
		p.note(about(svc), "has %s of pool %s, which does not serve its namespace any more: it keeps the address, and the condition %s says so",
			claim.addr, home.name, lb.ConditionDegraded)
	}
	if claim.NodeName == "" {
		return
	}
	if claim.NetworkInterface != "" && claim.NetworkInterface != home.iface {
		p.first(about(svc), "has %s on %s of node %s, and pool %s says %s: let PlenusLB move it, or change the pool, and convert anew",
			claim.addr, claim.NetworkInterface, claim.NodeName, home.name, home.iface)
	}
	p.hold(claim.NodeName, svc, claim.addr, home)
}

// wishes keeps for a Service the addresses that it has and asks for.
func (p *plenus) wishes(svc *corev1.Service) {
	if p.taken[keyOf(svc)] == paperName {
		return
	}
	asked := addressesOf(svc)
	var keeps, strange, homeless []netip.Addr
	for _, addr := range asked {
		switch claim, home := p.byAddr[addr], p.homes[addr]; {
		case home == nil && claim != nil:
			homeless = append(homeless, addr) // which is noted
		case home == nil || claim == nil && !admits(home, svc):
			strange = append(strange, addr)
		case claim != nil && claim.svc != svc:
			p.note(about(svc), "asks for %s by spec.externalIPs, which Service %s has: it gets the address when it is free, and kube-proxy may send what comes for it to either",
				addr, keyOf(claim.svc))
		case len(svc.Spec.IPFamilies) > 0 && !slices.Contains(svc.Spec.IPFamilies, corev1.IPFamily(lb.FamilyOf(addr))):
			p.note(about(svc), "asks for %s by spec.externalIPs, which is %s, and spec.ipFamilies does not say so: it is left out", addr, lb.FamilyOf(addr))
		default:
			keeps = append(keeps, addr)
		}
	}
	for _, claim := range p.claims {
		if claim.svc == svc && claim.kind == plenusEphemeral && p.homes[claim.addr] != nil {
			keeps = append(keeps, claim.addr)
		}
	}
	switch {
	case len(keeps) > 0:
		p.annotate(svc, lb.AnnotationAddresses, join(keeps))
		if policy := svc.Spec.IPFamilyPolicy; policy != nil && *policy == corev1.IPFamilyPolicyRequireDualStack {
			p.note(about(svc), "asks for both families (spec.ipFamilyPolicy RequireDualStack), of which PlenusLB serves IPv4: it keeps that, and the condition %s says so",
				lb.ConditionDegraded)
		}
		if len(strange) > 0 {
			p.note(about(svc), "asks for %s by spec.externalIPs, which no pool has for it: it does without", join(strange))
		}
	// Without the annotation, addresses in no pool are nobody's wish, and the Service would get another one.
	case len(homeless) > 0:
		p.annotate(svc, lb.AnnotationAddresses, join(homeless))
	case len(strange) > 0:
		p.annotate(svc, lb.AnnotationAddresses, join(strange))
		p.note(about(svc), "asks for %s by spec.externalIPs, which no pool has for it, so it got nothing from PlenusLB. Mooring says %s; "+
			"remove the annotation %s, and it is served as one without a wish", join(strange), lb.ReasonAddressNotInPool, lb.AnnotationAddresses)
	case len(asked) == 0 && !p.allocated[keyOf(svc)]:
		p.note(about(svc), "has nothing from PlenusLB. Mooring serves it when a pool does; one with hetzner.ephemeral buys it an address at once")
	}
}

func join(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return strings.Join(texts, ",")
}

// admits says whether the pool of a group gives the Service an address that it does not have yet.
func admits(g *group, svc *corev1.Service) bool {
	return g.class == classOf(svc) && (len(g.pool.Spec.AllowedNamespaces) == 0 || slices.Contains(g.pool.Spec.AllowedNamespaces, svc.Namespace))
}
