package service

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	servicehelper "k8s.io/cloud-provider/service/helpers"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// SnapshotOf reads a Service for the ledger's adoption. Served says whether a pool serves a class. A Service that we have
// served is taken to want what it has, whatever the pools serve by now.
func SnapshotOf(svc *corev1.Service, namespaceLabels map[string]string, served func(class string) bool) ledger.ServiceSnapshot {
	// What does not parse asks for nothing; the Service keeps what it has and its own sync reports it.
	request, _ := RequestOf(svc, namespaceLabels, nil)
	v := ledger.ServiceSnapshot{
		Request: request, Wants: isLoadBalancer(svc) && (served(classOf(svc)) || Marked(svc)),
		Pending: servicehelper.HasLBFinalizer(svc) || hasFinalizer(svc),
		Managed: meta.FindStatusCondition(svc.Status.Conditions, lb.ConditionBound) != nil,
	}
	for _, i := range svc.Status.LoadBalancer.Ingress {
		if len(i.Ports) > 0 {
			v.PublishedPorts = append(v.PublishedPorts, publishedPorts(i, request)...)
		} else if addr, ok := parseAddr(i.IP); ok {
			v.Published = append(v.Published, addr)
		}
	}
	return v
}

// publishedPorts tells which ports of the load balancer in a status belong to which ports of the Service: they are in
// the same order, and when the Service was edited since, those of one protocol are.
func publishedPorts(i corev1.LoadBalancerIngress, request lb.Request) (ports []ledger.PublishedPort) {
	served := request.Served()
	for _, p := range i.Ports {
		at := slices.IndexFunc(served, func(s lb.Port) bool { return s.Protocol == lb.Protocol(p.Protocol) })
		if at < 0 {
			continue
		}
		ports = append(ports, ledger.PublishedPort{Host: cmp.Or(i.IP, i.Hostname), Port: uint16(p.Port), Service: served[at]})
		served = slices.Delete(slices.Clone(served), at, at+1)
	}
	return ports
}
