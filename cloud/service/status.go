package service

import (
	"cmp"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// This file says what stands in the status of a Service.

func ingressOf(v ledger.View) []corev1.LoadBalancerIngress {
	ingress := make([]corev1.LoadBalancerIngress, 0, len(v.Addresses))
	for _, a := range v.Addresses {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: a.Addr.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
	}
	if len(v.Ports) > 0 {
		ingress = append(ingress, proxyIngress(v))
	}
	return ingress
}

// proxyIngress is the host of an external load balancer and a port for each served port of the Service, in order. The
// API server takes ipMode beside an address only.
func proxyIngress(v ledger.View) corev1.LoadBalancerIngress {
	i := corev1.LoadBalancerIngress{Hostname: v.Host}
	if v.HostAddr.IsValid() {
		i = corev1.LoadBalancerIngress{IP: v.HostAddr.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)}
	}
	for _, p := range v.Ports {
		i.Ports = append(i.Ports, corev1.PortStatus{Port: int32(p.Port), Protocol: corev1.Protocol(p.Service.Protocol)})
	}
	return i
}

// setIngress puts the addresses into the status once all of them answer. Until then what is published stays; what
// the Service does not hold goes, unless it is none of our pools' business.
func setIngress(status *corev1.ServiceStatus, v ledger.View, l *ledger.Ledger) {
	switch {
	case v.Ready:
		status.LoadBalancer.Ingress = ingressOf(v)
	case len(v.Addresses)+len(v.Ports) == 0:
		var keep []corev1.LoadBalancerIngress
		for _, i := range status.LoadBalancer.Ingress {
			if addr, ok := parseAddr(i.IP); len(i.Ports) > 0 && !l.HasHost(cmp.Or(i.IP, i.Hostname), i.Ports[0].Port) ||
				len(i.Ports) == 0 && (!ok || !l.InPool(addr)) {
				keep = append(keep, i)
			}
		}
		status.LoadBalancer.Ingress = keep
	}
}

func setBound(status *corev1.ServiceStatus, generation int64, v ledger.View, now metav1.Time) {
	bound := metav1.Condition{
		Type: lb.ConditionBound, Status: metav1.ConditionFalse, ObservedGeneration: generation, LastTransitionTime: now,
		Reason: string(lb.ReasonWaitingForAgent), Message: "waiting for a node",
	}
	switch {
	case len(v.Addresses)+len(v.Ports) == 0 && v.Refusal != nil:
		bound.Reason, bound.Message = string(v.Refusal.Reason), v.Refusal.Message
	case v.Waiting != nil:
		bound.Reason, bound.Message = string(v.Waiting.Reason), v.Waiting.Message
	case v.Ready:
		bound.Status, bound.Reason, bound.Message = metav1.ConditionTrue, string(lb.ReasonBound), describe(v)
	}
	meta.SetStatusCondition(&status.Conditions, bound)
}

func setDegraded(status *corev1.ServiceStatus, generation int64, v ledger.View, now metav1.Time) {
	if v.Refusal == nil || len(v.Addresses)+len(v.Ports) == 0 {
		meta.RemoveStatusCondition(&status.Conditions, lb.ConditionDegraded)
		return
	}
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: lb.ConditionDegraded, Status: metav1.ConditionTrue, ObservedGeneration: generation, LastTransitionTime: now,
		Reason: string(v.Refusal.Reason), Message: v.Refusal.Message,
	})
}

// describe says where the addresses are, as in "192.0.2.10 on n2 (pool office)".
func describe(v ledger.View) string {
	parts := make([]string, 0, len(v.Addresses))
	for _, a := range v.Addresses {
		if a.Node == "" {
			parts = append(parts, fmt.Sprintf("%s, not bound by Mooring (pool %s)", a.Addr, a.Pool))
		} else {
			parts = append(parts, fmt.Sprintf("%s on %s (pool %s)", a.Addr, a.Node, a.Pool))
		}
	}
	for _, p := range v.Ports {
		host := v.Host
		if v.HostAddr.Is6() {
			host = "[" + host + "]"
		}
		parts = append(parts, fmt.Sprintf("%s %s:%d/%s -> %d, %d targets", p.Pool, host, p.Port, p.Service.Protocol, p.Service.Number, p.Targets))
	}
	return strings.Join(parts, ", ")
}
