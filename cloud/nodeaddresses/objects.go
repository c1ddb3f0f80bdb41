// Package nodeaddresses is the controller's side of the NodeAddresses API: it keeps one object for each Node, writes
// what the ledger decided into it, and translates between the API and the ledger's words.
//
// Nothing is decided here: which entry stands where, and in which state, is the ledger's business. It keeps no
// goroutines and looks at no clock of its own, so that the simulation of the protocol can drive it with an API server
// that delays, refuses and loses answers; and it knows nothing of Services, informers or the cloud provider.
package nodeaddresses

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/place"
)

// ObjectOf identifies the version of the spec that an object shows.
func ObjectOf(o *v1alpha1.NodeAddresses) ledger.Object {
	return ledger.Object{UID: string(o.UID), Generation: o.Generation}
}

// agentReasonInUse is the agent's reason for an address that another machine answers for.
const agentReasonInUse = "AddressInUse"

// SnapshotOf reads an object for the ledger's adoption. nodeUID is that of the Node of this name that exists now; empty
// when there is none.
func SnapshotOf(o *v1alpha1.NodeAddresses, nodeUID string) ledger.ObjectSnapshot {
	return ledger.ObjectSnapshot{
		Node: o.Name, Object: ObjectOf(o), ServerID: lb.HetznerID(o.Spec.ProviderID), Probed: o.Spec.Probed, Former: !ownedBy(o, nodeUID),
		Entries: entriesOf(o), Report: ReportOf(o),
	}
}

// ownedBy reports whether an object belongs to the Node with this UID.
func ownedBy(o *v1alpha1.NodeAddresses, uid string) bool {
	for _, ref := range o.OwnerReferences {
		if ref.Kind == "Node" {
			return string(ref.UID) == uid
		}
	}
	return false
}

// ReportOf reads the agent's status. A condition Ready that the agent never set is not in the way.
func ReportOf(o *v1alpha1.NodeAddresses) ledger.Report {
	r := ledger.Report{
		Object: ledger.Object{UID: string(o.Status.ObjectUID), Generation: o.Status.ObservedGeneration},
		Ready:  true,
	}
	if c := meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		r.Ready, r.Message = c.Status == metav1.ConditionTrue, c.Message
	}
	for _, text := range o.Status.Pending {
		if addr, ok := parseAddr(text); ok {
			if r.Pending == nil {
				r.Pending = map[netip.Addr]bool{}
			}
			r.Pending[addr] = true
		}
	}
	for _, f := range o.Status.Failed {
		if addr, ok := parseAddr(f.Address); ok {
			if r.Failed == nil {
				r.Failed = map[netip.Addr]string{}
			}
			r.Failed[addr] = strings.TrimSuffix(f.Reason+": "+f.Message, ": ")
			if f.Reason == agentReasonInUse && f.HardwareAddress != "" {
				if r.InUse == nil {
					r.InUse = map[netip.Addr]string{}
				}
				r.InUse[addr] = f.HardwareAddress
			}
		}
	}
	for _, c := range o.Status.Contested {
		if addr, ok := parseAddr(c.Address); ok {
			if r.Contested == nil {
				r.Contested = map[netip.Addr]string{}
			}
			r.Contested[addr] = c.HardwareAddress
		}
	}
	r.BootID, r.HealthPort = o.Status.BootID, uint16(o.Status.HealthPort)
	for _, a := range o.Status.NodeAddresses {
		if prefix, err := netip.ParsePrefix(a.Address); err == nil {
			r.Subnets = append(r.Subnets, lb.Subnet{Interface: a.Interface, Prefix: prefix.Masked()})
			r.Addresses = append(r.Addresses, prefix.Addr())
		}
	}
	r.HardwareAddresses = o.Status.HardwareAddresses
	return r
}

func entriesOf(o *v1alpha1.NodeAddresses) []ledger.EntryView {
	entries := make([]ledger.EntryView, 0, len(o.Spec.Addresses))
	for _, a := range o.Spec.Addresses {
		addr, ok := parseAddr(a.Address)
		if !ok {
			continue
		}
		e := ledger.EntryView{
			Addr: addr, Interface: a.Interface, Uplink: a.Uplink, Pool: a.Pool, State: place.State(a.State),
			Predecessor: a.Predecessor, Term: a.Term, Unguarded: a.Unguarded, Unwatched: a.Unwatched,
			FloatingIP: a.FloatingIP, Account: a.Account,
		}
		for _, s := range a.Services {
			e.Services = append(e.Services, lb.Ref{Namespace: s.Namespace, Name: s.Name, UID: string(s.UID)})
		}
		entries = append(entries, e)
	}
	return entries
}

// specOf is what a node's object shall say.
func specOf(v ledger.NodeView) v1alpha1.NodeAddressesSpec {
	spec := v1alpha1.NodeAddressesSpec{Probed: v.Probed, Addresses: addressesOf(v.Entries)}
	if v.ServerID != 0 {
		server := lb.Server{ID: v.ServerID}
		spec.ProviderID = server.ProviderID()
	}
	return spec
}

func addressesOf(entries []ledger.EntryView) []v1alpha1.Address {
	addresses := make([]v1alpha1.Address, 0, len(entries))
	for _, e := range entries {
		a := v1alpha1.Address{
			Address: e.Addr.String(), Interface: e.Interface, Uplink: e.Uplink, Pool: e.Pool, State: v1alpha1.State(e.State),
			Predecessor: e.Predecessor, Term: e.Term, Unguarded: e.Unguarded, Unwatched: e.Unwatched,
			FloatingIP: e.FloatingIP, Account: e.Account,
		}
		for _, s := range e.Services {
			a.Services = append(a.Services, v1alpha1.ServiceReference{Namespace: s.Namespace, Name: s.Name, UID: types.UID(s.UID)})
		}
		addresses = append(addresses, a)
	}
	return addresses
}

// EpochOf is the epoch by which an object is fenced; 0 when it is not.
func EpochOf(o *v1alpha1.NodeAddresses) int64 {
	epoch, err := strconv.ParseInt(o.Annotations[v1alpha1.AnnotationEpoch], 10, 64)
	if err != nil {
		return 0
	}
	return epoch
}

func formatEpoch(epoch int64) string { return strconv.FormatInt(epoch, 10) }

// highestTerm is the epoch of the newest controller that wrote into an object.
func highestTerm(o *v1alpha1.NodeAddresses) int64 {
	if len(o.Spec.Addresses) == 0 {
		return 0
	}
	return slices.MaxFunc(o.Spec.Addresses, func(a, b v1alpha1.Address) int { return int(a.Term - b.Term) }).Term
}

func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil && a.Zone() == ""
}
