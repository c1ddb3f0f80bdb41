package pool

import (
	"container/list"
	"fmt"
	"math/bits"
	"slices"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// protocols that an updater pool has ports of, in the order in which they are listed.
var protocols = []lb.Protocol{lb.TCP, lb.UDP}

// portKey is one port of one load balancer.
type portKey struct {
	// host as it is published (see hostOf); of a pool that is not configured and whose host was never known, unknownHost.
	host     string
	protocol lb.Protocol
	number   uint16
}

// unknownHost stands for the host of a pool that is not configured. No host that can be configured looks like it.
func unknownHost(pool string) string { return "pool/" + pool }

// hostOf is the published host of an updater in the one form by which hosts are compared.
func hostOf(u *config.Updater) string {
	if u.HostAddr.IsValid() {
		return u.HostAddr.String()
	}
	return canonicalHost(u.Host)
}

// portRecord is what is known of one touched port: it is held, or it waits in the queue of its lane.
type portRecord struct {
	portKey
	// lane of the pool that the port belongs to, also outside of its range; nil when the pool is not configured.
	lane *lane
	// pool is the name of the lane's pool, without a lane the last one known.
	pool string
	// holder of the port; nil when it waits in the queue.
	holder *portLease

	freedAt uint64
	queued  *list.Element
}

// inRange says whether the port is one that its pool gives out.
func (r *portRecord) inRange() bool { return r.lane != nil && r.lane.ports.contains(r.number) }

// portLease is one Service's hold on one port.
type portLease struct {
	service *service
	record  *portRecord
	// serves is the port of the Service that is served there.
	serves lb.Port
	// leaving: Assign wants something else in its place, the caller has not released it yet.
	leaving bool
}

func (l *portLease) lease() lb.PortLease {
	return lb.PortLease{Pool: l.record.pool, Service: l.serves, Port: l.record.number}
}

// portSpace is the ports of one updater pool.
type portSpace struct {
	pool *pool
	host string
	// low to high, both included, are given out.
	low, high uint16
	tcp, udp  lane
}

// lane is the ports of one protocol in one updater pool. Ports that were never used are marked in a set, freed ones wait
// in a queue.
type lane struct {
	ports    *portSpace
	protocol lb.Protocol
	unused   numbers
	// freed has *portRecord, the one freed longest ago in front.
	freed list.List
	used  int
}

func newPortSpace(p *pool) *portSpace {
	u := p.Updater
	s := &portSpace{pool: p, host: hostOf(u), low: u.PortLow, high: u.PortHigh}
	for _, protocol := range protocols {
		l := s.lane(protocol)
		l.ports, l.protocol = s, protocol
		l.unused.addRange(s.low, s.high)
	}
	return s
}

// lane of the protocol, nil for one that an updater pool has no ports of.
func (s *portSpace) lane(p lb.Protocol) *lane {
	switch p {
	case lb.TCP:
		return &s.tcp
	case lb.UDP:
		return &s.udp
	default:
		return nil
	}
}

func (s *portSpace) contains(number uint16) bool { return s.low <= number && number <= s.high }

func (s *portSpace) size() int { return int(s.high) - int(s.low) + 1 }

func (s *portSpace) String() string { return fmt.Sprintf("%d-%d", s.low, s.high) }

// key of the port of the space.
func (s *portSpace) key(p lb.Protocol, number uint16) portKey { return portKey{s.host, p, number} }

// free yields the numbers that nobody holds in the order in which they are given out: never used ones ascending, then
// the one that is free longest.
func (l *lane) free(yield func(uint16) bool) {
	for n, ok := l.unused.next(0); ok; n, ok = l.unused.next(int(n) + 1) {
		if !yield(n) {
			return
		}
	}
	for e := l.freed.Front(); e != nil; e = e.Next() {
		if r, ok := e.Value.(*portRecord); ok && !yield(r.number) {
			return
		}
	}
}

// numbers is a set of ports in which the next one is found at once, however many there are.
type numbers struct {
	words [1 << 10]uint64
	// full has a bit for each word that is not empty.
	full [1 << 4]uint64
}

func (s *numbers) addRange(low, high uint16) {
	for n := int(low); n <= int(high); n++ {
		s.words[n>>6] |= 1 << (n & 63)
		s.full[n>>12] |= 1 << (n >> 6 & 63)
	}
}

func (s *numbers) remove(n uint16) {
	if s.words[n>>6] &^= 1 << (n & 63); s.words[n>>6] == 0 {
		s.full[n>>12] &^= 1 << (n >> 6 & 63)
	}
}

// next is the lowest number of the set that is not below from.
func (s *numbers) next(from int) (uint16, bool) {
	if from > 1<<16-1 {
		return 0, false
	}
	if word := s.words[from>>6] >> (from & 63); word != 0 {
		return uint16(from + bits.TrailingZeros64(word)), true
	}
	word, ok := nextBit(s.full[:], from>>6+1)
	if !ok {
		return 0, false
	}
	return uint16(word<<6 + bits.TrailingZeros64(s.words[word])), true
}

// nextBit is the lowest bit that is set and not below from.
func nextBit(words []uint64, from int) (int, bool) {
	if from >= len(words)<<6 {
		return 0, false
	}
	if word := words[from>>6] >> (from & 63); word != 0 {
		return from + bits.TrailingZeros64(word), true
	}
	i := slices.IndexFunc(words[from>>6+1:], func(w uint64) bool { return w != 0 })
	if i < 0 {
		return 0, false
	}
	i += from>>6 + 1
	return i<<6 + bits.TrailingZeros64(words[i]), true
}
