package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// streamFor is how long people do what they like; longStream with LONG=1.
	streamFor  = 30 * time.Second
	longStream = 5 * time.Minute
	// killEvery is how often the controller is killed; it leads again after some 6 s.
	killEvery = 10 * time.Second
	// streamSize is how many Services there are at most. The two ranges have room for them, and for little more.
	streamSize = 12
)

// TestUpdaterStream has people do what they like with Services and nodes, strip finalizers and kill the controller:
// nginx never gets a file that nginx -t refuses, and in the end it serves exactly what the Services publish. SEED=<n>
// repeats the choices of one run.
func TestUpdaterStream(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "SEED")
	}
	t.Logf("SEED=%d", seed)
	b := balance(t, newBalancer(t), cluster.Options{Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}}})
	b.authorize(t)
	b.withoutAgents(t, cloudConfigOf("5s", b.updaterPool("edge", "8100, high: 8119", b.hosted()+b.bearer()), b.updaterPool("side", "8120, high: 8124", b.hosted())))
	p := &people{balanced: b, random: rand.New(rand.NewPCG(seed, 0)), namespace: b.namespace(t, "stream"), killed: time.Now()}

	duration := streamFor
	if os.Getenv("LONG") == "1" {
		duration = longStream
	}
	for end := time.Now().Add(duration); time.Now().Before(end); {
		p.act(t)
		b.passedSoFar(t)
	}
	p.rest(t)
	b.neverRefused(t)
	made, _ := b.updater.Reloads()
	posts, deletes := b.updater.Count()
	t.Logf("%d acts; %d pushes, %d removals, %d reloads", p.acts, posts, deletes, made)
}

// people who act at random.
type people struct {
	*balanced
	random    *rand.Rand
	namespace string
	acts      int
	// killed is when the controller was killed last.
	killed time.Time
}

// act does one thing. What the API server refuses is not done.
func (p *people) act(t *testing.T) {
	t.Helper()
	p.acts++
	name := fmt.Sprintf("web-%d", p.random.IntN(streamSize))
	services := p.Kube.CoreV1().Services(p.namespace)
	var err error
	switch choice := p.random.IntN(100); {
	case choice < 35:
		_, err = services.Create(t.Context(), p.any(name), metav1.CreateOptions{})
	case choice < 45:
		err = services.Delete(t.Context(), name, metav1.DeleteOptions{})
	case choice < 50: // by force
		none := []byte(`{"metadata":{"finalizers":null}}`)
		err = services.Delete(t.Context(), name, metav1.DeleteOptions{})
		if err == nil {
			_, err = services.Patch(t.Context(), name, types.MergePatchType, none, metav1.PatchOptions{})
		}
	case choice < 80:
		err = p.change(t.Context(), name)
	case choice < 90:
		label := p.random.IntN(2) == 0
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:"%t"}}}`, lb.LabelExcludeNode, label)
		_, err = p.Kube.CoreV1().Nodes().Patch(t.Context(), p.Nodes[p.random.IntN(len(p.Nodes))].Name, types.MergePatchType, patch, metav1.PatchOptions{})
	case time.Since(p.killed) > killEvery:
		p.killed = time.Now()
		err = errors.Join(p.Controllers[0].Kill(), p.Controllers[0].Start())
	}
	pause := time.Duration(p.random.IntN(200)) * time.Millisecond
	p.Throughout(t, pause, "the controller runs", func(context.Context) error { return p.Controllers[0].Ended() })
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsInvalid(err) && !apierrors.IsConflict(err) {
		require.NoError(t, err)
	}
}

// change something of a Service.
func (p *people) change(ctx context.Context, name string) error {
	services := p.Kube.CoreV1().Services(p.namespace)
	current, err := services.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	other := p.any(name)
	switch p.random.IntN(6) {
	case 0:
		current.Spec.Ports = other.Spec.Ports
	case 1:
		current.Annotations = other.Annotations
	case 2:
		current.Spec.Ports[0].NodePort = 30000 + int32(p.random.IntN(2768))
	case 3:
		current.Spec.Type = corev1.ServiceTypeClusterIP
		for i := range current.Spec.Ports {
			current.Spec.Ports[i].NodePort = 0
		}
		current.Spec.ExternalTrafficPolicy = ""
	case 4:
		current.Spec.Type = corev1.ServiceTypeLoadBalancer
	default:
		current.Spec.ExternalTrafficPolicy = other.Spec.ExternalTrafficPolicy
	}
	_, err = services.Update(ctx, current, metav1.UpdateOptions{})
	return err
}

// any Service that somebody may ask for, sensible or not.
func (p *people) any(name string) *corev1.Service {
	service := cluster.LoadBalancer(p.namespace, name)
	number := func() int32 { return 8098 + int32(p.random.IntN(30)) }
	service.Spec.Ports = []corev1.ServicePort{port("http", corev1.ProtocolTCP, number())}
	if p.random.IntN(2) == 0 {
		service.Spec.Ports = append(service.Spec.Ports, port("dns", corev1.ProtocolUDP, number()))
	}
	if p.random.IntN(8) == 0 {
		service.Spec.Ports = append(service.Spec.Ports, port("strange", []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP}[p.random.IntN(2)], 7000))
	}
	some := func(key string, sensible []string, strange ...string) {
		switch choice := p.random.IntN(12); {
		case choice < 4:
			annotated(service, key, sensible[p.random.IntN(len(sensible))])
		case choice == 4:
			annotated(service, key, strange[p.random.IntN(len(strange))])
		}
	}
	some(lb.AnnotationPool, []string{"edge", "side"}, "none")
	some(lb.AnnotationLBPorts, []string{"http", fmt.Sprintf("http=%d", number()), fmt.Sprintf("http=%d", number())}, "http=0", "dns", ";")
	some(lb.AnnotationProxyTimeout, []string{"1s", "90s", "10m"}, "0s", "-5s", "1ms", "9999999h", "soon;")
	some(lb.AnnotationReplacesBackend, []string{"someone_web"}, "a b;", "../x", p.backend(uint16(number()), corev1.ProtocolTCP))
	some(lb.AnnotationNodeSelector, []string{"kubernetes.io/hostname=n1"}, "no=where", "!!")
	if p.random.IntN(4) == 0 {
		service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	return service
}

// rest has everything settle, and waits until nginx serves what the Services publish, and nothing else.
func (p *people) rest(t *testing.T) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:null}}}`, lb.LabelExcludeNode)
	for _, node := range p.Nodes {
		_, err := p.Kube.CoreV1().Nodes().Patch(t.Context(), node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, cluster.AwaitFor(t.Context(), 3*cluster.Guard, "nginx serves what the Services publish", func(ctx context.Context) error {
		list, err := p.Kube.CoreV1().Services(p.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		wanted := map[string]bool{}
		for i := range list.Items {
			if err := p.rightly(&list.Items[i], wanted); err != nil {
				return err
			}
		}
		for name := range p.updater.Served() {
			if !wanted[name] {
				return fmt.Errorf("%s is served, and nobody publishes it", name)
			}
		}
		return nil
	}))
}

// rightly is nil when nginx serves each port that the Service publishes, with its node ports. What it publishes is wanted.
func (p *people) rightly(service *corev1.Service, wanted map[string]bool) error {
	if service.DeletionTimestamp != nil {
		return fmt.Errorf("%s is still there", service.Name)
	}
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer && len(service.Status.LoadBalancer.Ingress) > 0 {
		return fmt.Errorf("%s publishes %v", service.Name, service.Status.LoadBalancer.Ingress)
	}
	served := p.updater.Served()
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		for _, at := range ingress.Ports {
			name := p.backend(uint16(at.Port), at.Protocol)
			if wanted[name] {
				return fmt.Errorf("%s is published twice", name)
			}
			wanted[name] = true
			for _, target := range targetsIn(served[name]) {
				addr, err := netip.ParseAddrPort(target)
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(service.Spec.Ports, func(s corev1.ServicePort) bool {
					return s.Protocol == at.Protocol && uint16(s.NodePort) == addr.Port()
				}) {
					return fmt.Errorf("%s of %s goes to %s, which is none of its node ports", name, service.Name, target)
				}
			}
		}
	}
	return nil
}
