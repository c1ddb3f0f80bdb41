package agent

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// What this host missed while it was away: its link, its watch of the API server, or its own clock. Whoever was away from
// its segment announces from the beginning. When only the watch was broken once is enough: an API server that restarts
// breaks the watches of a thousand nodes, and five broadcasts for each of their addresses are a storm.
var absences = map[string]struct {
	of            func(*stage)
	announcements int
}{
	"the link came up": {func(s *stage) {
		s.link(func(l *netif.Link) { l.Running = false })
		s.keeper.Notice(netif.Event{Kind: netif.LinkEvent, Interface: "eth0", Up: true})
		s.play(30 * time.Second)
		s.link(func(l *netif.Link) { l.Running = true })
		s.keeper.Notice(netif.Event{Kind: netif.LinkEvent, Interface: "eth0", Up: true, Running: true, HardwareAddr: ourMAC})
	}, 5},
	"the watch was broken": {func(s *stage) {
		o, stored := s.keeper.object, s.stored
		s.cut(o)
		s.play(30 * time.Second)
		s.stored = stored
		s.keeper.Object(o, true)
	}, 1},
	"the watch was broken for a moment": {func(s *stage) { s.keeper.Reconnected() }, 1},
	"the process was stopped":           {func(s *stage) { s.now = s.now.Add(30 * time.Second) }, 5},
}

// It comes back, asks, probes, and only then announces; the successor that it was not told of keeps the address.
func TestAfterAnAbsenceItAsksFirst(t *testing.T) {
	for name, away := range absences {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.watch(order(1, hold(vip4), hold(vip6)))
			s.play(time.Minute)
			s.stored = order(2, in(v1alpha1.Release, hold(vip4)), hold(vip6))
			s.take(vip4)
			away.of(s)
			before4, before6, asked := s.announced(vip4), s.announced(vip6), s.asked
			s.play(5 * time.Millisecond)
			assert.Equal(t, asked+1, s.asked)
			s.play(200 * time.Millisecond)
			assert.Equal(t, before6, s.announced(vip6), "not before it was probed")
			assert.Equal(t, []string{vip6 + "@pl0"}, s.host.bound())
			s.play(20 * time.Second)
			assert.Equal(t, before4, s.announced(vip4), "not ours any more")
			assert.Equal(t, before6+away.announcements, s.announced(vip6))
			assert.NotContains(t, s.status.Pending, vip6)
		})
	}
}

// What is bound again meanwhile is not announced before it was probed either.
func TestNothingIsAnnouncedWhileItIsChecked(t *testing.T) {
	s := newStage(t)
	s.watch(order(1, hold(vip4)))
	s.play(time.Minute)
	before := s.announced(vip4)
	s.keeper.Reconnected()
	s.play(time.Millisecond)
	s.host.change(func(state *netif.State) { clear(state.Bound) })
	s.keeper.Notice(netif.Event{Kind: netif.AddressEvent, Index: 3, IP: netip.MustParseAddr(vip4), Ours: true, Gone: true})
	s.play(200 * time.Millisecond)
	assert.Len(t, s.host.bound(), 1)
	assert.Equal(t, before, s.announced(vip4))
	s.play(20 * time.Second)
	assert.Equal(t, before+5, s.announced(vip4))
}

// The same, and the API server cannot be asked: what the successor answers for is given up, the rest is announced.
func TestAfterAnAbsenceWithoutAnAPIServer(t *testing.T) {
	for name, away := range absences {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			o := order(1, hold(vip4), hold(vip6))
			s.watch(o)
			s.play(time.Minute)
			s.take(vip4)
			s.stored = nil
			away.of(s)
			s.stored = nil
			before4, before6 := s.announced(vip4), s.announced(vip6)
			s.play(20 * time.Second)
			assert.Equal(t, []string{vip6 + "@pl0"}, s.host.bound())
			assert.Equal(t, before4, s.announced(vip4))
			assert.Equal(t, before6+away.announcements, s.announced(vip6))
		})
	}
}

// What was being announced goes on where it was, and what is announced from the beginning is so whatever happens beside.
func TestABrokenWatchEndsNoSeries(t *testing.T) {
	s := newStage(t)
	s.watch(order(1, hold(vip4)))
	s.play(1500 * time.Millisecond)
	assert.Equal(t, 2, s.announced(vip4))
	s.keeper.Reconnected()
	s.play(time.Minute)
	assert.Equal(t, 5, s.announced(vip4))

	s.now = s.now.Add(30 * time.Second)
	s.play(time.Millisecond)
	s.keeper.Reconnected()
	s.play(time.Minute)
	assert.Equal(t, 10, s.announced(vip4))
}

// A bond takes another port, or the virtual machine moves to another host: switches send to where it was until they hear
// from it, so what it holds is announced before anybody has answered, and checked beside.
func TestWhatLeadsElsewhereIsAnnouncedAtOnce(t *testing.T) {
	elsewhere := netif.Event{Kind: netif.LinkEvent, Interface: "eth0", Up: true, Running: true, Moved: true, HardwareAddr: ourMAC}
	for name, move := range map[string]func(*stage){
		"and looks the same": func(s *stage) { s.keeper.Notice(elsewhere) },
		"and has the hardware address of the other port": func(s *stage) {
			event := elsewhere
			event.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, 7}
			s.link(func(l *netif.Link) { l.HardwareAddr = event.HardwareAddr })
			s.keeper.Notice(event)
		},
		"and is an uplink without an address": func(s *stage) {
			s.host.change(func(state *netif.State) { delete(state.Settings, "eth0") })
			s.keeper.Notice(netif.Event{Kind: netif.LostEvent})
			s.play(time.Second)
			s.keeper.Notice(elsewhere)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			o := order(1, hold(vip4), hold(vip6))
			for i := range o.Spec.Addresses {
				o.Spec.Addresses[i].Uplink = "eth0"
			}
			s.watch(o)
			s.play(time.Minute)
			s.stored = nil // a live read takes a second, and comes to nothing
			s.take(vip4)
			before4, before6 := s.announced(vip4), s.announced(vip6)
			move(s)
			s.play(10 * time.Millisecond)
			assert.Equal(t, before4+1, s.announced(vip4))
			assert.Equal(t, before6+1, s.announced(vip6))
			s.play(time.Minute)
			assert.Equal(t, before6+5, s.announced(vip6))
			assert.Equal(t, []string{vip6 + "@pl0"}, s.host.bound(), "a successor was found all the same")

			// It also was away: then it asks first.
			before6 = s.announced(vip6)
			s.keeper.Reconnected()
			s.play(time.Millisecond)
			s.keeper.Notice(elsewhere)
			s.play(500 * time.Millisecond)
			assert.Equal(t, before6, s.announced(vip6))
			s.play(time.Minute)
			assert.Equal(t, before6+5, s.announced(vip6))
		})
	}
}
