package cloud_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
	"github.com/mooring-lb/mooring/cloud/service"
)

// check is called at every change of the API server's objects, under its lock: what must never be.
func (w *world) check(resource, _ string, was, is *stored) {
	switch {
	case resource == "nodes" && is == nil, resource == "nodeaddresses" && was == nil:
		time.AfterFunc(w.latency("garbage", time.Second), w.api.collectGarbage)
	}
	switch {
	case is == nil && resource == "services":
		w.checkGone(as[corev1.Service](was))
	case is == nil:
	case resource == "nodeaddresses":
		w.checkHolds()
	case resource == "services":
		if was == nil || !slices.Equal(addressesOf(as[corev1.Service](was)), addressesOf(as[corev1.Service](is))) {
			w.checkPublished(as[corev1.Service](is))
		}
	}
}

// rivalry is how long two nodes may be told to hold one address while a controller is at work and the API server is
// well: a move is two writes, of two objects, and none waits for the other.
const rivalry = time.Second

// checkHolds: no two nodes are told to hold one address, but for the moment that a move takes.
func (w *world) checkHolds() {
	for ip, names := range w.holds() {
		w.mu.Lock()
		if len(names) > 1 && !w.doubted[ip] {
			w.doubted[ip] = true
			time.AfterFunc(rivalry, func() { w.recheckHolds(ip, false) })
		}
		w.mu.Unlock()
	}
}

// recheckHolds looks again at an address that two nodes were told to hold, until a controller has had the time to mend
// it.
func (w *world) recheckHolds(ip string, hadTime bool) {
	w.api.mu.Lock()
	names := w.holds()[ip]
	w.api.mu.Unlock()
	p := w.leader()
	well := p != nil && time.Since(p.begin) > rivalry && !w.rivals.Load() && !w.faulty.Load() && !w.rental.isAway()
	switch {
	case w.ctx.Err() != nil:
	case len(names) < 2:
		w.mu.Lock()
		delete(w.doubted, ip)
		w.mu.Unlock()
	case well && hadTime:
		w.violate("%v are all told to hold %s", names, ip)
	default:
		time.AfterFunc(rivalry, func() { w.recheckHolds(ip, well) })
	}
}

// holds are the nodes that are told to hold an address. The API server's lock is held.
func (w *world) holds() map[string][]string {
	holds := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(w.api.objects["nodeaddresses"])) {
		for _, e := range as[v1alpha1.NodeAddresses](w.api.objects["nodeaddresses"][name]).Spec.Addresses {
			if e.State == v1alpha1.Hold {
				holds[e.Address] = append(holds[e.Address], name)
			}
		}
	}
	return holds
}

// checkPublished: what a Service publishes answers, belongs to it alone, and stays.
func (w *world) checkPublished(svc *corev1.Service) {
	ips := addressesOf(svc)
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.DeletionTimestamp != nil || classOf(svc) != w.class {
		return
	}
	before := w.publish(string(svc.UID), ips)
	if len(before) > 0 && !slices.Equal(before, ips) {
		w.violate("service %s had %v and has %v", svc.Name, before, ips)
	}
	if slices.Equal(before, ips) {
		return
	}
	for _, ip := range ips {
		if !w.answers(ip) {
			w.violate("service %s publishes %s, for which nobody answers", svc.Name, ip)
		}
		if w.rental != nil {
			w.rental.checkPublished(svc.Name, ip)
		}
	}
	for _, o := range w.api.objects["services"] {
		other := as[corev1.Service](o)
		w.checkExposed(svc, other)
		if other.UID == svc.UID || other.DeletionTimestamp != nil || shared(svc, other) {
			continue
		}
		for _, ip := range addressesOf(other) {
			if slices.Contains(ips, ip) {
				w.violate("services %s and %s both publish %s", svc.Name, other.Name, ip)
			}
		}
	}
}

// checkExposed: a Service that is served by an address of its own has none that another one listed in spec.externalIPs
// before.
func (w *world) checkExposed(svc, other *corev1.Service) {
	if svc.Annotations[lb.AnnotationSharingKey] != "" || !other.CreationTimestamp.Before(&svc.CreationTimestamp) {
		return
	}
	for _, ip := range addressesOf(svc) {
		if slices.Contains(other.Spec.ExternalIPs, ip) {
			w.violate("service %s publishes %s, which service %s lists in spec.externalIPs since before", svc.Name, ip, other.Name)
		}
	}
}

// checkGone: a Service that had our finalizer goes when no host that was told to hold an address for it has it any more,
// or did not let go in time. One that shared its address may go at once.
func (w *world) checkGone(svc *corev1.Service) {
	if len(svc.Finalizers) == 0 || time.Since(svc.DeletionTimestamp.Time) >= place.ReleaseTimeout || svc.Annotations[lb.AnnotationSharingKey] != "" {
		return
	}
	if w.rental != nil {
		w.rental.checkGone(svc) // the routing is the fence
		return
	}
	w.mu.Lock()
	agents := maps.Clone(w.agents)
	w.mu.Unlock()
	for name, a := range agents {
		o := w.api.objects["nodeaddresses"][name]
		if o == nil {
			continue
		}
		for _, e := range as[v1alpha1.NodeAddresses](o).Spec.Addresses {
			ours := slices.ContainsFunc(e.Services, func(s v1alpha1.ServiceReference) bool { return s.UID == svc.UID })
			if ours && a.has(e.Address) {
				w.violate("service %s is gone, and %s has %s still", svc.Name, name, e.Address)
			}
		}
	}
}

// publish notes what a Service publishes, and returns what it did before.
func (w *world) publish(uid string, ips []string) (before []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if before = w.published[uid]; w.wavering[uid] && !slices.Equal(before, ips) {
		before = nil
	}
	if len(ips) > 0 {
		w.published[uid] = ips
	}
	return before
}

// answers reports whether a host has an address bound, or was told to hold it and is down.
func (w *world) answers(ip string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.agents {
		if a.bound[ip] != "" {
			return true
		}
	}
	return false
}

func shared(a, b *corev1.Service) bool {
	key := a.Annotations[lb.AnnotationSharingKey]
	return key != "" && key == b.Annotations[lb.AnnotationSharingKey]
}

func addressesOf(svc *corev1.Service) []string {
	ips := make([]string, 0, len(svc.Status.LoadBalancer.Ingress))
	for _, i := range svc.Status.LoadBalancer.Ingress {
		ips = append(ips, i.IP)
	}
	return ips
}

// unsettled says what is not as the Services ask for: each has its addresses, one host answers for each of them, and
// nothing else is held, or left behind.
func (w *world) unsettled() []string {
	var reasons []string
	no := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	wanted := map[string]string{}
	list, _ := w.api.list(services)
	for _, o := range list {
		svc := as[corev1.Service](o)
		ips := addressesOf(svc)
		switch {
		case svc.DeletionTimestamp != nil:
			no("service %s is not gone: finalizers %v", svc.Name, svc.Finalizers)
		case svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
			if len(ips) > 0 || len(svc.Finalizers) > 0 || len(svc.Status.Conditions) > 0 {
				no("service %s is no load balancer and has %v, finalizers %v, conditions %v", svc.Name, ips, svc.Finalizers, svc.Status.Conditions)
			}
		case classOf(svc) != w.class:
			if service.Marked(svc) {
				no("service %s is not ours and has finalizers %v, conditions %v", svc.Name, svc.Finalizers, svc.Status.Conditions)
			}
		case len(ips) != len(svc.Spec.IPFamilies):
			no("service %s has %v: %v", svc.Name, ips, svc.Status.Conditions)
		default:
			for _, ip := range ips {
				wanted[ip] = svc.Name
			}
			if c := svc.Status.Conditions; len(c) != 1 || c[0].Status != metav1.ConditionTrue {
				no("service %s: %v", svc.Name, c)
			}
		}
	}
	reasons = append(reasons, w.notHeld(wanted)...)
	if w.rental != nil {
		reasons = append(reasons, w.rental.unsettled(wanted)...)
	}
	return reasons
}

// notHeld compares what the nodes hold with what is wanted, by address.
func (w *world) notHeld(wanted map[string]string) []string {
	var reasons []string
	no := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	holders := map[string]int{}
	for _, name := range w.names() {
		_, gone := w.api.get(nodes, name)
		o, missing := w.api.get(nodeAddresses, name)
		if (gone == nil) != (missing == nil) {
			no("node %s: %v; its NodeAddresses: %v", name, gone, missing)
		}
		w.mu.Lock()
		a := w.agents[name]
		if a.down || missing != nil {
			w.mu.Unlock()
			continue
		}
		for ip, state := range a.bound {
			if state != v1alpha1.Hold || wanted[ip] == "" {
				no("host %s has %s (%s)", name, ip, state)
			}
			holders[ip]++
		}
		w.mu.Unlock()
		for _, e := range as[v1alpha1.NodeAddresses](o).Spec.Addresses {
			if e.State != v1alpha1.Hold || wanted[e.Address] == "" {
				no("node %s is told %s %s", name, e.State, e.Address)
			}
		}
	}
	for ip, service := range wanted {
		if holders[ip] != 1 {
			no("%d hosts answer for %s of %s", holders[ip], ip, service)
		}
	}
	return reasons
}

// settle waits until all is as it should be.
func (w *world) settle(what string, limit time.Duration) {
	w.t.Helper()
	w.until(what, limit, w.unsettled)
}
