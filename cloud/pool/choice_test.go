package pool_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// Addresses come in ascending order over all ranges of a pool, and asking again gives the same.
func TestFirstAddressesInOrder(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.254-192.0.2.255,198.51.100.7,192.0.2.10")})
	for i, want := range []string{"192.0.2.10", "192.0.2.254", "192.0.2.255", "198.51.100.7"} {
		gets(t, a, web(fmt.Sprintf("default/s%d", i)), want+"@office")
	}
}

// Somebody may still have the address of a deleted Service in a cache: it is given out last, the oldest first.
func TestFreedAddressIsGivenOutLast(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0-192.0.2.3")})
	gets(t, a, web("default/a"), "192.0.2.0@office")
	gets(t, a, web("default/b"), "192.0.2.1@office")
	release(t, a, "default/b", "192.0.2.1")
	release(t, a, "default/a", "192.0.2.0")
	for i, want := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.1", "192.0.2.0"} {
		gets(t, a, web(fmt.Sprintf("default/later%d", i)), want+"@office")
	}
}

// The order of freed addresses outlives a reload, also when pools are merged.
func TestFreedOrderOutlivesReload(t *testing.T) {
	a := pool.New([]config.Pool{aPool("x", "192.0.2.0-192.0.2.1"), aPool("y", "192.0.2.2-192.0.2.3")})
	for i := range 4 {
		gets(t, a, web(fmt.Sprintf("default/s%d", i)), fmt.Sprintf("192.0.2.%d@%s", i, "xxyy"[i:i+1]))
	}
	for _, i := range []int{2, 0, 3, 1} {
		release(t, a, fmt.Sprintf("default/s%d", i), fmt.Sprintf("192.0.2.%d", i))
	}
	a.SetPools([]config.Pool{aPool("z", "192.0.2.0-192.0.2.4")})
	for i, want := range []int{4, 2, 0, 3, 1} {
		gets(t, a, web(fmt.Sprintf("default/new%d", i)), fmt.Sprintf("192.0.2.%d@z", want))
	}
}

// Years of churn in an IPv6 /64 are not remembered address by address: after 65,536 freed ones, the first of them is
// used again.
func TestQueueOfFreedAddressesIsBounded(t *testing.T) {
	a := pool.New([]config.Pool{aPool("six", "2001:db8::/64")})
	req := web("default/s", families(lb.SingleStack, lb.IPv6))
	next := addr("2001:db8::")
	for range 1 << 16 {
		got := a.Assign(req)
		require.Equal(t, next, got.Want[0].Addr)
		a.Release(req.UID, next)
		next = next.Next()
	}
	gets(t, a, req, "2001:db8::@six")
}

func TestOrderOfPools(t *testing.T) {
	tests := map[string]struct {
		pools []config.Pool
		want  string
	}{
		"by name": {[]config.Pool{aPool("b", "192.0.2.2"), aPool("a", "192.0.2.1")}, "192.0.2.1@a"},
		"by priority before name": {
			[]config.Pool{aPool("a", "192.0.2.1"), aPool("b", "192.0.2.2", prio(1)), aPool("c", "192.0.2.3", prio(-1))}, "192.0.2.2@b",
		},
		"one restricted to the namespace before an open one of higher priority": {
			[]config.Pool{aPool("a", "192.0.2.1", prio(9)), aPool("b", "192.0.2.2", only("other", "default"))}, "192.0.2.2@b",
		},
		"one that selects the namespace before an open one": {
			[]config.Pool{aPool("a", "192.0.2.1"), aPool("b", "192.0.2.2", namespaces("tier=public"))}, "192.0.2.2@b",
		},
		"a selector for everything restricts nothing": {
			[]config.Pool{aPool("a", "192.0.2.1"), aPool("b", "192.0.2.2", namespaces(""))}, "192.0.2.1@a",
		},
		"not one of another namespace": {[]config.Pool{aPool("a", "192.0.2.1", only("other")), aPool("b", "192.0.2.2")}, "192.0.2.2@b"},
		"not one that selects other namespaces": {
			[]config.Pool{aPool("a", "192.0.2.1", namespaces("tier=private")), aPool("b", "192.0.2.2")}, "192.0.2.2@b",
		},
		"allowed by name, not selected by label": {
			[]config.Pool{aPool("a", "192.0.2.1", only("default"), namespaces("tier=private")), aPool("b", "192.0.2.2")}, "192.0.2.2@b",
		},
		"not one that selects other Services": {
			[]config.Pool{aPool("a", "192.0.2.1", services("expose=false")), aPool("b", "192.0.2.2", services("expose=true"))}, "192.0.2.2@b",
		},
		"not one without autoAssign":   {[]config.Pool{aPool("a", "192.0.2.1", named), aPool("b", "192.0.2.2")}, "192.0.2.2@b"},
		"not one of a class":           {[]config.Pool{aPool("a", "192.0.2.1", class("x/y")), aPool("b", "192.0.2.2")}, "192.0.2.2@b"},
		"not one without addresses":    {[]config.Pool{{Name: "a", AutoAssign: true}, aPool("b", "192.0.2.2")}, "192.0.2.2@b"},
		"not one of the other family":  {[]config.Pool{aPool("a", "2001:db8::/64"), aPool("b", "192.0.2.2")}, "192.0.2.2@b"},
		"the next when one is used up": {[]config.Pool{aPool("a", "192.0.2.99"), aPool("b", "192.0.2.2")}, "192.0.2.2@b"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := pool.New(test.pools)
			a.Quarantine(addr("192.0.2.99"))
			gets(t, a, web("default/web", labelled("true", "public")), test.want)
		})
	}
}

// A class is an agreement of both sides: its pools serve its Services, and nothing else does.
func TestClassMustBeEqual(t *testing.T) {
	a := pool.New([]config.Pool{aPool("plain", "192.0.2.1"), aPool("special", "192.0.2.2", class("x/y"))})
	xy := func(r *lb.Request) { r.Class = "x/y" }
	gets(t, a, web("default/special", xy), "192.0.2.2@special")
	refused(t, a, web("default/b", xy, inPool("plain")), nil, lb.ReasonNotAllowed, `"plain"`, `without spec.loadBalancerClass, and this one has "x/y"`)
	refused(t, a, web("default/c", inPool("special")), nil, lb.ReasonNotAllowed, `spec.loadBalancerClass "x/y"`)
	refused(t, a, web("default/d", askFor("192.0.2.2")), nil, lb.ReasonNotAllowed, `spec.loadBalancerClass "x/y"`)
}

// A pool that is full says how full, and the waiting Service gets the address that another one frees.
func TestWaitingServiceGetsFreedAddress(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.10-192.0.2.20")})
	for i := range 11 {
		require.Nil(t, a.Assign(web(fmt.Sprintf("default/s%02d", i))).Refusal)
	}
	waiting := web("default/waiting")
	refused(t, a, waiting, nil, lb.ReasonPoolExhausted, "pool office: all 11 IPv4 addresses are in use; enlarge it or delete a Service")
	assert.Nil(t, a.Leases("default/waiting"))
	release(t, a, "default/s04", "192.0.2.14")
	gets(t, a, waiting, "192.0.2.14@office")
}

func TestRefusalsNameTheWayOut(t *testing.T) {
	var many []config.Pool
	for i := range 8 {
		many = append(many, aPool(fmt.Sprintf("p%d", i), fmt.Sprintf("192.0.2.%d", i), only("other")))
	}
	tests := map[string]struct {
		pools  []config.Pool
		req    lb.Request
		reason lb.Reason
		says   []string
	}{
		"no pools": {nil, web("default/s"), lb.ReasonNoPool, []string{"no pools"}},
		"why each pool is not for this Service": {
			[]config.Pool{
				aPool("a", "192.0.2.1", only("other")), aPool("b", "192.0.2.2", named), aPool("c", "192.0.2.3", class("x/y")),
				aPool("d", "192.0.2.4", services("expose=true")), {Name: "e"},
			},
			web("default/s"), lb.ReasonNoPool,
			[]string{
				`pool a does not serve namespace "default" (allowedNamespaces)`, "pool b has autoAssign: false", `pool c serves only Services with spec.loadBalancerClass "x/y"`,
				`serviceSelector "expose=true"`, "pool e has no addresses", "annotation mooring.dev/pool",
			},
		},
		"namespace labels":   {[]config.Pool{aPool("a", "192.0.2.1", namespaces("tier=public"))}, web("default/s"), lb.ReasonNoPool, []string{`namespaceSelector "tier=public"`}},
		"at most five pools": {many, web("default/s"), lb.ReasonNoPool, []string{"pool p4 ", "and 3 more"}},
		"no such pool":       {many, web("default/s", inPool("lab")), lb.ReasonPoolNotFound, []string{`"lab"`, "p0, p1, p2, p3, p4, and 3 more"}},
		"no such pool, none": {nil, web("default/s", inPool("lab")), lb.ReasonPoolNotFound, []string{"none is configured"}},
		"named pool of another namespace": {
			many, web("default/s", inPool("p3")), lb.ReasonNotAllowed, []string{"annotation mooring.dev/pool", `"p3"`, `does not serve namespace "default"`},
		},
		"named pool without addresses": {[]config.Pool{{Name: "edge"}}, web("default/s", inPool("edge")), lb.ReasonFamilyUnavailable, []string{"edge", "IPv4"}},
		"no pool of the family": {
			[]config.Pool{aPool("a", "192.0.2.1")}, web("default/s", families(lb.SingleStack, lb.IPv6)), lb.ReasonFamilyUnavailable, []string{"pool a", "no IPv6 addresses"},
		},
		"no family": {[]config.Pool{aPool("a", "192.0.2.1")}, web("default/s", families(lb.SingleStack)), lb.ReasonFamilyUnavailable, []string{"spec.ipFamilies"}},
		"an address of another namespace's pool by annotation": {
			many, web("default/s", askFor("192.0.2.3")), lb.ReasonNotAllowed, []string{"annotation mooring.dev/addresses", "192.0.2.3", `"p3"`},
		},
		"an address of another namespace's pool by externalIPs":    {many, web("default/s", external("192.0.2.3")), lb.ReasonNotAllowed, []string{"spec.externalIPs"}},
		"an address of another namespace's pool by loadBalancerIP": {many, web("default/s", loadBalancerIP("192.0.2.3")), lb.ReasonNotAllowed, []string{"spec.loadBalancerIP"}},
		"an address in no pool":                                    {many, web("default/s", askFor("198.51.100.1")), lb.ReasonAddressNotInPool, []string{"198.51.100.1", "p0, p1"}},
		"loadBalancerIP in no pool":                                {many, web("default/s", loadBalancerIP("198.51.100.1")), lb.ReasonAddressNotInPool, []string{"spec.loadBalancerIP asks for 198.51.100.1"}},
		"an address that is not in the pool named": {
			many, web("other/s", inPool("p1"), askFor("192.0.2.3")), lb.ReasonAddressNotInPool, []string{`in pool "p3"`, `names pool "p1"`},
		},
		"an address beside a pool that is not configured": {many, web("other/s", inPool("lab"), askFor("192.0.2.3")), lb.ReasonPoolNotFound, []string{`"lab"`}},
		"an address of another family": {
			[]config.Pool{aPool("a", "192.0.2.1,2001:db8::1")}, web("default/s", askFor("192.0.2.1", "2001:db8::1")), lb.ReasonFamilyMismatch, []string{"2001:db8::1, which is IPv6", "spec.ipFamilies", "IPv4"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := pool.New(test.pools)
			refused(t, a, test.req, nil, test.reason, test.says...)
			assert.Less(t, len(a.Assign(test.req).Refusal.Message), 1024, "an event holds no more")
		})
	}
}

// Exhaustion tells what is quarantined apart, for that comes back by itself.
func TestExhaustionTellsQuarantinedApart(t *testing.T) {
	a := pool.New([]config.Pool{aPool("a", "192.0.2.0/31"), aPool("b", "192.0.2.2")})
	gets(t, a, web("default/s0"), "192.0.2.0@a")
	a.Quarantine(addr("192.0.2.1"))
	gets(t, a, web("default/s1"), "192.0.2.2@b")
	refused(t, a, web("default/s2"), nil, lb.ReasonPoolExhausted, "pool a: of 2 IPv4 addresses 1 are in use and 1 quarantined or withheld; pool b: all 1 IPv4 addresses are in use", "enlarge one of them")
}

// A pool costs by what is used of it, and its size is right up to the largest number that there is.
func TestUsage(t *testing.T) {
	a := pool.New([]config.Pool{
		aPool("six", "2001:db8::/64"), aPool("most", "2001:db8:1::/65"), aPool("both", "192.0.2.0/24,10.0.0.0/8,2001:db8:2::1-2001:db8:2::5"),
		{Name: "edge"},
	})
	v6 := families(lb.SingleStack, lb.IPv6)
	gets(t, a, web("default/a", v6), "2001:db8:2::1@both")
	gets(t, a, web("default/b", v6, inPool("six")), "2001:db8::@six")
	gets(t, a, web("default/c", v6, inPool("six")), "2001:db8::1@six")
	a.Quarantine(addr("192.0.2.9"))
	a.Quarantine(addr("2001:db8::"))
	want := []lb.Usage{
		{Pool: "both", Family: lb.IPv4, Size: 1<<24 + 1<<8, Quarantined: 1},
		{Pool: "both", Family: lb.IPv6, Size: 5, Used: 1},
		{Pool: "most", Family: lb.IPv6, Size: 1 << 63},
		{Pool: "six", Family: lb.IPv6, Size: math.MaxUint64, Used: 2},
	}
	assert.Equal(t, want, a.Usage(), "a quarantined address that is held counts as used")
	a.Release("default/b", addr("2001:db8::"))
	want[3] = lb.Usage{Pool: "six", Family: lb.IPv6, Size: math.MaxUint64, Used: 1, Quarantined: 1}
	assert.Equal(t, want, a.Usage())
	a.SetPools([]config.Pool{aPool("six", "2001:db8::/64"), aPool("most", "2001:db8:1::-2001:db8:3::"), aPool("seam", "2001:db8:9:0:ffff:ffff:ffff:fffe-2001:db8:9:1::1")})
	assert.Equal(t, []lb.Usage{{Pool: "most", Family: lb.IPv6, Size: math.MaxUint64, Used: 1}, {Pool: "seam", Family: lb.IPv6, Size: 4}, want[3]}, a.Usage())
}

func TestPoolOf(t *testing.T) {
	a := pool.New([]config.Pool{aPool("b", "192.0.2.10-192.0.2.20,2001:db8::/64"), aPool("a", "192.0.2.30,192.0.2.5")})
	for address, want := range map[string]string{
		"192.0.2.10": "b", "192.0.2.20": "b", "192.0.2.15": "b", "2001:db8::ffff": "b", "192.0.2.5": "a", "192.0.2.30": "a",
		"192.0.2.4": "", "192.0.2.6": "", "192.0.2.21": "", "192.0.2.31": "", "2001:db8:0:1::": "", "::ffff:192.0.2.10": "",
	} {
		got, ok := a.PoolOf(addr(address))
		assert.Equal(t, want, got, address)
		assert.Equal(t, want != "", ok, address)
	}
}

// A service with a thousand addresses in its annotation is an odd one, but it is served, each address once.
func TestManyAddressesAskedFor(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0/24")})
	var asked, want []string
	for i := range 200 {
		asked = append(asked, fmt.Sprintf("192.0.2.%d", 255-i))
		want = append(want, asked[i]+"@office")
	}
	gets(t, a, web("default/s", askFor(append(asked, asked...)...)), want...)
	gets(t, a, web("default/other"), "192.0.2.0@office")
	assert.Equal(t, uint64(201), a.Usage()[0].Used)
}
