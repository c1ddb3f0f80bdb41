package ledger

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

const foreigner = "52:54:00:00:00:99"

func (w *world) foreigner(mac string, texts ...string) {
	for _, o := range w.objects {
		o.answered = map[netip.Addr]string{}
		for _, text := range texts {
			o.answered[netip.MustParseAddr(text)] = mac
		}
	}
}

// TestAddressInUseBySomebodyElse: the Service gets another one and reads who answers. The address is tried again later.
func TestAddressInUseBySomebodyElse(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	w.foreigner(foreigner, "192.0.2.10")
	uid := w.create("web")
	w.sync(uid)
	w.settle()
	got, _ := w.served(uid)
	assert.Equal(t, netip.MustParseAddr("192.0.2.11"), got)
	assert.Empty(t, w.holders(netip.MustParseAddr("192.0.2.10")))

	wish := w.create("wish", func(r *lb.Request) { r.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.10")} })
	w.settle()
	v := w.ledger.View(wish)
	require.NotNil(t, v.Refusal)
	assert.Equal(t, lb.ReasonAddressInUse, v.Refusal.Reason)
	assert.Contains(t, v.Refusal.Message, foreigner)

	w.foreigner(foreigner)
	w.pass(foreignFor)
	w.settle()
	got, _ = w.served(wish)
	assert.Equal(t, netip.MustParseAddr("192.0.2.10"), got)
}

func TestForeignAnswerIsAnEvent(t *testing.T) {
	w := newWorld(t, office, "n1")
	w.foreigner(foreigner, "192.0.2.10")
	uid := w.create("web")
	w.ledger.Drain()
	w.settle()
	var notices []Notice
	for _, n := range w.ledger.Drain().Notices {
		if n.Service.UID == uid {
			notices = append(notices, n)
		}
	}
	require.Len(t, notices, 1)
	assert.Equal(t, lb.ReasonAddressInUse, notices[0].Reason)
	assert.True(t, notices[0].Warning)
	assert.Contains(t, notices[0].Message, foreigner)
}

// TestPublishedAddressIsNotTakenAway although another machine answers for it: its clients know it.
func TestPublishedAddressIsNotTakenAway(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	got, node := w.served(uid)
	w.foreigner(foreigner, got.String())
	delete(w.objects[node].bound, got)
	w.work(node)
	w.settle()
	v := w.ledger.View(uid)
	assert.True(t, v.Ready)
	assert.Equal(t, got, v.Addresses[0].Addr)
	require.NotNil(t, v.Waiting)
	assert.Equal(t, lb.ReasonAddressInUse, v.Waiting.Reason)
	assert.Equal(t, node, v.Addresses[0].Node)

	w.foreigner(foreigner)
	w.settle()
	assert.Equal(t, []string{node}, w.holders(got))
}

// TestAddressThatMayBePublishedIsNotTakenAway: the answer to the write of the status is still under way when the address
// moves, and the machine that it leaves answers for it.
func TestAddressThatMayBePublishedIsNotTakenAway(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.sync(uid)
	name := w.ledger.View(uid).Addresses[0].Node
	w.write(name)
	w.work(name)
	v := w.ledger.View(uid)
	require.True(t, v.Ready, "it is about to be published")
	got := v.Addresses[0].Addr

	w.removeNode(name)
	w.foreigner(foreigner, got.String())
	for range 2 { // the successor is written after the node that is gone
		for _, other := range w.ledger.NodeNames() {
			w.write(other)
			w.work(other)
		}
	}
	v = w.ledger.View(uid)
	assert.Equal(t, got, v.Addresses[0].Addr)
	require.NotNil(t, v.Waiting)
	assert.Equal(t, lb.ReasonAddressInUse, v.Waiting.Reason)
}

// TestRouterThatAnswersForEverything quarantines nothing.
func TestRouterThatAnswersForEverything(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	var all []string
	for i := range 4 {
		all = append(all, fmt.Sprintf("192.0.2.%d", 10+i))
	}
	w.foreigner(foreigner, all...)
	var uids []string
	for i := range 4 {
		uids = append(uids, w.create(fmt.Sprint("s", i)))
	}
	w.settle()
	w.settle()
	for _, uid := range uids {
		w.served(uid)
	}
}

// TestNodeOfOursIsNoForeigner: one that has not let go yet is told by its successor.
func TestNodeOfOursIsNoForeigner(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	w.setNode("n2", func(n *lb.Node) { n.Cordoned = true })
	w.settle()
	r := w.objects["n2"].report()
	r.HardwareAddresses = []string{foreigner}
	w.ledger.Report("n2", r, w.now)
	w.objects["n1"].answered = map[netip.Addr]string{netip.MustParseAddr("192.0.2.10"): foreigner}
	uid := w.create("web")
	w.sync(uid)
	w.write("n1")
	w.work("n1")
	w.write("n1")
	w.work("n1")
	w.sync(uid)
	got, node := w.served(uid)
	assert.Equal(t, netip.MustParseAddr("192.0.2.10"), got)
	assert.Equal(t, "n1", node)
}

// TestContestedAddress is shown to those whose address it is.
func TestContestedAddress(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	got, _ := w.served(uid)
	r := w.objects["n1"].report()
	r.Contested = map[netip.Addr]string{got: foreigner}
	w.ledger.Drain()
	w.ledger.Report("n1", r, w.now)
	assert.Len(t, w.ledger.Drain().Services, 1)
	v := w.ledger.View(uid)
	require.NotNil(t, v.Refusal)
	assert.Equal(t, lb.ReasonContested, v.Refusal.Reason)
	assert.Contains(t, v.Refusal.Message, foreigner)
	assert.True(t, v.Ready)
}

// TestContestEndsWithTheMove: a node that defended an address and is lost says so for as long as it is dead.
func TestContestEndsWithTheMove(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	uid := w.create("web")
	w.settle()
	got, node := w.served(uid)
	r := w.objects[node].report()
	r.Contested = map[netip.Addr]string{got: foreigner}
	w.ledger.Report(node, r, w.now)
	require.NotNil(t, w.ledger.View(uid).Refusal)
	w.objects[node].dead, w.objects[node].bound = true, nil
	w.pulse(node, lb.PulseLost)
	w.settle()
	_, now := w.served(uid)
	require.NotEqual(t, node, now)
	assert.Nil(t, w.ledger.View(uid).Refusal)
}

// TestEndOfAForeignAnswerIsNotTheCloudsConsent: an address that went to a pool at the cloud meanwhile is withheld for
// what the cloud has against it.
func TestEndOfAForeignAnswerIsNotTheCloudsConsent(t *testing.T) {
	w := newRentalWorld(t, bought+"- {name: office, addresses: [192.0.2.10, 192.0.2.11], interface: pl0}\n", "n1")
	wish := w.create("wish", func(r *lb.Request) { r.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.10")} })
	w.foreigner(foreigner, "192.0.2.10")
	w.settle()
	require.Equal(t, lb.ReasonAddressInUse, w.ledger.View(wish).Refusal.Reason)
	w.cfg = parse(t, bought+"- {name: rented, addresses: [192.0.2.10], hetzner: {}, interface: pl0}\n")
	w.rental.Accounts = map[string]string{"bought": projectKey, "listed": projectKey, "rented": projectKey}
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.settle()
	require.Equal(t, lb.ReasonFloatingIPMissing, w.ledger.View(wish).Refusal.Reason)
	w.pass(foreignFor)
	w.ledger.Want(w.services[wish].Request, w.now)
	v := w.ledger.View(wish)
	require.NotNil(t, v.Refusal)
	assert.Equal(t, lb.ReasonFloatingIPMissing, v.Refusal.Reason)
}
