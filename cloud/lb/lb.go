// Package lb is the vocabulary of Mooring: the minimal view of a Service (Request), of a Node (Node) and
// of what a Service holds (Lease), the annotation keys, and the reasons that a user reads.
//
// It holds values only. It imports nothing else of ours and no Kubernetes client, so that every decision made
// over these values can be tested, fuzzed and simulated without a cluster.
package lb

import (
	"fmt"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Family is an IP family by the name that the Kubernetes API gives it.
type Family string

const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// FamilyOf returns the family of an unmapped address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// FamilyPolicy says how many families a Service asks for (spec.ipFamilyPolicy).
type FamilyPolicy string

const (
	SingleStack      FamilyPolicy = "SingleStack"
	PreferDualStack  FamilyPolicy = "PreferDualStack"
	RequireDualStack FamilyPolicy = "RequireDualStack"
)

// Protocol is a transport protocol by the name that the Kubernetes API gives it.
type Protocol string

const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// Port is one port of a Service.
type Port struct {
	Name     string
	Number   uint16
	Protocol Protocol
	NodePort uint16
}

func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Number, p.Protocol) }

// Ref names a Service. The UID tells a Service from its successor of the same name.
type Ref struct {
	Namespace string
	Name      string
	UID       string
}

func (r Ref) String() string { return r.Namespace + "/" + r.Name }

// Request is the minimal view of a Service of type LoadBalancer: what it asks for and what decides whether it
// may have it.
type Request struct {
	Ref
	// Created breaks ties between claimants of one address: the older Service wins.
	Created         time.Time
	Labels          map[string]string
	NamespaceLabels map[string]string
	// Class is spec.loadBalancerClass, empty when the Service has none.
	Class string

	// Families are the families that the Service asks for, primary first (spec.ipFamilies).
	Families     []Family
	FamilyPolicy FamilyPolicy
	Ports        []Port
	// Local is true with externalTrafficPolicy Local: only nodes with an endpoint of the Service answer.
	Local bool
	// PodSelector is spec.selector in canonical form. Services with policy Local share an address only when
	// it is equal.
	PodSelector string

	// Pool is the pool named by annotation, empty when none is.
	Pool string
	// Addresses, ExternalIPs and LoadBalancerIP are the three ways to ask for addresses, in this order of
	// precedence. ExternalIPs counts only when at least one of them lies in a pool.
	Addresses      []netip.Addr
	ExternalIPs    []netip.Addr
	LoadBalancerIP netip.Addr

	// LBPorts are the ports that are asked for at an external load balancer, each port of the Service at most once.
	LBPorts []PortWish
	// LBPortsOnly: at an external load balancer only the ports in LBPorts are served. See Served.
	LBPortsOnly bool
	// SourceRanges, ClientIP and NoNodePorts are what an external load balancer behind an updater cannot do:
	// spec.loadBalancerSourceRanges, spec.sessionAffinity ClientIP, and a served port that has no node port because of
	// spec.allocateLoadBalancerNodePorts false.
	SourceRanges bool
	ClientIP     bool
	NoNodePorts  bool

	SharingKey string
	// ProxyTimeout and ConnectTimeout at an external load balancer, in whole seconds; 0: as the pool says.
	ProxyTimeout, ConnectTimeout time.Duration
	// Replaces is a backend of somebody else at the updater that is taken over for the first port.
	Replaces string
	// Retain: a bought address outlives the Service.
	Retain bool
	// NodeSelector narrows the nodes further than the pool does; nil selects all.
	NodeSelector labels.Selector
	// EndpointNodes, with Local, are the nodes that have a ready endpoint, else a serving and terminating one,
	// sorted. Empty is no criterion.
	EndpointNodes []string
}

// Lease is one address that a Service holds, and the pool that it was taken from.
type Lease struct {
	Addr netip.Addr
	Pool string
}

func (l Lease) String() string { return fmt.Sprintf("%s (pool %s)", l.Addr, l.Pool) }

// Refusal says why something that was asked for is not done. It is a value, not an error: nothing went wrong,
// and the user who asked reads it on the object. The Message names the field, the value and the way out.
type Refusal struct {
	Reason  Reason
	Message string
}

// Refuse makes a Refusal with a formatted message.
func Refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func (r *Refusal) String() string { return string(r.Reason) + ": " + r.Message }

// Usage counts one pool's addresses of one family.
type Usage struct {
	Pool   string
	Family Family
	// Size is the number of addresses, saturated at the largest uint64. Of a pool that buys its addresses it is how many
	// it may buy, both families together; the largest uint64 when there is no limit.
	Size uint64
	Used uint64
	// Ordered addresses are to be bought for Services that have none yet.
	Ordered uint64
	// Quarantined addresses are held by nobody and kept from being given out.
	Quarantined uint64
}
