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

// Reason is a condition and event reason: CamelCase, stable, part of what users and their alerts depend on.
type Reason string

const (
	// ReasonBound says that every address of the Service is bound, announced and published.
	ReasonBound Reason = "Bound"
	// ReasonInvalidRequest says that an annotation or a field of the Service does not parse.
	ReasonInvalidRequest Reason = "InvalidRequest"
	// ReasonNoPool says that no pool serves the Service without being asked by name or address.
	ReasonNoPool Reason = "NoPool"
	// ReasonPoolNotFound says that the pool named on the Service is not in the cloud-config.
	ReasonPoolNotFound Reason = "PoolNotFound"
	// ReasonPoolExhausted says that every pool that could serve the Service is in use completely.
	ReasonPoolExhausted Reason = "PoolExhausted"
	// ReasonPoolMissing says that an address is held from a pool that is not in the cloud-config any more.
	ReasonPoolMissing Reason = "PoolMissing"
	// ReasonAddressNotInPool says that an address asked for is in no pool, or not in the pool asked for.
	ReasonAddressNotInPool Reason = "AddressNotInPool"
	// ReasonAddressInUse says that an address asked for is held by another Service.
	ReasonAddressInUse Reason = "AddressInUse"
	// ReasonAddressQuarantined says that an address asked for may still be answered for by a node that is lost.
	ReasonAddressQuarantined Reason = "AddressQuarantined"
	// ReasonPortNotInPool says that a port asked for, or held, is not in the range of the pool.
	ReasonPortNotInPool Reason = "PortNotInPool"
	// ReasonPortInUse says that a port asked for is held by another Service, or for another port of the Service.
	ReasonPortInUse Reason = "PortInUse"
	// ReasonNotSupported says that the Service asks for what a load balancer behind an updater cannot do.
	ReasonNotSupported Reason = "NotSupported"
	// ReasonNotAllowed says that a pool does not serve this namespace or this Service.
	ReasonNotAllowed Reason = "NotAllowed"
	// ReasonFamilyMismatch says that an address asked for is of a family that the Service does not have.
	ReasonFamilyMismatch Reason = "FamilyMismatch"
	// ReasonFamilyUnavailable says that no pool has addresses of a family that the Service requires.
	ReasonFamilyUnavailable Reason = "FamilyUnavailable"
	// ReasonSharingConflict says that Services with one sharing key cannot share an address: equal ports, or
	// policy Local with different selectors.
	ReasonSharingConflict Reason = "SharingConflict"
	// ReasonNoEligibleNode says that no node may carry the address.
	ReasonNoEligibleNode Reason = "NoEligibleNode"
	// ReasonWaitingForAgent says that an address is granted to a node whose agent has not bound it yet.
	ReasonWaitingForAgent Reason = "WaitingForAgent"
	// ReasonWaitingForAPI says that the decision could not be written to the API server yet.
	ReasonWaitingForAPI Reason = "WaitingForAPI"
	// ReasonWaitingForPurchase says that an address is being bought, for this Service or for another one with its
	// sharing key.
	ReasonWaitingForPurchase Reason = "WaitingForPurchase"
	// ReasonAgentAbsent says that a node serves an address and its agent does not run.
	ReasonAgentAbsent Reason = "AgentAbsent"
	// ReasonContested says that another machine answers for an address, too, and that the node that holds it defends it.
	ReasonContested Reason = "AddressContested"
	// ReasonReleasing says that an address is on its way back to its pool.
	ReasonReleasing Reason = "Releasing"

	// ReasonBought, ReasonReleased and ReasonRetained say what became of a Floating IP: it was bought, deleted at the
	// cloud, or kept there when its Service went.
	ReasonBought   Reason = "AddressBought"
	ReasonReleased Reason = "AddressReleased"
	ReasonRetained Reason = "AddressRetained"
	// ReasonProtected says that a Floating IP could not be deleted because it is protected at the cloud.
	ReasonProtected Reason = "AddressProtected"
	// ReasonOrphan says that a Floating IP was bought for a Service that exists no more.
	ReasonOrphan Reason = "OrphanedAddress"
	// ReasonRouting says that a Floating IP is being assigned to the server of the node that has bound it.
	ReasonRouting Reason = "Routing"
	// ReasonAccountUnavailable says that an account at the cloud could not be read yet.
	ReasonAccountUnavailable Reason = "AccountUnavailable"
	// ReasonAccountMismatch says that an account at the cloud has none of the cluster's servers: its token is that of
	// another project.
	ReasonAccountMismatch Reason = "AccountMismatch"
	// ReasonUnauthorized says that the cloud does not accept the token, or not for writing.
	ReasonUnauthorized Reason = "Unauthorized"
	// ReasonLimitReached says that the project may not have more of what would be bought.
	ReasonLimitReached Reason = "LimitReached"
	// ReasonRateLimited says that the project's budget of API calls is used up for now.
	ReasonRateLimited Reason = "RateLimited"
	// ReasonCloudError says that the cloud refused a call, or did not answer.
	ReasonCloudError Reason = "CloudError"
	// ReasonNameTaken says that the name under which a Floating IP would be bought belongs to something else.
	ReasonNameTaken Reason = "NameTaken"
	// ReasonAddressLost says that a published address does not exist at the cloud any more. Another one is not
	// given silently.
	ReasonAddressLost Reason = "AddressLost"
	// ReasonFloatingIPMissing says that an address of a pool is no Floating IP of the account.
	ReasonFloatingIPMissing Reason = "FloatingIPMissing"
	// ReasonFloatingIPBlocked says that the cloud has blocked an address.
	ReasonFloatingIPBlocked Reason = "FloatingIPBlocked"
	// ReasonWrongType says that an address of a pool is the own address of a server and no Floating IP.
	ReasonWrongType Reason = "WrongType"
	// ReasonWaitingForUpdater says that an external load balancer is being told.
	ReasonWaitingForUpdater Reason = "WaitingForUpdater"
	// ReasonUpdater says that an updater did not take what it was told, or that nothing answers where it should.
	ReasonUpdater Reason = "UpdaterTrouble"
	// ReasonTargetsUnknown says that no node behind a port is Ready, so that the last ones stay.
	ReasonTargetsUnknown Reason = "TargetsUnknown"
	// ReasonClientAddress says that pods see the load balancer's address and not the client's.
	ReasonClientAddress Reason = "ClientAddressHidden"
	// ReasonHeldElsewhere says that a Floating IP belongs to somebody else: it is assigned to a server that is no
	// Node of the cluster, or was bought by another cluster.
	ReasonHeldElsewhere Reason = "HeldElsewhere"
)

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
	// Quarantined addresses are held by nobody and given to nobody.
	Quarantined uint64
}
