package cloud

import (
	"context"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
	"github.com/mooring-lb/mooring/cloud/probe"
)

// This file is about a controller that does not lead yet. It writes nothing, and asks the nodes whether they live, so
// that it need not begin with that when it leads: the leader may have died together with addresses.

// standby knows which nodes there are, without a ledger.
type standby struct {
	nodes, objects cache.SharedIndexInformer
	// end stops both.
	end context.CancelFunc
	// changed: targets are not those of now. Only the prober asks for them.
	changed atomic.Bool
	targets []probe.Target
}

// newStandby watches Nodes and NodeAddresses, and keeps of them what is needed here.
func newStandby(ctx context.Context, client kubernetes.Interface, addresses *v1alpha1.Client) (*standby, error) {
	s := &standby{
		nodes:   coreinformers.NewNodeInformer(client, 0, cache.Indexers{}),
		objects: cache.NewSharedIndexInformer(v1alpha1.NewListWatch(addresses, nil), &v1alpha1.NodeAddresses{}, 0, cache.Indexers{}),
	}
	s.changed.Store(true)
	ctx, s.end = context.WithCancel(ctx)
	for _, informer := range []cache.SharedIndexInformer{s.nodes, s.objects} {
		changed := func() { s.changed.Store(true) }
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
		})
		if err == nil {
			err = informer.SetTransform(trimmed)
		}
		if err != nil {
			s.end()
			return nil, err
		}
	}
	go s.nodes.RunWithContext(ctx)
	go s.objects.RunWithContext(ctx)
	return s, nil
}

// trimmed drops what is large and not looked at.
func trimmed(o any) (any, error) {
	switch o := o.(type) {
	case *corev1.Node:
		o.ManagedFields, o.Status.Images = nil, nil
	case *v1alpha1.NodeAddresses:
		o.ManagedFields, o.Spec.Addresses = nil, nil
	}
	return o, nil
}

// list returns the nodes that a leader would ask; none before all are known.
func (s *standby) list() []probe.Target {
	if !s.nodes.HasSynced() || !s.objects.HasSynced() || !s.changed.Swap(false) {
		return s.targets
	}
	s.targets = nil
	for _, o := range s.objects.GetStore().List() {
		object := o.(*v1alpha1.NodeAddresses)
		found, ok, err := s.nodes.GetStore().GetByKey(object.Name)
		if err != nil || !ok {
			continue
		}
		node := nodeaddresses.NodeOf(found.(*corev1.Node))
		if t, ok := ledger.TargetOf(node, nodeaddresses.SnapshotOf(object, node.UID)); ok {
			s.targets = append(s.targets, probeTarget(t))
		}
	}
	return s.targets
}

// StandBy has a controller that waits for leadership ask the nodes whether they live, until it leads (Initialize), the
// context ends or Stop is called. What it finds is neither written nor shown before it leads.
func (c *Cloud) StandBy(ctx context.Context) {
	if c.options.NoProbe {
		return
	}
	r := c.room
	ctx, cancel := context.WithCancel(ctx)
	r.working.Go(func() {
		defer cancel()
		select {
		case <-ctx.Done():
		case <-r.stopped:
		}
	})
	s, err := newStandby(ctx, c.options.Client, r.addresses)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Nodes are not probed before this controller leads")
		return
	}
	r.standby = s
	r.prober.Configure(probeOptions(c.config))
	r.prober.StandBy()
	r.beginProbe(ctx)
}

// firstWord is how long a new leader waits for what the probe makes of the nodes that were silent before it led: the rest
// of a round, and a burst.
const firstWord = time.Second

// lead has the probe report from now on: the ledger is rebuilt.
func (r *room) lead() {
	if r.standby == nil {
		return
	}
	sure := make(chan struct{})
	r.sure = sure
	r.prober.Lead(func() { close(sure) })
	r.standby.end()
}

// awaitSure returns when the probe has said which nodes are lost of those that were silent before this controller led, or
// has had the time to. Until then nothing is placed: it would go to a dead node as to any other.
func (r *room) awaitSure(ctx context.Context) {
	if r.sure == nil {
		return
	}
	select {
	case <-r.sure:
	case <-r.options.Clock.After(firstWord):
	case <-r.stopped:
	case <-ctx.Done():
	}
}
