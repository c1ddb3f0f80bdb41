package agent

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mooring-lb/mooring/agent/netif"
)

// Whatever this host may answer from is reported: what the controller does not know it takes for a stranger's.
func TestHardwareAddressesThatThisHostAnswersFromAreReported(t *testing.T) {
	s := newStage(t)
	for index, link := range []netif.Link{
		{Name: "eth1"},                   // a network card for virtual addresses alone
		{Name: "eth2"},                   // one that nothing uses yet
		{Name: "bond0", Kind: "bond"},    // which may answer from the addresses of its ports
		{Name: "eth3", Master: 12},       //
		{Name: "vlan5", Kind: "vlan"},    //
		{Name: "mac0", Kind: "macvlan"},  // an uplink that an entry names
		{Name: "mac1", Kind: "macvlan"},  // a pod's
		{Name: "veth1", Kind: "veth"},    // a pod's
		{Name: "cni0", Kind: "bridge"},   // of pods
		{Name: "vx0", Kind: "vxlan"},     //
		{Name: "lo1", Loopback: true},    //
		{Name: "ib0", HardwareAddr: nil}, // not of Ethernet
	} {
		link.Index, link.Up, link.Running = 10+index, true, true
		if link.Name != "ib0" {
			link.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 1, byte(index)}
		}
		s.host.change(func(state *netif.State) { state.Links[link.Name] = link })
	}
	o := order(1, hold(vip4), hold(vip6))
	o.Spec.Addresses[0].Uplink, o.Spec.Addresses[1].Uplink = "eth1", "mac0"
	s.watch(o)
	s.play(5 * time.Second)
	want := []string{ourMAC.String()} // of eth0, which has addresses
	for _, index := range []byte{0, 1, 2, 3, 4, 5} {
		want = append(want, net.HardwareAddr{2, 0, 0, 0, 1, index}.String())
	}
	slices.Sort(want)
	assert.Equal(t, want, s.status.HardwareAddresses)

	// It is known of the network card also when this host has let go of everything there.
	s.watch(order(2))
	s.play(5 * time.Second)
	assert.Contains(t, s.status.HardwareAddresses, net.HardwareAddr{2, 0, 0, 0, 1, 0}.String())
}
