package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// together is how many Services are created, lose their node and are deleted at once.
	together = 20
	// inProject is how many Floating IPs there are while nothing happens: as many as one answer shows.
	inProject = 50
	// idleLoops are awaited while nothing happens, idleLoop apart, in place of the ten minutes between two by default.
	idleLoops = 5
	idleLoop  = 3 * time.Second
	usualLoop = 10 * time.Minute
)

// TestBenchHetzner counts the calls to Hetzner's API, of which a project has 3,600 an hour for everybody.
func TestBenchHetzner(t *testing.T) {
	if os.Getenv("BENCH") == "" {
		t.Skip("measurements run with make bench")
	}
	h := rent(t, cluster.Options{Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}}}, "n1", "n2")
	pool := "name: bought, hetzner: {ephemeral: {types: [ipv4]}}"
	h.deploy(t, h.cloudConfig(h.account(), pool), clusterName)
	h.untainted(t)
	// A new leader reads the account several times in its first minute, which is no part of what follows.
	h.Eventually(t, "the account is read", func(context.Context) error {
		if h.calls("GET /servers", 0) == 0 {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	namespace := h.Namespace(t, "bench")

	since := h.lastCall()
	one := h.create(t, cluster.LoadBalancer(namespace, "one"))
	h.published(t, one)
	h.countCalls("HetznerCalls/create/1", since, 1, "Service")
	since = h.lastCall()
	h.remove(t, one)
	h.countCalls("HetznerCalls/delete/1", since, 1, "Service")

	since = h.lastCall()
	var services []*corev1.Service
	for i := range together {
		services = append(services, h.create(t, cluster.LoadBalancer(namespace, fmt.Sprintf("web-%d", i))))
	}
	var addrs []netip.Addr
	for _, service := range services {
		addrs = append(addrs, h.published(t, service))
	}
	h.countCalls(fmt.Sprintf("HetznerCalls/create/%d", together), since, together, "Service")

	// All to one node: then that one is lost.
	lost := h.Node("n1")
	h.gather(t, lost, addrs)
	since = h.lastCall()
	begin := time.Now()
	require.NoError(t, lost.CutOff())
	for _, addr := range addrs {
		h.at(t, addr, "is assigned to the other server", func(f hetznertest.FloatingIP) bool { return f.Server == h.serverOf("n2") })
	}
	h.Eventually(t, "every assignment is known to have ended", func(context.Context) error {
		if h.recent(time.Second) > 0 {
			return fmt.Errorf("Hetzner is still asked")
		}
		return nil
	})
	h.countCalls(fmt.Sprintf("HetznerCalls/failover/%d", together), since, together, "address")
	figure(fmt.Sprintf("HetznerFailover/%d", together), h.lastAssign(since).Sub(begin).Seconds(), "s-until-the-last-assign")
	require.NoError(t, lost.Restore())

	since = h.lastCall()
	for _, service := range services {
		require.NoError(t, h.Kube.CoreV1().Services(namespace).Delete(t.Context(), service.Name, metav1.DeleteOptions{}))
	}
	for _, service := range services {
		h.gone(t, service)
	}
	h.countCalls(fmt.Sprintf("HetznerCalls/delete/%d", together), since, together, "Service")

	for i := range inProject {
		_, err := h.cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Name: fmt.Sprintf("people-%d", i)})
		require.NoError(t, err)
	}
	h.reload(t, h.cloudConfig(fmt.Sprintf("resyncInterval: %s\n%s", idleLoop, h.account()), pool), taken)
	h.measureIdle(t)
}

// countCalls prints what was called since, for each of so many: calls that change something, polls that ask how actions
// stand, and other reads.
func (h *rented) countCalls(name string, since, n int, unit string) {
	calls, polls, reads := 0, 0, 0
	for _, r := range h.cloud.Log() {
		switch {
		case r.Seq <= since:
		case r.Operation == "GET /actions":
			polls++
		case r.Class == hetznertest.Read:
			reads++
		default:
			calls++
		}
	}
	each := float64(n)
	figure(name, float64(calls)/each, "calls/"+unit, float64(polls)/each, "polls/"+unit, float64(reads)/each, "reads/"+unit)
}

// recent counts the calls of the last while.
func (h *rented) recent(while time.Duration) (n int) {
	for _, r := range h.cloud.Log() {
		if time.Since(r.Time) < while {
			n++
		}
	}
	return n
}

// lastAssign is when the last assignment since was asked for.
func (h *rented) lastAssign(since int) (at time.Time) {
	for _, r := range h.cloud.Log() {
		if r.Seq > since && r.Operation == operationToAssign {
			at = r.Time
		}
	}
	return at
}

// gather has all addresses on one node: the other one is lost for a while, and nothing goes back.
func (h *rented) gather(t *testing.T, node *cluster.Node, addrs []netip.Addr) {
	t.Helper()
	for _, other := range h.Nodes {
		if other == node {
			continue
		}
		require.NoError(t, other.CutOff())
		for _, addr := range addrs {
			h.at(t, addr, "is assigned to "+node.Name, func(f hetznertest.FloatingIP) bool { return f.Server == h.serverOf(node.Name) })
		}
		require.NoError(t, other.Restore())
		h.Eventually(t, other.Name+" is Ready", func(ctx context.Context) error { return readyIs(ctx, h.Cluster, other.Name, corev1.ConditionTrue) })
	}
	h.untainted(t)
	h.Eventually(t, "Hetzner is left alone", func(context.Context) error {
		if h.recent(2*time.Second) > 0 {
			return fmt.Errorf("it is asked still")
		}
		return nil
	})
}

// measureIdle counts what is called while nothing happens, and says how much that is in an hour of usual slow loops.
// The list of servers, which is read once an hour, is not among it.
func (h *rented) measureIdle(t *testing.T) {
	t.Helper()
	since := h.lastCall()
	lists := func() (at []time.Time) {
		for _, r := range h.cloud.Log() {
			if r.Seq > since && r.Operation == "GET /floating_ips" {
				at = append(at, r.Time)
			}
		}
		return at
	}
	h.Eventually(t, "slow loops pass", func(context.Context) error {
		if n := len(lists()); n <= idleLoops {
			return fmt.Errorf("the account was read %d times", n)
		}
		return nil
	})
	at := lists()
	calls := 0
	for _, r := range h.cloud.Log() {
		if r.Time.After(at[0]) && !r.Time.After(at[len(at)-1]) {
			calls++
		}
	}
	loops := at[len(at)-1].Sub(at[0]).Seconds() / idleLoop.Seconds()
	figure(fmt.Sprintf("HetznerIdle/%d", inProject), float64(calls)/loops*float64(time.Hour/usualLoop), "calls/h", loops, "loops-seen")
}
