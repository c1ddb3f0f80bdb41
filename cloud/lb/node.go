package lb

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Readiness is the status of a Node's Ready condition.
type Readiness string

const (
	Ready    Readiness = "True"
	NotReady Readiness = "False"
	// Unknown: the node's kubelet has been silent for longer than the node-monitor-grace-period.
	Unknown Readiness = "Unknown"
)

// Node is the minimal view of a Node: what decides whether it may carry an address.
type Node struct {
	Name     string
	UID      string
	Labels   map[string]string
	Taints   []corev1.Taint
	Ready    Readiness
	Cordoned bool
	Deleting bool
	// ProviderID as in spec.providerID.
	ProviderID string
	// Addresses of the machine, as the Node's status lists them and as the kubelet was told.
	Addresses []netip.Addr
	// TypedAddresses are the IP addresses in the Node's status, in order.
	TypedAddresses []NodeAddress
}

// NodeAddress is an IP address of a Node and what it is for.
type NodeAddress struct {
	Type corev1.NodeAddressType
	Addr netip.Addr
}

// Agent is what a node's agent says of itself and of its host.
type Agent struct {
	// Present: the agent has reported on the NodeAddresses object that exists now.
	Present bool
	// Ready: the agent can do its work on this host; Message says what is in the way when it cannot.
	Ready   bool
	Message string
	// Overdue since this time is a write that the agent has not acknowledged; zero when there is none.
	Overdue time.Time
	// Subnets that the host stands in, by interface.
	Subnets []Subnet
	// Addresses of the host.
	Addresses []netip.Addr
}

// Subnet is an on-link network of a host's interface.
type Subnet struct {
	Interface string
	Prefix    netip.Prefix
}
