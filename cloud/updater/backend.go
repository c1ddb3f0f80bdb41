// Package updater speaks to the HTTP updater of an external load balancer, and keeps what the load balancer does as it is
// wanted.
//
// A Client makes one call to one URL and classifies what becomes of it. A Worker looks after the backends of one pool: it
// is told what is wanted of each port, tells every URL, tries again what went wrong, and reports where it stands. Nothing
// leaves the package that would break the file on the other side, because one bad file there blocks the reload of all
// others. It decides no port and no target; it uses no Kubernetes client, logs nothing, and no token leaves it in an error.
//
// The protocol is that of nginx-lb-updater, which PaperLB calls: POST and DELETE of a JSON object at one URL. The answer 200
// means that a file was written, and not that it is served.
package updater

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
)

const (
	// TCP and UDP are the protocols of a backend.
	TCP lb.Protocol = "TCP"
	UDP lb.Protocol = "UDP"

	// LongestTimeout of a proxy, as in the cloud-config.
	LongestTimeout = 30 * 24 * time.Hour
	// longestName of a backend: the name of its file ends in .conf and has at most 255 bytes.
	longestName = 200
)

// Key is a port of the load balancer. TCP and UDP on one number are two.
type Key struct {
	Port     uint16
	Protocol lb.Protocol
}

func (k Key) String() string { return fmt.Sprintf("%d/%s", k.Port, k.Protocol) }

// compare orders by number, TCP before UDP.
func (k Key) compare(o Key) int {
	if k.Port != o.Port {
		return int(k.Port) - int(o.Port)
	}
	return strings.Compare(string(k.Protocol), string(o.Protocol))
}

// Validate returns an error when no load balancer has the port.
func (k Key) Validate() error {
	switch {
	case k.Port == 0:
		return errors.New("port 0 does not exist: choose one from 1 to 65535")
	case k.Protocol != TCP && k.Protocol != UDP:
		return fmt.Errorf("protocol %q is not passed on by the load balancer: use TCP or UDP", k.Protocol)
	}
	return nil
}

// Backend is what stands behind a port.
type Backend struct {
	// Targets are addresses of nodes with their NodePorts, at least one. The order says nothing.
	Targets []netip.AddrPort
	// ProxyTimeout ends a connection, or a UDP client, on which nothing passes for so long; ConnectTimeout is for the
	// connection to a target. Whole seconds; 0: left to the updater.
	ProxyTimeout, ConnectTimeout time.Duration
	// Replaces is the name of a backend of somebody else on the same port, which is taken over; empty: none.
	Replaces string
	// Revision of the caller's: what is set with a lower one than what was set before is ignored.
	Revision uint64
}

// Validate returns an error that names everything that would break the file on the other side.
func (b *Backend) Validate() error {
	var mistakes []error
	add := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	if len(b.Targets) == 0 {
		add("there is no target: a load balancer refuses a backend without one, remove the backend instead")
	}
	for _, t := range b.Targets {
		switch a := t.Addr(); {
		case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == broadcast:
			add("target %s is no address of a node: give the Node an ExternalIP or InternalIP", t)
		case a.Zone() != "":
			add("target %s has a zone, which means something on one machine only: use an address without", t)
		case t.Port() == 0:
			add("target %s has no port: the Service needs a NodePort", t)
		}
	}
	for _, of := range []struct {
		what  string
		value time.Duration
	}{{"proxy timeout", b.ProxyTimeout}, {"proxy connect timeout", b.ConnectTimeout}} {
		if of.value < 0 || of.value%time.Second != 0 || of.value > LongestTimeout {
			add("%s %s must be whole seconds from 1s to %s, or 0 to leave it to the updater", of.what, of.value, LongestTimeout)
		}
	}
	if b.Replaces != "" {
		if err := ValidName(b.Replaces); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	return errors.Join(mistakes...)
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// canonical returns the backend with its targets unmapped, sorted and each once, in a list of its own.
func (b *Backend) canonical() Backend {
	c := *b
	c.Targets = make([]netip.AddrPort, len(b.Targets))
	for i, t := range b.Targets {
		c.Targets[i] = netip.AddrPortFrom(t.Addr().Unmap(), t.Port())
	}
	slices.SortFunc(c.Targets, netip.AddrPort.Compare)
	c.Targets = slices.Compact(c.Targets)
	return c
}

// same reports whether the load balancer would see no difference. Both are canonical.
func (b *Backend) same(o *Backend) bool {
	return slices.Equal(b.Targets, o.Targets) && b.ProxyTimeout == o.ProxyTimeout && b.ConnectTimeout == o.ConnectTimeout && b.Replaces == o.Replaces
}
