package pool_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// world is every address that pools may contain, ascending: a dozen of IPv4, half a dozen of IPv6. Everywhere are also some
// that no pool contains.
var (
	world      = append(addressesOf(set("192.0.2.0-192.0.2.11")), addressesOf(set("2001:db8::-2001:db8::5"))...)
	everywhere = append(addressesOf(set("192.0.2.0-192.0.2.15")), addressesOf(set("2001:db8::-2001:db8::9"))...)
)

func addressesOf(s *netipx.IPSet) []netip.Addr {
	var all []netip.Addr
	for _, r := range s.Ranges() {
		for a := r.From(); ; a = a.Next() {
			all = append(all, a)
			if a == r.To() {
				break
			}
		}
	}
	return all
}

// model is the naive ledger: it enumerates, scans and sorts, and says what the Allocator should have done. Two
// Allocators are told the same; they must answer the same.
type model struct {
	real, twin *pool.Allocator
	portModel

	pools      []config.Pool
	holders    map[netip.Addr][]string
	leases     map[string][]netip.Addr
	pool       map[netip.Addr]string // of what is held
	quarantine map[netip.Addr]bool
	withheld   map[netip.Addr]bool
	closed     map[string]bool
	exposed    map[lb.Ref][]netip.Addr
	freed      []netip.Addr
	// orders in the order in which they were taken.
	orders []modelOrder
	// views are the last requests of the Services, leaving what their last answers told them to leave.
	views   map[string]lb.Request
	leaving map[string][]netip.Addr
}

func newModel() *model {
	return &model{
		real: pool.New(nil), twin: pool.New(nil),
		holders: map[netip.Addr][]string{}, leases: map[string][]netip.Addr{}, pool: map[netip.Addr]string{}, quarantine: map[netip.Addr]bool{},
		withheld: map[netip.Addr]bool{}, closed: map[string]bool{}, exposed: map[lb.Ref][]netip.Addr{},
		views: map[string]lb.Request{}, leaving: map[string][]netip.Addr{},
	}
}

func (m *model) poolOf(a netip.Addr) *config.Pool {
	for i, p := range m.pools {
		if p.Addresses != nil && p.Addresses.Contains(a) {
			return &m.pools[i]
		}
	}
	return nil
}

func (m *model) setPools(pools []config.Pool) {
	m.pools = pools
	m.real.SetPools(pools)
	m.twin.SetPools(slices.Clone(pools))
	m.freed = slices.DeleteFunc(m.freed, func(a netip.Addr) bool { return m.poolOf(a) == nil })
	for a := range m.holders {
		if p := m.poolOf(a); p != nil {
			m.pool[a] = p.Name
		}
	}
	m.reorder()
	m.rehomePorts()
}

func (m *model) take(uid string, a netip.Addr, name string) {
	if len(m.holders[a]) == 0 {
		m.pool[a] = name
	}
	m.holders[a] = append(m.holders[a], uid)
	m.leases[uid] = append(m.leases[uid], a)
	m.freed = without(m.freed, a)
}

func (m *model) release(t require.TestingT, uid string, a netip.Addr) {
	held := slices.Contains(m.holders[a], uid)
	m.holders[a] = without(m.holders[a], uid)
	m.leases[uid] = without(m.leases[uid], a)
	m.leaving[uid] = without(m.leaving[uid], a)
	last := held && len(m.holders[a]) == 0
	require.Equal(t, last, m.real.Release(uid, a), "release of %s by %s", a, uid)
	require.Equal(t, last, m.twin.Release(uid, a))
	if last {
		delete(m.holders, a)
		delete(m.pool, a)
		if m.poolOf(a) != nil && !m.kept(a) {
			m.freed = append(m.freed, a)
		}
	}
}

func (m *model) barred(a netip.Addr) bool { return m.quarantine[a] || m.withheld[a] }

func (m *model) setQuarantine(a netip.Addr, on bool) {
	was := m.kept(a)
	m.quarantine[a] = on
	for _, allocator := range []*pool.Allocator{m.real, m.twin} {
		if on {
			allocator.Quarantine(a)
		} else {
			allocator.Unquarantine(a)
		}
	}
	m.rebar(a, was)
}

func (m *model) setWithheld(a netip.Addr, on bool) {
	was := m.kept(a)
	m.withheld[a] = on
	for _, allocator := range []*pool.Allocator{m.real, m.twin} {
		if on {
			allocator.Withhold(a, gone)
		} else {
			allocator.Withhold(a, nil)
		}
	}
	m.rebar(a, was)
}

func (m *model) rebar(a netip.Addr, was bool) {
	if m.kept(a) {
		m.freed = without(m.freed, a)
	} else if was && len(m.holders[a]) == 0 && m.poolOf(a) != nil {
		m.freed = append(m.freed, a)
	}
}

func (m *model) adopt(t require.TestingT, req lb.Request, l lb.Lease) {
	refusal := m.real.Adopt(req, l)
	require.Equal(t, refusal, m.twin.Adopt(req, l))
	if slices.Contains(m.holders[l.Addr], req.UID) {
		require.Nil(t, refusal, "adopting twice")
		return
	}
	m.views[req.UID] = req
	friends := true
	for _, uid := range m.holders[l.Addr] {
		friends = friends && friendly(req, m.views[uid], l.Addr)
	}
	require.Equal(t, friends, refusal == nil, "adoption of %s by %s beside %v", l.Addr, req.UID, m.holders[l.Addr])
	if refusal == nil {
		name := l.Pool
		if p := m.poolOf(l.Addr); p != nil {
			name = p.Name
		}
		m.take(req.UID, l.Addr, name)
		m.dropOrder(req.UID, lb.FamilyOf(l.Addr))
	}
}

func (m *model) assign(t require.TestingT, req lb.Request) {
	m.views[req.UID] = req
	before := slices.Clone(m.leases[req.UID])
	e := m.expect(req)
	got := m.real.Assign(req)
	require.Equal(t, got, m.twin.Assign(req), "same input, same output")

	var want, leave, fresh []netip.Addr
	for _, l := range got.Leave {
		leave = append(leave, l.Addr)
	}
	for _, l := range got.Want {
		want = append(want, l.Addr)
		require.NotContains(t, leave, l.Addr)
		if !slices.Contains(before, l.Addr) {
			fresh = append(fresh, l.Addr)
		}
	}
	require.Len(t, append(slices.Clone(fresh), before...), len(want)+len(leave), "what was held is wanted or left")
	if len(before) > 0 {
		require.Positive(t, len(want)+len(got.Ports), "nothing takes away the last address")
	}
	if got.Refusal != nil {
		require.NotEmpty(t, got.Refusal.Message)
		require.Less(t, len(got.Refusal.Message), 1024)
	} else {
		require.Positive(t, len(want)+len(got.Orders)+len(got.Ports), "neither served nor refused")
	}
	m.checkAsked(t, req, got.Refusal, want, fresh)
	m.checkOrders(t, req, got, before)
	for _, a := range fresh {
		m.checkFresh(t, req, a)
	}
	if req.FamilyPolicy == lb.RequireDualStack {
		has := func(f lb.Family) bool {
			return slices.ContainsFunc(want, func(a netip.Addr) bool { return lb.FamilyOf(a) == f }) ||
				slices.ContainsFunc(got.Orders, func(o pool.Order) bool { return o.Family == f })
		}
		require.True(t, has(lb.IPv4) && has(lb.IPv6) || got.Refusal != nil && len(fresh)+len(got.Orders) == 0, "both families or nothing new: %v", got)
	}
	if got.Refusal != nil && got.Refusal.Reason == lb.ReasonPoolExhausted && e.way == "addresses" {
		m.checkExhausted(t, req)
	}
	if got.Refusal != nil && len(before) == 0 && len(want)+len(got.Orders) == 0 && e.way == "addresses" {
		require.False(t, m.servable(req), "%v could be served, and is refused: %s", req, got.Refusal)
	}
	m.checkKept(t, req, got.Refusal, e.way, before, want, fresh)
	m.checkPorts(t, req, e, got, len(fresh))
	for _, a := range fresh {
		m.take(req.UID, a, m.home(a).Name)
	}
	m.leaving[req.UID] = leave
	require.Equal(t, got, m.real.Assign(req), "asked again")
	require.Equal(t, got, m.twin.Assign(req))
}

// check compares all that can be asked for.
func (m *model) check(t require.TestingT) {
	var outside []lb.Lease
	for _, a := range everywhere {
		name, ok := m.real.PoolOf(a)
		p := m.home(a)
		require.Equal(t, p != nil, ok)
		if p != nil {
			require.Equal(t, p.Name, name)
		} else if len(m.holders[a]) > 0 {
			outside = append(outside, lb.Lease{Addr: a, Pool: m.pool[a]})
		}
	}
	require.Equal(t, outside, m.real.Outside())
	for uid := range m.views {
		var held []lb.Lease
		for _, a := range m.leases[uid] {
			held = append(held, lb.Lease{Addr: a, Pool: m.pool[a]})
		}
		require.Equal(t, held, m.real.Leases(uid), "leases of %s", uid)
		var orders []pool.Order
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			orders = append(orders, m.ordered(uid, f)...)
		}
		require.Equal(t, orders, m.real.Orders(uid), "orders of %s", uid)
	}
	require.Equal(t, m.usage(), m.real.Usage())
	m.comparePorts(t)
}

func (m *model) usage() []lb.Usage {
	usage := []lb.Usage{}
	for _, p := range slices.SortedFunc(slices.Values(m.pools), func(x, y config.Pool) int { return cmp.Compare(x.Name, y.Name) }) {
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			u := lb.Usage{Pool: p.Name, Family: f}
			for _, a := range everywhere {
				switch home := m.home(a); {
				case home == nil || home.Name != p.Name || lb.FamilyOf(a) != f:
					continue
				case len(m.holders[a]) > 0:
					u.Used++
				case m.kept(a):
					u.Quarantined++
				}
				u.Size++
			}
			for _, o := range m.orders {
				if o.Order == (pool.Order{Pool: p.Name, Family: f}) {
					u.Ordered++
				}
			}
			if buyer(&p) && buys(&p, f) {
				u.Size = limit(&p)
			}
			if u.Size > 0 {
				usage = append(usage, u)
			}
		}
	}
	return usage
}

// drain gives everything back; then every address of every pool is given out once and none is missing.
func (m *model) drain(t require.TestingT) {
	for _, p := range m.pools {
		m.setClosed(p.Name, false)
	}
	for len(m.orders) > 0 {
		m.cancel(m.orders[0].uid, m.orders[0].Family)
	}
	for _, by := range m.real.Exposing() {
		m.expose(t, by, nil)
	}
	for _, a := range everywhere {
		m.setQuarantine(a, false)
		m.setWithheld(a, false)
		for _, uid := range slices.Clone(m.holders[a]) {
			m.release(t, uid, a)
		}
	}
	for len(m.ports) > 0 {
		m.releasePort(t, m.ports[0].uid, m.ports[0].lease())
	}
	m.check(t)
	n := 0
	for _, p := range m.pools {
		if buyer(&p) {
			continue
		}
		if updater(&p) && serves(p, web("ns0/drain")) {
			for range 2 * (p.Updater.PortHigh - p.Updater.PortLow + 1) {
				n++
				req := web(fmt.Sprintf("ns0/drain%d", n), inPool(p.Name), port(80, []lb.Protocol{lb.TCP, lb.UDP}[n%2]))
				m.assign(t, req)
				require.Len(t, m.portsOf(req.UID), 1, "a port was lost")
			}
			require.Empty(t, unusedPorts(m.real, p.Name))
			continue
		}
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			for {
				n++
				req := web(fmt.Sprintf("ns0/drain%d", n), inPool(p.Name), families(lb.SingleStack, f))
				if !serves(p, req) {
					break
				}
				m.assign(t, req)
				if len(m.leases[req.UID]) == 0 {
					break
				}
			}
		}
	}
	for _, a := range world {
		if p := m.poolOf(a); p != nil && serves(*p, web("ns0/drain")) {
			require.Len(t, m.holders[a], 1, "%s was lost", a)
		}
	}
}

func serves(p config.Pool, req lb.Request) bool {
	return p.LoadBalancerClass == req.Class && (len(p.AllowedNamespaces) == 0 || slices.Contains(p.AllowedNamespaces, req.Namespace)) &&
		(p.NamespaceSelector == nil || req.NamespaceLabels["tier"] == "public") &&
		(p.ServiceSelector == nil || req.Labels["expose"] == "true")
}

func reserves(r lb.Request, a netip.Addr) bool {
	return len(r.Addresses) == 0 && slices.Contains(r.ExternalIPs, a)
}

func friendly(x, y lb.Request, a netip.Addr) bool {
	return x.SharingKey != "" && x.SharingKey == y.SharingKey && x.Namespace == y.Namespace && !reserves(x, a) && !reserves(y, a)
}

func compatible(x, y lb.Request) bool {
	for _, p := range x.Ports {
		if slices.Contains(y.Ports, p) {
			return false
		}
	}
	return !x.Local && !y.Local || x.PodSelector == y.PodSelector
}

func without[T comparable](list []T, x T) []T {
	list = slices.DeleteFunc(slices.Clone(list), func(y T) bool { return y == x })
	if len(list) == 0 {
		return nil
	}
	return list
}

// Whatever is done in whatever order: no address has two holders that may not share it, none comes from outside of a
// pool, none is lost, and the same input gives the same output.
func TestAgainstModel(t *testing.T) {
	for i := range 10 { // a hundred random lives each
		t.Run(fmt.Sprint(i), rapid.MakeCheck(live))
	}
}

func live(t *rapid.T) {
	m := newModel()
	m.setPools(genPools(t))
	assign := func(t *rapid.T) { m.assign(t, genRequest(t)) }
	t.Repeat(map[string]func(*rapid.T){
		"reload": func(t *rapid.T) { m.setPools(genPools(t)) },
		"adopt": func(t *rapid.T) {
			m.adopt(t, genRequest(t), lb.Lease{Addr: genAddr(t), Pool: rapid.SampledFrom([]string{"p0", "p1", "gone"}).Draw(t, "pool")})
		},
		"assign": assign, "assign more": assign, "assign most": assign,
		"leave": func(t *rapid.T) {
			uid := genRequest(t).UID
			for _, a := range m.leaving[uid] {
				m.release(t, uid, a)
			}
		},
		"leave ports": func(t *rapid.T) {
			for _, p := range m.portsOf(genRequest(t).UID) {
				if p.leaving {
					m.releasePort(t, p.uid, p.lease())
				}
			}
		},
		"adopt port":   func(t *rapid.T) { m.adoptPort(t, genRequest(t), genPortLease(t)) },
		"release port": func(t *rapid.T) { m.releasePort(t, genRequest(t).UID, genPortLease(t)) },
		"delete": func(t *rapid.T) {
			uid := genRequest(t).UID
			for _, p := range m.portsOf(uid) {
				m.releasePort(t, uid, p.lease())
			}
			for _, a := range slices.Clone(m.leases[uid]) {
				m.release(t, uid, a)
			}
			for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
				m.cancel(uid, f)
			}
		},
		"buy": func(t *rapid.T) { m.buy(t, genRequest(t).UID, genAddr(t)) },
		"buy an order": func(t *rapid.T) {
			if len(m.orders) > 0 {
				m.buy(t, rapid.SampledFrom(m.orders).Draw(t, "order").uid, genAddr(t))
			}
		},
		"cancel": func(t *rapid.T) {
			m.cancel(genRequest(t).UID, rapid.SampledFrom([]lb.Family{lb.IPv4, lb.IPv6}).Draw(t, "family"))
		},
		"close":        func(t *rapid.T) { m.setClosed(fmt.Sprintf("p%d", rapid.IntRange(0, 2).Draw(t, "closed")), true) },
		"open":         func(t *rapid.T) { m.setClosed(fmt.Sprintf("p%d", rapid.IntRange(0, 2).Draw(t, "opened")), false) },
		"withhold":     func(t *rapid.T) { m.setWithheld(genAddr(t), true) },
		"give out":     func(t *rapid.T) { m.setWithheld(genAddr(t), false) },
		"expose":       func(t *rapid.T) { m.expose(t, genExposer(t), genAddrs(t, 3)) },
		"release":      func(t *rapid.T) { m.release(t, genRequest(t).UID, genAddr(t)) },
		"quarantine":   func(t *rapid.T) { m.setQuarantine(genAddr(t), true) },
		"unquarantine": func(t *rapid.T) { m.setQuarantine(genAddr(t), false) },
		"":             func(t *rapid.T) { m.check(t) },
	})
	m.drain(t)
}

// However hard the Allocator is worked, what it keeps in mind is what is in use: a pool that was emptied gives out
// all of its addresses again.
func TestEmptiedPoolIsWhole(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0/24")})
	for round := range 3 {
		seen := map[netip.Addr]bool{}
		for i := range 256 {
			got := a.Assign(web(fmt.Sprintf("default/r%ds%d", round, i)))
			require.Nil(t, got.Refusal)
			assert.False(t, seen[got.Want[0].Addr])
			seen[got.Want[0].Addr] = true
		}
		require.Equal(t, lb.ReasonPoolExhausted, a.Assign(web("default/more")).Refusal.Reason)
		for i := range 256 {
			uid := fmt.Sprintf("default/r%ds%d", round, i)
			release(t, a, uid, a.Leases(uid)[0].Addr.String())
		}
	}
}
