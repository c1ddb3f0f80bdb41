package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

const (
	vip4, vip6 = "10.0.0.10", "fd00::10"
	inUse      = ReasonAddressInUse + " 02:00:00:00:00:02"
)

func movedFrom(node string, a v1alpha1.Address) v1alpha1.Address {
	a.Predecessor = node
	return a
}

// A new address is bound and announced after a silence; what is moved, bound already or not watched waits for nothing.
func TestNewAddressesAreProbed(t *testing.T) {
	s := newStage(t, "10.0.0.13")
	unwatched := hold("10.0.0.12")
	unwatched.Unwatched = true
	none := hold("10.0.0.14")
	none.Interface = interfaceNone
	s.watch(order(1, hold(vip4), hold(vip6), movedFrom("n2", hold("10.0.0.11")), unwatched, hold("10.0.0.13"), none))
	s.play(240 * time.Millisecond)
	assert.Equal(t, []string{"10.0.0.11@pl0", "10.0.0.12@pl0", "10.0.0.13@pl0"}, s.host.bound())
	assert.Equal(t, []string{vip4, vip6}, s.status.Pending)
	s.play(100 * time.Millisecond)
	assert.Len(t, s.host.bound(), 5)
	assert.Equal(t, 1, s.announced(vip4))
	assert.Empty(t, s.status.Pending)
	assert.Empty(t, s.status.Failed)
	assert.Equal(t, map[string][]netip.Addr{"eth0": {netip.MustParseAddr(vip4), netip.MustParseAddr("10.0.0.11"),
		netip.MustParseAddr("10.0.0.13"), netip.MustParseAddr(vip6)}}, s.host.watched)

	// Somebody removes one: it is back at once.
	s.host.change(func(state *netif.State) {
		delete(state.Bound, netif.Place{Interface: "pl0", IP: netip.MustParseAddr(vip4)})
	})
	s.keeper.Notice(netif.Event{Kind: netif.AddressEvent, Index: 3, IP: netip.MustParseAddr(vip4), Ours: true, Gone: true})
	s.play(100 * time.Millisecond)
	assert.Len(t, s.host.bound(), 5)
}

func TestThreeHundredNewAddressesAreProbedTogether(t *testing.T) {
	s := newStage(t)
	var all []v1alpha1.Address
	for i := range 300 {
		all = append(all, hold(fmt.Sprintf("10.0.%d.%d", 1+i/100, i%100)))
	}
	s.watch(order(1, all...))
	s.play(2 * time.Second)
	assert.Len(t, s.host.bound(), 300)
	assert.Empty(t, s.status.Pending)
}

// What a foreign host uses already is not bound and says so; it is bound once the foreign host is gone.
func TestAnAddressInUseIsReported(t *testing.T) {
	s := newStage(t)
	s.take(vip4)
	s.watch(order(1, hold(vip4), hold(vip6)))
	s.play(10 * time.Second)
	assert.Equal(t, []string{vip6 + "@pl0"}, s.host.bound())
	require.Equal(t, map[string]string{vip4: inUse}, s.failed())
	assert.Contains(t, s.status.Failed[0].Message, "02:00:00:00:00:02 on eth0")
	assert.NotContains(t, s.host.state.Guard.Addresses, netip.MustParseAddr(vip4))
	assert.Empty(t, s.status.Pending)

	clear(s.owned)
	s.play(8 * time.Second)
	assert.Len(t, s.host.bound(), 2)
	assert.Empty(t, s.status.Failed)
	assert.Positive(t, s.announced(vip4))
}

// Nobody stands behind the claim: the host stays as it is, and the neighbours that believed it are told once.
func TestAStrayClaimChangesNothing(t *testing.T) {
	s := newStage(t, vip4)
	o := order(1, hold(vip4))
	s.watch(o)
	s.play(time.Minute)
	s.cut(o)
	_, steps := s.host.counts()
	announced := s.announced(vip4)
	s.claim(vip4, vip4)
	s.play(time.Minute)
	_, now := s.host.counts()
	assert.Equal(t, steps, now)
	assert.Equal(t, announced+1, s.announced(vip4))
}

// The API server confirms what is held here: it is defended, reported, and forgotten when the other one is gone.
func TestAConfirmedAddressIsDefended(t *testing.T) {
	for name, entry := range map[string]v1alpha1.Address{"IPv4": hold(vip4), "IPv6": hold(vip6)} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, entry.Address)
			s.watch(order(1, entry))
			s.play(time.Minute)
			before := s.announced(entry.Address)
			s.take(entry.Address)
			s.claim(entry.Address)
			s.play(time.Minute)
			assert.Equal(t, []string{entry.Address + "@pl0"}, s.host.bound())
			assert.InDelta(t, 6, s.announced(entry.Address)-before, 1)
			assert.Equal(t, []v1alpha1.ContestedAddress{{Address: entry.Address, HardwareAddress: theirMAC.String(), Interface: "eth0"}},
				s.status.Contested)
			assert.Empty(t, s.status.Failed)
			assert.Empty(t, s.status.Pending)
			clear(s.owned)
			s.play(time.Minute)
			assert.Empty(t, s.status.Contested)
		})
	}
}

// A node that is cut off from the API server gives its addresses to its successor and nothing else; once the successor
// is gone it has them back.
func TestACutOffNodeYieldsToItsSuccessor(t *testing.T) {
	s := newStage(t)
	var all []v1alpha1.Address
	for i := range 300 {
		all = append(all, hold(fmt.Sprintf("10.0.%d.%d", 1+i/100, i%100)))
	}
	all = append(all, hold("fd00::11"))
	o := order(1, append(all, hold(vip6))...)
	s.watch(o)
	s.play(time.Minute)
	require.Len(t, s.host.bound(), 302)
	s.cut(o)
	for _, a := range all {
		s.take(a.Address)
		s.claim(a.Address)
	}
	s.play(5 * time.Second)
	assert.Equal(t, []string{vip6 + "@pl0"}, s.host.bound())
	assert.Len(t, s.status.Failed, 301)
	assert.Len(t, s.host.state.Proxies, 1)
	assert.Equal(t, inUse, s.failed()["10.0.1.7"])
	announced := s.announced("10.0.1.7")
	assert.Len(t, s.host.state.Guard.Addresses, 1)
	s.play(10 * time.Minute)
	assert.Equal(t, announced, s.announced("10.0.1.7"))

	clear(s.owned)
	s.play(8 * time.Second)
	assert.Len(t, s.host.bound(), 302)
	assert.Len(t, s.host.state.Guard.Addresses, 302)
	assert.Len(t, s.host.state.Proxies, 2)
	assert.Greater(t, s.announced("10.0.1.7"), announced)
	assert.Empty(t, s.status.Failed)
}

// Nothing is bound without its guard, also not what comes back while the API server is away; and nothing else is mended.
func TestWhatComesBackIsGuarded(t *testing.T) {
	s := newStage(t, vip4, vip6)
	o := order(1, hold(vip4), hold(vip6), hold("10.0.0.11"))
	s.take("10.0.0.11")
	s.watch(o)
	s.play(time.Minute)
	s.cut(o)
	s.host.change(func(state *netif.State) { state.Guard = netif.Guard{Addresses: map[netip.Addr]struct{}{}} })
	s.keeper.Notice(netif.Event{Kind: netif.LostEvent})
	s.play(time.Second)
	s.take(vip4)
	s.claim(vip4)
	s.play(10 * time.Second)
	require.Equal(t, []string{vip6 + "@pl0"}, s.host.bound())
	assert.Empty(t, s.host.state.Guard.Addresses, "not while nothing comes back")
	clear(s.owned)
	s.play(10 * time.Second)
	assert.Equal(t, []string{vip4 + "@pl0", vip6 + "@pl0"}, s.host.bound(), "the one that was never bound waits for the API server")
	assert.Len(t, s.host.state.Guard.Addresses, 2)
}

// Without a carrier nobody can be heard: a new address waits.
func TestALinkWithoutCarrierProvesNothing(t *testing.T) {
	s := newStage(t)
	s.link(func(l *netif.Link) { l.Running = false })
	s.watch(order(1, hold(vip4)))
	s.play(time.Minute)
	assert.Empty(t, s.host.bound())
	assert.Equal(t, []string{vip4}, s.status.Pending)
	s.link(func(l *netif.Link) { l.Running = true })
	s.keeper.Notice(netif.Event{Kind: netif.LinkEvent, Interface: "eth0", Up: true, Running: true, HardwareAddr: ourMAC})
	s.play(2 * time.Second)
	assert.Len(t, s.host.bound(), 1)
}

// What was yielded and can be asked for again stays with who answers for it, until it is silent.
func TestWhatWasYieldedIsNotTakenBackByForce(t *testing.T) {
	s := newStage(t)
	o := order(1, hold(vip4))
	s.watch(o)
	s.play(time.Minute)
	s.cut(o)
	s.take(vip4)
	s.claim(vip4)
	s.play(5 * time.Second)
	require.Empty(t, s.host.bound())
	s.watch(o)
	s.play(time.Minute)
	assert.Empty(t, s.host.bound())
	assert.Equal(t, map[string]string{vip4: inUse}, s.failed())
	s.watch(order(2, in(v1alpha1.Release, hold(vip4))))
	s.play(time.Second)
	assert.Empty(t, s.status.Failed)
	assert.EqualValues(t, 2, s.status.ObservedGeneration)
}

// The watch lags: what the live read says counts at once.
func TestWhatALiveReadDeniesIsUnbound(t *testing.T) {
	for name, test := range map[string]struct {
		now   []v1alpha1.Address
		bound int
	}{
		"released": {[]v1alpha1.Address{in(v1alpha1.Release, hold(vip4))}, 0},
		"missing":  {nil, 0},
		"yielding": {[]v1alpha1.Address{in(v1alpha1.Yield, hold(vip4))}, 1},
	} {
		for _, online := range []bool{true, false} {
			t.Run(fmt.Sprint(name, online), func(t *testing.T) {
				s := newStage(t)
				o := order(1, hold(vip4))
				s.watch(o)
				s.play(time.Minute)
				require.Len(t, s.host.bound(), 1)
				s.keeper.Object(o, online)
				s.stored = order(2, test.now...)
				s.take(vip4)
				s.claim(vip4)
				s.play(time.Second)
				assert.Len(t, s.host.bound(), test.bound)
				announced := s.announced(vip4)
				s.play(time.Minute)
				assert.Equal(t, announced, s.announced(vip4))
				assert.Empty(t, s.status.Failed)
			})
		}
	}
}

// An answer from before what is known already is no answer.
func TestALiveReadThatGoesBackIsNoAnswer(t *testing.T) {
	s := newStage(t)
	s.watch(order(2, hold(vip4)))
	s.play(time.Minute)
	s.stored = order(1)
	s.take(vip4)
	s.claim(vip4)
	s.play(2 * time.Second)
	assert.Equal(t, map[string]string{vip4: inUse}, s.failed())
	assert.EqualValues(t, 2, s.status.ObservedGeneration)
}

// Another object of the same name, which the watch does not show yet, is in force until the watch has caught up.
func TestALiveReadOfASuccessorObject(t *testing.T) {
	s := newStage(t)
	o := order(7, hold(vip4))
	o.ResourceVersion = "100"
	s.watch(o)
	s.play(time.Minute)
	s.stored = order(1, hold("10.0.0.11"))
	s.stored.UID, s.stored.ResourceVersion = "u2", "200"
	s.take(vip4)
	s.claim(vip4)
	s.play(time.Minute)
	assert.Equal(t, []string{"10.0.0.11@pl0"}, s.host.bound())
	s.watch(s.stored)
	s.play(time.Second)
	assert.EqualValues(t, "u2", s.status.ObjectUID)
}

// An address that yields is its successor's business: it is neither announced nor defended, and it stays bound for as
// long as the API server can be asked. When the order to release it cannot come, the successor that answers has it.
func TestYieldIsLeftToTheSuccessor(t *testing.T) {
	s := newStage(t, vip4)
	o := order(1, in(v1alpha1.Yield, hold(vip4)))
	s.watch(o)
	s.play(time.Second)
	s.take(vip4)
	s.claim(vip4)
	s.play(time.Minute)
	assert.Equal(t, []string{vip4 + "@pl0"}, s.host.bound())
	assert.Empty(t, s.status.Contested)

	s.cut(o)
	s.claim(vip4)
	s.play(10 * time.Second)
	assert.Empty(t, s.host.bound())
	clear(s.owned)
	s.play(time.Minute)
	assert.Empty(t, s.host.bound(), "it does not come back by itself")
	assert.Zero(t, s.announced(vip4))
}

// An agent that was restarted while the API server is away yields what was bound before it, and has it back.
func TestARestartedAgentYieldsToo(t *testing.T) {
	s := newStage(t, vip4, vip6)
	s.cut(nil)
	s.play(time.Minute)
	s.claim(vip4, vip6)
	s.take(vip4)
	s.play(3 * time.Second)
	assert.Equal(t, []string{vip6 + "@pl0"}, s.host.bound())
	clear(s.owned)
	s.play(10 * time.Second)
	assert.Len(t, s.host.bound(), 2)
	assert.Contains(t, s.host.state.Guard.Addresses, netip.MustParseAddr(vip4))
	_, steps := s.host.counts()
	s.watch(order(1, hold(vip4), hold(vip6)))
	s.play(time.Second)
	_, now := s.host.counts()
	assert.Equal(t, steps, now)
}

// A new address that nobody answers for is bound by an order only, not without an API server.
func TestAClearedAddressWaitsForTheAPIServer(t *testing.T) {
	s := newStage(t)
	o := order(1, hold(vip4))
	s.watch(o)
	s.play(100 * time.Millisecond)
	s.cut(o)
	s.play(time.Minute)
	assert.Empty(t, s.host.bound())
	s.watch(o)
	s.play(time.Second)
	assert.Len(t, s.host.bound(), 1)
}

func TestAProxyIsReportedAndNothingIsWithheld(t *testing.T) {
	s := newStage(t)
	s.take("10.0.0.11", "10.0.0.12", "10.0.0.13")
	s.watch(order(1, hold("10.0.0.11"), hold("10.0.0.12"), hold("10.0.0.13")))
	s.play(2 * time.Second)
	assert.Len(t, s.host.bound(), 3)
	assert.Empty(t, s.status.Failed)
	c := meta.FindStatusCondition(s.status.Conditions, v1alpha1.ConditionConflictDetection)
	require.NotNil(t, c)
	assert.Equal(t, ReasonProxyARP, c.Reason)
	for _, part := range []string{"02:00:00:00:00:02 on eth0", "conflictDetection: off"} {
		assert.Contains(t, c.Message, part)
	}
	s.play(15 * time.Minute)
	assert.NotNil(t, meta.FindStatusCondition(s.status.Conditions, v1alpha1.ConditionConflictDetection))
	clear(s.owned)
	s.play(15 * time.Minute)
	assert.Nil(t, meta.FindStatusCondition(s.status.Conditions, v1alpha1.ConditionConflictDetection))
}

func TestWhoCannotListenSaysSo(t *testing.T) {
	s := newStage(t)
	s.host.deaf = errors.New("no socket")
	s.watch(order(1, hold(vip4)))
	s.play(time.Second)
	assert.Len(t, s.host.bound(), 1)
	c := meta.FindStatusCondition(s.status.Conditions, v1alpha1.ConditionConflictDetection)
	require.NotNil(t, c)
	assert.Contains(t, c.Message, "no socket")
	s.host.deaf = nil
	s.play(10 * time.Second)
	assert.Nil(t, meta.FindStatusCondition(s.status.Conditions, v1alpha1.ConditionConflictDetection))
	assert.NotEmpty(t, s.host.watched)
}

// What could be heard at first, and cannot be any more, is said, too.
func TestWhoGoesDeafSaysSo(t *testing.T) {
	s := newStage(t)
	s.watch(order(1, hold(vip4)))
	s.play(time.Minute)
	require.Nil(t, meta.FindStatusCondition(s.status.Conditions, v1alpha1.ConditionConflictDetection))
	s.host.deaf = errors.New("no socket")
	s.keeper.Notice(netif.Event{Kind: netif.DeafEvent, Interface: "eth0"})
	s.play(time.Second)
	c := meta.FindStatusCondition(s.status.Conditions, v1alpha1.ConditionConflictDetection)
	require.NotNil(t, c)
	assert.Equal(t, ReasonNotListening, c.Reason)
	assert.Contains(t, c.Message, "no socket")
	s.host.deaf = nil
	s.play(10 * time.Second)
	assert.Nil(t, meta.FindStatusCondition(s.status.Conditions, v1alpha1.ConditionConflictDetection))
}
