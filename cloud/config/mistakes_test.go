package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The messages are what a user works with: each names the key, the value and the way out.
func TestMistakes(t *testing.T) {
	office := func(body string) string {
		return "pools:\n- name: office\n  interface: pl0\n  " + strings.ReplaceAll(body, "\n", "\n  ")
	}
	with := func(top string) string { return top + "\n" + office("addresses: [192.0.2.7]") }
	bought := func(body string) string {
		return "hetzner: {tokenFile: /token}\npools:\n- {name: bought, interface: pl0, hetzner: " + body + "}"
	}
	floating := func(addresses string) string {
		return "hetzner: {tokenFile: /token}\npools:\n- {name: floating, interface: pl0, hetzner: {}, addresses: " + addresses + "}"
	}
	edge := func(body string) string {
		return "pools:\n- {name: edge, updater: {urls: [\"https://192.0.2.1/lb\"], host: 192.0.2.1, portRange: {low: 80, high: 90}, " + body + "}}"
	}
	const (
		oneSource  = "pools[0]: Required value: the pool has nothing to give out: write exactly one of addresses, hetzner.ephemeral, updater"
		forms      = "is not an address, a CIDR or a range: write it as in 192.0.2.7, 192.0.2.32/28, 192.0.2.10-192.0.2.20 or 2001:db8:1::/112"
		label      = "must be at most 63 of a-z, 0-9 and -, with a letter or a digit first and last"
		duration   = "must be a duration with its unit, such as 300ms, 10s or 10m"
		noUpdater  = "an updater pool binds no addresses to nodes: remove it"
		perNetwork = "an IPv6 Floating IP is a /64, routed to one server, of which one address is used: write each one as in 2001:db8:1::/64 or as in 2001:db8:1::1"
		ifname     = "the name of an interface has no space, slash, colon, percent sign or special letter: choose another, such as pl0"
	)
	for name, tc := range map[string]struct{ file, want string }{
		// The top.
		"no pools":            {"", "pools: Required value: without a pool there is nothing to give out: write at least one, such as {name: office, addresses: [192.0.2.10-192.0.2.20], interface: pl0}"},
		"empty pools":         {"pools: []", "pools: Required value: without a pool there is nothing to give out: write at least one, such as {name: office, addresses: [192.0.2.10-192.0.2.20], interface: pl0}"},
		"pools are a mapping": {"pools: {a: b}", "pools: Invalid value: this is a mapping: must be a list"},
		"key without a value": {with("hetzner:"), "hetzner: Required value: the key has no value: give it one or remove the key"},
		"unknown key":         {with("dns: yes"), "dns: Forbidden: unknown key: the keys here are apiVersion, failover, hetzner, initializeNodes, kind, pools, resyncInterval"},
		"a word for a bool":   {with("initializeNodes: yes"), `initializeNodes: Invalid value: "yes": must be true or false, without quotes`},
		"duration, no unit":   {with("resyncInterval: 10"), `resyncInterval: Invalid value: "10": ` + duration},
		"duration too short":  {with("resyncInterval: 10ms"), `resyncInterval: Invalid value: "10ms": must be between 1s and 24h`},
		"negative duration":   {with("failover: {probeInterval: -1s}"), `failover.probeInterval: Invalid value: "-1s": must be between 10ms and 1m`},
		"threshold of zero":   {with("failover: {failureThreshold: 0}"), "failover.failureThreshold: Invalid value: 0: must be between 1 and 100"},
		"account, no token":   {with("hetzner: {orphans: report}"), "hetzner.tokenFile: Required value: name the file that holds the API token of the project, such as /etc/mooring/secrets/hcloud-token"},
		"relative secret":     {with("hetzner: {tokenFile: secrets/token}"), `hetzner.tokenFile: Invalid value: "secrets/token": must be an absolute path, such as /etc/mooring/secrets/token: what a relative path means depends on where the controller was started`},
		"orphans":             {with("hetzner: {tokenFile: /token, orphans: keep}"), `hetzner.orphans: Unsupported value: "keep": supported values: "report", "release"`},
		"endpoint":            {with("hetzner: {tokenFile: /token, endpoint: api.hetzner.cloud}"), `hetzner.endpoint: Invalid value: "api.hetzner.cloud": must be a URL with http or https and a host, such as https://192.0.2.1:3000/api`},

		"key three times": {with("resyncInterval: 1m\nresyncInterval: 2m\nresyncInterval: 3m"), "resyncInterval: Duplicate value: the key stands in line 3 and again in line 4: keep one"},

		"keys that are lists": {"pools: [{[a]: b, [c]: d, name: office, addresses: [192.0.2.7], interface: pl0}]",
			"pools[0]: Invalid value: a list stands where a key must be, in line 3, column 10\npools[0]: Invalid value: a list stands where a key must be, in line 3, column 18"},

		// Sources.
		"no source":             {"pools: [{name: office}]", oneSource},
		"addresses and updater": {office("addresses: [192.0.2.7]\nupdater: {urls: [\"http://lb\"], host: lb, portRange: {low: 80, high: 90}}"), "pools[0].updater: Forbidden: the pool has addresses: a pool has one source; make two pools of it"},
		"addresses and bought":  {"hetzner: {tokenFile: /token}\n" + office("addresses: [192.0.2.7]\nhetzner: {ephemeral: {types: [ipv4]}}"), "pools[0].hetzner.ephemeral: Forbidden: the pool has addresses: a pool buys addresses or lists them; make two pools of it"},
		"hetzner and updater":   {"hetzner: {tokenFile: /token}\npools:\n- {name: edge, hetzner: {}, updater: {urls: [\"http://lb\"], host: lb, portRange: {low: 80, high: 90}}}", "pools[0].updater: Forbidden: the pool has hetzner: a pool has one source; make two pools of it"},
		"hetzner, no addresses": {bought("{}"), "pools[0].addresses: Required value: list the Floating IPs of the pool in addresses, or have them bought with hetzner.ephemeral"},

		// What every pool has.
		"no name":              {"pools: [{addresses: [192.0.2.7], interface: pl0}]", "pools[0].name: Required value: give the pool a name, such as office: Services and messages call it by that"},
		"name is no label":     {"pools: [{name: my.pool, addresses: [192.0.2.7], interface: pl0}]", `pools[0].name: Invalid value: "my.pool": ` + label},
		"name is a number":     {"pools: [{name: 7, addresses: [192.0.2.7], interface: pl0}]", `pools[0].name: Invalid value: "7": must be a string: put it in quotes, as in "7"`},
		"name twice":           {"pools:\n- {name: a, addresses: [192.0.2.7], interface: pl0}\n- {name: a, addresses: [192.0.2.8], interface: pl0}", `pools[1].name: Invalid value: "a": pools[0] has this name already: names of pools are unique`},
		"class":                {office("addresses: [192.0.2.7]\nloadBalancerClass: a/b/c"), `pools[0].loadBalancerClass: Invalid value: "a/b/c": must be a name with an optional domain before it, as in example.com/office: at most 63 letters, digits, -, _ and .`},
		"empty class":          {office("addresses: [192.0.2.7]\nloadBalancerClass: ''"), `pools[0].loadBalancerClass: Invalid value: "": must be a name with an optional domain before it, as in example.com/office: at most 63 letters, digits, -, _ and .`},
		"namespace":            {office("addresses: [192.0.2.7]\nallowedNamespaces: [Web]"), `pools[0].allowedNamespaces[0]: Invalid value: "Web": ` + label},
		"namespace twice":      {office("addresses: [192.0.2.7]\nallowedNamespaces: [web, web]"), `pools[0].allowedNamespaces[1]: Invalid value: "web": stands in pools[0].allowedNamespaces[0] already: keep one`},
		"namespaces are null":  {office("addresses: [192.0.2.7]\nallowedNamespaces:"), "pools[0].allowedNamespaces: Required value: the key has no value: give it one or remove the key"},
		"selector operator":    {office("addresses: [192.0.2.7]\nnodeSelector: {matchExpressions: [{key: edge, operator: in, values: [a]}]}"), `pools[0].nodeSelector.matchExpressions[0].operator: Invalid value: "in": not a valid selector operator`},
		"selector number":      {office("addresses: [192.0.2.7]\nnodeSelector: {matchLabels: {edge: true}}"), `pools[0].nodeSelector.matchLabels[edge]: Invalid value: "true": must be a string: put it in quotes, as in "true"`},
		"selector of labels":   {office("addresses: [192.0.2.7]\nserviceSelector: {expose: web}"), "pools[0].serviceSelector.expose: Forbidden: unknown key: the keys here are matchExpressions, matchLabels"},
		"toleration effect":    {office("addresses: [192.0.2.7]\ntolerations: [{key: a, effect: NoSchedule}]"), `pools[0].tolerations[0].effect: Unsupported value: "NoSchedule": supported values: "NoExecute"`},
		"toleration operator":  {office("addresses: [192.0.2.7]\ntolerations: [{key: a, operator: Lt}]"), `pools[0].tolerations[0].operator: Unsupported value: "Lt": supported values: "Equal", "Exists"`},
		"toleration, no key":   {office("addresses: [192.0.2.7]\ntolerations: [{value: a}]"), "pools[0].tolerations[0].key: Required value: name the key of the taint, or write operator: Exists to tolerate every NoExecute taint"},
		"toleration and value": {office("addresses: [192.0.2.7]\ntolerations: [{key: a, operator: Exists, value: b}]"), `pools[0].tolerations[0].value: Invalid value: "b": operator Exists looks at no value: remove value, or write operator: Equal`},

		// Addresses.
		"empty addresses":          {office("addresses: []"), "pools[0].addresses: Required value: the list is empty: write addresses such as 192.0.2.7, 192.0.2.32/28 or 192.0.2.10-192.0.2.20, or remove the pool"},
		"no address":               {office("addresses: [office]"), `pools[0].addresses[0]: Invalid value: "office": ` + forms},
		"leading zero":             {office("addresses: [192.0.2.07]"), `pools[0].addresses[0]: Invalid value: "192.0.2.07": ` + forms},
		"unquoted final colons":    {office("addresses:\n- 2001:db8::"), "pools[0].addresses[0]: Invalid value: this is a mapping: must be a single value; a value that ends in a colon, or holds one before a space, stands in quotes"},
		"reversed range":           {office("addresses: [192.0.2.20-192.0.2.10]"), `pools[0].addresses[0]: Invalid value: "192.0.2.20-192.0.2.10": the range ends before it begins: write 192.0.2.10-192.0.2.20`},
		"short range":              {office("addresses: [192.0.2.10-20]"), `pools[0].addresses[0]: Invalid value: "192.0.2.10-20": the end of a range is a whole address: write 192.0.2.10-192.0.2.20`},
		"range without an end":     {office("addresses: [192.0.2.10-]"), `pools[0].addresses[0]: Invalid value: "192.0.2.10-": ` + forms},
		"range of two families":    {office(`addresses: ["192.0.2.10-2001:db8::1"]`), `pools[0].addresses[0]: Invalid value: "192.0.2.10-2001:db8::1": the range begins in one IP family and ends in the other: write one range for each family`},
		"range of CIDRs":           {office("addresses: [192.0.2.0/28-192.0.2.32/28]"), `pools[0].addresses[0]: Invalid value: "192.0.2.0/28-192.0.2.32/28": a range goes from an address to an address, without /: write it as in 192.0.2.10-192.0.2.20`},
		"host bits":                {office("addresses: [192.0.2.37/28]"), `pools[0].addresses[0]: Invalid value: "192.0.2.37/28": the address is not the first of its /28: write 192.0.2.32/28 for the whole block, or 192.0.2.37 for the one address`},
		"mask too long":            {office("addresses: [192.0.2.0/33]"), `pools[0].addresses[0]: Invalid value: "192.0.2.0/33": what follows the / must be a number from 0 to 32`},
		"netmask":                  {office("addresses: [192.0.2.0/255.255.255.0]"), `pools[0].addresses[0]: Invalid value: "192.0.2.0/255.255.255.0": what follows the / must be a number from 0 to 32`},
		"zone":                     {office(`addresses: ["2001:db8::1%eth0"]`), `pools[0].addresses[0]: Invalid value: "2001:db8::1%eth0": an address of a pool has no zone: write 2001:db8::1`},
		"mapped":                   {office(`addresses: ["::ffff:192.0.2.1"]`), `pools[0].addresses[0]: Invalid value: "::ffff:192.0.2.1": is an IPv4 address in IPv6 form: write 192.0.2.1`},
		"mapped block":             {office(`addresses: ["::ffff:192.0.2.0/120"]`), `pools[0].addresses[0]: Invalid value: "::ffff:192.0.2.0/120": is an IPv4 block in IPv6 form: write it as in 192.0.2.32/28`},
		"range over mapped":        {office(`addresses: ["::2-::1:0:0:0"]`), `pools[0].addresses[0]: Invalid value: "::2-::1:0:0:0": addresses of ::ffff:0:0/96 are IPv4 addresses in IPv6 form and cannot be given out: take them out`},
		"unspecified":              {office("addresses: [0.0.0.0]"), `pools[0].addresses[0]: Invalid value: "0.0.0.0": addresses of 0.0.0.0/8 mean this host and cannot be given out: take them out`},
		"loopback":                 {office("addresses: [126.255.255.0-127.0.0.1]"), `pools[0].addresses[0]: Invalid value: "126.255.255.0-127.0.0.1": addresses of 127.0.0.0/8 are loopback and cannot be given out: take them out`},
		"link-local":               {office(`addresses: ["fe80::1"]`), `pools[0].addresses[0]: Invalid value: "fe80::1": addresses of fe80::/10 are link-local and cannot be given out: take them out`},
		"multicast":                {office("addresses: [224.0.0.0/24]"), `pools[0].addresses[0]: Invalid value: "224.0.0.0/24": addresses of 224.0.0.0/4 are multicast and cannot be given out: take them out`},
		"larger than anybody's":    {office("addresses: [0.0.0.0/0]"), `pools[0].addresses[0]: Invalid value: "0.0.0.0/0": is larger than a /8, the largest block that a pool takes: write a smaller one`},
		"address twice":            {office("addresses: [192.0.2.10-192.0.2.20, 192.0.2.16/28]"), `pools[0].addresses[1]: Invalid value: "192.0.2.16/28": overlaps pools[0].addresses[0] (192.0.2.10-192.0.2.20) in 192.0.2.16-192.0.2.20: list an address once`},
		"IPv6 address twice":       {office(`addresses: ["2001:db8::/112", "2001:db8::7"]`), `pools[0].addresses[1]: Invalid value: "2001:db8::7": overlaps pools[0].addresses[0] (2001:db8::/112) in 2001:db8::7: list an address once`},
		"exclude outside":          {office("addresses: [192.0.2.10-192.0.2.20]\nexclude: [192.0.2.21]"), `pools[0].exclude[0]: Invalid value: "192.0.2.21": lies outside of the pool's addresses and excludes nothing: correct or remove it`},
		"exclude is no address":    {office("addresses: [192.0.2.10-192.0.2.20]\nexclude: [192.0.2.15/31]"), `pools[0].exclude[0]: Invalid value: "192.0.2.15/31": the address is not the first of its /31: write 192.0.2.14/31 for the whole block, or 192.0.2.15 for the one address`},
		"everything excluded":      {office("addresses: [192.0.2.0, 192.0.2.7]\nexclude: [192.0.2.7]\navoidBuggyIPs: true"), `pools[0].addresses: Invalid value: "192.0.2.0, 192.0.2.7": exclude and avoidBuggyIPs leave no address: add some, or remove the pool`},
		"pools overlap":            {"pools:\n- {name: b, addresses: [192.0.2.99, 192.0.2.10-192.0.2.20], interface: pl0}\n- {name: a, addresses: [192.0.2.1, 192.0.2.8/29], interface: pl0}", `pools[1].addresses[1]: Invalid value: "192.0.2.8/29": overlaps pool "b" (pools[0].addresses) in 192.0.2.10-192.0.2.15: an address belongs to one pool; take it out of one of them, or name it in exclude there`},
		"exclude without":          {bought("{ephemeral: {types: [ipv4]}}, exclude: [192.0.2.1]"), "pools[0].exclude: Forbidden: there is nothing to exclude from: it belongs to addresses"},
		"avoidBuggyIPs without":    {bought("{ephemeral: {types: [ipv4]}}, avoidBuggyIPs: true"), "pools[0].avoidBuggyIPs: Forbidden: it belongs to addresses"},
		"no interface":             {"pools: [{name: office, addresses: [192.0.2.7]}]", "pools[0].interface: Required value: name the interface that the addresses are bound to, such as pl0 (the agent creates it), or none to have them bound by others"},
		"empty interface":          {"pools: [{name: office, addresses: [192.0.2.7], interface: ''}]", "pools[0].interface: Required value: name a network interface"},
		"long interface":           {"pools: [{name: office, addresses: [192.0.2.7], interface: a123456789012345}]", `pools[0].interface: Invalid value: "a123456789012345": is longer than the 15 bytes that Linux allows for the name of an interface`},
		"interface with a slash":   {"pools: [{name: office, addresses: [192.0.2.7], interface: a/b}]", `pools[0].interface: Invalid value: "a/b": ` + ifname},
		"interface with a space":   {"pools: [{name: office, addresses: [192.0.2.7], interface: a b}]", `pools[0].interface: Invalid value: "a b": ` + ifname},
		"interface of dots":        {"pools: [{name: office, addresses: [192.0.2.7], interface: ..}]", `pools[0].interface: Invalid value: "..": cannot be the name of an interface: choose another, such as pl0`},
		"uplink none":              {office("addresses: [192.0.2.7]\nuplink: none"), `pools[0].uplink: Invalid value: "none": leave uplink out to have it found; to bind no addresses write interface: none`},
		"conflict detection":       {office("addresses: [192.0.2.7]\nconflictDetection: on"), `pools[0].conflictDetection: Unsupported value: "on": supported values: "auto", "off"`},
		"no conflicts at Hetzner":  {"hetzner: {tokenFile: /token}\n" + office("addresses: [192.0.2.7]\nhetzner: {}\nconflictDetection: auto"), "pools[0].conflictDetection: Forbidden: Hetzner routes a Floating IP to one server, so there is nothing to detect: remove it"},
		"no conflicts when bought": {bought("{ephemeral: {types: [ipv4]}}, conflictDetection: auto"), "pools[0].conflictDetection: Forbidden: it belongs to addresses that are announced on the network: remove it"},

		// Hetzner.
		"range of Floating IPs": {floating(`["2001:db8:1::1-2001:db8:1::9"]`), `pools[0].addresses[0]: Invalid value: "2001:db8:1::1-2001:db8:1::9": ` + perNetwork},
		"many Floating IPs":     {floating(`["2001:db8:1::/48"]`), `pools[0].addresses[0]: Invalid value: "2001:db8:1::/48": ` + perNetwork},
		"part of a Floating IP": {floating(`["2001:db8:1::/112"]`), `pools[0].addresses[0]: Invalid value: "2001:db8:1::/112": ` + perNetwork},
		"a Floating IP twice":   {floating(`[203.0.113.4, "2001:db8:1::/64", "2001:db8:1::7"]`), `pools[0].addresses[2]: Invalid value: "2001:db8:1::7": is in one /64 with pools[0].addresses[1] (2001:db8:1::/64), and of a Floating IP one address is used: keep one of the two`},
		"IPv4 twice":            {floating(`[203.0.113.4, 203.0.113.4/31]`), `pools[0].addresses[1]: Invalid value: "203.0.113.4/31": overlaps pools[0].addresses[0] (203.0.113.4) in 203.0.113.4: list an address once`},
		"no part of it is used": {floating("[\"2001:db8:1::/64\"], exclude: [\"2001:db8:1::2\"]"), `pools[0].exclude[0]: Invalid value: "2001:db8:1::2": lies outside of the pool's addresses and excludes nothing: correct or remove it`},
		"Floating IP of two pools": {floating("[\"2001:db8:1::/64\"]") + "\n- {name: more, interface: pl0, hetzner: {}, addresses: [\"2001:db8:1::2\"]}",
			`pools[1].addresses: Invalid value: "2001:db8:1::2": is in one /64 with an address of pool "floating" (pools[0].addresses), and the whole /64 is routed to one server: keep one of the two`},
		"Floating IP behind another": {floating("[\"2001:db8:0:1:ffff:ffff:ffff:ffff\", \"2001:db8:0:2::\"]") + "\n- {name: more, interface: pl0, hetzner: {}, addresses: [\"2001:db8:0:2::1\"]}",
			`pools[1].addresses: Invalid value: "2001:db8:0:2::1": is in one /64 with an address of pool "floating" (pools[0].addresses), and the whole /64 is routed to one server: keep one of the two`},
		"address of two such pools": {floating("[\"2001:db8:1::/64\"]") + "\n- {name: more, interface: pl0, hetzner: {}, addresses: [\"2001:db8:1::1\"]}",
			`pools[1].addresses[0]: Invalid value: "2001:db8:1::1": overlaps pool "floating" (pools[0].addresses) in 2001:db8:1::1: an address belongs to one pool; take it out of one of them, or name it in exclude there`},
		"no account":          {office("addresses: [192.0.2.7]\nhetzner: {}"), "pools[0].hetzner.tokenFile: Required value: no account is known: name the file that holds the API token here, or in hetzner.tokenFile at the top for all pools"},
		"endpoint, no token":  {bought("{endpoint: 'https://api.example.com', ephemeral: {types: [ipv4]}}"), "pools[0].hetzner.endpoint: Forbidden: the token of another endpoint is of no use here: write tokenFile too, or remove it"},
		"takeover of bought":  {bought("{takeover: true, ephemeral: {types: [ipv4]}}"), "pools[0].hetzner.takeover: Forbidden: an address that is bought with its Service is never taken from another server: it belongs to addresses"},
		"nothing to buy":      {bought("{ephemeral: {types: []}}"), "pools[0].hetzner.ephemeral.types: Required value: say what to buy: [ipv4], [ipv6] or [ipv4, ipv6]"},
		"unknown type":        {bought("{ephemeral: {types: [IPv4]}}"), `pools[0].hetzner.ephemeral.types[0]: Unsupported value: "IPv4": supported values: "ipv4", "ipv6"`},
		"type twice":          {bought("{ephemeral: {types: [ipv4, ipv4]}}"), `pools[0].hetzner.ephemeral.types[1]: Invalid value: "ipv4": stands in the list already: keep one`},
		"location":            {bought("{ephemeral: {types: [ipv4], homeLocation: 'Falkenstein 1'}}"), `pools[0].hetzner.ephemeral.homeLocation: Invalid value: "Falkenstein 1": must be the name of a Hetzner location, such as fsn1`},
		"Hetzner's label":     {bought("{ephemeral: {types: [ipv4], labels: {hetzner.cloud/a: b}}}"), "pools[0].hetzner.ephemeral.labels[hetzner.cloud/a]: Forbidden: labels with the prefix hetzner.cloud/ are not yours to set: choose another"},
		"our label":           {bought("{ephemeral: {types: [ipv4], labels: {mooring.dev/pool: b}}}"), "pools[0].hetzner.ephemeral.labels[mooring.dev/pool]: Forbidden: labels with the prefix mooring.dev/ are not yours to set: choose another"},
		"reclaim policy":      {bought("{ephemeral: {types: [ipv4], reclaimPolicy: Keep}}"), `pools[0].hetzner.ephemeral.reclaimPolicy: Unsupported value: "Keep": supported values: "Delete", "Retain"`},
		"negative limit":      {bought("{ephemeral: {types: [ipv4], maxAddresses: -1}}"), "pools[0].hetzner.ephemeral.maxAddresses: Invalid value: -1: must be 0 (no limit) or more"},
		"ephemeral is a word": {bought("{ephemeral: ipv4}"), `pools[0].hetzner.ephemeral: Invalid value: "ipv4": must be a mapping (key: value)`},

		// Updaters.
		"no URL":                  {"pools: [{name: edge, updater: {host: lb, portRange: {low: 80, high: 90}}}]", `pools[0].updater.urls: Required value: name the updater, such as ["http://192.0.2.1:3000/api/v1/lb"]`},
		"URL of another scheme":   {`pools: [{name: edge, updater: {urls: ["ftp://lb"], host: lb, portRange: {low: 80, high: 90}}}]`, `pools[0].updater.urls[0]: Invalid value: "ftp://lb": must be a URL with http or https and a host, such as https://192.0.2.1:3000/api`},
		"URL without a host":      {`pools: [{name: edge, updater: {urls: ["http:///api"], host: lb, portRange: {low: 80, high: 90}}}]`, `pools[0].updater.urls[0]: Invalid value: "http:///api": must be a URL with http or https and a host, such as https://192.0.2.1:3000/api`},
		"URL with a password":     {`pools: [{name: edge, updater: {urls: ["http://me:secret@lb/api"], host: lb, portRange: {low: 80, high: 90}}}]`, `pools[0].updater.urls[0]: Invalid value: "http://***@lb/api": a URL holds no credentials: put the token into a file and name the file`},
		"URL with a bad port":     {`pools: [{name: edge, updater: {urls: ["http://lb:70000/api"], host: lb, portRange: {low: 80, high: 90}}}]`, `pools[0].updater.urls[0]: Invalid value: "http://lb:70000/api": the port must be a number from 1 to 65535`},
		"URL with a query":        {`pools: [{name: edge, updater: {urls: ["http://lb/api?a=b"], host: lb, portRange: {low: 80, high: 90}}}]`, `pools[0].updater.urls[0]: Invalid value: "http://lb/api?a=b": the URL ends with its path: remove what follows ? or #`},
		"URL twice":               {`pools: [{name: edge, updater: {urls: ["http://lb/api", "http://lb/api/"], host: lb, portRange: {low: 80, high: 90}}}]`, `pools[0].updater.urls[1]: Invalid value: "http://lb/api": is the same as pools[0].updater.urls[0]: list an updater once`},
		"no host":                 {`pools: [{name: edge, updater: {urls: ["http://lb"], portRange: {low: 80, high: 90}}}]`, "pools[0].updater.host: Required value: say which address or DNS name clients connect to: it is published in the status of Services"},
		"host of bad numbers":     {`pools: [{name: edge, updater: {urls: ["http://lb"], host: 192.0.2.300, portRange: {low: 80, high: 90}}}]`, `pools[0].updater.host: Invalid value: "192.0.2.300": is neither an address nor a DNS name: write one as in 192.0.2.1, 2001:db8::1 or lb.example.com`},
		"host in capitals":        {`pools: [{name: edge, updater: {urls: ["http://lb"], host: LB.example.com, portRange: {low: 80, high: 90}}}]`, `pools[0].updater.host: Invalid value: "LB.example.com": must be an address or a DNS name in small letters, as in lb.example.com`},
		"host unspecified":        {`pools: [{name: edge, updater: {urls: ["http://lb"], host: 0.0.0.0, portRange: {low: 80, high: 90}}}]`, `pools[0].updater.host: Invalid value: "0.0.0.0": no client can connect to this address: publish the address that the load balancer listens on`},
		"no ports":                {`pools: [{name: edge, updater: {urls: ["http://lb"], host: lb}}]`, "pools[0].updater.portRange: Required value: say which ports of the load balancer may be given out, such as {low: 8100, high: 8200}"},
		"port of zero":            {`pools: [{name: edge, updater: {urls: ["http://lb"], host: lb, portRange: {low: 0, high: 90}}}]`, "pools[0].updater.portRange.low: Invalid value: 0: must be a port from 1 to 65535"},
		"port too high":           {`pools: [{name: edge, updater: {urls: ["http://lb"], host: lb, portRange: {low: 1, high: 65536}}}]`, "pools[0].updater.portRange.high: Invalid value: 65536: must be a port from 1 to 65535"},
		"reversed ports":          {`pools: [{name: edge, updater: {urls: ["http://lb"], host: lb, portRange: {low: 90, high: 80}}}]`, `pools[0].updater.portRange: Invalid value: "90-80": the range ends before it begins: write {low: 80, high: 90}`},
		"ports overlap":           {"pools:\n- {name: a, updater: {urls: [\"http://lb\"], host: '2001:db8::1', portRange: {low: 80, high: 90}}}\n- {name: b, updater: {urls: [\"http://lb\"], host: '2001:DB8:0::1', portRange: {low: 90, high: 99}}}", `pools[1].updater.portRange: Invalid value: "90-99": overlaps pool "a" (pools[0].updater.portRange) in 90-90 on host 2001:db8::1: a port of a host belongs to one pool`},
		"certificate without key": {edge("tls: {certFile: /cert}"), "pools[0].updater.tls.keyFile: Required value: certFile is of no use without its key: write both or none"},
		"key without certificate": {edge("tls: {keyFile: /key}"), "pools[0].updater.tls.certFile: Required value: keyFile is of no use without its certificate: write both or none"},
		"empty tls":               {edge("tls: {}"), "pools[0].updater.tls: Required value: name caFile, or certFile and keyFile, or remove it: without it the system's authorities are trusted"},
		"tls in plain":            {`pools: [{name: edge, updater: {urls: ["http://lb"], host: lb, portRange: {low: 80, high: 90}, tls: {caFile: /ca}}}]`, "pools[0].updater.tls: Forbidden: no URL of the updater begins with https: change the URL or remove tls"},
		"timeout in part":         {edge("proxyTimeout: 1500ms"), `pools[0].updater.proxyTimeout: Invalid value: "1500ms": must be in whole seconds: write 2s`},
		"timeout below a second":  {edge("udpProxyTimeout: 0s"), `pools[0].updater.udpProxyTimeout: Invalid value: "0s": must be between 1s and 720h`},
		"timeout is a word":       {edge("proxyConnectTimeout: never"), `pools[0].updater.proxyConnectTimeout: Invalid value: "never": must be a duration in whole seconds with its unit, such as 30s or 10m, or server to leave it to the updater`},
		"address type":            {edge("nodeAddressTypes: [InternalIp]"), `pools[0].updater.nodeAddressTypes[0]: Unsupported value: "InternalIp": supported values: "ExternalIP", "InternalIP", "Hostname", "ExternalDNS", "InternalDNS"`},
		"address type twice":      {edge("nodeAddressTypes: [InternalIP, InternalIP]"), `pools[0].updater.nodeAddressTypes[1]: Invalid value: "InternalIP": stands in the list already: keep one`},
		"no address type":         {edge("nodeAddressTypes: []"), "pools[0].updater.nodeAddressTypes: Required value: the list is empty: name at least one of ExternalIP, InternalIP, or remove the key"},
		"interface of an updater": {"pools:\n- name: edge\n  interface: pl0\n  uplink: eth0\n  guard: true\n  updater: {urls: [\"http://lb\"], host: lb, portRange: {low: 80, high: 90}}",
			"pools[0].interface: Forbidden: " + noUpdater + "\npools[0].uplink: Forbidden: " + noUpdater + "\npools[0].guard: Forbidden: " + noUpdater},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse([]byte(header + tc.file))
			require.Error(t, err)
			assert.Nil(t, c)
			assert.Equal(t, tc.want, err.Error())
		})
	}
}

// Mistakes about the file as a whole.
func TestNotACloudConfig(t *testing.T) {
	for name, tc := range map[string]struct{ file, want string }{
		"empty":         {"", "the file is empty: write apiVersion, kind and pools"},
		"comments only": {"# nothing\n", "the file is empty: write apiVersion, kind and pools"},
		"a list":        {"- a\n", "the file holds a list: write a mapping that begins with apiVersion and kind"},
		"a word":        {"token", "the file holds a single value: write a mapping that begins with apiVersion and kind"},
		"no YAML":       {"pools: [", "the file is not YAML: line 1: did not find expected node content"},
		"two documents": {header + "---\n" + header, "a second YAML document begins in line 3: write one document, without ---"},
		"another kind": {"apiVersion: v1\nkind: Config\npools: [{name: office, addresses: [192.0.2.7], interface: pl0}]",
			"apiVersion: Invalid value: \"v1\": this version reads mooring.dev/v1alpha1 only\nkind: Invalid value: \"Config\": this version reads CloudConfig only"},
		"no kind": {"pools: [{name: office, addresses: [192.0.2.7], interface: pl0}]",
			"apiVersion: Required value: write apiVersion: mooring.dev/v1alpha1\nkind: Required value: write kind: CloudConfig"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tc.file))
			assert.EqualError(t, err, tc.want)
		})
	}
}
