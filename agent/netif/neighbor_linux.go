package netif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	ndmsgLen = 12
	// ndaProtocol is NDA_PROTOCOL of linux/neighbour.h.
	ndaProtocol = 12
)

// neighborBody is a struct ndmsg for proxy entries.
func neighborBody(index int) []byte {
	body := make([]byte, ndmsgLen)
	body[0] = unix.AF_INET6
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	body[10] = unix.NTF_PROXY
	return body
}

func proxyRequest(index int, ip netip.Addr) ([]byte, error) {
	attrs, err := attributes(func(e *netlink.AttributeEncoder) {
		e.Bytes(unix.NDA_DST, ip.AsSlice())
		e.Uint8(ndaProtocol, Protocol)
	})
	return append(neighborBody(index), attrs...), err
}

// proxies lists the IPv6 proxy entries that carry our mark, by interface index.
func (r *rtnl) proxies() (map[int][]netip.Addr, error) {
	messages, err := r.dump(unix.RTM_GETNEIGH, neighborBody(0))
	if err != nil {
		return nil, fmt.Errorf("list proxy-NDP entries: %w", err)
	}
	found := map[int][]netip.Addr{}
	for _, m := range messages {
		var ip netip.Addr
		var protocol uint8
		err := eachAttribute(m.Data, ndmsgLen, func(d *netlink.AttributeDecoder) {
			switch d.Type() {
			case unix.NDA_DST:
				ip, _ = netip.AddrFromSlice(d.Bytes())
			case ndaProtocol:
				protocol = d.Uint8()
			}
		})
		if err != nil {
			return nil, fmt.Errorf("list proxy-NDP entries: %w", err)
		}
		if protocol == Protocol && ip.Is6() {
			index := int(binary.NativeEndian.Uint32(m.Data[4:]))
			found[index] = append(found[index], ip)
		}
	}
	return found, nil
}

func (r *rtnl) addProxies(index int, ips []netip.Addr) []Failure {
	return r.changeProxies(index, ips, unix.RTM_NEWNEIGH, netlink.Create|netlink.Replace, unix.EEXIST)
}

func (r *rtnl) removeProxies(index int, ips []netip.Addr) []Failure {
	return r.changeProxies(index, ips, unix.RTM_DELNEIGH, 0, unix.ENOENT)
}

func (r *rtnl) changeProxies(index int, ips []netip.Addr, kind uint16, flags netlink.HeaderFlags, done error) []Failure {
	bodies := make([][]byte, len(ips))
	for i, ip := range ips {
		body, err := proxyRequest(index, ip)
		if err != nil {
			return []Failure{{Err: err}}
		}
		bodies[i] = body
	}
	var failures []Failure
	for i, err := range r.batch(kind, flags, bodies) {
		if err != nil && !errors.Is(err, done) {
			failures = append(failures, Failure{IP: ips[i], Err: err})
		}
	}
	return failures
}
