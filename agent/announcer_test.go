package agent

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// sent plays time forward and returns when, in seconds, the address was announced.
func sent(a *announcer, from time.Time, seconds int) []float64 {
	var times []float64
	for now := from; now.Before(from.Add(time.Duration(seconds) * time.Second)); now = now.Add(100 * time.Millisecond) {
		for {
			s, wait, ok := a.next(now)
			if !ok || wait > 0 {
				break
			}
			times = append(times, now.Sub(from).Seconds())
			a.done(now, s, nil)
		}
	}
	return times
}

func TestAnnouncementsRepeatAndThenRemind(t *testing.T) {
	a, ip := newAnnouncer(), netip.MustParseAddr("10.0.0.10")
	a.hold(noon, ip, "eth0", false)
	assert.False(t, a.announced(ip))
	assert.Equal(t, []float64{0, 1, 2, 4, 8}, sent(a, noon, 60))
	assert.True(t, a.announced(ip))

	later := noon.Add(time.Minute)
	a.hold(later, ip, "eth0", false)
	assert.Equal(t, []float64{8, 68}, sent(a, later, 120), "asking again changes nothing")
	later = later.Add(2 * time.Minute)
	a.hold(later, ip, "eth1", false)
	assert.Equal(t, []float64{0, 1, 2, 4, 8}, sent(a, later, 60), "another uplink has not heard of it")
	a.restart(later, ip)
	assert.False(t, a.announced(ip))
	a.drop(ip)
	assert.Empty(t, sent(a, later, 60), "a released address is not announced")
}

func TestAPredecessorIsChasedUntilItIsGone(t *testing.T) {
	a, ip := newAnnouncer(), netip.MustParseAddr("10.0.0.10")
	a.hold(noon, ip, "eth0", true)
	assert.Len(t, sent(a, noon, 30), 30)
	a.hold(noon, ip, "eth0", false)
	assert.LessOrEqual(t, len(sent(a, noon.Add(30*time.Second), 60)), 1)
	a.hold(noon.Add(2*time.Minute), ip, "eth0", true)
	assert.Len(t, sent(a, noon.Add(2*time.Minute), 10), 10)
}

func TestAFailedAnnouncementIsNoAnnouncement(t *testing.T) {
	a, ip := newAnnouncer(), netip.MustParseAddr("10.0.0.10")
	a.hold(noon, ip, "eth0", false)
	s, _, _ := a.next(noon)
	a.done(noon, s, errors.New("no"))
	assert.False(t, a.announced(ip))
	assert.Equal(t, []float64{1, 2, 3, 5, 9}, sent(a, noon, 60))
}

func TestFirstComeFirstAnnounced(t *testing.T) {
	a := newAnnouncer()
	for i := range 500 {
		a.hold(noon, netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i % 250)}), "eth0", true)
	}
	// The pace lets 100 through each second: everybody is heard once before anybody is heard twice.
	heard := map[netip.Addr]int{}
	for second := range 5 {
		now := noon.Add(time.Duration(second) * time.Second)
		for range 100 {
			s, _, _ := a.next(now)
			heard[s.ip]++
			a.done(now, s, nil)
		}
	}
	assert.Len(t, heard, 500)
}
