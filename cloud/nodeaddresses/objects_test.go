package nodeaddresses

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

// A network card without an address of its own is known to be the node's: what it answers for is in no stranger's hands.
func TestReportOfANodeWithADedicatedUplink(t *testing.T) {
	const card = "02:00:00:00:00:07"
	r := ReportOf(&v1alpha1.NodeAddresses{Status: v1alpha1.NodeAddressesStatus{
		NodeAddresses:     []v1alpha1.NodeAddress{{Interface: "eth0", Address: "192.0.2.7/24"}},
		HardwareAddresses: []string{"02:00:00:00:00:01", card},
	}})
	assert.Contains(t, r.HardwareAddresses, card)
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.7")}, r.Addresses)
}
