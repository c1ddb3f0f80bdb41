package pool_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// A free choice falls on an updater pool after addresses and before what is bought, when nothing else tells pools apart.
func TestUpdaterPoolsInTheFreeChoice(t *testing.T) {
	office, ports, buys := aPool("z-office", "192.0.2.8"), edge("m-edge", host, 8100, 8100), rented("a-rented")
	t.Run("addresses, ports, what is bought", func(t *testing.T) {
		a := pool.New([]config.Pool{buys, ports, office})
		gets(t, a, web("default/a"), "192.0.2.8@z-office")
		getsPorts(t, a, web("default/b"), "8100/TCP->80@m-edge")
		assert.Equal(t, []pool.Order{{Pool: "a-rented", Family: lb.IPv4}}, a.Assign(web("default/c")).Orders)
		getsPorts(t, a, web("default/d", serving("53/UDP")), "8100/UDP->53@m-edge")
	})
	t.Run("priority and restriction come first", func(t *testing.T) {
		a := pool.New([]config.Pool{edge("low", host, 8100, 8100), edge("high", host, 8200, 8200, prio(1)), edge("mine", host, 8300, 8300, only("default")), office})
		getsPorts(t, a, web("default/a"), "8300/TCP->80@mine")
		getsPorts(t, a, web("default/b"), "8200/TCP->80@high")
		gets(t, a, web("default/c"), "192.0.2.8@z-office")
		getsPorts(t, a, web("default/d"), "8100/TCP->80@low")
		refusedPorts(t, a, web("default/e"), nil, lb.ReasonPoolExhausted, "z-office", "pool mine: all 1 TCP ports", "and 2 more")
	})
	t.Run("a Service of any family is served by ports, and of none by half", func(t *testing.T) {
		a := pool.New([]config.Pool{edge("edge", host, 8100, 8109), aPool("four", "192.0.2.8")})
		getsPorts(t, a, web("default/six", families(lb.SingleStack, lb.IPv6)), "8100/TCP->80@edge")
		gets(t, a, web("default/both", families(lb.PreferDualStack, lb.IPv6, lb.IPv4)), "192.0.2.8@four")
	})
	t.Run("one that must be named", func(t *testing.T) {
		a := pool.New([]config.Pool{edge("edge", host, 8100, 8109, named)})
		refusedPorts(t, a, web("default/a"), nil, lb.ReasonNoPool, "edge has autoAssign: false and must be named")
		getsPorts(t, a, web("default/a", inPool("edge")), "8100/TCP->80@edge")
	})
	t.Run("not for want of a port asked for", func(t *testing.T) {
		a := pool.New([]config.Pool{edge("one", host, 8100, 8100), edge("two", host, 8200, 8200), buys})
		getsPorts(t, a, web("default/a", wishing("80/TCP=8200")), "8200/TCP->80@two")
		refusedPorts(t, a, web("default/b", wishing("80/TCP=8200")), nil, lb.ReasonPortNotInPool, "8200/TCP", `pool "one"`)
	})
	t.Run("what the key has", func(t *testing.T) {
		a := pool.New([]config.Pool{office})
		gets(t, a, web("default/a", key("k")), "192.0.2.8@z-office")
		a.SetPools([]config.Pool{office, edge("edge", host, 8100, 8109, prio(1))})
		gets(t, a, web("default/b", key("k"), port(81, lb.TCP)), "192.0.2.8@z-office")
		getsPorts(t, a, web("default/c", key("other")), "8100/TCP->80@edge")
		getsPorts(t, a, web("default/d", key("other")), "8101/TCP->80@edge")
	})
	t.Run("a closed pool", func(t *testing.T) {
		a := pool.New([]config.Pool{edge("edge", host, 8100, 8101), buys})
		getsPorts(t, a, web("default/a"), "8100/TCP->80@edge")
		a.SetClosed("edge", lb.Refuse("Shut", "the updater is not answering"))
		refusedPorts(t, a, web("default/b"), nil, "Shut", `"edge"`, "the updater is not answering")
		getsPorts(t, a, web("default/a"), "8100/TCP->80@edge")
		refusedPorts(t, a, web("default/a", serving("80/TCP", "443/TCP")), []string{"8100/TCP->80@edge"}, "Shut")
		a.SetClosed("edge", nil)
		getsPorts(t, a, web("default/b"), "8101/TCP->80@edge")
	})
}

// A Service that names another pool keeps what it has until it is told what to have instead, and all of it when that is
// refused.
func TestMovesBetweenAddressesAndPorts(t *testing.T) {
	pools := []config.Pool{aPool("office", "192.0.2.8"), edge("edge", host, 8100, 8101), edge("far", "lb.example.com", 8100, 8101, named), rented("rented", atMost(1))}
	t.Run("from an address to ports and back", func(t *testing.T) {
		a := pool.New(pools)
		gets(t, a, web("default/s"), "192.0.2.8@office")
		refused(t, a, web("default/s", inPool("edge"), wishing("80/TCP=9000")), []string{"192.0.2.8@office"}, lb.ReasonPortNotInPool, "9000/TCP")
		onEdge := web("default/s", inPool("edge"))
		for range 2 {
			got := a.Assign(onEdge)
			require.Nil(t, got.Refusal)
			assert.Empty(t, got.Want)
			assert.Equal(t, leases("192.0.2.8@office"), got.Leave)
			assert.Equal(t, portLeases("8100/TCP->80@edge"), got.Ports)
		}
		t.Run("the name is gone before the address is", func(t *testing.T) {
			assert.Equal(t, portLeases("8100/TCP->80@edge"), a.Assign(web("default/s")).Ports, "no swinging back")
		})
		release(t, a, "default/s", "192.0.2.8")
		getsPorts(t, a, onEdge, "8100/TCP->80@edge")
		for range 2 {
			got := a.Assign(web("default/s", inPool("office")))
			require.Nil(t, got.Refusal)
			assert.ElementsMatch(t, leases("192.0.2.8@office"), got.Want)
			assert.Empty(t, got.Ports)
			assert.Equal(t, portLeases("8100/TCP->80@edge"), got.LeavePorts)
		}
		gotBack := a.Assign(web("default/s"))
		assert.ElementsMatch(t, leases("192.0.2.8@office"), gotBack.Want, "no swinging back")
		assert.Empty(t, gotBack.Ports)
		releasePorts(t, a, "default/s", "8100/TCP->80@edge")
		gets(t, a, web("default/s"), "192.0.2.8@office")
	})
	t.Run("from one load balancer to another", func(t *testing.T) {
		a := pool.New(pools)
		req := web("default/s", inPool("edge"), serving("80/TCP", "8101/TCP"))
		getsPorts(t, a, req, "8100/TCP->80@edge", "8101/TCP->8101@edge")
		getsPorts(t, a, web("default/other", inPool("far")), "8100/TCP->80@far")
		there := with(req, inPool("far"))
		refusedPorts(t, a, there, []string{"8100/TCP->80@edge", "8101/TCP->8101@edge"}, lb.ReasonPoolExhausted, "pool far")
		releasePorts(t, a, "default/other", "8100/TCP->80@far")
		movesPorts(t, a, there, []string{"8100/TCP->80@far", "8101/TCP->8101@far"}, []string{"8100/TCP->80@edge", "8101/TCP->8101@edge"})
		getsPorts(t, a, with(there, inPool("")), "8100/TCP->80@far", "8101/TCP->8101@far")
	})
	t.Run("to what is bought", func(t *testing.T) {
		a := pool.New(pools)
		getsPorts(t, a, web("default/s", inPool("edge")), "8100/TCP->80@edge")
		buying := web("default/s", inPool("rented"))
		for range 2 {
			got := a.Assign(buying)
			require.Nil(t, got.Refusal)
			assert.Empty(t, got.Want)
			assert.Equal(t, portLeases("8100/TCP->80@edge"), got.Ports, "it goes on with its port until the address is bought")
			assert.Len(t, got.Orders, 1)
		}
		got := a.Assign(web("default/s", inPool("edge")))
		assert.Empty(t, got.Orders, "and does not need the address any more")
		a.Assign(buying)
		require.True(t, a.Bought("default/s", addr("203.0.113.1")))
		got = a.Assign(buying)
		assert.ElementsMatch(t, leases("203.0.113.1@rented"), got.Want)
		assert.Equal(t, portLeases("8100/TCP->80@edge"), got.LeavePorts)
	})
	t.Run("addresses and an updater pool are not asked for together", func(t *testing.T) {
		a := pool.New(pools)
		refused(t, a, web("default/s", inPool("edge"), askFor("192.0.2.8")), nil, lb.ReasonAddressNotInPool, "mooring.dev/addresses", "192.0.2.8", "mooring.dev/pool", `"edge"`)
		getsPorts(t, a, web("default/s", inPool("edge")), "8100/TCP->80@edge")
		refusedPorts(t, a, web("default/s", inPool("edge"), loadBalancerIP("192.0.2.8")), []string{"8100/TCP->80@edge"}, lb.ReasonAddressNotInPool, "spec.loadBalancerIP")
		refusedPorts(t, a, web("default/s", askFor("192.0.2.99")), []string{"8100/TCP->80@edge"}, lb.ReasonAddressNotInPool, "192.0.2.99", "of pool office, rented")
		got := a.Assign(web("default/s", askFor("192.0.2.8")))
		assert.ElementsMatch(t, leases("192.0.2.8@office"), got.Want)
		assert.Equal(t, portLeases("8100/TCP->80@edge"), got.LeavePorts)
	})
	t.Run("cut short by a restart", func(t *testing.T) {
		a := pool.New(pools)
		req := web("default/s")
		require.Nil(t, a.Adopt(req, lease("192.0.2.8@office")))
		adoptPorts(t, a, req, "8100/TCP->80@edge")
		got := a.Assign(with(req, inPool("none")))
		assert.ElementsMatch(t, leases("192.0.2.8@office"), got.Want, "a refusal takes nothing")
		assert.Equal(t, portLeases("8100/TCP->80@edge"), got.Ports)
		got = a.Assign(with(req, inPool("office")))
		assert.ElementsMatch(t, leases("192.0.2.8@office"), got.Want)
		assert.Empty(t, got.Ports)
		got = a.Assign(with(req, inPool("edge")))
		assert.Equal(t, leases("192.0.2.8@office"), got.Leave)
		assert.Equal(t, portLeases("8100/TCP->80@edge"), got.Ports)
	})
}

// A pool that serves a Service no longer keeps it, and gives it nothing new.
func TestPortsOfPoolThatDoesNotServe(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8109)})
	getsPorts(t, a, web("default/s"), "8100/TCP->80@edge")
	a.SetPools([]config.Pool{edge("edge", host, 8100, 8109, only("other"))})
	refusedPorts(t, a, web("default/s"), []string{"8100/TCP->80@edge"}, lb.ReasonNotAllowed, "8100/TCP is kept", "allowedNamespaces")
	refusedPorts(t, a, web("default/s", serving("80/TCP", "443/TCP")), []string{"8100/TCP->80@edge"}, lb.ReasonNotAllowed, "443/TCP gets no port")
	refusedPorts(t, a, web("default/new", inPool("edge")), nil, lb.ReasonNotAllowed, "mooring.dev/pool", "allowedNamespaces")
	assert.NotNil(t, a.AllowedPool(web("default/s"), "edge"))
	assert.Nil(t, a.AllowedPool(web("other/s"), "edge"))
	assert.Equal(t, lb.ReasonPoolNotFound, a.AllowedPool(web("other/s"), "none").Reason)
}

// What is published stays where it is, whatever becomes of the pools.
func TestPortsOverReloads(t *testing.T) {
	pools := []config.Pool{edge("edge", host, 8100, 8103)}
	two := web("default/two", serving("80/TCP", "443/TCP"), wishing("80/TCP=8100", "443/TCP=8103"))
	start := func(t *testing.T) *pool.Allocator {
		a := pool.New(pools)
		getsPorts(t, a, two, "8100/TCP->80@edge", "8103/TCP->443@edge")
		return a
	}
	kept := []string{"8100/TCP->80@edge", "8103/TCP->443@edge"}
	plain := with(two, wishing())
	t.Run("a smaller range", func(t *testing.T) {
		a := start(t)
		a.SetPools([]config.Pool{edge("edge", host, 8100, 8101)})
		refusedPorts(t, a, two, kept, lb.ReasonPortNotInPool, "8103/TCP is kept", "8100-8101")
		refusedPorts(t, a, plain, kept, lb.ReasonPortNotInPool, "8103/TCP is kept", "8100-8101")
		assert.Equal(t, 1, a.PortUsage()[0].Used)
		releasePorts(t, a, two.UID, "8103/TCP->443@edge")
		getsPorts(t, a, plain, "8100/TCP->80@edge", "8101/TCP->443@edge")
		a.SetPools(pools)
		assert.NotContains(t, unusedPorts(a, "edge"), "8100/TCP")
	})
	t.Run("no pool any more, and back", func(t *testing.T) {
		a := start(t)
		a.SetPools([]config.Pool{aPool("office", "192.0.2.8")})
		refusedPorts(t, a, plain, kept, lb.ReasonPoolMissing, `"edge"`, "put the pool back")
		refusedPorts(t, a, with(plain, serving("80/TCP", "443/TCP", "53/UDP")), kept, lb.ReasonPoolMissing, "53/UDP gets no port")
		assert.Len(t, a.OutsidePorts(), 2)
		got := a.Assign(with(plain, inPool("office")))
		assert.ElementsMatch(t, leases("192.0.2.8@office"), got.Want)
		assert.Len(t, got.LeavePorts, 2)
		a.SetPools(pools)
		getsPorts(t, start(t), plain, kept...)
		a.Release(two.UID, addr("192.0.2.8"))
		getsPorts(t, a, plain, kept...)
	})
	t.Run("another name", func(t *testing.T) {
		a := start(t)
		a.SetPools([]config.Pool{edge("front", host, 8000, 8200)})
		getsPorts(t, a, plain, "8100/TCP->80@front", "8103/TCP->443@front")
	})
	t.Run("split in two", func(t *testing.T) {
		a := start(t)
		a.SetPools([]config.Pool{edge("edge", host, 8100, 8101), edge("more", host, 8102, 8103)})
		getsPorts(t, a, plain, "8100/TCP->80@edge", "8103/TCP->443@more")
		movesPorts(t, a, with(plain, inPool("more")), []string{"8102/TCP->80@more", "8103/TCP->443@more"}, []string{"8100/TCP->80@edge"})
	})
	t.Run("another host", func(t *testing.T) {
		a := start(t)
		a.SetPools([]config.Pool{edge("edge", "192.0.2.2", 8100, 8103)})
		getsPorts(t, a, plain, kept...)
		name, _ := a.PoolOfHost("192.0.2.2", 8100)
		assert.Equal(t, "edge", name)
		refusedPorts(t, a, web("default/other", wishing("80/TCP=8100")), nil, lb.ReasonPortInUse, "default/two")
	})
	t.Run("a host that has the port already", func(t *testing.T) {
		a := pool.New([]config.Pool{edge("edge", host, 8100, 8103), edge("far", "192.0.2.2", 8100, 8103)})
		getsPorts(t, a, web("default/a", inPool("edge")), "8100/TCP->80@edge")
		getsPorts(t, a, web("default/b", inPool("far")), "8100/TCP->80@far")
		a.SetPools([]config.Pool{edge("edge", "192.0.2.2", 8100, 8103)})
		getsPorts(t, a, web("default/b"), "8100/TCP->80@edge")
		movesPorts(t, a, web("default/a"), []string{"8101/TCP->80@edge"}, []string{"8100/TCP->80@edge"})
	})
	t.Run("what was freed stays last", func(t *testing.T) {
		a := start(t)
		getsPorts(t, a, web("default/a"), "8101/TCP->80@edge")
		releasePorts(t, a, two.UID, "8103/TCP->443@edge", "8100/TCP->80@edge")
		a.SetPools([]config.Pool{edge("edge", host, 8100, 8103), edge("more", "192.0.2.9", 1, 2)})
		for i, want := range []string{"8102", "8103", "8100"} {
			getsPorts(t, a, web("default/"+string(rune('m'+i)), inPool("edge")), want+"/TCP->80@edge")
		}
	})
}
