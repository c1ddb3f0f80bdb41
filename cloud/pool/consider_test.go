package pool_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// Whoever asks why is told by each pool in its own words, and what is told is what Assign then does.
func TestConsider(t *testing.T) {
	for name, c := range map[string]struct {
		req lb.Request
		// pools are "name: refusal", in the order of a free choice; with a * when the Service holds something of it.
		pools []string
	}{
		"no wish": {web("default/new"), []string{
			`private: does not serve namespace "default" (allowedNamespaces)`,
			`full: pool full: all 1 IPv4 addresses are in use; enlarge it or delete a Service`,
			`office: `,
			`quiet: has autoAssign: false, and annotation mooring.dev/pool does not name it`,
			`edge: `,
		}},
		"a pool": {web("default/new", inPool("quiet")), []string{
			`private: does not serve namespace "default" (allowedNamespaces)`,
			`full: is not the one that annotation mooring.dev/pool names: quiet`,
			`office: is not the one that annotation mooring.dev/pool names: quiet`,
			`quiet: `,
			`edge: is not the one that annotation mooring.dev/pool names: quiet`,
		}},
		"an address that another Service has": {web("default/new", askFor("192.0.2.10")), []string{
			`private: does not serve namespace "default" (allowedNamespaces)`,
			`full: annotation mooring.dev/addresses asks for 192.0.2.10, which is held by Service default/first: ask for another address`,
			`office: has none of the addresses that annotation mooring.dev/addresses asks for: 192.0.2.10`,
			`quiet: has none of the addresses that annotation mooring.dev/addresses asks for: 192.0.2.10`,
			`edge: has none of the addresses that annotation mooring.dev/addresses asks for: 192.0.2.10`,
		}},
		"what is held": {web("default/first"), []string{
			`private: does not serve namespace "default" (allowedNamespaces)`,
			`full*: `,
			`office: `,
			`quiet: has autoAssign: false, and annotation mooring.dev/pool does not name it`,
			`edge: `,
		}},
		"ports": {web("default/new", inPool("edge"), func(r *lb.Request) { r.ClientIP = true }), []string{
			`private: does not serve namespace "default" (allowedNamespaces)`,
			`full: is not the one that annotation mooring.dev/pool names: edge`,
			`office: is not the one that annotation mooring.dev/pool names: edge`,
			`quiet: is not the one that annotation mooring.dev/pool names: edge`,
			`edge: pool "edge", a load balancer behind an updater, does not apply spec.sessionAffinity ClientIP, because every client ` +
				`has the proxy's address: set it to None, or serve the Service with addresses of another pool (annotation mooring.dev/pool)`,
		}},
		"a port": {web("default/new", inPool("edge")), nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := pool.New([]config.Pool{
				aPool("full", "192.0.2.10", prio(1)), aPool("office", "192.0.2.20-192.0.2.21"), aPool("quiet", "192.0.2.30", named),
				aPool("private", "192.0.2.40", only("shop")),
				{Name: "edge", AutoAssign: true, Updater: &config.Updater{Host: "192.0.2.1", PortLow: 8100, PortHigh: 8101}},
			})
			gets(t, a, web("default/first"), "192.0.2.10@full")
			before := a.Usage()
			prospect := a.Consider(c.req)
			require.Equal(t, before, a.Usage(), "nothing is taken")
			if c.pools != nil {
				assert.Equal(t, c.pools, describe(prospect))
			}
			assigned := a.Assign(c.req)
			assert.Equal(t, assigned.Refusal, prospect.Refusal)
			assert.ElementsMatch(t, assigned.Want, prospect.Want)
			assert.ElementsMatch(t, assigned.Ports, prospect.Ports)
		})
	}
}

func describe(p pool.Prospect) (texts []string) {
	for _, c := range p.Pools {
		text := c.Pool
		if c.Holds {
			text += "*"
		}
		text += ": "
		if c.Refusal != nil {
			text += c.Refusal.Message
		}
		texts = append(texts, text)
	}
	return texts
}
