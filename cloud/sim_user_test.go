package cloud_test

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

// This file is what people and machines do to the cluster.

var services, _ = kindOf("services")

// create a Service of type LoadBalancer.
func (w *world) create(name string, change ...func(*corev1.Service)) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack),
			Ports:          []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	if w.class != "" {
		svc.Spec.LoadBalancerClass = &w.class
	}
	for _, c := range change {
		c(svc)
	}
	raw, err := json.Marshal(svc)
	require.NoError(w.t, err)
	var f fields
	require.NoError(w.t, json.Unmarshal(raw, &f))
	w.put("services", f)
}

func dualStack(svc *corev1.Service) {
	svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	svc.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
}

// edit a Service. What it has published may change then.
func (w *world) edit(name string, change func(*corev1.Service)) {
	o, err := w.api.get(services, "default/"+name)
	require.NoError(w.t, err)
	svc := as[corev1.Service](o).DeepCopy()
	w.mu.Lock()
	delete(w.published, string(svc.UID))
	w.mu.Unlock()
	change(svc)
	raw, err := json.Marshal(svc)
	require.NoError(w.t, err)
	_, err = w.api.update(services, "default/"+name, "", raw)
	require.NoError(w.t, err)
	w.trace("user edits service %s", name)
}

func (w *world) delete(name string) {
	w.trace("user deletes service %s", name)
	_, err := w.api.delete(services, "default/"+name, "")
	require.NoError(w.t, err)
}

var nodes, _ = kindOf("nodes")

// addNode adds a Node, on the host of that name if there was one before.
func (w *world) addNode(name string) {
	w.mu.Lock()
	a := w.agents[name]
	w.mu.Unlock()
	if a == nil {
		a = &agent{world: w, name: name, number: w.offset + len(w.agents) + 1, bound: map[string]v1alpha1.State{}, poked: make(chan struct{})}
		w.mu.Lock()
		w.agents[name] = a
		w.mu.Unlock()
		go a.run()
	}
	if w.rental != nil {
		w.rental.addServer(name, a.number)
	}
	w.put("nodes", fields{"metadata": fields{"name": name}})
	w.setReady(name, corev1.ConditionTrue)
	a.change(func() { a.down = false })
}

// loseNode cuts a host off. The node controller notices.
func (w *world) loseNode(name string) {
	w.trace("node %s is lost", name)
	a := w.agents[name]
	a.change(func() { a.down = true })
	w.setReady(name, corev1.ConditionUnknown)
}

// returnNode ends that. What was bound is bound still.
func (w *world) returnNode(name string) {
	w.trace("node %s is back", name)
	a := w.agents[name]
	a.change(func() { a.down = false })
	w.setReady(name, corev1.ConditionTrue)
}

// removeNode takes a host away for good, and deletes its Node.
func (w *world) removeNode(name string) {
	w.trace("node %s is removed", name)
	a := w.agents[name]
	a.change(func() {
		a.down = true
		a.bound = map[string]v1alpha1.State{}
	})
	_, err := w.api.delete(nodes, name, "")
	require.NoError(w.t, err)
}

func (w *world) setReady(name string, ready corev1.ConditionStatus) {
	taints := []corev1.Taint{}
	if ready == corev1.ConditionUnknown {
		taints = append(taints, corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute})
	}
	for subresource, f := range map[string]fields{
		"status": {"status": fields{"conditions": []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}},
		"":       {"spec": fields{"taints": taints}},
	} {
		patch, err := json.Marshal(f)
		require.NoError(w.t, err)
		_, err = w.api.patch(nodes, name, subresource, types.MergePatchType, patch)
		require.NoError(w.t, err)
	}
}

// exclude a node from carrying addresses, or do so no more.
func (w *world) exclude(name string, excluded bool) {
	w.trace("node %s excluded: %v", name, excluded)
	var value any
	if excluded {
		value = "true"
	}
	patch, err := json.Marshal(fields{"metadata": fields{"labels": fields{corev1.LabelNodeExcludeBalancers: value}}})
	require.NoError(w.t, err)
	_, err = w.api.patch(nodes, name, "", types.MergePatchType, patch)
	require.NoError(w.t, err)
}

// exists reports whether there is such an object that is not being deleted.
func (w *world) exists(k kind, key string) bool {
	o, err := w.api.get(k, key)
	return err == nil && o.text("deletionTimestamp") == ""
}

// names of the hosts, sorted.
func (w *world) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.agents))
}

// holder is a host that answers for the first address of a Service.
func (w *world) holder(name string) string {
	o, err := w.api.get(services, "default/"+name)
	require.NoError(w.t, err)
	ips := addressesOf(as[corev1.Service](o))
	require.NotEmpty(w.t, ips)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, host := range slices.Sorted(maps.Keys(w.agents)) {
		if a := w.agents[host]; !a.down && a.bound[ips[0]] == v1alpha1.Hold {
			return host
		}
	}
	require.FailNow(w.t, "nobody answers for "+ips[0])
	return ""
}

// replace ends the controller as a rolling update does: first the old one, then a new one.
func (w *world) replaceController() {
	if p := w.leader(); p != nil {
		p.terminate()
		w.trace("p%d terminated", p.number)
		w.pass(w.latency("replace", time.Second))
	}
	if w.leader() == nil {
		w.start()
	}
}
