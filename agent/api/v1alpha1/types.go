// Package v1alpha1 is the API between the controller and the agents: NodeAddresses, one object per Node. The
// controller writes the spec, the agent of that Node writes the status, and nothing else passes between them.
//
// It holds types and a typed client. No decision is made here.
//
// +kubebuilder:object:generate=true
// +groupName=mooring.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Finalizer is set by the controller on every NodeAddresses, so that none disappears before the controller has
// moved what its node carried.
//
//reference:mark finalizer on NodeAddresses
const Finalizer = "mooring.dev/node-addresses"

// AnnotationEpoch is the epoch of the controller that leads. A new leader sets it on every NodeAddresses before it reads
// them, and each write of a spec is conditional on it: what an earlier leader has under way is refused from then on. The
// agent does not read it.
//
//reference:mark annotation on NodeAddresses
const AnnotationEpoch = "mooring.dev/epoch"

// MaxAddresses is how many entries one NodeAddresses holds at most: 5,000 entries of about 230 bytes stay below
// etcd's limit of 1.5 MiB for one request.
const MaxAddresses = 5000

// State says what the agent does with an address.
//
// +kubebuilder:validation:Enum=Hold;Yield;Release
type State string

const (
	// Hold: bind, announce, defend.
	Hold State = "Hold"
	// Yield: stay bound, neither announce nor defend.
	Yield State = "Yield"
	// Release: unbind. The entry stays until the agent has acknowledged.
	Release State = "Release"
)

// NodeAddresses says which addresses one Node carries, and how far its agent is with them.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=nodeaddresses,singular=nodeaddresses,shortName=na
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Bound",type=integer,JSONPath=`.status.bound`
// +kubebuilder:printcolumn:name="Pending",type=string,JSONPath=`.status.pending`
// +kubebuilder:printcolumn:name="Failed",type=string,JSONPath=`.status.failed[*].address`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeAddresses struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what the node shall carry. Written by the controller alone.
	// +optional
	Spec NodeAddressesSpec `json:"spec,omitempty"`
	// Status is what the node carries. Written by the node's agent alone.
	// +optional
	Status NodeAddressesStatus `json:"status,omitempty"`
}

// NodeAddressesSpec is written by the controller alone.
type NodeAddressesSpec struct {
	// Probed is true once the health port of the node's agent has answered a probe. A port that never answered
	// is not judged.
	// +optional
	Probed bool `json:"probed,omitempty"`
	// ProviderID is the cloud's server that the Node was found to run on, such as hcloud://42: found once by name
	// and address, and kept when the server is renamed. The agent does not read it.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ProviderID string `json:"providerID,omitempty"`
	// Addresses that the node carries, sorted by address.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5000
	Addresses []Address `json:"addresses,omitempty"`
}

// Address is one address and what the agent is to do with it.
type Address struct {
	// Address is an IP address without prefix length; it is bound as /32 or /128.
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IP address without prefix length"
	Address string `json:"address"`
	// Interface that the address is bound to; created as a bridge without ports when it is missing. "none": the
	// address is not bound by us.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[^/\s]+$`
	Interface string `json:"interface"`
	// Uplink is the interface on which the address is announced. Empty: the interface whose subnet holds the
	// address, else that of the default route.
	// +optional
	// +kubebuilder:validation:MaxLength=15
	Uplink string `json:"uplink,omitempty"`
	// Pool that the address belongs to.
	// +kubebuilder:validation:MaxLength=63
	Pool string `json:"pool"`
	// Services that hold the address: one, or several that share it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Services []ServiceReference `json:"services,omitempty"`
	// State says what the agent does with the address. Hold: bind, announce, defend. Yield: stay bound, do neither.
	// Release: unbind; the entry stays until the agent has acknowledged.
	State State `json:"state"`
	// Predecessor is the node that carried the address before. Empty: the address is new, probe before it is
	// bound. Set: it moved here, do not probe, announce until the predecessor has acknowledged.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Predecessor string `json:"predecessor,omitempty"`
	// Term is the epoch of the controller that wrote the entry. Of two Holds for one address the lower term is
	// revoked.
	Term int64 `json:"term"`
	// Unguarded leaves the address out of the guard table.
	// +optional
	Unguarded bool `json:"unguarded,omitempty"`
	// Unwatched leaves the address out of conflict detection: it is bound without a probe, and what other machines
	// say about it on the wire counts for nothing. So for pools with conflictDetection off, for addresses that a cloud
	// routes, and for those that a router answers for by proxy.
	// +optional
	Unwatched bool `json:"unwatched,omitempty"`
	// FloatingIP is the id at the cloud of the Floating IP that the address belongs to; absent for an address that
	// is not rented. It is written so that a controller that starts with another configuration knows that something
	// is to be given back. The agent does not read it.
	// +optional
	FloatingIP int64 `json:"floatingIP,omitempty"`
	// Account at the cloud that the Floating IP is in: the API's host and the token file. The agent does not read it.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Account string `json:"account,omitempty"`
}

// ServiceReference names a Service.
type ServiceReference struct {
	// Namespace of the Service.
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// Name of the Service.
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
	// UID of the Service, which tells it from a successor of the same name.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	UID types.UID `json:"uid"`
}

// NodeAddressesStatus is written by the node's agent alone.
type NodeAddressesStatus struct {
	// ObjectUID is the UID of the object that the agent worked on. An acknowledgement counts only for this
	// object, never for a successor of the same name.
	// +optional
	ObjectUID types.UID `json:"objectUID,omitempty"`
	// ObservedGeneration of the spec that is done, except for Pending and Failed.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Pending addresses are still worked on.
	// +optional
	// +listType=atomic
	Pending []string `json:"pending,omitempty"`
	// Failed addresses could not be bound or unbound; the agent goes on trying.
	// +optional
	// +listType=atomic
	Failed []FailedAddress `json:"failed,omitempty"`
	// Contested addresses are held and defended: another machine answers for them, and the API server has confirmed
	// that they belong here.
	// +optional
	// +listType=atomic
	Contested []ContestedAddress `json:"contested,omitempty"`
	// Bound is the number of addresses that are bound now.
	// +optional
	Bound int32 `json:"bound"`
	// BootID of the running kernel: another one means that every address is gone.
	// +optional
	BootID string `json:"bootID,omitempty"`
	// HealthPort on which the agent listens.
	// +optional
	HealthPort int32 `json:"healthPort,omitempty"`
	// NodeAddresses are the host's own addresses with the subnets that they stand in.
	// +optional
	// +listType=atomic
	NodeAddresses []NodeAddress `json:"nodeAddresses,omitempty"`
	// HardwareAddresses of the host's interfaces on which virtual addresses are or can be announced, be it that the
	// interface has no address of its own: sorted, of six bytes each, as in 02:00:00:00:00:01. A machine that answers
	// from one of them is this node and no stranger.
	// +optional
	// +listType=atomic
	HardwareAddresses []string `json:"hardwareAddresses,omitempty"`
	// Conditions are Ready, and ConflictDetection when that is not possible.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// FailedAddress is an address that the agent could not bind or unbind.
type FailedAddress struct {
	// Address that failed.
	Address string `json:"address"`
	// Reason in CamelCase, such as AddressInUse or InterfaceFailed; docs/reference/events.md has all of them.
	Reason string `json:"reason"`
	// Message for people, with the way out. Only the first failures have one.
	// +optional
	Message string `json:"message,omitempty"`
	// HardwareAddress of the machine that answers for the address, for reason AddressInUse.
	// +optional
	HardwareAddress string `json:"hardwareAddress,omitempty"`
}

// ContestedAddress is an address that another machine answers for, too.
type ContestedAddress struct {
	// Address that is contested.
	Address string `json:"address"`
	// HardwareAddress of the other machine.
	HardwareAddress string `json:"hardwareAddress"`
	// Interface on which it was heard.
	Interface string `json:"interface"`
}

// NodeAddress is one address of the host itself.
type NodeAddress struct {
	// Interface that the address stands on.
	Interface string `json:"interface"`
	// Address with the prefix length of its subnet, as in 10.0.0.7/24.
	Address string `json:"address"`
	// Default is true when a default route of the address's family leaves through the interface.
	// +optional
	Default bool `json:"default,omitempty"`
}

// NodeAddressesList is a list of NodeAddresses.
//
// +kubebuilder:object:root=true
type NodeAddressesList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeAddresses `json:"items"`
}

const (
	// ConditionReady is True when the agent can do its work on this host; otherwise its message names what is in
	// the way.
	//
	//reference:condition NodeAddresses
	ConditionReady = "Ready"
	// ConditionConflictDetection is False when conflicts cannot be detected on one of the host's segments, such as
	// behind a router that answers for every address; its message names the segment and the reason. It is absent
	// otherwise.
	//
	//reference:condition NodeAddresses
	ConditionConflictDetection = "ConflictDetection"
)
