// Package config turns the cloud-config file into a validated Config and keeps it current while the file
// changes.
//
// It reads files and judges what stands in them. It logs nothing, reads no environment and imports nothing of
// ours: what it finds it returns, as one error that lists every mistake with its path and the way out.
package config

import (
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Config is a cloud-config that passed validation. It is not changed after it was made: a reload makes a new one.
type Config struct {
	// InitializeNodes: our cloud-node controller initialises Nodes. Default true.
	InitializeNodes bool
	// Hetzner is the default account of pools with hetzner; nil when there is none.
	Hetzner  *Account
	Failover Failover
	// ResyncInterval of the slow loop. Default 10 minutes.
	ResyncInterval time.Duration
	// Pools in the order of the file.
	Pools []Pool
}

// Account is one Hetzner project.
type Account struct {
	TokenFile string
	// Endpoint of the API, without a trailing slash. Default https://api.hetzner.cloud/v1.
	Endpoint string
	// ReleaseOrphans: orphaned addresses are deleted (orphans: release) and not only reported.
	ReleaseOrphans bool
}

// Failover says how fast the loss of a node is noticed.
type Failover struct {
	// ProbeInterval between TCP connects to each agent's health port. Default 300 ms.
	ProbeInterval time.Duration
	// FailureThreshold is how many silences in a row come before the last questions, which decide. Default 3.
	FailureThreshold int
	// EvacuateCordoned: addresses leave a cordoned node. Default false.
	EvacuateCordoned bool
}

// Pool is where addresses or ports come from. Exactly one source is set: Addresses, Ephemeral or Updater.
type Pool struct {
	Name string

	// Addresses of the pool, the excluded ones and (with avoidBuggyIPs) those that end in .0 and .255 taken
	// out. Nil for other sources. With Hetzner there is one address of each IPv6 /64.
	Addresses *netipx.IPSet
	// Block is Addresses and what avoidBuggyIPs takes out of them: nobody gets those, but they are the pool's.
	Block *netipx.IPSet

	AutoAssign bool
	Priority   int
	// LoadBalancerClass that the pool serves; empty: Services without a class.
	LoadBalancerClass string

	// AllowedNamespaces, when not empty, are the only ones served.
	AllowedNamespaces []string
	// NamespaceSelector and ServiceSelector narrow further; nil: everything.
	NamespaceSelector labels.Selector
	ServiceSelector   labels.Selector

	// NodeSelector for the nodes that may carry the addresses; nil: every node.
	NodeSelector labels.Selector
	// Tolerations for NoExecute taints that do not evict addresses.
	Tolerations        []corev1.Toleration
	IgnoreExcludeLabel bool

	// Interface that addresses are bound to; InterfaceNone: not by us.
	Interface string
	// Uplink on which addresses are announced; empty: found by subnet, else the default route's.
	Uplink string
	// ConflictDetection is false with conflictDetection: off.
	ConflictDetection bool
	Guard             bool

	// Hetzner is set when the addresses are Floating IPs.
	Hetzner *HetznerPool
	Updater *Updater
}

// Buys says whether a pool buys addresses. They are labelled with the name and the UID of the cluster.
func Buys(c *Config) bool {
	return slices.ContainsFunc(c.Pools, func(p Pool) bool { return p.Hetzner != nil && p.Hetzner.Ephemeral != nil })
}

// ServesClass says whether a pool serves Services of a class of load balancers; the empty one is that of Services without
// a class.
func (c *Config) ServesClass(class string) bool {
	return slices.ContainsFunc(c.Pools, func(p Pool) bool { return p.LoadBalancerClass == class })
}

// InterfaceNone as a pool's interface: the addresses are not bound by us.
const InterfaceNone = "none"

// HetznerPool says that the addresses of a pool are Floating IPs.
type HetznerPool struct {
	// Account of the pool: its own, else the default one.
	Account Account
	// Takeover: take Floating IPs from servers that are not our Nodes.
	Takeover bool
	// Ephemeral is set when the addresses are bought with the Service.
	Ephemeral *Ephemeral
}

// Ephemeral says how addresses are bought.
type Ephemeral struct {
	// IPv4 and IPv6: the types that are bought.
	IPv4, IPv6   bool
	HomeLocation string
	Labels       map[string]string
	// Retain: keep bought addresses when their Service goes (reclaimPolicy: Retain).
	Retain bool
	// MaxAddresses that the pool buys; 0: no limit.
	MaxAddresses int
}

// Updater is an external load balancer behind an HTTP updater.
type Updater struct {
	URLs []string
	// Host that is published: an IP (HostAddr is valid then) or a DNS name.
	Host     string
	HostAddr netip.Addr
	// PortLow to PortHigh, both included, are the ports that are given out.
	PortLow, PortHigh uint16
	BearerTokenFile   string
	TLS               *TLS
	Timeout           time.Duration
	// ProxyTimeout, UDPProxyTimeout and ProxyConnectTimeout are whole seconds; 0: left to the updater.
	ProxyTimeout        time.Duration
	UDPProxyTimeout     time.Duration
	ProxyConnectTimeout time.Duration
	// NodeAddressTypes in order: the first that a node has is its target address.
	NodeAddressTypes []corev1.NodeAddressType
	Verify           bool
}

// TLS are the files of a TLS client.
type TLS struct {
	CAFile, CertFile, KeyFile string
}
