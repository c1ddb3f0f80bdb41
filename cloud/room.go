package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/hetzner"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
	"github.com/mooring-lb/mooring/cloud/place"
	"github.com/mooring-lb/mooring/cloud/probe"
	"github.com/mooring-lb/mooring/cloud/service"
)

const (
	// serviceWorkers publish; one write of a status each. They wait for the API server most of the time.
	serviceWorkers = 32
	// nodeWorkers write NodeAddresses; one node is written by one worker at a time.
	nodeWorkers = 16
	// laterPause gathers what changed about a Service and nobody waits for into one write of its status.
	laterPause = 5 * time.Second
	// retryMin and retryMax bound the backoff after a failed write.
	retryMin = 20 * time.Millisecond
	retryMax = 30 * time.Second
	// retryNode bounds the backoff of a NodeAddresses: a hard move may wait for it, and there are few of them.
	retryNode = time.Second
)

// room is where all doors lead: the two queues and what their workers share.
type room struct {
	options   Options
	addresses *v1alpha1.Client
	metrics   *instruments
	epoch     *epoch

	// book is the ledger once it is rebuilt, and config what it was last told.
	book   atomic.Pointer[ledger.Ledger]
	config atomic.Pointer[config.Config]

	queue     workqueue.TypedRateLimitingInterface[ledger.Key]
	nodeQueue workqueue.TypedRateLimitingInterface[string]
	bell      bell
	alarm     alarm
	draining  sync.Mutex
	exposing  sync.Mutex

	services   corelisters.ServiceLister
	nodes      corelisters.NodeLister
	namespaces corelisters.NamespaceLister
	slices     cache.Indexer // of EndpointSlices, by Service
	objects    cache.Indexer // of NodeAddresses
	synced     []cache.InformerSynced
	// nodesSynced and objectsSynced: all Nodes, and all NodeAddresses, are there.
	nodesSynced, objectsSynced cache.InformerSynced

	writer      *nodeaddresses.Writer
	lanes       *nodeaddresses.Lanes // of nodeQueue
	prober      *probe.Prober
	probing     sync.Once       // of prober
	standby     *standby        // nil: this process did not stand by
	sure        <-chan struct{} // closed when prober has said what it knew before; nil: nothing
	policy      *policy         // nil: its parameters are not kept
	tenants     *tenants
	balancers   *balancers
	syncer      *service.Syncer
	viewing     sync.Mutex
	viewers     []*viewer    // of Services, as they are shown to the upstream service controller
	resyncEvery atomic.Int64 // nanoseconds

	// stopped is closed when writing has to end; working counts the workers that may still write.
	stopped  chan struct{}
	stopOnce sync.Once
	working  sync.WaitGroup
}

func newRoom(o Options, addresses *v1alpha1.Client) *room {
	lanes := nodeaddresses.NewLanes()
	r := &room{
		options:   o,
		addresses: addresses,
		lanes:     lanes,
		epoch:     &epoch{client: o.Client, namespace: o.LeaseNamespace},
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[ledger.Key](retryMin, retryMax),
			workqueue.TypedRateLimitingQueueConfig[ledger.Key]{Name: "mooring_services"}),
		nodeQueue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryMin, retryNode),
			workqueue.TypedRateLimitingQueueConfig[string]{
				DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[string]{
					Name:  "mooring_nodes",
					Queue: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{Name: "mooring_nodes", Queue: lanes}),
				}),
			}),
		stopped: make(chan struct{}),
	}
	r.writer = nodeaddresses.NewWriter(nodeaddresses.Options{
		API: nodeaddresses.NewAPI(addresses), Ledger: r.ledger, Seen: r.object, Epoch: r.epoch.current,
		Again: r.nodeQueue.AddAfter, Now: o.Clock.Now, Wrote: func(err error) { r.metrics.wrote("nodeaddresses", err) },
	}, lanes)
	r.syncer = r.newSyncer()
	r.tenants = &tenants{
		room: r, accounts: hetzner.NewAccounts(hetzner.Options{
			Transport: o.Hetzner, Clock: o.Clock, Registerer: o.Registerer, Version: o.Version,
		}),
		clusterName: o.ClusterName, of: map[string]*tenant{},
	}
	r.balancers = &balancers{room: r, workers: map[string]*balancer{}}
	r.prober = probe.NewProber(probe.Options{}, r.probeTargets, r.probed, r.probeTook)
	r.metrics = newInstruments(o.Metrics, &stats{
		ledger: r.ledger, accounts: r.tenants.states, updaters: r.balancers.health, probe: r.prober.Stats, services: r.standings, now: o.Clock.Now,
	})
	if o.Namespace != "" {
		r.policy = r.newPolicy()
	}
	r.informers()
	return r
}

// ledger returns the ledger, nil until it is rebuilt.
func (r *room) ledger() *ledger.Ledger { return r.book.Load() }

// run works until the context ends or Stop is called.
func (r *room) run(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), r.synced...) {
		return
	}
	r.claim(ctx)
	r.awaitSure(ctx)
	select {
	case <-r.stopped:
		return // before it began: the lease may be another's by now
	default:
	}
	r.catchUp()
	// No updater is called after stop, which the context outlives.
	calls, cancel := context.WithCancel(ctx)
	defer cancel()
	r.balancers.run(calls)
	r.alarm.start(r.options.Clock, r.tick)
	for range serviceWorkers {
		r.work(func() bool { return next(ctx, r, r.queue, r.sync) })
	}
	for range nodeWorkers {
		r.work(func() bool { return next(ctx, r, r.nodeQueue, r.writer.Sync) })
	}
	r.working.Go(func() { r.tenants.run(ctx) })
	r.working.Go(func() { r.policy.run(calls, r) })
	r.beginProbe(calls)
	r.drain()
	select {
	case <-ctx.Done():
	case <-r.stopped:
	}
	cancel()
	r.queue.ShutDown()
	r.nodeQueue.ShutDown()
	r.policy.stop()
	r.alarm.stop()
}

// work keeps one worker at it until the queue is shut down.
func (r *room) work(next func() bool) {
	r.working.Go(func() {
		for next() {
		}
	})
}

// stop ends all writing, and returns when the last write is done.
func (r *room) stop() {
	r.stopOnce.Do(func() { close(r.stopped) })
	r.queue.ShutDown()
	r.nodeQueue.ShutDown()
	r.policy.stop()
	done := make(chan struct{})
	go func() {
		r.working.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-r.options.Clock.After(2 * time.Second): // a write that hangs must not hold the lease
	}
}

// next takes one key and works on it.
func next[K comparable](ctx context.Context, r *room, queue workqueue.TypedRateLimitingInterface[K], sync func(context.Context, K) error) bool {
	key, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(key)
	select {
	case <-r.stopped:
		return false
	default:
	}
	err := sync(ctx, key)
	r.drain()
	switch {
	case err == nil:
		queue.Forget(key)
	case errors.Is(err, nodeaddresses.ErrSuperseded):
		r.superseded(err)
	case apierrors.IsConflict(err):
		// What the informer is about to show is newer than what this decision was made on.
		queue.AddRateLimited(key)
	default:
		klog.FromContext(ctx).Error(err, "Trying again", "key", fmt.Sprint(key), "tries", queue.NumRequeues(key)+1)
		queue.AddRateLimited(key)
	}
	return true
}

// superseded ends this process: it must not write any more.
func (r *room) superseded(err error) {
	r.stopOnce.Do(func() { close(r.stopped) })
	r.options.Exit(err)
}

// drain carries out what the ledger decided: keys into queues, moves into log and events, the alarm to its time.
func (r *room) drain() {
	// Of two that drain at once, the one that knows more has to set the alarm last.
	r.draining.Lock()
	e := r.ledger().Drain()
	r.alarm.set(e.Next)
	r.draining.Unlock()
	for name := range e.Urgent {
		r.lanes.Hurry(name)
	}
	for name := range e.Nodes {
		r.nodeQueue.Add(name)
	}
	for key := range e.Services {
		r.queue.Add(key)
	}
	r.tenants.wake(e)
	r.balancers.apply(e.Backends)
	for key := range e.Later {
		r.queue.AddAfter(key, laterPause)
	}
	for _, m := range e.Moves {
		r.tell(m)
	}
	for _, name := range e.FalseLosses {
		r.notLost(name)
	}
	for _, took := range e.Rescues {
		r.metrics.rescues.Observe(took.Seconds())
	}
	for _, n := range e.Notices {
		kind := corev1.EventTypeNormal
		if n.Warning {
			kind = corev1.EventTypeWarning
		}
		r.options.Recorder.Event(serviceReference(n.Service), kind, string(n.Reason), n.Message)
	}
}

// tell logs one step, and shows a move to those who look at the Service.
func (r *room) tell(m ledger.Move) {
	klog.Background().V(2).Info("Address", "address", m.Addr, "step", m.Step.String(), "services", fmt.Sprint(m.Services))
	r.metrics.steps.WithLabelValues(string(m.Op)).Inc()
	if m.Op != place.OpHold || m.Predecessor == "" {
		return
	}
	for _, ref := range m.Services {
		r.options.Recorder.Eventf(serviceReference(ref), corev1.EventTypeNormal, eventMoved, "%s moves from %s to %s: %s", m.Addr, m.Predecessor, m.Node, m.Why)
	}
}

func serviceReference(ref lb.Ref) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: ref.Namespace, Name: ref.Name, UID: uidOf(ref)}
}

// tick lets time pass in the ledger.
func (r *room) tick() {
	r.ledger().Tick(r.options.Clock.Now())
	r.drain()
}

// await wakes the queue and waits until the condition holds, for doorTimeout at most.
func (r *room) await(ctx context.Context, key ledger.Key, condition func(*ledger.Ledger) bool) bool {
	rung, done := r.bell.listen(key)
	defer done()
	r.queue.Add(key)
	timeout := r.options.Clock.After(doorTimeout)
	for {
		select {
		case <-rung:
			if l := r.ledger(); l != nil && condition(l) {
				return true
			}
		case <-timeout:
			return false
		case <-r.stopped:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
