package protocol

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-lb/mooring/agent/netif"
)

// segment is the wire that all machines and a router stand on.
type segment struct {
	w        *world
	stations []*station
	// router is whoever sends the traffic. It believes what was announced last, for hours.
	router *station
	routes map[netip.Addr]net.HardwareAddr
	// missed are the stations that could not know of the last announcement of an address: it was lost on its way.
	missed map[netip.Addr]map[*station]bool
	// sent is when the frame left that is heard now.
	sent time.Duration
}

// station is what is plugged into the segment.
type station struct {
	name string
	mac  net.HardwareAddr
	// cuts are the faults that let nothing pass while the link stays up, downs those that take the link down, and
	// pauses those that stop the machine, so that what is sent to it is lost.
	cuts, downs, pauses int
	// answers says whether the station answers for an address.
	answers func(netip.Addr) bool
	// heard is told of claims.
	heard func(ip netip.Addr, mac net.HardwareAddr)
}

func (s *station) connected() bool { return s.cuts == 0 && s.downs == 0 && s.pauses == 0 }

func newSegment(w *world) *segment {
	s := &segment{w: w, routes: map[netip.Addr]net.HardwareAddr{}, missed: map[netip.Addr]map[*station]bool{}}
	s.router = s.plug("router", func(netip.Addr) bool { return false }, func(ip netip.Addr, mac net.HardwareAddr) {
		if !slices.Equal(s.routes[ip], mac) {
			w.log("wire: the router sends %s to %s", ip, mac)
			s.routes[ip] = mac
			w.check.learned[ip] = learned{w.now, w.now - s.sent, s.missed[ip]}
		}
	})
	return s
}

// plug adds a station.
func (s *segment) plug(name string, answers func(netip.Addr) bool, heard func(netip.Addr, net.HardwareAddr)) *station {
	n := len(s.stations) + 1
	st := &station{name: name, mac: net.HardwareAddr{2, 0, 0, 0, 0, byte(n)}, answers: answers, heard: heard}
	s.stations = append(s.stations, st)
	return st
}

func (s *segment) unplug(st *station) {
	s.stations = slices.DeleteFunc(s.stations, func(o *station) bool { return o == st })
}

// prompt is how long a frame takes at most that is not late.
const prompt = 2 * time.Millisecond

// latency of a frame. Some are late, and arrive as if nothing had happened meanwhile.
func (s *segment) latency() time.Duration {
	if s.w.faulty && s.w.chance(0.01) {
		return s.w.between(0, 2*time.Second)
	}
	return s.w.between(50*time.Microsecond, prompt)
}

// send has a frame arrive, unless it is lost.
func (s *segment) send(from, to *station, do func()) bool {
	if !from.connected() || !to.connected() || s.w.chance(s.w.loss) {
		return false
	}
	s.w.after(nil, s.latency(), func() {
		if to.connected() {
			do()
		}
	})
	return true
}

// announce is heard by everybody.
func (s *segment) announce(from *station, ip netip.Addr) {
	s.w.check.announced(from, ip)
	mac, sent := from.mac, s.w.now
	missed := map[*station]bool{}
	for _, to := range s.stations {
		if to != from && !s.send(from, to, func() { s.sent = sent; to.heard(ip, mac) }) {
			missed[to] = to.downs == 0 && to.pauses == 0
		}
	}
	s.missed[ip] = missed
}

// probe asks everybody who has an address.
func (s *segment) probe(from *station, ip netip.Addr) {
	for _, to := range s.stations {
		if to == from {
			continue
		}
		s.send(from, to, func() {
			if to.answers(ip) {
				mac := to.mac
				s.send(to, from, func() { from.heard(ip, mac) })
			}
		})
	}
}

// answering are the stations that answer for an address now, machines and strangers.
func (s *segment) answering(ip netip.Addr) (list []*station) {
	for _, st := range s.stations {
		if st.connected() && st.answers(ip) {
			list = append(list, st)
		}
	}
	return list
}

// heardEvent is what a machine's kernel tells its agent of a claim.
func heardEvent(uplink string, ip netip.Addr, mac net.HardwareAddr) netif.Event {
	return netif.Event{Kind: netif.ClaimEvent, Interface: uplink, IP: ip, HardwareAddr: mac}
}
