package netif

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/mdlayher/packet"
)

// speakers are the raw sockets on which announcements and questions leave, one for each uplink.
type speakers struct {
	mu   sync.Mutex
	open map[string]*speaker
}

type speaker struct {
	conn  *packet.Conn
	index int
}

// announce tells the segment behind link that ip is here.
func (s *speakers) announce(link Link, ip netip.Addr) error {
	if !link.hasSegment() {
		return nil
	}
	if err := s.send(link, announcement(link.HardwareAddr, ip)); err != nil {
		return fmt.Errorf("announce %s on %s: %w", ip, link.Name, err)
	}
	return nil
}

// probe asks the segment behind link who has ip.
func (s *speakers) probe(link Link, ip netip.Addr) error {
	if !link.hasSegment() {
		return nil
	}
	if err := s.send(link, question(link.HardwareAddr, ip)); err != nil {
		return fmt.Errorf("probe %s on %s: %w", ip, link.Name, err)
	}
	return nil
}

// hasSegment is false for a link without a hardware address, such as a tunnel: there is nobody to tell or to ask.
func (l Link) hasSegment() bool { return len(l.HardwareAddr) == 6 && !l.Loopback }

func (s *speakers) send(link Link, frames [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp, err := s.speaker(link)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		dst := &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}
		if _, err := sp.conn.WriteTo(frame, dst); err != nil {
			// The interface may have been replaced by another of its name: a new socket finds out.
			delete(s.open, link.Name)
			return errors.Join(err, sp.conn.Close())
		}
	}
	return nil
}

func (s *speakers) speaker(link Link) (*speaker, error) {
	if sp := s.open[link.Name]; sp != nil {
		if sp.index == link.Index {
			return sp, nil
		}
		delete(s.open, link.Name)
		if err := sp.conn.Close(); err != nil {
			return nil, fmt.Errorf("close the socket of the former %s: %w", link.Name, err)
		}
	}
	ifi := &net.Interface{Index: link.Index, Name: link.Name, MTU: link.MTU, HardwareAddr: link.HardwareAddr}
	conn, err := packet.Listen(ifi, packet.Raw, 0, nil) // protocol 0: it receives nothing
	if err != nil {
		return nil, fmt.Errorf("open a raw socket on %s: %w", link.Name, err)
	}
	sp := &speaker{conn: conn, index: link.Index}
	if s.open == nil {
		s.open = map[string]*speaker{}
	}
	s.open[link.Name] = sp
	return sp, nil
}

func (s *speakers) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, sp := range s.open {
		errs = append(errs, sp.conn.Close())
	}
	s.open = nil
	return errors.Join(errs...)
}
