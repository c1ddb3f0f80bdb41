package netif

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// watchSpace is how many bytes of changes wait while the agent is busy, before the watch overflows.
	watchSpace = 4 << 20
	// watchRetry is how long a watch that could not be opened waits before the next attempt.
	watchRetry = time.Second
)

// Watch sends what changes until ctx ends, and then closes the channel. It outlives its sockets: when one dies, or
// overflows, it opens another and sends a LostEvent, on which the receiver reads the whole state again. The first
// event is a LostEvent too.
//
// It also sends the claims that Listen asked for, each to one watch. Changes go first, before claims that are not in
// the channel yet. The channel has room for hundreds: a receiver that was busy finds there what was heard meanwhile,
// and does not take what it has not received yet for silence.
func (h *Host) Watch(ctx context.Context) <-chan Event {
	changes := make(chan Event, 1024)
	events := make(chan Event, claimsWaiting)
	watches := []struct {
		family int
		groups []uint32
		parse  func(m netlink.Message) (Event, bool)
	}{
		{unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}, parseChange},
		{unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE}, parseRouteChange},
		{unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}, parseGuardChange},
	}
	done := make(chan struct{}, len(watches))
	for _, w := range watches {
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				h.watchOnce(ctx, w.family, w.groups, w.parse, changes)
			}
		}()
	}
	go func() {
		for range watches {
			<-done
		}
		close(changes)
	}()
	go func() {
		defer close(events)
		merge(ctx, changes, h.ears.heard, events)
	}()
	return events
}

// merge sends changes and claims, changes first, until there are no more changes or ctx ends.
func merge(ctx context.Context, changes, claims <-chan Event, events chan<- Event) {
	for {
		var event Event
		open := true
		select {
		case event, open = <-changes:
		default:
			select {
			case event, open = <-changes:
			case event = <-claims:
			}
		}
		if !open || !send(ctx, events, event) {
			return
		}
	}
}

// watchOnce lives as long as one socket.
func (h *Host) watchOnce(ctx context.Context, family int, groups []uint32,
	parse func(netlink.Message) (Event, bool), events chan<- Event) {
	conn, err := h.openWatch(family, groups)
	if err != nil {
		select {
		case <-ctx.Done():
		case <-time.After(watchRetry):
		}
		return
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	// Whatever happened before the socket listened is unknown.
	if !send(ctx, events, Event{Kind: LostEvent}) {
		return
	}
	for {
		messages, err := conn.Receive()
		if err != nil {
			return
		}
		for _, m := range messages {
			event, ok := parse(m)
			if !ok {
				continue
			}
			if event.Kind == LinkEvent {
				h.ears.linkChanged(event)
			}
			if !send(ctx, events, event) {
				return
			}
		}
	}
}

func (h *Host) openWatch(family int, groups []uint32) (*netlink.Conn, error) {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink watch: %w", err)
	}
	err = conn.SetReadBuffer(h.watchSpace)
	for _, group := range groups {
		if err == nil {
			err = conn.JoinGroup(group)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("join a netlink watch: %w", err), conn.Close())
	}
	return conn, nil
}

func send(ctx context.Context, events chan<- Event, event Event) bool {
	select {
	case events <- event:
		return true
	case <-ctx.Done():
		return false
	}
}

func parseChange(m netlink.Message) (Event, bool) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		link, err := parseLink(m.Data)
		if err != nil {
			return Event{Kind: LostEvent}, true
		}
		return Event{Kind: LinkEvent, Interface: link.Name, Ours: link.Ours, Up: link.Up, Running: link.Running,
			HardwareAddr: link.HardwareAddr, Moved: tellsPeers(m.Data),
			Gone: m.Header.Type == unix.RTM_DELLINK}, true
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, err := parseAddress(m.Data)
		if err != nil {
			return Event{Kind: LostEvent}, true
		}
		return Event{Kind: AddressEvent, Index: a.index, IP: a.prefix.Addr(), Gone: m.Header.Type == unix.RTM_DELADDR,
			Ours: a.proto == Protocol}, true
	default:
		return Event{}, false
	}
}

// tellsPeers looks for the reason that the kernel gives with a link message.
func tellsPeers(data []byte) bool {
	// IFLA_EVENT_BONDING_FAILOVER and IFLA_EVENT_NOTIFY_PEERS of linux/if_link.h.
	const bondingFailover, notifyPeers = 3, 4
	var reason uint32
	err := eachAttribute(data, ifinfoHeaderLen, func(d *netlink.AttributeDecoder) {
		if d.Type() == unix.IFLA_EVENT {
			reason = d.Uint32()
		}
	})
	return err == nil && (reason == bondingFailover || reason == notifyPeers)
}

func parseRouteChange(m netlink.Message) (Event, bool) {
	return Event{Kind: RouteEvent}, isDefaultRoute(m.Data)
}

func parseGuardChange(m netlink.Message) (Event, bool) {
	switch int(m.Header.Type) & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET:
		return Event{Kind: GuardEvent, Gone: true}, tableOf(m.Data) == GuardTable
	case unix.NFT_MSG_DELSETELEM:
		if tableOf(m.Data) != GuardTable {
			return Event{}, false
		}
		return Event{Kind: GuardEvent, Gone: true, IP: elementOf(m.Data)}, true
	default:
		return Event{}, false
	}
}
