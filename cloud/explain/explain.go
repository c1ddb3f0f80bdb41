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
	Config     *config.Config
	Namespaces []corev1.Namespace
	Nodes      []corev1.Node
	Services   []corev1.Service
	Addresses  []v1alpha1.NodeAddresses
	// Endpoints of Services with externalTrafficPolicy Local, and the Events of the Service that ServiceOf explains.
	Endpoints []*discoveryv1.EndpointSlice
	Events    []corev1.Event
}

// ledger is rebuilt as a controller does it at its start, in a term in which nothing is ever written. The accounts of
// pools with hetzner are unknown to it.
func (c *Cluster) ledger(now time.Time) *ledger.Ledger {
	var s ledger.Snapshot
	uids := map[string]string{}
	for i := range c.Nodes {
		uids[c.Nodes[i].Name] = string(c.Nodes[i].UID)
		s.Nodes = append(s.Nodes, nodeaddresses.NodeOf(&c.Nodes[i]))
	}
	for i := range c.Addresses {
		o := &c.Addresses[i]
		s.Objects = append(s.Objects, nodeaddresses.SnapshotOf(o, uids[o.Name]))
	}
	for i := range c.Services {
		s.Services = append(s.Services, service.SnapshotOf(&c.Services[i], c.labelsOf(c.Services[i].Namespace), c.Config.ServesClass))
	}
	l := ledger.New(c.Config, ledger.Rental{}, 0)
	l.Adopt(s, now)
	return l
}

func (c *Cluster) labelsOf(namespace string) map[string]string {
	for i := range c.Namespaces {
		if c.Namespaces[i].Name == namespace {
			return c.Namespaces[i].Labels
		}
	}
	return nil
}

// object is the NodeAddresses of a node, nil when there is none.
func (c *Cluster) object(node string) *v1alpha1.NodeAddresses {
	for i := range c.Addresses {
		if c.Addresses[i].Name == node {
			return &c.Addresses[i]
		}
	}
	return nil
}

// carrier finds the node that carries an address, and the pool that the entry names.
func (c *Cluster) carrier(addr string) (node, pool string) {
	want, err := netip.ParseAddr(addr)
	if err != nil {
		return "", ""
	}
	var term int64 = -1
	for i := range c.Addresses {
		for _, e := range c.Addresses[i].Spec.Addresses {
			if a, err := netip.ParseAddr(e.Address); err != nil || a != want || e.State == v1alpha1.Release {
				continue
			}
			// While an address moves, the node that is to have it counts.
			if e.State == v1alpha1.Hold && e.Term >= term || node == "" {
				node, pool = c.Addresses[i].Name, e.Pool
				if e.State == v1alpha1.Hold {
					term = e.Term
				}
			}
		}
	}
	return node, pool
}

// since leaves the zero time out of what is printed.
func since(t metav1.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// requestOf reads what a Service asks for now.
func (c *Cluster) requestOf(svc *corev1.Service) (lb.Request, *lb.Refusal) {
	var own []*discoveryv1.EndpointSlice
	for _, s := range c.Endpoints {
		if s.Namespace == svc.Namespace && s.Labels[discoveryv1.LabelServiceName] == svc.Name {
			own = append(own, s)
		}
	}
	return service.RequestOf(svc, c.labelsOf(svc.Namespace), service.EndpointNodes(own))
}
