package pool_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// A closed pool gives out nothing new and lets nobody turn to another pool; what is held there is in order.
func TestClosedPool(t *testing.T) {
	pools := []config.Pool{aPool("office", "192.0.2.0/30", prio(1)), aPool("lab", "198.51.100.0/30")}
	a := pool.New(pools)
	gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
	a.SetClosed("office", shut)
	for range 2 {
		gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
		gets(t, a, web("default/a2", key("k"), port(81, "TCP")), "192.0.2.0@office")
		refused(t, a, web("default/b"), nil, shut.Reason, `pool "office"`, shut.Message)
		refused(t, a, web("default/b", inPool("office")), nil, shut.Reason, shut.Message)
		refused(t, a, web("default/b", askFor("192.0.2.3")), nil, shut.Reason, shut.Message)
		refused(t, a, web("default/b", askFor("192.0.2.0")), nil, lb.ReasonAddressInUse)
		gets(t, a, web("default/c", inPool("lab")), "198.51.100.0@lab")
		a.SetPools(pools)
	}
	a.SetClosed("office", nil)
	gets(t, a, web("default/b"), "192.0.2.1@office")

	a.SetClosed("office", shut)
	for _, name := range []string{"d", "e"} {
		refused(t, a, web("default/"+name), nil, shut.Reason)
	}
	a.SetPools(pools[1:])
	a.SetPools(pools)
	gets(t, a, web("default/d"), "192.0.2.2@office")
	a.SetClosed("new", shut)
	a.SetPools(append(pools, aPool("new", "203.0.113.0/30", named)))
	gets(t, a, web("default/e", inPool("new")), "203.0.113.0@new")
}

// A closed pool that has nothing left would not have served the Service anyway: another pool does.
func TestClosedPoolThatIsExhausted(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0", prio(1)), aPool("lab", "198.51.100.0/30")})
	gets(t, a, web("default/a"), "192.0.2.0@office")
	a.SetClosed("office", shut)
	gets(t, a, web("default/b"), "198.51.100.0@lab")
}

// An order stands while its pool is closed, and says why nothing comes of it; new ones are refused.
func TestClosedPoolThatBuys(t *testing.T) {
	a := pool.New([]config.Pool{rented("rented")})
	orders(t, a, web("default/a"), nil, lb.IPv4)
	a.SetClosed("rented", shut)
	got := a.Assign(web("default/a"))
	assert.Equal(t, []pool.Order{{Pool: "rented", Family: lb.IPv4}}, got.Orders)
	require.NotNil(t, got.Refusal)
	assert.Equal(t, shut.Reason, got.Refusal.Reason)
	refused(t, a, web("default/b"), nil, shut.Reason, `pool "rented"`, shut.Message)
	bought(t, a, "default/a", "203.0.113.7")
	gets(t, a, web("default/a"), "203.0.113.7@rented")
	a.SetClosed("rented", nil)
	orders(t, a, web("default/b"), nil, lb.IPv4)
}

// An address that is withheld is given to nobody who does not have it, asked for or not, until it is given out again.
func TestWithheldAddress(t *testing.T) {
	pools := []config.Pool{aPool("office", "192.0.2.0/30")}
	a := pool.New(pools)
	gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
	a.Withhold(addr("192.0.2.0"), gone)
	a.Withhold(addr("192.0.2.1"), lb.Refuse("Old", "old words"))
	a.Withhold(addr("192.0.2.1"), gone)
	for range 2 {
		gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
		refused(t, a, web("default/c", key("k"), port(81, "TCP")), nil, gone.Reason, "192.0.2.0", gone.Message)
		refused(t, a, web("default/c", askFor("192.0.2.1")), nil, gone.Reason, "asks for 192.0.2.1", gone.Message)
		gets(t, a, web("default/b"), "192.0.2.2@office")
		assert.Equal(t, []lb.Usage{{Pool: "office", Family: lb.IPv4, Size: 4, Used: 2, Quarantined: 1}}, a.Usage())
		a.SetPools(nil)
		a.SetPools(pools)
	}
	release(t, a, "default/a", "192.0.2.0")
	gets(t, a, web("default/d"), "192.0.2.3@office")
	refused(t, a, web("default/e"), nil, lb.ReasonPoolExhausted, "2 are in use and 2 quarantined")
	a.Withhold(addr("192.0.2.1"), nil)
	a.Withhold(addr("192.0.2.1"), nil)
	gets(t, a, web("default/e"), "192.0.2.1@office")
	a.Withhold(addr("192.0.2.0"), nil)
	gets(t, a, web("default/f"), "192.0.2.0@office")
}

// An address under quarantine that is withheld too is free only when both are over.
func TestWithheldAndQuarantined(t *testing.T) {
	for name, lift := range map[string][2]func(*pool.Allocator){
		"quarantine first": {func(a *pool.Allocator) { a.Unquarantine(addr("192.0.2.0")) }, func(a *pool.Allocator) { a.Withhold(addr("192.0.2.0"), nil) }},
		"quarantine last":  {func(a *pool.Allocator) { a.Withhold(addr("192.0.2.0"), nil) }, func(a *pool.Allocator) { a.Unquarantine(addr("192.0.2.0")) }},
	} {
		t.Run(name, func(t *testing.T) {
			a := pool.New([]config.Pool{aPool("office", "192.0.2.0")})
			a.Quarantine(addr("192.0.2.0"))
			a.Withhold(addr("192.0.2.0"), gone)
			assert.Equal(t, uint64(1), a.Usage()[0].Quarantined)
			lift[0](a)
			assert.Equal(t, uint64(1), a.Usage()[0].Quarantined)
			refused(t, a, web("default/a"), nil, lb.ReasonPoolExhausted)
			lift[1](a)
			gets(t, a, web("default/a"), "192.0.2.0@office")
		})
	}
}
