// Package explain says in words, from what the API server shows, how Mooring stands in a cluster (StatusOf) and why a
// Service has what it has, or has nothing (ServiceOf). It asks the controller's own code: a ledger is rebuilt as at the
// start of a controller, and questioned.
//
// It is pure: it calls no client, reads no clock, and what it rebuilds is thrown away. Nothing here decides, writes or
// repairs; and what only the controller knows (its probe, the accounts at a cloud, updaters) it takes from the
// conditions that the controller wrote and never guesses.
package explain

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
	"github.com/mooring-lb/mooring/cloud/service"
)

// Cluster is what the API server shows.
type Cluster struct {
	// Config is nil when the cloud-config cannot be read.
	Config *config.Config
	// Leader is nil when the Lease of leader election cannot be read.
	Leader     *Leader
	Namespaces []corev1.Namespace
	Nodes      []corev1.Node
	Services   []corev1.Service
	Addresses  []v1alpha1.NodeAddresses
	// Endpoints of Services with externalTrafficPolicy Local, and the Events of the Service that ServiceOf explains.
	Endpoints []*discoveryv1.EndpointSlice
	Events    []corev1.Event
}

// sight is a Cluster with what is looked up in it again and again.
type sight struct {
	*Cluster
	// ledger is rebuilt from the cluster; nil without a cloud-config.
	ledger *ledger.Ledger
	// labels of namespaces, objects of nodes, and what carries each address.
	labels   map[string]map[string]string
	objects  map[string]*v1alpha1.NodeAddresses
	carriers map[netip.Addr]carrier
}

// carrier is the node that carries an address, and what its object says about it.
type carrier struct {
	node  string
	entry *v1alpha1.Address
}

func look(c *Cluster, now time.Time) *sight {
	s := &sight{
		Cluster: c, labels: make(map[string]map[string]string, len(c.Namespaces)),
		objects: make(map[string]*v1alpha1.NodeAddresses, len(c.Addresses)), carriers: map[netip.Addr]carrier{},
	}
	for i := range c.Namespaces {
		s.labels[c.Namespaces[i].Name] = c.Namespaces[i].Labels
	}
	for i := range c.Addresses {
		o := &c.Addresses[i]
		s.objects[o.Name] = o
		for j := range o.Spec.Addresses {
			e := &o.Spec.Addresses[j]
			addr, err := netip.ParseAddr(e.Address)
			if before := s.carriers[addr]; err == nil && carries(e, before.entry) {
				s.carriers[addr] = carrier{o.Name, e}
			}
		}
	}
	if c.Config != nil {
		s.ledger = s.adopt(now)
	}
	return s
}

// carries reports whether an entry says more of where an address is than another one does. While it moves, the node that
// is to have it counts; of two that hold it, the one that was told last.
func carries(e, other *v1alpha1.Address) bool {
	switch {
	case e.State == v1alpha1.Release:
		return false
	case other == nil || e.State != other.State:
		return other == nil || e.State == v1alpha1.Hold
	default:
		return e.Term > other.Term
	}
}

// adopt rebuilds the ledger as a controller does it at its start, in a term in which nothing is ever written. The
// accounts of pools with hetzner are unknown to it.
func (s *sight) adopt(now time.Time) *ledger.Ledger {
	var all ledger.Snapshot
	uids := map[string]string{}
	for i := range s.Nodes {
		uids[s.Nodes[i].Name] = string(s.Nodes[i].UID)
		all.Nodes = append(all.Nodes, nodeaddresses.NodeOf(&s.Nodes[i]))
	}
	for i := range s.Addresses {
		o := &s.Addresses[i]
		all.Objects = append(all.Objects, nodeaddresses.SnapshotOf(o, uids[o.Name]))
	}
	for i := range s.Services {
		all.Services = append(all.Services, service.SnapshotOf(&s.Services[i], s.labels[s.Services[i].Namespace], s.Config.ServesClass))
	}
	l := ledger.New(s.Config, ledger.Rental{}, 0)
	l.Adopt(all, now)
	return l
}

// since leaves the zero time out of what is printed.
func since(t metav1.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// requestOf reads what a Service asks for now.
func (s *sight) requestOf(svc *corev1.Service) (lb.Request, *lb.Refusal) {
	var own []*discoveryv1.EndpointSlice
	for _, slice := range s.Endpoints {
		if slice.Namespace == svc.Namespace && slice.Labels[discoveryv1.LabelServiceName] == svc.Name {
			own = append(own, slice)
		}
	}
	return service.RequestOf(svc, s.labels[svc.Namespace], service.EndpointNodes(own))
}
