package netif

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// What many frames say is told a few times only, and again when it is asked for or after a while. What was news and is
// not told is counted.
func TestClaimsAreThinnedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newEars(nil)
		vip, other := netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("10.0.0.11")
		e := &ear{ears: all, earKey: earKey{"eth0", etherTypeARP}, ips: []netip.Addr{vip, other}}
		all.open[e.earKey] = e
		hear := func(n byte, ip netip.Addr) time.Duration {
			return e.hear(announcement(net.HardwareAddr{2, 0, 0, 0, 0, n}, ip)[0])
		}
		told := func() int {
			n := len(all.heard)
			for range n {
				<-all.heard
			}
			return n
		}
		for range 100 {
			hear(1, vip)
		}
		assert.Equal(t, 1, told(), "the same claim")
		for n := range byte(10) {
			hear(n, vip)
		}
		assert.Equal(t, claimants-1, told(), "hardware addresses that somebody makes up")
		assert.EqualValues(t, 10-claimants, all.missed())
		hear(1, other)
		assert.Equal(t, 1, told(), "the other address has nothing to do with it")
		all.asked("eth0", vip)
		hear(1, vip)
		hear(1, other)
		assert.Equal(t, 1, told(), "asked for")
		<-time.After(claimGap)
		hear(1, vip)
		assert.Equal(t, 1, told(), "after a while")

		for len(all.heard) < claimsWaiting {
			all.heard <- Event{Kind: ClaimEvent}
		}
		dropped := all.missed()
		hear(1, other)
		assert.Equal(t, dropped+1, all.missed(), "nobody takes them")
		told()
		hear(1, other)
		assert.Equal(t, 1, told(), "what was dropped was not told")

		<-time.After(claimGap)
		for range framesPerGap - 1 {
			assert.Zero(t, hear(1, vip))
		}
		<-time.After(claimGap / 4)
		assert.Equal(t, claimGap-claimGap/4, hear(1, vip), "the rest of the time is for others")
		<-time.After(claimGap)
		assert.Zero(t, hear(1, vip))
	})
}

// An interface that gets another hardware address, as a bond does, is known by it; so is everything after a reading.
func TestOurHardwareAddresses(t *testing.T) {
	var ours hardware
	a, b := mac(herMAC), mac(hisMAC)
	ours.set("eth0", herMAC)
	assert.False(t, ours.has(a), "nothing was read yet")
	ours.replace(map[string]Link{"eth0": {HardwareAddr: herMAC}, "br0": {HardwareAddr: herMAC}, "tun0": {}})
	assert.True(t, ours.has(a))
	ours.set("eth0", hisMAC)
	assert.True(t, ours.has(a), "the bridge has it still")
	assert.True(t, ours.has(b))
	ours.set("br0", hisMAC)
	assert.False(t, ours.has(a))
	ours.set("br0", nil)
	assert.True(t, ours.has(b))
	ours.replace(map[string]Link{"eth0": {HardwareAddr: herMAC}})
	assert.False(t, ours.has(b))
}
