package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// requests tells what a Service may ask for at a load balancer, and what is refused.
func (b *balanced) requests(t *testing.T) {
	t.Run("a wanted port", func(t *testing.T) {
		namespace := b.Namespace(t, "wanted")
		service, at := b.serve(t, annotated(cluster.LoadBalancer(namespace, "web"), lb.AnnotationLBPorts, "http=8117"), "edge")
		assert.Equal(t, uint16(8117), at)

		other := b.create(t, annotated(from(cluster.LoadBalancer(namespace, "other"), "edge"), lb.AnnotationLBPorts, "80=8117"))
		b.refused(t, other, lb.ReasonPortInUse, "port 8117/TCP")
		b.edit(t, other, func(s *corev1.Service) { annotated(s, lb.AnnotationLBPorts, "80=8118") })
		assert.Equal(t, []uint16{8118}, b.ports(t, other, 1))

		b.edit(t, service, func(s *corev1.Service) { annotated(s, lb.AnnotationLBPorts, "http=8116") })
		b.Eventually(t, "it moves", func(ctx context.Context) error {
			now, err := b.portsNow(ctx, service)
			if err == nil && !slices.Equal(now, []uint16{8116}) {
				err = fmt.Errorf("it is at %v", now)
			}
			return err
		})
		b.passesAtOnce(t, 8116)
		b.closed(t, 8117)
	})

	t.Run("some of its ports only", func(t *testing.T) {
		service := cluster.LoadBalancer(b.Namespace(t, "limited"), "web")
		service.Spec.Ports = append(service.Spec.Ports, port("metrics", corev1.ProtocolTCP, 9100))
		b.serve(t, annotated(service, lb.AnnotationLBPorts, "http"), "edge")
	})

	t.Run("what no port can be is refused with the way out", func(t *testing.T) {
		namespace := b.Namespace(t, "bad")
		for value, words := range map[string]string{
			"http=70000": "write a number from 1 to 65535",
			"ftp=8115":   "write a port's name",
		} {
			service := b.create(t, annotated(from(cluster.LoadBalancer(namespace, strings.Split(value, "=")[0]), "edge"), lb.AnnotationLBPorts, value))
			b.refused(t, service, lb.ReasonInvalidRequest, words)
		}
	})

	t.Run("timeouts", func(t *testing.T) {
		service := annotated(cluster.LoadBalancer(b.Namespace(t, "timeouts"), "web"), lb.AnnotationProxyTimeout, "90s")
		service, at := b.serve(t, annotated(service, lb.AnnotationProxyConnectTimeout, "3s"), "edge")
		b.file(t, at, corev1.ProtocolTCP, "proxy_timeout 90s;\n    proxy_connect_timeout 3s;")
		b.edit(t, service, func(s *corev1.Service) { annotated(s, lb.AnnotationProxyTimeout, "2h") })
		b.file(t, at, corev1.ProtocolTCP, "proxy_timeout 7200s;")
		b.edit(t, service, func(s *corev1.Service) { annotated(s, lb.AnnotationProxyTimeout, "soon") })
		b.degraded(t, service, lb.ReasonInvalidRequest, "such as 90s or 10m")
		b.passesAtOnce(t, at)
	})

	t.Run("another pool: it is told there, published, and then withdrawn", b.movesToAnotherPool)
	t.Run("what a load balancer cannot do is refused before anything is published", b.unsupported)
	t.Run("a backend of PaperLB is taken over, and no connection is lost", b.takesOver)
}

func (b *balanced) movesToAnotherPool(t *testing.T) {
	service, old := b.serve(t, cluster.LoadBalancer(b.Namespace(t, "moved"), "web"), "edge")
	begin := time.Now()
	end := connecting(t, "what it publishes", func(ctx context.Context) error {
		now, err := b.portsNow(ctx, service)
		if err != nil || len(now) != 1 {
			return fmt.Errorf("it publishes %v: %w", now, err)
		}
		if _, err = b.ask(ctx, now[0], corev1.ProtocolTCP); err == nil {
			return nil
		}
		// It may have moved since.
		if now, err = b.portsNow(ctx, service); err == nil {
			_, err = b.ask(ctx, now[0], corev1.ProtocolTCP)
		}
		return err
	})
	b.edit(t, service, func(s *corev1.Service) { from(s, "side") })
	b.closed(t, old)
	end()
	next := b.ports(t, service, 1)[0]
	assert.True(t, 8120 <= next && next <= 8129, "it is at %d", next)
	told := b.callsFor(b.backend(next, corev1.ProtocolTCP), begin)
	withdrawn := b.callsFor(b.backend(old, corev1.ProtocolTCP), begin)
	require.NotEmpty(t, told)
	require.NotEmpty(t, withdrawn)
	assert.Equal(t, http.MethodPost, told[0].Method)
	assert.Equal(t, http.MethodDelete, withdrawn[0].Method)
	assert.True(t, told[0].At.Before(withdrawn[0].At))
	b.bound(t, service, metav1.ConditionTrue, "side")
}

func (b *balanced) unsupported(t *testing.T) {
	wishes := map[string]struct {
		words string
		ask   func(*corev1.Service)
	}{
		"no-node-ports": {"spec.allocateLoadBalancerNodePorts is false: set it to true", func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = new(false) }},
		"sctp":          {"serves TCP and UDP", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolSCTP }},
		"source-ranges": {"spec.loadBalancerSourceRanges: remove it", func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"} }},
		"client-ip":     {"spec.sessionAffinity ClientIP", func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }},
		"dual-stack":    {"RequireDualStack", func(s *corev1.Service) { cluster.DualStack(s) }},
	}
	namespace := b.Namespace(t, "unsupported")
	for name, wish := range wishes {
		service := from(cluster.LoadBalancer(namespace, name), "edge")
		wish.ask(service)
		b.refused(t, b.create(t, service), lb.ReasonNotSupported, wish.words)
	}
}

// takesOver is the one time at which nginx -t refuses something: while a port is in two files.
func (b *balanced) takesOver(t *testing.T) {
	b.neverRefused(t)
	namespace := b.Namespace(t, "paper")
	service := cluster.LoadBalancer(namespace, "web")
	service.Spec.Type = corev1.ServiceTypeNodePort
	service = b.create(t, service)
	nodePort := service.Spec.Ports[0].NodePort
	foreign := updatertest.Request{
		BackendName: namespace + "_web", LBPort: 8119, LBProtocol: "tcp",
		UpstreamServers: []updatertest.Target{{Host: b.Node("n1").IPv4.String(), Port: int(nodePort)}},
	}
	b.post(t, foreign)

	begin := time.Now()
	end := b.keepsPassing(t, 8119)
	b.edit(t, service, func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		annotated(annotated(from(s, "edge"), lb.AnnotationLBPorts, "http=8119"), lb.AnnotationReplacesBackend, foreign.BackendName)
	})
	assert.Equal(t, []uint16{8119}, b.ports(t, service, 1))
	b.targets(t, 8119, nodePort, "n1", "n2", "n3")
	ours := b.backend(8119, corev1.ProtocolTCP)
	order := func() (order []string) {
		for _, c := range b.updater.Calls() {
			if !c.At.Before(begin) && (c.Request.BackendName == ours || c.Request.BackendName == foreign.BackendName) {
				order = append(order, c.Method+" "+c.Request.BackendName)
			}
		}
		return order
	}
	b.Eventually(t, "ours is sent again", func(context.Context) error {
		if want := []string{"POST " + ours, "DELETE " + foreign.BackendName, "POST " + ours}; !slices.Equal(want, order()) {
			return fmt.Errorf("the calls are %v", order())
		}
		return nil
	})
	end()

	files, err := b.updater.Files()
	require.NoError(t, err)
	assert.NotContains(t, files, foreign.BackendName)
	b.forgive(t, "duplicate \"0.0.0.0:8119\"")
}

// post to the updater as PaperLB does, and again until nginx was reloaded with it: what comes during a reload waits for the
// next change.
func (b *balanced) post(t *testing.T, backend updatertest.Request) {
	t.Helper()
	body, err := json.Marshal(backend)
	require.NoError(t, err)
	var posted time.Time
	b.Eventually(t, backend.BackendName+" is served", func(ctx context.Context) error {
		if _, served := b.updater.Served()[backend.BackendName]; served {
			_, err := b.ask(ctx, uint16(backend.LBPort), corev1.ProtocolTCP)
			return err
		}
		if time.Since(posted) < time.Second {
			return errors.New("it is not yet")
		}
		posted = time.Now()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+b.at(updaterPort).String()+"/api/v1/lb", bytes.NewReader(body))
		if err != nil {
			return err
		}
		response, err := b.Client.HTTPClient(false).Do(request)
		if err != nil {
			return err
		}
		return errors.Join(errors.New(response.Status), response.Body.Close())
	})
}
