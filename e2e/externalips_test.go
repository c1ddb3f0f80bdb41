package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// poolAddresses is the ConfigMap that the policies about spec.externalIPs go by.
const poolAddresses = "mooring-external-ips"

// listing is a Service of the type that lists addresses in spec.externalIPs.
func listing(namespace, name string, kind corev1.ServiceType, addrs ...string) *corev1.Service {
	service := cluster.LoadBalancer(namespace, name)
	service.Spec.Type = kind
	service.Spec.ExternalIPs = addrs
	return service
}

// lists asks the API server whether such a Service could be created.
func (m *moored) lists(ctx context.Context, service *corev1.Service) error {
	_, err := m.Kube.CoreV1().Services(service.Namespace).Create(ctx, service, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// denied says whether a policy refused, and with a message of all these words.
func denied(t *testing.T, err error, words ...string) {
	t.Helper()
	require.Error(t, err)
	assert.True(t, apierrors.IsForbidden(err), "%v", err)
	for _, word := range append(words, "ValidatingAdmissionPolicy 'mooring-external-ips", "spec.externalIPs lists ") {
		assert.ErrorContains(t, err, word)
	}
}

// inForce waits until a policy refuses the Service.
func (m *moored) inForce(t *testing.T, service *corev1.Service) {
	t.Helper()
	m.Eventually(t, "spec.externalIPs of "+service.Namespace+" are refused", func(ctx context.Context) error {
		if err := m.lists(ctx, service); !apierrors.IsForbidden(err) {
			return fmt.Errorf("the API server says: %w", err)
		}
		return nil
	})
}

// alsoInUse adds the policy that is no part of the base.
func (m *moored) alsoInUse(t *testing.T) {
	t.Helper()
	root, err := cluster.Root()
	require.NoError(t, err)
	_, err = m.Kubectl(t.Context(), "apply", "-f", filepath.Join(root, "manifests", "components", "external-ips-in-use", "policy.yaml"))
	require.NoError(t, err)
}

// TestExternalIPsPolicy tells who may list an address of a pool in spec.externalIPs, which kube-proxy serves unasked: the
// Services that the pool serves.
func TestExternalIPsPolicy(t *testing.T) {
	const (
		office = `name: office, addresses: [10.90.0.30-10.90.0.40, "fd00:90::1000/116"], exclude: [10.90.0.35], allowedNamespaces: [members]`
		public = "name: public, autoAssign: false, addresses: [10.90.0.50-10.90.0.59], namespaceSelector: " +
			"{matchLabels: {tier: public}, matchExpressions: [{key: team, operator: In, values: [red, blue]}, {key: closed, operator: DoesNotExist}, {key: zone, operator: NotIn, values: [far]}]}"
		open = "name: open, addresses: [10.90.0.60-10.90.0.69]"
		few  = "name: few, loadBalancerClass: example.com/few, addresses: [10.90.0.70-10.90.0.79], serviceSelector: {matchExpressions: [{key: expose, operator: Exists}]}"
	)
	m := install(t, pools(office, public, open, few))
	m.alsoInUse(t)
	members, strangers := m.Namespace(t, "members"), m.Namespace(t, "strangers")
	m.inForce(t, listing(strangers, "web", corev1.ServiceTypeClusterIP, "10.90.0.30"))

	t.Run("what the policies say is understood whole by the API server", func(t *testing.T) {
		for _, name := range []string{"mooring-external-ips", "mooring-external-ips-in-use"} {
			m.Eventually(t, name+" is checked", func(ctx context.Context) error {
				policy, err := m.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				if policy.Status.ObservedGeneration != policy.Generation || policy.Status.TypeChecking == nil {
					return fmt.Errorf("its status is %+v", policy.Status)
				}
				assert.Empty(t, policy.Status.TypeChecking.ExpressionWarnings)
				return nil
			})
		}
	})

	classed := func(service *corev1.Service, labels map[string]string) *corev1.Service {
		service.Spec.LoadBalancerClass, service.Labels = new("example.com/few"), labels
		return service
	}
	const clusterIP, nodePort, loadBalancer = corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer
	t.Run("who may list which address", func(t *testing.T) {
		notHere := []string{`of pool "office", which does not serve namespace "strangers" (allowedNamespaces of the pool: members)`, "leave the address out"}
		for name, row := range map[string]struct {
			service *corev1.Service
			refused []string
		}{
			"a stranger's ClusterIP":                {listing(strangers, "web", clusterIP, "10.90.0.30"), append(notHere, "10.90.0.30")},
			"a stranger's NodePort":                 {listing(strangers, "web", nodePort, "10.90.0.40"), append(notHere, "10.90.0.40")},
			"a stranger's LoadBalancer":             {listing(strangers, "web", loadBalancer, "10.90.0.31"), append(notHere, "10.90.0.31")},
			"an address among others":               {listing(strangers, "web", clusterIP, "192.0.2.1", "10.90.0.32"), append(notHere, "10.90.0.32")},
			"IPv6, in whatever form":                {listing(strangers, "web", clusterIP, "fd00:90::1abc"), append(notHere, "fd00:90::1abc")},
			"an excluded address is nobody's":       {listing(strangers, "web", clusterIP, "10.90.0.35"), nil},
			"an address beside the pool":            {listing(strangers, "web", clusterIP, "10.90.0.41", "10.90.0.29", "fd00:90::2000"), nil},
			"a member's LoadBalancer":               {listing(members, "web", loadBalancer, "10.90.0.30"), nil},
			"a member's ClusterIP":                  {listing(members, "web", clusterIP, "10.90.0.30"), []string{"10.90.0.30", "is a ClusterIP", "make it a LoadBalancer"}},
			"a namespace without labels":            {listing(members, "web", loadBalancer, "10.90.0.50"), []string{`does not serve namespace "members"`, "namespaceSelector of the pool: closed DoesNotExist ; team In blue,red; tier In public; zone NotIn far"}},
			"a pool for all":                        {listing(strangers, "web", loadBalancer, "10.90.0.60"), nil},
			"a pool of a class, without it":         {listing(strangers, "web", loadBalancer, "10.90.0.70"), []string{`with spec.loadBalancerClass "example.com/few"`}},
			"a pool of a class, without the labels": {classed(listing(strangers, "web", loadBalancer, "10.90.0.70"), nil), []string{"serviceSelector of the pool: expose Exists", "label the Service"}},
			"a pool of a class":                     {classed(listing(strangers, "web", loadBalancer, "10.90.0.70"), map[string]string{"expose": ""}), nil},
			"a pool without a class, with one":      {classed(listing(members, "web", loadBalancer, "10.90.0.30"), nil), []string{"without spec.loadBalancerClass"}},
		} {
			t.Run(name, func(t *testing.T) {
				err := m.lists(t.Context(), row.service)
				if row.refused == nil {
					require.NoError(t, err)
					return
				}
				denied(t, err, row.refused...)
			})
		}
	})

	t.Run("whoever may have the address is served at it, and nobody takes it over", func(t *testing.T) {
		service := m.create(t, listing(members, "web", loadBalancer, "10.90.0.33"))
		assert.Equal(t, netip.MustParseAddr("10.90.0.33"), m.published(t, service))
		m.serves(t, netip.MustParseAddr("10.90.0.33"))

		held := m.published(t, m.create(t, from(cluster.LoadBalancer(members, "held"), "open")))
		for _, kind := range []corev1.ServiceType{clusterIP, loadBalancer} {
			m.inForce(t, listing(strangers, "web", kind, held.String()))
		}
		denied(t, m.lists(t.Context(), listing(strangers, "web", loadBalancer, held.String())), held.String(), `of pool "open", which a Service of another namespace holds`)
		require.NoError(t, m.lists(t.Context(), listing(members, "another", loadBalancer, held.String())), "within a namespace Mooring says who has it")
	})

	t.Run("labels of the namespace count as they are", func(t *testing.T) {
		service := listing(strangers, "web", loadBalancer, "10.90.0.50")
		denied(t, m.lists(t.Context(), service), "namespaceSelector")
		label := func(text string) {
			_, err := m.Kube.CoreV1().Namespaces().Patch(t.Context(), strangers, types.MergePatchType, []byte(`{"metadata":{"labels":`+text+`}}`), metav1.PatchOptions{})
			require.NoError(t, err)
		}
		label(`{"tier":"public","team":"blue"}`)
		m.Eventually(t, "the namespace is served", func(ctx context.Context) error { return m.lists(ctx, service) })
		for _, harm := range []string{`{"closed":""}`, `{"zone":"far","closed":null}`, `{"team":"green","zone":null}`, `{"team":null}`} {
			label(harm)
			m.inForce(t, service)
		}
		label(`{"team":"red","zone":"near"}`)
		m.Eventually(t, "the namespace is served", func(ctx context.Context) error { return m.lists(ctx, service) })
	})

	t.Run("a namespace is judged from the moment it is there", func(t *testing.T) {
		born := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "born", Labels: map[string]string{"tier": "public", "team": "red"}}}
		_, err := m.Kube.CoreV1().Namespaces().Create(t.Context(), born, metav1.CreateOptions{})
		require.NoError(t, err)
		require.NoError(t, m.lists(t.Context(), listing("born", "web", loadBalancer, "10.90.0.51")))
	})

	t.Run("a pool that is added counts from then on, and what was listed before stands in nobody's way", func(t *testing.T) {
		offender := m.create(t, listing(strangers, "offender", clusterIP, "10.90.0.90", "192.0.2.1"))
		annex := "name: annex, addresses: [10.90.0.90-10.90.0.99], allowedNamespaces: [members]"
		m.reload(t, pools(office, public, open, few, annex), taken)
		m.inForce(t, listing(strangers, "web", clusterIP, "10.90.0.91"))

		services := m.Kube.CoreV1().Services(strangers)
		patch := func(text string, parts ...string) error {
			_, err := services.Patch(t.Context(), offender.Name, types.MergePatchType, []byte(text), metav1.PatchOptions{}, parts...)
			return err
		}
		require.NoError(t, patch(`{"metadata":{"labels":{"a":"b"},"finalizers":["example.com/of-another"]}}`))
		require.NoError(t, patch(`{"spec":{"ports":[{"port":81}]}}`))
		require.NoError(t, patch(`{"status":{"conditions":[]}}`, "status"))
		require.NoError(t, patch(`{"spec":{"type":"NodePort"}}`))
		require.NoError(t, patch(`{"spec":{"externalIPs":["192.0.2.2","10.90.0.90"]}}`), "it lists nothing of the pool that it did not list")
		denied(t, patch(`{"spec":{"externalIPs":["10.90.0.90","10.90.0.91"]}}`), "10.90.0.91")
		require.NoError(t, patch(`{"spec":{"externalIPs":["192.0.2.2"]}}`))
		denied(t, patch(`{"spec":{"externalIPs":["10.90.0.90"]}}`), "10.90.0.90")
		require.NoError(t, patch(`{"metadata":{"finalizers":[]}}`))

		m.reload(t, pools(office, public, open, few), taken)
		m.Eventually(t, "the pool's addresses are nobody's", func(ctx context.Context) error {
			return m.lists(ctx, listing(strangers, "web", clusterIP, "10.90.0.91"))
		})
	})

	t.Run("a Service that gives its address back does not keep it listed", func(t *testing.T) {
		service := m.create(t, listing(members, "turns", loadBalancer, "10.90.0.34"))
		m.published(t, service)
		services := m.Kube.CoreV1().Services(members)
		_, err := services.Patch(t.Context(), service.Name, types.MergePatchType, []byte(`{"spec":{"type":"ClusterIP"}}`), metav1.PatchOptions{})
		denied(t, err, "10.90.0.34", "leave the address out")
		_, err = services.Patch(t.Context(), service.Name, types.MergePatchType, []byte(`{"spec":{"type":"ClusterIP","externalIPs":null}}`), metav1.PatchOptions{})
		require.NoError(t, err)
	})

	t.Run("what is done to the object is undone, and without that it is not written", func(t *testing.T) {
		objects := m.Kube.CoreV1().ConfigMaps(cluster.Namespace)
		current, err := objects.Get(t.Context(), poolAddresses, metav1.GetOptions{})
		require.NoError(t, err)
		restored := func() {
			t.Helper()
			m.Eventually(t, "the object is as it was", func(ctx context.Context) error {
				now, err := objects.Get(ctx, poolAddresses, metav1.GetOptions{})
				if err == nil && !assert.ObjectsAreEqual(current.Data, now.Data) {
					err = fmt.Errorf("it holds %v", now.Data)
				}
				return err
			})
		}
		_, err = objects.Patch(t.Context(), poolAddresses, types.MergePatchType, []byte(`{"data":{"lengths.4":null,"0.0.0.0_0":"open"}}`), metav1.PatchOptions{})
		require.NoError(t, err)
		restored()
		require.NoError(t, objects.Delete(t.Context(), poolAddresses, metav1.DeleteOptions{}))
		restored()
		require.NoError(t, m.Apply(t.Context(), "manifests/base"))
		restored()

		m.quiet(t)
		begin := time.Now()
		require.NoError(t, m.Controllers[0].Restart())
		m.published(t, m.create(t, cluster.LoadBalancer(members, "next")))
		m.quiet(t)
		for what, count := range counted(t, ourWrites(t, m.Cluster, begin)) {
			if strings.Contains(what, "configmaps") {
				t.Errorf("%s: %d times", what, count)
			}
		}
	})

	t.Run("thousands of ranges, and of addresses in use, cost no more than the API server allows", func(t *testing.T) {
		const ranges = 5000
		var many []string
		for i := range ranges {
			many = append(many, netip.AddrFrom4([4]byte{10, 91, byte(i / 128), byte(2 * (i % 128))}).String())
		}
		m.reload(t, pools(office, public, open, few, "name: many, addresses: ["+strings.Join(many, ", ")+"], allowedNamespaces: [members]"), taken)
		m.inForce(t, listing(strangers, "web", clusterIP, many[ranges-1]))
		others := make([]string, 99)
		for i := range others {
			others[i] = netip.AddrFrom4([4]byte{10, 91, byte(i), 1}).String()
		}
		require.NoError(t, m.lists(t.Context(), listing(strangers, "web", clusterIP, others...)))
		denied(t, m.lists(t.Context(), listing(strangers, "web", clusterIP, append(others, many[0])...)), many[0], `of pool "many"`)

		// The controller would delete the object of a node that there is not.
		require.NoError(t, m.Controllers[0].Stop())
		full := &v1alpha1.NodeAddresses{ObjectMeta: metav1.ObjectMeta{Name: "full"}}
		for i := range ranges {
			full.Spec.Addresses = append(full.Spec.Addresses, v1alpha1.Address{
				Address: netip.AddrFrom4([4]byte{10, 92, byte(i / 250), byte(i % 250)}).String(), Interface: "pl0", Pool: "elsewhere", State: v1alpha1.Hold, Term: 1,
				Services: []v1alpha1.ServiceReference{{Namespace: members, Name: fmt.Sprintf("web-%d", i), UID: types.UID(fmt.Sprint(i))}},
			})
		}
		_, err := m.NodeAddresses.Create(t.Context(), full, metav1.CreateOptions{})
		require.NoError(t, err)
		m.inForce(t, listing(strangers, "web", clusterIP, "10.92.0.0"))
		denied(t, m.lists(t.Context(), listing(strangers, "web", clusterIP, append(others, full.Spec.Addresses[ranges-1].Address)...)), `of pool "elsewhere"`)
		for i := range 3 {
			others = append(others, netip.AddrFrom4([4]byte{10, 93, 0, byte(i)}).String())
		}
		denied(t, m.lists(t.Context(), listing(strangers, "web", clusterIP, others...)), "more than 100 addresses")
		require.NoError(t, m.Controllers[0].Start(), "the Services are to go")
	})
}

// TestExternalIPsBeforeTheController tells that the policies stand in nobody's way while nothing is known of pools: the
// controller has not run yet, or the object that it writes is gone.
func TestExternalIPsBeforeTheController(t *testing.T) {
	c := start(t, cluster.Options{Manifests: "manifests/base", Nodes: []cluster.NodeOptions{{Name: "n1"}}})
	m := &moored{Cluster: c}
	m.alsoInUse(t)
	service := listing("default", "web", corev1.ServiceTypeClusterIP, "10.90.0.30")
	m.Eventually(t, "the policies are in force", func(ctx context.Context) error {
		many := listing("default", "web", corev1.ServiceTypeClusterIP)
		for i := range 101 {
			many.Spec.ExternalIPs = append(many.Spec.ExternalIPs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String())
		}
		_, err := c.NodeAddresses.Create(ctx, &v1alpha1.NodeAddresses{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		if m.lists(ctx, many) == nil {
			return errors.New("more than 100 addresses are taken")
		}
		return nil
	})
	require.NoError(t, m.lists(t.Context(), service))
	require.NoError(t, c.Kube.CoreV1().ConfigMaps(cluster.Namespace).Delete(t.Context(), poolAddresses, metav1.DeleteOptions{}))
	m.Throughout(t, settle, "Services are taken", func(ctx context.Context) error {
		return errors.Join(m.lists(ctx, service), m.lists(ctx, listing("default", "web", corev1.ServiceTypeClusterIP)))
	})
	_, err := c.Kubectl(t.Context(), "delete", "customresourcedefinition", "nodeaddresses.mooring.dev")
	require.NoError(t, err)
	m.Throughout(t, settle, "Services are taken", func(ctx context.Context) error {
		return errors.Join(m.lists(ctx, service), m.lists(ctx, listing("default", "web", corev1.ServiceTypeClusterIP)))
	})
}

// TestListedAddressIsNobodyElses tells of a pool that serves several namespaces: an address that a Service lists in
// spec.externalIPs without having it, which kube-proxy serves for it, never becomes that of another namespace's
// Service, and whoever asks for it is told.
func TestListedAddressIsNobodyElses(t *testing.T) {
	m := install(t, pools("name: open, addresses: [10.90.0.30, 10.90.0.31, 10.90.0.33]"))
	strangers, tenants := m.Namespace(t, "strangers"), m.Namespace(t, "tenants")
	early := m.create(t, listing(strangers, "early", corev1.ServiceTypeNodePort, "10.90.0.32"))
	open := pools("name: open, addresses: [10.90.0.30-10.90.0.33]")
	m.reload(t, open, taken)
	_, err := m.Kube.CoreV1().ConfigMaps(cluster.Namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "mooring-cloud-config"}, Data: map[string]string{"cloud-config.yaml": open},
	}, metav1.CreateOptions{})
	require.NoError(t, err)

	thief := annotated(listing(strangers, "thief", corev1.ServiceTypeLoadBalancer, "10.90.0.31"), lb.AnnotationAddresses, "10.90.0.30")
	thief = m.create(t, thief, m.backends[0])
	assert.Equal(t, netip.MustParseAddr("10.90.0.30"), m.published(t, thief))
	web := m.create(t, cluster.LoadBalancer(tenants, "web"), m.backends[1])
	assert.Equal(t, netip.MustParseAddr("10.90.0.33"), m.published(t, web), "the only one that nobody lists")
	waiting := m.create(t, cluster.LoadBalancer(tenants, "waiting"))
	asking := m.create(t, annotated(cluster.LoadBalancer(tenants, "asking"), lb.AnnotationAddresses, "10.90.0.31"), m.backends[1])
	const told = "mooring.dev/addresses asks for 10.90.0.31, which Service strangers/thief lists in spec.externalIPs"
	refused := func() {
		t.Helper()
		m.refused(t, asking, lb.ReasonAddressInUse, told)
		m.refused(t, waiting, lb.ReasonPoolExhausted, "2 listed in spec.externalIPs by Services that do not have them")
	}
	refused()
	explained, err := m.KubectlMooring(t.Context(), "explain", "service", asking.Name, "-n", tenants)
	require.NoError(t, err)
	assert.Contains(t, strings.Join(strings.Fields(explained), " "), told)

	require.NoError(t, m.Controllers[0].Restart())
	m.refused(t, m.create(t, cluster.LoadBalancer(tenants, "young")), lb.ReasonPoolExhausted, "2 listed in spec.externalIPs")
	refused()
	assert.Equal(t, netip.MustParseAddr("10.90.0.33"), m.published(t, web))

	m.edit(t, thief, func(service *corev1.Service) { service.Spec.ExternalIPs = nil })
	assert.Equal(t, netip.MustParseAddr("10.90.0.31"), m.published(t, asking), "as soon as it is listed no more")
	m.remove(t, early)
	assert.Equal(t, netip.MustParseAddr("10.90.0.32"), m.published(t, waiting))

	node := m.backends[1].Node.Name
	at := netip.MustParseAddrPort("10.90.0.31:80")
	answered(t, m.Cluster, at, func(ctx context.Context) (string, error) { return m.Client.Get(ctx, at, "/") }, node)
	m.Throughout(t, settle, "the traffic is the tenant's", func(ctx context.Context) error {
		answer, err := m.Client.Get(ctx, at, "/")
		if err == nil && !strings.HasPrefix(answer, node) {
			err = fmt.Errorf("%q answers", answer)
		}
		return err
	})
}
