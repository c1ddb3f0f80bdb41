package ledger

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// These are the moments at which a controller came that found half of the work done.

// TestBoundIsNotRouted: what is bound and was never published is not published before the account shows that it is
// routed.
func TestBoundIsNotRouted(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.cloud.fail = func(j Job) *Fault {
		if j.Op == OpAssign {
			return &Fault{Kind: FaultTemporary, Message: "down"}
		}
		return nil
	}
	uid := w.create("web")
	w.settle()
	require.Len(t, w.holders(w.cloud.of(uid)[0].Addr()), 1)
	w.restart()
	w.sync(uid)
	assert.Empty(t, w.services[uid].published)
	w.cloud.fail = nil
	w.goOn()
	w.served(uid)
}

// TestForeignProjectSaysNothing: what was bought for a Service that is being deleted, and of which no node knows any
// more, is not taken for gone because a foreign project does not have it.
func TestForeignProjectSaysNothing(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	w.services[uid].wants = false
	clear(w.objects)
	ips, servers := w.cloud.ips, w.cloud.servers
	w.cloud.ips, w.cloud.servers = map[int64]*lb.FloatingIP{}, []lb.Server{{ID: 1, Name: "somebody"}}
	w.restart()
	w.goOn()
	require.Contains(t, w.services, uid)
	w.cloud.ips, w.cloud.servers = ips, servers
	w.goOn()
	assert.NotContains(t, w.services, uid)
	assert.Empty(t, w.cloud.ips)
}

// TestRetainedIsTakenOffItsNode: also when no node knows of it any more.
func TestRetainedIsTakenOffItsNode(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web", func(r *lb.Request) { r.Retain = true })
	w.settle()
	w.served(uid)
	w.services[uid].wants = false
	clear(w.objects)
	w.restart()
	w.goOn()
	assert.NotContains(t, w.services, uid)
	require.Len(t, w.cloud.of(uid), 1)
	assert.Zero(t, w.cloud.of(uid)[0].Server)
}

// TestLateAssignOfWhatIsRetained: the call of an earlier controller has its effect when its Service is gone.
func TestLateAssignOfWhatIsRetained(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web", func(r *lb.Request) { r.Retain = true })
	w.settle()
	w.restart()
	w.services[uid].wants = false
	w.pass(5 * time.Second)
	w.settle()
	require.NotContains(t, w.services, uid)
	f := w.cloud.of(uid)[0]
	require.Zero(t, f.Server)
	f.Server = 100
	w.pass(5 * time.Second)
	w.settle()
	assert.Zero(t, f.Server)
	w.pass(10 * time.Minute)
	f.Server = 100
	w.goOn()
	assert.EqualValues(t, 100, f.Server, "that was somebody else")
}

// TestHalfIsNotPublished: a Service that requires both families is not published with the one that was bought for it when
// the pool is gone from which the other would come.
func TestHalfIsNotPublished(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	cfg, accounts := w.cfg, w.rental.Accounts
	w.cfg = parse(t, `{apiVersion: mooring.dev/v1alpha1, kind: CloudConfig, hetzner: {tokenFile: /token}, pools: [{name: office, addresses: [192.0.2.10], autoAssign: false, interface: pl0}]}`)
	w.rental.Accounts = map[string]string{}
	uid := w.create("web", func(r *lb.Request) {
		r.Families, r.FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.RequireDualStack
	})
	f := w.cloud.add("198.51.100.101/32", 0)
	f.Owner = lb.Owner{ClusterUID: "cluster", Cluster: "test", Service: w.services[uid].Ref, Pool: "bought"}
	w.restart()
	w.goOn()
	assert.Empty(t, w.services[uid].published)
	w.cfg, w.rental.Accounts = cfg, accounts
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.goOn()
	addr, _ := w.served(uid)
	assert.Equal(t, f.Addr(), addr)
}

// TestFirstNodeOpensItsAccount: an account in which nobody was known is read again when one of its servers turns out to
// be a Node, and not only with the slow loop.
func TestFirstNodeOpensItsAccount(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	n := w.nodes["n1"]
	delete(w.nodes, "n1")
	w.restart()
	w.goOn()
	w.pass(time.Minute)
	w.ledger.Drain()
	w.nodes["n1"] = n
	w.ledger.SetNode(n, w.now)
	assert.True(t, w.ledger.Drain().Reads[projectKey])
}

// TestNodeReplacedWhileDown: a Node that was made again under its name may run on another server, and what is still
// assigned to the one before is ours to move.
func TestNodeReplacedWhileDown(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	f := w.cloud.add("198.51.100.1/32", 0)
	w.goOn()
	uid := w.create("web", func(r *lb.Request) { r.Pool = "listed" })
	w.settle()
	w.served(uid)
	require.EqualValues(t, 100, f.Server)
	second := w.cloud.servers[0]
	second.ID = 200
	w.cloud.servers = append([]lb.Server(nil), w.cloud.servers...)
	w.cloud.servers[0].Name = "n1-old"
	w.cloud.servers = append(w.cloud.servers, second)
	n := w.nodes["n1"]
	n.UID = "another"
	w.nodes["n1"] = n
	w.objects["n1"].former = true
	w.restart()
	w.objects["n1"].former = false
	w.goOn()
	assert.EqualValues(t, 200, f.Server)
}

// TestHalfIsNotWithdrawn: what is published stays when one half of it is not found at first, whatever keeps the account
// from being looked at.
func TestHalfIsNotWithdrawn(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web", func(r *lb.Request) {
		r.Families, r.FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.RequireDualStack
	})
	w.settle()
	w.served(uid)
	published := w.services[uid].published
	for _, o := range w.objects { // no node knows of the IPv4 address
		o.entries = slices.DeleteFunc(o.entries, func(e EntryView) bool { return e.Addr.Is4() })
	}
	w.cfg = parse(t, `{apiVersion: mooring.dev/v1alpha1, kind: CloudConfig, hetzner: {tokenFile: /token}, pools: [{name: office, addresses: [192.0.2.10], autoAssign: false, interface: pl0}]}`)
	w.rental.Accounts = map[string]string{}
	w.restart()
	w.sync(uid)
	assert.Equal(t, published, w.services[uid].published)
	w.goOn()
	assert.Equal(t, published, w.services[uid].published)
	assert.Len(t, w.cloud.of(uid), 2)
}

// TestForeignAccountHoldsUpItsOwn: an account that is somebody else's holds up the deletion of those Services alone for
// which something may have been bought in it, were its token right.
func TestForeignAccountHoldsUpItsOwn(t *testing.T) {
	w := newRentalWorld(t, bought+`
- name: strange
  autoAssign: false
  hetzner: {tokenFile: /strange, ephemeral: {types: [ipv4]}}
  interface: pl0
`, "n1")
	w.rental.Accounts["strange"], w.rental.Orphans["strange"] = "strange", false
	web := w.create("web")
	strange := w.create("strange", func(r *lb.Request) { r.Pool = "strange" })
	w.restart()
	w.ledger.Inventory("strange", lb.Inventory{Began: w.now, Servers: []lb.Server{{ID: 1, Name: "somebody"}}}, w.now)
	w.goOn()
	w.served(web)
	for _, uid := range []string{web, strange} {
		w.services[uid].wants = false
	}
	w.goOn()
	assert.NotContains(t, w.services, web)
	assert.Contains(t, w.services, strange, "it may have something there")
}

// TestPublishedUntilItsSuccessorIs: a Service that is to have another address keeps the bought one that it publishes, also
// when only the account knows of that.
func TestPublishedUntilItsSuccessorIs(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	f := w.cloud.add("198.51.100.1/32", 0)
	w.goOn()
	uid := w.create("web")
	w.settle()
	addr, _ := w.served(uid)
	w.setNode("n1", func(n *lb.Node) { n.Ready = lb.Unknown })
	w.services[uid].Pool = "listed"
	clear(w.objects)
	w.restart()
	w.sync(uid) // before the account is read
	w.goOn()
	assert.Equal(t, []netip.Addr{addr}, w.services[uid].published)
	require.Len(t, w.cloud.of(uid), 1)
	w.setNode("n1", func(n *lb.Node) { n.Ready = lb.Ready })
	w.goOn()
	now, _ := w.served(uid)
	assert.Equal(t, f.Addr(), now)
	assert.Empty(t, w.cloud.of(uid))
}
