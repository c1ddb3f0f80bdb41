package cluster

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// PowerOff ends the node as a pulled mains plug does: its processes are gone at once, and so is everything that its
// kernel knew, addresses, interfaces, rules and connections.
func (n *Node) PowerOff() error {
	errs := []error{setPort(n.Host, netlink.LinkDel)}
	for _, process := range n.processes() {
		errs = append(errs, process.Kill())
	}
	links, err := n.netlink.LinkList()
	errs = append(errs, err)
	for _, link := range links {
		// The pods' interface stays: its addresses are the backends', which the tests do not start again.
		if link.Type() == "bridge" && link.Attrs().Name != podInterface {
			errs = append(errs, n.netlink.LinkDel(link))
		}
	}
	return errors.Join(append(errs, n.Do(func() error {
		return errors.Join(nft("flush ruleset"), netlink.ConntrackTableFlush(netlink.ConntrackTable))
	}))...)
}

// PowerOn starts a node again that was powered off: it has a new boot id, and its kubelet, kube-proxy and agent start
// at once.
func (c *Cluster) PowerOn(n *Node) error {
	if err := errors.Join(c.wire.plug(n.Host, n.number), n.newBoot(n.bootID)); err != nil {
		return err
	}
	for _, other := range c.Nodes {
		if other == n {
			continue
		}
		if err := n.routePods(other); err != nil {
			return err
		}
	}
	var errs []error
	for _, process := range n.processes() {
		errs = append(errs, process.Start())
	}
	return errors.Join(errs...)
}

// newBoot gives the host a new boot id, in that file.
func (h *Host) newBoot(file string) error {
	h.bootID = file
	var id [16]byte
	_, _ = rand.Read(id[:]) // never an error
	return os.WriteFile(file, fmt.Appendf(nil, "%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), 0o444)
}

// bootIDFile is where every program reads it.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// showBootID has the calling thread, and what it starts, see the host's boot id instead of the machine's.
func (h *Host) showBootID() error {
	if h.bootID == "" {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("take mounts of its own: %w", err)
	}
	// Over a mount of its own the file can be mounted even where /proc/sys is read-only.
	if err := unix.Mount(h.bootID, bootIDFile, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show the boot id of %s: %w", h.Name, err)
	}
	return nil
}
