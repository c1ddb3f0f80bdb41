package ledger

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

func shares(port uint16) func(*lb.Request) {
	return func(r *lb.Request) {
		r.SharingKey = "k"
		r.Ports = []lb.Port{{Number: port, Protocol: "TCP"}}
	}
}

// TestSharedAddress: it stays until the last Service has gone.
func TestSharedAddress(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	a, b := w.create("a", shares(80)), w.create("b", shares(443))
	w.settle()
	addr, node := w.served(a)
	other, _ := w.served(b)
	assert.Equal(t, addr, other)
	require.Len(t, w.objects[node].entries, 1)
	assert.Len(t, w.objects[node].entries[0].Services, 2, "the entry names both")

	w.services[a].wants = false
	w.settle()
	got, still := w.served(b)
	assert.Equal(t, addr, got)
	assert.Equal(t, node, still)
	assert.Len(t, w.objects[node].entries[0].Services, 1)
	w.services[b].wants = false
	w.settle()
	assert.Empty(t, w.holders(addr))
}

// TestSharedAddressIsTakenUpAgain: a Service that is deleted does not wait for the release of an address that another
// one has taken up meanwhile.
func TestSharedAddressIsTakenUpAgain(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	a := w.create("a", shares(80))
	w.settle()
	addr, node := w.served(a)
	w.objects[node].dead = true
	w.services[a].wants = false
	w.settle()
	require.True(t, w.ledger.Holds(a), "the node may still answer")

	b := w.create("b", shares(443))
	w.settle()
	assert.False(t, w.ledger.Holds(a))
	w.objects[node].dead = false
	w.settle()
	got, _ := w.served(b)
	assert.Equal(t, addr, got)
}

// TestSharersAreDeletedWhileDown: whichever of those that share an address go while there is no controller, the next one
// lets them go.
func TestSharersAreDeletedWhileDown(t *testing.T) {
	for _, gone := range [][]int{{0}, {2}, {0, 1}, {1, 2}, {0, 1, 2}} {
		t.Run(fmt.Sprint(gone), func(t *testing.T) {
			w := newWorld(t, office, "n1", "n2")
			uids := []string{w.create("a", shares(80)), w.create("b", shares(443)), w.create("c", shares(8080))}
			w.settle()
			addr, _ := w.served(uids[0])
			for _, i := range gone {
				w.services[uids[i]].wants = false
			}
			w.restart()
			w.settle()
			for i, uid := range uids {
				if slices.Contains(gone, i) {
					assert.False(t, w.ledger.Holds(uid), "the %d. one", i)
				} else {
					got, _ := w.served(uid)
					assert.Equal(t, addr, got, "the %d. one", i)
				}
			}
		})
	}
}

// TestSharedAddressOutlivesItsOwner: whoever joins a Service on its address keeps what is published, whenever that one
// is deleted and the controller killed.
func TestSharedAddressOutlivesItsOwner(t *testing.T) {
	for kill := 1; ; kill++ {
		w := newWorld(t, office, "n1", "n2")
		a := w.create("a", shares(80))
		w.settle()
		b := w.create("b", shares(443))
		point, dead := w.until(kill, func() {
			w.sync(b)
			w.services[a].wants = false
			w.retire()
			require.NotContains(t, w.services, a, "another one has its address")
			w.settle()
		})
		if !dead {
			require.Greater(t, kill, 4)
			return
		}
		w.kill = 0
		published := slices.Clone(w.services[b].published)
		w.restart()
		w.settle()
		w.served(b)
		if len(published) > 0 {
			assert.Equal(t, published, w.services[b].published, "killed at %d, %s", kill, point)
		}
	}
}

// TestSharedAddressIsWrittenFirst: who joins waits until the object names it, says so, and is looked at again then.
func TestSharedAddressIsWrittenFirst(t *testing.T) {
	w := newWorld(t, office, "n1")
	a := w.create("a", shares(80))
	w.settle()
	b := w.create("b", shares(443))
	w.sync(b)
	require.Empty(t, w.services[b].published)
	assert.Equal(t, lb.ReasonWaitingForAPI, w.ledger.View(b).Waiting.Reason)
	assert.Nil(t, w.ledger.View(a).Waiting, "nothing changes for who has it")

	w.ledger.Drain()
	w.write("n1")
	assert.Contains(t, w.ledger.Drain().Services, Key{"default", "b"})
	w.sync(b)
	assert.Equal(t, w.services[a].published, w.services[b].published)
}

// TestSharingThatBecomesPossible: the one that is refused is served once the other has changed its ports.
func TestSharingThatBecomesPossible(t *testing.T) {
	w := newWorld(t, office, "n1")
	a, b := w.create("a", shares(80)), w.create("b", shares(80))
	w.settle()
	assert.Equal(t, lb.ReasonSharingConflict, w.ledger.View(b).Refusal.Reason)
	shares(443)(&w.services[a].Request)
	w.settle()
	addr, _ := w.served(a)
	other, _ := w.served(b)
	assert.Equal(t, addr, other)
}

// TestPoolRenamed: what the new pool contains is in no danger, so the reload is taken, and the entries follow.
func TestPoolRenamed(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	addr, node := w.served(uid)
	w.cfg = parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- {name: public, addresses: [192.0.2.0/28], interface: pl1}
`)
	require.NoError(t, w.ledger.SetConfig(w.cfg, Rental{}, w.now))
	w.settle()
	got, _ := w.served(uid)
	assert.Equal(t, addr, got)
	assert.Equal(t, "public", w.objects[node].entries[0].Pool)
	assert.Equal(t, "pl1", w.objects[node].entries[0].Interface)
	assert.Nil(t, w.ledger.View(uid).Refusal)
}

// TestSecondNodeOfThatName: when nobody saw the first one go, its addresses are placed anew all the same.
func TestSecondNodeOfThatName(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	addr, _ := w.served(uid)
	w.objects["n1"].bound = map[netip.Addr]place.State{}
	w.setNode("n1", func(n *lb.Node) { n.UID = "second" })
	w.settle()
	got, _ := w.served(uid)
	assert.Equal(t, addr, got)
}
