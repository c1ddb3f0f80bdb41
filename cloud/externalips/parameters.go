// Package externalips keeps current what the admission policy of manifests/base/external-ips-policy.yaml knows of the
// pools: which address belongs to which pool, and which Services that pool serves.
//
// It decides nothing: the policy does, in the API server, for whoever writes a Service. What it needs stands in one
// ConfigMap, which is written when it is not what follows from the cloud-config, and only then.
package externalips

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// floatingIPv6 is how long the prefix is that is rented, and routed to a server, with an IPv6 Floating IP.
const floatingIPv6 = 64

// Parameters is the content of the ConfigMap, for the pools of a cloud-config and what was bought for Services.
//
// Addresses are written as prefixes, one key each, whose value is the name of the pool: 192.0.2.8_30 and
// 2001-db8-1--_112, because a key has neither colons nor slashes. So an expression of a policy finds the pool of an
// address by one look for each length of a prefix that is in use (lengths.4 and lengths.6, the longest first), and not
// by one for each range: the cost does not grow with the ranges.
//
// pool.NAME.class, .namespaces (separated by spaces), .namespace-selector and .service-selector (one requirement a line:
// key, operator, values separated by commas) are whom the pool serves; what does not narrow the pool is absent.
//
// Of a Floating IP for IPv6 the whole network belongs to the pool. Pools with an updater have no addresses: their host is a
// machine that serves others too.
func Parameters(pools []config.Pool, bought []lb.Lease) map[string]string {
	data := map[string]string{}
	lengths := map[string]map[int]bool{"lengths.4": {}, "lengths.6": {}}
	add := func(p *config.Pool, prefix netip.Prefix) {
		key := strings.NewReplacer("/", "_", ":", "-").Replace(prefix.String())
		// An address that one pool keeps back because of avoidBuggyIPs another one may give out.
		if data[key] != "" && (p.Addresses == nil || !p.Addresses.Contains(prefix.Addr())) {
			return
		}
		data[key] = p.Name
		family := "lengths.4"
		if prefix.Addr().Is6() {
			family = "lengths.6"
		}
		lengths[family][prefix.Bits()] = true
	}
	for i := range pools {
		p := &pools[i]
		var addresses netipx.IPSetBuilder
		if p.Block != nil {
			addresses.AddSet(p.Block)
		}
		for _, lease := range bought {
			if lease.Pool == p.Name && p.Hetzner != nil && p.Hetzner.Ephemeral != nil {
				addresses.Add(lease.Addr)
			}
		}
		set, _ := addresses.IPSet() // there is no error without RemoveSet of what is invalid
		if len(set.Prefixes()) == 0 {
			continue
		}
		for _, prefix := range set.Prefixes() {
			if p.Hetzner != nil && prefix.Addr().Is6() {
				prefix = netip.PrefixFrom(prefix.Addr(), floatingIPv6).Masked()
			}
			add(p, prefix)
		}
		serves(data, p)
	}
	for key, bits := range lengths {
		if len(bits) > 0 {
			descending := slices.SortedFunc(maps.Keys(bits), func(a, b int) int { return b - a })
			data[key] = strings.Trim(fmt.Sprint(descending), "[]")
		}
	}
	return data
}

// serves writes whom a pool serves.
func serves(data map[string]string, p *config.Pool) {
	for what, text := range map[string]string{
		"class":              p.LoadBalancerClass,
		"namespaces":         strings.Join(p.AllowedNamespaces, " "),
		"namespace-selector": requirements(p.NamespaceSelector),
		"service-selector":   requirements(p.ServiceSelector),
	} {
		if text != "" {
			data["pool."+p.Name+"."+what] = text
		}
	}
}

// operators of requirements, by the names of a LabelSelector.
var operators = map[selection.Operator]string{
	selection.Equals: "In", selection.DoubleEquals: "In", selection.In: "In", selection.NotIn: "NotIn",
	selection.Exists: "Exists", selection.DoesNotExist: "DoesNotExist",
}

// requirements of a selector that was made of a LabelSelector, one a line; nil selects everything and has none.
func requirements(selector labels.Selector) string {
	if selector == nil {
		return ""
	}
	all, _ := selector.Requirements()
	lines := make([]string, len(all))
	for i, r := range all {
		lines[i] = fmt.Sprintf("%s %s %s", r.Key(), operators[r.Operator()], strings.Join(slices.Sorted(maps.Keys(r.Values())), ","))
	}
	return strings.Join(lines, "\n")
}
