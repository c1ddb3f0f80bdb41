package ledger

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// These are about accounts that come and go, and pools that go from one to another.

const (
	secondKey   = "api.example second"
	twoAccounts = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /token}
pools:
- name: bought
  hetzner: {ephemeral: {types: [ipv4, ipv6], maxAddresses: 4}}
  interface: pl0
- name: second
  hetzner: {tokenFile: /second, ephemeral: {types: [ipv4, ipv6], maxAddresses: 4}}
  interface: pl0
  autoAssign: false
- name: listed
  addresses: [198.51.100.1]
  hetzner: {}
  interface: pl0
`
)

// inventory is what a complete read of the project shows.
func (w *world) inventory() lb.Inventory {
	inv := lb.Inventory{Began: w.now, Servers: w.cloud.servers}
	for _, f := range w.cloud.ips {
		inv.FloatingIPs = append(inv.FloatingIPs, *f)
	}
	return inv
}

// moveAccounts gives pools other accounts; one that has no pool any more is not configured any more.
func (w *world) moveAccounts(of map[string]string) {
	w.rental.Accounts, w.rental.Orphans = of, map[string]bool{}
	for _, key := range of {
		w.rental.Orphans[key] = false
	}
	require.NoError(w.t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
}

// TestOrderGoesToOneAccount: a Service that names another pool before anything is bought gets nothing of the first
// pool's account: names are unique in one account only, and would not keep it from being bought in both.
func TestOrderGoesToOneAccount(t *testing.T) {
	for _, byConfig := range []bool{false, true} {
		w := newRentalWorld(t, twoAccounts, "n1")
		w.moveAccounts(map[string]string{"bought": projectKey, "listed": projectKey, "second": secondKey})
		w.ledger.Inventory(secondKey, w.inventory(), w.now)
		w.setNode("n1", func(n *lb.Node) { n.Cordoned = true })
		uid := w.create("web")
		w.settle()
		if byConfig {
			w.moveAccounts(map[string]string{"bought": secondKey, "listed": projectKey, "second": projectKey})
		} else {
			w.services[uid].Pool = "second"
		}
		w.settle()
		w.setNode("n1", func(n *lb.Node) { n.Cordoned = false })
		_, ok, _ := w.ledger.Next(projectKey, false, w.now)
		assert.False(t, ok)
		job, ok, _ := w.ledger.Next(secondKey, false, w.now)
		assert.True(t, ok, "%s", job)
	}
}

// TestCallsFollowTheAccount: what was to be done with one token is not done late, when that token is back and another has
// taken over.
func TestCallsFollowTheAccount(t *testing.T) {
	w := newRentalWorld(t, twoAccounts, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	w.cloud.fail = func(Job) *Fault { return &Fault{Kind: FaultTemporary, Message: "down"} }
	w.services[uid].wants = false
	w.settle()
	w.cloud.fail = nil
	both := map[string]string{"bought": projectKey, "listed": projectKey, "second": secondKey}
	w.moveAccounts(both)
	w.moveAccounts(map[string]string{"bought": secondKey, "listed": secondKey, "second": secondKey})
	w.pass(5 * time.Second)
	w.ledger.Inventory(secondKey, w.inventory(), w.now)
	w.moveAccounts(both)
	w.ledger.Inventory(projectKey, w.inventory(), w.now)
	w.pass(time.Minute)
	job, ok, _ := w.ledger.Next(projectKey, false, w.now)
	assert.False(t, ok, "%s", job)
	_, ok, _ = w.ledger.Next(secondKey, false, w.now)
	assert.True(t, ok)
}

// TestListedBecomesBareMetal: nothing is called any more about an address whose pool is not at the cloud any more.
func TestListedBecomesBareMetal(t *testing.T) {
	w := newRentalWorld(t, twoAccounts, "n1")
	w.cloud.add("198.51.100.1/32", 0)
	w.goOn()
	w.cloud.fail = func(Job) *Fault { return &Fault{Kind: FaultTemporary, Message: "down"} }
	w.create("web", func(r *lb.Request) { r.Pool = "listed" })
	w.settle()
	w.cfg = parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /token}
pools:
- name: bought
  hetzner: {ephemeral: {types: [ipv4, ipv6], maxAddresses: 4}}
  interface: pl0
- name: listed
  addresses: [198.51.100.1]
  interface: pl0
`)
	w.moveAccounts(map[string]string{"bought": projectKey})
	w.pass(time.Minute)
	_, ok, _ := w.ledger.Next(projectKey, false, w.now)
	assert.False(t, ok)
}

// TestPoolOfThatNameIsBareMetal: what was bought stays rented, and is routed and given back, when its pool's name is now
// that of a pool with other addresses.
func TestPoolOfThatNameIsBareMetal(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	w.cfg = parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /token}
pools:
- name: bought
  addresses: [192.0.2.10]
  interface: pl0
`)
	w.rental.Accounts = map[string]string{}
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.setNode(node, func(n *lb.Node) { n.Ready = lb.Unknown })
	w.objects[node].dead = true
	w.settle()
	require.Equal(t, addr, w.services[uid].published[0])
	assert.NotEqual(t, w.cloud.server(node), w.cloud.of(uid)[0].Server, "the traffic leaves the lost node")
	w.services[uid].wants = false
	w.settle()
	assert.Empty(t, w.cloud.ips)
	assert.NotContains(t, w.services, uid)
}

// TestAccountForgotten: an account in which nothing is held goes with all that it showed.
func TestAccountForgotten(t *testing.T) {
	w := newRentalWorld(t, twoAccounts, "n1")
	w.cloud.add("198.51.100.1/32", 0)
	w.goOn()
	w.moveAccounts(map[string]string{"bought": secondKey, "listed": secondKey, "second": secondKey})
	_, found, _ := w.ledger.ServerOf("n1")
	assert.False(t, found, "no account shows it any more")
	w.pass(5 * time.Second)
	w.ledger.Inventory(secondKey, w.inventory(), w.now)
	uid := w.create("web", func(r *lb.Request) { r.Pool = "listed" })
	w.ledger.Want(w.services[uid].Request, w.now)
	assert.Len(t, w.ledger.View(uid).Addresses, 1)
	_, found, _ = w.ledger.ServerOf("n1")
	assert.True(t, found)
}

// TestLateReadOfAnAccountThatIsGone: nobody carries out what is planned there, so it does not come back to life.
func TestLateReadOfAnAccountThatIsGone(t *testing.T) {
	w := newRentalWorld(t, twoAccounts, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	w.moveAccounts(map[string]string{"bought": secondKey, "listed": secondKey, "second": secondKey})
	w.pass(5 * time.Second)
	w.ledger.Inventory(projectKey, w.inventory(), w.now)
	w.ledger.AccountFailed(projectKey, lb.Refuse(lb.ReasonAccountUnavailable, "given up"), w.now)
	w.ledger.Inventory(secondKey, w.inventory(), w.now)
	w.services[uid].wants = false
	w.sync(uid)
	_, ok, _ := w.ledger.Next(secondKey, false, w.now)
	assert.True(t, ok)
}

// TestAccountLeftBehind: what went to another account does not have a Service that is deleted wait for the one before.
func TestAccountLeftBehind(t *testing.T) {
	w := newRentalWorld(t, twoAccounts, "n1")
	uid := w.create("web")
	w.settle()
	w.services[uid].Families, w.services[uid].FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.PreferDualStack
	w.restart()
	w.moveAccounts(map[string]string{"bought": secondKey, "listed": secondKey, "second": secondKey})
	w.pass(5 * time.Second)
	w.ledger.Inventory(secondKey, w.inventory(), w.now)
	assert.False(t, w.ledger.MayHold(uid))
}

// TestNotAtTheCloudAfterAll: what an account said of a pool's addresses does not count any more when the pool is not at
// the cloud, whether the account was read or not.
func TestNotAtTheCloudAfterAll(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		w := newRentalWorld(t, bought, "n1")
		w.goOn()
		if foreign {
			w.cloud.servers = []lb.Server{{ID: 1, Name: "somebody"}}
			w.goOn()
		}
		w.cfg = parse(t, `{apiVersion: mooring.dev/v1alpha1, kind: CloudConfig, pools: [{name: listed, addresses: [198.51.100.1], interface: pl0}]}`)
		w.moveAccounts(nil)
		uid := w.create("web")
		w.settle()
		w.served(uid)
	}
}

// TestDoubtEnds: what no account had when all were read is not in doubt again when one of them fails later, so a Service
// with nothing there is deleted at once.
func TestDoubtEnds(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web", func(r *lb.Request) { r.Pool = "nowhere" })
	w.restart()
	require.True(t, w.ledger.MayHold(uid))
	w.goOn()
	require.False(t, w.ledger.MayHold(uid))
	w.cloud.servers = []lb.Server{{ID: 1, Name: "somebody"}}
	w.goOn()
	w.services[uid].wants = false
	w.settle()
	assert.NotContains(t, w.services, uid)
}

// TestBareMetalIsReleased although an account cannot be read, also by a controller that finds its Service half deleted.
func TestBareMetalIsReleased(t *testing.T) {
	w := newRentalWorld(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
hetzner: {tokenFile: /token}
pools:
- name: office
  addresses: [192.0.2.10]
  interface: pl0
- name: bought
  hetzner: {ephemeral: {types: [ipv4]}}
  interface: pl0
`, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	w.cloud.servers = []lb.Server{{ID: 1, Name: "somebody"}}
	w.services[uid].wants = false
	w.restart()
	w.settle()
	assert.NotContains(t, w.services, uid)
}

// TestAccountIsBack: who put an account back is not told to put it back, but what is wrong with it now.
func TestAccountIsBack(t *testing.T) {
	w := newRentalWorld(t, twoAccounts, "n1")
	uid := w.create("web")
	w.settle()
	w.served(uid)
	was := map[string]string{"bought": projectKey, "listed": projectKey}
	w.moveAccounts(map[string]string{"bought": secondKey, "listed": secondKey})
	w.moveAccounts(was)
	w.ledger.AccountFailed(projectKey, lb.Refuse(lb.ReasonUnauthorized, "the token is void"), w.now)
	v := w.ledger.View(uid)
	require.NotNil(t, v.Refusal)
	assert.Contains(t, v.Refusal.Message, "void")
	w.goOn()
	assert.Nil(t, w.ledger.View(uid).Refusal)
}
