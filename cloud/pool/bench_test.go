package pool_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// BenchmarkAllocate is one Service that gets an address and gives it back, with so many addresses in use by others.
func BenchmarkAllocate(b *testing.B) {
	for _, bench := range []struct {
		name, addresses string
		family          lb.Family
		used            int
	}{
		{"IPv4-16/100", "10.0.0.0/16", lb.IPv4, 100},
		{"IPv4-16/10000", "10.0.0.0/16", lb.IPv4, 10000},
		{"IPv4-16/60000", "10.0.0.0/16", lb.IPv4, 60000},
		{"IPv6-64/100", "2001:db8::/64", lb.IPv6, 100},
		{"IPv6-64/10000", "2001:db8::/64", lb.IPv6, 10000},
		{"IPv6-64/60000", "2001:db8::/64", lb.IPv6, 60000},
	} {
		b.Run(bench.name, func(b *testing.B) {
			a := pool.New([]config.Pool{aPool("office", bench.addresses)})
			for i := range bench.used {
				if got := a.Assign(web(fmt.Sprintf("default/s%d", i), families(lb.SingleStack, bench.family))); got.Refusal != nil {
					b.Fatal(got.Refusal)
				}
			}
			req := web("default/bench", families(lb.SingleStack, bench.family))
			b.ReportAllocs()
			for b.Loop() {
				got := a.Assign(req)
				if !a.Release(req.UID, got.Want[0].Addr) {
					b.Fatal("not freed")
				}
			}
		})
	}
}

// BenchmarkReassign asks again for a Service that has its address, as every pass of the sync does.
func BenchmarkReassign(b *testing.B) {
	a := pool.New([]config.Pool{aPool("office", "10.0.0.0/16")})
	for i := range 60000 {
		a.Assign(web(fmt.Sprintf("default/s%d", i)))
	}
	req := web("default/s30000")
	b.ReportAllocs()
	for b.Loop() {
		a.Assign(req)
	}
}

// BenchmarkOrder is one Service that orders, gets what is bought and gives it back, with so many addresses bought for
// others and as many on order.
func BenchmarkOrder(b *testing.B) {
	for _, others := range []int{100, 10000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			a := pool.New([]config.Pool{rented("rented", atMost(3*others))})
			next := netip.MustParseAddr("10.0.0.0")
			for i := range 2 * others {
				req := web(fmt.Sprintf("default/s%d", i))
				a.Assign(req)
				if next = next.Next(); i < others && !a.Bought(req.UID, next) {
					b.Fatal("not bought")
				}
			}
			req := web("default/bench")
			for b.Loop() {
				a.Assign(req)
				if !a.Bought(req.UID, next) || !a.Release(req.UID, next) {
					b.Fatal("not bought and released")
				}
			}
		})
	}
}

// BenchmarkSetPools is a reload with so many addresses in use.
func BenchmarkSetPools(b *testing.B) {
	for _, used := range []int{100, 10000, 60000} {
		b.Run(fmt.Sprint(used), func(b *testing.B) {
			pools := []config.Pool{aPool("office", "10.0.0.0/16"), aPool("six", "2001:db8::/32")}
			a := pool.New(pools)
			for i := range used {
				a.Assign(web(fmt.Sprintf("default/s%d", i)))
			}
			for b.Loop() {
				a.SetPools(pools)
			}
		})
	}
}

// BenchmarkSharing is the last of so many Services that share one address.
func BenchmarkSharing(b *testing.B) {
	for _, sharers := range []int{10, pool.MaxSharers - 1} {
		b.Run(fmt.Sprint(sharers), func(b *testing.B) {
			a := pool.New([]config.Pool{aPool("office", "10.0.0.0/16")})
			for i := range sharers {
				if got := a.Assign(web(fmt.Sprintf("default/s%d", i), key("k"), port(uint16(1000+i), "TCP"))); got.Refusal != nil {
					b.Fatal(got.Refusal)
				}
			}
			req := web("default/bench", key("k"))
			for b.Loop() {
				got := a.Assign(req)
				a.Release(req.UID, got.Want[0].Addr)
			}
		})
	}
}
