package service

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// What kube-proxy serves is known of every Service, whatever is wrong with it otherwise, and however the address is
// written.
func TestExposed(t *testing.T) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{lb.AnnotationAddresses: "none"}},
		Spec: corev1.ServiceSpec{
			Type:        corev1.ServiceTypeClusterIP,
			ExternalIPs: []string{"192.0.2.9", "192.000.002.010", "::ffff:192.0.2.9", "2001:db8::0:7", "office"},
		},
	}
	want := []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::7")}
	assert.Equal(t, want, Exposed(svc))
	assert.Equal(t, want, SnapshotOf(svc, nil, func(string) bool { return true }).ExternalIPs)
}

func TestRequestOf(t *testing.T) {
	service := func(annotations map[string]string) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u", Annotations: annotations},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol},
				IPFamilyPolicy:        new(corev1.IPFamilyPolicyPreferDualStack),
				ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
				Selector:              map[string]string{"b": "2", "a": "1"},
				Ports:                 []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}},
				ExternalIPs:           []string{"192.0.2.9"},
				LoadBalancerIP:        "192.0.2.8",
			},
		}
	}
	t.Run("everything that a Service can ask for", func(t *testing.T) {
		r, refusal := RequestOf(service(map[string]string{
			lb.AnnotationPool:         "office",
			lb.AnnotationAddresses:    " 192.0.2.7, ::ffff:192.0.2.7,2001:db8::7,",
			lb.AnnotationSharingKey:   "k",
			lb.AnnotationNodeSelector: "edge=true",
		}), map[string]string{"tier": "public"}, []string{"n1"})
		require.Nil(t, refusal)
		assert.Equal(t, "office", r.Pool)
		assert.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, r.Addresses)
		assert.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.9")}, r.ExternalIPs)
		assert.Equal(t, netip.MustParseAddr("192.0.2.8"), r.LoadBalancerIP)
		assert.Equal(t, "k", r.SharingKey)
		assert.Equal(t, "edge=true", r.NodeSelector.String())
		assert.Equal(t, []lb.Family{lb.IPv6, lb.IPv4}, r.Families)
		assert.Equal(t, lb.PreferDualStack, r.FamilyPolicy)
		assert.Equal(t, "a=1,b=2", r.PodSelector)
		assert.Equal(t, []string{"n1"}, r.EndpointNodes)
		assert.Equal(t, []lb.Port{{Name: "http", Number: 80, NodePort: 30080, Protocol: "TCP"}}, r.Ports)
	})
	t.Run("PaperLB's name for a pool, unless ours is there", func(t *testing.T) {
		r, _ := RequestOf(service(map[string]string{lb.AnnotationPaperLBConfig: "theirs"}), nil, nil)
		assert.Equal(t, "theirs", r.Pool)
		r, _ = RequestOf(service(map[string]string{lb.AnnotationPaperLBConfig: "theirs", lb.AnnotationPool: "ours"}), nil, nil)
		assert.Equal(t, "ours", r.Pool)
	})
	for name, tt := range map[string]struct {
		annotations map[string]string
		ip          string
		message     string
	}{
		"an address that is none": {
			annotations: map[string]string{lb.AnnotationAddresses: "192.0.2.7,192.0.2"},
			message:     `annotation mooring.dev/addresses: "192.0.2" is not an IP address; write addresses separated by commas`,
		},
		"a network instead of an address": {
			annotations: map[string]string{lb.AnnotationAddresses: "192.0.2.0/24"},
			message:     `annotation mooring.dev/addresses: "192.0.2.0/24" is not an IP address; write addresses separated by commas`,
		},
		"a proxy timeout of no time": {
			annotations: map[string]string{lb.AnnotationProxyTimeout: "500ms"},
			message:     `annotation mooring.dev/proxy-timeout: "500ms" is not a number of whole seconds from 1s to 720h, such as 90s or 10m`,
		},
		"another namespace's backend": {
			annotations: map[string]string{lb.AnnotationReplacesBackend: "other_web"},
			message: `annotation mooring.dev/replaces-backend: "other_web" is not the name of a backend of this namespace: ` +
				`write one such as default_web, of letters, digits, _ and -`,
		},
		"a name in loadBalancerIP": {ip: "office", message: `spec.loadBalancerIP: "office" is not an IP address`},
	} {
		t.Run(name+" is refused by name", func(t *testing.T) {
			svc := service(tt.annotations)
			if tt.ip != "" {
				svc.Spec.LoadBalancerIP = tt.ip
			}
			_, refusal := RequestOf(svc, nil, nil)
			assert.Equal(t, &lb.Refusal{Reason: lb.ReasonInvalidRequest, Message: tt.message}, refusal)
		})
	}
	t.Run("a node selector that is none", func(t *testing.T) {
		_, refusal := RequestOf(service(map[string]string{lb.AnnotationNodeSelector: "edge=="}), nil, nil)
		require.Nil(t, refusal, "an empty value is a value")
		_, refusal = RequestOf(service(map[string]string{lb.AnnotationNodeSelector: "=true"}), nil, nil)
		require.NotNil(t, refusal)
		assert.Contains(t, refusal.Message, `annotation mooring.dev/node-selector: "=true" is not a label selector`)
		assert.Contains(t, refusal.Message, "; write it as kubectl get -l takes it, such as edge=true")
	})
}

func TestEndpointNodes(t *testing.T) {
	endpoint := func(node string, ready, serving, terminating bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{
			NodeName:   &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		}
	}
	slice := func(endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{Endpoints: endpoints}
	}
	terminating, ready := endpoint("n1", false, true, true), endpoint("n2", true, true, false)
	assert.Equal(t, []string{"n2"}, EndpointNodes([]*discoveryv1.EndpointSlice{slice(terminating), slice(ready, ready)}))
	assert.Equal(t, []string{"n1"}, EndpointNodes([]*discoveryv1.EndpointSlice{slice(terminating)}),
		"without a ready endpoint the terminating ones serve on")
	assert.Empty(t, EndpointNodes([]*discoveryv1.EndpointSlice{slice(endpoint("n3", false, false, true))}))
}

// TestOneMistakeHidesNothing: what else a Service says counts, and of two mistakes the same one is named each time.
func TestOneMistakeHidesNothing(t *testing.T) {
	svc := portsService("http=8100,dns")
	svc.Annotations[lb.AnnotationNodeSelector] = "edge=true"
	svc.Annotations[lb.AnnotationProxyTimeout], svc.Annotations[lb.AnnotationProxyConnectTimeout] = "soon", "later"
	for range 50 {
		r, refusal := RequestOf(svc, nil, nil)
		require.NotNil(t, refusal)
		assert.Contains(t, refusal.Message, lb.AnnotationProxyTimeout)
		assert.Len(t, r.Served(), 2)
		assert.NotNil(t, r.NodeSelector)
	}
	svc.Annotations[lb.AnnotationLBPorts] = "http,bogus"
	r, _ := RequestOf(svc, nil, nil)
	assert.Len(t, r.Served(), 5, "half of a list is not what was meant")
}
