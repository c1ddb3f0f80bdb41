package conflict

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAProxyIsRecognised(t *testing.T) {
	for name, address := range map[string]func(int) netip.Addr{
		"ARP":                 addr,
		"neighbour discovery": func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0xfd, 15: byte(i)}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(fresh(address(1)), fresh(address(2)))
			w.answers = always(them)
			w.play(time.Minute)
			assert.Equal(t, Taken, verdict(w, address(1)), "two addresses may be in use")
			assert.Empty(t, w.Proxies())

			w.Watch(w.now, []Subject{fresh(address(1)), fresh(address(2)), fresh(address(3))})
			assert.Contains(t, w.play(time.Second), "proxy-found invalid IP")
			assert.Equal(t, []Proxy{{Uplink: "eth0", Other: them.String()}}, w.Proxies())
			for i := range 3 {
				assert.Equal(t, Free, verdict(w, address(1+i)))
			}
			w.Watch(w.now, []Subject{held(address(1)), held(address(2)), held(address(3)), fresh(address(4))})
			assert.Len(t, w.play(time.Second), 1, "the next one is bound after a silence of all others")

			// Others are still heard.
			w.answers = always(hw(3))
			w.Watch(w.now, []Subject{held(address(1)), fresh(address(5))})
			w.play(time.Second)
			assert.Equal(t, Taken, verdict(w, address(5)))

			assert.Len(t, w.Proxies(), 1)
			w.play(11 * time.Minute)
			assert.Empty(t, w.Proxies(), "it has answered for nothing for long, and was asked")
		})
	}
}

// A router that answers for everything is not forgotten as long as it does. So it cannot make us give everything up
// when the switch starts again while the API server is away, however long ago it was recognised.
func TestAProxyIsRemembered(t *testing.T) {
	w := newWorld(fresh(addr(1)), fresh(addr(2)), fresh(addr(3)))
	w.answers = always(them)
	w.play(time.Second)
	assert.Len(t, w.Proxies(), 1)
	w.Watch(w.now, []Subject{held(addr(1)), held(addr(2)), held(addr(3))})
	assert.Empty(t, w.play(time.Hour))
	assert.Len(t, w.Proxies(), 1)

	w.holds, w.sendErr = nil, errors.New("the link is down")
	assert.Empty(t, w.play(time.Hour), "who cannot be asked is not silent")
	w.sendErr = nil
	w.Relinked(w.now, "eth0")
	assert.ElementsMatch(t, []string{"checked 10.0.1.1", "checked 10.0.1.2", "checked 10.0.1.3"}, w.play(time.Minute))

	w.answers = func(netip.Addr) []net.HardwareAddr { return nil }
	assert.Equal(t, []string{"proxy-forgotten invalid IP"}, w.play(time.Hour))
}

// What three machines answer for, one each, is in use.
func TestThreeMachinesAreNoProxy(t *testing.T) {
	w := newWorld(fresh(addr(1)), fresh(addr(2)), fresh(addr(3)))
	w.answers = func(ip netip.Addr) []net.HardwareAddr { return []net.HardwareAddr{hw(ip.As4()[3])} }
	w.play(time.Hour)
	assert.Empty(t, w.Proxies())
}

// A successor that has taken over three hundred addresses from a node that is cut off answers for all of them with one
// hardware address. It is no proxy: the node yields every one.
func TestASuccessorIsNoProxy(t *testing.T) {
	for name, claims := range map[string]bool{"that announces what it holds": true, "that was heard of by probes only": false} {
		t.Run(name, func(t *testing.T) {
			var all []Subject
			for i := range 300 {
				all = append(all, held(addr(i)))
			}
			w := newWorld(all...)
			w.holds, w.answers = nil, always(them)
			if !claims {
				w.Recheck(w.now)
			}
			for range 5 {
				for _, s := range all {
					if claims {
						w.claim(s.IP, them)
					}
				}
				w.play(time.Second)
			}
			for _, s := range all {
				assert.Equal(t, Taken, verdict(w, s.IP))
			}
			assert.Empty(t, w.Proxies())
		})
	}
}

// A predecessor that still answers for what it lost is no proxy either.
func TestAPredecessorIsNoProxy(t *testing.T) {
	var all []Subject
	for i := range 10 {
		all = append(all, Subject{IP: addr(i), Uplink: "eth0", Bound: true, Moved: true})
	}
	w := newWorld(all...)
	w.answers = always(them)
	w.Recheck(w.now)
	w.play(time.Minute)
	assert.Empty(t, w.Proxies())
	assert.Len(t, w.Contests(), 10)
}

// A proxy that answers for what we hold, and the API server confirms that we do, is recognised, too.
func TestAProxyForWhatIsHeld(t *testing.T) {
	w := newWorld(held(addr(1)), held(addr(2)), held(addr(3)))
	w.answers = always(them)
	w.Recheck(w.now)
	w.play(time.Minute)
	assert.Len(t, w.Proxies(), 1)
	assert.Empty(t, w.Contests())
	w.play(2 * solicited)
	w.claim(addr(1), them)
	assert.Empty(t, w.Proxies(), "who says unasked that an address is his is no proxy")
}
