package protocol

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
	"github.com/mooring-lb/mooring/cloud/service"
)

const (
	laterPause   = 5 * time.Second
	retryAdopt   = time.Second
	writers      = 16
	publishers   = 32
	finalizer    = "service.kubernetes.io/load-balancer-cleanup"
	restartPause = 2 * time.Second
)

// controller is one process of the controller: a standby, or the leader.
type controller struct {
	w       *world
	name    string
	process *process
	client  *client
	// slow: it does not notice that it is deposed for as long as this is true.
	slow bool
	// blind: its probes reach nobody.
	blind bool
	*term
}

// term is what a controller has while it leads, and believes to.
type term struct {
	ledger   *ledger.Ledger
	lanes    *nodeaddresses.Lanes
	writer   *nodeaddresses.Writer
	syncer   *service.Syncer
	queue    *queue[ledger.Key]
	nodes    *queue[string]
	alarm    time.Time
	alarms   int
	services *watch
	machines *watch
	objects  *watch
	listed   int
	probing
}

func newController(w *world, name string) *controller {
	p := &process{name: name}
	c := &controller{w: w, name: name, process: p, client: &client{w: w, process: p}}
	c.start()
	return c
}

func (c *controller) start() {
	c.process.start()
	c.term = &term{}
	c.standBy()
	c.w.spawn(c.process, c.elect)
}

// exit ends the process, as the product does when it must not write any more. It starts again as a standby.
func (c *controller) exit(why string) {
	if !c.process.alive {
		return
	}
	c.w.log("%s exits: %s", c.name, why)
	c.process.alive = false
	if c.queue != nil {
		c.queue.closed, c.nodes.closed = true, true
	}
	c.w.after(nil, 0, c.stop)
	c.w.after(nil, c.w.between(restartPause/2, restartPause), func() {
		if !c.process.alive {
			c.start()
		}
	})
}

func (c *controller) stop() {
	c.w.kill(c.process)
	c.client.forget()
}

// lead rebuilds the ledger, and then works.
func (c *controller) lead() {
	for !c.adopt() {
		if !c.w.sleep(retryAdopt) {
			return
		}
	}
	listed := func() {
		if c.listed++; c.listed == int(kinds) {
			c.catchUp()
		}
	}
	c.services = c.client.watch(services, "", func(_ string, was, is any) {
		svc, _ := cmpOr(is, was).(*corev1.Service)
		c.queue.add(service.KeyOf(svc))
	}, listed)
	c.machines = c.client.watch(nodes, "", c.nodeChanged, listed)
	c.objects = c.client.watch(addresses, "", c.objectChanged, listed)
}

// list reads all objects of a kind live.
func (c *controller) list(k kind) (list []any, err error) {
	err = c.client.call(func() error {
		list = nil
		for _, name := range c.w.api.names(k) {
			list = append(list, c.w.api.objects[k][name].value)
		}
		return nil
	})
	return list, err
}

func (c *controller) adopt() bool {
	term, err := c.raise()
	if err != nil {
		return false
	}
	c.lanes = nodeaddresses.NewLanes()
	c.queue = newQueue(c.w, c.process, &fifo[ledger.Key]{}, publishers, retryMax, c.worker(c.sync))
	c.nodes = newQueue(c.w, c.process, c.lanes, writers, retryNode, workerOf(c, func(name string) error { return c.writer.Sync(quiet, name) }))
	c.writer = nodeaddresses.NewWriter(nodeaddresses.Options{
		API: objects{c.client, term}, Ledger: func() *ledger.Ledger { return c.ledger }, Seen: c.seen, Epoch: c.epoch,
		Again: c.nodes.addAfter, Now: c.w.time, Wrote: func(error) {},
	}, c.lanes)
	c.syncer = service.NewSyncer(c.serviceOptions())

	list, err := c.list(addresses)
	if err != nil {
		return false
	}
	for _, o := range list {
		if nodeaddresses.Fence(quiet, objects{c.client, term}, o.(*v1alpha1.NodeAddresses), term) != nil {
			return false
		}
	}
	var s ledger.Snapshot
	if list, err = c.list(nodes); err != nil {
		return false
	}
	uids := map[string]string{}
	for _, o := range list {
		n := *o.(*lb.Node)
		uids[n.Name] = n.UID
		s.Nodes = append(s.Nodes, n)
	}
	if list, err = c.list(addresses); err != nil {
		return false
	}
	for _, o := range list {
		o := o.(*v1alpha1.NodeAddresses)
		c.writer.Adopted(o)
		s.Objects = append(s.Objects, nodeaddresses.SnapshotOf(o, uids[o.Name]))
	}
	if list, err = c.list(services); err != nil {
		return false
	}
	for _, o := range list {
		s.Services = append(s.Services, service.SnapshotOf(o.(*corev1.Service), nil, cloudConfig.ServesClass))
	}
	l := ledger.New(cloudConfig, ledger.Rental{}, term)
	notes := l.Adopt(s, c.w.time())
	c.ledger, c.leads = l, true
	c.w.log("%s has adopted in term %d: %v", c.name, term, notes)
	return true
}

// catchUp looks for what changed between adoption's reads and the watches.
func (c *controller) catchUp() {
	for _, name := range slices.Sorted(maps.Keys(c.services.seen)) {
		if svc := c.services.seen[name].value.(*corev1.Service); c.syncer.Ours(svc) {
			c.syncer.Want(svc)
		}
	}
	for _, name := range c.ledger.NodeNames() {
		if c.machines.seen[name].value == nil {
			c.ledger.RemoveNode(name, c.w.time())
		}
		c.nodes.add(name)
	}
	c.queue.open()
	c.nodes.open()
	c.drain()
}

func (c *controller) nodeChanged(name string, _, is any) {
	if n, ok := is.(*lb.Node); ok {
		c.ledger.SetNode(*n, c.w.time())
	} else {
		c.ledger.RemoveNode(name, c.w.time())
	}
	c.drain()
}

func (c *controller) objectChanged(_ string, was, is any) {
	o, _ := cmpOr(is, was).(*v1alpha1.NodeAddresses)
	if o == nil {
		return
	}
	c.ledger.Report(o.Name, nodeaddresses.ReportOf(o), c.w.time())
	c.drain()
	if c.writer.Unexpected(o) {
		c.nodes.add(o.Name)
	}
}

func cmpOr(a, b any) any {
	if a != nil {
		return a
	}
	return b
}

// seen is what the watch shows of a node's object.
func (c *controller) seen(name string) *v1alpha1.NodeAddresses {
	o, _ := c.objects.seen[name].value.(*v1alpha1.NodeAddresses)
	return o
}

func (c *controller) worker(sync func(ledger.Key) error) func(ledger.Key) error {
	return workerOf(c, sync)
}

// workerOf has a worker take one key, once all was listed.
func workerOf[K comparable](c *controller, sync func(K) error) func(K) error {
	return func(k K) error {
		err := sync(k)
		if !c.process.alive || c.w.current.ended {
			return err
		}
		c.drain()
		if errors.Is(err, nodeaddresses.ErrSuperseded) {
			c.exit("superseded: " + err.Error())
		}
		return err
	}
}

// drain carries out what the ledger decided.
func (c *controller) drain() {
	e := c.ledger.Drain()
	if !e.Next.Equal(c.alarm) {
		c.alarm = e.Next
		c.alarms++
		alarm := c.alarms
		if !e.Next.IsZero() {
			c.w.after(c.process, e.Next.Sub(c.w.time()), func() {
				if c.alarms == alarm {
					c.alarm = time.Time{}
					c.ledger.Tick(c.w.time())
					c.drain()
				}
			})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Urgent)) {
		c.lanes.Hurry(name)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Nodes)) {
		c.nodes.add(name)
	}
	for _, key := range sortedKeys(e.Services) {
		c.queue.add(key)
	}
	for _, key := range sortedKeys(e.Later) {
		c.queue.addAfter(key, laterPause)
	}
	for _, name := range e.FalseLosses {
		c.falseLoss(name)
	}
	for _, m := range e.Moves {
		if c.w.trace != nil {
			c.w.log("%s: %s: %s", c.name, m.Addr, m.Step)
		}
	}
}

func sortedKeys(of map[ledger.Key]bool) []ledger.Key {
	return slices.SortedFunc(maps.Keys(of), func(a, b ledger.Key) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}

func (c *controller) serviceOptions() service.Options {
	return service.Options{
		Ledger: func() *ledger.Ledger { return c.ledger },
		Seen: func(key ledger.Key) (*corev1.Service, error) {
			name := key.Namespace + "/" + key.Name
			if svc, ok := c.services.seen[name].value.(*corev1.Service); ok {
				return svc, nil
			}
			return nil, notFound(services, name)
		},
		NamespaceLabels: func(string) map[string]string { return nil },
		EndpointNodes:   func(*corev1.Service) []string { return nil },
		UpdateStatus: func(_ context.Context, svc *corev1.Service) error {
			return c.client.call(func() error { return c.w.api.updateStatus(svc) })
		},
		Drain: c.drain, Again: c.queue.addAfter, Now: c.w.time,
		Event:     func(*corev1.Service, string, string, string) {},
		Published: func(time.Duration) {},
	}
}

// sync brings a Service nearer to what it asks for, and then does what the upstream service controller does with one
// that is being deleted: it takes the finalizer off once nothing is held.
func (c *controller) sync(key ledger.Key) error {
	if err := c.syncer.Sync(quiet, key); err != nil {
		return err
	}
	name := key.Namespace + "/" + key.Name
	svc, _ := c.services.seen[name].value.(*corev1.Service)
	if svc == nil || svc.DeletionTimestamp == nil || c.ledger.Holds(string(svc.UID)) || c.ledger.MayHold(string(svc.UID)) {
		return nil
	}
	err := c.client.call(func() error {
		is := c.w.api.service(name)
		if is == nil || is.UID != svc.UID {
			return nil
		}
		is = is.DeepCopy()
		is.Finalizers = nil
		c.w.api.putService(is)
		return nil
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
