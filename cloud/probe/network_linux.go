package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockets are connections that are being opened, watched by one epoll instance. A goroutine and a dialer for each
// would cost twice as much, and so would new sockets: one that was answered is disconnected and used again.
type sockets struct {
	epoll, wake int
	// open by file descriptor, and in the order in which they were opened. A number in the order is stale when
	// another question has the descriptor since.
	open   map[int]connection
	order  []opened
	idle   map[int][]int // by family
	events []unix.EpollEvent
	unhook func()
}

// maxIdle is how many sockets of a family are kept for later. The others were needed in an outage.
const maxIdle = 256

type connection struct {
	question
	family int
}

type opened struct {
	fd int
	at time.Time
}

func openNetwork(ctx context.Context) (network, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create an epoll instance for probing: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create an eventfd for probing: %w", err), unix.Close(epoll))
	}
	s := &sockets{epoll: epoll, wake: wake, open: map[int]connection{}, idle: map[int][]int{}, events: make([]unix.EpollEvent, 256)}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	s.unhook = func() {
		if !stop() {
			<-woken // it writes no more once the descriptor is closed
		}
	}
	return s, nil
}

func (s *sockets) ask(now time.Time, to netip.AddrPort, q question) Answer {
	family, address := sockaddr(to)
	fd, err := s.socket(family)
	if err != nil {
		return Void
	}
	// The kernel delays its acknowledgement of the SYN-ACK then, and the reset comes first: the agent never has to
	// accept the connection. When the reset is late, it does.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	switch err = unix.Connect(fd, address); {
	case errors.Is(err, unix.EINPROGRESS):
		s.open[fd] = connection{q, family}
		s.order = append(s.order, opened{fd, now})
		return Silent
	case err == nil:
		s.hangUp(fd, family)
		return Accepted
	}
	s.hangUp(fd, family)
	return meaning(err)
}

// socket that is not connected. It gives one event for each change of its state, which means nothing while no
// connection is open.
func (s *sockets) socket(family int) (int, error) {
	if n := len(s.idle[family]); n > 0 {
		fd := s.idle[family][n-1]
		s.idle[family] = s.idle[family][:n-1]
		return fd, nil
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, err
	}
	event := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLET&math.MaxUint32, Fd: int32(fd)}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (s *sockets) wait(now time.Time, atMost time.Duration, heard func(question, Answer)) error {
	s.expire(now)
	timeout := int((atMost + time.Millisecond - 1) / time.Millisecond)
	for {
		n, err := unix.EpollWait(s.epoll, s.events, timeout)
		if errors.Is(err, unix.EINTR) {
			return nil // the caller waits again, for what is left of the time
		}
		if err != nil {
			return fmt.Errorf("wait for answers to probes: %w", err)
		}
		for _, event := range s.events[:n] {
			fd := int(event.Fd)
			c, found := s.open[fd]
			if !found {
				continue // it was disconnected, or the context is done
			}
			delete(s.open, fd)
			answer := Accepted
			if event.Events&unix.EPOLLERR != 0 {
				answer = failure(fd)
			}
			s.hangUp(fd, c.family)
			if answer.alive() {
				heard(c.question, answer)
			}
		}
		if n < len(s.events) {
			return nil
		}
		timeout = 0
	}
}

// expire closes what was not answered within patience.
func (s *sockets) expire(now time.Time) {
	done := 0
	for ; done < len(s.order) && now.Sub(s.order[done].at) > patience; done++ {
		old := s.order[done]
		if c, found := s.open[old.fd]; found && c.asked.Equal(old.at) {
			delete(s.open, old.fd)
			s.hangUp(old.fd, c.family)
		}
	}
	s.order = slices.Delete(s.order, 0, done)
}

func (s *sockets) close() error {
	s.unhook()
	for fd := range s.open {
		_ = unix.Close(fd)
	}
	for _, idle := range s.idle {
		for _, fd := range idle {
			_ = unix.Close(fd)
		}
	}
	return errors.Join(unix.Close(s.wake), unix.Close(s.epoll))
}

// hangUp disconnects a socket (connect(2), AF_UNSPEC). An established connection is reset by that, so no local port is
// kept for a minute (TIME-WAIT, RFC 9293, section 3.6).
func (s *sockets) hangUp(fd, family int) {
	nowhere := unix.RawSockaddrInet4{Family: unix.AF_UNSPEC}
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nowhere)), unsafe.Sizeof(nowhere))
	if errno != 0 || len(s.idle[family]) >= maxIdle {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = unix.Close(fd)
		return
	}
	s.idle[family] = append(s.idle[family], fd)
}

// failure says what the error of a connection means.
func failure(fd int) Answer {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return Void
	}
	return meaning(unix.Errno(code))
}

// meaning of an error. What is not known to come from the network is an error of our own.
func meaning(err error) Answer {
	var code unix.Errno
	if !errors.As(err, &code) {
		return Void
	}
	switch code {
	case unix.ECONNREFUSED:
		return Refused
	case 0, unix.ECONNRESET: // it was established, and may be closed already
		return Accepted
	case unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN:
		return Silent
	}
	return Void
}

func sockaddr(to netip.AddrPort) (family int, address unix.Sockaddr) {
	if ip := to.Addr().Unmap(); ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: ip.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}
