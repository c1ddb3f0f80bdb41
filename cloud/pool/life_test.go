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

func office() []config.Pool { return []config.Pool{aPool("office", "192.0.2.0/28,2001:db8::/124")} }

func adopt(t *testing.T, a *pool.Allocator, req lb.Request, held ...string) {
	t.Helper()
	for _, l := range leases(held...) {
		require.Nil(t, a.Adopt(req, l))
		require.Nil(t, a.Adopt(req, l), "twice changes nothing")
	}
	require.Equal(t, leases(held...), a.Leases(req.UID))
}

// After a restart every Service has the address it had, whoever asks first.
func TestRestartKeepsAddresses(t *testing.T) {
	a := pool.New(office())
	adopt(t, a, web("default/b"), "192.0.2.0@office")
	adopt(t, a, web("default/a"), "192.0.2.2@office")
	gets(t, a, web("default/new"), "192.0.2.1@office")
	gets(t, a, web("default/a"), "192.0.2.2@office")
	gets(t, a, web("default/b"), "192.0.2.0@office")
	gets(t, a, web("default/newer"), "192.0.2.3@office")
}

// Two claimants of one address: the first adopted has it.
func TestAdoptionGivesNoAddressTwice(t *testing.T) {
	tests := map[string]struct {
		first, second lb.Request
		refused       bool
	}{
		"strangers":       {web("default/a"), web("default/b"), true},
		"one key":         {web("default/a", key("k")), web("default/b", key("k"), port(81, "TCP")), false},
		"other namespace": {web("default/a", key("k")), web("other/b", key("k"), port(81, "TCP")), true},
		"other key":       {web("default/a", key("k")), web("default/b", key("l"), port(81, "TCP")), true},
		"reserved":        {web("default/a", key("k"), external("192.0.2.1")), web("default/b", key("k"), port(81, "TCP")), true},
		"clash of a key":  {web("default/a", key("k")), web("default/b", key("k")), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := pool.New(office())
			require.Nil(t, a.Adopt(test.first, lease("192.0.2.1@office")))
			refusal := a.Adopt(test.second, lease("192.0.2.1@office"))
			if !test.refused {
				require.Nil(t, refusal)
				assert.Equal(t, leases("192.0.2.1@office"), a.Leases(test.first.UID))
				assert.Equal(t, leases("192.0.2.1@office"), a.Leases(test.second.UID))
				assert.Equal(t, uint64(1), a.Usage()[0].Used)
				return
			}
			require.NotNil(t, refusal)
			assert.Equal(t, lb.ReasonAddressInUse, refusal.Reason)
			assert.Contains(t, refusal.Message, "192.0.2.1 is held by Service default/a")
			assert.Equal(t, leases("192.0.2.1@office"), a.Leases(test.first.UID))
			assert.Empty(t, a.Leases(test.second.UID))
		})
	}
}

// A restart with a pool missing keeps its addresses, says so and gives them to nobody; the pool put back, all is well.
func TestRestartWithoutPoolKeepsItsAddresses(t *testing.T) {
	a := pool.New([]config.Pool{aPool("lab", "198.51.100.0/24")})
	adopt(t, a, web("default/a"), "192.0.2.1@office")
	adopt(t, a, web("default/b"), "192.0.2.3@lab")
	refused(t, a, web("default/a"), []string{"192.0.2.1@office"}, lb.ReasonPoolMissing, "192.0.2.1 is kept", `"office" is not in the cloud-config`, "put the pool back")
	refused(t, a, web("default/b"), []string{"192.0.2.3@lab"}, lb.ReasonAddressNotInPool, `pool "lab" does not contain it any more`, "put the address back")
	refused(t, a, web("default/c", askFor("192.0.2.1")), nil, lb.ReasonAddressNotInPool)
	assert.Equal(t, leases("192.0.2.1@office", "192.0.2.3@lab"), a.Outside())
	assert.Equal(t, uint64(0), a.Usage()[0].Used)

	a.SetPools(append(office(), aPool("lab", "198.51.100.0/24")))
	assert.Empty(t, a.Outside())
	gets(t, a, web("default/a"), "192.0.2.1@office")
	gets(t, a, web("default/b"), "192.0.2.3@office")
}

// The pool of a Service is removed while it lives: it keeps its address until it asks for another pool. What is then
// released lies in no pool and is forgotten.
func TestPoolRemovedInUse(t *testing.T) {
	a := pool.New(office())
	gets(t, a, web("default/a"), "192.0.2.0@office")
	gets(t, a, web("default/b", inPool("office")), "192.0.2.1@office")
	gets(t, a, web("default/c", askFor("192.0.2.2")), "192.0.2.2@office")
	gets(t, a, web("default/d", external("192.0.2.3")), "192.0.2.3@office")
	a.SetPools([]config.Pool{aPool("lab", "198.51.100.0/24")})
	for _, req := range []lb.Request{web("default/a"), web("default/b", inPool("office")), web("default/c", askFor("192.0.2.2")), web("default/d", external("192.0.2.3"))} {
		held := a.Leases(req.UID)[0]
		refused(t, a, req, []string{held.Addr.String() + "@office"}, lb.ReasonPoolMissing, `"office"`)
	}
	moves(t, a, web("default/a", inPool("lab")), []string{"198.51.100.0@lab"}, []string{"192.0.2.0@office"})
	release(t, a, "default/b", "192.0.2.1")
	assert.Equal(t, leases("192.0.2.2@office", "192.0.2.3@office"), a.Outside())
	a.SetPools(office())
	gets(t, a, web("default/new"), "192.0.2.0@office")
}

// A renamed pool takes its addresses along.
func TestPoolRenamed(t *testing.T) {
	a := pool.New(office())
	gets(t, a, web("default/a"), "192.0.2.0@office")
	a.SetPools([]config.Pool{aPool("headquarters", "192.0.2.0/28")})
	gets(t, a, web("default/a"), "192.0.2.0@headquarters")
	gets(t, a, web("default/a", inPool("headquarters")), "192.0.2.0@headquarters")
	assert.Empty(t, a.Outside())
	assert.Equal(t, []lb.Usage{{Pool: "headquarters", Family: lb.IPv4, Size: 16, Used: 1}}, a.Usage())
}

// A pool is enlarged, and loses a free part: what is in use stays.
func TestPoolResized(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0-192.0.2.1")})
	gets(t, a, web("default/a"), "192.0.2.0@office")
	gets(t, a, web("default/b"), "192.0.2.1@office")
	refused(t, a, web("default/c"), nil, lb.ReasonPoolExhausted)
	a.SetPools([]config.Pool{aPool("office", "192.0.2.0-192.0.2.5")})
	gets(t, a, web("default/c"), "192.0.2.2@office")
	a.SetPools([]config.Pool{aPool("office", "192.0.2.1-192.0.2.2")})
	refused(t, a, web("default/a"), []string{"192.0.2.0@office"}, lb.ReasonAddressNotInPool)
	refused(t, a, web("default/d"), nil, lb.ReasonPoolExhausted, "all 2 IPv4 addresses are in use")
}

// What turns against a published Service takes nothing away from it.
func TestNewRefusalKeepsAddress(t *testing.T) {
	tests := map[string]struct {
		edit   func(*config.Pool)
		reason lb.Reason
	}{
		"namespace not allowed any more": {only("other"), lb.ReasonNotAllowed},
		"namespace selector":             {namespaces("tier=private"), lb.ReasonNotAllowed},
		"service selector":               {services("expose=false"), lb.ReasonNotAllowed},
		"class":                          {class("x/y"), lb.ReasonNotAllowed},
		"autoAssign off is no refusal":   {named, ""},
	}
	for name, test := range tests {
		for kind, ask := range map[string]func(*lb.Request){"free": func(*lb.Request) {}, "named": inPool("office"), "asked": askFor("192.0.2.0"), "external": external("192.0.2.0")} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				a := pool.New([]config.Pool{aPool("office", "192.0.2.0/28")})
				req := web("default/a", labelled("true", "public"), ask)
				gets(t, a, req, "192.0.2.0@office")
				a.SetPools([]config.Pool{aPool("office", "192.0.2.0/28", test.edit), aPool("lab", "198.51.100.0/24")})
				if test.reason == "" {
					gets(t, a, req, "192.0.2.0@office")
					return
				}
				refused(t, a, req, []string{"192.0.2.0@office"}, test.reason, `"office"`, "192.0.2.0")
			})
		}
	}
}

// A live Service edits its request: allowed, it moves; refused, it keeps what it has.
func TestLiveEdit(t *testing.T) {
	a := pool.New(append(office(), aPool("lab", "198.51.100.0/30"), aPool("private", "203.0.113.0/30", only("other"))))
	s := web("default/a", inPool("office"))
	gets(t, a, s, "192.0.2.0@office")
	gets(t, a, web("default/b"), "198.51.100.0@lab")

	moves(t, a, with(s, askFor("192.0.2.9")), []string{"192.0.2.9@office"}, []string{"192.0.2.0@office"})
	gets(t, a, s, "192.0.2.9@office")
	moves(t, a, with(s, inPool("lab")), []string{"198.51.100.1@lab"}, []string{"192.0.2.9@office"})
	held := []string{"198.51.100.1@lab"}
	refused(t, a, with(s, inPool("private")), held, lb.ReasonNotAllowed, `"private"`)
	refused(t, a, with(s, inPool("none")), held, lb.ReasonPoolNotFound)
	refused(t, a, with(s, inPool(""), askFor("198.51.100.0")), held, lb.ReasonAddressInUse, "Service default/b")
	refused(t, a, with(s, inPool(""), askFor("198.51.100.1", "198.51.100.0")), held, lb.ReasonAddressInUse, "198.51.100.0")
	refused(t, a, with(s, inPool(""), loadBalancerIP("203.0.113.0")), held, lb.ReasonNotAllowed)
	gets(t, a, with(s, inPool("")), held...)
	a.SetPools(append(office(), aPool("lab", "198.51.100.0/31")))
	refused(t, a, web("default/c", inPool("lab")), nil, lb.ReasonPoolExhausted)
	gets(t, a, web("default/d", inPool("office")), "192.0.2.1@office")
	refused(t, a, web("default/d", inPool("lab")), []string{"192.0.2.1@office"}, lb.ReasonPoolExhausted, "pool lab")
}

// Half of a move is withdrawn before it is finished: the Service stays where it went to, and does not swing back.
func TestRequestDroppedDuringMove(t *testing.T) {
	a := pool.New(append(office(), aPool("lab", "198.51.100.0/30")))
	gets(t, a, web("default/a", inPool("office")), "192.0.2.0@office")
	got := a.Assign(web("default/a", inPool("lab")))
	require.Equal(t, got.Want, leases("198.51.100.0@lab"))
	require.Equal(t, leases("192.0.2.0@office"), got.Leave)
	moves(t, a, web("default/a"), []string{"198.51.100.0@lab"}, []string{"192.0.2.0@office"})
}

// A request is refused while an earlier move is not finished: the Service keeps where it went to, and goes on leaving.
func TestRefusalDuringMove(t *testing.T) {
	for name, edit := range map[string]func(*lb.Request){"by address": askFor("203.0.113.1"), "by pool": inPool("none")} {
		t.Run(name, func(t *testing.T) {
			a := pool.New(append(office(), aPool("lab", "198.51.100.0/30")))
			gets(t, a, web("default/a", inPool("office")), "192.0.2.0@office")
			require.Equal(t, a.Assign(web("default/a", inPool("lab"))).Want, leases("198.51.100.0@lab"))
			got := a.Assign(web("default/a", edit))
			assert.Equal(t, got.Want, leases("198.51.100.0@lab"))
			assert.Equal(t, leases("192.0.2.0@office"), got.Leave)
			assert.NotNil(t, got.Refusal)
			// The address that it went to proves to be taken by a stranger: what is left is better than nothing.
			a.Release("default/a", addr("198.51.100.0"))
			refused(t, a, web("default/a", edit), []string{"192.0.2.0@office"}, got.Refusal.Reason)
		})
	}
}

// The controller dies in the middle of a move: afterwards both addresses are held, and the one asked for stays.
func TestMoveCutShort(t *testing.T) {
	tests := map[string]struct {
		req         lb.Request
		want, leave []string
	}{
		"to another pool":          {web("default/a", inPool("lab")), []string{"198.51.100.0@lab"}, []string{"192.0.2.0@office"}},
		"to an address":            {web("default/a", askFor("198.51.100.0")), []string{"198.51.100.0@lab"}, []string{"192.0.2.0@office"}},
		"the request is gone":      {web("default/a"), []string{"192.0.2.0@office"}, []string{"198.51.100.0@lab"}},
		"an edit back":             {web("default/a", inPool("office")), []string{"192.0.2.0@office"}, []string{"198.51.100.0@lab"}},
		"the old pool serves not":  {web("default/a", func(r *lb.Request) { r.Class = "x/y" }), []string{"198.51.100.0@lab"}, []string{"192.0.2.0@office"}},
		"the request covers both":  {web("default/a", askFor("198.51.100.0", "192.0.2.0")), []string{"198.51.100.0@lab", "192.0.2.0@office"}, nil},
		"the request goes further": {web("default/a", askFor("198.51.100.1")), []string{"198.51.100.1@lab"}, []string{"192.0.2.0@office", "198.51.100.0@lab"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := pool.New([]config.Pool{aPool("office", "192.0.2.0/28", class(test.req.Class[:0])), aPool("lab", "198.51.100.0/30", class(test.req.Class))})
			adopt(t, a, test.req, "192.0.2.0@office", "198.51.100.0@lab")
			moves(t, a, test.req, test.want, test.leave)
		})
	}
}

func TestRequestsByAddress(t *testing.T) {
	dual := families(lb.PreferDualStack, lb.IPv4, lb.IPv6)
	tests := map[string]struct {
		req  lb.Request
		want []string
	}{
		"annotation":                              {web("default/s", askFor("192.0.2.5")), []string{"192.0.2.5@office"}},
		"annotation before externalIPs":           {web("default/s", askFor("192.0.2.5"), external("192.0.2.6"), loadBalancerIP("192.0.2.7")), []string{"192.0.2.5@office"}},
		"externalIPs before loadBalancerIP":       {web("default/s", external("192.0.2.6"), loadBalancerIP("192.0.2.7")), []string{"192.0.2.6@office"}},
		"externalIPs of others are not ours":      {web("default/s", external("10.0.0.1", "192.0.2.6", "10.0.0.2"), loadBalancerIP("192.0.2.7")), []string{"192.0.2.6@office"}},
		"externalIPs, none of them ours":          {web("default/s", external("10.0.0.1"), loadBalancerIP("192.0.2.7")), []string{"192.0.2.7@office"}},
		"externalIPs, none of them ours, no more": {web("default/s", external("10.0.0.1")), []string{"192.0.2.0@office"}},
		"several of a family":                     {web("default/s", askFor("192.0.2.6", "192.0.2.5")), []string{"192.0.2.6@office", "192.0.2.5@office"}},
		"without autoAssign, by address":          {web("default/s", askFor("198.51.100.1")), []string{"198.51.100.1@lab"}},
		"without autoAssign, by pool":             {web("default/s", inPool("lab")), []string{"198.51.100.0@lab"}},
		"pool and address":                        {web("default/s", inPool("lab"), askFor("198.51.100.1")), []string{"198.51.100.1@lab"}},
		"the other family is chosen":              {web("default/s", dual, askFor("192.0.2.5")), []string{"192.0.2.5@office", "2001:db8::@office"}},
		"the primary family is chosen":            {web("default/s", dual, askFor("2001:db8::5")), []string{"192.0.2.0@office", "2001:db8::5@office"}},
		"primary family first": {
			web("default/s", families(lb.RequireDualStack, lb.IPv6, lb.IPv4), askFor("192.0.2.5", "2001:db8::5")), []string{"2001:db8::5@office", "192.0.2.5@office"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := pool.New(append(office(), aPool("lab", "198.51.100.0/30", named)))
			gets(t, a, test.req, test.want...)
		})
	}
}

// Two Services ask for one address: the first keeps it, also when the second is older.
func TestTwoAskForOneAddress(t *testing.T) {
	for name, ask := range map[string]func(*lb.Request){"annotation": askFor("192.0.2.5"), "externalIPs": external("192.0.2.5"), "loadBalancerIP": loadBalancerIP("192.0.2.5")} {
		t.Run(name, func(t *testing.T) {
			a := pool.New(office())
			gets(t, a, web("default/a", ask, born(5)), "192.0.2.5@office")
			refused(t, a, web("other/b", ask), nil, lb.ReasonAddressInUse, "192.0.2.5", "Service default/a")
			release(t, a, "default/a", "192.0.2.5")
			gets(t, a, web("other/b", ask), "192.0.2.5@office")
		})
	}
}

func TestDualStack(t *testing.T) {
	v4, v6 := aPool("four", "192.0.2.0/31"), aPool("six", "2001:db8::/127")
	require46 := families(lb.RequireDualStack, lb.IPv4, lb.IPv6)
	prefer64 := families(lb.PreferDualStack, lb.IPv6, lb.IPv4)

	t.Run("families are independent of each other", func(t *testing.T) {
		a := pool.New([]config.Pool{v4, v6})
		gets(t, a, web("default/a", require46), "192.0.2.0@four", "2001:db8::@six")
		gets(t, a, web("default/b", prefer64), "2001:db8::1@six", "192.0.2.1@four")
	})
	t.Run("required: both or none", func(t *testing.T) {
		a := pool.New([]config.Pool{v4})
		refused(t, a, web("default/a", require46), nil, lb.ReasonFamilyUnavailable, "IPv6")
		gets(t, a, web("default/b"), "192.0.2.0@four")
	})
	t.Run("required: waiting takes nothing from others", func(t *testing.T) {
		a := pool.New([]config.Pool{v4, v6})
		a.Quarantine(addr("2001:db8::"))
		a.Quarantine(addr("2001:db8::1"))
		refused(t, a, web("default/a", require46), nil, lb.ReasonPoolExhausted, "pool six")
		gets(t, a, web("default/b"), "192.0.2.0@four")
	})
	t.Run("preferred: what there is", func(t *testing.T) {
		a := pool.New([]config.Pool{v4})
		gets(t, a, web("default/a", prefer64), "192.0.2.0@four")
		a.SetPools([]config.Pool{v4, v6})
		gets(t, a, web("default/a", prefer64), "2001:db8::@six", "192.0.2.0@four")
	})
	t.Run("preferred: exhaustion is reported, so that the rest follows", func(t *testing.T) {
		a := pool.New([]config.Pool{v4, v6})
		gets(t, a, web("default/x", families(lb.SingleStack, lb.IPv6), askFor("2001:db8::", "2001:db8::1")), "2001:db8::@six", "2001:db8::1@six")
		refused(t, a, web("default/a", prefer64), []string{"192.0.2.0@four"}, lb.ReasonPoolExhausted, "pool six")
		release(t, a, "default/x", "2001:db8::1")
		gets(t, a, web("default/a", prefer64), "2001:db8::1@six", "192.0.2.0@four")
	})
	t.Run("preferred: nothing there", func(t *testing.T) {
		a := pool.New([]config.Pool{aPool("four", "192.0.2.0/31", named)})
		refused(t, a, web("default/a", prefer64), nil, lb.ReasonNoPool, "pool four")
	})
	t.Run("single to dual and back on a live Service", func(t *testing.T) {
		a := pool.New([]config.Pool{v4, v6})
		gets(t, a, web("default/a"), "192.0.2.0@four")
		gets(t, a, web("default/a", require46), "192.0.2.0@four", "2001:db8::@six")
		moves(t, a, web("default/a"), []string{"192.0.2.0@four"}, []string{"2001:db8::@six"})
	})
	t.Run("a live Service requires a family that there is not", func(t *testing.T) {
		a := pool.New([]config.Pool{v4})
		gets(t, a, web("default/a"), "192.0.2.0@four")
		refused(t, a, web("default/a", require46), []string{"192.0.2.0@four"}, lb.ReasonFamilyUnavailable)
	})
	t.Run("a move to a pool that has one family: required, nothing moves", func(t *testing.T) {
		a := pool.New([]config.Pool{v4, v6, aPool("lab", "198.51.100.0/24")})
		gets(t, a, web("default/a", require46, askFor("192.0.2.0")), "192.0.2.0@four", "2001:db8::@six")
		refused(t, a, web("default/a", require46, inPool("lab")), []string{"192.0.2.0@four", "2001:db8::@six"}, lb.ReasonFamilyUnavailable, "pool lab has no IPv6")
	})
	t.Run("a move to a pool that has one family: preferred, that one moves", func(t *testing.T) {
		a := pool.New([]config.Pool{v4, v6, aPool("lab", "198.51.100.0/24")})
		gets(t, a, web("default/a", prefer64, askFor("192.0.2.0")), "2001:db8::@six", "192.0.2.0@four")
		got := a.Assign(web("default/a", prefer64, inPool("lab")))
		assert.Equal(t, got.Want, leases("2001:db8::@six", "198.51.100.0@lab"))
		assert.Equal(t, leases("192.0.2.0@four"), got.Leave)
		assert.Equal(t, lb.ReasonFamilyUnavailable, got.Refusal.Reason)
	})
	t.Run("the only family held is not asked for and the one asked for is not there", func(t *testing.T) {
		a := pool.New([]config.Pool{v4})
		gets(t, a, web("default/a"), "192.0.2.0@four")
		refused(t, a, web("default/a", families(lb.SingleStack, lb.IPv6)), []string{"192.0.2.0@four"}, lb.ReasonFamilyUnavailable)
	})
}

// An address that a lost node may still answer for is given to nobody, in no way, until it is known to be silent.
func TestQuarantine(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0-192.0.2.2")})
	gets(t, a, web("default/a"), "192.0.2.0@office")
	a.Quarantine(addr("192.0.2.0"))
	gets(t, a, web("default/a"), "192.0.2.0@office")
	require.True(t, a.Release("default/a", addr("192.0.2.0")))
	a.Quarantine(addr("192.0.2.1"))
	refused(t, a, web("default/b", askFor("192.0.2.0")), nil, lb.ReasonAddressQuarantined, "192.0.2.0")
	gets(t, a, web("default/b"), "192.0.2.2@office")
	refused(t, a, web("default/c"), nil, lb.ReasonPoolExhausted)
	a.SetPools(office()[:0])
	a.SetPools([]config.Pool{aPool("office", "192.0.2.0-192.0.2.2")})
	refused(t, a, web("default/c"), nil, lb.ReasonPoolExhausted)
	a.Unquarantine(addr("192.0.2.1"))
	a.Unquarantine(addr("192.0.2.0"))
	a.Unquarantine(addr("192.0.2.0"))
	gets(t, a, web("default/c"), "192.0.2.1@office")
	gets(t, a, web("default/d"), "192.0.2.0@office")
}

// An address that was freed and is then quarantined does not come back through the queue.
func TestQuarantineOfFreedAddress(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0-192.0.2.2")})
	for i := range 3 {
		gets(t, a, web(fmt.Sprintf("default/s%d", i)), fmt.Sprintf("192.0.2.%d@office", i))
	}
	for i := range 3 {
		release(t, a, fmt.Sprintf("default/s%d", i), fmt.Sprintf("192.0.2.%d", i))
	}
	a.Quarantine(addr("192.0.2.1"))
	gets(t, a, web("default/x"), "192.0.2.0@office")
	gets(t, a, web("default/y"), "192.0.2.2@office")
	refused(t, a, web("default/z"), nil, lb.ReasonPoolExhausted)
}

// An address that only a status knows is adopted only when its Service may use the pool.
func TestAllowed(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0/28", only("default")), aPool("lab", "198.51.100.0/24", named)})
	gets(t, a, web("default/a"), "192.0.2.0@office")
	name, refusal := a.Allowed(web("default/b"), addr("192.0.2.0"))
	assert.Equal(t, "office", name)
	assert.Nil(t, refusal, "who holds it is for Adopt to say")
	_, refusal = a.Allowed(web("default/b"), addr("198.51.100.9"))
	assert.Nil(t, refusal)
	_, refusal = a.Allowed(web("other/b"), addr("192.0.2.0"))
	assert.Equal(t, lb.Refuse(lb.ReasonNotAllowed, `192.0.2.0 is in pool "office", which does not serve namespace "other" (allowedNamespaces)`), refusal)
	_, refusal = a.Allowed(web("default/b"), addr("203.0.113.1"))
	assert.Equal(t, lb.ReasonAddressNotInPool, refusal.Reason)
}

func TestReleaseOfWhatIsNotHeld(t *testing.T) {
	a := pool.New(office())
	gets(t, a, web("default/a"), "192.0.2.0@office")
	assert.False(t, a.Release("default/b", addr("192.0.2.0")))
	assert.False(t, a.Release("default/a", addr("192.0.2.1")))
	gets(t, a, web("default/a"), "192.0.2.0@office")
	release(t, a, "default/a", "192.0.2.0")
	assert.False(t, a.Release("default/a", addr("192.0.2.0")))
	assert.Empty(t, a.Leases("default/a"))
}
