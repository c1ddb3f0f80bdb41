package ledger

import (
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
