package pool_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

const host = "192.0.2.1"

// A Service gets the number that it has itself when it can, else the lowest that was never used; TCP and UDP do not get
// into each other's way; and what is freed is given out last, the oldest first.
func TestPortsInOrder(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8103)})
	getsPorts(t, a, web("default/own", serving("8102/TCP", "8102/UDP", "80/TCP")), "8102/TCP->8102@edge", "8102/UDP->8102@edge", "8100/TCP->80@edge")
	getsPorts(t, a, web("default/taken", serving("8102/TCP", "53/UDP")), "8101/TCP->8102@edge", "8100/UDP->53@edge")
	releasePorts(t, a, "default/taken", "8101/TCP->8102@edge", "8100/UDP->53@edge")
	releasePorts(t, a, "default/own", "8100/TCP->80@edge")
	getsPorts(t, a, web("default/never", serving("80/TCP")), "8103/TCP->80@edge")
	getsPorts(t, a, web("default/oldest", serving("80/TCP")), "8101/TCP->80@edge")
	getsPorts(t, a, web("default/last", serving("80/TCP")), "8100/TCP->80@edge")
	getsPorts(t, a, web("default/dns", serving("53/UDP")), "8101/UDP->53@edge")
	getsPorts(t, a, web("default/dns", serving("53/UDP")), "8101/UDP->53@edge")
}

// A number of its own that was used before is as good as a new one.
func TestOwnNumberThatWasFreed(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8103)})
	getsPorts(t, a, web("default/a", serving("8101/TCP")), "8101/TCP->8101@edge")
	releasePorts(t, a, "default/a", "8101/TCP->8101@edge")
	getsPorts(t, a, web("default/b", serving("80/TCP", "8101/TCP")), "8100/TCP->80@edge", "8101/TCP->8101@edge")
}

// A Service gets all of its ports or none, and is told which one is in the way.
func TestAllPortsOrNone(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8102)})
	getsPorts(t, a, web("default/first", wishing("80/TCP=8101")), "8101/TCP->80@edge")
	two := web("default/two", serving("80/TCP", "443/TCP"))
	refusedPorts(t, a, with(two, wishing("443/TCP=8101")), nil, lb.ReasonPortInUse, "mooring.dev/lb-ports", "8101/TCP", "443/TCP", "default/first", `"edge"`)
	refusedPorts(t, a, with(two, wishing("80/TCP=9000")), nil, lb.ReasonPortNotInPool, "mooring.dev/lb-ports", "9000/TCP", "80/TCP", "8100-8102", `"edge"`)
	refusedPorts(t, a, with(two, serving("80/TCP", "443/TCP", "8443/TCP")), nil, lb.ReasonPoolExhausted, "pool edge", "all 3 TCP ports (8100-8102)", "8443/TCP", "portRange")
	assert.Len(t, unusedPorts(a, "edge"), 5, "a refusal takes nothing")
	getsPorts(t, a, two, "8100/TCP->80@edge", "8102/TCP->443@edge")
}

// What a Service asks for of one port, adds or removes changes that port only.
func TestEditsChangeOnePort(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8109)})
	req := web("default/s", serving("80/TCP", "443/TCP"))
	getsPorts(t, a, req, "8100/TCP->80@edge", "8101/TCP->443@edge")
	t.Run("a port is added in front", func(t *testing.T) {
		req = with(req, serving("53/UDP", "80/TCP", "443/TCP"))
		getsPorts(t, a, req, "8100/UDP->53@edge", "8100/TCP->80@edge", "8101/TCP->443@edge")
	})
	t.Run("a port is removed", func(t *testing.T) {
		req = with(req, serving("53/UDP", "443/TCP"))
		movesPorts(t, a, req, []string{"8100/UDP->53@edge", "8101/TCP->443@edge"}, []string{"8100/TCP->80@edge"})
	})
	t.Run("a wish comes", func(t *testing.T) {
		req = with(req, wishing("53/UDP=8105"))
		movesPorts(t, a, req, []string{"8105/UDP->53@edge", "8101/TCP->443@edge"}, []string{"8100/UDP->53@edge"})
	})
	t.Run("and goes", func(t *testing.T) {
		req = with(req, wishing())
		getsPorts(t, a, req, "8105/UDP->53@edge", "8101/TCP->443@edge")
	})
	t.Run("a wish that cannot be had", func(t *testing.T) {
		getsPorts(t, a, web("default/other", wishing("80/TCP=8109")), "8109/TCP->80@edge")
		refusedPorts(t, a, with(req, wishing("443/TCP=8109")), []string{"8105/UDP->53@edge", "8101/TCP->443@edge"}, lb.ReasonPortInUse, "default/other")
	})
	t.Run("a port is renamed and its node port changes", func(t *testing.T) {
		req.Ports = []lb.Port{{Name: "dns", Number: 53, Protocol: "UDP", NodePort: 31000}, req.Ports[1]}
		got := a.Assign(req)
		assert.Equal(t, lb.PortLease{Pool: "edge", Service: req.Ports[0], Port: 8105}, got.Ports[0])
		assert.Empty(t, got.LeavePorts)
	})
	t.Run("the limit to named ports", func(t *testing.T) {
		limited := with(req, wishing("443/TCP=0"))
		limited.LBPortsOnly = true
		got := a.Assign(limited)
		assert.Equal(t, portLeases("8101/TCP->443@edge"), got.Ports)
		require.Len(t, got.LeavePorts, 1)
		assert.Equal(t, uint16(8105), got.LeavePorts[0].Port)
	})
}

// Ports of one Service are exchanged, or given to a port that takes another's place, without leaving anything.
func TestPortsMoveWithinService(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8109)})
	req := web("default/s", serving("80/TCP", "443/TCP"), wishing("80/TCP=8100", "443/TCP=8101"))
	getsPorts(t, a, req, "8100/TCP->80@edge", "8101/TCP->443@edge")
	getsPorts(t, a, with(req, wishing("80/TCP=8101", "443/TCP=8100")), "8101/TCP->80@edge", "8100/TCP->443@edge")
	getsPorts(t, a, with(req, serving("81/TCP", "443/TCP"), wishing("81/TCP=8101")), "8101/TCP->81@edge", "8100/TCP->443@edge")
	refusedPorts(t, a, with(req, serving("81/TCP", "443/TCP"), wishing("81/TCP=8100")), []string{"8101/TCP->81@edge", "8100/TCP->443@edge"},
		lb.ReasonPortInUse, "8100/TCP", "81/TCP", "443/TCP of the same Service")
}

// A port for what the Service has no more is left although what came in its place is refused: else a full pool would
// never come free.
func TestReplacedPortInFullPool(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8100)})
	getsPorts(t, a, web("default/s"), "8100/TCP->80@edge")
	edited := web("default/s", serving("81/TCP"))
	for range 2 {
		got := a.Assign(edited)
		require.NotNil(t, got.Refusal)
		assert.Equal(t, lb.ReasonPoolExhausted, got.Refusal.Reason)
		assert.Empty(t, got.Ports)
		assert.Equal(t, portLeases("8100/TCP->80@edge"), got.LeavePorts)
	}
	releasePorts(t, a, "default/s", "8100/TCP->80@edge")
	getsPorts(t, a, edited, "8100/TCP->81@edge")
}

// What an updater cannot do, and nobody else would, is refused with the way out before anything is published. A Service
// that was published before keeps working, and is told.
func TestNotSupportedByUpdaters(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*lb.Request)
		says string
	}{
		"SCTP":          {serving("80/TCP", "132/SCTP"), "132/SCTP"},
		"source ranges": {func(r *lb.Request) { r.SourceRanges = true }, "spec.loadBalancerSourceRanges: remove it"},
		"client IP":     {func(r *lb.Request) { r.ClientIP = true }, "spec.sessionAffinity ClientIP"},
		"no node ports": {func(r *lb.Request) { r.NoNodePorts = true }, "spec.allocateLoadBalancerNodePorts is false"},
		"dual-stack":    {families(lb.RequireDualStack, lb.IPv4, lb.IPv6), "RequireDualStack"},
	} {
		t.Run(name, func(t *testing.T) {
			a := pool.New([]config.Pool{edge("edge", host, 8100, 8109), edge("named", host, 8200, 8209, named)})
			refusedPorts(t, a, web("default/s", tt.edit), nil, lb.ReasonNotSupported, tt.says, `pool "edge"`, "addresses of another pool")
			refusedPorts(t, a, web("default/s", tt.edit, inPool("named")), nil, lb.ReasonNotSupported, tt.says, `pool "named"`)
			adoptPorts(t, a, web("default/s", tt.edit), "8105/TCP->80@edge")
			refusedPorts(t, a, web("default/s", tt.edit), []string{"8105/TCP->80@edge"}, lb.ReasonNotSupported, tt.says)
			getsPorts(t, a, web("default/s"), "8105/TCP->80@edge")

			a.SetPools([]config.Pool{edge("edge", host, 8100, 8109, prio(1)), aPool("office", "192.0.2.8-192.0.2.9,2001:db8::8-2001:db8::9")})
			got := a.Assign(web("default/other", tt.edit))
			assert.NotEmpty(t, got.Want, "addresses can do it: %v", got.Refusal)
			assert.Nil(t, got.Refusal)
		})
	}
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8109)})
	limited := web("default/s", serving("80/TCP", "132/SCTP"), wishing("80/TCP=0"))
	limited.LBPortsOnly = true
	getsPorts(t, a, limited, "8100/TCP->80@edge")
}

// At start the ledger is rebuilt from what is published.
func TestAdoptPorts(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8102), edge("far", "lb.example.com", 8100, 8102), edge("more", host, 8200, 8209)})
	for _, tt := range []struct {
		host string
		port uint16
		pool string
	}{
		{host, 8101, "edge"}, {host, 8205, "more"}, {host, 9000, "edge"}, {"LB.Example.com.", 8101, "far"}, {"::ffff:192.0.2.1", 8205, "more"}, {"192.0.2.2", 8101, ""},
	} {
		name, ok := a.PoolOfHost(tt.host, tt.port)
		assert.Equal(t, tt.pool, name, "%s:%d", tt.host, tt.port)
		assert.Equal(t, tt.pool != "", ok)
	}
	req := web("default/s", serving("80/TCP", "443/TCP"))
	adoptPorts(t, a, req, "8101/TCP->80@edge", "8101/TCP->80@edge", "9000/TCP->443@edge")
	refusal := a.AdoptPort(web("default/other"), portLease("8101/TCP->80@edge"))
	require.NotNil(t, refusal)
	assert.Equal(t, lb.ReasonPortInUse, refusal.Reason)
	assert.Contains(t, refusal.Message, "default/s")
	adoptPorts(t, a, web("default/other"), "8101/TCP->80@far", "8206/TCP->8206@edge")
	assert.Equal(t, portLeases("8101/TCP->80@far", "8206/TCP->8206@more"), a.Ports("default/other"), "a port belongs to the pool whose range has it")
	for _, never := range []lb.PortLease{{Pool: "edge", Service: lb.Port{Number: 80, Protocol: lb.TCP}}, {Pool: "edge", Service: lb.Port{Number: 80, Protocol: lb.SCTP}, Port: 8100}} {
		assert.NotNil(t, a.AdoptPort(req, never), "%s", never)
	}

	refusedPorts(t, a, req, []string{"8101/TCP->80@edge", "9000/TCP->443@edge"}, lb.ReasonPortNotInPool, "9000/TCP is kept", "8100-8102", `"edge"`)
	assert.Equal(t, portLeases("9000/TCP->443@edge"), a.OutsidePorts())
	assert.Equal(t, []string{"8100/TCP", "8100/UDP", "8101/UDP", "8102/TCP", "8102/UDP"}, unusedPorts(a, "edge"))
	assert.Contains(t, a.PortUsage(), lb.PortUsage{Pool: "edge", Protocol: lb.TCP, Size: 3, Used: 1})
	assert.Contains(t, a.PortUsage(), lb.PortUsage{Pool: "edge", Protocol: lb.UDP, Size: 3})
	ref, ok := a.HolderOfPort("edge", 8101, lb.TCP)
	assert.True(t, ok)
	assert.Equal(t, req.Ref, ref)
	_, ok = a.HolderOfPort("edge", 8101, lb.UDP)
	assert.False(t, ok)
	releasePorts(t, a, req.UID, "9000/TCP->443@edge")
	getsPorts(t, a, req, "8101/TCP->80@edge", "8100/TCP->443@edge")
	assert.False(t, a.ReleasePort(req.UID, "edge", 8102, lb.TCP), "not held")
}

// A range of all ports costs what one of a single port costs, and every one of them is given out once.
func TestEveryPortOnce(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 1, 65535)})
	for i := range 65535 {
		got := a.Assign(web(fmt.Sprint("default/", i), serving("80/TCP")))
		require.Nil(t, got.Refusal)
		switch n := got.Ports[0].Port; i {
		case 0:
			require.Equal(t, uint16(80), n, "its own")
		default:
			want := uint16(i)
			if i >= 80 {
				want++
			}
			require.Equal(t, want, n)
		}
	}
	refusedPorts(t, a, web("default/more"), nil, lb.ReasonPoolExhausted)
}

// One number cannot be given twice: a port that another one of the Service asks for is not also that one's own.
func TestOwnNumberAskedForByAnotherPort(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8109)})
	getsPorts(t, a, web("default/s", serving("8101/TCP", "80/TCP"), wishing("80/TCP=8101")), "8100/TCP->8101@edge", "8101/TCP->80@edge")
}

// What a Service was moved to is what it has, also before the port that it left is released.
func TestNoSwingingBackToPortThatIsLeft(t *testing.T) {
	a := pool.New([]config.Pool{edge("edge", host, 8100, 8109)})
	getsPorts(t, a, web("default/s"), "8100/TCP->80@edge")
	a.Assign(web("default/s", wishing("80/TCP=8105")))
	got := a.Assign(web("default/s"))
	assert.Equal(t, portLeases("8105/TCP->80@edge"), got.Ports)
	assert.Equal(t, portLeases("8100/TCP->80@edge"), got.LeavePorts)
}
