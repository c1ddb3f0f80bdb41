package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// A keeper lives on the clock that it is given, and the same story has the same end, step by step.
func TestAKeeperIsDeterministic(t *testing.T) {
	story := func() string {
		host := newFakeHost(t)
		host.refuse[netip.MustParseAddr("10.0.0.13")] = errors.New("no")
		k := NewKeeper(host, Options{BootID: "boot"}, nil)
		var reports []v1alpha1.NodeAddressesStatus
		now := noon
		play := func(d time.Duration) {
			for end := now.Add(d); now.Before(end); {
				wait := k.Turn(t.Context(), now)
				if status, ok := k.Report(); ok {
					reports = append(reports, status)
				}
				now = now.Add(max(wait, time.Millisecond))
			}
		}
		var entries []v1alpha1.Address
		for i := range 20 {
			entries = append(entries, hold(fmt.Sprintf("10.0.0.%d", 10+i)), hold(fmt.Sprintf("fd00::%d", 10+i)))
		}
		k.Object(order(1, entries...), true)
		play(10 * time.Second)
		k.Object(order(2, entries[:25]...), true)
		play(time.Second)
		k.Object(nil, false)
		k.Notice(netif.Event{Kind: netif.LostEvent})
		play(10 * time.Second)
		require.NotEmpty(t, reports)
		last := reports[len(reports)-1]
		assert.EqualValues(t, 2, last.ObservedGeneration)
		assert.EqualValues(t, 24, last.Bound)
		assert.Len(t, last.Failed, 1)
		assert.Len(t, host.bound(), 24)
		return fmt.Sprint(host.steps, host.announced, reports)
	}
	first := story()
	for range 10 {
		assert.Equal(t, first, story())
	}
}
