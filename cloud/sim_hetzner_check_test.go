package cloud_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// The labels of what is bought, as users read them.
const (
	labelCluster = "mooring.dev/cluster-uid"
	labelService = "mooring.dev/service-uid"
	labelReclaim = "mooring.dev/reclaim"
)

// clusterUID is what tells this cluster from others.
func (w *world) clusterUID() string {
	k, _ := kindOf("namespaces")
	o, err := w.api.get(k, "kube-system")
	if err != nil {
		return ""
	}
	return o.text("uid")
}

// hook looks at every call of this cluster at Hetzner.
func (r *rental) hook(stage hetznertest.Stage, call hetznertest.Call) (cut bool) {
	if !strings.HasPrefix(call.Caller, r.world.hosts+"/") || call.Class != hetznertest.Write || call.Project != ourProject {
		return false
	}
	all := r.hetzner.FloatingIPs(ourProject)
	switch {
	case stage == hetznertest.AfterEffect && call.Operation == "POST /floating_ips":
		r.checkBought(all)
	case stage == hetznertest.BeforeEffect && len(call.IDs) > 0:
		i := slices.IndexFunc(all, func(f hetznertest.FloatingIP) bool { return f.ID == call.IDs[0] })
		if i >= 0 {
			r.checkCall(call, all[i])
		}
	}
	return false
}

// checkBought: a Service has one Floating IP of a family at most.
func (r *rental) checkBought(all []hetznertest.FloatingIP) {
	counts := map[string]int{}
	for _, f := range all {
		if f.Labels[labelCluster] == r.world.clusterUID() {
			counts[fmt.Sprint(f.Labels[labelService], " IPv4 ", f.Prefix.Addr().Is4())]++
		}
	}
	for what, n := range counts {
		if n > 1 {
			r.world.violate("%d Floating IPs of service %s", n, what)
		}
	}
}

// checkCall: what belongs to another cluster is left alone, and what is listed or published is not deleted.
func (r *rental) checkCall(call hetznertest.Call, f hetznertest.FloatingIP) {
	if owner := f.Labels[labelCluster]; owner != "" && owner != r.world.clusterUID() {
		r.world.violate("%s of %s, which cluster %s bought", call.Operation, f.Prefix, owner)
	}
	if call.Operation != "DELETE /floating_ips/{id}" {
		return
	}
	if isListed(f.Prefix) {
		r.world.violate("%s is listed and is deleted", f.Prefix)
	}
	list, _ := r.world.api.list(services)
	for _, o := range list {
		svc := as[corev1.Service](o)
		published := slices.Contains(addressesOf(svc), addressIn(f.Prefix))
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil && published {
			r.world.violate("%s is published by %s and is deleted", f.Prefix, svc.Name)
		}
	}
}

// addressIn is what a Service publishes of a Floating IP.
func addressIn(p netip.Prefix) string {
	if p.Addr().Is4() {
		return p.Addr().String()
	}
	return p.Masked().Addr().Next().String()
}

func isListed(p netip.Prefix) bool {
	return slices.Contains([]string{"198.51.100.1", "198.51.100.2", "2001:db8:f000::1"}, addressIn(p))
}

// onRoute is called when a Floating IP is routed elsewhere.
func (r *rental) onRoute(prefix netip.Prefix, server int64) {
	node := r.nodeOf(server)
	if node == "" {
		return
	}
	r.mu.Lock()
	r.routed[prefix] = true
	r.mu.Unlock()
	r.world.trace("%s is routed to %s", prefix, node)
	r.expectHold(addressIn(prefix), node, server)
}

// expectHold: the node that an address is routed to was told to hold it, if only a moment later.
func (r *rental) expectHold(ip, node string, server int64) {
	w := r.world
	if w.told(node, ip) {
		return
	}
	time.AfterFunc(rivalry, func() {
		p := w.leader()
		well := p != nil && time.Since(p.begin) > rivalry && !w.rivals.Load() && !w.faulty.Load() && !r.handmade.Load() && !r.lands.Load()
		if w.ctx.Err() == nil && well && r.serverOf(ip) == server && !w.told(node, ip) && w.planned().moment != landsLate {
			w.violate("%s is routed to %s, which is not told to hold it", ip, node)
		}
	})
}

// told reports whether a node is told something of an address.
func (w *world) told(node, ip string) bool {
	o, err := w.api.get(nodeAddresses, node)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(as[v1alpha1.NodeAddresses](o).Spec.Addresses, func(e v1alpha1.Address) bool { return e.Address == ip })
}

// floatingIP of an address; false: there is none.
func (r *rental) floatingIP(ip string) (hetznertest.FloatingIP, bool) {
	for _, f := range r.hetzner.FloatingIPs(ourProject) {
		if addressIn(f.Prefix) == ip {
			return f, true
		}
	}
	return hetznertest.FloatingIP{}, false
}

// serverOf is the server that an address is routed to; 0: none.
func (r *rental) serverOf(ip string) int64 {
	f, _ := r.floatingIP(ip)
	return f.Server
}

// checkPublished: what is published for the first time is routed to where it is bound, unless somebody has just
// meddled with it. The API server's lock is held.
func (r *rental) checkPublished(service, ip string) {
	f, ok := r.floatingIP(ip)
	if !ok {
		r.world.violate("service %s publishes %s, which does not exist", service, ip)
		return
	}
	r.mu.Lock()
	ever := r.routed[f.Prefix]
	r.mu.Unlock()
	if !ever {
		r.world.violate("service %s publishes %s, which was never routed", service, ip)
	}
	if r.handmade.Load() || r.lands.Load() || r.world.rivals.Load() || r.world.planned().moment == landsLate {
		return
	}
	if node := r.nodeOf(f.Server); node == "" || !r.world.binds(node, ip) {
		r.world.violate("service %s publishes %s, which is routed to %q and not bound there", service, ip, node)
	}
}

// binds reports whether a host has an address bound.
func (w *world) binds(node, ip string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.agents[node]
	return a != nil && a.bound[ip] != ""
}

func (w *world) isDown(node string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.agents[node].down
}

// checkGone: nothing that was bought for a Service is left when it goes, but for what is to be kept.
func (r *rental) checkGone(svc *corev1.Service) {
	if r.lands.Load() || r.world.planned().moment == landsLate {
		return
	}
	for _, f := range r.hetzner.FloatingIPs(ourProject) {
		if f.Labels[labelService] == string(svc.UID) && f.Labels[labelReclaim] != "retain" && !f.Protected {
			r.world.violate("service %s is gone, and %s is not given back", svc.Name, f.Prefix)
		}
	}
}

// unsettled says what is not at Hetzner as the Services ask for: everything that is wanted is there and routed to where it
// is bound, and nothing else is there but what is listed or retained.
func (r *rental) unsettled(wanted map[string]string) []string {
	var reasons []string
	no := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	there := map[string]bool{}
	for _, f := range r.hetzner.FloatingIPs(ourProject) {
		ip := addressIn(f.Prefix)
		there[ip] = true
		owner := f.Labels[labelCluster]
		switch node := r.nodeOf(f.Server); {
		case wanted[ip] != "" && (node == "" || !r.world.binds(node, ip) || r.world.isDown(node)):
			no("%s of %s is routed to server %d (%s), which does not have it bound", ip, wanted[ip], f.Server, node)
		case wanted[ip] != "", owner != r.world.clusterUID() && !isListed(f.Prefix):
		case isListed(f.Prefix):
			if r.lists && (f.Server != 0 || owner != "") {
				no("%s is listed, nobody wants it, and it is on server %d with owner %q", ip, f.Server, owner)
			}
		case f.Labels[labelReclaim] != "retain":
			no("%s (%s) is wanted by nobody and is there still", ip, f.Name)
		case f.Server != 0:
			no("%s (%s) is retained, and on server %d", ip, f.Name, f.Server)
		}
	}
	for ip, service := range wanted {
		if !there[ip] {
			no("%s of %s does not exist", ip, service)
		}
	}
	return reasons
}

// purchase is what was bought of one family for one Service.
type purchase struct{ uid, family string }

// purchases that were made by this cluster, read from Hetzner's log.
func (r *rental) purchases() map[purchase]int {
	counts := map[purchase]int{}
	for _, record := range r.hetzner.Log() {
		if record.Operation != "POST /floating_ips" || !record.Effect || !strings.HasPrefix(record.Caller, r.world.hosts+"/") {
			continue
		}
		var body struct {
			Type   string
			Labels map[string]string
		}
		if err := json.Unmarshal([]byte(record.Body), &body); err != nil {
			r.world.violate("a purchase that cannot be read: %v", err)
			continue
		}
		counts[purchase{body.Labels[labelService], body.Type}]++
	}
	return counts
}
