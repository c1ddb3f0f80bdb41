package cloud

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	testclock "k8s.io/utils/clock/testing"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
)

func TestInstanceMetadata(t *testing.T) {
	born := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	node := func(change func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1", CreationTimestamp: metav1.NewTime(born)},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "host-1"}}},
		}
		if change != nil {
			change(n)
		}
		return n
	}
	hostname := corev1.NodeAddress{Type: corev1.NodeHostName, Address: "host-1"}
	internal := func(ip string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip}
	}

	clock := testclock.NewFakePassiveClock(born.Add(time.Second))
	synced := false
	found, read := false, true
	server := func(string) (lb.Server, bool, bool) {
		return lb.Server{ID: 7, Type: "cx22", Zone: "fsn1-dc14", Region: "fsn1"}, found, read
	}
	i := &instances{objects: cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil), synced: func() bool { return synced }, server: server, clock: clock}

	_, err := i.InstanceMetadata(t.Context(), node(nil))
	require.Error(t, err, "what the agents report is not read yet")
	synced = true

	_, err = i.InstanceMetadata(t.Context(), node(nil))
	require.ErrorContains(t, err, "waiting for its agent", "a new Node waits for its agent")

	m, err := i.InstanceMetadata(t.Context(), node(func(n *corev1.Node) {
		n.Annotations = map[string]string{"alpha.kubernetes.io/provided-node-ip": "10.0.0.1"}
	}))
	require.NoError(t, err, "a node IP that the kubelet was given is enough")
	assert.Equal(t, []corev1.NodeAddress{internal("10.0.0.1"), hostname}, m.NodeAddresses)
	assert.Equal(t, "mooring://n1", m.ProviderID)

	clock.SetTime(born.Add(agentGrace))
	m, err = i.InstanceMetadata(t.Context(), node(nil))
	require.NoError(t, err, "not for ever")
	assert.Equal(t, []corev1.NodeAddress{hostname}, m.NodeAddresses)

	require.NoError(t, i.objects.Add(&v1alpha1.NodeAddresses{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status: v1alpha1.NodeAddressesStatus{NodeAddresses: []v1alpha1.NodeAddress{
			{Interface: "eth1", Address: "10.1.0.1/24"}, {Interface: "eth0", Address: "10.0.0.1/24", Default: true},
		}},
	}))
	m, err = i.InstanceMetadata(t.Context(), node(func(n *corev1.Node) { n.Spec.ProviderID = "hcloud://42" }))
	require.NoError(t, err)
	assert.Equal(t, []corev1.NodeAddress{internal("10.0.0.1"), internal("10.1.0.1"), hostname}, m.NodeAddresses,
		"the address of the default route first")
	assert.Equal(t, "hcloud://42", m.ProviderID, "a Node's own providerID stays")

	clock.SetTime(born.Add(time.Second))
	read = false
	_, err = i.InstanceMetadata(t.Context(), node(nil))
	require.ErrorContains(t, err, "waiting for the accounts", "a providerID cannot be changed later")
	clock.SetTime(born.Add(serverGrace))
	m, err = i.InstanceMetadata(t.Context(), node(nil))
	require.NoError(t, err, "not for ever")
	assert.Equal(t, "mooring://n1", m.ProviderID)
	found, read = true, true
	m, err = i.InstanceMetadata(t.Context(), node(nil))
	require.NoError(t, err)
	assert.Equal(t, "hcloud://7", m.ProviderID)
	assert.Equal(t, []string{"cx22", "fsn1-dc14", "fsn1"}, []string{m.InstanceType, m.Zone, m.Region})

	exists, err := i.InstanceExists(t.Context(), node(nil))
	require.NoError(t, err)
	assert.True(t, exists, "false would delete the Node")
}
