package cloud

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/testutil"

	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/probe"
	"github.com/mooring-lb/mooring/cloud/service"
)

// However many Services there are, there is a series for each state and reason, and the one that has waited longest is not
// lost among them.
func TestServicesAreCountedByStateAndReason(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	ago := func(state service.State, reason string, d time.Duration) service.Standing {
		return service.Standing{State: state, Reason: reason, Since: noon.Add(-d)}
	}
	registry := metrics.NewKubeRegistry()
	newInstruments(registry, &stats{
		ledger:   func() *ledger.Ledger { return ledger.New(parseConfig(t, edgePool), ledger.Rental{}, 1) },
		probe:    func() probe.Stats { return probe.Stats{} },
		updaters: func() []updaterHealth { return nil },
		accounts: func() []accountState { return []accountState{{account: "a", failures: 3, tokenRefused: true}} },
		services: func() []service.Standing {
			return []service.Standing{
				ago(service.StateBound, "Bound", time.Hour), ago(service.StateBound, "Bound", time.Minute),
				ago(service.StateWaiting, "PoolExhausted", time.Minute), ago(service.StateWaiting, "PoolExhausted", 3*time.Minute),
				ago(service.StateWaiting, "PoolExhausted", 2*time.Minute), ago(service.StateDown, "NoEligibleNode", time.Second),
			}
		},
		now: func() time.Time { return noon },
	})
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP mooring_account_read_failures [ALPHA] How often in a row the account could not be read.
# TYPE mooring_account_read_failures gauge
mooring_account_read_failures{account="a"} 3
# HELP mooring_account_token_refused [ALPHA] 1 when the token in the file of the account is not in use because it was refused, else 0.
# TYPE mooring_account_token_refused gauge
mooring_account_token_refused{account="a"} 1
# HELP mooring_service_trouble_seconds [ALPHA] For how long the Service that has been in this state for longest is in it, of those with this reason.
# TYPE mooring_service_trouble_seconds gauge
mooring_service_trouble_seconds{reason="NoEligibleNode",state="down"} 1
mooring_service_trouble_seconds{reason="PoolExhausted",state="waiting"} 180
# HELP mooring_services [ALPHA] Services by state: bound, degraded (published, and something asked for is not done), waiting (no address yet), down (published, and an address of it is bound by no node), releasing.
# TYPE mooring_services gauge
mooring_services{state="bound"} 2
mooring_services{state="degraded"} 0
mooring_services{state="down"} 1
mooring_services{state="releasing"} 0
mooring_services{state="waiting"} 3
# HELP mooring_services_in_trouble [ALPHA] Services that are not bound, by state and by the reason in their condition.
# TYPE mooring_services_in_trouble gauge
mooring_services_in_trouble{reason="NoEligibleNode",state="down"} 1
mooring_services_in_trouble{reason="PoolExhausted",state="waiting"} 3
`), "mooring_services", "mooring_services_in_trouble", "mooring_service_trouble_seconds", "mooring_account_read_failures",
		"mooring_account_token_refused"))
}
