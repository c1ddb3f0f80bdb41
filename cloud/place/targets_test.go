package place

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mooring-lb/mooring/cloud/lb"
)

func TestTargetsOf(t *testing.T) {
	node := func(name, internal string, change func(*Candidate)) *Candidate {
		c := &Candidate{Node: lb.Node{Name: name, Ready: lb.Ready, TypedAddresses: []lb.NodeAddress{
			{Type: corev1.NodeInternalIP, Addr: netip.MustParseAddr(internal)},
		}}}
		if change != nil {
			change(c)
		}
		return c
	}
	nodes := []*Candidate{
		node("b", "10.0.0.2", nil),
		node("a", "10.0.0.1", func(c *Candidate) {
			c.TypedAddresses = append(c.TypedAddresses,
				lb.NodeAddress{Type: corev1.NodeExternalIP, Addr: netip.MustParseAddr("2001:db8::1")},
				lb.NodeAddress{Type: corev1.NodeExternalIP, Addr: netip.MustParseAddr("192.0.2.1")})
		}),
		node("notready", "10.0.0.3", func(c *Candidate) { c.Node.Ready = lb.NotReady }),
		node("unknown", "10.0.0.4", func(c *Candidate) { c.Node.Ready = lb.Unknown }),
		node("excluded", "10.0.0.5", func(c *Candidate) { c.Labels = map[string]string{lb.LabelExcludeNode: ""} }),
		node("leaving", "10.0.0.6", func(c *Candidate) {
			c.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule}}
		}),
		node("edge", "10.0.0.7", func(c *Candidate) { c.Labels = map[string]string{"edge": "true"} }),
		node("out", "10.0.0.8", func(c *Candidate) {
			c.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}
		}),
		node("same", "10.0.0.2", nil),
	}
	addrs := func(texts ...string) (list []netip.Addr) {
		for _, text := range texts {
			list = append(list, netip.MustParseAddr(text))
		}
		return list
	}
	types := []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP}
	v4 := []lb.Family{lb.IPv4}
	for name, c := range map[string]struct {
		reach Reach
		want  Targets
	}{
		"ready nodes by the first type that they have": {
			Reach{Types: types, Families: v4},
			Targets{Ready: addrs("10.0.0.2", "10.0.0.7", "192.0.2.1"), Silent: addrs("10.0.0.3", "10.0.0.4", "10.0.0.8")},
		},
		"another order of types": {
			Reach{Types: types[1:], Families: v4},
			Targets{Ready: addrs("10.0.0.1", "10.0.0.2", "10.0.0.7"), Silent: addrs("10.0.0.3", "10.0.0.4", "10.0.0.8")},
		},
		"the Service's first family before the other": {
			Reach{Types: types, Families: []lb.Family{lb.IPv6, lb.IPv4}, Selectors: nil, Local: true, EndpointNodes: map[string]bool{"a": true, "b": true}},
			Targets{Ready: addrs("10.0.0.2", "2001:db8::1")},
		},
		"only the family of the Service": {
			Reach{Types: types, Families: []lb.Family{lb.IPv6}}, Targets{Ready: addrs("2001:db8::1")},
		},
		"policy Local without an endpoint": {Reach{Types: types, Families: v4, Local: true}, Targets{}},
		"selected nodes": {
			Reach{Types: types, Families: v4, Selectors: []labels.Selector{labels.SelectorFromSet(labels.Set{"edge": "true"})}},
			Targets{Ready: addrs("10.0.0.7")},
		},
		"excluded nodes on demand": {
			Reach{Types: types, Families: v4, IgnoreExcludeLabel: true, Local: true, EndpointNodes: map[string]bool{"excluded": true}},
			Targets{Ready: addrs("10.0.0.5")},
		},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, TargetsOf(c.reach, nodes)) })
	}
}

// The rule that keeps a node from being a target is the one that is named.
func TestUntargeted(t *testing.T) {
	edge, err := labels.Parse("edge=true")
	require.NoError(t, err)
	node := Candidate{Node: lb.Node{Name: "n1", Ready: lb.Ready, TypedAddresses: []lb.NodeAddress{
		{Type: corev1.NodeInternalIP, Addr: netip.MustParseAddr("10.0.0.1")},
	}}}
	types := []corev1.NodeAddressType{corev1.NodeInternalIP}
	for want, c := range map[string]struct {
		reach  Reach
		labels map[string]string
	}{
		"": {Reach{Types: types}, nil},
		"excluded by label node.kubernetes.io/exclude-from-external-load-balancers": {Reach{Types: types}, map[string]string{lb.LabelExcludeNode: ""}},
		`not matching node selector "edge=true"`:                                    {Reach{Types: types, Selectors: []labels.Selector{nil, edge}}, nil},
		"without an endpoint of the Service (externalTrafficPolicy Local)":          {Reach{Types: types, Local: true}, nil},
		"without an address of type ExternalIP (nodeAddressTypes)":                  {Reach{Types: []corev1.NodeAddressType{corev1.NodeExternalIP}}, nil},
	} {
		c.reach.Families = []lb.Family{lb.IPv4}
		node.Labels = c.labels
		assert.Equal(t, want, Untargeted(c.reach, &node))
		assert.Equal(t, want == "", len(TargetsOf(c.reach, []*Candidate{&node}).Ready) == 1, "as it is decided")
	}
}
