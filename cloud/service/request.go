package service

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	netutils "k8s.io/utils/net"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/updater"
)

// RequestOf is the border between the Kubernetes API and our vocabulary: it reads what a Service asks for. The
// refusal says what on the Service does not parse; the request is not to be used then.
func RequestOf(svc *corev1.Service, namespaceLabels map[string]string, endpointNodes []string) (lb.Request, *lb.Refusal) {
	r := lb.Request{
		Ref:             RefOf(svc),
		Created:         svc.CreationTimestamp.Time,
		Labels:          svc.Labels,
		NamespaceLabels: namespaceLabels,
		FamilyPolicy:    lb.SingleStack,
		Local:           svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		PodSelector:     labels.Set(svc.Spec.Selector).String(),
		SharingKey:      svc.Annotations[lb.AnnotationSharingKey],
		Pool:            svc.Annotations[lb.AnnotationPool],
		Retain:          svc.Annotations[lb.AnnotationRetain] == "true",
		SourceRanges:    len(svc.Spec.LoadBalancerSourceRanges) > 0 || svc.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey] != "",
		ClientIP:        svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP,
		ExternalIPs:     Exposed(svc),
	}
	if r.Pool == "" {
		r.Pool = svc.Annotations[lb.AnnotationPaperLBConfig]
	}
	if r.Local {
		r.EndpointNodes = endpointNodes
	}
	if svc.Spec.LoadBalancerClass != nil {
		r.Class = *svc.Spec.LoadBalancerClass
	}
	if svc.Spec.IPFamilyPolicy != nil {
		r.FamilyPolicy = lb.FamilyPolicy(*svc.Spec.IPFamilyPolicy)
	}
	for _, f := range svc.Spec.IPFamilies {
		r.Families = append(r.Families, lb.Family(f))
	}
	for _, p := range svc.Spec.Ports {
		r.Ports = append(r.Ports, lb.Port{
			Name: p.Name, Number: uint16(p.Port), Protocol: lb.Protocol(p.Protocol), NodePort: uint16(p.NodePort),
		})
	}
	// Where one annotation does not parse the others count: adoption goes by them.
	refusal := cmp.Or(parseWishes(svc, &r), parseProxy(svc, &r), parseLBPorts(svc, &r))
	r.NoNodePorts = svc.Spec.AllocateLoadBalancerNodePorts != nil && !*svc.Spec.AllocateLoadBalancerNodePorts &&
		slices.ContainsFunc(r.Served(), func(p lb.Port) bool { return p.NodePort == 0 })
	return r, refusal
}

// parseWishes reads the addresses that a Service asks for.
func parseWishes(svc *corev1.Service, r *lb.Request) *lb.Refusal {
	for field := range strings.SplitSeq(svc.Annotations[lb.AnnotationAddresses], ",") {
		field = strings.TrimSpace(field)
		if field == "" {
			continue
		}
		addr, ok := parseAddr(field)
		if !ok {
			return lb.Refuse(lb.ReasonInvalidRequest, "annotation %s: %q is not an IP address; write addresses separated by commas",
				lb.AnnotationAddresses, field)
		}
		if !slices.Contains(r.Addresses, addr) {
			r.Addresses = append(r.Addresses, addr)
		}
	}
	if field := svc.Spec.LoadBalancerIP; field != "" {
		addr, ok := parseAddr(field)
		if !ok {
			return lb.Refuse(lb.ReasonInvalidRequest, "spec.loadBalancerIP: %q is not an IP address", field)
		}
		r.LoadBalancerIP = addr
	}
	return nil
}

// parseProxy reads the node selector and what a Service asks of an external load balancer, and names the first mistake.
func parseProxy(svc *corev1.Service, r *lb.Request) (refusal *lb.Refusal) {
	if text := svc.Annotations[lb.AnnotationNodeSelector]; text != "" {
		selector, err := labels.Parse(text)
		if err != nil {
			refusal = lb.Refuse(lb.ReasonInvalidRequest, "annotation %s: %q is not a label selector: %v; write it as kubectl get -l takes it, such as edge=true",
				lb.AnnotationNodeSelector, text, err)
		} else {
			r.NodeSelector = selector
		}
	}
	if name := svc.Annotations[lb.AnnotationReplacesBackend]; name != "" {
		// Whoever may annotate a Service may not remove the backends of others.
		if !strings.HasPrefix(name, svc.Namespace+"_") || updater.ValidName(name) != nil {
			refusal = cmp.Or(refusal, lb.Refuse(lb.ReasonInvalidRequest, "annotation %s: %q is not the name of a backend of this namespace: write one such as %s_%s, of letters, digits, _ and -",
				lb.AnnotationReplacesBackend, name, svc.Namespace, svc.Name))
		} else {
			r.Replaces = name
		}
	}
	var wrong *lb.Refusal
	r.ProxyTimeout, wrong = proxyTimeout(svc, lb.AnnotationProxyTimeout)
	refusal = cmp.Or(refusal, wrong)
	r.ConnectTimeout, wrong = proxyTimeout(svc, lb.AnnotationProxyConnectTimeout)
	return cmp.Or(refusal, wrong)
}

// proxyTimeout reads one of the timeouts; 0 when the Service asks for none.
func proxyTimeout(svc *corev1.Service, annotation string) (time.Duration, *lb.Refusal) {
	text, ok := svc.Annotations[annotation]
	if !ok {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > updater.LongestTimeout || d%time.Second != 0 {
		return 0, lb.Refuse(lb.ReasonInvalidRequest, "annotation %s: %q is not a number of whole seconds from 1s to 720h, such as 90s or 10m", annotation, text)
	}
	return d, nil
}

// Exposed returns the addresses in spec.externalIPs, which kube-proxy serves for a Service of whatever type, each once.
// They are read as kube-proxy reads them: a list from before the API server was strict may have leading zeros.
func Exposed(svc *corev1.Service) []netip.Addr {
	var addrs []netip.Addr
	seen := make(map[netip.Addr]bool, len(svc.Spec.ExternalIPs))
	for _, field := range svc.Spec.ExternalIPs {
		if addr, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(field)); ok && !seen[addr.Unmap()] {
			seen[addr.Unmap()] = true
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil && a.Zone() == ""
}

// RefOf names a Service.
func RefOf(svc *corev1.Service) lb.Ref {
	return lb.Ref{Namespace: svc.Namespace, Name: svc.Name, UID: string(svc.UID)}
}

// EndpointNodes returns the nodes that have a ready endpoint, else those that have a serving and terminating one,
// as kube-proxy counts for policy Local.
func EndpointNodes(endpointSlices []*discoveryv1.EndpointSlice) []string {
	ready, serving := map[string]bool{}, map[string]bool{}
	for _, s := range endpointSlices {
		for _, e := range s.Endpoints {
			if e.NodeName == nil {
				continue
			}
			c := e.Conditions
			switch {
			case c.Ready == nil || *c.Ready:
				ready[*e.NodeName] = true
			case c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating:
				serving[*e.NodeName] = true
			}
		}
	}
	if len(ready) == 0 {
		ready = serving
	}
	names := make([]string, 0, len(ready))
	for name := range ready {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// KeyOf is a Service's namespaced name.
func KeyOf(svc *corev1.Service) ledger.Key {
	return ledger.Key{Namespace: svc.Namespace, Name: svc.Name}
}
