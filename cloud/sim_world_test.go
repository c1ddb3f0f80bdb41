package cloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
)

// A simulation of a whole cluster, in one process and with a clock of its own: a controller as it is in production, from
// cloud.New and the upstream service controller down to client-go, an API server in memory (store), and agents. It
// exists so that a controller can be killed at every call that it makes, thousands of times in seconds. What the real
// API server and the real agent do is shown by the end-to-end tests.

const (
	// maxLatency of a call in each direction, and of an agent's work. No two calls take the same time, so that what
	// goes on at once goes on in an order that depends on the seed alone.
	maxLatency = 5 * time.Millisecond
	// maxEventLatency is how far a watch is behind.
	maxEventLatency = 10 * time.Millisecond
	// maxDowntime between a crash and the next controller.
	maxDowntime = 4 * time.Second
)

// TestMain keeps the controllers' logs to themselves unless TRACE is set.
func TestMain(m *testing.M) {
	flag.Parse()
	level := "FATAL"
	if os.Getenv("TRACE") != "" {
		level = "INFO"
	}
	logs := flag.NewFlagSet("logs", flag.ContinueOnError)
	klog.InitFlags(logs)
	if err := errors.Join(logs.Set("logtostderr", "false"), logs.Set("stderrthreshold", level)); err != nil {
		panic(err)
	}
	klog.SetOutput(io.Discard)
	// The second handler sleeps, by one clock for all simulations.
	runtime.ErrorHandlers[1] = func(context.Context, error, string, ...any) {}
	os.Exit(m.Run())
}

// moment of a crash with respect to one call.
type moment string

const (
	beforeEffect moment = "before"
	unanswered   moment = "unanswered" // after the effect, before the answer
	answered     moment = "answered"
)

var moments = []moment{beforeEffect, unanswered, answered}

// crash that is planned: all controllers die at the call with this name, counted from 1, as in
// "patch nodeaddresses n1#2", or at the acknowledgement "acknowledge n1#2".
type crash struct {
	point string
	moment
	// meanwhile is called while there is no controller.
	meanwhile func(*world)
}

// world is a simulated cluster.
type world struct {
	t          *testing.T
	seed       uint64
	ctx        context.Context
	begin      time.Time
	configFile string
	api        *store
	// rental is what the cluster has at Hetzner; nil: nothing.
	rental *rental
	// hosts is what the names of its hosts begin with, and offset what their numbers begin after.
	hosts  string
	offset int
	// class of Services that the pools serve, and that Services have. Others are another controller's.
	class string
	// faulty: calls of controllers fail now and then.
	faulty atomic.Bool
	// rivals: two controllers think that they lead, so that for a moment two nodes may be told to hold one address.
	rivals atomic.Bool

	mu        sync.Mutex
	started   int
	processes []*process
	agents    map[string]*agent
	plan      crash
	countdown int // calls until one is chosen for the crash
	counts    map[string]int
	points    []string
	crashed   bool // as planned
	log       []string
	violated  []string
	// published is what each Service, by UID, had at first, and keeps.
	published map[string][]string
	// wavering Services, by UID, were told to have an address of another pool.
	wavering map[string]bool
	// doubted addresses are held by more than one node, and are looked at again.
	doubted map[string]bool
}

// simulate runs a test in a world of three nodes and without a controller.
func simulate(t *testing.T, seed uint64, plan crash, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w, end := newWorld(t, seed, plan, "n")
		defer end()
		w.configure(office)
		w.furnish()
		test(w)
	})
}

// newWorld returns an empty world. Two of one seed are different clusters when their hosts have different names.
func newWorld(t *testing.T, seed uint64, plan crash, hosts string) (w *world, end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	w = &world{
		t: t, seed: seed, ctx: ctx, begin: time.Now(), plan: plan, hosts: hosts,
		configFile: filepath.Join(t.TempDir(), "cloud.yaml"),
		agents:     map[string]*agent{}, counts: map[string]int{}, published: map[string][]string{}, wavering: map[string]bool{}, doubted: map[string]bool{},
	}
	w.api = newStore(fmt.Sprint(hosts, seed), w.check)
	return w, func() { w.end(cancel) }
}

// furnish adds what every cluster has, and three nodes.
func (w *world) furnish() {
	w.put("namespaces", fields{"metadata": fields{"name": "default"}})
	w.put("namespaces", fields{"metadata": fields{"name": "kube-system"}})
	for i := range 3 {
		w.addNode(fmt.Sprint(w.hosts, i+1))
	}
}

const office = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: office
  addresses: [192.0.2.10-192.0.2.17, "2001:db8::10-2001:db8::17"]
  interface: pl0
`

// end leaves no goroutine behind, and says what went wrong.
func (w *world) end(cancel context.CancelFunc) {
	w.trace("end")
	cancel()
	for _, p := range w.processes {
		<-p.ended
	}
	synctest.Wait()
	if len(w.violated) > 0 {
		w.t.Errorf("%s", strings.Join(w.violated, "\n"))
	}
	if w.t.Failed() || os.Getenv("TRACE") != "" {
		w.t.Logf("seed %d, crash at %q (%s)\n%s", w.seed, w.plan.point, w.plan.moment, strings.Join(w.log, "\n"))
	}
}

// draw is a number that depends on the seed and on what it is for.
func (w *world) draw(what string) uint64 { return xxhash.Sum64String(fmt.Sprint(w.seed, what)) }

func (w *world) latency(what string, most time.Duration) time.Duration {
	return time.Duration(1 + w.draw(what)%uint64(most))
}

// wait lets time pass, and reports whether the context outlived it.
func (w *world) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// pass lets time pass for the test.
func (w *world) pass(d time.Duration) { w.wait(w.ctx, d) }

func (w *world) trace(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%10s ", time.Since(w.begin).Round(time.Microsecond))+fmt.Sprintf(format, args...))
}

func (w *world) violate(format string, args ...any) {
	w.trace("VIOLATED: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violated = append(w.violated, fmt.Sprintf("%10s ", time.Since(w.begin).Round(time.Microsecond))+fmt.Sprintf(format, args...))
}

// reach counts a call, and names this one.
func (w *world) reach(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[name]++
	point := fmt.Sprintf("%s#%d", name, w.counts[name])
	w.points = append(w.points, point)
	if w.countdown--; w.countdown == 0 {
		w.plan.point = point
	}
	return point
}

// crashIn plans a crash at the n-th call from now.
func (w *world) crashIn(n int, m moment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.countdown, w.plan = n, crash{moment: m}
}

// planned is the crash that is to come.
func (w *world) planned() crash {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.plan
}

func (w *world) crashesAt(point string, m moment) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if point != w.plan.point || m != w.plan.moment {
		return false
	}
	w.crashed = true
	return true
}

// crash kills all controllers, and starts one after a while.
func (w *world) crash() {
	if w.leader() == nil {
		return
	}
	w.trace("crash")
	w.mu.Lock()
	for _, p := range w.processes {
		p.kill()
	}
	w.mu.Unlock()
	down := w.latency("downtime", maxDowntime)
	time.AfterFunc(down/2, func() {
		if meanwhile := w.planned().meanwhile; meanwhile != nil {
			meanwhile(w)
		}
	})
	w.startLater(down)
}

// leader is the newest process, nil when that is dead.
func (w *world) leader() *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.processes) == 0 {
		return nil
	}
	if p := w.processes[len(w.processes)-1]; p.ctx.Err() == nil {
		return p
	}
	return nil
}

// configure writes the cloud-config. A controller that runs takes it within 10 s.
func (w *world) configure(text string) {
	require.NoError(w.t, os.WriteFile(w.configFile, []byte(text), 0o600))
}

// put creates an object as a user does.
func (w *world) put(resource string, f fields) *stored {
	k, ok := kindOf(resource)
	require.True(w.t, ok, resource)
	body, err := json.Marshal(f)
	require.NoError(w.t, err)
	var m struct {
		Metadata struct{ Name, Namespace string }
	}
	require.NoError(w.t, json.Unmarshal(body, &m))
	o, err := w.api.create(k, keyIn(m.Metadata.Namespace, m.Metadata.Name), body)
	require.NoError(w.t, err)
	w.trace("user creates %s %s", resource, m.Metadata.Name)
	return o
}

// until lets time pass until nothing is in the way any more.
func (w *world) until(what string, limit time.Duration, inTheWay func() []string) {
	w.t.Helper()
	w.trace("until %s", what)
	end := time.NewTimer(limit)
	defer end.Stop()
	var again <-chan time.Time
	if w.rental != nil {
		// Nothing tells of what happens at Hetzner.
		ticker := time.NewTicker(5 * time.Second)
		defer ticker.Stop()
		again = ticker.C
	}
	for over := false; ; {
		changed := w.api.next()
		reasons := inTheWay()
		if len(reasons) == 0 {
			return
		}
		w.mu.Lock()
		over = over || len(w.violated) > 0
		w.mu.Unlock()
		if over {
			require.FailNow(w.t, fmt.Sprintf("not %s after %s:\n%s", what, limit, strings.Join(reasons, "\n")))
		}
		select {
		case <-changed:
			w.pass(10 * time.Millisecond) // there is more to come
		case <-again:
		case <-end.C:
			over = true
		}
	}
}
