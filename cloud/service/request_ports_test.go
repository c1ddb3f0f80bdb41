package service

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// portsService has the ports http 80/TCP, dns 53/UDP and dns-tcp 53/TCP, 443/UDP, and one that is called 8080.
func portsService(annotation string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u", Annotations: map[string]string{lb.AnnotationLBPorts: annotation}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30080},
			{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, NodePort: 30053},
			{Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP, NodePort: 30054},
			{Name: "quic", Port: 443, Protocol: corev1.ProtocolUDP, NodePort: 30443},
			{Name: "8080", Port: 81, Protocol: corev1.ProtocolTCP},
		}},
	}
}

func TestLBPorts(t *testing.T) {
	for annotation, tt := range map[string]struct {
		wishes []lb.PortWish
		served int
	}{
		"":                            {served: 5},
		" , ":                         {served: 5},
		"http=8100, 53/udp = 8153":    {wishes: []lb.PortWish{{Number: 80, Protocol: lb.TCP, Port: 8100}, {Number: 53, Protocol: lb.UDP, Port: 8153}}, served: 5},
		"http":                        {wishes: []lb.PortWish{{Number: 80, Protocol: lb.TCP}}, served: 1},
		"http=8100,dns":               {wishes: []lb.PortWish{{Number: 80, Protocol: lb.TCP, Port: 8100}, {Number: 53, Protocol: lb.UDP}}, served: 2},
		"53=8153,443=8443":            {wishes: []lb.PortWish{{Number: 53, Protocol: lb.TCP, Port: 8153}, {Number: 443, Protocol: lb.UDP, Port: 8443}}, served: 5},
		"8080=8100,80/TCP=8101":       {wishes: []lb.PortWish{{Number: 81, Protocol: lb.TCP, Port: 8100}, {Number: 80, Protocol: lb.TCP, Port: 8101}}, served: 5},
		"dns=65535,dns-tcp=65535":     {wishes: []lb.PortWish{{Number: 53, Protocol: lb.UDP, Port: 65535}, {Number: 53, Protocol: lb.TCP, Port: 65535}}, served: 5},
		"53/tcp=1,53/udp=1,http,quic": {wishes: []lb.PortWish{{Number: 53, Protocol: lb.TCP, Port: 1}, {Number: 53, Protocol: lb.UDP, Port: 1}, {Number: 80, Protocol: lb.TCP}, {Number: 443, Protocol: lb.UDP}}, served: 4},
	} {
		t.Run(annotation, func(t *testing.T) {
			r, refusal := RequestOf(portsService(annotation), nil, nil)
			require.Nil(t, refusal)
			assert.Equal(t, tt.wishes, r.LBPorts)
			assert.Len(t, r.Served(), tt.served)
		})
	}
	const has = "which has http (80/TCP), dns (53/UDP), dns-tcp (53/TCP), quic (443/UDP), 8080 (81/TCP)"
	for annotation, message := range map[string]string{
		"https=8443":              `annotation mooring.dev/lb-ports: "https" is no port of the Service, ` + has + `: write a port's name, or its number such as 53 or 53/udp`,
		"80/udp=8100":             `annotation mooring.dev/lb-ports: "80/udp" is no port of the Service, ` + has + `: write a port's name, or its number such as 53 or 53/udp`,
		"=8100":                   `annotation mooring.dev/lb-ports: "" is no port of the Service, ` + has + `: write a port's name, or its number such as 53 or 53/udp`,
		"http=":                   `annotation mooring.dev/lb-ports: "" in "http=" is not a port: write a number from 1 to 65535, such as http=8100`,
		"http=0":                  `annotation mooring.dev/lb-ports: "0" in "http=0" is not a port: write a number from 1 to 65535, such as http=8100`,
		"http=65536":              `annotation mooring.dev/lb-ports: "65536" in "http=65536" is not a port: write a number from 1 to 65535, such as http=8100`,
		"http=8100=1":             `annotation mooring.dev/lb-ports: "8100=1" in "http=8100=1" is not a port: write a number from 1 to 65535, such as http=8100`,
		"http=8100,80=8101":       `annotation mooring.dev/lb-ports: "80=8101" names port http (80/TCP) of the Service for the second time: name each port once`,
		"http=8100,dns-tcp=08100": `annotation mooring.dev/lb-ports: "http=8100" and "dns-tcp=08100" ask for the same port 8100/TCP at the load balancer: ask for different ones`,
	} {
		t.Run(annotation+" is refused", func(t *testing.T) {
			_, refusal := RequestOf(portsService(annotation), nil, nil)
			assert.Equal(t, &lb.Refusal{Reason: lb.ReasonInvalidRequest, Message: message}, refusal)
		})
	}
	t.Run("a number that is several ports and none for TCP", func(t *testing.T) {
		svc := portsService("53=8100")
		svc.Spec.Ports[2].Protocol = corev1.ProtocolSCTP
		_, refusal := RequestOf(svc, nil, nil)
		require.NotNil(t, refusal)
		assert.Contains(t, refusal.Message, `"53" may be more than one port of the Service`)
		assert.Contains(t, refusal.Message, "write the protocol too, such as 53/udp")
	})
}

// What a load balancer behind an updater cannot do is seen on the Service.
func TestRequestOfWhatUpdatersCannotDo(t *testing.T) {
	r, _ := RequestOf(portsService(""), nil, nil)
	assert.False(t, r.SourceRanges || r.ClientIP || r.NoNodePorts, "a port without a node port may get one yet")

	svc := portsService("")
	svc.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
	svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	svc.Spec.AllocateLoadBalancerNodePorts = new(false)
	r, _ = RequestOf(svc, nil, nil)
	assert.True(t, r.SourceRanges)
	assert.True(t, r.ClientIP)
	assert.True(t, r.NoNodePorts)

	svc = portsService("http,dns")
	svc.Spec.AllocateLoadBalancerNodePorts = new(false)
	r, _ = RequestOf(svc, nil, nil)
	assert.False(t, r.NoNodePorts, "every port that is served has one")

	svc = portsService("")
	svc.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey] = "198.51.100.0/24"
	r, _ = RequestOf(svc, nil, nil)
	assert.True(t, r.SourceRanges, "the annotation that came before the field")
}
