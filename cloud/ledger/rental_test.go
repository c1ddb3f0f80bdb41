package ledger

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

func TestBoughtAddress(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	require.Len(t, w.cloud.of(uid), 1)
	f := w.cloud.of(uid)[0]
	assert.Equal(t, f.Addr(), addr)
	assert.Equal(t, w.cloud.server(node), f.Server, "the traffic goes where the address is bound")
	assert.Equal(t, lb.Owner{ClusterUID: "cluster", Cluster: "test", Service: w.services[uid].Ref, Pool: "bought"}, f.Owner)
	assert.Equal(t, []string{"buy", "assign"}, w.cloud.calls, "a purchase costs two calls")

	w.cloud.calls = nil
	w.setNode(node, func(n *lb.Node) { n.Ready = lb.Unknown })
	w.objects[node].dead = true
	w.settle()
	assert.NotEqual(t, w.cloud.server(node), f.Server, "the traffic leaves the lost node")
	assert.Equal(t, []string{"assign"}, w.cloud.calls)

	w.cloud.calls = nil
	w.services[uid].wants = false
	w.settle()
	assert.NotContains(t, w.services, uid, "a lost node does not hold up the deletion: the routing is the fence")
	assert.Empty(t, w.cloud.ips)
	assert.Equal(t, []string{"unassign", "delete"}, w.cloud.calls)
}

func TestBoughtAddressesOfBothFamilies(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web", func(r *lb.Request) {
		r.Families, r.FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.RequireDualStack
	})
	w.settle()
	w.served(uid)
	assert.Len(t, w.cloud.of(uid), 2)
	w.restart()
	w.settle()
	w.pass(5 * time.Second)
	w.settle()
	assert.Equal(t, 2, w.cloud.bought, "a restart buys nothing")
	w.served(uid)
}

func TestRetainedAddress(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.services[uid].Retain = true
	w.settle()
	assert.True(t, w.cloud.of(uid)[0].Owner.Retain, "written to the cloud at once")
	w.services[uid].wants = false
	w.settle()
	assert.NotContains(t, w.services, uid)
	require.Len(t, w.cloud.of(uid), 1, "it outlives its Service")
	assert.Zero(t, w.cloud.of(uid)[0].Server)
}

func TestProtectedAddress(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.cloud.of(uid)[0].Protected = true
	w.services[uid].wants = false
	w.settle()
	assert.NotContains(t, w.services, uid)
	require.Len(t, w.cloud.of(uid), 1)
	assert.True(t, w.cloud.of(uid)[0].Owner.Retain, "it says of itself that it is kept")
	assert.Zero(t, w.cloud.of(uid)[0].Server)
}

func TestUnprovenAccount(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)

	servers := w.cloud.servers
	ips := w.cloud.ips
	w.cloud.servers, w.cloud.ips = []lb.Server{{ID: 1, Name: "somebody"}}, map[int64]*lb.FloatingIP{}
	w.restart()
	other := w.create("other")
	w.settle()
	w.pass(5 * time.Second)
	w.settle()
	again, at := w.served(uid)
	assert.Equal(t, addr, again, "what seems to be gone in a foreign project is not")
	assert.Equal(t, node, at)
	v := w.ledger.View(other)
	require.NotNil(t, v.Refusal)
	assert.Equal(t, lb.ReasonAccountMismatch, v.Refusal.Reason)
	w.services[uid].wants = false
	w.settle()
	assert.Contains(t, w.services, uid, "nothing is released there")

	w.cloud.servers, w.cloud.ips = servers, ips
	w.pass(5 * time.Second)
	w.settle()
	w.pass(5 * time.Second)
	w.settle()
	assert.NotContains(t, w.services, uid)
	w.served(other)
	assert.Len(t, w.cloud.ips, 1)
}

func TestLostAddressIsNotReplaced(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	addr, _ := w.served(uid)
	clear(w.cloud.ips)
	w.restart()
	w.settle()
	w.pass(5 * time.Second)
	w.settle()
	v := w.ledger.View(uid)
	require.NotNil(t, v.Waiting, "%+v", v)
	assert.Equal(t, lb.ReasonAddressLost, v.Waiting.Reason)
	assert.Equal(t, addr, v.Addresses[0].Addr)
	assert.Equal(t, 1, w.cloud.bought)
	w.services[uid].wants = false
	w.settle()
	assert.NotContains(t, w.services, uid)
}

func TestListedAddress(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	elsewhere := w.cloud.add("198.51.100.1/32", 999)
	w.cloud.servers = append(w.cloud.servers, lb.Server{ID: 999, Name: "database"})
	mine := w.cloud.add("198.51.100.2/32", 0)
	six := w.cloud.add("2001:db8:9:1::/64", 0)
	w.pass(5 * time.Second)
	w.settle()
	uid := w.create("web", func(r *lb.Request) {
		r.Pool, r.Families, r.FamilyPolicy = "listed", []lb.Family{lb.IPv4, lb.IPv6}, lb.RequireDualStack
	})
	w.settle()
	addr, _ := w.served(uid)
	assert.Equal(t, mine.Addr(), addr, "the one that serves somebody else is passed over")
	assert.EqualValues(t, 999, elsewhere.Server)
	assert.NotZero(t, six.Server)

	w.services[uid].wants = false
	w.settle()
	assert.Len(t, w.cloud.ips, 3, "what is listed is never deleted")
	assert.Zero(t, mine.Server)
	assert.Zero(t, six.Server)
	assert.Equal(t, 0, w.cloud.bought)
}

func TestListingTakesOver(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	require.Equal(t, "198.51.100.101", addr.String())
	w.cfg = parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /token}
pools:
- name: bought
  hetzner: {ephemeral: {types: [ipv4, ipv6], maxAddresses: 4}}
  interface: pl0
- name: listed
  addresses: [198.51.100.101]
  hetzner: {}
  interface: pl0
`)
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.settle()
	again, at := w.served(uid)
	assert.Equal(t, addr, again)
	assert.Equal(t, node, at)
	assert.Equal(t, []string{"buy", "assign", "label"}, w.cloud.calls)
	for _, f := range w.cloud.ips {
		assert.Zero(t, f.Owner, "it is nobody's purchase any more")
	}
	w.services[uid].wants = false
	w.settle()
	assert.Len(t, w.cloud.ips, 1, "and outlives the Service")
	assert.NotContains(t, w.services, uid)
}

func TestMaxAddresses(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	var uids []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		uids = append(uids, w.create(name))
	}
	w.settle()
	assert.Equal(t, 4, w.cloud.bought)
	assert.Equal(t, lb.ReasonPoolExhausted, w.ledger.View(uids[4]).Refusal.Reason)
	w.services[uids[0]].wants = false
	w.settle()
	w.served(uids[4])
	assert.Len(t, w.cloud.ips, 4)
}

func TestAnswerLost(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	w.cloud.fail = func(j Job) *Fault {
		if j.Op == OpBuy {
			w.cloud.buy(j.Order)
			w.cloud.fail = nil
			return &Fault{Kind: FaultUnknown, Message: "cut"}
		}
		return nil
	}
	uid := w.create("web")
	w.settle()
	w.services[uid].wants = false
	w.settle()
	assert.Contains(t, w.services, uid, "something may have been bought")
	w.pass(time.Minute)
	w.settle()
	assert.NotContains(t, w.services, uid)
	assert.Empty(t, w.cloud.ips)
}

// TestListsLag: what a read shows that began before a change is not believed.
func TestListsLag(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	stale := *w.cloud.of(uid)[0]
	w.setNode(node, func(n *lb.Node) { n.Ready = lb.Unknown })
	w.settle()
	w.cloud.calls = nil
	w.ledger.Inventory(projectKey, lb.Inventory{Began: w.now, FloatingIPs: []lb.FloatingIP{stale}}, w.now)
	w.ledger.Inventory(projectKey, lb.Inventory{Began: w.now}, w.now)
	w.settle()
	assert.Empty(t, w.cloud.calls, "neither the old server nor the absence is believed")
	again, _ := w.served(uid)
	assert.Equal(t, addr, again)
}

// TestLateAssignIsNoticed: a call of a controller that does not lead any more takes effect late, and a read shows it.
func TestLateAssignIsNoticed(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web")
	w.settle()
	_, node := w.served(uid)
	w.pass(5 * time.Second)
	w.cloud.of(uid)[0].Server = 100 + 101 - w.cloud.server(node)
	w.settle()
	assert.Equal(t, w.cloud.server(node), w.cloud.of(uid)[0].Server)
}

// TestStatusAloneRemembers: the NodeAddresses are gone, and the Floating IP too: nothing is bought in its place.
func TestStatusAloneRemembers(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	clear(w.cloud.ips)
	clear(w.objects)
	w.restart()
	w.goOn()
	v := w.ledger.View(uid)
	require.NotNil(t, v.Waiting)
	assert.Equal(t, lb.ReasonAddressLost, v.Waiting.Reason)
	assert.Equal(t, 1, w.cloud.bought)
}

// TestBoughtIsFoundAgain: by its labels, without asking for it.
func TestBoughtIsFoundAgain(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	addr, _ := w.served(uid)
	clear(w.objects)
	w.services[uid].published = nil
	w.cloud.calls = nil
	w.pass(5 * time.Second)
	w.restart()
	w.goOn()
	again, _ := w.served(uid)
	assert.Equal(t, addr, again)
	assert.NotContains(t, w.cloud.calls, "buy")
}

// TestBindBeforeRoute: traffic goes to a node only when it has the address bound.
func TestBindBeforeRoute(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.objects["n1"].broken = true
	uid := w.create("web")
	w.settle()
	assert.Equal(t, []string{"buy"}, w.cloud.calls)
	assert.Empty(t, w.services[uid].published)
	w.objects["n1"].broken = false
	w.goOn()
	w.served(uid)
}

// TestNothingIsBoughtInVain: no purchase without a node that could carry the address.
func TestNothingIsBoughtInVain(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.setNode("n1", func(n *lb.Node) { n.Cordoned = true })
	uid := w.create("web")
	w.settle()
	assert.Empty(t, w.cloud.calls)
	require.NotNil(t, w.ledger.View(uid).Waiting)
	assert.Equal(t, lb.ReasonNoEligibleNode, w.ledger.View(uid).Waiting.Reason)
	w.setNode("n1", func(n *lb.Node) { n.Cordoned = false })
	w.settle()
	w.served(uid)
}

// TestGhostIsRetained: the Service is gone by force, and only the label says that its address is to be kept.
func TestGhostIsRetained(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web", func(r *lb.Request) { r.Retain = true })
	w.settle()
	w.served(uid)
	delete(w.services, uid)
	w.restart()
	w.goOn()
	require.Len(t, w.cloud.of(uid), 1)
	assert.Zero(t, w.cloud.of(uid)[0].Server)
}

// TestAssignWithoutAnswer: whether it was done is looked at before anything else is.
func TestAssignWithoutAnswer(t *testing.T) {
	for _, done := range []bool{true, false} {
		w := newRentalWorld(t, bought, "n1")
		w.cloud.fail = func(j Job) *Fault {
			if j.Op != OpAssign {
				return nil
			}
			if done {
				w.cloud.ips[j.ID].Server = j.Server
			}
			w.cloud.fail = nil
			return &Fault{Kind: FaultUnknown, Message: "cut"}
		}
		uid := w.create("web")
		w.settle()
		w.pass(time.Second)
		w.settle()
		w.served(uid)
		want := []string{"buy", "assign", "look"}
		if !done {
			want = append(want, "assign")
		}
		assert.Equal(t, want, w.cloud.calls)
	}
}

// TestListedAndBought: a bought address that nobody holds and a pool lists belongs to the pool.
func TestListedAndBought(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	f := w.cloud.add("198.51.100.1/32", 100)
	f.Owner = lb.Owner{ClusterUID: "cluster", Service: lb.Ref{Namespace: "default", Name: "old", UID: "old"}, Pool: "bought"}
	w.goOn()
	assert.Zero(t, f.Owner)
	assert.Zero(t, f.Server)
	assert.Contains(t, w.cloud.ips, f.ID)
}

// TestOrphans: what was bought for nobody is told of, and given back only when that is asked for.
func TestOrphans(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	orphan := w.cloud.add("198.51.100.50/32", 100)
	orphan.Owner = lb.Owner{ClusterUID: "cluster", Service: lb.Ref{Namespace: "default", Name: "old", UID: "old"}, Pool: "bought"}
	foreign := w.cloud.add("198.51.100.51/32", 100)
	foreign.Owner = lb.Owner{ClusterUID: "another", Service: lb.Ref{Namespace: "default", Name: "old", UID: "old"}, Pool: "bought"}
	kept := w.cloud.add("198.51.100.52/32", 0)
	kept.Owner = orphan.Owner
	kept.Owner.Retain = true

	w.goOn()
	w.goOn()
	assert.Len(t, w.cloud.ips, 3)
	assert.Equal(t, 1, w.ledger.Stats().Accounts[0].Orphans)

	w.rental.Orphans[projectKey] = true
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.goOn()
	assert.NotContains(t, w.cloud.ips, orphan.ID)
	assert.Contains(t, w.cloud.ips, foreign.ID, "another cluster's")
	assert.EqualValues(t, 100, foreign.Server)
	assert.Contains(t, w.cloud.ips, kept.ID)
}

// TestServerRenamed moves nothing, also over a restart; a deleted one loses what it had.
func TestServerRenamed(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web")
	w.settle()
	_, node := w.served(uid)
	for i := range w.cloud.servers {
		w.cloud.servers[i].Name = "renamed"
	}
	w.restart()
	w.goOn()
	_, again := w.served(uid)
	assert.Equal(t, node, again)

	w.cloud.servers = append([]lb.Server(nil), w.cloud.servers...)
	for i, s := range w.cloud.servers {
		if s.ID == w.cloud.server(node) || s.ID == w.cloud.of(uid)[0].Server {
			w.cloud.servers = append(w.cloud.servers[:i], w.cloud.servers[i+1:]...)
			break
		}
	}
	w.cloud.of(uid)[0].Server = 0
	w.goOn()
	addr := w.services[uid].published[0]
	assert.NotEqual(t, []string{node}, w.holders(addr))
	assert.NotZero(t, w.cloud.of(uid)[0].Server)
}

// TestHeldElsewhere: a listed address that somebody moved to his own server stays there.
func TestHeldElsewhere(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	f := w.cloud.add("198.51.100.2/32", 0)
	w.goOn()
	uid := w.create("web", func(r *lb.Request) { r.Pool = "listed" })
	w.settle()
	w.served(uid)
	w.cloud.servers = append(w.cloud.servers, lb.Server{ID: 999, Name: "database"})
	f.Server = 999
	w.goOn()
	assert.EqualValues(t, 999, f.Server)
	require.NotNil(t, w.ledger.View(uid).Waiting)
	assert.Equal(t, lb.ReasonHeldElsewhere, w.ledger.View(uid).Waiting.Reason)
	f.Server = 0
	w.goOn()
	assert.EqualValues(t, 100, f.Server, "what nobody has is taken again")
}

// TestAbandon: a Service goes although the cloud does not answer, and says what it leaves.
func TestAbandon(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.cloud.fail = func(Job) *Fault { return &Fault{Kind: FaultTemporary, Message: "down"} }
	w.services[uid].wants = false
	w.goOn()
	require.Contains(t, w.services, uid)
	assert.Len(t, w.ledger.Abandon(uid, w.now), 1)
	w.settle()
	assert.NotContains(t, w.services, uid)
}

// TestMoveBetweenBuyingPools: a Service that has a bought address keeps it, and is told why it gets no other.
func TestMoveBetweenBuyingPools(t *testing.T) {
	w := newRentalWorld(t, bought+`
- name: other
  hetzner: {ephemeral: {types: [ipv4]}}
  autoAssign: false
  interface: pl0
`, "n1")
	uid := w.create("web")
	w.settle()
	addr, _ := w.served(uid)
	w.services[uid].Pool = "other"
	w.goOn()
	again, _ := w.served(uid)
	assert.Equal(t, addr, again)
	assert.Equal(t, []string{"buy", "assign"}, w.cloud.calls)
	v := w.ledger.View(uid)
	require.NotNil(t, v.Refusal)
	assert.Equal(t, lb.ReasonNameTaken, v.Refusal.Reason)
	assert.True(t, v.Ready)
	w.services[uid].wants = false
	w.goOn()
	assert.Empty(t, w.cloud.ips)
}

// TestMoveToAnotherPool: from a list to a purchase and back, published before the old address goes.
func TestMoveToAnotherPool(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	f := w.cloud.add("198.51.100.1/32", 0)
	w.goOn()
	uid := w.create("web", func(r *lb.Request) { r.Pool = "listed" })
	w.settle()
	w.served(uid)
	w.services[uid].Pool = "bought"
	w.goOn()
	addr, _ := w.served(uid)
	assert.Equal(t, w.cloud.of(uid)[0].Addr(), addr)
	assert.Zero(t, f.Server)
	w.services[uid].Pool = "listed"
	w.goOn()
	addr, _ = w.served(uid)
	assert.Equal(t, f.Addr(), addr)
	assert.Len(t, w.cloud.ips, 1)
}

// TestUnreadAccountPublishesNothing: a new controller that cannot see yet whether an address is routed tells nobody of
// it, and leaves what everybody knows.
func TestUnreadAccountPublishesNothing(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	known := w.create("known")
	w.settle()
	addr, _ := w.served(known)
	w.cloud.fail = func(j Job) *Fault {
		if j.Op == OpAssign {
			return &Fault{Kind: FaultTemporary, Message: "locked"}
		}
		return nil
	}
	fresh := w.create("fresh")
	w.settle()
	require.Len(t, w.cloud.of(fresh), 1)
	require.Empty(t, w.services[fresh].published)

	w.epoch++
	w.ledger = New(w.cfg, w.rental, w.epoch)
	w.ledger.Adopt(w.snapshot(), w.now)
	for uid := range w.services {
		w.sync(uid)
	}
	assert.False(t, w.ledger.View(fresh).Ready, "it is bound, and may not be routed")
	assert.Empty(t, w.services[fresh].published)
	assert.Equal(t, []netip.Addr{addr}, w.services[known].published)
	assert.True(t, w.ledger.View(known).Ready)
}

// TestNewTokenIsTriedAtOnce: what a token was not good for is not put off when another one is in use.
func TestNewTokenIsTriedAtOnce(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.cloud.fail = func(Job) *Fault { return &Fault{Kind: FaultUnauthorized, Message: "token_readonly"} }
	uid := w.create("web")
	w.settle()
	require.Equal(t, []string{"buy"}, w.cloud.calls)
	require.Equal(t, lb.ReasonUnauthorized, w.ledger.View(uid).Waiting.Reason)
	w.cloud.fail = nil
	w.settle()
	require.Equal(t, []string{"buy"}, w.cloud.calls, "only a person ends it")
	w.ledger.TokenChanged(projectKey, w.now)
	w.settle()
	w.served(uid)

	w.cloud.fail = func(Job) *Fault { return &Fault{Kind: FaultUnauthorized, Message: "token_readonly"} }
	w.services[uid].wants = false
	w.settle()
	require.Contains(t, w.services, uid)
	w.cloud.fail = nil
	w.ledger.TokenChanged(projectKey, w.now)
	w.settle()
	assert.NotContains(t, w.services, uid)
	assert.Empty(t, w.cloud.ips)
}

// TestDeletedByHand: a bought address that is deleted at the cloud is asked for once, and is then known to be lost.
func TestDeletedByHand(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	clear(w.cloud.ips)
	w.cloud.calls = nil
	w.goOn()
	assert.Equal(t, []string{"look"}, w.cloud.calls)
	require.NotNil(t, w.ledger.View(uid).Waiting)
	assert.Equal(t, lb.ReasonAddressLost, w.ledger.View(uid).Waiting.Reason)
}

// TestNodeThatJoinsIsLookedFor: before the account was read once more, nobody knows whether it is a server.
func TestNodeThatJoinsIsLookedFor(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.pass(time.Minute)
	addr := netip.MustParseAddr("203.0.113.77")
	w.cloud.servers = append(w.cloud.servers, lb.Server{ID: 177, Name: "n7", Networks: []netip.Prefix{netip.PrefixFrom(addr, 32)}})
	w.nodes["n7"] = lb.Node{Name: "n7", UID: "uid-n7", Ready: lb.Ready, Addresses: []netip.Addr{addr}}
	w.ledger.SetNode(w.nodes["n7"], w.now)
	_, found, read := w.ledger.ServerOf("n7")
	assert.False(t, found)
	assert.False(t, read)
	assert.True(t, w.ledger.Drain().Reads[projectKey], "the account is asked")
	w.pass(time.Second)
	w.cloud.read(w)
	server, found, _ := w.ledger.ServerOf("n7")
	assert.True(t, found)
	assert.EqualValues(t, 177, server.ID)
}

// TestAccountCountsOnlyWhileProven: a list without any of our servers is not believed, and nothing is done there.
func TestAccountCountsOnlyWhileProven(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	servers := w.cloud.servers
	w.cloud.servers = []lb.Server{{ID: 1, Name: "somebody"}}
	w.pass(5 * time.Second)
	w.settle()
	w.cloud.calls = nil
	w.services[uid].wants = false
	w.settle()
	assert.Empty(t, w.cloud.calls)
	assert.Contains(t, w.services, uid)
	w.cloud.servers = servers
	w.goOn()
	assert.NotContains(t, w.services, uid)
}

// TestTakeover: what another cluster bought and assigned belongs to the pool when that takes over.
func TestTakeover(t *testing.T) {
	w := newRentalWorld(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /token}
pools:
- name: listed
  addresses: [198.51.100.1]
  autoAssign: true
  hetzner: {takeover: true}
  interface: pl0
`, "n1")
	f := w.cloud.add("198.51.100.1/32", 999)
	f.Owner = lb.Owner{ClusterUID: "another", Service: lb.Ref{Namespace: "default", Name: "old", UID: "old"}, Pool: "bought"}
	w.goOn()
	uid := w.create("web")
	w.goOn()
	w.served(uid)
	assert.EqualValues(t, 100, f.Server)
	assert.Zero(t, f.Owner)
	w.services[uid].wants = false
	w.goOn()
	assert.Zero(t, f.Server)
	assert.Len(t, w.cloud.ips, 1)
}

// TestServerDeleted: that a server is gone shows when something is to be assigned to it, and is not tried over and over.
func TestServerDeleted(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	w.cloud.fail = func(j Job) *Fault {
		if j.Op == OpAssign {
			return &Fault{Kind: FaultNotFound, Message: "no such server"}
		}
		return nil
	}
	w.ledger.Drain()
	w.create("web")
	w.settle()
	assert.True(t, w.ledger.NeedsServers(projectKey))
	assert.True(t, w.ledger.Drain().Reads[projectKey])
	w.cloud.calls = nil
	w.cloud.lastRead = w.now.Add(time.Hour) // no answer to that
	for range 60 {
		w.pass(time.Second)
		w.settle()
	}
	assert.Less(t, len(w.cloud.calls), 15, "%v", w.cloud.calls)
}

// TestNodeReplaced: another Node on another server of the same name is not taken to run on the server that is gone, also
// when all servers of the cluster were replaced.
func TestNodeReplaced(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	w.cloud.servers = append([]lb.Server(nil), w.cloud.servers...)
	w.cloud.servers[0].ID = 200
	w.cloud.of(uid)[0].Server = 0
	n := w.nodes["n1"]
	w.removeNode("n1")
	w.settle()
	delete(w.objects, "n1")
	n.UID = "another"
	w.nodes["n1"] = n
	w.ledger.SetNode(n, w.now)
	w.goOn()
	assert.EqualValues(t, 200, w.cloud.of(uid)[0].Server)
}

// TestRateLimitKeepsTheOrder: whoever was refused by the rate limit is not overtaken by younger ones.
func TestRateLimitKeepsTheOrder(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.cloud.fail = func(Job) *Fault {
		return &Fault{Kind: FaultRateLimited, Message: "limit", RetryAt: w.now.Add(time.Minute)}
	}
	first := w.create("first")
	w.settle()
	w.cloud.fail = nil
	w.create("second")
	w.settle()
	assert.Equal(t, []string{"buy"}, w.cloud.calls, "not before the time")
	w.now = w.now.Add(time.Minute)
	job, ok, _ := w.ledger.Next(projectKey, false, w.now)
	require.True(t, ok)
	assert.Equal(t, first, job.Order.Service.UID)
}

// TestListedByABareMetalPool: whoever bought it, an address that stands in a pool's list is not deleted.
func TestListedByABareMetalPool(t *testing.T) {
	w := newRentalWorld(t, bought+`
- name: office
  addresses: [198.51.100.50]
  interface: pl0
`, "n1")
	f := w.cloud.add("198.51.100.50/32", 0)
	f.Owner = lb.Owner{ClusterUID: "cluster", Service: lb.Ref{Namespace: "default", Name: "old", UID: "old"}, Pool: "bought"}
	w.rental.Orphans[projectKey] = true
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.goOn()
	w.goOn()
	assert.Contains(t, w.cloud.ips, f.ID)
}

// TestReclaimPolicyRetain: what a pool keeps is labelled so when it is bought, and outlives its Service.
func TestReclaimPolicyRetain(t *testing.T) {
	w := newRentalWorld(t, strings.Replace(bought, "maxAddresses: 4", "maxAddresses: 4, reclaimPolicy: Retain", 1), "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	require.Len(t, w.cloud.of(uid), 1)
	assert.True(t, w.cloud.of(uid)[0].Owner.Retain)
	assert.Equal(t, []string{"buy", "assign"}, w.cloud.calls, "labelled at the purchase, and not after it")
	w.services[uid].wants = false
	w.settle()
	assert.NotContains(t, w.services, uid)
	require.Len(t, w.cloud.of(uid), 1)
	assert.Zero(t, w.cloud.of(uid)[0].Server)
}
