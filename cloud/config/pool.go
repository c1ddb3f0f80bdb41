package config

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// source is where a pool's addresses or ports come from.
type source int

const (
	sourceUnknown source = iota
	sourceAddresses
	sourceEphemeral
	sourceUpdater
)

// belongs lists the keys that have a meaning for some sources only, in the order in which they are reported.
var belongs = []struct {
	key     string
	sources []source
	why     string
}{
	{"exclude", []source{sourceAddresses}, "there is nothing to exclude from: it belongs to addresses"},
	{"avoidBuggyIPs", []source{sourceAddresses}, "it belongs to addresses"},
	{"interface", []source{sourceAddresses, sourceEphemeral}, "an updater pool binds no addresses to nodes: remove it"},
	{"uplink", []source{sourceAddresses, sourceEphemeral}, "an updater pool binds no addresses to nodes: remove it"},
	{"guard", []source{sourceAddresses, sourceEphemeral}, "an updater pool binds no addresses to nodes: remove it"},
	{"conflictDetection", []source{sourceAddresses}, "it belongs to addresses that are announced on the network: remove it"},
}

func (j *judge) pool(p *field.Path, f *filePool, defaultAccount *Account) Pool {
	from := j.source(p, f)
	pool := Pool{
		Name:               or(f.Name, ""),
		AutoAssign:         or(f.AutoAssign, f.Hetzner == nil || from != sourceAddresses),
		Priority:           or(f.Priority, 0),
		LoadBalancerClass:  or(f.LoadBalancerClass, ""),
		AllowedNamespaces:  f.AllowedNamespaces,
		NamespaceSelector:  j.selector(p.Child("namespaceSelector"), f.NamespaceSelector),
		ServiceSelector:    j.selector(p.Child("serviceSelector"), f.ServiceSelector),
		NodeSelector:       j.selector(p.Child("nodeSelector"), f.NodeSelector),
		Tolerations:        j.tolerations(p.Child("tolerations"), f.Tolerations),
		IgnoreExcludeLabel: or(f.IgnoreExcludeLabel, false),
		Interface:          or(f.Interface, ""),
		Uplink:             or(f.Uplink, ""),
	}
	if pool.Name == "" {
		j.required(p.Child("name"), "give the pool a name, such as office: Services and messages call it by that")
	} else {
		j.name(p.Child("name"), pool.Name, validation.IsDNS1123Label(pool.Name), mustBeLabel)
	}
	if f.LoadBalancerClass != nil {
		j.name(p.Child("loadBalancerClass"), pool.LoadBalancerClass, validation.IsQualifiedName(pool.LoadBalancerClass), mustBeQualified)
	}
	j.namespaces(p.Child("allowedNamespaces"), f.AllowedNamespaces)

	for _, b := range belongs {
		if from != sourceUnknown && f.Has[b.key] && !slices.Contains(b.sources, from) {
			j.forbidden(p.Child(b.key), "%s", b.why)
		}
	}
	if from == sourceAddresses || from == sourceEphemeral {
		j.binding(p, f, &pool)
	}
	if f.Has["addresses"] {
		pool.Addresses, pool.Block = j.addresses(p, f)
	}
	if f.Hetzner != nil {
		pool.Hetzner = j.hetznerPool(p.Child("hetzner"), f.Hetzner, defaultAccount)
	}
	if f.Updater != nil {
		pool.Updater = j.updater(p.Child("updater"), f.Updater)
	}
	return pool
}

// source finds the one source of a pool. More than one, or none, is a mistake and the source unknown.
func (j *judge) source(p *field.Path, f *filePool) source {
	ephemeral := f.Hetzner != nil && f.Hetzner.Has["ephemeral"]
	switch {
	case f.Has["addresses"] && ephemeral:
		j.forbidden(p.Child("hetzner", "ephemeral"), "the pool has addresses: a pool buys addresses or lists them; make two pools of it")
	case f.Has["addresses"] && f.Has["updater"]:
		j.forbidden(p.Child("updater"), "the pool has addresses: a pool has one source; make two pools of it")
	case f.Has["hetzner"] && f.Has["updater"]:
		j.forbidden(p.Child("updater"), "the pool has hetzner: a pool has one source; make two pools of it")
	case f.Has["addresses"]:
		return sourceAddresses
	case f.Has["updater"]:
		return sourceUpdater
	case ephemeral:
		return sourceEphemeral
	case f.Has["hetzner"]:
		j.required(p.Child("addresses"), "list the Floating IPs of the pool in addresses, or have them bought with hetzner.ephemeral")
	default:
		j.required(p, "the pool has nothing to give out: write exactly one of addresses, hetzner.ephemeral, updater")
	}
	return sourceUnknown
}

// binding judges how addresses are bound to nodes.
func (j *judge) binding(p *field.Path, f *filePool, pool *Pool) {
	at := p.Child("interface")
	if f.Interface == nil {
		j.required(at, "name the interface that the addresses are bound to, such as pl0 (the agent creates it), or none to have them bound by others")
	} else {
		j.interfaceName(at, pool.Interface)
	}
	if at := p.Child("uplink"); pool.Uplink == InterfaceNone {
		j.invalid(at, pool.Uplink, "leave uplink out to have it found; to bind no addresses write interface: none")
	} else if f.Uplink != nil {
		j.interfaceName(at, pool.Uplink)
	}
	pool.Guard = or(f.Guard, true)
	if f.Hetzner == nil {
		pool.ConflictDetection = j.word(p.Child("conflictDetection"), f.ConflictDetection, "auto", "off") == "auto"
	} else if f.Has["conflictDetection"] && f.Has["addresses"] {
		j.forbidden(p.Child("conflictDetection"), "Hetzner routes a Floating IP to one server, so there is nothing to detect: remove it")
	}
}

func (j *judge) namespaces(p *field.Path, names []string) {
	first := make(map[string]int)
	for i, name := range names {
		if at, again := first[name]; again {
			j.invalid(p.Index(i), name, "stands in %s already: keep one", p.Index(at))
			continue
		}
		first[name] = i
		j.name(p.Index(i), name, validation.IsDNS1123Label(name), mustBeLabel)
	}
}

// tolerations judges them as Kubernetes does, narrowed to what can match a NoExecute taint.
func (j *judge) tolerations(p *field.Path, list []fileToleration) []corev1.Toleration {
	var all []corev1.Toleration
	for i, f := range list {
		at := p.Index(i)
		t := corev1.Toleration{
			Key:      f.Key,
			Operator: corev1.TolerationOperator(j.word(at.Child("operator"), f.Operator, string(corev1.TolerationOpEqual), string(corev1.TolerationOpExists))),
			Value:    f.Value,
			Effect:   corev1.TaintEffect(j.word(at.Child("effect"), f.Effect, string(corev1.TaintEffectNoExecute))),
		}
		if t.Key != "" {
			j.name(at.Child("key"), t.Key, validation.IsQualifiedName(t.Key), mustBeQualified)
		} else if t.Operator != corev1.TolerationOpExists {
			j.required(at.Child("key"), "name the key of the taint, or write operator: Exists to tolerate every NoExecute taint")
		}
		if t.Operator == corev1.TolerationOpExists && t.Value != "" {
			j.invalid(at.Child("value"), t.Value, "operator Exists looks at no value: remove value, or write operator: Equal")
		} else {
			j.name(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value), mustBeValue)
		}
		all = append(all, t)
	}
	return all
}
