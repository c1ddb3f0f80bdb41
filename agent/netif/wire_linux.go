package netif

import (
	"fmt"
	"net/netip"
)

// Announce tells the segment behind an uplink that ip is at this host.
func (h *Host) Announce(uplink string, ip netip.Addr) error {
	link, ok := h.known(uplink)
	if !ok {
		return fmt.Errorf("announce %s on %s: %w", ip, uplink, ErrNoInterface)
	}
	return h.speakers.announce(link, ip)
}

// Probe asks the segment behind an uplink who has ip, without claiming it. An answer is a claim as any other: it is
// told when ip is listened for there, also when the same claim was told just before the question.
func (h *Host) Probe(uplink string, ip netip.Addr) error {
	link, ok := h.known(uplink)
	if !ok {
		return fmt.Errorf("probe %s on %s: %w", ip, uplink, ErrNoInterface)
	}
	h.ears.asked(uplink, ip)
	return h.speakers.probe(link, ip)
}

// known is an uplink as it was when the host was read last.
func (h *Host) known(uplink string) (Link, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	link, ok := h.links[uplink]
	return link, ok
}

// Listen has claims of these addresses, by the uplink on which they are heard, told as ClaimEvents by Watch, and no
// others. A claim is told at most ten times a second for each hardware address, except in answer to a Probe. It is
// cheap to call again for every change of the addresses: nothing is lost about those that stay.
//
// Listening goes on by itself on an uplink that goes down or away and comes back; Watch sends a DeafEvent when it cannot.
// An uplink that is down, or that has no segment, such as a tunnel, is no error: nobody can claim anything there. The
// errors of several uplinks are joined, and each names its uplink; the others are listened on all the same.
func (h *Host) Listen(watched map[string][]netip.Addr) error {
	if err := h.knowLinks(); err != nil {
		return fmt.Errorf("listen for claims: %w", err)
	}
	return h.ears.listen(watched)
}

// knowLinks reads the interfaces, unless that was done before: what comes from one of them is no claim.
func (h *Host) knowLinks() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.links) > 0 {
		return nil
	}
	conn, err := h.rtnl()
	if err != nil {
		return err
	}
	list, err := conn.links()
	if err != nil {
		return err
	}
	links := make(map[string]Link, len(list))
	for _, link := range list {
		links[link.Name] = link
	}
	h.know(links)
	return nil
}

// ClaimsDropped is how many claims, and frames that may have been claims, were not told because there were too many,
// since the host was opened. A claim that was told just before does not count.
func (h *Host) ClaimsDropped() uint64 { return h.ears.missed() }
