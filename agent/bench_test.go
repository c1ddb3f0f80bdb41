package agent

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
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
	k := NewKeeper(host, Options{}, NewMetrics(metrics.NewKubeRegistry().MustRegister))
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
