package agent

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"
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
