package ledger

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// next takes a call out, which has to be of the given kind.
func (w *world) next(op Op) Job {
	job, ok, _ := w.ledger.Next(projectKey, false, w.now)
	require.True(w.t, ok)
	require.Equal(w.t, op, job.Op)
	return job
}

// TestNodeWakesBuyers: what waits for a node is bought when there is one, and not when the account is read next.
func TestNodeWakesBuyers(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	w.setNode("n1", func(n *lb.Node) { n.Cordoned = true })
	w.create("web")
	w.settle()
	w.ledger.Drain()
	w.setNode("n1", func(n *lb.Node) { n.Cordoned = false })
	assert.True(t, w.ledger.Drain().Accounts[projectKey])
	w.next(OpBuy)
}

// TestWantedAgainWhileDeleted: the Service has neither the address that is deleted nor, with no node for it, another.
func TestWantedAgainWhileDeleted(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web")
	w.settle()
	w.services[uid].wants = false
	w.sync(uid)
	w.write("n1")
	w.work("n1")
	job := w.next(OpUnassign)
	w.ledger.Done(job, w.cloud.call(job), w.now)
	job = w.next(OpDelete)
	w.setNode("n1", func(n *lb.Node) { n.Cordoned = true })
	w.services[uid].wants, w.services[uid].published = true, nil // a change of type clears the status
	w.sync(uid)
	w.ledger.Done(job, w.cloud.call(job), w.now)
	v := w.ledger.View(uid)
	assert.Empty(t, v.Addresses)
	assert.False(t, v.Ready)
	w.setNode("n1", func(n *lb.Node) { n.Cordoned = false })
	w.goOn()
	w.served(uid)
	assert.Len(t, w.cloud.ips, 1)
}

// TestNothingIsBoughtBeyondTheConfig: a purchase that waits for its turn is not made when the reload of a moment ago
// leaves no room for it, or no pool.
func TestNothingIsBoughtBeyondTheConfig(t *testing.T) {
	for _, text := range []string{
		`{apiVersion: mooring.dev/v1alpha1, kind: CloudConfig, hetzner: {tokenFile: /token}, pools: [{name: bought, hetzner: {ephemeral: {types: [ipv4], maxAddresses: 1}}, interface: pl0}]}`,
		`{apiVersion: mooring.dev/v1alpha1, kind: CloudConfig, hetzner: {tokenFile: /token}, pools: [{name: office, addresses: [192.0.2.10], autoAssign: false, interface: pl0}]}`,
	} {
		w := newRentalWorld(t, bought, "n1")
		for _, name := range []string{"a", "b", "c"} {
			w.sync(w.create(name))
		}
		w.next(OpBuy)
		w.cfg = parse(t, text)
		require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
		job, ok, _ := w.ledger.Next(projectKey, false, w.now)
		assert.False(t, ok, "%s", job)
	}
}

// TestHomeIsThatOfTheNodeThatIsChosenNow, and not of the one that was when the purchase first came up and had to wait.
func TestHomeIsThatOfTheNodeThatIsChosenNow(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	w.cloud.servers[1].Location = "hel1"
	w.goOn()
	w.setNode("n2", func(n *lb.Node) { n.Cordoned = true })
	for _, name := range []string{"first", "second"} {
		w.sync(w.create(name))
	}
	assert.Equal(t, "fsn1", w.next(OpBuy).Order.Location)
	w.setNode("n2", func(n *lb.Node) { n.Cordoned = false })
	w.setNode("n1", func(n *lb.Node) { n.Cordoned = true })
	assert.Equal(t, "hel1", w.next(OpBuy).Order.Location)
}

// TestBothAreFoundAgain: of two addresses that were bought before, none is ordered again, not even for a moment.
func TestBothAreFoundAgain(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	uid := w.create("web", func(r *lb.Request) {
		r.Families, r.FamilyPolicy, r.Retain = []lb.Family{lb.IPv4, lb.IPv6}, lb.RequireDualStack, true
	})
	w.settle()
	w.services[uid].wants, w.services[uid].published = false, nil
	request := w.services[uid].Request
	w.settle()
	require.NotContains(t, w.services, uid)
	require.Len(t, w.cloud.ips, 2)
	w.services[uid] = &svc{Request: request, wants: true} // its type changes twice
	w.sync(uid)
	assert.Len(t, w.ledger.View(uid).Addresses, 2)
	assert.Empty(t, w.ledger.orders)
	w.settle()
	w.served(uid)
	assert.Equal(t, 2, w.cloud.bought)
	assert.Len(t, w.cloud.ips, 2)
}

// TestRefusedByTheRateLimitKeepsItsPlace: however often the oldest is refused, a younger one is not bought for before it.
func TestRefusedByTheRateLimitKeepsItsPlace(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	oldest := w.create("oldest")
	w.sync(oldest)
	for range 10 {
		job := w.next(OpBuy)
		w.ledger.Done(job, Answer{Fault: &Fault{Kind: FaultRateLimited, Message: "used up", RetryAt: w.now.Add(time.Second)}}, w.now)
		w.pass(time.Second)
	}
	w.sync(w.create("younger"))
	assert.Equal(t, oldest, w.next(OpBuy).Order.Service.UID)
}
