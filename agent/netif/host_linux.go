package netif

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Host is the network of the namespace in which it was opened.
type Host struct {
	mu    sync.Mutex
	conn  *rtnl
	guard *guardTable
	// links is the last known state of interfaces, for announcements: one look-up per frame would be a dump each.
	links    map[string]Link
	speakers speakers
	ears     *ears
	sysctls  sysctls
	// watchSpace is the receive buffer of each watch.
	watchSpace int
}

// Open connects to the kernel. It changes nothing.
func Open() (*Host, error) {
	conn, err := dialRTNL()
	if err != nil {
		return nil, err
	}
	guard, err := newGuardTable()
	if err != nil {
		return nil, errors.Join(err, conn.close())
	}
	h := &Host{conn: conn, guard: guard, links: map[string]Link{}, sysctls: findSysctls(), watchSpace: watchSpace}
	h.ears = newEars(h.link)
	return h, nil
}

// Close releases the connections. What was bound stays bound, and the guard stays.
func (h *Host) Close() error {
	h.ears.close()
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.conn.close(), h.speakers.close())
}

// rtnl returns a usable connection; h.mu is held.
func (h *Host) rtnl() (*rtnl, error) {
	if !h.conn.broken {
		return h.conn, nil
	}
	conn, err := dialRTNL()
	if err != nil {
		return nil, err
	}
	_ = h.conn.close() // it is of no use any more, whatever it says
	h.conn = conn
	return conn, nil
}

// link reads one interface by name.
func (h *Host) link(name string) (Link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	conn, err := h.rtnl()
	if err != nil {
		return Link{}, err
	}
	return conn.link(name)
}

// know takes the interfaces that there are; h.mu is held.
func (h *Host) know(links map[string]Link) {
	h.links = links
	h.ears.ours.replace(links)
}

// Read returns the whole state, or an error: never a part of it.
func (h *Host) Read(context.Context) (State, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	conn, err := h.rtnl()
	if err != nil {
		return State{}, err
	}
	state := State{
		Links:     map[string]Link{},
		Bound:     map[Place]struct{}{},
		Inherited: map[Place]struct{}{},
		Proxies:   map[Place]struct{}{},
		Settings:  map[string]Settings{},
	}
	links, err := conn.links()
	if err != nil {
		return State{}, err
	}
	byIndex := make(map[int]Link, len(links))
	for _, link := range links {
		state.Links[link.Name] = link
		byIndex[link.Index] = link
	}
	addresses, err := conn.addresses()
	if err != nil {
		return State{}, err
	}
	for _, a := range addresses {
		link, ok := byIndex[a.index]
		if !ok {
			continue // the interface came after the list of interfaces: its event brings us back
		}
		place := Place{Interface: link.Name, IP: a.prefix.Addr()}
		switch {
		case a.ours(link):
			state.Bound[place] = struct{}{}
		case a.inherited(link):
			state.Inherited[place] = struct{}{}
		default:
			state.Host = append(state.Host, HostAddress{Interface: link.Name, Prefix: a.prefix, Passing: a.passing()})
		}
	}
	proxies, err := conn.proxies()
	if err != nil {
		return State{}, err
	}
	for index, ips := range proxies {
		if link, ok := byIndex[index]; ok {
			for _, ip := range ips {
				state.Proxies[Place{Interface: link.Name, IP: ip}] = struct{}{}
			}
		}
	}
	for _, f := range []struct {
		family uint8
		into   *[]string
	}{{unix.AF_INET, &state.Default4}, {unix.AF_INET6, &state.Default6}} {
		indexes, err := conn.defaultRoutes(f.family)
		if err != nil {
			return State{}, err
		}
		for _, index := range indexes {
			if link, ok := byIndex[index]; ok && !link.Loopback {
				*f.into = append(*f.into, link.Name)
			}
		}
	}
	for _, name := range uplinks(state) {
		s, err := h.sysctls.settings(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // the interface went meanwhile
		}
		if err != nil {
			return State{}, fmt.Errorf("read the settings of %s: %w", name, err)
		}
		state.Settings[name] = s
	}
	if state.Guard, err = h.guard.read(); err != nil {
		return State{}, err
	}
	h.know(state.Links)
	return state, nil
}

// uplinks are the interfaces on which virtual addresses may be announced: those with a default route or an address
// that others can reach.
func uplinks(state State) []string {
	seen := map[string]struct{}{}
	var names []string
	add := func(name string) {
		if _, ok := seen[name]; !ok && !state.Links[name].Loopback {
			seen[name] = struct{}{}
			names = append(names, name)
		}
	}
	for _, name := range state.Default4 {
		add(name)
	}
	for _, name := range state.Default6 {
		add(name)
	}
	for _, a := range state.Host {
		if a.Prefix.Addr().IsGlobalUnicast() && a.Interface != IPVSInterface {
			add(a.Interface)
		}
	}
	return names
}

// Do carries out one step. The result is empty when all of it is done.
func (h *Host) Do(_ context.Context, step Step) []Failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	conn, err := h.rtnl()
	if err != nil {
		return whole(err)
	}
	switch step.Kind {
	case BuildGuard:
		return whole(h.guard.build(step.Addresses))
	case Cover:
		return whole(h.guard.cover(step.Addresses))
	case Uncover:
		return whole(h.guard.uncover(step.Addresses))
	case RemoveGuard:
		return whole(h.guard.remove())
	case CreateInterface:
		err := conn.createBridge(step.Interface)
		if errors.Is(err, unix.EEXIST) {
			return nil // somebody else was faster: it is used as it is
		}
		if err == nil {
			h.sysctls.enableIPv6(step.Interface)
		}
		return whole(err)
	}

	link, err := conn.link(step.Interface)
	if errors.Is(err, ErrNoInterface) && removes(step.Kind) {
		return nil
	}
	if err != nil {
		return whole(err)
	}
	switch step.Kind {
	case SetUp:
		return whole(conn.setUp(link.Index))
	case PrepareARP:
		return whole(conn.prepareARP(link.Index))
	case PrepareNDP:
		return whole(h.prepareNDP(conn, link.Name))
	case TakeOver:
		return conn.takeOver(link, step.Addresses)
	case Bind:
		return conn.bind(link, step.Addresses)
	case Unbind:
		return conn.unbind(link, step.Addresses)
	case AddProxy:
		return conn.addProxies(link.Index, step.Addresses)
	case RemoveProxy:
		return conn.removeProxies(link.Index, step.Addresses)
	case RemoveInterface:
		return whole(removeInterface(conn, link))
	default:
		return whole(fmt.Errorf("unknown step %q", step.Kind))
	}
}

func (h *Host) prepareNDP(conn *rtnl, ifname string) error {
	indexes, err := conn.defaultRoutes(unix.AF_INET6)
	if err != nil {
		return err
	}
	var routers []string
	for name, link := range h.links {
		if name != ifname && slices.Contains(indexes, link.Index) {
			routers = append(routers, name)
		}
	}
	return h.sysctls.prepareNDP(ifname, routers)
}

// removes says that a missing interface means that the step is done.
func removes(kind Kind) bool {
	return kind == Unbind || kind == RemoveProxy || kind == RemoveInterface
}

func whole(err error) []Failure {
	if err == nil {
		return nil
	}
	return []Failure{{Err: err}}
}

// removeInterface deletes a bridge that we created, unless something else uses it by now.
func removeInterface(conn *rtnl, link Link) error {
	if !link.Ours {
		return fmt.Errorf("%s was not created by Mooring: it stays", link.Name)
	}
	links, err := conn.links()
	if err != nil {
		return err
	}
	for _, other := range links {
		if other.Master == link.Index {
			return fmt.Errorf("%s has port %s: it stays", link.Name, other.Name)
		}
	}
	addresses, err := conn.addresses()
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if a.index == link.Index && !a.prefix.Addr().IsLinkLocalUnicast() {
			return fmt.Errorf("%s carries %s: it stays", link.Name, a.prefix)
		}
	}
	return conn.deleteLink(link.Index)
}
