package config

// The types in this file are the cloud-config as it is written, key by key. Nothing in them is judged yet. A
// pointer is nil, and a list or a map is nil, when its key is absent.
//
// Their comments are the reference of the cloud-config: hack/reference makes docs/reference/cloud-config.md of them. A
// line reference:value says what may be written where the type alone does not, reference:default what counts when the
// key is absent, and reference:in the section of the page that a key of a pool is in.

// present holds the keys that a mapping has. A struct with a field of this type gets it filled in.
type present map[string]bool

// text is a value that is taken as it is written, whatever YAML makes of it: the judgement knows better than
// "must be a string" what to say about a duration of 10.
type text string

type file struct {
	// The version of this format.
	//
	//reference:value `mooring.dev/v1alpha1`
	//reference:default required
	APIVersion *string `yaml:"apiVersion"`
	// What the file is.
	//
	//reference:value `CloudConfig`
	//reference:default required
	Kind *string `yaml:"kind"`
	// `true`: Mooring initializes Nodes (providerID, addresses) and removes the taint
	// `node.cloudprovider.kubernetes.io/uninitialized`. `false`: another cloud-controller-manager does, or the kubelets
	// run without `--cloud-provider=external`; Mooring writes no Node.
	//
	//reference:default `true`
	InitializeNodes *bool `yaml:"initializeNodes"`
	// The Hetzner Cloud account of the pools that name none of their own.
	//
	//reference:default no account
	Hetzner *fileAccount `yaml:"hetzner"`
	// How the loss of a node is noticed, and what leaves a node that is not lost.
	Failover *fileFailover `yaml:"failover"`
	// How often the slow loop compares everything with what it should be: NodeAddresses, statuses, Floating IPs, what
	// updaters were told.
	//
	//reference:value duration from `1s` to `24h`
	//reference:default `10m`
	ResyncInterval *text `yaml:"resyncInterval"`
	// The pools; see [below](#pools).
	//
	//reference:value list of at least one pool
	//reference:default required
	Pools []filePool `yaml:"pools"`
}

type fileAccount struct {
	// File with the API token of the project, read and write. It is read again when it changes.
	//
	//reference:value absolute path
	//reference:default required in `hetzner`
	TokenFile *string `yaml:"tokenFile"`
	// URL of the API, without credentials.
	//
	//reference:value URL with `http` or `https`
	//reference:default `https://api.hetzner.cloud/v1`
	Endpoint *string `yaml:"endpoint"`
	// What happens to a bought address that belongs to no Service any more: it is only
	// [reported](../guides/hetzner.md#orphans), or released. Counts for the accounts of all pools.
	//
	//reference:value `report` or `release`
	//reference:default `report`
	Orphans *string `yaml:"orphans"`
}

type fileFailover struct {
	// Time between two connects to the health port of each agent, by which a lost node is
	// [noticed](../guides/failover.md#how-it-is-noticed).
	//
	//reference:value duration from `10ms` to `1m`
	//reference:default `300ms`
	ProbeInterval *text `yaml:"probeInterval"`
	// Silent intervals in a row after which a node is asked in a last burst, and counts as lost when it is silent then
	// too. With the defaults that takes about 1.2 s.
	//
	//reference:value whole number from `1` to `100`
	//reference:default `3`
	FailureThreshold *int `yaml:"failureThreshold"`
	// `true`: addresses leave a cordoned node, as in every [planned move](../guides/failover.md#planned-moves).
	// `false`: it keeps what it has and gets nothing new.
	//
	//reference:default `false`
	EvacuateCordoned *bool `yaml:"evacuateCordoned"`
}

type filePool struct {
	Has present `yaml:"-"`

	// Services ask for the pool by its name, and messages and metrics call it so. Unique in the file.
	//
	//reference:value at most 63 of `a-z`, `0-9` and `-`
	//reference:default required
	Name *string `yaml:"name"`
	// What is given out: single addresses (`192.0.2.7`), CIDRs (`192.0.2.32/28`) and ranges
	// (`192.0.2.10-192.0.2.20`), IPv4 and IPv6. Put an IPv6 address in quotes.
	//
	//reference:in addresses
	//reference:value list of addresses, CIDRs and ranges
	//reference:default required
	Addresses []text `yaml:"addresses"`
	// Addresses of the list that are not given out, in the same forms.
	//
	//reference:in addresses
	//reference:value list of addresses, CIDRs and ranges
	//reference:default none
	Exclude []text `yaml:"exclude"`
	// `true`: IPv4 addresses that end in `.0` and `.255`, which some old clients cannot reach, are not given out.
	//
	//reference:in addresses
	//reference:default `false`
	AvoidBuggyIPs *bool `yaml:"avoidBuggyIPs"`
	// `false`: the pool serves only a Service that asks for it or for one of its addresses.
	//
	//reference:default `true`; `false` for `addresses` with `hetzner`
	AutoAssign *bool `yaml:"autoAssign"`
	// Of the pools that may serve a Service without a wish, the one with the highest number is chosen first.
	//
	//reference:default `0`
	Priority *int `yaml:"priority"`
	// The pool serves Services of this `spec.loadBalancerClass` only. Absent: Services without a class. When no pool is
	// without a class, Services without one are left alone. See [classes](#classes).
	//
	//reference:value name with an optional domain, such as `example.com/office`
	//reference:default none
	LoadBalancerClass *string `yaml:"loadBalancerClass"`
	// The only namespaces that may use the pool, whatever way they ask.
	//
	//reference:value list of namespaces
	//reference:default empty: all
	AllowedNamespaces []string `yaml:"allowedNamespaces"`
	// The namespaces that may use the pool, by their labels.
	//
	//reference:default all
	NamespaceSelector *fileSelector `yaml:"namespaceSelector"`
	// The Services that may use the pool, by their labels.
	//
	//reference:default all
	ServiceSelector *fileSelector `yaml:"serviceSelector"`
	// The nodes that may carry the addresses, or stand behind the ports, by their labels.
	//
	//reference:default all
	NodeSelector *fileSelector `yaml:"nodeSelector"`
	// NoExecute taints that do not drive an address from a node, written as in a pod.
	//
	//reference:default none
	Tolerations []fileToleration `yaml:"tolerations"`
	// `true`: nodes with the label `node.kubernetes.io/exclude-from-external-load-balancers` may carry addresses too.
	//
	//reference:default `false`
	IgnoreExcludeLabel *bool `yaml:"ignoreExcludeLabel"`
	// The interface of the node that addresses are bound to. The agent creates it, as a bridge without ports, when it is
	// missing. `none`: Mooring does not bind the addresses, something else does.
	//
	//reference:in addresses
	//reference:value name of an interface, at most 15 characters, such as `pl0`; or `none`
	//reference:default required
	Interface *string `yaml:"interface"`
	// The interface on which addresses are announced.
	//
	//reference:in addresses
	//reference:value name of an interface
	//reference:default the one whose subnet holds the address, else the default route's
	Uplink *string `yaml:"uplink"`
	// `auto`: a new address that another machine answers for is not used, and one in use is
	// [defended or yielded](../guides/failover.md#two-machines-with-one-address). `off`: nobody looks. Not with
	// `hetzner`.
	//
	//reference:in addresses
	//reference:value `auto` or `off`
	//reference:default `auto`
	ConflictDetection *string `yaml:"conflictDetection"`
	// `true`: on the node, input to the address that no Service takes is dropped (ping is answered), so that daemons of
	// the host are not published, and a connection that comes too early is repeated and not refused.
	//
	//reference:in addresses
	//reference:default `true`
	Guard *bool `yaml:"guard"`
	// With `addresses`: these are Floating IPs that were bought already. They are never deleted at Hetzner. `{}` when
	// nothing else is to be said.
	//
	//reference:in hetzner
	//reference:default absent: no Floating IPs
	Hetzner *fileHetznerPool `yaml:"hetzner"`
	// Instead of `addresses`: ports of an external load balancer.
	//
	//reference:in updater
	//reference:default absent
	Updater *fileUpdater `yaml:"updater"`
}

type fileSelector struct {
	// Labels that all have to be there with these values.
	//
	//reference:default none
	MatchLabels map[string]string `yaml:"matchLabels"`
	// Requirements that all have to hold.
	//
	//reference:default none
	MatchExpressions []fileRequirement `yaml:"matchExpressions"`
}

type fileRequirement struct {
	// Key of the label.
	//
	//reference:default required
	Key string `yaml:"key"`
	// How the label is compared.
	//
	//reference:value `In`, `NotIn`, `Exists` or `DoesNotExist`
	//reference:default required
	Operator string `yaml:"operator"`
	// What it is compared with, for `In` and `NotIn`.
	//
	//reference:default none
	Values []string `yaml:"values"`
}

type fileToleration struct {
	// Key of the taint. It may be absent with `operator: Exists`: every NoExecute taint then.
	//
	//reference:default any
	Key string `yaml:"key"`
	// `Equal`: the taint's value is `value`. `Exists`: whatever its value.
	//
	//reference:value `Equal` or `Exists`
	//reference:default `Equal`
	Operator *string `yaml:"operator"`
	// Value of the taint.
	//
	//reference:default empty
	Value string `yaml:"value"`
	// Effect of the taint.
	//
	//reference:value `NoExecute`
	//reference:default `NoExecute`
	Effect *string `yaml:"effect"`
}

type fileHetznerPool struct {
	Has present `yaml:"-"`

	// File with the token of the project that the addresses are in.
	//
	//reference:value absolute path
	//reference:default `hetzner.tokenFile` at the top
	TokenFile *string `yaml:"tokenFile"`
	// URL of the API; only beside `tokenFile`.
	//
	//reference:value URL with `http` or `https`
	//reference:default as at the top
	Endpoint *string `yaml:"endpoint"`
	// `true`: Floating IPs are taken from servers that are not nodes of the cluster. Only with `addresses`.
	//
	//reference:default `false`
	Takeover *bool `yaml:"takeover"`
	// Instead of `addresses`: Floating IPs are bought with a Service and released with it.
	//
	//reference:default absent: none are bought
	Ephemeral *fileEphemeral `yaml:"ephemeral"`
}

type fileEphemeral struct {
	// What is bought.
	//
	//reference:value list of `ipv4`, `ipv6` or both
	//reference:default required
	Types []string `yaml:"types"`
	// Location at Hetzner, such as `fsn1`, in which is bought.
	//
	//reference:default the server's
	HomeLocation *string `yaml:"homeLocation"`
	// Labels of the Floating IP beside Mooring's own; not `hetzner.cloud/...` and not `mooring.dev/...`.
	//
	//reference:default none
	Labels map[string]string `yaml:"labels"`
	// What becomes of a bought address when its Service goes: it is deleted at Hetzner, or
	// [kept](../guides/hetzner.md#keeping-an-address).
	//
	//reference:value `Delete` or `Retain`
	//reference:default `Delete`
	ReclaimPolicy *string `yaml:"reclaimPolicy"`
	// The most that the pool has at a time, IPv4 and IPv6 together, those that are being bought included. `0` is no
	// limit. A Service beyond it waits until one is released.
	//
	//reference:value whole number, `0` or more
	//reference:default `0`
	MaxAddresses *int `yaml:"maxAddresses"`
}

type fileUpdater struct {
	// URLs of the updaters; several are told the same. No credentials in them.
	//
	//reference:value list of URLs with `http` or `https`
	//reference:default required
	URLs []string `yaml:"urls"`
	// The address or DNS name that clients connect to; published in the status of Services.
	//
	//reference:value address or DNS name
	//reference:default required
	Host *string `yaml:"host"`
	// The ports that are given out. Ports of two pools on one host do not overlap.
	//
	//reference:default required
	PortRange *filePortRange `yaml:"portRange"`
	// File with a token that is sent with each request, as `Authorization: Bearer`.
	//
	//reference:value absolute path
	//reference:default none
	BearerTokenFile *string `yaml:"bearerTokenFile"`
	// How the updater's `https` URLs are trusted, and what is shown to them. Only with an `https` URL.
	//
	//reference:default the system's authorities
	TLS *fileTLS `yaml:"tls"`
	// After which one request is given up.
	//
	//reference:value duration from `10ms` to `10m`
	//reference:default `10s`
	Timeout *text `yaml:"timeout"`
	// After which an idle TCP connection ends.
	//
	//reference:value whole seconds from `1s` to `720h`, or `server`
	//reference:default `10m`
	ProxyTimeout *text `yaml:"proxyTimeout"`
	// After which an idle UDP client is forgotten.
	//
	//reference:value whole seconds from `1s` to `720h`, or `server`
	//reference:default `30s`
	UDPProxyTimeout *text `yaml:"udpProxyTimeout"`
	// For the connect to a node.
	//
	//reference:value whole seconds from `1s` to `720h`, or `server`
	//reference:default `2s`
	ProxyConnectTimeout *text `yaml:"proxyConnectTimeout"`
	// The first of these types of which a node has an address is its target. Only IP addresses count, also of the types
	// that are names.
	//
	//reference:value list of `ExternalIP`, `InternalIP`, `Hostname`, `ExternalDNS`, `InternalDNS`
	//reference:default `[ExternalIP, InternalIP]`
	NodeAddressTypes []string `yaml:"nodeAddressTypes"`
	// `true`: connect to host:port of TCP ports and report whether it answers; a Service is published when it does, or
	// after 5 s.
	//
	//reference:default `true`
	Verify *bool `yaml:"verify"`
}

type filePortRange struct {
	// The first port.
	//
	//reference:value port from `1` to `65535`
	//reference:default required
	Low *int `yaml:"low"`
	// The last port, given out too.
	//
	//reference:value port from `1` to `65535`
	//reference:default required
	High *int `yaml:"high"`
}

type fileTLS struct {
	// File with the certificates of the authorities to trust.
	//
	//reference:value absolute path
	//reference:default the system's authorities
	CAFile *string `yaml:"caFile"`
	// File with the certificate to show; with `keyFile`.
	//
	//reference:value absolute path
	//reference:default none
	CertFile *string `yaml:"certFile"`
	// File with the key of that certificate.
	//
	//reference:value absolute path
	//reference:default none
	KeyFile *string `yaml:"keyFile"`
}
