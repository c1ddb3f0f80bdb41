package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
	"github.com/mooring-lb/mooring/cloud/service"
)

var scenarios = []string{"paperlb", "paperlb-nasty", "plenuslb", "plenuslb-nasty"}

// objects are those of a scenario.
func objects(t testing.TB, scenario string) []*unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile("testdata/" + scenario + ".yaml")
	require.NoError(t, err)
	return decode(t, data)
}

func decode(t testing.TB, data []byte) (list []*unstructured.Unstructured) {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return list
		}
		require.NoError(t, err)
		list = append(list, o)
	}
}

func input(t testing.TB, list []*unstructured.Unstructured) *Input {
	t.Helper()
	var in Input
	for _, o := range list {
		require.NoError(t, in.Add(o))
	}
	return &in
}

// arrival is a cluster in which a plan was applied, and a controller that has just come to it.
type arrival struct {
	t        *testing.T
	in       *Input
	plan     *Plan
	cfg      *config.Config
	services map[string]*corev1.Service
	ledger   *ledger.Ledger
	notes    []string
	refusals map[string]*lb.Refusal
}

// arrive applies the plan of a scenario as a user does, and starts a controller: it adopts what there is, and then looks
// at every Service.
func arrive(t *testing.T, scenario string) *arrival {
	t.Helper()
	list := objects(t, scenario)
	plan, err := Convert(input(t, list))
	require.NoError(t, err)
	a := &arrival{t: t, in: input(t, list), plan: plan, services: map[string]*corev1.Service{}, refusals: map[string]*lb.Refusal{}}
	a.cfg, err = config.Parse(plan.CloudConfig)
	require.NoError(t, err)
	for i := range a.in.services {
		a.services[a.in.services[i].Name] = &a.in.services[i]
	}
	for _, change := range plan.Services {
		svc := a.services[change.Name]
		for key, value := range change.Annotations {
			require.NotContains(t, svc.Annotations, key, "annotations are only added")
			if svc.Annotations == nil {
				svc.Annotations = map[string]string{}
			}
			svc.Annotations[key] = value
		}
		if change.Publish != nil {
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{*change.Publish}
		}
	}
	now := time.Date(2026, 1, 4, 0, 0, 0, 0, time.UTC)
	var snapshot ledger.Snapshot
	uids := map[string]types.UID{}
	for i := range a.in.nodes {
		uids[a.in.nodes[i].Name] = a.in.nodes[i].UID
		snapshot.Nodes = append(snapshot.Nodes, nodeaddresses.NodeOf(&a.in.nodes[i]))
	}
	for i := range plan.NodeAddresses {
		o := plan.NodeAddresses[i].DeepCopy()
		o.UID, o.Generation = types.UID("object-"+o.Name), 1
		snapshot.Objects = append(snapshot.Objects, nodeaddresses.SnapshotOf(o, string(uids[o.Name])))
		assert.False(t, snapshot.Objects[i].Former, "the object counts as that of its Node")
	}
	for i := range a.in.services {
		snapshot.Services = append(snapshot.Services, service.SnapshotOf(&a.in.services[i], nil, a.cfg.ServesClass))
	}
	a.ledger = ledger.New(a.cfg, ledger.Rental{}, 1)
	a.notes = a.ledger.Adopt(snapshot, now)
	for _, svc := range a.in.services {
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.DeletionTimestamp != nil || !a.cfg.ServesClass(classOf(&svc)) {
			continue
		}
		request, refusal := service.RequestOf(&svc, nil, nil)
		assert.Nil(t, refusal, "%s: what is written on it can be read", svc.Name)
		a.ledger.Want(request, now)
		a.refusals[svc.Name] = a.ledger.View(string(svc.UID)).Refusal
	}
	return a
}

// has is what a Service has after the start: addresses with pool and node, or ports with pool and host.
func (a *arrival) has(name string) []string {
	a.t.Helper()
	require.Contains(a.t, a.services, name)
	v := a.ledger.View(string(a.services[name].UID))
	var has []string
	for _, addr := range v.Addresses {
		has = append(has, addr.Lease.String()+" on "+addr.Node)
	}
	for _, port := range v.Ports {
		has = append(has, v.Host+":"+strconv.Itoa(int(port.Port))+"/"+string(port.Service.Protocol)+" for "+
			strconv.Itoa(int(port.Service.Number))+" (pool "+port.Pool+")")
	}
	return has
}

func TestPaperLBKeepsPorts(t *testing.T) {
	a := arrive(t, "paperlb")
	assert.Equal(t, []string{"192.0.2.1:8100/TCP for 80 (pool default-lb-config)"}, a.has("web"))
	assert.Equal(t, []string{"192.0.2.2:9000/UDP for 53 (pool inside)"}, a.has("dns"), "the one port that PaperLB served")
	assert.Empty(t, a.notes)
	assert.Nil(t, a.refusals["web"])
	assert.Nil(t, a.refusals["dns"])
	assert.Empty(t, a.plan.NodeAddresses)
	assert.Empty(t, a.plan.Secrets)
	for _, p := range a.cfg.Pools {
		assert.Equal(t, []corev1.NodeAddressType{corev1.NodeExternalIP}, p.Updater.NodeAddressTypes, "as PaperLB")
		assert.Zero(t, p.Updater.ProxyTimeout, "left to the updater")
	}
	k := ledger.BackendKey{Pool: "default-lb-config", Port: 8100, Protocol: lb.TCP}
	assert.Equal(t, "shop_web", a.ledger.Backend(k).Replaces)
	assert.Equal(t, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.101:30080"), netip.MustParseAddrPort("192.0.2.102:30080")}, a.ledger.Backend(k).Targets)
}

// Whatever PaperLB has left behind, every port that a Service has it keeps, and loses none to another.
func TestPaperLBKeepsPortsOfAMess(t *testing.T) {
	a := arrive(t, "paperlb-nasty")
	const long = "a-name-of-a-configuration-that-is-quite-long-and-has-dots-in-it"
	for name, has := range map[string]string{
		"web":       "192.0.2.1:8100/TCP for 80 (pool default-lb-config-8100)",
		"classed":   "192.0.2.1:8101/TCP for 80 (pool default-lb-config-8101)",
		"many":      "192.0.2.1:8112/TCP for 80 (pool default-lb-config)",
		"dns":       "192.0.2.1:8103/UDP for 53 (pool default-lb-config)",
		"overlap":   "192.0.2.1:8115/TCP for 80 (pool default-lb-config)",
		"first":     "192.0.2.1:8125/TCP for 80 (pool second)",
		"orphan":    "192.0.2.8:3000/TCP for 80 (pool gone)",
		"moved":     "192.0.2.9:6000/TCP for 80 (pool changed-6000)",
		"long":      "192.0.2.6:5000/TCP for 80 (pool " + long + ")",
		"named":     "lb.example.com:4003/TCP for 80 (pool named)",
		"pending":   "192.0.2.1:8108/TCP for 80 (pool default-lb-config)",
		"asking":    "192.0.2.1:8109/TCP for 80 (pool default-lb-config)",
		"annotated": "192.0.2.1:8110/TCP for 80 (pool default-lb-config)",
	} {
		assert.Equal(t, []string{has}, a.has(name), name)
	}
	assert.Len(t, a.has("twin"), 1, "gets a port of its own")
	assert.NotEqual(t, a.has("first"), a.has("twin"))
	assert.Len(t, a.has("waiting"), 1, "PaperLB would have served one of its ports")
	for _, name := range []string{"lost", "sctp", "foreign"} {
		assert.Empty(t, a.has(name), name)
	}
	for name, refusal := range a.refusals {
		if refusal != nil {
			assert.Contains(t, []string{"asking", "lost", "sctp", "annotated"}, name, refusal)
		}
	}
	for _, name := range []string{"shop/changed", "shop/gone", "shop/dying", "shop/stuck"} {
		assert.True(t, a.first("LoadBalancer "+name), "%s: what stands at the updater for nobody has to go first", name)
	}
	assert.True(t, a.first("Service shop/twin"))
	for _, p := range a.cfg.Pools {
		assert.True(t, p.IgnoreExcludeLabel, "an excluded Node was a target")
	}
}

func (a *arrival) first(about string) bool {
	return slices.ContainsFunc(a.plan.Notes, func(n Note) bool { return n.About == about && n.First })
}

func TestPlenusLBKeepsAddressesAndNodes(t *testing.T) {
	a := arrive(t, "plenuslb")
	assert.Equal(t, []string{"192.0.2.10 (pool office) on n1"}, a.has("web"))
	assert.Equal(t, []string{"192.0.2.11 (pool office) on n1", "192.0.2.12 (pool office) on n2"}, a.has("two"))
	assert.Equal(t, []string{"203.0.113.4 (pool reserved) on n2"}, a.has("smtp"))
	assert.Equal(t, []string{"198.51.100.7 (pool bought-kept) on n2"}, a.has("api"))
	assert.Empty(t, a.notes)
	for name, refusal := range a.refusals {
		assert.Nil(t, refusal, name)
	}
	for _, p := range a.cfg.Pools {
		buys := p.Hetzner != nil && p.Hetzner.Ephemeral != nil
		assert.Equal(t, buys, p.AutoAssign, "%s: what is listed is given to whom asks for it", p.Name)
		if p.Hetzner != nil {
			assert.Equal(t, "/etc/mooring/secrets/hcloud-token", p.Hetzner.Account.TokenFile)
		}
	}
	for name, wish := range map[string]string{"web": "192.0.2.10", "two": "192.0.2.11,192.0.2.12", "smtp": "203.0.113.4", "api": "198.51.100.7"} {
		assert.Equal(t, wish, a.services[name].Annotations[lb.AnnotationAddresses], "%s: it is written on the Service what it has", name)
	}
	assert.Equal(t, []Secret{{File: "hcloud-token", Resource: "persistentippools.loadbalancing.plenus.io/reserved",
		JSONPath: "{.spec.cloudIntegration.hetzner.token}"}}, a.plan.Secrets)
}

// What the controller writes first into the objects is what they say already: nothing moves, and no agent has to do
// anything again.
func TestNodeAddressesAreAsTheControllerWritesThem(t *testing.T) {
	for _, scenario := range []string{"plenuslb", "plenuslb-nasty"} {
		a := arrive(t, scenario)
		require.NotEmpty(t, a.plan.NodeAddresses)
		for _, o := range a.plan.NodeAddresses {
			assert.False(t, a.ledger.Node(o.Name).Dirty, "%s %s", scenario, o.Name)
			assert.Equal(t, []string{v1alpha1.Finalizer}, o.Finalizers)
		}
	}
}

func TestPlenusLBKeepsAddressesOfAMess(t *testing.T) {
	a := arrive(t, "plenuslb-nasty")
	for name, has := range map[string]string{
		"web":       "192.0.2.11 (pool b-office) on n1",
		"left":      "192.0.2.60 (pool b-office) on n1",
		"unbound":   "192.0.2.50 (pool unbound) on ",
		"routed":    "203.0.113.50 (pool routed) on n2",
		"classed":   "192.0.2.13 (pool b-office-example-com-some) on n3",
		"api":       "198.51.100.7 (pool bought-kept) on n1",
		"api2":      "198.51.100.8 (pool bought-kept-example-com-some) on n2",
		"api3":      "198.51.100.9 (pool b-office-kept) on n2",
		"less":      "192.0.2.10 (pool a-office) on n1",
		"elsewhere": "192.0.2.14 (pool d-office) on n2",
	} {
		assert.Equal(t, []string{has}, a.has(name), name)
	}
	assert.Equal(t, []string{"192.0.2.61 (pool gone) on n2", "192.0.2.62 (pool gone) on n2"}, a.has("poolless"))
	assert.Equal(t, []string{"192.0.2.12 (pool b-office) on "}, a.has("free"), "waits for an agent")
	for _, name := range []string{"copy", "six", "forbidden", "tokenless", "wanderer"} {
		assert.Empty(t, a.has(name), name)
		assert.NotNil(t, a.refusals[name], "%s: gets no address that it did not have", name)
	}
	for _, about := range []string{
		"IPAllocation shop/ghost", "IPAllocation shop/leaked", "IPAllocation shop/changed", "IPAllocation shop/dying",
		"Service shop/copy", "Service shop/less", "Service shop/tokenless", "Service shop/elsewhere",
		"Service shop/classed", // where no agent runs
	} {
		assert.True(t, a.first(about), about)
	}
	assert.False(t, a.first("Service shop/api2"), "agents tolerate the taints of its node")
	files := map[string]string{}
	for _, p := range a.cfg.Pools {
		assert.Equal(t, p.Name == "b-office-example-com-some", p.IgnoreExcludeLabel, "%s: an address on an excluded node stays there", p.Name)
		if p.Hetzner != nil {
			files[p.Name] = p.Hetzner.Account.TokenFile
		}
	}
	assert.Len(t, a.plan.Secrets, 2, "one file for each token")
	assert.Equal(t, files["bought"], files["routed"])
	assert.NotEqual(t, files["bought"], files["b-office-kept"])
	assert.Equal(t, files["b-office-2"], files["b-office-kept"])
}

// A token is written nowhere, also not in a message about the object that holds it.
func TestTokensStayWhereTheyAre(t *testing.T) {
	for _, scenario := range scenarios {
		plan, err := Convert(input(t, objects(t, scenario)))
		require.NoError(t, err)
		assert.NotContains(t, printed(t, plan), "plain-text-token", scenario)
	}
	var in Input
	err := in.Add(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "loadbalancing.plenus.io/v1alpha1", "kind": "EphemeralIPPool", "metadata": map[string]any{"name": "odd"},
		"spec": map[string]any{"cloudIntegration": map[string]any{"hetzner": "plain-text-token"}},
	}})
	require.ErrorContains(t, err, "read EphemeralIPPool odd: ")
	assert.NotContains(t, err.Error(), "plain-text-token")
}

// Objects come in any order, and some twice: kubectl get prints them by name, an API server as it likes.
func TestOrderOfObjectsDoesNotMatter(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, scenario := range scenarios {
		list := objects(t, scenario)
		want, err := Convert(input(t, list))
		require.NoError(t, err)
		for range 5 {
			random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			got, err := Convert(input(t, slices.Concat(list, list[:3])))
			require.NoError(t, err)
			assert.Equal(t, want, got, scenario)
		}
	}
}

// printed is everything that a plan says.
func printed(t testing.TB, plan *Plan) string {
	t.Helper()
	data, err := json.Marshal(plan)
	require.NoError(t, err)
	return string(data) + string(plan.CloudConfig)
}

// A second conversion, when Mooring has begun, leaves its objects alone.
func TestExistingNodeAddresses(t *testing.T) {
	list := append(objects(t, "plenuslb"), decode(t, []byte(`{apiVersion: mooring.dev/v1alpha1, kind: NodeAddresses, metadata: {name: n1},
spec: {addresses: [{address: 192.0.2.10, interface: pl0, pool: office, state: Hold, term: 3}]}}`))...)
	plan, err := Convert(input(t, list))
	require.NoError(t, err)
	require.Len(t, plan.NodeAddresses, 1)
	assert.Equal(t, "n2", plan.NodeAddresses[0].Name)
	require.Equal(t, "NodeAddresses n1", plan.Notes[0].About)
	assert.True(t, plan.Notes[0].First)
	assert.Contains(t, plan.Notes[0].Text, "{address: 192.0.2.11, interface: pl0, pool: office, state: Hold, term: 0, services: [{namespace: shop, name: two, uid: uid-two}]}")
	assert.NotContains(t, plan.Notes[0].Text, "192.0.2.10")
}

// A node that has more addresses than the API server takes in one object is named before anything is applied.
func TestNodeWithTooManyAddresses(t *testing.T) {
	c := &conversion{objects: map[string]*v1alpha1.NodeAddresses{}}
	for name, has := range map[string]int{"n1": v1alpha1.MaxAddresses + 2, "n2": v1alpha1.MaxAddresses, "n3": v1alpha1.MaxAddresses + 1} {
		c.objects[name] = &v1alpha1.NodeAddresses{ObjectMeta: metav1.ObjectMeta{Name: name}}
		c.objects[name].Spec.Addresses = make([]v1alpha1.Address, has)
	}
	c.keepObjects(&Input{})
	const text = "has %d addresses, and with Mooring a node has at most 5000: the API server refuses its NodeAddresses; " +
		"have at least %d of them moved to other nodes"
	assert.Equal(t, []Note{
		{About: "Node n1", Text: fmt.Sprintf(text, 5002, 2), First: true},
		{About: "Node n3", Text: fmt.Sprintf(text, 5001, 1), First: true},
	}, c.notes)
}

// Applied and made again, as after a way back, it adds nothing.
func TestConvertingAgainAddsNothing(t *testing.T) {
	for _, scenario := range scenarios {
		a := arrive(t, scenario)
		again, err := Convert(a.in)
		require.NoError(t, err)
		assert.Empty(t, again.Services, scenario)
		assert.Equal(t, string(a.plan.CloudConfig), string(again.CloudConfig))
		assert.Equal(t, a.plan.NodeAddresses, again.NodeAddresses)
	}
}
