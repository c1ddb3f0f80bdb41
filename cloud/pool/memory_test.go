package pool

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// A controller runs for years: of Services that came, waited, shared, moved and went nothing is kept but the order in
// which their addresses were freed.
func TestNothingIsKeptOfServicesThatAreGone(t *testing.T) {
	var b netipx.IPSetBuilder
	b.AddPrefix(netip.MustParsePrefix("192.0.2.0/30"))
	addresses, err := b.IPSet()
	require.NoError(t, err)
	rented := config.Pool{Name: "rented", AutoAssign: true, Hetzner: &config.HetznerPool{Ephemeral: &config.Ephemeral{IPv4: true}}}
	edge := config.Pool{Name: "edge", Updater: &config.Updater{Host: "lb.example.com", PortLow: 8100, PortHigh: 8102}}
	pools := []config.Pool{{Name: "office", Addresses: addresses, AutoAssign: true}, edge, rented}
	a := New(pools)
	for round := range 3 {
		for i := range 12 {
			req := lb.Request{
				Ref:        lb.Ref{Namespace: "default", Name: fmt.Sprint(i), UID: fmt.Sprint(round, "-", i)},
				Families:   []lb.Family{lb.IPv4},
				Ports:      []lb.Port{{Number: uint16(i), Protocol: "TCP"}},
				SharingKey: []string{"", "k", "l"}[i%3],
			}
			a.Assign(req)
			req.SharingKey = []string{"", "m", "k"}[(i+round)%3]
			a.Assign(req)
			a.Adopt(req, lb.Lease{Addr: netip.MustParseAddr("192.0.2.1"), Pool: "office"})
			if i%4 == 0 {
				req.Pool, req.UID = "edge", req.UID+"-edge"
				a.Assign(req)
				req.Pool = "office"
				a.Assign(req)
			}
		}
		outside := netip.MustParseAddr("203.0.113.1")
		a.Adopt(lb.Request{Ref: lb.Ref{UID: "outside"}}, lb.Lease{Addr: outside, Pool: "gone"})
		a.Quarantine(outside)
		a.Release("outside", outside)
		a.Unquarantine(outside)
		a.Withhold(outside, lb.Refuse("Gone", "gone"))
		a.Withhold(outside, nil)
		a.AdoptPort(lb.Request{Ref: lb.Ref{UID: "outside"}}, lb.PortLease{Pool: "gone", Service: lb.Port{Number: 80, Protocol: lb.TCP}, Port: 80})
		a.Bought(fmt.Sprint(round, "-", 9), outside)
		for uid := range a.services {
			for _, l := range a.Leases(uid) {
				a.Release(uid, l.Addr)
			}
			for _, l := range a.Ports(uid) {
				a.ReleasePort(uid, l.Pool, l.Port, l.Service.Protocol)
			}
			if round > 0 {
				a.CancelOrder(uid, lb.IPv4)
			}
		}
		if round == 0 {
			a.SetPools(pools[:2])
			a.SetPools(pools)
		}
		assert.Empty(t, a.services)
		assert.Empty(t, a.groups)
		assert.Len(t, a.records, 4)
		assert.Len(t, a.portRecords, 3)
		assert.Equal(t, 4, a.spaces[0].freed.len)
	}
	a.SetPools(nil)
	assert.Empty(t, a.records)
	assert.Empty(t, a.portRecords)
}

// Somebody who lists ever other addresses of a pool that never ends, and takes them off again, does not fill the memory.
func TestLittleIsKeptOfWhatIsExposedNoMore(t *testing.T) {
	var b netipx.IPSetBuilder
	b.AddPrefix(netip.MustParsePrefix("2001:db8::/64"))
	addresses, err := b.IPSet()
	require.NoError(t, err)
	a := New([]config.Pool{{Name: "office", Addresses: addresses, AutoAssign: true}})
	next := netip.MustParseAddr("2001:db8::")
	request := lb.Request{Ref: lb.Ref{Namespace: "default", Name: "web", UID: "web"}, Families: []lb.Family{lb.IPv6}}
	for range 5 {
		list := make([]netip.Addr, longestQueue/2)
		for i := range list {
			list[i], next = next, next.Next()
		}
		a.SetExposed(lb.Ref{Namespace: "other", Name: "web"}, list)
		got := a.Assign(request)
		require.Nil(t, got.Refusal)
		a.Release("web", got.Want[0].Addr)
		a.SetExposed(lb.Ref{Namespace: "other", Name: "web"}, nil)
	}
	assert.LessOrEqual(t, len(a.records), longestQueue+1)
	assert.Empty(t, a.exposed)
}
