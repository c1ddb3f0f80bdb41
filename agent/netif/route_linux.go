package netif

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const rtmsgLen = 12

type defaultRoute struct {
	index    int
	priority uint32
}

// defaultRoutes lists the interfaces of the main table's default routes of one family, best first.
func (r *rtnl) defaultRoutes(family uint8) ([]int, error) {
	body := make([]byte, rtmsgLen)
	body[0] = family
	body[4] = unix.RT_TABLE_MAIN
	messages, err := r.dump(unix.RTM_GETROUTE, body)
	if isMissing(err) {
		return nil, nil // the kernel makes a table with its first route
	}
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []defaultRoute
	for _, m := range messages {
		if !isDefaultRoute(m.Data) {
			continue
		}
		found, err := parseDefaultRoute(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		routes = append(routes, found...)
	}
	slices.SortFunc(routes, func(a, b defaultRoute) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.index, b.index))
	})
	indexes := make([]int, len(routes))
	for i, route := range routes {
		indexes[i] = route.index
	}
	return slices.Compact(indexes), nil
}

// isDefaultRoute looks at the fixed header alone, so that a full routing table is cheap to pass over.
func isDefaultRoute(data []byte) bool {
	return len(data) >= rtmsgLen && data[1] == 0 && data[4] == unix.RT_TABLE_MAIN && data[7] == unix.RTN_UNICAST
}

func parseDefaultRoute(data []byte) ([]defaultRoute, error) {
	var route defaultRoute
	var hops []int
	err := eachAttribute(data, rtmsgLen, func(d *netlink.AttributeDecoder) {
		switch d.Type() {
		case unix.RTA_OIF:
			route.index = int(d.Uint32())
		case unix.RTA_PRIORITY:
			route.priority = d.Uint32()
		case unix.RTA_MULTIPATH:
			hops = parseHops(d.Bytes())
		}
	})
	if err != nil {
		return nil, err
	}
	if route.index != 0 {
		return []defaultRoute{route}, nil
	}
	routes := make([]defaultRoute, len(hops))
	for i, index := range hops {
		routes[i] = defaultRoute{index: index, priority: route.priority}
	}
	return routes, nil
}

// parseHops returns the interfaces of a list of struct rtnexthop.
func parseHops(b []byte) []int {
	const hopLen = 8
	var hops []int
	for len(b) >= hopLen {
		n := int(binary.NativeEndian.Uint16(b))
		if n < hopLen || n > len(b) {
			return hops
		}
		hops = append(hops, int(binary.NativeEndian.Uint32(b[4:])))
		b = b[min((n+3)&^3, len(b)):]
	}
	return hops
}
