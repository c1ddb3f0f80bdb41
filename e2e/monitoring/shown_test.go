package monitoring

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const scrape = `# HELP pool_size Addresses.
# TYPE pool_size gauge
pool_size{pool="office",state="size"} 10
pool_size{pool="office",state="used"} 1
# HELP wait_seconds How long.
# TYPE wait_seconds histogram
wait_seconds_bucket{name="a",le="1"} 1
wait_seconds_bucket{name="a",le="+Inf"} 1
wait_seconds_sum{name="a"} 0.5
wait_seconds_count{name="a"} 1
# HELP mooring_agent_bound Bound.
# TYPE mooring_agent_bound gauge
mooring_agent_bound 3
`

// Whoever renames a metric, a label or a value is told which alert or panel looks for it.
func TestMissing(t *testing.T) {
	shown := Shown{}
	require.NoError(t, shown.Add(strings.NewReader(scrape)))
	for expr, missing := range map[string][]string{
		`max by (pool) (pool_size{state="used"}) > 0`:                                          nil,
		`pool_size{state="used"} / on (instance, pool) pool_size{state=~"size|other"}`:         nil,
		`histogram_quantile(0.9, sum by (le, name) (rate(wait_seconds_bucket[5m])))`:           nil,
		`increase(wait_seconds_count[1h])`:                                                     nil,
		`up{job="mooring-agent"} == 0`:                                                         nil,
		`sum by (node) (mooring_agent_bound)`:                                                  nil,
		`absent(pool_siz)`:                                                                     {"no metric pool_siz"},
		`pool_size{state="free"}`:                                                              {`pool_size{state="free"} matches nothing that is shown`},
		`pool_size{family="IPv4"}`:                                                             {"pool_size has no label family", `pool_size{family="IPv4"} matches nothing that is shown`},
		`sum by (zone) (pool_size)`:                                                            {"pool_size has no label zone"},
		`pool_size / on (node) mooring_agent_bound`:                                            {"pool_size has no label node"},
		`max_over_time(pool_size[5m]) and on (pool) (wait_seconds_sum or mooring_agent_bound)`: {"wait_seconds_sum has no label pool", "mooring_agent_bound has no label pool"},
	} {
		found, err := shown.Missing(expr)
		require.NoError(t, err)
		assert.Equal(t, missing, found, expr)
	}
	_, err := shown.Missing(`sum by (`)
	require.Error(t, err)
}
