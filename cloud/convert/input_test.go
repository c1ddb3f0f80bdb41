package convert

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatIsMissing(t *testing.T) {
	convert := func(text string) error {
		_, err := Convert(input(t, decode(t, []byte(text))))
		return err
	}
	const allocation = `{apiVersion: loadbalancing.plenus.io/v1alpha1, kind: IPAllocation, metadata: {name: web, namespace: shop},
spec: {type: persistent, allocations: [{address: 192.0.2.10, nodeName: n1, networkInterface: pl0, pool: office}]}}
`
	const svc = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {type: LoadBalancer, externalIPs: [192.0.2.10]}}\n"
	assert.ErrorContains(t, convert(svc), "there is nothing to convert")
	assert.ErrorContains(t, convert(allocation), "kubectl get services --all-namespaces -o yaml")
	assert.ErrorContains(t, convert(allocation+"---\n"+svc), "kubectl get nodes -o yaml")

	err := convert(`{apiVersion: loadbalancing.plenus.io/v1alpha1, kind: PersistentIPPool, metadata: {name: odd}, spec: {addresses: [127.0.0.1],
options: {hostNetworkInterface: {addAddressesToInterface: true, interfaceName: a-name-that-is-long}}}}`)
	assert.ErrorContains(t, err, "the cloud-config that these objects give is not valid")
	assert.ErrorContains(t, err, "pools[0].addresses[0]")
	assert.ErrorContains(t, err, "pools[0].interface")

	var in Input
	assert.ErrorContains(t, in.Add(decode(t, []byte("{apiVersion: v1, kind: Service, metadata: {}}"))[0]), "no metadata.name")
	assert.NoError(t, in.Add(decode(t, []byte("{apiVersion: apps/v1, kind: Deployment, metadata: {}}"))[0]), "passed over")
}

// Names go into annotate.sh and into commands of the notes: what is no name is refused, wherever the files come from.
func TestNamesAreNoCommands(t *testing.T) {
	for _, metadata := range []string{
		`{name: "web; touch /tmp/x", namespace: shop}`, `{name: web, namespace: "shop $(id)"}`, `{name: "web\n", namespace: shop}`, `{name: "-A", namespace: shop}`,
	} {
		var in Input
		assert.ErrorContains(t, in.Add(decode(t, []byte("{apiVersion: v1, kind: Service, metadata: "+metadata+"}"))[0]), "no object of Kubernetes can be called so", metadata)
	}
	var in Input
	assert.NoError(t, in.Add(decode(t, []byte("{apiVersion: v1, kind: Node, metadata: {name: n1.example.com}}"))[0]))
}

// A directory with two backups has each object twice: what was read last counts, and once.
func TestTheLastOfTwoCounts(t *testing.T) {
	const balancer = "{apiVersion: lb.paperlb.com/v1alpha1, kind: LoadBalancer, metadata: {name: web, namespace: shop}}\n"
	in := input(t, decode(t, []byte(balancer+"---\n"+
		"{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop, uid: old}}\n---\n"+
		"{apiVersion: v1, kind: Service, metadata: {name: web, namespace: infra, uid: other}}\n---\n"+
		"{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop, uid: new}}\n---\n"+balancer)))
	require.Len(t, in.services, 2)
	assert.Equal(t, "new", string(in.services[0].UID))
	assert.Equal(t, "other", string(in.services[1].UID))
	assert.Len(t, in.balancers, 1, "of the same name, and another kind")
}
