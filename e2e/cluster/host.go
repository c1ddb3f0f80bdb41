package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namedNamespaces is where `ip netns` finds network namespaces.
const namedNamespaces = "/run/netns"

// uplink is every host's interface on the wire.
const uplink = "eth0"

// Host is a machine on the wire: a network namespace with an interface eth0.
type Host struct {
	Name string
	// IPv4 and IPv6 are the addresses of eth0.
	IPv4, IPv6 netip.Addr

	netns   *os.File
	netlink *netlink.Handle
	// mac of eth0, which is the same when it is plugged in again.
	mac net.HardwareAddr
	// bootID is a file with what the kernel of the host calls this start of itself; empty: that of the real machine.
	bootID string
}

// newHost makes a network namespace with loopback up, named for `ip netns exec`.
func newHost(name string) (*Host, error) {
	path := filepath.Join(namedNamespaces, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, fmt.Errorf("name network namespace %s: %w", name, err)
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	h := &Host{Name: name}
	made := make(chan error)
	go func() {
		// Without unlocking: the thread that lives in the new namespace ends with this goroutine.
		runtime.LockOSThread()
		made <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			return unix.Mount(threadNetns, path, "", unix.MS_BIND, "")
		}()
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	if h.netns, err = os.Open(path); err != nil {
		return nil, err
	}
	err = h.Do(func() error {
		h.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", name, err)
	}
	lo, err := h.netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find loopback of %s: %w", name, err)
	}
	return h, h.netlink.LinkSetUp(lo)
}

// close takes the host off the wire. Its namespace goes, some time later, with the last process in it.
func (h *Host) close() error {
	h.netlink.Close()
	path := filepath.Join(namedNamespaces, h.Name)
	return errors.Join(setPort(h, netlink.LinkDel), h.netns.Close(), unix.Unmount(path, unix.MNT_DETACH), os.Remove(path))
}

const threadNetns = "/proc/thread-self/ns/net"

// Do runs f with its thread in the host's network namespace. Sockets that f itself opens belong to the host for
// ever; goroutines that f starts do not run there.
func (h *Host) Do(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open(threadNetns)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() { _ = home.Close() }()
	if err := unix.Setns(int(h.netns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", h.Name, err)
	}
	defer func() {
		// A thread that cannot come back stays locked, so that nothing else runs on it.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// DialContext connects from the host. The address must be an IP address with a port: names are not resolved there.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial from %s: %w", h.Name, err)
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a TCP listener on the host.
func (h *Host) Listen(ctx context.Context, address netip.AddrPort) (net.Listener, error) {
	var listener net.Listener
	err := h.Do(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address.String())
		return err
	})
	return listener, err
}

// ListenPacket opens a UDP socket on the host.
func (h *Host) ListenPacket(ctx context.Context, address netip.AddrPort) (net.PacketConn, error) {
	var conn net.PacketConn
	err := h.Do(func() (err error) {
		conn, err = (&net.ListenConfig{}).ListenPacket(ctx, "udp", address.String())
		return err
	})
	return conn, err
}

// HTTPClient makes requests from the host, each over a connection of its own unless keepAlive is set.
func (h *Host) HTTPClient(keepAlive bool) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: h.DialContext, DisableKeepAlives: !keepAlive}}
}

// Get makes one HTTP request from the host, over a connection of its own, and returns the body.
func (h *Host) Get(ctx context.Context, address netip.AddrPort, path string) (string, error) {
	return get(ctx, h.HTTPClient(false), address, path)
}

func get(ctx context.Context, client *http.Client, address netip.AddrPort, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address.String()+path, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", address, response.Status)
	}
	return string(body), err
}

// AskUDP sends one datagram from the host and returns the answer.
func (h *Host) AskUDP(ctx context.Context, address netip.AddrPort) (string, error) {
	conn, err := h.DialContext(ctx, "udp", address.String())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte("?")); err != nil {
		return "", err
	}
	answer := make([]byte, 1500)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

// Flows are the UDP flows to a port that the host's connection tracking knows, as the kernel prints them.
func (h *Host) Flows(port uint16) (flows []string, err error) {
	err = h.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
		for line := range strings.Lines(string(table)) {
			if strings.Contains(line, " udp ") && strings.Contains(line, fmt.Sprintf(" dport=%d ", port)) {
				flows = append(flows, strings.TrimSpace(line))
			}
		}
		return err
	})
	return flows, err
}

// Run runs a command on the host and returns what it prints.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Do(cmd.Start); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s %s on %s: %w: %s", name, strings.Join(args, " "), h.Name, err, out.String())
	}
	return out.String(), nil
}

// Addresses on one of the host's interfaces, link-local ones left out, sorted. An interface that does not exist has
// none.
func (h *Host) Addresses(iface string) ([]netip.Prefix, error) {
	link, err := h.netlink.LinkByName(iface)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find %s of %s: %w", iface, h.Name, err)
	}
	list, err := h.netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s on %s: %w", iface, h.Name, err)
	}
	var prefixes []netip.Prefix
	for _, entry := range list {
		addr, _ := netip.AddrFromSlice(entry.IP)
		bits, _ := entry.Mask.Size()
		if prefix := netip.PrefixFrom(addr.Unmap(), bits); !prefix.Addr().IsLinkLocalUnicast() {
			prefixes = append(prefixes, prefix)
		}
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return prefixes, nil
}

// Holds says whether the address is on the host's interface.
func (h *Host) Holds(iface string, addr netip.Addr) (bool, error) {
	prefixes, err := h.Addresses(iface)
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr() == addr }), err
}

// AddAddress puts an address on an interface, as an administrator's hand would. It works at once.
func (h *Host) AddAddress(iface string, addr netip.Addr) error {
	link, err := h.netlink.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s of %s: %w", iface, h.Name, err)
	}
	return h.addAddress(link, netip.PrefixFrom(addr, addr.BitLen()))
}

// RemoveAddress takes an address off an interface, as an administrator's hand would.
func (h *Host) RemoveAddress(iface string, addr netip.Addr) error {
	link, err := h.netlink.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s of %s: %w", iface, h.Name, err)
	}
	return h.netlink.AddrDel(link, &netlink.Addr{IPNet: hostNet(netip.PrefixFrom(addr, addr.BitLen()))})
}

// RemoveInterface deletes an interface of the host.
func (h *Host) RemoveInterface(iface string) error {
	link, err := h.netlink.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s of %s: %w", iface, h.Name, err)
	}
	return h.netlink.LinkDel(link)
}

// MAC is the hardware address of one of the host's interfaces.
func (h *Host) MAC(iface string) (net.HardwareAddr, error) {
	link, err := h.netlink.LinkByName(iface)
	if err != nil {
		return nil, fmt.Errorf("find %s of %s: %w", iface, h.Name, err)
	}
	return link.Attrs().HardwareAddr, nil
}

// ForgetNeighbours empties the host's table of hardware addresses, so that it asks again.
func (h *Host) ForgetNeighbours() error {
	link, err := h.netlink.LinkByName(uplink)
	if err != nil {
		return fmt.Errorf("find %s of %s: %w", uplink, h.Name, err)
	}
	neighbours, err := h.netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list neighbours of %s: %w", h.Name, err)
	}
	for _, neighbour := range neighbours {
		if neighbour.State&netlink.NUD_NOARP != 0 {
			continue
		}
		if err := h.netlink.NeighDel(&neighbour); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget neighbour %s of %s: %w", neighbour.IP, h.Name, err)
		}
	}
	return nil
}

// Sysctl sets a kernel parameter under /proc/sys/net in the host.
func (h *Host) Sysctl(name, value string) error {
	return h.Do(func() error {
		return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	})
}

// addAddress puts an address on an interface.
func (h *Host) addAddress(link netlink.Link, prefix netip.Prefix) error {
	if err := h.netlink.AddrAdd(link, atOnce(prefix)); err != nil {
		return fmt.Errorf("add %s to %s of %s: %w", prefix, link.Attrs().Name, h.Name, err)
	}
	return nil
}

// atOnce is an address that works as soon as it is added, without duplicate address detection.
func atOnce(prefix netip.Prefix) *netlink.Addr {
	addr := &netlink.Addr{IPNet: hostNet(prefix)}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return addr
}

// addRoute sends a subnet to a neighbour.
func (h *Host) addRoute(to netip.Prefix, via netip.Addr) error {
	if err := h.netlink.RouteAdd(&netlink.Route{Dst: hostNet(to.Masked()), Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("add route to %s via %s on %s: %w", to, via, h.Name, err)
	}
	return nil
}

// hostNet is the prefix with its host bits, as netlink writes it.
func hostNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

func localhost(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
