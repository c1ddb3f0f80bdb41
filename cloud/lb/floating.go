package lb

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// FloatingIP is an address, or a network of them, that is rented from a cloud and routed to one of its servers, as the
// cloud's API shows it. The word is Hetzner's.
type FloatingIP struct {
	ID   int64
	Name string
	// Prefix that is routed: a /32, or for IPv6 a /64.
	Prefix netip.Prefix
	// Server that it is routed to; 0: none.
	Server int64
	// Blocked by the cloud: no traffic gets through.
	Blocked bool
	// Protected from being deleted.
	Protected bool
	// Owner is who bought it, as its labels say; the zero value: nobody that is known to Mooring.
	Owner Owner
}

// Family of the addresses.
func (f FloatingIP) Family() Family { return FamilyOf(f.Prefix.Addr()) }

// Addr is the address that a Service gets: the IPv4 address, or the first one in the /64 after its base.
func (f FloatingIP) Addr() netip.Addr {
	if f.Prefix.Addr().Is4() {
		return f.Prefix.Addr()
	}
	return f.Prefix.Masked().Addr().Next()
}

// Owner is what the labels of a bought Floating IP say: for which Service of which cluster.
type Owner struct {
	// ClusterUID is the UID of the cluster's kube-system namespace, which no other cluster has.
	ClusterUID string
	// Cluster is --cluster-name, for people.
	Cluster string
	Service Ref
	Pool    string
	// Retain: the Floating IP outlives its Service.
	Retain bool
}

// Server is a machine that Floating IPs can be routed to.
type Server struct {
	ID   int64
	Name string
	// Networks that are the server's own: its public and private addresses as /32 and /128, and its public IPv6 /64.
	Networks []netip.Prefix
	// Type, Zone and Region are what a Node is labelled with.
	Type, Zone, Region string
	// Location is what a Floating IP's home location may be.
	Location string
}

// Has reports whether an address is the server's own.
func (s *Server) Has(a netip.Addr) bool {
	for _, p := range s.Networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Inventory is what a complete read of an account showed.
type Inventory struct {
	// Began is when the read began: what we changed later, it may not show.
	Began       time.Time
	FloatingIPs []FloatingIP
	// Servers of the account; nil when only Floating IPs were read.
	Servers []Server
}

// Order is a Floating IP to be bought.
type Order struct {
	Owner
	Family Family
	// Location at home in which it is bought.
	Location string
	// Labels that the pool adds.
	Labels map[string]string
}

// providerHetzner is the scheme of a Node's providerID on Hetzner Cloud, as hcloud-cloud-controller-manager writes it.
const providerHetzner = "hcloud://"

// HetznerID returns the id in a providerID such as hcloud://42; 0 when it is none.
func HetznerID(providerID string) int64 {
	text, ok := strings.CutPrefix(providerID, providerHetzner)
	if !ok {
		return 0
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 0 {
		return 0
	}
	return id
}

// ProviderID is what a Node on the server has as its providerID.
func (s *Server) ProviderID() string { return providerHetzner + strconv.FormatInt(s.ID, 10) }
