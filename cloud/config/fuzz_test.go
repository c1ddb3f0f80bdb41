package config

import (
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// FuzzParse: whatever is in the file, Parse says what is wrong, the same each time, or returns a Config that the
// rest of Mooring can rely on.
func FuzzParse(f *testing.F) {
	for _, path := range []string{"testdata/full.yaml", "testdata/mistakes.yaml"} {
		seed, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(seed)
	}
	for _, seed := range []string{
		"pools: [{name: a, addresses: [192.0.2.0/24, \"2001:db8::/64\"], exclude: [192.0.2.1-192.0.2.9], avoidBuggyIPs: true, interface: pl0}]",
		"pools: [{name: a, addresses: [192.0.2.1], interface: pl0}, {name: b, addresses: [192.0.2.1-192.0.2.2], interface: none}]",
		"pools: [{name: a, addresses: [192.0.2.0/24], exclude: [192.0.2.7], interface: pl0}, {name: b, addresses: [192.0.2.7], interface: pl0}]",
		"hetzner: {tokenFile: /t}\npools: [{name: a, addresses: [\"2001:db8::/64\", \"2001:db8:0:1:ffff:ffff:ffff:ffff\", \"2001:db8:0:2::\"], hetzner: {}, interface: none}, {name: b, addresses: [\"2001:db8:0:3::1\"], hetzner: {}, interface: none}]",
		"pools: &p [{name: a, addresses: *p}]",
		"pools: [{name: a, interface: pl0, tolerations: [{operator: Exists}], nodeSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}]}, addresses: [10.0.0.0/8]}]",
		"pools: [{e, e, e, [a]: b, [a]: b}]", //nolint:dupword // the fuzzer found it
		"? {a: b} : c\n!!int x: !!bool y\n<<: {kind: x}",
	} {
		f.Add([]byte(header + seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		again, errAgain := Parse(data)
		if err != nil {
			require.EqualError(t, errAgain, err.Error())
			require.Nil(t, c)
			checkMistakes(t, err)
			return
		}
		require.NoError(t, errAgain)
		require.Equal(t, again, c)
		checkConfig(t, c)
	})
}

// checkMistakes: each mistake has a path, and none comes twice.
func checkMistakes(t *testing.T, err error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return
	}
	seen := make(map[string]bool)
	for _, e := range joined.Unwrap() {
		var mistake *field.Error
		require.ErrorAs(t, e, &mistake, "%v", e)
		assert.NotEmpty(t, mistake.Field)
		assert.NotContains(t, mistake.Field, "<nil>")
		assert.NotEmpty(t, mistake.Detail+mistake.Error())
		assert.False(t, seen[e.Error()], "twice: %v", e)
		seen[e.Error()] = true
	}
}

// checkConfig states what everybody who reads a Config relies on.
func checkConfig(t *testing.T, c *Config) {
	assert.NotEmpty(t, c.Pools)
	assert.Positive(t, c.ResyncInterval)
	assert.Positive(t, c.Failover.ProbeInterval)
	assert.Positive(t, c.Failover.FailureThreshold)
	names := make(map[string]bool)
	networks := make(map[netip.Prefix]string)
	var taken netipx.IPSetBuilder
	for _, pool := range c.Pools {
		assert.NotEmpty(t, pool.Name)
		assert.False(t, names[pool.Name], "two pools have the name %s", pool.Name)
		names[pool.Name] = true

		sources := 0
		if pool.Addresses != nil {
			sources++
			checkAddresses(t, pool)
			others, err := taken.IPSet()
			require.NoError(t, err)
			assert.False(t, others.Overlaps(pool.Addresses), "pool %s shares addresses with another", pool.Name)
			taken.AddSet(pool.Addresses)
		}
		if pool.Hetzner != nil {
			assert.NotEmpty(t, pool.Hetzner.Account.TokenFile)
			assert.NotEmpty(t, pool.Hetzner.Account.Endpoint)
			checkNetworks(t, pool, networks)
			if e := pool.Hetzner.Ephemeral; e != nil {
				sources++
				assert.True(t, e.IPv4 || e.IPv6)
			}
		}
		if u := pool.Updater; u != nil {
			sources++
			assert.NotEmpty(t, u.URLs)
			assert.NotEmpty(t, u.Host)
			assert.NotEmpty(t, u.NodeAddressTypes)
			assert.Positive(t, u.Timeout)
			assert.True(t, 0 < u.PortLow && u.PortLow <= u.PortHigh)
			assert.Empty(t, pool.Interface)
		} else {
			assert.NotEmpty(t, pool.Interface)
			assert.LessOrEqual(t, len(pool.Interface), 15)
		}
		assert.Equal(t, 1, sources, "pool %s", pool.Name)
	}
}

// checkNetworks: of an IPv6 network at Hetzner one address is given out.
func checkNetworks(t *testing.T, pool Pool, networks map[netip.Prefix]string) {
	if pool.Addresses == nil {
		return
	}
	for _, r := range pool.Addresses.Ranges() {
		if r.From().Is4() {
			continue
		}
		for a, n := r.From(), 0; a.Compare(r.To()) <= 0; a, n = a.Next(), n+1 {
			if !assert.Less(t, n, 2, "pool %s has %s", pool.Name, r) {
				return
			}
			network := netip.PrefixFrom(a, 64).Masked()
			assert.Empty(t, networks[network], "%s of pool %s", a, pool.Name)
			networks[network] = pool.Name
		}
	}
}

func checkAddresses(t *testing.T, pool Pool) {
	assert.NotEmpty(t, pool.Addresses.Ranges(), "pool %s is empty", pool.Name)
	for _, r := range pool.Addresses.Ranges() {
		for _, a := range []netip.Addr{r.From(), r.To()} {
			usable := !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && !a.Is4In6()
			assert.True(t, usable, "pool %s gives out %s", pool.Name, a)
		}
	}
}
