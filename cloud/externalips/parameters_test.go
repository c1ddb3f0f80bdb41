package externalips

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

func poolsOf(t *testing.T, pools string) []config.Pool {
	t.Helper()
	c, err := config.Parse([]byte("apiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\nhetzner: {tokenFile: /token}\npools:\n" + pools))
	require.NoError(t, err)
	return c.Pools
}

func TestParameters(t *testing.T) {
	bought := func(pool string, addrs ...string) (leases []lb.Lease) {
		for _, a := range addrs {
			leases = append(leases, lb.Lease{Addr: netip.MustParseAddr(a), Pool: pool})
		}
		return leases
	}
	for name, tc := range map[string]struct {
		pools  string
		bought []lb.Lease
		want   map[string]string
	}{
		"a range is its prefixes": {
			`- {name: office, addresses: [192.0.2.10-192.0.2.20], interface: pl0}`, nil,
			map[string]string{"192.0.2.10_31": "office", "192.0.2.12_30": "office", "192.0.2.16_30": "office", "192.0.2.20_32": "office", "lengths.4": "32 31 30"},
		},
		"both families": {
			`- {name: office, addresses: [192.0.2.0/28, "2001:db8:1::/112", "2001:db8::1"], interface: pl0}`, nil,
			map[string]string{"192.0.2.0_28": "office", "2001-db8-1--_112": "office", "2001-db8--1_128": "office", "lengths.4": "28", "lengths.6": "128 112"},
		},
		"what is excluded is somebody else's": {
			`- {name: office, addresses: [192.0.2.0/30], exclude: [192.0.2.1], interface: pl0}`, nil,
			map[string]string{"192.0.2.0_32": "office", "192.0.2.2_31": "office", "lengths.4": "32 31"},
		},
		"what avoidBuggyIPs keeps back is the pool's": {
			`- {name: office, addresses: [10.0.0.0/8], avoidBuggyIPs: true, interface: pl0}`, nil,
			map[string]string{"10.0.0.0_8": "office", "lengths.4": "8"},
		},
		"but for what another pool gives out of it": {
			"- {name: one, addresses: [192.0.2.255, 192.0.3.0], interface: pl0}\n" +
				"- {name: all, addresses: [192.0.2.0-192.0.3.0], avoidBuggyIPs: true, interface: pl0}\n" +
				"- {name: two, addresses: [192.0.4.0], interface: pl0}\n", nil,
			map[string]string{"192.0.2.0_24": "all", "192.0.2.255_32": "one", "192.0.3.0_32": "one", "192.0.4.0_32": "two", "lengths.4": "32 24"},
		},
		"whom a pool serves": {
			"- {name: all, addresses: [192.0.2.1], interface: pl0}\n" +
				"- {name: few, addresses: [192.0.2.2], interface: pl0, loadBalancerClass: example.com/few, allowedNamespaces: [b, a]," +
				" namespaceSelector: {matchLabels: {tier: public}, matchExpressions: [{key: example.com/team, operator: NotIn, values: [y, x]}, {key: zone, operator: Exists}]}," +
				" serviceSelector: {matchLabels: {expose: ''}, matchExpressions: [{key: hidden, operator: DoesNotExist}]}}", nil,
			map[string]string{
				"192.0.2.1_32": "all", "192.0.2.2_32": "few", "lengths.4": "32",
				"pool.few.class": "example.com/few", "pool.few.namespaces": "b a",
				"pool.few.namespace-selector": "example.com/team NotIn x,y\ntier In public\nzone Exists ",
				"pool.few.service-selector":   "expose In \nhidden DoesNotExist ",
			},
		},
		"of a Floating IP for IPv6 the whole network": {
			`- {name: kept, addresses: [203.0.113.4, "2001:db8:5::/64", "2001:db8:6::9"], hetzner: {}, interface: pl0}`, nil,
			map[string]string{"203.0.113.4_32": "kept", "2001-db8-5--_64": "kept", "2001-db8-6--_64": "kept", "lengths.4": "32", "lengths.6": "64"},
		},
		"what is bought, as long as it is held": {
			"- {name: rented, hetzner: {ephemeral: {types: [ipv4, ipv6]}}, interface: pl0, allowedNamespaces: [a]}\n" +
				"- {name: unused, hetzner: {ephemeral: {types: [ipv4]}}, interface: pl0, allowedNamespaces: [a]}\n",
			append(bought("rented", "203.0.113.9", "2001:db8:7::1"), bought("gone", "203.0.113.10")...),
			map[string]string{"203.0.113.9_32": "rented", "2001-db8-7--_64": "rented", "lengths.4": "32", "lengths.6": "64", "pool.rented.namespaces": "a"},
		},
		"an address that is held is not bought": {
			`- {name: office, addresses: [192.0.2.1], interface: pl0}`, bought("office", "198.51.100.7"),
			map[string]string{"192.0.2.1_32": "office", "lengths.4": "32"},
		},
		"the host of an updater is not a pool's": {
			`- {name: edge, updater: {urls: ["http://192.0.2.1:3000/"], host: 192.0.2.1, portRange: {low: 80, high: 90}}, allowedNamespaces: [a]}`, nil,
			map[string]string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Parameters(poolsOf(t, tc.pools), tc.bought)
			assert.Equal(t, tc.want, got)
			for key := range got {
				assert.Empty(t, validation.IsConfigMapKey(key), key)
			}
		})
	}
}

// Whatever a pool is called, its rules are not taken for addresses, nor the other way round.
func TestKeysAreTold(t *testing.T) {
	for key := range Parameters(poolsOf(t, `- {name: "4", addresses: ["::ffff:1:0:0/96", 192.0.2.1], allowedNamespaces: [a], interface: pl0}`), nil) {
		isAddress := strings.Contains(key, "_")
		assert.Equal(t, isAddress, !strings.HasPrefix(key, "pool.") && !strings.HasPrefix(key, "lengths."), key)
	}
}
