package e2e

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The calls of a bought address's life.
const (
	operationToBuy      = "POST /floating_ips"
	operationToAssign   = "POST /floating_ips/{id}/actions/assign"
	operationToUnassign = "POST /floating_ips/{id}/actions/unassign"
	operationToDelete   = "DELETE /floating_ips/{id}"
)

// death is a moment at which the controller is killed: at a stage of the next such call.
type death struct {
	operation string
	stage     hetznertest.Stage
}

func (d death) String() string { return fmt.Sprintf("%s of %s", d.stage, d.operation) }

// lives are the moments at which the controller is killed over the life of one Service, in the order in which they
// come.
var lives = []struct {
	name             string
	creation, ending []death
}{
	{
		"where the answer is not known",
		[]death{{operationToBuy, hetznertest.BeforeEffect}, {operationToBuy, hetznertest.AfterEffect}, {operationToAssign, hetznertest.AfterEffect}},
		[]death{{operationToUnassign, hetznertest.AfterEffect}, {operationToDelete, hetznertest.BeforeEffect}, {operationToDelete, hetznertest.AfterEffect}},
	},
	{
		"where it is, and is not written yet",
		[]death{{operationToBuy, hetznertest.AfterAnswer}, {operationToAssign, hetznertest.BeforeEffect}, {operationToAssign, hetznertest.AfterAnswer}},
		[]death{{operationToUnassign, hetznertest.BeforeEffect}, {operationToUnassign, hetznertest.AfterAnswer}, {operationToDelete, hetznertest.AfterAnswer}},
	},
}

// TestHetznerCrash kills the controller at calls to Hetzner, with the Service's life going on in the next one: nothing
// is bought twice, nothing is left, and what is published stays. That it is so at every call, and with everything else
// that may happen meanwhile, is simulated in package cloud; here it is seen that a real process is no different.
func TestHetznerCrash(t *testing.T) {
	h := rent(t, cluster.Options{Nodes: []cluster.NodeOptions{{Name: "n1"}}}, "n1")
	// The next one leads at once, as a second replica would after the lease's 5 s.
	h.deploy(t, h.cloudConfig(h.account(), "name: bought, hetzner: {ephemeral: {types: [ipv4]}}"), clusterName, "--leader-elect=false")
	h.untainted(t)
	namespace := h.Namespace(t, "crash")

	steady := h.create(t, cluster.LoadBalancer(namespace, "steady"))
	kept := h.published(t, steady)
	for i, life := range lives {
		t.Run(life.name, func(t *testing.T) {
			purchases, releases := h.cloud.Purchases(ourProject), h.cloud.Releases(ourProject)
			service := cluster.LoadBalancer(namespace, fmt.Sprintf("web-%d", i))
			h.dies(t, life.creation, func() { service = h.create(t, service) })
			addr := h.published(t, service)
			h.answersFirst(t, addr)
			assert.Len(t, h.boughtFor(service), 1)
			assert.Equal(t, 1, h.cloud.Purchases(ourProject)-purchases, "it is bought once")
			require.NoError(t, h.answersAtOnce(t.Context(), kept))

			h.dies(t, life.ending, func() {
				require.NoError(t, h.Kube.CoreV1().Services(namespace).Delete(t.Context(), service.Name, metav1.DeleteOptions{}))
			})
			h.gone(t, service)
			assert.Empty(t, h.boughtFor(service))
			assert.Equal(t, 1, h.cloud.Purchases(ourProject)-purchases)
			assert.Equal(t, 1, h.cloud.Releases(ourProject)-releases)
			require.NoError(t, h.answersAtOnce(t.Context(), kept))
		})
	}

	t.Run("the Service goes while no controller runs, and none knows what was bought for it", func(t *testing.T) {
		service := cluster.LoadBalancer(namespace, "short")
		killed := h.kills(t, []death{{operationToBuy, hetznertest.AfterEffect}})
		service = h.create(t, service)
		killed()
		require.Len(t, h.boughtFor(service), 1)
		require.NoError(t, h.Kube.CoreV1().Services(namespace).Delete(t.Context(), service.Name, metav1.DeleteOptions{}))
		require.NoError(t, h.Controllers[0].Start())
		h.gone(t, service)
		assert.Empty(t, h.boughtFor(service))
	})

	h.publishes(t, steady, []netip.Addr{kept})
	assert.Len(t, h.boughtFor(steady), 1)
	require.NoError(t, h.answersAtOnce(t.Context(), kept))
}

// dies kills the controller at each moment and starts the next one.
func (h *rented) dies(t *testing.T, moments []death, begin func()) {
	t.Helper()
	killed := h.kills(t, moments)
	begin()
	for range moments {
		killed()
		require.NoError(t, h.Controllers[0].Start())
	}
}

// kills ends the controller when the first of the moments comes, and once there is another when the next one does. The
// returned function waits until it has happened once more.
func (h *rented) kills(t *testing.T, moments []death) (wait func()) {
	t.Helper()
	var mu sync.Mutex
	left := moments
	happened := make(chan death, len(moments))
	t.Cleanup(h.cloud.AddHook(func(stage hetznertest.Stage, call hetznertest.Call) bool {
		mu.Lock()
		defer mu.Unlock()
		if len(left) == 0 || (death{call.Operation, stage}) != left[0] {
			return false
		}
		if err := h.Controllers[0].Kill(); err != nil {
			t.Error(err)
		}
		happened <- left[0]
		left = left[1:]
		return true
	}))
	return func() {
		t.Helper()
		select {
		case moment := <-happened:
			t.Logf("killed %s", moment)
		case <-time.After(cluster.Guard):
			mu.Lock()
			defer mu.Unlock()
			require.FailNow(t, "no call came at which to kill the controller", "%v are left\n%s", left, h.Dump(t.Context()))
		}
	}
}
