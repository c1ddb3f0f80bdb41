package cloud

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-base/metrics"
	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

const edgePool = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: edge
  updater: {urls: ["http://192.0.2.1:3000/api/v1/lb"], host: 192.0.2.1, portRange: {low: 8100, high: 8102}, verify: false}
`

const twoPools = edgePool + `
- name: other
  updater: {urls: ["http://192.0.2.2:3000/api/v1/lb"], host: 192.0.2.2, portRange: {low: 9100, high: 9102}, verify: false}
`

// newBalancedRoom is a room whose updaters all are the server.
func newBalancedRoom(t *testing.T, cfg *config.Config, server *updatertest.Server, nodes ...lb.Node) *room {
	client := fake.NewClientset()
	r := newRoom(Options{NoProbe: true,
		Client: client, Informers: informers.NewSharedInformerFactory(client, 0), Recorder: record.NewFakeRecorder(100),
		Metrics: metrics.NewKubeRegistry(), Clock: clock.RealClock{}, ClusterName: "test", Updater: server.Transport(),
	}, nil)
	r.synced, r.tenants.clusterUID = nil, "12345678-0000"
	l := ledger.New(cfg, ledger.Rental{}, 1)
	l.Adopt(ledger.Snapshot{Nodes: nodes}, time.Now())
	r.book.Store(l)
	require.NoError(t, r.balancers.follow(cfg))
	return r
}

func readyNode() lb.Node {
	return lb.Node{Name: "n1", UID: "n1", Ready: lb.Ready, TypedAddresses: []lb.NodeAddress{
		{Type: corev1.NodeInternalIP, Addr: netip.MustParseAddr("10.0.0.1")},
	}}
}

func parseConfig(t *testing.T, text string) *config.Config {
	cfg, err := config.Parse([]byte(text))
	require.NoError(t, err)
	return cfg
}

func wantedOn(pool string) lb.Request {
	return lb.Request{
		Ref: lb.Ref{Namespace: "default", Name: "web", UID: "web"}, Pool: pool, Families: []lb.Family{lb.IPv4}, FamilyPolicy: lb.SingleStack,
		Ports: []lb.Port{{Number: 80, Protocol: lb.TCP, NodePort: 30080}},
	}
}

// runBalancers has the workers make their calls until stop.
func runBalancers(t *testing.T, r *room) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	r.balancers.run(ctx)
	r.drain()
	return func() {
		cancel()
		r.working.Wait()
		r.stop()
		synctest.Wait()
	}
}

// pass lets time pass in the bubble, and everything that it brings.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func files(t *testing.T, server *updatertest.Server) int {
	all, err := server.Files()
	require.NoError(t, err)
	return len(all)
}

// TestPoolIsAddedWhileOthersDrain: what is wanted of a new pool is told, also when that was decided before it had a worker.
func TestPoolIsAddedWhileOthersDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := updatertest.New(updatertest.Options{})
		r := newBalancedRoom(t, parseConfig(t, edgePool), server, readyNode())
		defer runBalancers(t, r)()
		cfg := parseConfig(t, twoPools)
		require.NoError(t, r.ledger().SetConfig(cfg, ledger.Rental{}, time.Now()))
		r.ledger().Want(wantedOn("other"), time.Now())
		r.drain() // as any watch may do just then
		require.NoError(t, r.balancers.follow(cfg))
		pass(time.Minute)
		assert.Equal(t, 1, files(t, server))
		assert.True(t, r.ledger().View("web").Ready)
	})
}

// TestCallThatComesLate: a call that timed out, and has its effect after the backend was removed, leaves nothing behind.
func TestCallThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := updatertest.New(updatertest.Options{})
		r := newBalancedRoom(t, parseConfig(t, edgePool), server, readyNode())
		defer runBalancers(t, r)()
		pass(time.Minute) // the sweep is over
		server.BreakEach(func(c updatertest.Call) (f updatertest.Fault) {
			if c.Method == http.MethodPost {
				f.Delay = 15 * time.Second
			}
			return f
		})
		r.ledger().Want(wantedOn("edge"), time.Now())
		r.drain()
		pass(5 * time.Second)
		r.ledger().Unwant("web", time.Now())
		r.drain()
		pass(8 * time.Second)
		assert.False(t, r.ledger().Holds("web"))
		pass(time.Minute)
		assert.Zero(t, files(t, server))
	})
}

// TestNoCallAfterStop: the next leader has the updaters for itself.
func TestNoCallAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := updatertest.New(updatertest.Options{})
		r := newBalancedRoom(t, parseConfig(t, strings.Replace(edgePool, "8102", "9000", 1)), server)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.run(ctx)
		pass(time.Minute + 50*time.Millisecond)
		before := len(server.Calls())
		require.NotZero(t, before, "unused ports are being cleared")
		r.stop()
		pass(time.Hour)
		assert.Len(t, server.Calls(), before, "calls")
	})
}
