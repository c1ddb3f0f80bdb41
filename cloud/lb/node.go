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
	Name   string
	UID    string
	Labels map[string]string
	Taints []corev1.Taint
	Ready  Readiness
	// ShuttingDown: the kubelet says that it is NotReady because its host shuts down.
	ShuttingDown bool
	Cordoned     bool
	Deleting     bool
	// BootID of the kernel that the kubelet runs on, as in status.nodeInfo.
	BootID string
	// ProviderID as in spec.providerID.
	ProviderID string
	// Addresses of the machine, as the Node's status lists them and as the kubelet was told.
	Addresses []netip.Addr
	// TypedAddresses are the IP addresses in the Node's status, in order.
	TypedAddresses []NodeAddress
}

// Pulse is what probing a node's health port has shown last.
type Pulse int8

const (
	// PulseNone: nothing is known. The port has never answered, or the probe trusts itself no more.
	PulseNone Pulse = iota
	// PulseAnswering: a connection is accepted. The host lives and so does its agent.
	PulseAnswering
	// PulseRefusing: a connection is refused. The host lives, and what it has bound still answers; its agent does not.
	PulseRefusing
	// PulseLost: silence for so long, and so clearly, that the host is lost.
	PulseLost
)

func (p Pulse) String() string {
	return [...]string{"unknown", "answering", "refusing", "lost"}[p]
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
	// HardwareAddresses of the interfaces that the host may answer from, as net.HardwareAddr prints them: what answers
	// from one of them is no foreign machine.
	HardwareAddresses []string
	// BootID of the kernel that the agent runs on.
	BootID string
	// HealthPort that the agent listens on; 0 when it is not known.
	HealthPort uint16
}

// Subnet is an on-link network of a host's interface.
type Subnet struct {
	Interface string
	Prefix    netip.Prefix
}
