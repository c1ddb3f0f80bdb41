package netif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many requests go to the kernel in one write. Their acknowledgements wait in our receive
	// buffer meanwhile, so it must hold that many.
	batchSize = 128
	// dumpAttempts bounds how often an interrupted dump is repeated.
	dumpAttempts = 8
	receiveSpace = 4 << 20
	// patience with one exchange: the kernel answers within the call that asks, so a silence means a lost answer.
	patience = 10 * time.Second
)

// rtnl is one connection to the kernel's routing tables. It is not safe for use by two goroutines.
type rtnl struct {
	conn *netlink.Conn
	// broken is set when an answer was lost or is late: what comes next on the connection may belong to an earlier
	// request, so it must not be used again.
	broken bool
}

func dialRTNL() (*rtnl, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Strict: true})
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	if err := conn.SetReadBuffer(receiveSpace); err != nil {
		return nil, errors.Join(fmt.Errorf("size rtnetlink's receive buffer: %w", err), conn.Close())
	}
	return &rtnl{conn: conn}, nil
}

// dump returns all messages of a dump, or an error: never a partial list. The kernel marks a dump that its own
// changes interrupted; such a one is repeated.
func (r *rtnl) dump(kind uint16, body []byte) ([]netlink.Message, error) {
	request := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.Dump},
		Data:   body,
	}
	for range dumpAttempts {
		messages, err := r.execute(request)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EBUSY) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !interrupted(messages) {
			return messages, nil
		}
	}
	return nil, ErrInterrupted
}

func interrupted(messages []netlink.Message) bool {
	for _, m := range messages {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return true
		}
	}
	return false
}

// do sends one request and returns the kernel's verdict.
func (r *rtnl) do(kind uint16, flags netlink.HeaderFlags, body []byte) error {
	_, err := r.execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   body,
	})
	return err
}

func (r *rtnl) execute(request netlink.Message) ([]netlink.Message, error) {
	if err := r.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	messages, err := r.conn.Execute(request)
	r.note(err)
	return messages, err
}

// note looks at an error for one that is not the kernel's verdict on the request.
func (r *rtnl) note(err error) {
	var errno syscall.Errno
	if err != nil && (!errors.As(err, &errno) || errors.Is(err, unix.ENOBUFS)) {
		r.broken = true
	}
}

// batch sends many requests of one kind with few system calls. The result has one verdict for each body: the
// kernel works through a write in order and acknowledges each request in a datagram of its own.
func (r *rtnl) batch(kind uint16, flags netlink.HeaderFlags, bodies [][]byte) []error {
	verdicts := make([]error, 0, len(bodies))
	for len(bodies) > 0 {
		n := min(batchSize, len(bodies))
		messages := make([]netlink.Message, n)
		for i, body := range bodies[:n] {
			messages[i] = netlink.Message{
				Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.Acknowledge | flags},
				Data:   body,
			}
		}
		bodies = bodies[n:]
		err := r.conn.SetDeadline(time.Now().Add(patience))
		if err == nil {
			_, err = r.conn.SendMessages(messages)
		}
		if err != nil {
			r.broken = true
			for range messages {
				verdicts = append(verdicts, err)
			}
			continue
		}
		for range messages {
			_, err := r.conn.Receive()
			r.note(err)
			verdicts = append(verdicts, err)
		}
	}
	return verdicts
}

func (r *rtnl) close() error { return r.conn.Close() }

// attributes are encoded in the order of calls; values are in the host's byte order, as rtnetlink wants them.
func attributes(build func(*netlink.AttributeEncoder)) ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.NativeEndian
	build(e)
	return e.Encode()
}

// eachAttribute calls visit for every attribute after a fixed header of the given size.
func eachAttribute(data []byte, header int, visit func(*netlink.AttributeDecoder)) error {
	if len(data) < header {
		return fmt.Errorf("message of %d bytes is shorter than its header of %d", len(data), header)
	}
	d, err := netlink.NewAttributeDecoder(data[header:])
	if err != nil {
		return err
	}
	d.ByteOrder = binary.NativeEndian
	for d.Next() {
		visit(d)
	}
	return d.Err()
}
