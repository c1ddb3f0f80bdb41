package nodeaddresses

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// annotationProvidedIP is where a kubelet says which addresses it was told to have, comma-separated
// (k8s.io/cloud-provider/api, AnnotationAlphaProvidedIPAddr).
const annotationProvidedIP = "alpha.kubernetes.io/provided-node-ip"

// messageShuttingDown is in the message of the Ready condition while the kubelet shuts its host down gracefully
// (k8s.io/kubernetes pkg/kubelet/nodeshutdown, ShutdownStatus). Where it is worded otherwise the node counts as NotReady.
const messageShuttingDown = "node is shutting down"

// NodeOf reads what decides whether a Node may carry addresses.
func NodeOf(n *corev1.Node) lb.Node {
	v := lb.Node{
		Name: n.Name, UID: string(n.UID), Labels: n.Labels, Ready: lb.Unknown,
		Cordoned: n.Spec.Unschedulable, Deleting: n.DeletionTimestamp != nil, ProviderID: n.Spec.ProviderID,
		BootID: n.Status.NodeInfo.BootID,
	}
	texts := strings.Split(n.Annotations[annotationProvidedIP], ",")
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
			v.ShuttingDown = c.Status == corev1.ConditionFalse && strings.Contains(c.Message, messageShuttingDown)
		}
	}
	return v
}
