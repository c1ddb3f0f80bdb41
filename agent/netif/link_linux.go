package netif

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const ifinfoHeaderLen = 16

func linkRequest(index int, flags, change uint32, build func(*netlink.AttributeEncoder)) ([]byte, error) {
	body := make([]byte, ifinfoHeaderLen)
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	binary.NativeEndian.PutUint32(body[8:], flags)
	binary.NativeEndian.PutUint32(body[12:], change)
	if build == nil {
		return body, nil
	}
	attrs, err := attributes(build)
	return append(body, attrs...), err
}

func parseLink(data []byte) (Link, error) {
	var l Link
	err := eachAttribute(data, ifinfoHeaderLen, func(d *netlink.AttributeDecoder) {
		switch d.Type() {
		case unix.IFLA_IFNAME:
			l.Name = d.String()
		case unix.IFLA_ADDRESS:
			l.HardwareAddr = net.HardwareAddr(d.Bytes())
		case unix.IFLA_MTU:
			l.MTU = int(d.Uint32())
		case unix.IFLA_MASTER:
			l.Master = int(d.Uint32())
		case unix.IFLA_IFALIAS:
			l.Ours = d.String() == Alias
		case unix.IFLA_LINKINFO:
			d.Nested(func(n *netlink.AttributeDecoder) error {
				for n.Next() {
					if n.Type() == unix.IFLA_INFO_KIND {
						l.Kind = n.String()
					}
				}
				return nil
			})
		}
	})
	if err != nil {
		return l, err
	}
	l.Index = int(int32(binary.NativeEndian.Uint32(data[4:])))
	flags := binary.NativeEndian.Uint32(data[8:])
	l.Up = flags&unix.IFF_UP != 0
	l.Running = flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING != 0
	l.Loopback = flags&unix.IFF_LOOPBACK != 0
	return l, nil
}

func (r *rtnl) links() ([]Link, error) {
	messages, err := r.dump(unix.RTM_GETLINK, make([]byte, ifinfoHeaderLen))
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	list := make([]Link, 0, len(messages))
	for _, m := range messages {
		l, err := parseLink(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list interfaces: %w", err)
		}
		list = append(list, l)
	}
	return list, nil
}

// link reads one interface by name.
func (r *rtnl) link(name string) (Link, error) {
	body, err := linkRequest(0, 0, 0, func(e *netlink.AttributeEncoder) { e.String(unix.IFLA_IFNAME, name) })
	if err != nil {
		return Link{}, err
	}
	messages, err := r.execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request},
		Data:   body,
	})
	if isMissing(err) {
		return Link{}, fmt.Errorf("%s: %w", name, ErrNoInterface)
	}
	if err != nil {
		return Link{}, fmt.Errorf("read interface %s: %w", name, err)
	}
	if len(messages) != 1 {
		return Link{}, fmt.Errorf("read interface %s: %d answers", name, len(messages))
	}
	return parseLink(messages[0].Data)
}

// createBridge makes a bridge without ports. The mark comes with a second request, because the kernel does not take
// an alias at creation; a bridge that misses it is used all the same and never removed.
func (r *rtnl) createBridge(name string) error {
	body, err := linkRequest(0, 0, 0, func(e *netlink.AttributeEncoder) {
		e.String(unix.IFLA_IFNAME, name)
		e.Nested(unix.IFLA_LINKINFO, func(n *netlink.AttributeEncoder) error {
			n.String(unix.IFLA_INFO_KIND, "bridge")
			return nil
		})
	})
	if err != nil {
		return err
	}
	if err := r.do(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, body); err != nil {
		return fmt.Errorf("create bridge %s: %w", name, err)
	}
	link, err := r.link(name)
	if err != nil {
		return err
	}
	body, err = linkRequest(link.Index, unix.IFF_UP, unix.IFF_UP, func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.IFLA_IFALIAS, []byte(Alias))
	})
	if err != nil {
		return err
	}
	if err := r.do(unix.RTM_SETLINK, 0, body); err != nil {
		return fmt.Errorf("mark bridge %s and bring it up: %w", name, err)
	}
	return nil
}

func (r *rtnl) setUp(index int) error {
	body, err := linkRequest(index, unix.IFF_UP, unix.IFF_UP, nil)
	if err != nil {
		return err
	}
	return r.do(unix.RTM_SETLINK, 0, body)
}

func (r *rtnl) deleteLink(index int) error {
	body, err := linkRequest(index, 0, 0, nil)
	if err != nil {
		return err
	}
	return r.do(unix.RTM_DELLINK, 0, body)
}
