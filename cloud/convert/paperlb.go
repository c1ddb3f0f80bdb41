package convert

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

const (
	paperName = "PaperLB"
	// paperNamespace is the only one whose LoadBalancerConfigs PaperLB reads.
	paperNamespace = "paperlb-system"
	// paperClass is the class that PaperLB serves beside Services without one.
	paperClass = "lb.paperlb.com/paperlb-class"
	// paperReady is the phase of a LoadBalancer that the updater was told of.
	paperReady = "READY"
	// paperFinalizer keeps a LoadBalancer until the updater has removed its backend.
	paperFinalizer = "lb.paperlb.com/lb-finalizer"
)

// paper converts what PaperLB has.
type paper struct {
	*conversion
	configs  map[string]*paperConfig
	standard string // the config that serves Services which name none
	claims   []*paperClaim
	pieces   []*piece
}

// paperClaim is a port at a load balancer that a Service has.
type paperClaim struct {
	svc *corev1.Service
	paperListen
	class, url, config string
	ready              bool
	// lost: an older Service has the port.
	lost bool
}

type paperListen struct {
	host     string
	port     int
	protocol string
}

func (l paperListen) String() string { return fmt.Sprintf("%s:%d/%s", l.host, l.port, l.protocol) }

func convertPaperLB(c *conversion, in *Input) {
	p := &paper{conversion: c, configs: map[string]*paperConfig{}}
	p.readConfigs(in.configs)
	p.readBalancers(in.balancers)
	p.divide()
	p.addPools(in.nodes)
	for _, claim := range p.claims {
		p.keep(claim)
	}
	if len(in.configs) > 0 {
		p.unpublished()
	}
}

// readConfigs finds the configurations that PaperLB uses, and the default one: the oldest that says so.
func (p *paper) readConfigs(configs []paperConfig) {
	ordered := slices.Clone(configs)
	slices.SortFunc(ordered, func(a, b paperConfig) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), compareKeys(keyOf(&a), keyOf(&b)))
	})
	for i := range ordered {
		c := &ordered[i]
		about, spec := "LoadBalancerConfig "+keyOf(c).String(), c.Spec
		switch {
		case c.Namespace != paperNamespace:
			p.note(about, "is left out: PaperLB reads those in namespace %s alone", paperNamespace)
			continue
		case spec.HTTPUpdaterURL == "" || spec.Host == "":
			p.note(about, "is left out: it has no httpUpdaterURL, or no host, and PaperLB serves nothing by it")
			continue
		case spec.PortRange.Low < 1 || spec.PortRange.High > 65535 || spec.PortRange.High < spec.PortRange.Low:
			p.note(about, "is left out: its portRange %d-%d has no port", spec.PortRange.Low, spec.PortRange.High)
			continue
		}
		p.configs[c.Name] = c
		if !spec.Default {
			continue
		}
		if p.standard == "" {
			p.standard = c.Name
		} else {
			p.note(about, "is not the default, as it was not for PaperLB: of two with default: true the older one counts, which is %s", p.standard)
		}
	}
}

// readBalancers finds what Services have. The rest stands at an updater for nobody.
func (p *paper) readBalancers(balancers []paperBalancer) {
	byService := map[types.NamespacedName]*paperBalancer{}
	for i := range balancers {
		b := &balancers[i]
		byService[keyOf(b)] = b
	}
	holders := map[paperListen]*corev1.Service{}
	for _, svc := range p.served() {
		b := byService[keyOf(svc)]
		class := classOf(svc)
		if b == nil || class != "" && class != paperClass {
			continue
		}
		delete(byService, keyOf(svc))
		p.taken[keyOf(svc)] = paperName
		if b.DeletionTimestamp != nil {
			p.first("LoadBalancer "+keyOf(b).String(), "is being deleted, and waits for its finalizer %s: let PaperLB finish, and convert anew", paperFinalizer)
			continue
		}
		claim := &paperClaim{svc: svc, class: class, url: strings.TrimRight(b.Spec.HTTPUpdater.URL, "/"), config: b.Spec.ConfigName,
			paperListen: paperListen{canonical(b.Spec.Host), b.Spec.Port, cmp.Or(b.Spec.Protocol, string(corev1.ProtocolTCP))},
			ready:       b.Status.Phase == paperReady}
		if older := holders[claim.paperListen]; older != nil {
			claim.lost = true
			p.first(about(svc), "has %s like the older Service %s, which keeps it: two backends on one port keep nginx from reloading; "+
				"this one gets another port", claim.paperListen, keyOf(older))
		} else {
			holders[claim.paperListen] = svc
		}
		p.claims = append(p.claims, claim)
	}
	slices.SortFunc(p.claims, func(a, b *paperClaim) int { return compareKeys(keyOf(a.svc), keyOf(b.svc)) })
	for i := range balancers {
		b := &balancers[i]
		if byService[keyOf(b)] == nil {
			continue
		}
		why := p.gone(keyOf(b))
		if why == "" {
			why = fmt.Sprintf("which has the class %q now", classOf(p.services[keyOf(b)]))
		}
		p.first("LoadBalancer "+keyOf(b).String(), "is of a Service %s, and its backend %s stays on %s:%d/%s at %s, where Mooring may give the port to another: "+
			"delete the object while PaperLB runs, which removes the backend", why, backendOf(b.Namespace, b.Name),
			b.Spec.Host, b.Spec.Port, b.Spec.Protocol, b.Spec.HTTPUpdater.URL)
	}
}

// backendOf is the name of PaperLB's backend at the updater.
func backendOf(namespace, name string) string { return namespace + "_" + name }

// canonical is a host by which it is told from others.
func canonical(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().String()
	}
	return host
}

// addPools makes a pool of each piece.
func (p *paper) addPools(nodes []corev1.Node) {
	// Every Ready node is a target of PaperLB.
	excluded := slices.ContainsFunc(nodes, func(n corev1.Node) bool {
		return place.Excluded(n.Labels) && slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool { return a.Type == corev1.NodeExternalIP })
	})
	const server = "server"
	for _, s := range p.pieces {
		s.name = p.names.take(s.wants)
		p.conversion.pools = append(p.conversion.pools, pool{
			comment: s.comment, Name: s.name, AutoAssign: s.autoAssign, LoadBalancerClass: s.class, IgnoreExcludeLabel: excluded,
			Updater: &updater{
				URLs: []string{s.url}, Host: s.host, PortRange: portRange{s.low, s.high},
				ProxyTimeout: server, UDPProxyTimeout: server, ProxyConnectTimeout: server,
				NodeAddressTypes: []string{string(corev1.NodeExternalIP)},
			},
		})
	}
	if len(p.pieces) == 0 {
		return
	}
	p.note("pools with updater", "have proxyTimeout: server, as PaperLB had it: nginx-lb-updater ends a connection that is idle for 5 s. "+
		"Take the three timeouts out for Mooring's own, of minutes")
	if excluded {
		p.note("pools with updater", "have ignoreExcludeLabel: true, because PaperLB sends traffic also to Nodes with the label %s", lb.LabelExcludeNode)
	}
}

// keep has the Service keep its port, and lets the backend be replaced.
func (p *paper) keep(claim *paperClaim) {
	svc := claim.svc
	p.annotate(svc, lb.AnnotationReplacesBackend, backendOf(svc.Namespace, svc.Name))
	home := p.home(claim.paperListen)
	if home == nil || len(svc.Spec.Ports) == 0 {
		p.first(about(svc), "has %s, which is no port of a load balancer, and gets another", claim.paperListen)
		return
	}
	if home.url != claim.url {
		p.first(about(svc), "has its backend at %s, and pool %s tells %s: remove the backend %s at the former by hand", claim.url, home.name, home.url,
			backendOf(svc.Namespace, svc.Name))
	}
	if home.class != claim.class {
		p.first(about(svc), "has the class %q, and the port %d of %s is in pool %s, which serves the class %q: it cannot be kept", claim.class, claim.port, claim.host,
			home.name, home.class)
		return
	}
	if named := svc.Annotations[lb.AnnotationPaperLBConfig]; named != home.name && (named != "" || !home.standard) {
		p.annotate(svc, lb.AnnotationPool, home.name)
	}
	served := portKey(svc, claim.protocol)
	several := len(svc.Spec.Ports) > 1
	switch {
	case several:
		// A name alone limits the Service to it. The port at the load balancer is the one in the status.
		p.annotate(svc, lb.AnnotationLBPorts, served)
	case !claim.lost:
		p.annotate(svc, lb.AnnotationLBPorts, fmt.Sprintf("%s=%d", served, claim.port))
	}
	if shown := svc.Status.LoadBalancer.Ingress; claim.ready && !claim.lost && !claim.shownIn(shown) && (several || len(shown) > 0) {
		p.change(svc).Publish = claim.ingress()
		p.note(about(svc), "is served at %s, and its status does not say so: the status is patched, because the port is kept by it", claim.paperListen)
	}
	p.refused(svc)
}

// shownIn reports whether a status shows what is claimed.
func (c *paperClaim) shownIn(shown []corev1.LoadBalancerIngress) bool {
	return len(shown) == 1 && canonical(cmp.Or(shown[0].IP, shown[0].Hostname)) == c.host && len(shown[0].Ports) == 1 &&
		int(shown[0].Ports[0].Port) == c.port && string(shown[0].Ports[0].Protocol) == c.protocol
}

func (c *paperClaim) ingress() *corev1.LoadBalancerIngress {
	i := &corev1.LoadBalancerIngress{Ports: []corev1.PortStatus{{Port: int32(c.port), Protocol: corev1.Protocol(c.protocol)}}}
	if _, err := netip.ParseAddr(c.host); err == nil {
		i.IP, i.IPMode = c.host, new(corev1.LoadBalancerIPModeProxy)
	} else {
		i.Hostname = c.host
	}
	return i
}

// portKey names the one port of a Service that PaperLB serves, the first, as mooring.dev/lb-ports has it.
func portKey(svc *corev1.Service, protocol string) string {
	port := svc.Spec.Ports[0]
	switch {
	case port.Name != "":
		return port.Name
	case protocol == string(corev1.ProtocolTCP):
		return strconv.Itoa(int(port.Port))
	default:
		return fmt.Sprintf("%d/%s", port.Port, strings.ToLower(protocol))
	}
}

// refused notes what PaperLB passes over in silence and Mooring says it cannot do.
func (p *paper) refused(svc *corev1.Service) {
	for _, what := range []struct {
		asks bool
		what string
	}{
		{len(svc.Spec.LoadBalancerSourceRanges) > 0, "spec.loadBalancerSourceRanges"},
		{svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP, "spec.sessionAffinity ClientIP"},
		{svc.Spec.LoadBalancerIP != "", "spec.loadBalancerIP"},
		{svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack, "spec.ipFamilyPolicy RequireDualStack"},
	} {
		if what.asks {
			p.note(about(svc), "asks for %s, which no load balancer behind an updater does, and PaperLB did not: it keeps its port, "+
				"and the condition %s says so until it is removed", what.what, lb.ConditionDegraded)
		}
	}
}

// unpublished notes the Services that PaperLB would serve and does not, and limits them as it would.
func (p *paper) unpublished() {
	for _, svc := range p.served() {
		class := classOf(svc)
		if p.taken[keyOf(svc)] != "" || p.allocated[keyOf(svc)] || class != "" && class != paperClass || len(svc.Spec.Ports) == 0 {
			continue
		}
		named := svc.Annotations[lb.AnnotationPaperLBConfig]
		config := cmp.Or(named, p.standard)
		switch protocol := svc.Spec.Ports[0].Protocol; {
		case config == "":
			p.note(about(svc), "has nothing from PaperLB: it names no LoadBalancerConfig, and none is the default. No pool serves it unasked")
			continue
		case p.configs[config] == nil:
			p.note(about(svc), "has nothing from PaperLB: it names LoadBalancerConfig %s, which is not there. Mooring says %s until there is a pool of that name",
				config, lb.ReasonPoolNotFound)
			continue
		case protocol != "" && protocol != corev1.ProtocolTCP && protocol != corev1.ProtocolUDP:
			p.note(about(svc), "has nothing from PaperLB, because its first port is %s. Mooring says %s", protocol, lb.ReasonNotSupported)
			continue
		}
		p.note(about(svc), "has nothing from PaperLB yet (no node port, no free port, or no Ready node with an ExternalIP). Mooring serves it")
		if s := p.mainPiece(config); s != nil && named != "" && named != s.name {
			p.annotate(svc, lb.AnnotationPool, s.name)
		}
		if len(svc.Spec.Ports) > 1 {
			p.annotate(svc, lb.AnnotationLBPorts, portKey(svc, cmp.Or(string(svc.Spec.Ports[0].Protocol), string(corev1.ProtocolTCP))))
		}
	}
}
