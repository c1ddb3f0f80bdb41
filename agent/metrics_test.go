package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"github.com/mooring-lb/mooring/agent/netif"
)

// What the host did not look at in a flood of claims is counted, once.
func TestDroppedClaimsAreCounted(t *testing.T) {
	registry, dropped := metrics.NewKubeRegistry(), uint64(0)
	m := NewMetrics(registry.MustRegister, func() uint64 { return dropped })
	for _, total := range []uint64{0, 3, 3, 10} {
		dropped = total
		m.beat()
	}
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP mooring_agent_claims_dropped_total [ALPHA] Claims, and frames that may have been claims, that were not looked at because there were too many.
# TYPE mooring_agent_claims_dropped_total counter
mooring_agent_claims_dropped_total 10
`), "mooring_agent_claims_dropped_total"))
}

// What an agent reports of its addresses is what its metrics say.
func TestReportIsShown(t *testing.T) {
	registry := metrics.NewKubeRegistry()
	m := NewMetrics(registry.MustRegister, nil)
	shows := func(pending, contested, deaf int) {
		t.Helper()
		require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(fmt.Sprintf(`
# HELP mooring_agent_conflicts_undetected [ALPHA] 1 while conflicts over addresses cannot be detected, by reason: NotListening, ProxyARP.
# TYPE mooring_agent_conflicts_undetected gauge
mooring_agent_conflicts_undetected{reason="NotListening"} %d
mooring_agent_conflicts_undetected{reason="ProxyARP"} 0
# HELP mooring_agent_contested_addresses [ALPHA] Addresses held here that another machine answers for, too, as reported.
# TYPE mooring_agent_contested_addresses gauge
mooring_agent_contested_addresses %d
# HELP mooring_agent_pending_addresses [ALPHA] Addresses of which the agent has not done yet what it is told, as reported.
# TYPE mooring_agent_pending_addresses gauge
mooring_agent_pending_addresses %d
`, deaf, contested, pending)), "mooring_agent_pending_addresses", "mooring_agent_contested_addresses", "mooring_agent_conflicts_undetected"))
	}
	shows(0, 0, 0)

	s := newStage(t)
	s.keeper.metrics = m
	s.watch(order(1, hold(vip4)))
	s.play(time.Minute)
	s.take(vip4)
	s.claim(vip4)
	s.host.deaf = errors.New("no socket")
	s.keeper.Notice(netif.Event{Kind: netif.DeafEvent, Interface: "eth0"})
	s.play(time.Second)
	require.Len(t, s.status.Contested, 1)
	shows(0, 1, 1)
}
