package cloud

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	cloudprovider "k8s.io/cloud-provider"
	cloudapi "k8s.io/cloud-provider/api"
	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// instances initialises Nodes. It never says that a machine does not exist: the cloud-node-lifecycle controller
// would delete the Node.
type instances struct {
	objects cache.Indexer
	// synced: objects are all there.
	synced func() bool
	// server at the cloud that a Node runs on, when there is one that is known; read: all accounts have shown theirs.
	server func(node string) (server lb.Server, found, read bool)
	clock  clock.PassiveClock
}

var _ cloudprovider.InstancesV2 = (*instances)(nil)

// agentGrace is how long a new Node without a provided node IP waits for its agent's report. After it the Node is
// initialised with its host name alone; its addresses follow with the next node status update.
const agentGrace = 30 * time.Second

// serverGrace is how long a new Node waits until it is known whether it runs on a server of an account: its providerID
// cannot be changed later.
const serverGrace = 2 * time.Minute

// serverOf returns the server at the cloud that a Node runs on.
func (r *room) serverOf(node string) (server lb.Server, found, read bool) {
	l := r.ledger()
	if l == nil {
		return lb.Server{}, false, false
	}
	return l.ServerOf(node)
}

// InstanceExists is always true.
func (i *instances) InstanceExists(context.Context, *corev1.Node) (bool, error) { return true, nil }

// InstanceShutdown is always false: it is the kubelet's silence that says so here.
func (i *instances) InstanceShutdown(context.Context, *corev1.Node) (bool, error) { return false, nil }

// InstanceMetadata returns the Node's identity and addresses. The metadata is never nil.
func (i *instances) InstanceMetadata(_ context.Context, node *corev1.Node) (*cloudprovider.InstanceMetadata, error) {
	m := &cloudprovider.InstanceMetadata{ProviderID: node.Spec.ProviderID}
	server, found, read := i.server(node.Name)
	switch {
	case found:
		m.InstanceType, m.Zone, m.Region = server.Type, server.Zone, server.Region
		m.ProviderID = cmp.Or(m.ProviderID, server.ProviderID())
	case m.ProviderID == "" && !read && i.clock.Since(node.CreationTimestamp.Time) < serverGrace:
		return nil, fmt.Errorf("node %s: waiting for the accounts at the cloud to show their servers", node.Name)
	}
	m.ProviderID = cmp.Or(m.ProviderID, ProviderName+"://"+node.Name)
	provided := node.Annotations[cloudapi.AnnotationAlphaProvidedIPAddr]
	if !i.synced() {
		return nil, fmt.Errorf("node %s: what the agents report is not read yet", node.Name)
	}
	reported := i.reported(node.Name)
	if provided == "" && len(reported) == 0 && i.clock.Since(node.CreationTimestamp.Time) < agentGrace {
		return nil, fmt.Errorf("node %s: waiting for its agent to report the host's addresses", node.Name)
	}
	for text := range strings.SplitSeq(provided, ",") {
		// The kubelet refuses a list that lacks the address it was given.
		if addr, ok := parseAddr(strings.TrimSpace(text)); ok {
			m.NodeAddresses = appendAddress(m.NodeAddresses, corev1.NodeInternalIP, addr.String())
		}
	}
	for _, addr := range reported {
		m.NodeAddresses = appendAddress(m.NodeAddresses, corev1.NodeInternalIP, addr.String())
	}
	if len(reported) == 0 {
		// Without an agent nobody knows better than whoever set them.
		for _, a := range node.Status.Addresses {
			m.NodeAddresses = appendAddress(m.NodeAddresses, a.Type, a.Address)
		}
	}
	m.NodeAddresses = appendAddress(m.NodeAddresses, corev1.NodeHostName, hostname(node))
	return m, nil
}

// reported are the host's addresses as its agent sees them: those of the interface of the default route first.
func (i *instances) reported(name string) []netip.Addr {
	obj, ok, err := i.objects.GetByKey(name)
	if err != nil || !ok {
		return nil
	}
	var first, rest []netip.Addr
	for _, a := range obj.(*v1alpha1.NodeAddresses).Status.NodeAddresses {
		prefix, err := netip.ParsePrefix(a.Address)
		if err != nil {
			continue
		}
		if a.Default {
			first = append(first, prefix.Addr())
		} else {
			rest = append(rest, prefix.Addr())
		}
	}
	return slices.Concat(first, rest)
}

func appendAddress(list []corev1.NodeAddress, kind corev1.NodeAddressType, address string) []corev1.NodeAddress {
	a := corev1.NodeAddress{Type: kind, Address: address}
	if slices.Contains(list, a) {
		return list
	}
	return append(list, a)
}

func hostname(node *corev1.Node) string {
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeHostName {
			return a.Address
		}
	}
	return node.Name
}

func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil && a.Zone() == ""
}
