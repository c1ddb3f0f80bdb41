package cloud

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	cloudapi "k8s.io/cloud-provider/api"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// nodeOf reads what decides whether a Node may carry addresses.
func nodeOf(n *corev1.Node) lb.Node {
	v := lb.Node{
		Name: n.Name, UID: string(n.UID), Labels: n.Labels, Ready: lb.Unknown,
		Cordoned: n.Spec.Unschedulable, Deleting: n.DeletionTimestamp != nil, ProviderID: n.Spec.ProviderID,
		BootID: n.Status.NodeInfo.BootID,
	}
	texts := strings.Split(n.Annotations[cloudapi.AnnotationAlphaProvidedIPAddr], ",")
	for _, a := range n.Status.Addresses {
		texts = append(texts, a.Address)
		if addr, ok := parseAddr(a.Address); ok {
			v.TypedAddresses = append(v.TypedAddresses, lb.NodeAddress{Type: a.Type, Addr: addr})
		}
	}
	for _, text := range texts {
		if addr, ok := parseAddr(strings.TrimSpace(text)); ok && !slices.Contains(v.Addresses, addr) {
			v.Addresses = append(v.Addresses, addr)
		}
	}
	for _, t := range n.Spec.Taints {
		v.Taints = append(v.Taints, corev1.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect})
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			v.Ready = lb.Readiness(c.Status)
		}
	}
	return v
}

func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil && a.Zone() == ""
}
