package cloud_test

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

// agent is what stands on one node: the addresses that are bound there, and who binds them. It outlives the Node and
// the process of the agent, as a host does. The world's lock guards it.
type agent struct {
	world *world
	name  string
	// number of the host in its subnets.
	number int
	// down: the host does not answer, nothing on it works.
	down bool
	// broken: nothing can be bound.
	broken bool
	// slow is how much longer everything takes.
	slow time.Duration
	// bound is what the host answers for, and how.
	bound map[string]v1alpha1.State
	// poked is closed when something of the above has changed.
	poked chan struct{}
}

// run does what mooring-agent does towards the API server.
func (a *agent) run() {
	w := a.world
	for {
		changed, poked := w.api.next(), a.next()
		if a.step() {
			continue
		}
		select {
		case <-w.ctx.Done():
			return
		case <-changed:
		case <-poked:
		}
	}
}

func (a *agent) next() <-chan struct{} {
	a.world.mu.Lock()
	defer a.world.mu.Unlock()
	return a.poked
}

// change something of the host.
func (a *agent) change(f func()) {
	a.world.mu.Lock()
	defer a.world.mu.Unlock()
	f()
	close(a.poked)
	a.poked = make(chan struct{})
}

// step brings the host and then the status one write nearer to the object, and reports whether it did.
func (a *agent) step() bool {
	w := a.world
	o := a.object()
	if o == nil || a.isDown() || !a.behind(o) {
		return false
	}
	point := w.reach("acknowledge " + a.name)
	if !w.wait(w.ctx, w.latency("work"+point, maxLatency)+a.extra()) {
		return false
	}
	// What the object says now; without one, all that is bound stays.
	if o = a.object(); o == nil || a.isDown() {
		return true
	}
	status := a.apply(o)
	patch := statusPatch(o.UID, status)
	if !w.wait(w.ctx, w.latency("ack"+point, maxLatency)) || a.isDown() {
		return true
	}
	if w.crashesAt(point, beforeEffect) {
		w.crash()
	}
	_, err := w.api.patch(nodeAddresses, a.name, "status", types.MergePatchType, patch)
	w.trace("agent %s generation %d -> %v", point, o.Generation, err)
	switch {
	case w.crashesAt(point, unanswered):
		w.crash() // before anybody has heard of it
	case w.crashesAt(point, answered):
		time.AfterFunc(maxEventLatency+time.Nanosecond, w.crash)
	}
	return true
}

var nodeAddresses, _ = kindOf("nodeaddresses")

func (a *agent) object() *v1alpha1.NodeAddresses {
	o, err := a.world.api.get(nodeAddresses, a.name)
	if err != nil {
		return nil
	}
	return as[v1alpha1.NodeAddresses](o)
}

// has reports whether the host answers for an address.
func (a *agent) has(ip string) bool {
	a.world.mu.Lock()
	defer a.world.mu.Unlock()
	return a.bound[ip] != ""
}

func (a *agent) isDown() bool {
	a.world.mu.Lock()
	defer a.world.mu.Unlock()
	return a.down
}

func (a *agent) extra() time.Duration {
	a.world.mu.Lock()
	defer a.world.mu.Unlock()
	return a.slow
}

// behind reports whether there is something to do or to say.
func (a *agent) behind(o *v1alpha1.NodeAddresses) bool {
	if o.Status.ObjectUID != o.UID || o.Status.ObservedGeneration != o.Generation {
		return true
	}
	a.world.mu.Lock()
	defer a.world.mu.Unlock()
	missing := 0
	for _, e := range o.Spec.Addresses {
		if a.bound[e.Address] == "" && e.State == v1alpha1.Hold {
			missing++
		}
	}
	if a.broken {
		return len(o.Status.Failed) != missing
	}
	return missing > 0 || len(o.Status.Failed) > 0
}

// apply binds and unbinds, and returns what there is to report.
func (a *agent) apply(o *v1alpha1.NodeAddresses) v1alpha1.NodeAddressesStatus {
	a.world.mu.Lock()
	defer a.world.mu.Unlock()
	status := v1alpha1.NodeAddressesStatus{
		ObjectUID: o.UID, ObservedGeneration: o.Generation, BootID: "boot-" + a.name,
		NodeAddresses: []v1alpha1.NodeAddress{
			{Interface: "eth0", Address: fmt.Sprintf("192.0.2.%d/24", 200+a.number), Default: true},
			{Interface: "eth0", Address: fmt.Sprintf("2001:db8::%x/64", 0x200+a.number), Default: true},
		},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready"}},
	}
	was := a.bound
	a.bound = map[string]v1alpha1.State{}
	for _, e := range o.Spec.Addresses {
		_, there := was[e.Address]
		switch {
		case e.State == v1alpha1.Hold && (there || !a.broken), e.State == v1alpha1.Yield && there:
			a.bound[e.Address] = e.State
		case e.State == v1alpha1.Hold:
			status.Failed = append(status.Failed, v1alpha1.FailedAddress{Address: e.Address, Reason: "InterfaceFailed"})
		}
	}
	status.Bound = int32(len(a.bound))
	return status
}

// statusPatch is a merge patch that leaves no failure behind that is over.
func statusPatch(uid types.UID, status v1alpha1.NodeAddressesStatus) []byte {
	raw, err := json.Marshal(status)
	if err != nil {
		panic(err)
	}
	all := fields{"failed": nil}
	if err := json.Unmarshal(raw, &all); err != nil {
		panic(err)
	}
	patch, err := json.Marshal(fields{"metadata": fields{"uid": uid}, "status": all})
	if err != nil {
		panic(err)
	}
	return patch
}
