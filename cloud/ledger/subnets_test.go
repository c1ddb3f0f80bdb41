package ledger

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// TestAddressIsRoutedUntilANodeStandsInItsSubnet: which nodes there are, and where they stand, may change at any time.
func TestAddressIsRoutedUntilANodeStandsInItsSubnet(t *testing.T) {
	w := newWorld(t, office, "n1", "n2")
	for text, onLink := range map[string]bool{
		"192.0.2.1": true, "192.0.3.1": false, "2001:db8::1": true, "2001:db8:1::1": false, "10.1.2.3": false,
	} {
		assert.Equal(t, onLink, w.ledger.onLink(netip.MustParseAddr(text)), text)
	}
	far := netip.MustParseAddr("10.1.2.3")
	r := w.objects["n2"].report()
	r.Subnets = []lb.Subnet{{Interface: "eth1", Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
	w.ledger.Report("n2", r, w.now)
	assert.True(t, w.ledger.onLink(far))
	w.removeNode("n2")
	assert.False(t, w.ledger.onLink(far))
	w.setNode("n2", func(n *lb.Node) { *n = lb.Node{Name: "n2", UID: "uid-n2", Ready: lb.Ready} })
	assert.True(t, w.ledger.onLink(far), "its agent has said so")
	w.restart()
	assert.True(t, w.ledger.onLink(netip.MustParseAddr("192.0.2.1")))
	assert.False(t, w.ledger.onLink(far))
}
