package netif

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// procSys is where the kernel shows its settings. Those below net/ are the ones of the calling process's
	// network namespace, under whatever path they are opened.
	procSys = "/proc/sys"
	// mountedProcSys is used where it exists: /proc/sys is read-only in a pod that is not privileged, and a
	// hostPath volume of /proc/sys/net at this place is not.
	mountedProcSys = "/host/proc/sys"
)

// devconfARPAnnounce is IPV4_DEVCONF_ARP_ANNOUNCE of linux/ip.h.
const devconfARPAnnounce = 18

// sysctls are the kernel's settings below a directory.
type sysctls string

func findSysctls() sysctls {
	if _, err := os.Stat(filepath.Join(mountedProcSys, "net", "ipv4")); err == nil {
		return mountedProcSys
	}
	return procSys
}

func (dir sysctls) path(parts ...string) string {
	return filepath.Join(append([]string{string(dir), "net"}, parts...)...)
}

func (dir sysctls) read(parts ...string) (int, error) {
	raw, err := os.ReadFile(dir.path(parts...))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}

func (dir sysctls) write(value int, parts ...string) error {
	name := "net." + strings.Join(parts, ".")
	if err := os.WriteFile(dir.path(parts...), []byte(strconv.Itoa(value)), 0o644); err != nil {
		return fmt.Errorf("set %s=%d (set it on the host, for example in /etc/sysctl.d): %w", name, value, err)
	}
	return nil
}

// settings reads what decides whether virtual addresses work behind an uplink.
func (dir sysctls) settings(ifname string) (Settings, error) {
	var s Settings
	for _, v := range []struct {
		into *int
		name string
	}{{&s.ARPIgnore, "arp_ignore"}, {&s.ARPAnnounce, "arp_announce"}, {&s.RPFilter, "rp_filter"}} {
		all, err := dir.read("ipv4", "conf", "all", v.name)
		if err != nil {
			return s, err
		}
		own, err := dir.read("ipv4", "conf", ifname, v.name)
		if err != nil {
			return s, err
		}
		*v.into = max(all, own)
	}
	forwarding, err := dir.read("ipv6", "conf", ifname, "forwarding")
	if errors.Is(err, os.ErrNotExist) {
		return s, nil // IPv6 is not in this kernel, or off for the interface
	}
	if err != nil {
		return s, err
	}
	proxy, err := dir.read("ipv6", "conf", ifname, "proxy_ndp")
	if err != nil {
		return s, err
	}
	proxyAll, err := dir.read("ipv6", "conf", "all", "proxy_ndp")
	if err != nil {
		return s, err
	}
	disabled, err := dir.read("ipv6", "conf", ifname, "disable_ipv6")
	if err != nil {
		return s, err
	}
	if s.ProxyDelay6, err = dir.read("ipv6", "neigh", ifname, "proxy_delay"); err != nil {
		return s, err
	}
	s.IPv6 = disabled == 0
	s.Forwarding6 = forwarding != 0
	s.ProxyNDP = max(proxy, proxyAll) != 0
	return s, nil
}

// enableIPv6 turns IPv6 on for an interface that we created, where the host's default for new interfaces is off. When it
// cannot, or IPv6 is off altogether, binding an IPv6 address says so.
func (dir sysctls) enableIPv6(ifname string) {
	if off, err := dir.read("ipv6", "conf", "all", "disable_ipv6"); err != nil || off != 0 {
		return
	}
	if off, err := dir.read("ipv6", "conf", ifname, "disable_ipv6"); err == nil && off != 0 {
		_ = dir.write(0, "ipv6", "conf", ifname, "disable_ipv6")
	}
}

// prepareNDP makes an uplink answer neighbour solicitations for the proxy-NDP entries on it, at once.
//
// Forwarding on an interface makes it ignore router advertisements unless accept_ra is 2, and turning it on makes the
// kernel forget the default routes that any interface learned from one, unless accept_ra is 2 there. So accept_ra goes
// first, on the uplink and on the others through which a default route leaves. Packets are not forwarded by this: that
// takes net.ipv6.conf.all.forwarding, which is left alone.
func (dir sysctls) prepareNDP(ifname string, routers []string) error {
	have, err := dir.settings(ifname)
	if err != nil {
		return fmt.Errorf("read the settings of %s: %w", ifname, err)
	}
	if !have.IPv6 {
		return fmt.Errorf("IPv6 is off on uplink %s: set net.ipv6.conf.%s.disable_ipv6=0", ifname, ifname)
	}
	if !have.Forwarding6 {
		for _, name := range append([]string{ifname}, routers...) {
			accept, err := dir.read("ipv6", "conf", name, "accept_ra")
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err == nil && accept == 1 {
				err = dir.write(2, "ipv6", "conf", name, "accept_ra")
			}
			if err != nil {
				return err
			}
		}
		if err := dir.write(1, "ipv6", "conf", ifname, "forwarding"); err != nil {
			return err
		}
	}
	if !have.ProxyNDP {
		if err := dir.write(1, "ipv6", "conf", ifname, "proxy_ndp"); err != nil {
			return err
		}
	}
	if have.ProxyDelay6 != 0 {
		return dir.write(0, "ipv6", "neigh", ifname, "proxy_delay")
	}
	return nil
}

// prepareARP makes the host ask for its neighbours with its own address: with a virtual one as sender it would pull
// traffic back after the address has moved. The request goes over netlink, which needs no writable /proc/sys.
func (r *rtnl) prepareARP(index int) error {
	body, err := linkRequest(index, 0, 0, func(e *netlink.AttributeEncoder) {
		e.Nested(unix.IFLA_AF_SPEC, func(families *netlink.AttributeEncoder) error {
			families.Nested(unix.AF_INET, func(inet *netlink.AttributeEncoder) error {
				inet.Nested(unix.IFLA_INET_CONF, func(conf *netlink.AttributeEncoder) error {
					value := make([]byte, 4)
					binary.NativeEndian.PutUint32(value, 2)
					conf.Bytes(devconfARPAnnounce, value)
					return nil
				})
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return err
	}
	if err := r.do(unix.RTM_SETLINK, 0, body); err != nil {
		return fmt.Errorf("set arp_announce=2: %w", err)
	}
	return nil
}
