package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/cloud-provider/controllers/service"
	"k8s.io/component-base/metrics"
	controllermetrics "k8s.io/component-base/metrics/prometheus/controllers"
	"k8s.io/utils/clock"

	"github.com/mooring-lb/mooring/cloud"
)

// process is one controller: the provider and the service controller on top of it, as the upstream command runs
// them once it leads. It is the transport of its own client, so that nothing leaves it that is not counted.
type process struct {
	world  *world
	number int
	begin  time.Time
	ctx    context.Context
	// kill ends the process at once: no call of it has an effect, or is answered, from then on.
	kill context.CancelFunc
	// delay of each call before its effect, in nanoseconds.
	delay atomic.Int64
	// ended is closed when nothing of it runs any more.
	ended chan struct{}
	cloud atomic.Pointer[cloud.Cloud]
}

var errDead = errors.New("this process is dead")

// start begins a process. It leads from the first moment: who leads is the business of leader election.
func (w *world) start() *process {
	w.mu.Lock()
	w.started++
	p := &process{world: w, number: w.started, begin: time.Now(), ended: make(chan struct{})}
	p.ctx, p.kill = context.WithCancel(w.ctx)
	w.processes = append(w.processes, p)
	w.mu.Unlock()
	w.trace("p%d starts", p.number)
	go p.run()
	return p
}

// startLater starts a process after a while, as whatever supervises it does, unless there is one by then.
func (w *world) startLater(pause time.Duration) {
	time.AfterFunc(pause, func() {
		if w.ctx.Err() == nil && w.leader() == nil {
			w.start()
		}
	})
}

// restartPause after a process that ended by itself.
const restartPause = 5 * time.Second

func (p *process) run() {
	defer close(p.ended)
	w := p.world
	config := &rest.Config{
		Host: "http://kubernetes", Transport: p, QPS: 1000, Burst: 2000,
		ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON, AcceptContentTypes: runtime.ContentTypeJSON},
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		w.violate("client of p%d: %v", p.number, err)
		return
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	made, err := cloud.New(cloud.Options{
		Hetzner: w.rental.transport(p), ClusterName: clusterName, NoProbe: true,
		ConfigFile: w.configFile, PollConfig: true, Client: client, REST: config, Informers: factory,
		Recorder: recorder{p}, Metrics: metrics.NewKubeRegistry(), Clock: clock.RealClock{}, LeaseNamespace: "kube-system",
		Exit: func(err error) {
			w.trace("p%d exits: %v", p.number, err)
			p.kill()
			w.startLater(restartPause)
		},
	})
	if err != nil {
		w.trace("p%d does not start: %v", p.number, err)
		p.kill()
		w.startLater(restartPause)
		return
	}
	p.cloud.Store(made)
	made.Initialize(nil, p.ctx.Done())
	if p.ctx.Err() == nil {
		made.SetInformers(factory)
		controller, err := service.New(made, client, made.Services(), factory.Core().V1().Nodes(), "kubernetes", nil)
		if err != nil {
			w.violate("service controller of p%d: %v", p.number, err)
			return
		}
		factory.Start(p.ctx.Done())
		controller.Run(p.ctx, concurrentServiceSyncs, controllermetrics.NewControllerManagerMetrics("simulation"))
	}
	factory.Shutdown()
	made.Stop(p.ctx)
}

const (
	concurrentServiceSyncs = 8
	// clusterName is that of all clusters, as people choose names.
	clusterName = "production"
)

// terminate ends the process as SIGTERM does: it stops writing before it ends.
func (p *process) terminate() {
	if c := p.cloud.Load(); c != nil {
		c.Stop(p.ctx)
	}
	p.kill()
	<-p.ended
}

// RoundTrip implements http.RoundTripper: one call to the API server, with its latency, what may go wrong, and the
// crash that is planned for it.
func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	w := p.world
	c, err := parse(r)
	if err != nil {
		w.violate("%v", err)
		return nil, err
	}
	if c.kind.resource == "events" {
		if p.ctx.Err() != nil {
			return nil, errDead
		}
		return w.api.serve(c), nil
	}
	point := w.reach(c.String())
	there := w.latency("there"+point, maxLatency) + time.Duration(p.delay.Load())
	if !w.wait(p.ctx, there) || r.Context().Err() != nil {
		return nil, errDead
	}
	if w.crashesAt(point, beforeEffect) {
		w.crash()
		return nil, errDead
	}
	response, err := w.answer(p, c, point)
	w.trace("p%d %s -> %s", p.number, point, outcome(response, err))
	if w.crashesAt(point, unanswered) {
		w.crash()
		return nil, errDead
	}
	if err != nil {
		return nil, err
	}
	if !w.wait(p.ctx, w.latency("back"+point, maxLatency)) {
		return nil, errDead
	}
	if w.crashesAt(point, answered) {
		// Time stands still until all that the answer leads to is done, up to the next call.
		time.AfterFunc(time.Nanosecond, w.crash)
	}
	return response, nil
}

// answer does what the call asks for.
func (w *world) answer(p *process, c *call, point string) (*http.Response, error) {
	if w.faulty.Load() {
		if response, failed, err := p.fail(c, point); failed {
			return response, err
		}
	}
	if c.verb == "watch" {
		return p.watch(c), nil
	}
	return w.api.serve(c), nil
}

func outcome(response *http.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(response.StatusCode)
}

// recorder writes the controller's events into the trace.
type recorder struct{ p *process }

func (r recorder) Event(object runtime.Object, _, reason, message string) {
	name := "?"
	switch o := object.(type) {
	case *corev1.Service:
		name = o.Name
	case *corev1.ObjectReference:
		name = o.Name
	}
	r.p.world.trace("p%d event for %s: %s: %s", r.p.number, name, reason, message)
}

func (r recorder) Eventf(object runtime.Object, kind, reason, format string, args ...any) {
	r.Event(object, kind, reason, fmt.Sprintf(format, args...))
}

func (r recorder) AnnotatedEventf(object runtime.Object, _ map[string]string, kind, reason, format string, args ...any) {
	r.Eventf(object, kind, reason, format, args...)
}
