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

func thief(namespace string) lb.Ref { return lb.Ref{Namespace: namespace, Name: "thief"} }

// What a Service exposes nobody gets by chance, and nobody of another namespace by asking, until the list is another one.
func TestExposedAddress(t *testing.T) {
	pools := []config.Pool{aPool("office", "192.0.2.0/30")}
	a := pool.New(pools)
	assert.False(t, a.SetExposed(thief("other"), addrs("192.0.2.0", "192.0.2.2", "203.0.113.1")))
	assert.Equal(t, []lb.Ref{thief("other")}, a.Exposing())
	for range 2 {
		gets(t, a, web("default/a"), "192.0.2.1@office")
		gets(t, a, web("default/b"), "192.0.2.3@office")
		refused(t, a, web("default/c"), nil, lb.ReasonPoolExhausted, "of 4 IPv4 addresses 2 are in use and 2 listed in spec.externalIPs")
		for field, way := range map[string]func(*lb.Request){
			"annotation mooring.dev/addresses": askFor("192.0.2.2"), "spec.externalIPs": external("192.0.2.2"), "spec.loadBalancerIP": loadBalancerIP("192.0.2.2"),
		} {
			refused(t, a, web("default/c", way), nil, lb.ReasonAddressInUse, field+" asks for 192.0.2.2, which Service other/thief lists in spec.externalIPs")
		}
		assert.Equal(t, []lb.Usage{{Pool: "office", Family: lb.IPv4, Size: 4, Used: 2, Quarantined: 2}}, a.Usage())
		a.SetPools(nil)
		a.SetPools(pools)
	}
	assert.True(t, a.SetExposed(thief("other"), addrs("192.0.2.0")))
	gets(t, a, web("default/c", askFor("192.0.2.2")), "192.0.2.2@office")
	refused(t, a, web("default/d"), nil, lb.ReasonPoolExhausted)
	assert.True(t, a.SetExposed(thief("other"), nil))
	assert.Empty(t, a.Exposing())
	gets(t, a, web("default/d"), "192.0.2.0@office")
}

// Within a namespace there is nobody to be kept from anybody: who asks has it. By chance it still goes to nobody.
func TestAddressExposedFromTheNamespace(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0/31")})
	a.SetExposed(thief("default"), addrs("192.0.2.0"))
	gets(t, a, web("default/a"), "192.0.2.1@office")
	gets(t, a, web("default/thief", external("192.0.2.0")), "192.0.2.0@office")
}

// Whoever has an address keeps it, whatever others expose; when he gives it back, it is as if he had never had it.
func TestAddressExposedWhileItIsHeld(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0/31")})
	gets(t, a, web("default/a"), "192.0.2.0@office")
	a.SetExposed(thief("other"), addrs("192.0.2.0"))
	gets(t, a, web("default/a"), "192.0.2.0@office")
	gets(t, a, web("default/a", askFor("192.0.2.0")), "192.0.2.0@office")
	assert.Zero(t, a.Usage()[0].Quarantined)
	assert.Nil(t, a.Adopt(web("default/b"), lease("192.0.2.1@office")))
	release(t, a, "default/a", "192.0.2.0")
	refused(t, a, web("default/a"), nil, lb.ReasonPoolExhausted)
	assert.Nil(t, a.Adopt(web("default/a"), lease("192.0.2.0@office")), "what was held before a restart")
	gets(t, a, web("default/a"), "192.0.2.0@office")
}

// Two namespaces that list one address before anybody has it: neither gets it, until one of them gives way.
func TestAddressExposedByTwo(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0")})
	a.SetExposed(lb.Ref{Namespace: "default", Name: "a"}, addrs("192.0.2.0"))
	a.SetExposed(thief("other"), addrs("192.0.2.0"))
	a.SetExposed(lb.Ref{Namespace: "other", Name: "accomplice"}, addrs("192.0.2.0"))
	refused(t, a, web("default/a", external("192.0.2.0")), nil, lb.ReasonAddressInUse, "Service other/accomplice")
	refused(t, a, web("other/thief", external("192.0.2.0")), nil, lb.ReasonAddressInUse, "Service default/a")
	assert.True(t, a.SetExposed(lb.Ref{Namespace: "other", Name: "accomplice"}, nil))
	refused(t, a, web("default/a", external("192.0.2.0")), nil, lb.ReasonAddressInUse, "Service other/thief")
	assert.True(t, a.SetExposed(thief("other"), nil))
	gets(t, a, web("default/a", external("192.0.2.0")), "192.0.2.0@office")
}

// Nobody joins those who share an address while another namespace exposes it; they keep it.
func TestSharedAddressThatIsExposed(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0/31")})
	gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
	a.SetExposed(thief("other"), addrs("192.0.2.0"))
	next := web("default/b", key("k"), port(81, "TCP"))
	refused(t, a, next, nil, lb.ReasonAddressInUse, `mooring.dev/sharing-key "k" has 192.0.2.0, which Service other/thief lists in spec.externalIPs`)
	refused(t, a, with(next, askFor("192.0.2.0")), nil, lb.ReasonAddressInUse, "asks for 192.0.2.0, which Service other/thief lists")
	gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
	a.SetExposed(thief("other"), nil)
	gets(t, a, next, "192.0.2.0@office")
}

// What is bought, and listed by no pool, is nobody else's business.
func TestBoughtAddressThatIsExposed(t *testing.T) {
	a := pool.New([]config.Pool{rented("rented")})
	orders(t, a, web("default/a", key("k")), nil, lb.IPv4)
	a.SetExposed(thief("other"), addrs("203.0.113.7"))
	bought(t, a, "default/a", "203.0.113.7")
	gets(t, a, web("default/a", key("k")), "203.0.113.7@rented")
	gets(t, a, web("default/b", key("k"), port(81, "TCP")), "203.0.113.7@rented")
}

// Exposed, quarantined and withheld: an address is free only when all of it is over.
func TestExposedAndQuarantined(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0")})
	a.SetExposed(thief("other"), addrs("192.0.2.0"))
	a.Quarantine(addr("192.0.2.0"))
	a.Withhold(addr("192.0.2.0"), gone)
	for _, lift := range []func(){
		func() { a.Unquarantine(addr("192.0.2.0")) },
		func() { a.SetExposed(thief("other"), nil) },
		func() { a.Withhold(addr("192.0.2.0"), nil) },
	} {
		refused(t, a, web("default/a"), nil, lb.ReasonPoolExhausted)
		assert.Equal(t, uint64(1), a.Usage()[0].Quarantined)
		lift()
	}
	gets(t, a, web("default/a"), "192.0.2.0@office")
}

// People who ask why are told: the pool that has the address that is asked for says who exposes it.
func TestConsiderExposedAddress(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0/31")})
	a.SetExposed(thief("other"), addrs("192.0.2.1"))
	p := a.Consider(web("default/a", askFor("192.0.2.1")))
	require.NotNil(t, p.Refusal)
	require.NotNil(t, p.Pools[0].Refusal)
	assert.Contains(t, p.Pools[0].Refusal.Message, "Service other/thief")
	gets(t, a, web("default/a"), "192.0.2.0@office")
}

// BenchmarkExposed is one Service that gets an address and gives it back, and one whose list changes, beside others that
// expose so many addresses of the pool.
func BenchmarkExposed(b *testing.B) {
	for _, services := range []int{10, 10000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			a := pool.New([]config.Pool{aPool("office", "10.0.0.0/16")})
			next := addr("10.0.0.0")
			for i := range services {
				a.SetExposed(lb.Ref{Namespace: "other", Name: fmt.Sprint(i)}, addrs(next.String()))
				next = next.Next()
			}
			req, list := web("default/bench"), addrs(next.String())
			b.ReportAllocs()
			for b.Loop() {
				a.SetExposed(thief("other"), list)
				got := a.Assign(req)
				a.SetExposed(thief("other"), nil)
				a.Release(req.UID, got.Want[0].Addr)
			}
		})
	}
}
