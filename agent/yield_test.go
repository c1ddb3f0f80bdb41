package agent

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/conflict"
	"github.com/mooring-lb/mooring/agent/netif"
)

// What could not be unbound while the API server was away is unbound when it is back, and then the keeper rests.
func TestAfterAFailedYieldItRests(t *testing.T) {
	s := newStage(t)
	o := order(1, hold(vip4))
	s.watch(o)
	s.play(time.Minute)
	s.cut(o)
	s.host.stuck = map[netip.Addr]error{netip.MustParseAddr(vip4): errors.New("no")}
	s.take(vip4)
	s.claim(vip4)
	s.play(5 * time.Second)
	require.Len(t, s.host.bound(), 1)
	s.host.stuck = nil
	s.watch(order(2))
	s.play(2 * time.Second)
	require.Empty(t, s.host.bound())
	assert.Positive(t, s.keeper.Turn(t.Context(), s.now))
}

// A live read that comes to nothing in the middle of a planned move costs seconds, and does not stop the move: the
// predecessor answers until the address is bound here.
func TestAPlannedMoveSurvivesAnUnansweredRead(t *testing.T) {
	s := newStage(t)
	o := order(1, movedFrom("n2", hold(vip4)))
	s.take(vip4)
	s.watch(o)
	s.play(time.Second)
	require.Len(t, s.host.bound(), 1)
	s.stored = nil
	s.keeper.Reconnected()
	s.play(5 * time.Second)
	require.Empty(t, s.host.bound())
	s.stored = o
	s.play(5 * time.Second)
	assert.Len(t, s.host.bound(), 1)
	assert.Empty(t, s.status.Failed)
	assert.Empty(t, s.status.Pending)
}

// Before it has read its object, a restarted agent does not know what was moved away meanwhile: it says nothing.
func TestARestartedAgentIsSilentUntilItKnows(t *testing.T) {
	s := newStage(t, vip4, vip6)
	s.cut(nil)
	s.take(vip4)
	s.play(time.Minute)
	s.claim(vip4)
	s.play(5 * time.Second)
	require.Equal(t, []string{vip6 + "@pl0"}, s.host.bound())
	assert.Empty(t, s.host.announced)
	clear(s.owned)
	s.play(10 * time.Second)
	assert.Len(t, s.host.bound(), 2)
	assert.Positive(t, s.announced(vip4), "who had it has told everybody")
	assert.Zero(t, s.announced(vip6))
	s.watch(order(1, hold(vip4), hold(vip6)))
	s.play(time.Second)
	assert.Positive(t, s.announced(vip6))
}

// The controller gives a node five seconds to acknowledge what it was given: also when it is thousands of new addresses
// at once, which are all probed and announced at a pace.
func TestThousandsOfNewAddressesAreServedInTime(t *testing.T) {
	s := newStage(t)
	var all []v1alpha1.Address
	for i := range 3000 {
		all = append(all, hold(netip.AddrFrom4([4]byte{10, 0, byte(1 + i/250), byte(i % 250)}).String()))
	}
	s.watch(order(1, all...))
	s.play(2 * time.Second)
	assert.Greater(t, len(s.host.bound()), 1000, "the first need not wait for the last")
	s.play(2 * time.Second)
	assert.EqualValues(t, 1, s.status.ObservedGeneration)
	assert.Empty(t, s.status.Pending)
	assert.EqualValues(t, 3000, s.status.Bound)
}

// A new address does not wait until thousands that are held were checked after an absence.
func TestANewAddressIsServedAtOnceOnAFullNode(t *testing.T) {
	s := newStage(t)
	var all []v1alpha1.Address
	for i := range 4500 {
		all = append(all, hold(netip.AddrFrom4([4]byte{10, 0, byte(1 + i/250), byte(i % 250)}).String()))
	}
	s.watch(order(1, all...))
	s.play(time.Minute)
	require.EqualValues(t, 4500, s.status.Bound)
	s.keeper.Reconnected()
	s.play(200 * time.Millisecond)
	s.watch(order(2, append(all, hold("10.0.200.1"))...))
	s.play(500 * time.Millisecond)
	assert.Positive(t, s.announced("10.0.200.1"))
}

// What a cloud routes to the host is not given up because the cloud's router answers for it.
func TestARestartedAgentKeepsWhatIsRouted(t *testing.T) {
	const routed = "203.0.113.4"
	s := newStage(t, routed)
	s.cut(nil)
	s.play(time.Second)
	s.take(routed)
	s.link(func(l *netif.Link) { l.Running = false })
	s.keeper.Notice(netif.Event{Kind: netif.LinkEvent, Interface: "eth0", Up: true})
	s.play(time.Second)
	s.link(func(l *netif.Link) { l.Running = true })
	s.keeper.Notice(netif.Event{Kind: netif.LinkEvent, Interface: "eth0", Up: true, Running: true, HardwareAddr: ourMAC})
	s.play(time.Minute)
	assert.Len(t, s.host.bound(), 1)
}

// Whoever makes hardware addresses up cannot make the status one that the API server refuses.
func TestTheConditionNamesAFewProxies(t *testing.T) {
	k := NewKeeper(newFakeHost(t), Options{}, nil)
	now := noon
	var wants []conflict.Subject
	for i := range 30 {
		wants = append(wants, conflict.Subject{IP: netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), Uplink: "eth0"})
	}
	k.conflicts.Watch(now, wants)
	for p, _, ok := k.conflicts.Next(now); ok && p.IP.IsValid(); p, _, ok = k.conflicts.Next(now) {
		k.conflicts.Sent(now, p, nil)
		k.conflicts.Heard(now, p.Uplink, p.IP, net.HardwareAddr{2, 0, 0, 0, 0, p.IP.As4()[3] / 3})
	}
	require.Len(t, k.conflicts.Proxies(), 10)
	c, ok := k.blindness()
	require.True(t, ok)
	assert.Contains(t, c.Message, "02:00:00:00:00:02 on eth0 and 7 more;")
}

// When nothing works on a full node, it can still say so: etcd takes 1.5 MiB for entries and status together.
func TestAFullNodeInTroubleCanSaySo(t *testing.T) {
	s := newStage(t)
	var all []v1alpha1.Address
	for i := range v1alpha1.MaxAddresses {
		a := hold(netip.AddrFrom4([4]byte{10, 0, byte(1 + i/250), byte(i % 250)}).String())
		a.Uplink = "eth7"
		all = append(all, a)
	}
	s.watch(order(1, all...))
	s.play(time.Second)
	require.Len(t, s.status.Failed, v1alpha1.MaxAddresses)
	assert.Contains(t, s.status.Failed[0].Message, "eth7")
	raw, err := json.Marshal(s.status)
	require.NoError(t, err)
	assert.Less(t, len(raw), 300<<10)
}
