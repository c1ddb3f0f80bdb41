package netif

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// claimsWaiting is how many claims wait for a watch before more are dropped.
	claimsWaiting = 1024
	// reopenGap is how long an uplink is left alone that cannot be listened on, unless something is known to have
	// changed there.
	reopenGap = time.Second
)

// ears are the raw sockets on which claims are heard. Each uplink has one for ARP and one for neighbour discovery, so
// that all other traffic costs nothing.
type ears struct {
	// find looks an interface up by its name.
	find func(name string) (Link, error)
	ours hardware
	// heard are claims, and what keeps them from being heard.
	heard chan Event
	// dropped counts what was not told although it was news.
	dropped atomic.Uint64

	mu      sync.Mutex
	open    map[earKey]*ear
	running sync.WaitGroup
	closed  bool
}

type earKey struct {
	uplink    string
	etherType int
}

func newEars(find func(name string) (Link, error)) *ears {
	return &ears{find: find, heard: make(chan Event, claimsWaiting), open: map[earKey]*ear{}}
}

// listen makes the ears hear claims of exactly these addresses.
func (e *ears) listen(watched map[string][]netip.Addr) error {
	want := map[earKey][]netip.Addr{}
	for uplink, ips := range watched {
		for _, ip := range ips {
			key := earKey{uplink, etherTypeIPv6}
			if ip.Is4() {
				key.etherType = etherTypeARP
			}
			want[key] = append(want[key], ip)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return fmt.Errorf("listen for claims: %w", net.ErrClosed)
	}
	for key, ear := range e.open {
		if want[key] == nil {
			ear.close()
			delete(e.open, key)
		}
	}
	var errs []error
	for _, uplink := range slices.Sorted(maps.Keys(watched)) {
		if len(watched[uplink]) == 0 {
			continue
		}
		link, err := e.find(uplink)
		for _, etherType := range []int{etherTypeARP, etherTypeIPv6} {
			key := earKey{uplink, etherType}
			if want[key] == nil {
				continue
			}
			ips := want[key]
			slices.SortFunc(ips, netip.Addr.Compare)
			ips = slices.Compact(ips)
			// Without the interface too: the ear opens by itself when it is there.
			err = errors.Join(err, e.ear(key).watch(link, ips))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("listen for claims on %s: %w", uplink, err))
		}
	}
	return errors.Join(errs...)
}

// ear returns the one for this key; e.mu is held.
func (e *ears) ear(key earKey) *ear {
	if found := e.open[key]; found != nil {
		return found
	}
	made := &ear{earKey: key, ears: e, wake: make(chan struct{}, 1)}
	e.open[key] = made
	e.running.Go(made.run)
	return made
}

func (e *ears) on(uplink string) []*ear {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []*ear
	for _, etherType := range []int{etherTypeARP, etherTypeIPv6} {
		if found := e.open[earKey{uplink, etherType}]; found != nil {
			list = append(list, found)
		}
	}
	return list
}

// linkChanged takes notice of a link event: hardware addresses that are ours, and uplinks that may be back.
func (e *ears) linkChanged(event Event) {
	if event.Gone {
		return
	}
	e.ours.set(event.Interface, event.HardwareAddr)
	for _, ear := range e.on(event.Interface) {
		ear.look()
	}
}

// asked makes the answers to a question news, although the same was told just before.
func (e *ears) asked(uplink string, ip netip.Addr) {
	for _, ear := range e.on(uplink) {
		ear.mu.Lock()
		ear.told.forget(ip)
		ear.mu.Unlock()
	}
}

func (e *ears) missed() uint64 {
	e.mu.Lock()
	open := slices.Collect(maps.Values(e.open))
	e.mu.Unlock()
	for _, ear := range open {
		ear.mu.Lock()
		ear.countDrops()
		ear.mu.Unlock()
	}
	return e.dropped.Load()
}

// close ends all listening, and waits for it. No lock that find needs may be held.
func (e *ears) close() {
	e.mu.Lock()
	e.closed = true
	for _, ear := range e.open {
		ear.close()
	}
	e.open = nil
	e.mu.Unlock()
	e.running.Wait()
}

// ear hears the claims of one kind on one uplink, as long as it is not closed: it outlives its sockets.
type ear struct {
	earKey
	ears *ears
	// wake says that looking for the uplink is worth while.
	wake chan struct{}

	mu sync.Mutex
	// conn is nil while there is nothing to listen on; index is that of its interface.
	conn   *packet.Conn
	index  int
	ips    []netip.Addr // sorted
	told   tally
	closed bool
}

// watch changes the addresses. Nothing about those that stay is lost: the kernel replaces a filter at once.
func (e *ear) watch(link Link, ips []netip.Addr) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	same := slices.Equal(e.ips, ips)
	e.ips = ips // before the filter, which lets more through
	if e.conn == nil || e.index != link.Index {
		defer e.look()
		return e.openOn(link)
	}
	if same {
		return nil
	}
	if err := attach(e.conn, e.index, ips); err != nil {
		e.drop() // what the old filter lets through is not enough: a new socket, later
		return err
	}
	return nil
}

// openOn opens a socket in place of the one there is; e.mu is held. On a link that is missing, down or without a
// segment there is nothing to hear.
func (e *ear) openOn(link Link) error {
	e.drop()
	if !link.Up || !link.hasSegment() {
		return nil
	}
	nothing, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return fmt.Errorf("assemble a filter: %w", err)
	}
	ifi := &net.Interface{Index: link.Index, Name: link.Name, MTU: link.MTU, HardwareAddr: link.HardwareAddr}
	conn, err := packet.Listen(ifi, packet.Raw, e.etherType, &packet.Config{Filter: nothing})
	if err != nil {
		return fmt.Errorf("open a raw socket: %w", err)
	}
	if err := attach(conn, link.Index, e.ips); err != nil {
		return errors.Join(err, conn.Close())
	}
	e.conn, e.index = conn, link.Index
	return nil
}

// attach gives the socket the best filter that the kernel has room for: its limit for the memory of one socket
// (net.core.optmem_max) is 20 kB before Linux 6.7.
func attach(conn *packet.Conn, index int, ips []netip.Addr) error {
	alone := false
	for most := len(ips); ; {
		program, err := bpf.Assemble(claimFilter(index, ips, most))
		if err != nil {
			return fmt.Errorf("assemble a filter: %w", err)
		}
		err = conn.SetBPF(program)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.ENOMEM) || most == 1:
			return fmt.Errorf("attach a filter: %w", err)
		case alone:
			most /= 2
		default:
			// The former filter counts as long as it is there. In between every frame is let through.
			everything, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: filterSpace}})
			if err != nil {
				return fmt.Errorf("assemble a filter: %w", err)
			}
			if err := conn.SetBPF(everything); err != nil {
				return fmt.Errorf("attach a filter: %w", err)
			}
			alone = true
		}
	}
}

// look has the ear look for its uplink, if it has no socket.
func (e *ear) look() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// drop gives the socket up; e.mu is held.
func (e *ear) drop() {
	if e.conn == nil {
		return
	}
	e.countDrops()
	_ = e.conn.Close() // it is of no use any more, whatever it says
	e.conn, e.index = nil, 0
}

// countDrops adds what the kernel had no room for; e.mu is held.
func (e *ear) countDrops() {
	if e.conn == nil {
		return
	}
	if stats, err := e.conn.Stats(); err == nil { // reading sets them to zero
		e.ears.dropped.Add(uint64(stats.Drops))
	}
}

func (e *ear) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.drop()
	e.look()
}

func (e *ear) run() {
	frame := make([]byte, filterSpace)
	for {
		conn := e.socket()
		if conn == nil {
			return
		}
		n, _, err := conn.ReadFrom(frame)
		if err == nil {
			if wait := e.hear(frame[:n]); wait > 0 {
				select {
				case <-time.After(wait):
				case <-e.wake: // closed, or nothing that matters
				}
			}
			continue
		}
		e.mu.Lock()
		// A socket whose interface went down hears again when it is up, one whose interface was removed never does,
		// and they look alike.
		if e.conn == conn {
			e.drop()
		}
		e.mu.Unlock()
	}
}

// socket waits until there is one, or returns nil when the ear is closed.
func (e *ear) socket() *packet.Conn {
	for {
		e.mu.Lock()
		conn, closed := e.conn, e.closed
		e.mu.Unlock()
		if conn != nil || closed {
			return conn
		}
		select {
		case <-e.wake:
		case <-time.After(reopenGap):
		}
		e.reopen()
	}
}

// reopen tries again where there was nothing to listen on. Whoever watches is told when it cannot: Listen says why.
func (e *ear) reopen() {
	link, err := e.ears.find(e.uplink)
	if errors.Is(err, ErrNoInterface) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn != nil || e.closed {
		return
	}
	if err == nil {
		err = e.openOn(link)
	}
	if err == nil {
		return
	}
	select {
	case e.ears.heard <- Event{Kind: DeafEvent, Interface: e.uplink}:
	default: // there is more to hear than anybody listens to; the next attempt tells it
	}
}

// hear looks at one frame, and returns how long to wait before the next.
func (e *ear) hear(frame []byte) time.Duration {
	c, ok := parseClaim(frame)
	foreign := ok && !e.ears.ours.has(c.at) && !e.ears.ours.has(c.from)
	e.mu.Lock()
	defer e.mu.Unlock()
	wait := e.told.frame(time.Now())
	if _, watched := slices.BinarySearchFunc(e.ips, c.ip, netip.Addr.Compare); !foreign || !watched {
		return wait
	}
	switch e.told.see(c) {
	case again:
	case tooMany:
		e.ears.dropped.Add(1)
	case news:
		event := Event{Kind: ClaimEvent, Interface: e.uplink, IP: c.ip, HardwareAddr: net.HardwareAddr(c.at[:])}
		select {
		case e.ears.heard <- event:
			e.told.add(c)
		default:
			e.ears.dropped.Add(1)
		}
	}
	return wait
}
