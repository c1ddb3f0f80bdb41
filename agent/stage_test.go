package agent

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

var (
	ourMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	theirMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	errAway  = errors.New("the API server is away")
)

// order is an object as the controller writes it.
func order(generation int64, addresses ...v1alpha1.Address) *v1alpha1.NodeAddresses {
	return &v1alpha1.NodeAddresses{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1", Generation: generation},
		Spec:       v1alpha1.NodeAddressesSpec{Addresses: addresses},
	}
}

// stage has a keeper on a virtual clock, a segment with another machine, and an API server.
type stage struct {
	t      *testing.T
	host   *fakeHost
	keeper *Keeper
	now    time.Time
	status v1alpha1.NodeAddressesStatus
	// owned are the addresses that the other machine answers for.
	owned map[netip.Addr]bool
	// stored is the object at the API server, nil when that is away; what the keeper's watch shows is told with watch.
	stored   *v1alpha1.NodeAddresses
	answerAt time.Time
	asked    int
}

func newStage(t *testing.T, bound ...string) *stage {
	s := &stage{t: t, host: newFakeHost(t), now: noon, owned: map[netip.Addr]bool{}}
	s.host.state = stateWith(bound...)
	s.link(func(l *netif.Link) { l.HardwareAddr = ourMAC })
	s.keeper = NewKeeper(s.host, Options{}, nil)
	return s
}

func (s *stage) link(change func(*netif.Link)) {
	s.host.change(func(state *netif.State) {
		link := state.Links["eth0"]
		change(&link)
		state.Links["eth0"] = link
	})
}

// watch shows the keeper the object, which is stored, too.
func (s *stage) watch(o *v1alpha1.NodeAddresses) {
	s.stored = o
	s.keeper.Object(o, true)
}

// cut takes the API server away, with the watch showing what it showed last.
func (s *stage) cut(last *v1alpha1.NodeAddresses) {
	s.stored = nil
	s.keeper.Object(last, false)
}

func (s *stage) claim(ips ...string) {
	for _, ip := range ips {
		s.keeper.Notice(netif.Event{Kind: netif.ClaimEvent, Interface: "eth0", IP: netip.MustParseAddr(ip), HardwareAddr: theirMAC})
	}
}

// take has the other machine answer for the addresses.
func (s *stage) take(ips ...string) {
	for _, ip := range ips {
		s.owned[netip.MustParseAddr(ip)] = true
	}
}

func (s *stage) play(d time.Duration) {
	for end := s.now.Add(d); ; {
		wait := s.keeper.Turn(s.t.Context(), s.now)
		if status, ok := s.keeper.Report(); ok {
			s.status = status
		}
		if s.keeper.Asks() {
			s.asked++
			s.answerAt = s.now.Add(10 * time.Millisecond)
			if s.stored == nil {
				s.answerAt = s.now.Add(time.Second)
			}
		}
		heard := s.hear()
		next := s.now.Add(max(wait, time.Microsecond))
		if heard {
			next = s.now.Add(time.Millisecond)
		}
		if !s.answerAt.IsZero() && s.answerAt.Before(next) {
			next = s.answerAt
		}
		if next.After(end) {
			s.now = end
			return
		}
		s.now = next
		if s.answerAt.Equal(s.now) {
			s.answerAt = time.Time{}
			if s.stored == nil {
				s.keeper.Answered(nil, errAway)
			} else {
				s.keeper.Answered(s.stored, nil)
			}
		}
	}
}

// hear tells the keeper what its probes were answered.
func (s *stage) hear() (heard bool) {
	for _, p := range s.host.probed {
		if s.owned[p.IP] {
			heard = true
			s.claim(p.IP.String())
		}
	}
	s.host.probed = nil
	return heard
}

func (s *stage) announced(ip string) int { return s.host.announced[netip.MustParseAddr(ip)] }

func (s *stage) failed() map[string]string {
	failed := map[string]string{}
	for _, f := range s.status.Failed {
		failed[f.Address] = f.Reason + " " + f.HardwareAddress
	}
	return failed
}
