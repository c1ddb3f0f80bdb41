package ledger

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// exposes adds a Service of another namespace that lists addresses, and is none of ours.
func (w *world) exposes(name string, addrs ...string) (uid string) {
	uid = w.create(name, func(r *lb.Request) {
		r.Namespace = "strangers"
		for _, addr := range addrs {
			r.ExternalIPs = append(r.ExternalIPs, netip.MustParseAddr(addr))
		}
	})
	w.services[uid].wants, w.services[uid].stays = false, true
	w.sync(uid)
	return uid
}

// TestExposedAddress: what a Service lists in spec.externalIPs is given to nobody else, also by the next controller; who
// waits for it is served as soon as it is listed no more.
func TestExposedAddress(t *testing.T) {
	w := newWorld(t, office, "n1")
	thief := w.exposes("thief", "192.0.2.10", "192.0.2.12")
	a, b, c := w.create("a"), w.create("b"), w.create("c")
	asking := w.create("asking", asks("192.0.2.12"))
	for range 2 {
		w.settle()
		for uid, want := range map[string]string{a: "192.0.2.11", b: "192.0.2.13"} {
			got, _ := w.served(uid)
			assert.Equal(t, want, got.String())
		}
		assert.Equal(t, lb.ReasonPoolExhausted, w.ledger.View(c).Refusal.Reason)
		require.Equal(t, lb.ReasonAddressInUse, w.ledger.View(asking).Refusal.Reason)
		assert.Contains(t, w.ledger.View(asking).Refusal.Message, "Service strangers/thief lists in spec.externalIPs")
		assert.Equal(t, []Key{{"strangers", "thief"}}, w.ledger.Exposing())

		w.restart()
	}
	w.settle()
	w.ledger.Drain()
	w.services[thief].stays = false
	w.retire()
	assert.Len(t, w.ledger.Drain().Services, 2, "both are looked at")
	assert.Empty(t, w.ledger.Exposing())
	w.settle()
	got, _ := w.served(asking)
	assert.Equal(t, "192.0.2.12", got.String())
	got, _ = w.served(c)
	assert.Equal(t, "192.0.2.10", got.String())
}

// TestAddressHeldAndExposed: a stored grant stays whoever lists the address, over any number of controllers; what only a
// status says is given as well.
func TestAddressHeldAndExposed(t *testing.T) {
	w := newWorld(t, office, "n1")
	uid := w.create("web")
	w.settle()
	addr, _ := w.served(uid)
	w.exposes("thief", addr.String())
	for _, forget := range []func(){func() {}, func() { clear(w.objects) }} {
		forget()
		w.restart()
		w.settle()
		got, _ := w.served(uid)
		assert.Equal(t, addr, got)
		assert.Nil(t, w.ledger.View(uid).Refusal)
	}
}

// TestListedByTwoAtTheStart: of two namespaces that list one address that nobody has yet neither gets it, in whatever
// order they ask; the one that stays does.
func TestListedByTwoAtTheStart(t *testing.T) {
	lists := func(namespace string) func(*lb.Request) {
		return func(r *lb.Request) {
			r.Namespace, r.ExternalIPs = namespace, []netip.Addr{netip.MustParseAddr("192.0.2.10")}
		}
	}
	for first := range 2 {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			w := emptyWorld(t, office, "n1")
			uids := []string{w.create("web", lists("one")), w.create("web", lists("two"))}
			w.restart()
			w.sync(uids[first])
			w.settle()
			for _, uid := range uids {
				assert.Equal(t, lb.ReasonAddressInUse, w.ledger.View(uid).Refusal.Reason)
			}
			w.services[uids[0]].wants = false
			w.settle()
			got, _ := w.served(uids[1])
			assert.Equal(t, "192.0.2.10", got.String())
		})
	}
}
