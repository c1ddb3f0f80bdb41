package pool_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// rented is a pool that buys its addresses, both families and without a limit.
func rented(name string, edit ...func(*config.Pool)) config.Pool {
	p := config.Pool{Name: name, AutoAssign: true, Hetzner: &config.HetznerPool{Ephemeral: &config.Ephemeral{IPv4: true, IPv6: true}}}
	for _, e := range edit {
		e(&p)
	}
	return p
}

func atMost(n int) func(*config.Pool) {
	return func(p *config.Pool) { p.Hetzner.Ephemeral.MaxAddresses = n }
}

func types(ipv4, ipv6 bool) func(*config.Pool) {
	return func(p *config.Pool) { p.Hetzner.Ephemeral.IPv4, p.Hetzner.Ephemeral.IPv6 = ipv4, ipv6 }
}

var dual = []lb.Family{lb.IPv4, lb.IPv6}

// orders asserts that exactly this is ordered for the Service, of pool rented, and that it has held meanwhile; also when
// it is asked again.
func orders(t *testing.T, a *pool.Allocator, req lb.Request, held []string, f ...lb.Family) {
	t.Helper()
	var want []pool.Order
	for _, f := range f {
		want = append(want, pool.Order{Pool: "rented", Family: f})
	}
	for range 2 {
		got := a.Assign(req)
		require.Nil(t, got.Refusal, "refusal of %s", req.Ref)
		require.Equal(t, want, got.Orders, "%s orders", req.Ref)
		require.Equal(t, leases(held...), append([]lb.Lease(nil), got.Want...), "%s has", req.Ref)
		require.Empty(t, got.Leave, "%s leaves", req.Ref)
		require.ElementsMatch(t, want, a.Orders(req.UID))
	}
}

func bought(t *testing.T, a *pool.Allocator, uid, address string) {
	t.Helper()
	require.True(t, a.Bought(uid, addr(address)), "%s is bought for %s", address, uid)
}

// A Service orders, gets what is bought, keeps it, and gives it back.
func TestOrderBecomesLease(t *testing.T) {
	a := pool.New([]config.Pool{rented("rented", atMost(3))})
	req := web("default/a", families(lb.RequireDualStack, dual...))
	orders(t, a, req, nil, lb.IPv4, lb.IPv6)
	bought(t, a, "default/a", "203.0.113.7")
	orders(t, a, req, []string{"203.0.113.7@rented"}, lb.IPv6)
	assert.Equal(t, []lb.Usage{
		{Pool: "rented", Family: lb.IPv4, Size: 3, Used: 1},
		{Pool: "rented", Family: lb.IPv6, Size: 3, Ordered: 1},
	}, a.Usage())
	bought(t, a, "default/a", "2001:db8::1")
	bought(t, a, "default/a", "2001:db8::1")
	gets(t, a, req, "203.0.113.7@rented", "2001:db8::1@rented")
	assert.Empty(t, a.Outside(), "what was bought is in its pool")
	name, ok := a.PoolOf(addr("203.0.113.7"))
	assert.True(t, ok)
	assert.Equal(t, "rented", name)

	release(t, a, "default/a", "203.0.113.7")
	release(t, a, "default/a", "2001:db8::1")
	_, ok = a.PoolOf(addr("203.0.113.7"))
	assert.False(t, ok, "what is released is the cloud's")
	assert.Equal(t, []lb.Usage{{Pool: "rented", Family: lb.IPv4, Size: 3}, {Pool: "rented", Family: lb.IPv6, Size: 3}}, a.Usage())
	orders(t, a, web("default/b"), nil, lb.IPv4)
}

func TestWhenAnAddressIsBought(t *testing.T) {
	tests := map[string]struct {
		pools []config.Pool
		req   lb.Request
		// held by the Service; nothing: it orders.
		held []string
	}{
		"addresses come first":       {[]config.Pool{rented("a"), aPool("office", "192.0.2.0/30")}, web("default/s"), []string{"192.0.2.0@office"}},
		"unless they are exhausted":  {[]config.Pool{rented("rented"), aPool("office", "2001:db8::/64")}, web("default/s"), nil},
		"unless named":               {[]config.Pool{rented("rented", named), aPool("office", "192.0.2.0/30")}, web("default/s", inPool("rented")), nil},
		"unless of lower priority":   {[]config.Pool{rented("rented", prio(1)), aPool("office", "192.0.2.0/30")}, web("default/s"), nil},
		"unless it is restricted":    {[]config.Pool{rented("rented", only("default")), aPool("office", "192.0.2.0/30", prio(1))}, web("default/s"), nil},
		"not by those not named":     {[]config.Pool{rented("rented", named, prio(1)), aPool("office", "192.0.2.0/30")}, web("default/s"), []string{"192.0.2.0@office"}},
		"not for others' namespaces": {[]config.Pool{rented("rented", only("other")), aPool("office", "192.0.2.0/30")}, web("default/s"), []string{"192.0.2.0@office"}},
		"by name among those that buy": {
			[]config.Pool{rented("z", atMost(1)), rented("rented")}, web("default/s"), nil,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := pool.New(test.pools)
			if test.held != nil {
				gets(t, a, test.req, test.held...)
				return
			}
			orders(t, a, test.req, nil, lb.IPv4)
		})
	}
}

// A pool that may buy no more says so, counting what is on order; who waits is served when one is given back or an
// order is given up.
func TestMaxAddresses(t *testing.T) {
	a := pool.New([]config.Pool{rented("rented", atMost(2))})
	orders(t, a, web("default/a"), nil, lb.IPv4)
	orders(t, a, web("default/b", families(lb.SingleStack, lb.IPv6)), nil, lb.IPv6)
	bought(t, a, "default/a", "203.0.113.7")
	refused(t, a, web("default/c"), nil, lb.ReasonPoolExhausted,
		"pool rented: of at most 2 addresses (maxAddresses) 1 are bought and 1 ordered; raise maxAddresses or delete a Service")
	release(t, a, "default/a", "203.0.113.7")
	orders(t, a, web("default/c"), nil, lb.IPv4)
	refused(t, a, web("default/d"), nil, lb.ReasonPoolExhausted)
	a.CancelOrder("default/b", lb.IPv6)
	orders(t, a, web("default/d"), nil, lb.IPv4)

	unlimited := pool.New([]config.Pool{rented("rented", types(true, false))})
	for i := range 100 {
		orders(t, unlimited, web("default/s"+string(rune('0'+i))), nil, lb.IPv4)
	}
	assert.Equal(t, []lb.Usage{{Pool: "rented", Family: lb.IPv4, Size: math.MaxUint64, Ordered: 100}}, unlimited.Usage())
}

// Nothing is paid for a Service that requires two families and cannot have both.
func TestOrdersOfDualStack(t *testing.T) {
	require2, prefer2 := families(lb.RequireDualStack, dual...), families(lb.PreferDualStack, dual...)
	four, six := rented("rented", types(true, false)), aPool("six", "2001:db8::/126")

	a := pool.New([]config.Pool{four})
	refused(t, a, web("default/a", require2), nil, lb.ReasonFamilyUnavailable, "pool rented has no IPv6 addresses: add some (with hetzner.ephemeral: buy ipv6 in types)")
	assert.Empty(t, a.Orders("default/a"))
	orders(t, a, web("default/b", prefer2), nil, lb.IPv4)

	a = pool.New([]config.Pool{four, six})
	orders(t, a, web("default/a", require2), []string{"2001:db8::@six"}, lb.IPv4)

	a = pool.New([]config.Pool{rented("rented", atMost(1))})
	refused(t, a, web("default/a", require2), nil, lb.ReasonPoolExhausted, "of at most 1 addresses (maxAddresses) 0 are bought and 1 ordered")
	assert.Empty(t, a.Orders("default/a"))
	got := a.Assign(web("default/b", prefer2))
	assert.Equal(t, []pool.Order{{Pool: "rented", Family: lb.IPv4}}, got.Orders)
	assert.Equal(t, lb.ReasonPoolExhausted, got.Refusal.Reason)

	// The half that was ordered is given up when the other half is not to be had any more.
	a = pool.New([]config.Pool{four, six})
	orders(t, a, web("default/a", families(lb.SingleStack, lb.IPv4)), nil, lb.IPv4)
	a.SetPools([]config.Pool{four})
	refused(t, a, web("default/a", require2), nil, lb.ReasonFamilyUnavailable)
	assert.Empty(t, a.Orders("default/a"))
}

// Services that share order once: the second waits, and joins what was bought; it orders itself when the first gives up.
func TestSharersBuyOnce(t *testing.T) {
	first, second := web("default/a", key("k")), web("default/b", key("k"), port(81, "TCP"))
	start := func(t *testing.T) *pool.Allocator {
		a := pool.New([]config.Pool{rented("rented"), rented("other", named), rented("picky", named, services("expose=true"))})
		orders(t, a, first, nil, lb.IPv4)
		refused(t, a, second, nil, lb.ReasonWaitingForPurchase, "Service default/a", "pool rented", `sharing-key "k"`)
		assert.Equal(t, uint64(1), a.Usage()[4].Ordered)
		return a
	}
	t.Run("joins", func(t *testing.T) {
		a := start(t)
		bought(t, a, first.UID, "203.0.113.7")
		gets(t, a, second, "203.0.113.7@rented")
		assert.False(t, a.Release(first.UID, addr("203.0.113.7")))
		release(t, a, second.UID, "203.0.113.7")
	})
	t.Run("orders", func(t *testing.T) {
		a := start(t)
		a.CancelOrder(first.UID, lb.IPv4)
		orders(t, a, second, nil, lb.IPv4)
		refused(t, a, first, nil, lb.ReasonWaitingForPurchase, "Service default/b")
	})
	t.Run("is told at once of a clash", func(t *testing.T) {
		refused(t, start(t), web("default/c", key("k")), nil, lb.ReasonSharingConflict, "port 80/TCP on the IPv4 address that is being bought", "default/a")
	})
	t.Run("is told at once that the pool is not its own", func(t *testing.T) {
		a := start(t)
		a.CancelOrder(first.UID, lb.IPv4)
		picky := with(first, inPool("picky"), labelled("true", ""))
		require.Len(t, a.Assign(picky).Orders, 1)
		refused(t, a, second, nil, lb.ReasonSharingConflict, `pool "picky" does not serve Services`)
	})
	t.Run("does not wait with another pool named, namespace, key or family", func(t *testing.T) {
		a := start(t)
		for _, req := range []lb.Request{
			with(second, inPool("other")), web("other/b", key("k")), web("default/c", key("l")), web("default/d"),
			web("default/e", key("k"), families(lb.SingleStack, lb.IPv6)),
		} {
			assert.Len(t, a.Assign(req).Orders, 1, req.Ref)
		}
	})
	t.Run("waits although its own choice has nothing", func(t *testing.T) {
		a := pool.New([]config.Pool{rented("rented", named)})
		orders(t, a, with(first, inPool("rented")), nil, lb.IPv4)
		refused(t, a, second, nil, lb.ReasonWaitingForPurchase)
	})
}

// A move to a bought address leaves the old one only when the new one is there.
// TestOrderTakesRoomFromTheOtherFamily: what one family orders takes the last room of the pool that the other one would
// have waited for in vain. It is served by the next pool at once, and not only when it is asked for again.
func TestOrderTakesRoomFromTheOtherFamily(t *testing.T) {
	a := pool.New([]config.Pool{rented("rented", atMost(2), prio(1)), aPool("open", "192.0.2.10")})
	orders(t, a, web("default/a", key("k")), nil, lb.IPv4)
	orders(t, a, web("default/b", key("k"), families(lb.PreferDualStack, dual...)), []string{"192.0.2.10@open"}, lb.IPv6)
}

func TestMoveToBoughtAddress(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0/30"), rented("rented")})
	gets(t, a, web("default/a"), "192.0.2.0@office")
	moved := web("default/a", inPool("rented"))
	orders(t, a, moved, []string{"192.0.2.0@office"}, lb.IPv4)
	bought(t, a, "default/a", "203.0.113.7")
	moves(t, a, moved, []string{"203.0.113.7@rented"}, []string{"192.0.2.0@office"})

	gets(t, a, web("default/b"), "192.0.2.1@office")
	orders(t, a, web("default/b", families(lb.SingleStack, lb.IPv6)), []string{"192.0.2.1@office"}, lb.IPv6)
}

// An order ends with what asked for it, and what is bought for it after that is the caller's to keep or to return.
func TestOrderIsGivenUp(t *testing.T) {
	office := aPool("office", "192.0.2.0/30", named)
	tests := map[string]func(a *pool.Allocator){
		"another pool is named": func(a *pool.Allocator) { gets(t, a, web("default/a", inPool("office")), "192.0.2.0@office") },
		"an address is asked for": func(a *pool.Allocator) {
			gets(t, a, web("default/a", askFor("192.0.2.3")), "192.0.2.3@office")
		},
		"an address is asked for in vain": func(a *pool.Allocator) {
			refused(t, a, web("default/a", askFor("198.51.100.1")), nil, lb.ReasonAddressNotInPool)
		},
		"another family": func(a *pool.Allocator) {
			orders(t, a, web("default/a", families(lb.SingleStack, lb.IPv6)), nil, lb.IPv6)
		},
		"the pool serves others now": func(a *pool.Allocator) {
			a.SetPools([]config.Pool{office, rented("rented", only("other"))})
			refused(t, a, web("default/a"), nil, lb.ReasonNoPool)
		},
		"the pool must be named now": func(a *pool.Allocator) {
			a.SetPools([]config.Pool{office, rented("rented", named)})
			refused(t, a, web("default/a"), nil, lb.ReasonNoPool, "pool rented has autoAssign: false and must be named")
		},
		"the pool is gone":                  func(a *pool.Allocator) { a.SetPools([]config.Pool{office}) },
		"the pool buys the other type":      func(a *pool.Allocator) { a.SetPools([]config.Pool{office, rented("rented", types(false, true))}) },
		"the pool has addresses of its own": func(a *pool.Allocator) { a.SetPools([]config.Pool{aPool("rented", "192.0.2.0/30")}) },
		"cancelled":                         func(a *pool.Allocator) { a.CancelOrder("default/a", lb.IPv4) },
	}
	for name, giveUp := range tests {
		t.Run(name, func(t *testing.T) {
			a := pool.New([]config.Pool{office, rented("rented", atMost(1))})
			orders(t, a, web("default/a"), nil, lb.IPv4)
			giveUp(a)
			assert.False(t, a.Bought("default/a", addr("203.0.113.7")))
			assert.NotContains(t, a.Leases("default/a"), lease("203.0.113.7@rented"))
			for _, u := range a.Usage() {
				assert.True(t, u.Family == lb.IPv6 || u.Ordered == 0, "%v", u)
			}
		})
	}
}

// A reload keeps orders. When maxAddresses was lowered, the oldest are kept.
func TestOrdersSurviveReload(t *testing.T) {
	a := pool.New([]config.Pool{rented("rented")})
	for _, name := range []string{"default/c", "default/a", "default/b"} {
		orders(t, a, web(name), nil, lb.IPv4)
	}
	bought(t, a, "default/b", "203.0.113.7")
	a.SetPools([]config.Pool{rented("rented", atMost(2)), rented("another")})
	assert.Len(t, a.Orders("default/c"), 1)
	assert.Empty(t, a.Orders("default/a"))
	gets(t, a, web("default/b"), "203.0.113.7@rented")
	orders(t, a, web("default/c"), nil, lb.IPv4)
	assert.Equal(t, "another", a.Assign(web("default/a")).Orders[0].Pool)
}

// What was bought before a restart counts, is in order, and is kept beyond a limit that was lowered meanwhile.
func TestAdoptBought(t *testing.T) {
	a := pool.New([]config.Pool{rented("rented", atMost(1), types(true, false))})
	require.Nil(t, a.Adopt(web("default/a"), lease("203.0.113.7@rented")))
	gets(t, a, web("default/a"), "203.0.113.7@rented")
	refused(t, a, web("default/b"), nil, lb.ReasonPoolExhausted, "1 are bought and 0 ordered")
	v6 := web("default/c", families(lb.SingleStack, lb.IPv6))
	require.Nil(t, a.Adopt(v6, lease("2001:db8::1@rented")))
	gets(t, a, v6, "2001:db8::1@rented")
	assert.Equal(t, []lb.Usage{
		{Pool: "rented", Family: lb.IPv4, Size: 1, Used: 1},
		{Pool: "rented", Family: lb.IPv6, Size: 1, Used: 1},
	}, a.Usage(), "a family that is bought no more is shown as long as there is some")

	a.SetPools([]config.Pool{rented("renamed")})
	refused(t, a, web("default/a"), []string{"203.0.113.7@rented"}, lb.ReasonPoolMissing)
	assert.Len(t, a.Outside(), 2)
	a.SetPools([]config.Pool{rented("rented")})
	gets(t, a, web("default/a"), "203.0.113.7@rented")
}

// An order is done when the address that was bought for it is found after all.
func TestAdoptFulfilsOrder(t *testing.T) {
	a := pool.New([]config.Pool{rented("rented", atMost(1))})
	orders(t, a, web("default/a"), nil, lb.IPv4)
	require.Nil(t, a.Adopt(web("default/a"), lease("203.0.113.7@rented")))
	gets(t, a, web("default/a"), "203.0.113.7@rented")
	assert.Zero(t, a.Usage()[0].Ordered)
}

// Listing a bought address in addresses takes it over: the Service keeps it, and there is room to buy another.
func TestTakeOverOfBoughtAddress(t *testing.T) {
	pools := []config.Pool{rented("rented", atMost(1))}
	a := pool.New(pools)
	orders(t, a, web("default/a"), nil, lb.IPv4)
	bought(t, a, "default/a", "203.0.113.7")
	a.SetPools(append(pools, aPool("ours", "203.0.113.7", named)))
	gets(t, a, web("default/a"), "203.0.113.7@ours")
	orders(t, a, web("default/b"), nil, lb.IPv4)
	release(t, a, "default/a", "203.0.113.7")
	gets(t, a, web("default/a", inPool("ours")), "203.0.113.7@ours")
}

func TestAskingForBoughtAddress(t *testing.T) {
	a := pool.New([]config.Pool{rented("rented"), rented("other", named)})
	orders(t, a, web("default/a"), nil, lb.IPv4)
	bought(t, a, "default/a", "203.0.113.7")
	for name, ask := range map[string]func(...string) func(*lb.Request){"addresses": askFor, "externalIPs": external} {
		t.Run(name, func(t *testing.T) {
			gets(t, a, web("default/a", ask("203.0.113.7")), "203.0.113.7@rented")
			refused(t, a, web("default/b", ask("203.0.113.7")), nil, lb.ReasonAddressInUse, "default/a")
		})
	}
	refused(t, a, web("default/b", askFor("203.0.113.7"), inPool("other")), nil, lb.ReasonAddressNotInPool, `pool "rented"`)
	_, refusal := a.Allowed(web("default/b", func(r *lb.Request) { r.Class = "x/y" }), addr("203.0.113.7"))
	assert.Equal(t, lb.ReasonNotAllowed, refusal.Reason)
	gets(t, a, web("default/a", key("k")), "203.0.113.7@rented")
	gets(t, a, web("default/b", key("k"), port(81, "TCP"), askFor("203.0.113.7")), "203.0.113.7@rented")
	assert.False(t, a.Bought("default/c", addr("203.0.113.7")))
	orders(t, a, web("default/c"), nil, lb.IPv4)
	assert.False(t, a.Bought("default/c", addr("203.0.113.7")), "another Service holds it")
}
