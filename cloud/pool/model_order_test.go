package pool_test

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// gone and shut are why the model withholds addresses and closes pools.
var (
	gone = lb.Refuse("Gone", "the cloud has no such address")
	shut = lb.Refuse("Shut", "the account is not proven")
)

type modelOrder struct {
	uid string
	pool.Order
}

func buyer(p *config.Pool) bool { return p.Hetzner != nil && p.Hetzner.Ephemeral != nil }

// kind orders what pools give out.
func kind(p *config.Pool) int {
	switch {
	case buyer(p):
		return 2
	case updater(p):
		return 1
	}
	return 0
}

// preferred is the order of a free choice.
func preferred(x, y config.Pool) int {
	restricted := func(p config.Pool) int {
		if len(p.AllowedNamespaces) > 0 || p.NamespaceSelector != nil {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(restricted(x), restricted(y)), cmp.Compare(y.Priority, x.Priority), cmp.Compare(kind(&x), kind(&y)), cmp.Compare(x.Name, y.Name))
}

func buys(p *config.Pool, f lb.Family) bool {
	return f == lb.IPv4 && p.Hetzner.Ephemeral.IPv4 || f == lb.IPv6 && p.Hetzner.Ephemeral.IPv6
}

func limit(p *config.Pool) uint64 {
	if n := p.Hetzner.Ephemeral.MaxAddresses; n > 0 {
		return uint64(n)
	}
	return math.MaxUint64
}

func (m *model) named(name string) *config.Pool {
	for i, p := range m.pools {
		if p.Name == name {
			return &m.pools[i]
		}
	}
	return nil
}

// home is the pool that contains the address, or in which it was bought.
func (m *model) home(a netip.Addr) *config.Pool {
	if p := m.poolOf(a); p != nil {
		return p
	}
	if p := m.named(m.pool[a]); p != nil && buyer(p) && len(m.holders[a]) > 0 {
		return p
	}
	return nil
}

// had is how many addresses of a pool are bought or ordered, but for the Service's own order of the family.
func (m *model) had(p *config.Pool, uid string, f lb.Family) uint64 {
	n := uint64(0)
	for _, a := range everywhere {
		if home := m.home(a); home != nil && home.Name == p.Name {
			n++
		}
	}
	for _, o := range m.orders {
		if o.Pool == p.Name && (o.uid != uid || o.Family != f) {
			n++
		}
	}
	return n
}

// scarce: a pool that could sell one address of each family may not sell both.
func (m *model) scarce(req lb.Request) bool {
	return len(req.Families) > 1 && slices.ContainsFunc(m.pools, func(p config.Pool) bool {
		return buyer(&p) && serves(p, req) && m.had(&p, "", "")+2 > limit(&p)
	})
}

func (m *model) ordered(uid string, f lb.Family) (orders []pool.Order) {
	for _, o := range m.orders {
		if o.uid == uid && o.Family == f {
			orders = append(orders, o.Order)
		}
	}
	return orders
}

func (m *model) dropOrder(uid string, f lb.Family) {
	m.orders = slices.DeleteFunc(m.orders, func(o modelOrder) bool { return o.uid == uid && o.Family == f })
}

func (m *model) cancel(uid string, f lb.Family) {
	m.dropOrder(uid, f)
	m.real.CancelOrder(uid, f)
	m.twin.CancelOrder(uid, f)
}

// reorder drops the orders that new pools have no place for.
func (m *model) reorder() {
	orders := m.orders
	m.orders = nil
	for _, o := range orders {
		if p := m.named(o.Pool); p != nil && buyer(p) && buys(p, o.Family) && m.had(p, "", "") < limit(p) {
			m.orders = append(m.orders, o)
		}
	}
	for name := range m.closed {
		if m.named(name) == nil {
			delete(m.closed, name)
		}
	}
}

func (m *model) setClosed(name string, on bool) {
	why := shut
	if !on {
		why = nil
	}
	m.real.SetClosed(name, why)
	m.twin.SetClosed(name, why)
	m.closed[name] = on && m.named(name) != nil
}

func (m *model) buy(t require.TestingT, uid string, a netip.Addr) {
	orders := m.ordered(uid, lb.FamilyOf(a))
	held := slices.Contains(m.holders[a], uid)
	done := held || len(orders) > 0 && len(m.holders[a]) == 0
	require.Equal(t, done, m.real.Bought(uid, a), "%s bought for %s", a, uid)
	require.Equal(t, done, m.twin.Bought(uid, a))
	if !done || held {
		return
	}
	name := orders[0].Pool
	if p := m.poolOf(a); p != nil {
		name = p.Name
	}
	m.take(uid, a, name)
	m.dropOrder(uid, lb.FamilyOf(a))
}

// checkOrders: an order is what a free choice falls on, stays as long as it is wanted, is the only one of its key, and
// never more than the pool may buy. The model takes over what was decided.
func (m *model) checkOrders(t require.TestingT, req lb.Request, got pool.Result, before []netip.Addr) {
	had := map[lb.Family][]pool.Order{}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		had[f] = m.ordered(req.UID, f)
		i := slices.IndexFunc(got.Orders, func(o pool.Order) bool { return o.Family == f })
		if i < 0 || len(had[f]) > 0 && had[f][0] != got.Orders[i] {
			m.dropOrder(req.UID, f)
		}
	}
	for _, o := range got.Orders {
		if len(m.ordered(req.UID, o.Family)) == 0 {
			m.orders = append(m.orders, modelOrder{req.UID, o})
		}
	}
	asked := m.asked(req)
	for i, f := range req.Families {
		wanted := i == 0 || req.FamilyPolicy != lb.SingleStack
		order := m.ordered(req.UID, f)
		ofFamily := func(a netip.Addr) bool { return lb.FamilyOf(a) == f }
		if len(had[f]) > 0 && wanted && len(asked) == 0 && req.FamilyPolicy != lb.RequireDualStack && !slices.ContainsFunc(before, ofFamily) &&
			(req.Pool != "" || len(m.portsOf(req.UID)) == 0) {
			p := m.named(had[f][0].Pool)
			if serves(*p, req) && (p.AutoAssign && req.Pool == "" || p.Name == req.Pool) {
				require.Equal(t, had[f], order, "an order stays")
			}
		}
		if len(order) == 0 {
			continue
		}
		p := m.named(order[0].Pool)
		require.True(t, wanted && !slices.ContainsFunc(asked, ofFamily), "%s orders what it does not ask for: %v", req.UID, order)
		require.True(t, buyer(p) && buys(p, f) && serves(*p, req), "%s orders from pool %s", req.UID, p.Name)
		if slices.Equal(had[f], order) {
			continue
		}
		require.False(t, m.closed[p.Name], "%s orders from closed pool %s", req.UID, p.Name)
		_, next := m.next(req, f)
		require.Equal(t, next, p.Name, "%s orders", req.UID)
		require.Empty(t, m.addressesOfKey(req, f), "%s orders although its key has an address", req.UID)
		require.Empty(t, m.buyers(req, f), "%s orders although its key has an order", req.UID)
	}
	require.Len(t, slices.DeleteFunc(slices.Clone(m.orders), func(o modelOrder) bool { return o.uid != req.UID }), len(got.Orders))
	if got.Refusal != nil && got.Refusal.Reason == lb.ReasonWaitingForPurchase {
		require.NotEmpty(t, append(m.buyers(req, lb.IPv4), m.buyers(req, lb.IPv6)...), got.Refusal.Message)
	}
}

// buyers are the others of the Service's key that have an order, from the pool that it names if it names one.
func (m *model) buyers(req lb.Request, f lb.Family) (uids []string) {
	for _, o := range m.orders {
		v := m.views[o.uid]
		if o.uid != req.UID && o.Family == f && req.SharingKey != "" && v.SharingKey == req.SharingKey && v.Namespace == req.Namespace &&
			(req.Pool == "" || req.Pool == o.Pool) {
			uids = append(uids, o.uid)
		}
	}
	return uids
}
