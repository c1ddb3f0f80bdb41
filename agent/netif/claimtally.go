package netif

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// claimGap is how often the same claim is told at most.
	claimGap = 100 * time.Millisecond
	// framesPerGap is how many frames are looked at in that time. More wait in the kernel, which drops what it has no
	// room for: a flood costs a tenth of a processor at most.
	framesPerGap = 4096
	// claimants is how many hardware addresses are told for one address in that time. One that is claimed by more is
	// claimed by somebody who makes them up.
	claimants = 4
)

type verdict int

const (
	news verdict = iota
	again
	tooMany
)

// tally is what was told lately, so that a flood of claims becomes a trickle. It holds no more than a few hardware
// addresses for each address that is watched.
type tally struct {
	began  time.Time
	frames int
	told   map[netip.Addr][]mac
}

// frame counts one, and returns how long to wait before the next.
func (t *tally) frame(now time.Time) time.Duration {
	if now.Sub(t.began) >= claimGap {
		t.began, t.frames = now, 0
		clear(t.told)
	}
	t.frames++
	if t.frames < framesPerGap {
		return 0
	}
	return claimGap - now.Sub(t.began)
}

func (t *tally) see(c claim) verdict {
	machines := t.told[c.ip]
	switch {
	case slices.Contains(machines, c.at):
		return again
	case len(machines) >= claimants:
		return tooMany
	default:
		return news
	}
}

func (t *tally) add(c claim) {
	if t.told == nil {
		t.told = map[netip.Addr][]mac{}
	}
	t.told[c.ip] = append(t.told[c.ip], c.at)
}

func (t *tally) forget(ip netip.Addr) { delete(t.told, ip) }

// hardware are the hardware addresses of this host. A frame that says to come from one of them is our own, which a
// bond or a loop in the network has brought back.
type hardware struct {
	mu     sync.Mutex
	byName map[string]mac
	count  map[mac]int
}

// replace takes the interfaces that there are.
func (h *hardware) replace(links map[string]Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byName, h.count = map[string]mac{}, map[mac]int{}
	for name, link := range links {
		h.put(name, link.HardwareAddr)
	}
}

// set takes one interface. None is ever removed but by replace: an address that was ours just now is no machine's.
func (h *hardware) set(name string, address net.HardwareAddr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if former, ok := h.byName[name]; ok {
		delete(h.byName, name)
		if h.count[former]--; h.count[former] == 0 {
			delete(h.count, former)
		}
	}
	h.put(name, address)
}

func (h *hardware) has(address mac) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count[address] > 0
}

func (h *hardware) put(name string, address net.HardwareAddr) {
	if len(address) != len(mac{}) || h.byName == nil {
		return // without a first reading nothing is known; it comes before the first listening
	}
	h.byName[name] = mac(address)
	h.count[mac(address)]++
}
