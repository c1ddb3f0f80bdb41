package ledger

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// TestAssignedByHand: a listed address that somebody assigned to one of our nodes before any controller came serves from
// there, however a Service comes to it. Nothing is called at the cloud, so nothing is interrupted.
func TestAssignedByHand(t *testing.T) {
	addr := netip.MustParseAddr("198.51.100.2")
	for name, wish := range map[string]func(*svc){
		"by annotation":     func(s *svc) { s.Addresses = []netip.Addr{addr} },
		"by loadBalancerIP": func(s *svc) { s.LoadBalancerIP = addr },
		"by externalIPs":    func(s *svc) { s.ExternalIPs = []netip.Addr{addr} },
		"by its pool":       func(s *svc) { s.Pool = "listed" },
		"shown already":     func(s *svc) { s.published = []netip.Addr{addr} },
	} {
		t.Run(name, func(t *testing.T) {
			for _, node := range []string{"n1", "n2", "n3"} {
				w := newRentalWorld(t, bought, "n1", "n2", "n3")
				other := w.cloud.add("198.51.100.1/32", 999) // passed over by a free choice
				w.cloud.servers = append(w.cloud.servers, lb.Server{ID: 999, Name: "database"})
				f := w.cloud.add("198.51.100.2/32", w.cloud.server(node))
				uid := w.create("web")
				wish(w.services[uid])
				w.restart()
				w.settle()
				w.pass(5 * time.Second)
				w.settle()
				served, at := w.served(uid)
				assert.Equal(t, addr, served)
				assert.Equal(t, node, at, "it is bound where it is assigned")
				assert.Equal(t, w.cloud.server(node), f.Server)
				assert.EqualValues(t, 999, other.Server)
				assert.Empty(t, w.cloud.calls)
			}
		})
	}
}

// TestAssignedByHandToANodeThatMayNotHaveIt: it goes to one that may, in one step.
func TestAssignedByHandToANodeThatMayNotHaveIt(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	f := w.cloud.add("198.51.100.2/32", w.cloud.server("n1"))
	w.setNode("n1", func(n *lb.Node) { n.Labels = map[string]string{lb.LabelExcludeNode: "true"} })
	uid := w.create("web", func(r *lb.Request) { r.Addresses = []netip.Addr{f.Addr()} })
	w.restart()
	w.settle()
	_, at := w.served(uid)
	assert.Equal(t, "n2", at)
	assert.Equal(t, []string{"assign"}, w.cloud.calls)
}

// TestAssignedByHandAndNotReadYet: the account is read before a Service was looked at that was there already.
func TestAssignedByHandAndNotReadYet(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	wanted := w.cloud.add("198.51.100.1/32", w.cloud.server("n2"))
	unwanted := w.cloud.add("198.51.100.2/32", w.cloud.server("n2"))
	uid := w.create("web", func(r *lb.Request) { r.Addresses = []netip.Addr{wanted.Addr()} })
	w.restart()
	w.cloud.work(w)
	assert.Empty(t, w.cloud.calls)
	w.goOn()
	_, at := w.served(uid)
	assert.Equal(t, "n2", at)
	assert.Equal(t, []string{"unassign"}, w.cloud.calls, "what nobody asks for is put in order")
	assert.Zero(t, unwanted.Server)
}

// TestAssignedByHandAndNobodyAsks: a Service that went between adoption and the watch does not keep it assigned.
func TestAssignedByHandAndNobodyAsks(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	f := w.cloud.add("198.51.100.1/32", w.cloud.server("n1"))
	uid := w.create("web", func(r *lb.Request) { r.Addresses = []netip.Addr{f.Addr()} })
	w.restart()
	delete(w.services, uid)
	w.goOn()
	assert.Zero(t, f.Server)
}

// TestAssignedByHandAndAskedForInVain: the other address that the Service asks for is missing, so it has none. It is not
// cut off for that, and taken over where it is when the other one is there.
func TestAssignedByHandAndAskedForInVain(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	f := w.cloud.add("198.51.100.1/32", w.cloud.server("n2"))
	uid := w.create("web", func(r *lb.Request) {
		r.Families, r.FamilyPolicy = []lb.Family{lb.IPv4, lb.IPv6}, lb.RequireDualStack
		r.Addresses = []netip.Addr{f.Addr(), netip.MustParseAddr("2001:db8:9:1::1")}
	})
	w.restart()
	w.goOn()
	require.Equal(t, lb.ReasonFloatingIPMissing, w.ledger.View(uid).Refusal.Reason)
	assert.Empty(t, w.cloud.calls)
	w.cloud.add("2001:db8:9:1::/64", 0)
	w.goOn()
	_, at := w.served(uid)
	assert.Equal(t, "n2", at)
	assert.Equal(t, []string{"assign"}, w.cloud.calls, "of the other one")
	w.services[uid].wants = false
	w.goOn()
	assert.Zero(t, f.Server)
}

// TestAssignedByHandAndServedByKubeProxy: a Service that is none of ours lists it in spec.externalIPs.
func TestAssignedByHandAndServedByKubeProxy(t *testing.T) {
	w := newRentalWorld(t, bought, "n1")
	f := w.cloud.add("198.51.100.1/32", w.cloud.server("n1"))
	internal := Key{"default", "internal"}
	w.ledger.SetExposed(internal, []netip.Addr{f.Addr()}, w.now)
	w.goOn()
	assert.Empty(t, w.cloud.calls)
	w.ledger.SetExposed(internal, nil, w.now)
	w.goOn()
	assert.Zero(t, f.Server)
}

// TestAssignedByHandAndListedLater: the pool that lists it comes with a changed cloud-config, before anybody has asked for
// it.
func TestAssignedByHandAndListedLater(t *testing.T) {
	w := newRentalWorld(t, bought, "n1", "n2")
	wanted := w.cloud.add("198.51.100.201/32", w.cloud.server("n2"))
	unwanted := w.cloud.add("198.51.100.202/32", w.cloud.server("n2"))
	w.goOn()
	w.cfg = parse(t, bought+`
- name: later
  addresses: [198.51.100.201, 198.51.100.202]
  hetzner: {}
  interface: pl0
`)
	w.rental.Accounts["later"] = projectKey
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.cloud.read(w)
	uid := w.create("web", func(r *lb.Request) { r.Addresses = []netip.Addr{wanted.Addr()} })
	w.settle()
	_, at := w.served(uid)
	assert.Equal(t, "n2", at)
	assert.Empty(t, w.cloud.calls)
	w.goOn()
	assert.Equal(t, []string{"unassign"}, w.cloud.calls)
	assert.Zero(t, unwanted.Server)
}
