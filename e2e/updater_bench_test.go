package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// behindOne is how many Services one load balancer serves.
	behindOne = 500
	// updaterResync stands in for the ten minutes between two resyncs by default, resyncsSeen are awaited.
	updaterResync = 15 * time.Second
	resyncsSeen   = 2
	// longConnections are open all the time.
	longConnections = 100
)

// TestBenchUpdater measures one load balancer with many Services: how fast it is told, and what it costs nginx.
func TestBenchUpdater(t *testing.T) {
	if os.Getenv("BENCH") == "" {
		t.Skip("measurements run with make bench")
	}
	b := balance(t, newBalancer(t), cluster.Options{Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}})
	configured := func(resync string) string {
		return cloudConfigOf(resync, b.updaterPool("edge", "8100, high: 8609", b.hosted()))
	}
	b.withoutAgents(t, configured("1h"))
	namespace := b.namespace(t, "bench")
	measured := &bench{moored: b.moored, kube: b.Kube}
	all := &many{bench: measured, namespace: namespace}
	for i := range behindOne {
		all.names = append(all.names, fmt.Sprintf("web-%d", i))
	}

	posted := b.pushes(time.Time{})
	begin := time.Now()
	all.fromClients(t, func(name string) error {
		_, err := b.Kube.CoreV1().Services(namespace).Create(t.Context(), from(cluster.LoadBalancer(namespace, name), "edge"), metav1.CreateOptions{})
		return err
	})
	b.awaitFiles(t, "are served", func(content string) bool { return len(targetsIn(content)) == len(b.Nodes) })
	took := b.lastPush(begin).Sub(begin).Seconds()
	figure(fmt.Sprintf("UpdaterCreate/%d", behindOne), took, "s-until-the-last-push", float64(b.pushes(begin)-posted)/took, "pushes/s",
		load(t), "load", float64(runtime.NumCPU()), "cores")
	b.rests(t)

	// The grace period is this cluster's short one: what is measured begins when the Node is NotReady.
	lost := b.Node("n3")
	require.NoError(t, lost.CutOff())
	b.Eventually(t, "n3 is NotReady", func(ctx context.Context) error { return readyIs(ctx, b.Cluster, "n3", corev1.ConditionUnknown) })
	begin = time.Now()
	reloads, _ := b.updater.Reloads()
	b.awaitFiles(t, "are without the lost node", func(content string) bool { return len(targetsIn(content)) == len(b.Nodes)-1 })
	took = b.lastPush(begin).Sub(begin).Seconds()
	b.rests(t)
	after, _ := b.updater.Reloads()
	figure(fmt.Sprintf("UpdaterLostNode/%d", behindOne), took, "s-until-the-last-push", float64(b.pushes(begin)), "pushes",
		float64(after-reloads), "reloads")
	require.NoError(t, lost.Restore())
	b.awaitFiles(t, "are with the node", func(content string) bool { return len(targetsIn(content)) == len(b.Nodes) })
	b.rests(t)

	b.measureUpdaterRest(t, configured)
	figure(fmt.Sprintf("Rest/%d-behind-an-updater/controller", behindOne), residentMB(t, b.Controllers[0]), "MB-resident")
	b.neverRefused(t)
}

// measureUpdaterRest counts what nginx goes through when nothing happens, from resyncs that are close to each other to what an
// hour has at the default interval.
func (b *balanced) measureUpdaterRest(t *testing.T, configured func(resync string) string) {
	t.Helper()
	service, at := b.serve(t, cluster.LoadBalancer(b.namespace(t, "long"), "web"), "edge")
	for range longConnections {
		conn, err := b.Client.DialContext(t.Context(), "tcp", b.at(at).String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = conn.Write([]byte("GET / HTTP/1.1\r\nHost: web\r\n\r\n"))
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 1500))
		require.NoError(t, err)
	}
	b.rests(t)
	b.reload(t, configured(updaterResync.String()), taken)
	name := b.backend(at, corev1.ProtocolTCP)
	begin := time.Now()
	resyncs := func(n int) {
		require.NoError(t, cluster.AwaitFor(t.Context(), time.Duration(n+1)*updaterResync+cluster.Guard, "resyncs pass", func(context.Context) error {
			if seen := len(b.callsFor(name, begin)); seen < n {
				return fmt.Errorf("%d have", seen)
			}
			return nil
		}))
		b.rests(t)
	}
	resyncs(1)
	before, _ := b.updater.Reloads()
	begin = time.Now()
	resyncs(resyncsSeen)
	after, _ := b.updater.Reloads()
	perHour := float64(time.Hour / usualLoop)
	figure(fmt.Sprintf("UpdaterIdle/%d", behindOne), float64(after-before)/resyncsSeen*perHour, "reloads/h", float64(b.pushes(begin))/resyncsSeen*perHour, "pushes/h")
	workers, err := b.workers()
	require.NoError(t, err)
	figure("UpdaterWorkersLeft", float64(workers-1), "old-workers", float64(after), "reloads", longConnections, "connections")
	b.reload(t, configured("1h"), taken)
	b.remove(t, service)
}

// pushes that have arrived since.
func (b *balanced) pushes(since time.Time) (n int) {
	for _, c := range b.updater.Calls() {
		if c.Method == http.MethodPost && !c.At.Before(since) {
			n++
		}
	}
	return n
}

// lastPush that has arrived since.
func (b *balanced) lastPush(since time.Time) time.Time {
	last := since
	for _, c := range b.updater.Calls() {
		if c.Method == http.MethodPost && c.At.After(last) {
			last = c.At
		}
	}
	return last
}

// awaitFiles waits until the files of all Services are so.
func (b *balanced) awaitFiles(t *testing.T, what string, is func(content string) bool) {
	t.Helper()
	require.NoError(t, cluster.AwaitFor(t.Context(), benchGuard, fmt.Sprintf("the files of %d Services %s", behindOne, what), func(context.Context) error {
		files, err := b.updater.Files()
		if err != nil {
			return err
		}
		n := 0
		for _, content := range files {
			if is(content) {
				n++
			}
		}
		if n < behindOne {
			return fmt.Errorf("%d are", n)
		}
		return nil
	}))
}

// rests waits until the updater is not spoken to.
func (b *balanced) rests(t *testing.T) {
	t.Helper()
	const quiet = 4 * time.Second
	require.NoError(t, cluster.AwaitFor(t.Context(), benchGuard, "the updater is left alone", func(context.Context) error {
		calls := b.updater.Calls()
		if len(calls) > 0 && time.Since(calls[len(calls)-1].At) < quiet {
			return errors.New("it is spoken to")
		}
		return nil
	}))
}

// workers of nginx, those that only finish their connections included.
func (b *balanced) workers() (n int, err error) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, process := range processes {
		text, err := os.ReadFile("/proc/" + process.Name() + "/cmdline")
		if err == nil && strings.HasPrefix(string(text), "nginx: worker process") {
			n++
		}
	}
	return n, nil
}
