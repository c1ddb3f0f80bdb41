package config

// The types in this file are the cloud-config as it is written, key by key. Nothing in them is judged yet. A
// pointer is nil, and a list or a map is nil, when its key is absent.

// present holds the keys that a mapping has. A struct with a field of this type gets it filled in.
type present map[string]bool

// text is a value that is taken as it is written, whatever YAML makes of it: the judgement knows better than
// "must be a string" what to say about a duration of 10.
type text string

type file struct {
	APIVersion      *string       `yaml:"apiVersion"`
	Kind            *string       `yaml:"kind"`
	InitializeNodes *bool         `yaml:"initializeNodes"`
	Hetzner         *fileAccount  `yaml:"hetzner"`
	Failover        *fileFailover `yaml:"failover"`
	ResyncInterval  *text         `yaml:"resyncInterval"`
	Pools           []filePool    `yaml:"pools"`
}

type fileAccount struct {
	TokenFile *string `yaml:"tokenFile"`
	Endpoint  *string `yaml:"endpoint"`
	Orphans   *string `yaml:"orphans"`
}

type fileFailover struct {
	ProbeInterval    *text `yaml:"probeInterval"`
	FailureThreshold *int  `yaml:"failureThreshold"`
	EvacuateCordoned *bool `yaml:"evacuateCordoned"`
}

type filePool struct {
	Has present `yaml:"-"`

	Name               *string          `yaml:"name"`
	Addresses          []text           `yaml:"addresses"`
	Exclude            []text           `yaml:"exclude"`
	AvoidBuggyIPs      *bool            `yaml:"avoidBuggyIPs"`
	AutoAssign         *bool            `yaml:"autoAssign"`
	Priority           *int             `yaml:"priority"`
	LoadBalancerClass  *string          `yaml:"loadBalancerClass"`
	AllowedNamespaces  []string         `yaml:"allowedNamespaces"`
	NamespaceSelector  *fileSelector    `yaml:"namespaceSelector"`
	ServiceSelector    *fileSelector    `yaml:"serviceSelector"`
	NodeSelector       *fileSelector    `yaml:"nodeSelector"`
	Tolerations        []fileToleration `yaml:"tolerations"`
	IgnoreExcludeLabel *bool            `yaml:"ignoreExcludeLabel"`
	Interface          *string          `yaml:"interface"`
	Uplink             *string          `yaml:"uplink"`
	ConflictDetection  *string          `yaml:"conflictDetection"`
	Guard              *bool            `yaml:"guard"`
	Hetzner            *fileHetznerPool `yaml:"hetzner"`
	Updater            *fileUpdater     `yaml:"updater"`
}

type fileSelector struct {
	MatchLabels      map[string]string `yaml:"matchLabels"`
	MatchExpressions []fileRequirement `yaml:"matchExpressions"`
}

type fileRequirement struct {
	Key      string   `yaml:"key"`
	Operator string   `yaml:"operator"`
	Values   []string `yaml:"values"`
}

type fileToleration struct {
	Key      string  `yaml:"key"`
	Operator *string `yaml:"operator"`
	Value    string  `yaml:"value"`
	Effect   *string `yaml:"effect"`
}

type fileHetznerPool struct {
	Has present `yaml:"-"`

	TokenFile *string        `yaml:"tokenFile"`
	Endpoint  *string        `yaml:"endpoint"`
	Takeover  *bool          `yaml:"takeover"`
	Ephemeral *fileEphemeral `yaml:"ephemeral"`
}

type fileEphemeral struct {
	Types         []string          `yaml:"types"`
	HomeLocation  *string           `yaml:"homeLocation"`
	Labels        map[string]string `yaml:"labels"`
	ReclaimPolicy *string           `yaml:"reclaimPolicy"`
	MaxAddresses  *int              `yaml:"maxAddresses"`
}

type fileUpdater struct {
	URLs                []string       `yaml:"urls"`
	Host                *string        `yaml:"host"`
	PortRange           *filePortRange `yaml:"portRange"`
	BearerTokenFile     *string        `yaml:"bearerTokenFile"`
	TLS                 *fileTLS       `yaml:"tls"`
	Timeout             *text          `yaml:"timeout"`
	ProxyTimeout        *text          `yaml:"proxyTimeout"`
	UDPProxyTimeout     *text          `yaml:"udpProxyTimeout"`
	ProxyConnectTimeout *text          `yaml:"proxyConnectTimeout"`
	NodeAddressTypes    []string       `yaml:"nodeAddressTypes"`
	Verify              *bool          `yaml:"verify"`
}

type filePortRange struct {
	Low  *int `yaml:"low"`
	High *int `yaml:"high"`
}

type fileTLS struct {
	CAFile   *string `yaml:"caFile"`
	CertFile *string `yaml:"certFile"`
	KeyFile  *string `yaml:"keyFile"`
}
