package convert

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// The types in this file are the keys of a cloud-config that a conversion writes, in the order in which it does.

type file struct {
	APIVersion      string      `yaml:"apiVersion"`
	Kind            string      `yaml:"kind"`
	InitializeNodes bool        `yaml:"initializeNodes"`
	Hetzner         *account    `yaml:"hetzner,omitempty"`
	Pools           []yaml.Node `yaml:"pools"`
}

type account struct {
	TokenFile string `yaml:"tokenFile,omitempty"`
}

type pool struct {
	// comment says where the pool comes from.
	comment string
	// from is the pool of PlenusLB that it is made of, which kubectl knows as resource.
	from     *plenusPool
	resource string

	Name               string       `yaml:"name"`
	Addresses          []string     `yaml:"addresses,omitempty"`
	AutoAssign         bool         `yaml:"autoAssign"`
	LoadBalancerClass  string       `yaml:"loadBalancerClass,omitempty"`
	AllowedNamespaces  []string     `yaml:"allowedNamespaces,omitempty"`
	IgnoreExcludeLabel bool         `yaml:"ignoreExcludeLabel,omitempty"`
	Interface          string       `yaml:"interface,omitempty"`
	Hetzner            *hetznerPool `yaml:"hetzner,omitempty"`
	Updater            *updater     `yaml:"updater,omitempty"`
}

type hetznerPool struct {
	TokenFile string     `yaml:"tokenFile,omitempty"`
	Ephemeral *ephemeral `yaml:"ephemeral,omitempty"`
}

type ephemeral struct {
	Types []string `yaml:"types,flow"`
}

type updater struct {
	URLs                []string  `yaml:"urls"`
	Host                string    `yaml:"host"`
	PortRange           portRange `yaml:"portRange,flow"`
	ProxyTimeout        string    `yaml:"proxyTimeout"`
	UDPProxyTimeout     string    `yaml:"udpProxyTimeout"`
	ProxyConnectTimeout string    `yaml:"proxyConnectTimeout"`
	NodeAddressTypes    []string  `yaml:"nodeAddressTypes,flow"`
}

type portRange struct {
	Low  int `yaml:"low"`
	High int `yaml:"high"`
}

// config writes the cloud-config.
func (c *conversion) config() ([]byte, error) {
	f := file{APIVersion: "mooring.dev/v1alpha1", Kind: "CloudConfig", Hetzner: c.account}
	for _, p := range c.pools {
		var node yaml.Node
		if err := node.Encode(p); err != nil {
			return nil, fmt.Errorf("write pool %s: %w", p.Name, err)
		}
		node.HeadComment = p.comment
		f.Pools = append(f.Pools, node)
	}
	var text bytes.Buffer
	text.WriteString("# initializeNodes: neither PaperLB nor PlenusLB initializes Nodes, so whoever does goes on doing it.\n")
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	if err := encoder.Encode(f); err != nil {
		return nil, fmt.Errorf("write the cloud-config: %w", err)
	}
	return text.Bytes(), encoder.Close()
}
