package conflict

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

var (
	noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ip1  = netip.MustParseAddr("10.0.0.10")
	ip2  = netip.MustParseAddr("fd00::10")
	us   = hw(1)
	them = hw(2)
)

func hw(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(1 + n/250), byte(n % 250)}) }

// world is a segment with other machines on it, an API server, and a clock.
type world struct {
	*Detector
	now      time.Time
	answers  func(ip netip.Addr) []net.HardwareAddr // who answers a probe
	lose     func() bool                            // whether a probe is lost on its way
	holds    func(ip netip.Addr) bool               // what the API server says; nil: it cannot be asked
	asked    int
	probed   map[netip.Addr][]time.Duration // since noon
	sendErr  error
	apiDelay time.Duration
	answerAt time.Time
}

func newWorld(subjects ...Subject) *world {
	w := &world{Detector: New(), now: noon, probed: map[netip.Addr][]time.Duration{}, apiDelay: 20 * time.Millisecond,
		answers: func(netip.Addr) []net.HardwareAddr { return nil }, lose: func() bool { return false },
		holds: func(netip.Addr) bool { return true }}
	w.Own([]net.HardwareAddr{us})
	w.Watch(w.now, subjects)
	return w
}

// always answers every probe for the addresses.
func always(mac net.HardwareAddr, ips ...netip.Addr) func(netip.Addr) []net.HardwareAddr {
	return func(ip netip.Addr) []net.HardwareAddr {
		if len(ips) == 0 || slices.Contains(ips, ip) {
			return []net.HardwareAddr{mac}
		}
		return nil
	}
}

// play lets time go by. It returns what was decided meanwhile, as "kind ip".
func (w *world) play(d time.Duration) []string {
	var decided []string
	for end := w.now.Add(d); ; {
		for {
			p, wait, ok := w.Next(w.now)
			if !ok || wait > 0 {
				break
			}
			w.probed[p.IP] = append(w.probed[p.IP], w.now.Sub(noon))
			w.Sent(w.now, p, w.sendErr)
			if w.sendErr == nil && !w.lose() {
				for _, mac := range w.answers(p.IP) {
					w.Heard(w.now, p.Uplink, p.IP, mac)
				}
			}
		}
		if w.Asks(w.now) {
			w.asked++
			w.answerAt = w.now.Add(w.apiDelay)
		}
		for _, d := range w.Decisions() {
			decided = append(decided, fmt.Sprint(d.Kind, " ", d.IP))
		}
		next := end
		if _, wait, ok := w.Next(w.now); ok && w.now.Add(wait).Before(next) {
			next = w.now.Add(wait)
		}
		if !w.answerAt.IsZero() && w.answerAt.Before(next) {
			next = w.answerAt
		}
		if !next.After(w.now) && next.Equal(end) {
			return decided
		}
		w.now = next
		if w.answerAt.Equal(w.now) {
			w.answerAt = time.Time{}
			w.Answer(w.now, w.holds)
		}
	}
}

func (w *world) claim(ip netip.Addr, mac net.HardwareAddr) bool {
	return w.Heard(w.now, "eth0", ip, mac)
}

func fresh(ip netip.Addr) Subject { return Subject{IP: ip, Uplink: "eth0"} }

func held(ip netip.Addr) Subject { return Subject{IP: ip, Uplink: "eth0", Bound: true} }

func moved(ip netip.Addr) Subject { return Subject{IP: ip, Uplink: "eth0", Moved: true} }

func verdict(w *world, ip netip.Addr) Verdict {
	v, _ := w.Verdict(ip)
	return v
}
