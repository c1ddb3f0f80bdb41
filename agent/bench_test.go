package agent

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// BenchmarkOneMoreOnAFullNode is what the agent computes when one address is added to a node that holds 4,999: reading
// the object, planning, scheduling announcements and making the status.
func BenchmarkOneMoreOnAFullNode(b *testing.B) {
	host := newFakeHost(b)
	entries := make([]v1alpha1.Address, v1alpha1.MaxAddresses)
	for i := range entries {
		entries[i] = hold(netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(i % 250)}).String())
	}
	object := &v1alpha1.NodeAddresses{Spec: v1alpha1.NodeAddressesSpec{Addresses: entries[:len(entries)-1]}}
	k := NewKeeper(host, Options{}, NewMetrics(metrics.NewKubeRegistry().MustRegister, nil))
	k.limiter = rate.NewLimiter(rate.Inf, 0)
	now := time.Now()
	turn := func() {
		d := read(object)
		k.desired, k.applied = &d, &d
		k.apply(b.Context(), now)
		k.announce(b.Context(), now)
		k.status()
	}
	if err := k.read(b.Context(), now); err != nil {
		b.Fatal(err)
	}
	turn()
	for b.Loop() {
		object.Spec.Addresses = entries
		turn()
		object.Spec.Addresses = entries[:len(entries)-1]
		turn()
	}
	reads, _ := host.counts()
	b.ReportMetric(float64(reads), "reads")
}

// BenchmarkAClaimOnAFullNode is what the agent computes when another machine claims one of 1,000 addresses and does not
// answer for it: the claim, two probes, the end of the round.
func BenchmarkAClaimOnAFullNode(b *testing.B) {
	host := newFakeHost(b)
	link := host.state.Links["eth0"]
	link.HardwareAddr = ourMAC
	host.state.Links["eth0"] = link
	entries := make([]v1alpha1.Address, 1000)
	for i := range entries {
		entries[i] = movedFrom("n2", hold(netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(i % 250)}).String()))
	}
	k := NewKeeper(host, Options{}, nil)
	k.Object(order(1, entries...), true)
	now := noon
	turn := func(d time.Duration) {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(min(k.Turn(b.Context(), now), end.Sub(now)))
			k.Report()
		}
	}
	turn(time.Second)
	for i := range entries {
		entries[i].Predecessor = ""
	}
	k.Object(order(2, entries...), true)
	turn(time.Minute)
	for b.Loop() {
		k.Notice(netif.Event{Kind: netif.ClaimEvent, Interface: "eth0", IP: netip.AddrFrom4([4]byte{10, 1, 1, 1}), HardwareAddr: theirMAC})
		turn(2 * time.Second)
	}
}
