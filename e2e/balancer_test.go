package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// balancerNumber is the last part of the load balancer's address.
	balancerNumber = 201
	updaterPort    = 3000
)

// loadBalancer is what stands beside a cluster: a directory of nginx's files, and the updater that writes them. It
// outlives the cluster whose wire it is on, as the real one would.
type loadBalancer struct {
	nginx   *updatertest.Nginx
	updater *updatertest.Server

	mu sync.Mutex
	// host that nginx runs on.
	host *cluster.Host
	// tests counts how often nginx -t was asked, forgiven what it may have refused.
	tests, forgiven int
}

// newBalancer makes a load balancer that is on no wire yet.
func newBalancer(t *testing.T) *loadBalancer {
	t.Helper()
	l := &loadBalancer{nginx: &updatertest.Nginx{Dir: t.TempDir()}}
	// As the user that started it: without root, nobody else exists in the namespaces.
	l.nginx.Command = func(ctx context.Context, name string, args ...string) *exec.Cmd {
		return exec.CommandContext(ctx, name, append(args, "-g", "user root;")...)
	}
	require.NoError(t, l.nginx.Write())
	l.updater = updatertest.New(updatertest.Options{
		Dir: l.nginx.Streams(),
		Test: func(ctx context.Context) error {
			l.mu.Lock()
			l.tests++
			l.mu.Unlock()
			return l.there(func() error { return l.nginx.Test(ctx) })
		},
		Reload: func(ctx context.Context) error { return l.there(func() error { return l.nginx.Reload(ctx) }) },
		// The habit that hurts: what changes during a reload waits for the next one.
		ReloadTime: 200 * time.Millisecond,
		// The other habit, of truncating a file first, hurts by chance.
		Whole: true,
	})
	return l
}

// there does something with the network of the load balancer's host.
func (l *loadBalancer) there(do func() error) error {
	l.mu.Lock()
	host := l.host
	l.mu.Unlock()
	if host == nil {
		return errors.New("the load balancer is on no wire")
	}
	return host.Do(do)
}

// plugIn puts the load balancer on a cluster's wire until the test ends.
func (l *loadBalancer) plugIn(t *testing.T, c *cluster.Cluster) *cluster.Host {
	t.Helper()
	host, err := c.AddHost("lb", balancerNumber)
	require.NoError(t, err)
	l.mu.Lock()
	l.host = host
	l.mu.Unlock()
	listener, err := host.Listen(t.Context(), netip.AddrPortFrom(host.IPv4, updaterPort))
	require.NoError(t, err)
	server := &http.Server{Handler: l.updater, ReadHeaderTimeout: cluster.Guard}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) }) // ends with the server
	running.Go(func() { l.updater.Run(ctx) })
	running.Go(func() {
		if err := host.Do(func() error { return l.nginx.Run(ctx) }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.dump())
		}
		cancel()
		_ = server.Close()
		running.Wait()
		l.mu.Lock()
		l.host = nil
		l.mu.Unlock()
	})
	return host
}

// dump is what the load balancer knows, for whoever looks for the cause of a failure.
func (l *loadBalancer) dump() string {
	var out strings.Builder
	files, err := l.updater.Files()
	fmt.Fprintf(&out, "files of the load balancer: %v %v\n", files, err)
	made, refusals := l.updater.Reloads()
	fmt.Fprintf(&out, "%d reloads; refused: %v\n", made, refusals)
	for _, c := range l.updater.Calls() {
		fmt.Fprintf(&out, "%s %s %s\n", c.At.Format("15:04:05.000"), c.Method, strings.TrimSpace(c.Body))
	}
	return out.String()
}

// neverRefused sees that nginx -t was asked, and has passed whenever it was.
func (l *loadBalancer) neverRefused(t *testing.T) {
	t.Helper()
	l.passedSoFar(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	assert.NotZero(t, l.tests, "nginx -t was never asked")
}

// passedSoFar sees that nginx -t has passed whenever it was asked.
func (l *loadBalancer) passedSoFar(t *testing.T) {
	t.Helper()
	_, refusals := l.updater.Reloads()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, refusal := range refusals[l.forgiven:] {
		// Between listing the directory and reading a file of it: then the file was removed, and was not refused.
		if !strings.Contains(refusal.Error(), "(2: No such file or directory)") {
			require.NoError(t, refusal, "nginx has refused to be reloaded")
		}
	}
}

// forgive what nginx -t has refused, each time with these words.
func (l *loadBalancer) forgive(t *testing.T, words string) {
	t.Helper()
	_, refusals := l.updater.Reloads()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, refusal := range refusals[l.forgiven:] {
		require.ErrorContains(t, refusal, words)
	}
	l.forgiven = len(refusals)
}

// callsFor are the calls about a backend from then on.
func (l *loadBalancer) callsFor(name string, since time.Time) []updatertest.Call {
	return slices.DeleteFunc(l.updater.Calls(), func(c updatertest.Call) bool {
		return c.Request.BackendName != name || c.At.Before(since)
	})
}

// balanced is a cluster with Mooring and a load balancer.
type balanced struct {
	*moored
	*loadBalancer
	host *cluster.Host
	// prefix of the names of the cluster's backends.
	prefix string
	// tokenFile of authorize.
	tokenFile string
}

// balance starts a cluster with a load balancer beside it. Mooring is not deployed yet.
func balance(t *testing.T, l *loadBalancer, options cluster.Options) *balanced {
	t.Helper()
	options.Manifests = "manifests/base"
	b := &balanced{moored: &moored{Cluster: start(t, options)}, loadBalancer: l}
	b.host = l.plugIn(t, b.Cluster)
	system, err := b.Kube.CoreV1().Namespaces().Get(t.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	require.NoError(t, err)
	b.prefix = "kubernetes-" + string(system.UID)[:8] + "_"
	return b
}

// updaterPool is one of a cloud-config at the load balancer, with a range of ports such as "8100, high: 8119" and
// further keys of its updater.
func (b *balanced) updaterPool(name, ports, keys string) string {
	return fmt.Sprintf("- name: %s\n  updater: {urls: [\"http://%s/api/v1/lb\"], portRange: {low: %s}, timeout: 1s%s}\n",
		name, netip.AddrPortFrom(b.host.IPv4, updaterPort), ports, keys)
}

// authorize has the pools of bearer send a token, which nobody may hear of.
func (b *balanced) authorize(t *testing.T) {
	t.Helper()
	const token = "updtupdtupdtupdtupdtupdtupdtupdtupdtupdtupdt"
	b.Secret("the token of the updater", token)
	b.tokenFile = filepath.Join(t.TempDir(), "updater-token")
	require.NoError(t, os.WriteFile(b.tokenFile, []byte(token+"\n"), 0o600))
}

// bearer is the key of an updater that is sent a token, after authorize.
func (b *balanced) bearer() string {
	if b.tokenFile == "" {
		return ""
	}
	return fmt.Sprintf(", bearerTokenFile: %q", b.tokenFile)
}

// hosted is the key of an updater that publishes the load balancer's address.
func (b *balanced) hosted() string { return ", host: " + b.host.IPv4.String() }

// cloudConfigOf pools, with everything sent again at that interval.
func cloudConfigOf(resync string, pools ...string) string {
	return "apiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\nresyncInterval: " + resync + "\npools:\n" + strings.Join(pools, "")
}

// ports waits until the Service publishes so many ports of one host, and nothing else, and returns them in order.
func (b *balanced) ports(t *testing.T, service *corev1.Service, n int) []uint16 {
	t.Helper()
	var ports []uint16
	b.Eventually(t, fmt.Sprintf("%s publishes %d ports", service.Name, n), func(ctx context.Context) (err error) {
		if ports, err = b.portsNow(ctx, service); err == nil && len(ports) != n {
			err = fmt.Errorf("they are %v", ports)
		}
		return err
	})
	return ports
}

// portsNow are the ports that the Service publishes.
func (b *balanced) portsNow(ctx context.Context, service *corev1.Service) (ports []uint16, err error) {
	current, err := b.Kube.CoreV1().Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	ingress := current.Status.LoadBalancer.Ingress
	if len(ingress) > 1 {
		return nil, fmt.Errorf("its status is %+v", ingress)
	}
	for _, i := range ingress {
		for _, p := range i.Ports {
			ports = append(ports, uint16(p.Port))
		}
	}
	return ports, nil
}

// at is a port of the load balancer.
func (b *balanced) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(b.host.IPv4, port) }

// ask a backend at a port, over TCP or UDP, once.
func (b *balanced) ask(ctx context.Context, port uint16, protocol corev1.Protocol) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if protocol == corev1.ProtocolUDP {
		return b.Client.AskUDP(ctx, b.at(port))
	}
	return b.Client.Get(ctx, b.at(port), "/")
}

// passes waits until the client is answered through the load balancer's port, by a backend whose answer begins so.
func (b *balanced) passes(t *testing.T, port uint16, protocol corev1.Protocol, want string) {
	t.Helper()
	answered(t, b.Cluster, b.at(port), func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Second) // a datagram may be lost
		defer cancel()
		return b.ask(ctx, port, protocol)
	}, want)
}

// serve creates a Service whose first port is TCP, of the pool, and waits until the client is answered there.
func (b *balanced) serve(t *testing.T, service *corev1.Service, pool string, backends ...*cluster.Backend) (*corev1.Service, uint16) {
	t.Helper()
	service = b.create(t, from(service, pool), backends...)
	return service, b.served(t, service)
}

// served waits until the client is answered at the Service's first port, which is TCP, through every node.
func (b *balanced) served(t *testing.T, service *corev1.Service) uint16 {
	t.Helper()
	at := b.ports(t, service, 1)[0]
	b.throughEveryNode(t, at)
	return at
}

// throughEveryNode waits until the client is answered at a TCP port through every node: kube-proxy serves a new node
// port up to a second later, and not on every node at the same moment.
func (b *balanced) throughEveryNode(t *testing.T, port uint16) {
	t.Helper()
	b.Eventually(t, b.at(port).String()+" is served through every node", func(ctx context.Context) error {
		for range 2 * len(b.Nodes) {
			if _, err := b.ask(ctx, port, corev1.ProtocolTCP); err != nil {
				return err
			}
		}
		return nil
	})
}

// passesAtOnce makes one connection, now.
func (b *balanced) passesAtOnce(t *testing.T, port uint16) {
	t.Helper()
	answer, err := b.ask(t.Context(), port, corev1.ProtocolTCP)
	require.NoError(t, err, "a connection to %s", b.at(port))
	assert.Regexp(t, "^n[0-9] ", answer)
}

// keepsPassing connects to the port every 10 ms until the returned function is called, and no connection fails.
func (b *balanced) keepsPassing(t *testing.T, port uint16) (end func()) {
	t.Helper()
	return connecting(t, b.at(port).String(), func(ctx context.Context) error {
		_, err := b.ask(ctx, port, corev1.ProtocolTCP)
		return err
	})
}

// closed waits until nothing listens on a TCP port of the load balancer, and no file of ours is about it.
func (b *balanced) closed(t *testing.T, port uint16) {
	t.Helper()
	require.NoError(t, cluster.AwaitFor(t.Context(), 2*cluster.Guard, b.at(port).String()+" is closed", func(ctx context.Context) error {
		files, err := b.updater.Files()
		if err != nil {
			return err
		}
		if content, exists := files[b.backend(port, corev1.ProtocolTCP)]; exists {
			return fmt.Errorf("its file is %s", content)
		}
		if answer, err := b.ask(ctx, port, corev1.ProtocolTCP); err == nil {
			return fmt.Errorf("it answers %q", answer)
		}
		return nil
	}))
}

// backend is the name of the backend on a port.
func (b *balanced) backend(port uint16, protocol corev1.Protocol) string {
	return b.prefix + strconv.Itoa(int(port)) + "_" + strings.ToLower(string(protocol))
}

// file waits until the load balancer's file of a port says something.
func (b *balanced) file(t *testing.T, port uint16, protocol corev1.Protocol, says string) {
	t.Helper()
	name := b.backend(port, protocol)
	b.Eventually(t, fmt.Sprintf("the file %s says %q", name, says), func(context.Context) error {
		files, err := b.updater.Files()
		if err == nil && !strings.Contains(files[name], says) {
			err = fmt.Errorf("it is %q of %v", files[name], files)
		}
		return err
	})
}

// targets waits until nginx was reloaded with exactly these nodes behind a port, at the node port.
func (b *balanced) targets(t *testing.T, port uint16, nodePort int32, names ...string) {
	t.Helper()
	var want []string
	for _, name := range names {
		want = append(want, netip.AddrPortFrom(b.Node(name).IPv4, uint16(nodePort)).String())
	}
	b.Eventually(t, fmt.Sprintf("%v are behind %d", names, port), func(context.Context) error {
		content := b.updater.Served()[b.backend(port, corev1.ProtocolTCP)]
		if found := targetsIn(content); !slices.Equal(found, want) {
			return fmt.Errorf("they are %v instead of %v", found, want)
		}
		return nil
	})
}

// targetsIn a file of nginx.
func targetsIn(content string) (targets []string) {
	for line := range strings.Lines(content) {
		if target, ok := strings.CutPrefix(strings.TrimSpace(line), "server "); ok && strings.HasSuffix(target, ";") {
			targets = append(targets, strings.TrimSuffix(target, ";"))
		}
	}
	return targets
}

// nodePort of the Service's i-th port, as it is now.
func (b *balanced) nodePort(t *testing.T, service *corev1.Service, i int) int32 {
	t.Helper()
	return b.created(t, service.Namespace, service.Name).Spec.Ports[i].NodePort
}

// setType of the Service. Node ports go with it, for they belong to another type.
func (b *balanced) setType(t *testing.T, service *corev1.Service, kind corev1.ServiceType) {
	t.Helper()
	b.edit(t, service, func(s *corev1.Service) {
		s.Spec.Type = kind
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 0
		}
	})
}

// unfinished waits until the Service has no finalizers.
func (b *balanced) unfinished(t *testing.T, service *corev1.Service) {
	t.Helper()
	b.Eventually(t, service.Name+" has no finalizers", func(ctx context.Context) error {
		current, err := b.Kube.CoreV1().Services(service.Namespace).Get(ctx, service.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil && len(current.Finalizers) > 0 {
			err = fmt.Errorf("they are %v", current.Finalizers)
		}
		return err
	})
}
