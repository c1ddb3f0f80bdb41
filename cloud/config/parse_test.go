package config

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const header = "apiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\n"

// rangesOf writes a set as a user would.
func rangesOf(set *netipx.IPSet) []string {
	var all []string
	for _, r := range set.Ranges() {
		all = append(all, rangeString(r))
	}
	return all
}

func TestEveryKeyIsTaken(t *testing.T) {
	c, err := Load("testdata/full.yaml")
	require.NoError(t, err)

	hetzner := &Account{TokenFile: "/etc/mooring/secrets/hcloud-token", Endpoint: "https://api.hetzner.cloud/v1", ReleaseOrphans: true}
	assert.False(t, c.InitializeNodes)
	assert.Equal(t, hetzner, c.Hetzner)
	assert.Equal(t, Failover{ProbeInterval: 250 * time.Millisecond, FailureThreshold: 4, EvacuateCordoned: true}, c.Failover)
	assert.Equal(t, 5*time.Minute, c.ResyncInterval)
	require.Len(t, c.Pools, 4)

	office := c.Pools[0]
	assert.Equal(t, []string{"192.0.2.7", "192.0.2.10-192.0.2.14", "192.0.2.16-192.0.2.20", "192.0.2.32-192.0.2.47",
		"2001:db8:1::-2001:db8:1::ffff"}, rangesOf(office.Addresses))
	assert.True(t, office.NamespaceSelector.Matches(labels.Set{"tier": "public"}))
	assert.False(t, office.NamespaceSelector.Matches(labels.Set{}))
	assert.True(t, office.ServiceSelector.Matches(labels.Set{"expose": "yes"}))
	assert.False(t, office.ServiceSelector.Matches(labels.Set{"expose": "no"}))
	assert.True(t, office.NodeSelector.Matches(labels.Set{"edge": "true"}))
	assert.False(t, office.NodeSelector.Matches(labels.Set{"edge": "false"}))
	office.Addresses, office.Block, office.NamespaceSelector, office.ServiceSelector, office.NodeSelector = nil, nil, nil, nil, nil
	assert.Equal(t, Pool{
		Name: "office", Priority: 10, LoadBalancerClass: "example.com/office",
		AllowedNamespaces: []string{"project1", "project2"},
		Tolerations: []corev1.Toleration{
			{Key: "example.com/edge", Operator: corev1.TolerationOpEqual, Value: "only", Effect: corev1.TaintEffectNoExecute},
			{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		},
		IgnoreExcludeLabel: true, Interface: "pl0", Uplink: "eth0",
	}, office)

	assert.Equal(t, Pool{
		Name: "hetzner-ephemeral", AutoAssign: true, Interface: "pl0", Guard: true,
		Hetzner: &HetznerPool{Account: *hetzner, Ephemeral: &Ephemeral{
			IPv4: true, HomeLocation: "fsn1", Labels: map[string]string{"team": "web"}, Retain: true, MaxAddresses: 10,
		}},
	}, c.Pools[1])

	persistent := c.Pools[2]
	assert.Equal(t, []string{"203.0.113.4-203.0.113.5"}, rangesOf(persistent.Addresses))
	persistent.Addresses, persistent.Block = nil, nil
	assert.Equal(t, Pool{
		Name: "hetzner-persistent", Interface: "pl0", Guard: true,
		Hetzner: &HetznerPool{Takeover: true, Account: Account{
			TokenFile: "/etc/mooring/secrets/other-project-token", Endpoint: "https://api.hetzner.cloud/v1", ReleaseOrphans: true,
		}},
	}, persistent)

	assert.Equal(t, Pool{
		Name: "edge", AutoAssign: true,
		Updater: &Updater{
			URLs: []string{"http://192.0.2.1:3000/api/v1/lb", "https://192.0.2.2:3000/api/v1/lb"},
			Host: "192.0.2.1", HostAddr: netip.MustParseAddr("192.0.2.1"), PortLow: 8100, PortHigh: 8200,
			BearerTokenFile: "/etc/mooring/secrets/updater-token",
			TLS:             &TLS{CAFile: "/etc/mooring/ca.crt", CertFile: "/etc/mooring/client.crt", KeyFile: "/etc/mooring/client.key"},
			Timeout:         5 * time.Second, UDPProxyTimeout: 20 * time.Second, ProxyConnectTimeout: 3 * time.Second,
			NodeAddressTypes: []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeHostName},
		},
	}, c.Pools[3])
}

func TestDefaults(t *testing.T) {
	c, err := Parse([]byte(header + `
hetzner: {tokenFile: /token}
pools:
- {name: office, addresses: [192.0.2.7], interface: pl0}
- {name: floating, addresses: [203.0.113.4], interface: pl0, hetzner: {}}
- {name: bought, interface: pl0, hetzner: {ephemeral: {types: [ipv4, ipv6]}}}
- {name: edge, updater: {urls: ["http://lb:3000/api"], host: lb.example.com, portRange: {low: 80, high: 80}}}
`))
	require.NoError(t, err)
	account := Account{TokenFile: "/token", Endpoint: "https://api.hetzner.cloud/v1"}
	assert.True(t, c.InitializeNodes)
	assert.Equal(t, &account, c.Hetzner)
	assert.Equal(t, Failover{ProbeInterval: 300 * time.Millisecond, FailureThreshold: 3}, c.Failover)
	assert.Equal(t, 10*time.Minute, c.ResyncInterval)

	for i := range c.Pools {
		c.Pools[i].Addresses, c.Pools[i].Block = nil, nil
	}
	assert.Equal(t, []Pool{
		{Name: "office", AutoAssign: true, Interface: "pl0", ConflictDetection: true, Guard: true},
		{Name: "floating", Interface: "pl0", Guard: true, Hetzner: &HetznerPool{Account: account}},
		{Name: "bought", AutoAssign: true, Interface: "pl0", Guard: true,
			Hetzner: &HetznerPool{Account: account, Ephemeral: &Ephemeral{IPv4: true, IPv6: true}}},
		{Name: "edge", AutoAssign: true, Updater: &Updater{
			URLs: []string{"http://lb:3000/api"}, Host: "lb.example.com", PortLow: 80, PortHigh: 80,
			Timeout: 10 * time.Second, ProxyTimeout: 10 * time.Minute, UDPProxyTimeout: 30 * time.Second, ProxyConnectTimeout: 2 * time.Second,
			NodeAddressTypes: []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP}, Verify: true,
		}},
	}, c.Pools)
}

func TestAddressesLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		pool string
		want []string
	}{
		"one address":              {`addresses: [192.0.2.7]`, []string{"192.0.2.7"}},
		"spaces around a range":    {`addresses: [192.0.2.7 - 192.0.2.8]`, []string{"192.0.2.7-192.0.2.8"}},
		"IPv6 in every form":       {`addresses: ["2001:db8::1", "2001:db8::10-2001:db8::1f", "2001:db8:1::/64"]`, []string{"2001:db8::1", "2001:db8::10-2001:db8::1f", "2001:db8:1::-2001:db8:1:0:ffff:ffff:ffff:ffff"}},
		"neighbours are one range": {`addresses: [192.0.2.8/30, 192.0.2.12/30]`, []string{"192.0.2.8-192.0.2.15"}},
		"an exclude that is wider": {"addresses: [192.0.2.10-192.0.2.20]\n  exclude: [192.0.2.0/28]", []string{"192.0.2.16-192.0.2.20"}},
		"buggy addresses": {"addresses: [192.0.1.254-192.0.4.1]\n  avoidBuggyIPs: true",
			[]string{"192.0.1.254", "192.0.2.1-192.0.2.254", "192.0.3.1-192.0.3.254", "192.0.4.1"}},
		"IPv6 has no buggy addresses": {"addresses: [\"2001:db8::/120\"]\n  avoidBuggyIPs: true", []string{"2001:db8::-2001:db8::ff"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse([]byte(header + "pools:\n- name: office\n  interface: pl0\n  " + tc.pool))
			require.NoError(t, err)
			assert.Equal(t, tc.want, rangesOf(c.Pools[0].Addresses))
		})
	}
}

// Whoever lists a block owns all of it but what is excluded, given out or not.
func TestBuggyAddressesStayInTheBlock(t *testing.T) {
	c, err := Parse([]byte(header + `
pools:
- {name: office, addresses: [192.0.2.0/23], exclude: [192.0.3.255], avoidBuggyIPs: true, interface: pl0}
`))
	require.NoError(t, err)
	assert.Equal(t, []string{"192.0.2.0-192.0.3.254"}, rangesOf(c.Pools[0].Block))
}

// What one pool excludes another may give out.
func TestPoolsAreCutOutOfEachOther(t *testing.T) {
	c, err := Parse([]byte(header + `
pools:
- {name: all, addresses: [192.0.2.0/24], exclude: [192.0.2.10], interface: pl0}
- {name: one, addresses: [192.0.2.10], interface: pl0}
`))
	require.NoError(t, err)
	assert.Equal(t, []string{"192.0.2.0-192.0.2.9", "192.0.2.11-192.0.2.255"}, rangesOf(c.Pools[0].Addresses))
	assert.Equal(t, []string{"192.0.2.10"}, rangesOf(c.Pools[1].Addresses))
}

func TestAliasesAreFollowed(t *testing.T) {
	c, err := Parse([]byte(header + `
pools:
- {name: a, addresses: [192.0.2.7], interface: pl0, nodeSelector: &edge {matchLabels: {edge: "true"}}}
- {name: b, addresses: [192.0.2.8], interface: pl0, nodeSelector: *edge}
`))
	require.NoError(t, err)
	assert.Equal(t, "edge=true", c.Pools[1].NodeSelector.String())
}

// Each mistake of a file with many comes in the one error: keys that cannot be read and values that cannot be
// meant.
func TestEveryMistakeAtOnce(t *testing.T) {
	_, err := Load("testdata/mistakes.yaml")
	require.Error(t, err)
	want, readErr := os.ReadFile("testdata/mistakes.txt")
	require.NoError(t, readErr)
	assert.Equal(t, strings.TrimSpace(string(want)), err.Error())
}

func TestLoadNamesTheFileThatIsMissing(t *testing.T) {
	_, err := Load("testdata/absent.yaml")
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.EqualError(t, err, "read the cloud-config: open testdata/absent.yaml: no such file or directory")
}

func TestServesClass(t *testing.T) {
	c, err := Load("testdata/full.yaml")
	require.NoError(t, err)
	assert.True(t, c.ServesClass("example.com/office"))
	assert.True(t, c.ServesClass(""), "the other pools have no class")
	assert.False(t, c.ServesClass("example.com/lab"))
	assert.False(t, (&Config{Pools: c.Pools[:1]}).ServesClass(""), "no pool without a class")
}

// Of an IPv6 Floating IP one address is given out: the one that is listed, or the first of a /64.
func TestFloatingIPs(t *testing.T) {
	c, err := Parse([]byte(header + `
hetzner: {tokenFile: /token}
pools:
- name: floating
  addresses: [203.0.113.4/31, "2001:db8:1::/64", "2001:db8:2::5", "2001:db8:3::9/128", "2001:db8:4::/64"]
  exclude: ["2001:db8:4::/64"]
  interface: none
  hetzner: {}
- {name: more, addresses: ["2001:db8:5::1"], interface: pl0, hetzner: {}}
- {name: office, addresses: ["2001:db8:5::/112"], exclude: ["2001:db8:5::1"], interface: pl0}
`))
	require.NoError(t, err)
	assert.Equal(t, "[203.0.113.4-203.0.113.5 2001:db8:1::1-2001:db8:1::1 2001:db8:2::5-2001:db8:2::5 2001:db8:3::9-2001:db8:3::9]",
		fmt.Sprint(c.Pools[0].Addresses.Ranges()))
	assert.Equal(t, InterfaceNone, c.Pools[0].Interface)
}

func TestBuys(t *testing.T) {
	const listed = "{name: floating, addresses: [203.0.113.4], interface: pl0, hetzner: {}}"
	for pools, want := range map[string]bool{
		"[" + listed + "]": false,
		"[" + listed + ", {name: bought, interface: none, hetzner: {ephemeral: {types: [ipv6]}}}]": true,
	} {
		c, err := Parse([]byte(header + "hetzner: {tokenFile: /token}\npools: " + pools))
		require.NoError(t, err)
		assert.Equal(t, want, Buys(c), pools)
	}
}
