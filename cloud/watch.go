package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
	"github.com/mooring-lb/mooring/cloud/service"
)

// indexByService indexes EndpointSlices by the Service that they belong to.
const indexByService = "service"

// informers names what is watched. Nothing is asked of the API server before the informers are started.
func (r *room) informers() {
	f := r.options.Informers
	services, nodes, namespaces := f.Core().V1().Services(), f.Core().V1().Nodes(), f.Core().V1().Namespaces()
	endpoints := f.Discovery().V1().EndpointSlices()
	r.services, r.nodes, r.namespaces = services.Lister(), nodes.Lister(), namespaces.Lister()
	r.slices = endpoints.Informer().GetIndexer()
	r.nodesSynced = nodes.Informer().HasSynced
	r.synced = []cache.InformerSynced{
		services.Informer().HasSynced, r.nodesSynced, namespaces.Informer().HasSynced, endpoints.Informer().HasSynced,
	}
}

// watch opens the doors that lead from the API server into the queues.
func (r *room) watch(ctx context.Context) {
	f := r.options.Informers
	logger := klog.FromContext(ctx)
	add := func(i cache.SharedIndexInformer, h cache.ResourceEventHandler) {
		if _, err := i.AddEventHandler(h); err != nil {
			logger.Error(err, "A watch could not be opened")
		}
	}
	add(f.Core().V1().Services().Informer(), handler(r.serviceChanged))
	add(f.Core().V1().Namespaces().Informer(), handler(r.namespaceChanged))
	add(f.Core().V1().Nodes().Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.nodeChanged(o.(*corev1.Node)) },
		UpdateFunc: func(_, o any) { r.nodeChanged(o.(*corev1.Node)) },
		DeleteFunc: func(o any) {
			if node, ok := deleted(o).(*corev1.Node); ok {
				r.ledger().RemoveNode(node.Name, r.options.Clock.Now())
				r.drain()
			}
		},
	})
	endpoints := f.Discovery().V1().EndpointSlices().Informer()
	if err := endpoints.AddIndexers(cache.Indexers{indexByService: func(o any) ([]string, error) {
		s := o.(*discoveryv1.EndpointSlice)
		return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}, nil
	}}); err != nil {
		logger.Error(err, "Endpoints cannot be found by Service")
	}
	add(endpoints, handler(r.endpointsChanged))

	objects := cache.NewSharedIndexInformer(v1alpha1.NewListWatch(r.addresses, nil), &v1alpha1.NodeAddresses{}, 0, cache.Indexers{})
	add(objects, handler(r.objectChanged))
	r.objects = objects.GetIndexer()
	r.objectsSynced = objects.HasSynced
	r.synced = append(r.synced, r.objectsSynced)
	go objects.RunWithContext(ctx)
	go r.resyncLoop(ctx)
}

// object returns what the informer shows of a node's object, nil when there is none.
func (r *room) object(name string) *v1alpha1.NodeAddresses {
	if obj, ok, err := r.objects.GetByKey(name); err == nil && ok {
		return obj.(*v1alpha1.NodeAddresses)
	}
	return nil
}

// handler calls f with the object as it was and as it is; a deleted object is both.
func handler[T any](f func(was, is T)) cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { f(o.(T), o.(T)) },
		UpdateFunc: func(was, is any) { f(was.(T), is.(T)) },
		DeleteFunc: func(o any) {
			if t, ok := deleted(o).(T); ok {
				f(t, t)
			}
		},
	}
}

func deleted(o any) any {
	if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
		return d.Obj
	}
	return o
}

func (r *room) nodeChanged(node *corev1.Node) {
	r.ledger().SetNode(nodeaddresses.NodeOf(node), r.options.Clock.Now())
	r.drain()
}

// serviceChanged takes notice of the addresses that a Service lists in spec.externalIPs, whoever serves it, and has it
// synced. The first does not wait for the queue: until then such an address might be given to another Service.
func (r *room) serviceChanged(_, svc *corev1.Service) {
	key := service.KeyOf(svc)
	r.noticeExposed(key)
	r.queue.Add(key)
}

// noticeExposed tells the ledger which addresses a Service lists in spec.externalIPs; none when it is gone.
func (r *room) noticeExposed(key ledger.Key) {
	// Who reads first says it first, so that the newest is said last.
	r.exposing.Lock()
	defer r.exposing.Unlock()
	var addrs []netip.Addr
	if svc, err := r.services.Services(key.Namespace).Get(key.Name); err == nil {
		addrs = service.Exposed(svc)
	}
	if r.ledger().SetExposed(key, addrs, r.options.Clock.Now()) {
		r.drain()
	}
}

func (r *room) namespaceChanged(was, is *corev1.Namespace) {
	if was != is && reflect.DeepEqual(was.Labels, is.Labels) {
		return
	}
	services, err := r.services.Services(is.Name).List(labels.Everything())
	if err != nil {
		return
	}
	for _, svc := range services {
		if r.syncer.Ours(svc) {
			r.queue.Add(service.KeyOf(svc))
		}
	}
}

// endpointsChanged wakes a Service that asks for local endpoints. The others do not care where their endpoints are.
func (r *room) endpointsChanged(_, s *discoveryv1.EndpointSlice) {
	name := s.Labels[discoveryv1.LabelServiceName]
	svc, err := r.services.Services(s.Namespace).Get(name)
	if err == nil && r.syncer.Ours(svc) && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		r.queue.Add(service.KeyOf(svc))
	}
}

// objectChanged takes in what an agent reports, and has the writer look when the spec is not what it wrote.
func (r *room) objectChanged(was, o *v1alpha1.NodeAddresses) {
	r.tellDetection(was, o)
	r.ledger().Report(o.Name, nodeaddresses.ReportOf(o), r.options.Clock.Now())
	r.drain()
	if r.writer.Unexpected(o) {
		r.nodeQueue.Add(o.Name)
	}
}

// tellDetection shows on the Node that conflicts cannot be detected there, when that is news.
func (r *room) tellDetection(was, is *v1alpha1.NodeAddresses) {
	before := meta.FindStatusCondition(was.Status.Conditions, v1alpha1.ConditionConflictDetection)
	now := meta.FindStatusCondition(is.Status.Conditions, v1alpha1.ConditionConflictDetection)
	if now == nil || now.Status != metav1.ConditionFalse || was != is && before != nil && before.Message == now.Message {
		return
	}
	r.tellNode(is.Name, now.Reason, now.Message)
}

// ours lists the Services that are ours, oldest first.
func (r *room) ours() []*corev1.Service {
	services, _ := r.services.List(labels.Everything()) // an informer's cache has no error to give
	services = slices.DeleteFunc(services, func(svc *corev1.Service) bool { return !r.syncer.Ours(svc) })
	slices.SortFunc(services, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return services
}

// claim puts our finalizer on the Services that need it, before anything is written for what was adopted of them.
func (r *room) claim(ctx context.Context) {
	services := slices.DeleteFunc(r.ours(), func(svc *corev1.Service) bool { return !service.Unclaimed(svc) })
	workqueue.ParallelizeUntil(ctx, serviceWorkers, len(services), func(i int) {
		if err := r.syncer.Claim(ctx, services[i]); err != nil {
			klog.FromContext(ctx).Error(err, "Trying again with its sync", "service", klog.KObj(services[i]))
		}
	})
}

// catchUp looks for what changed between adoption's reads and the watches. Services ask in the order of their age, so
// that what came free while no controller ran goes to those who have waited longest.
func (r *room) catchUp() {
	now := r.options.Clock.Now()
	for _, key := range r.ledger().Exposing() {
		r.noticeExposed(key)
	}
	for _, svc := range r.ours() {
		if !service.Unclaimed(svc) {
			r.syncer.Want(svc)
		}
	}
	for _, name := range r.ledger().NodeNames() {
		if _, err := r.nodes.Get(name); apierrors.IsNotFound(err) {
			r.ledger().RemoveNode(name, now)
		}
		r.nodeQueue.Add(name)
	}
}

// resyncLoop is the slow loop. It looks at its interval once a minute, because a reload may have changed it.
func (r *room) resyncLoop(ctx context.Context) {
	last := r.options.Clock.Now()
	for {
		interval := time.Duration(r.resyncEvery.Load())
		select {
		case <-ctx.Done():
			return
		case <-r.options.Clock.After(min(interval, time.Minute)):
		}
		if r.options.Clock.Since(last) >= interval {
			last = r.options.Clock.Now()
			r.resync()
		}
	}
}

// resync looks at everything once more, through the doors that all else uses.
func (r *room) resync() {
	if services, err := r.services.List(labels.Everything()); err == nil {
		for _, svc := range services {
			if r.syncer.Ours(svc) || service.Marked(svc) {
				r.queue.Add(service.KeyOf(svc))
			}
		}
	}
	for _, name := range r.ledger().NodeNames() {
		r.nodeQueue.Add(name)
	}
	r.policy.wake()
}

// adopt rebuilds the ledger: it raises the epoch, so that an older leader's writes are told from ours, has them refused
// from then on, and then reads live. It writes nothing else.
func (r *room) adopt(ctx context.Context, cfg *config.Config) error {
	start := r.options.Clock.Now()
	term, err := r.epoch.raise(ctx)
	if err != nil {
		return err
	}
	if err := r.fence(ctx, term); err != nil {
		return err
	}
	snapshot, err := r.read(ctx, cfg)
	if err != nil {
		return err
	}
	l := ledger.New(cfg, r.tenants.rental(cfg), term)
	notes := l.Adopt(snapshot, r.options.Clock.Now())
	logger := klog.FromContext(ctx)
	for _, note := range notes {
		logger.Info("Not adopted", "claim", note)
	}
	r.resyncEvery.Store(int64(cfg.ResyncInterval))
	r.prober.Configure(probeOptions(cfg))
	r.config.Store(cfg)
	r.book.Store(l)
	logger.Info("Adopted", "epoch", term, "services", len(snapshot.Services), "nodes", len(snapshot.Nodes),
		"nodeAddresses", len(snapshot.Objects), "outside", len(l.Stats().Outside), "took", r.options.Clock.Since(start).Round(time.Millisecond))
	return nil
}

// fence keeps earlier leaders from writing any NodeAddresses. One that does not know yet that it is deposed may have
// granted an address that the snapshot would lack, and published it.
func (r *room) fence(ctx context.Context, term int64) error {
	objects, err := r.addresses.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("list nodeaddresses: %w (is the CustomResourceDefinition nodeaddresses.mooring.dev installed? It is part of manifests/)", err)
	}
	if err != nil {
		return fmt.Errorf("list nodeaddresses: %w", err)
	}
	errs := make([]error, len(objects.Items))
	workqueue.ParallelizeUntil(ctx, nodeWorkers, len(objects.Items), func(i int) {
		errs[i] = nodeaddresses.Fence(ctx, nodeaddresses.NewAPI(r.addresses), &objects.Items[i], term)
	})
	return cmp.Or(ctx.Err(), errors.Join(errs...))
}

// read lists what adoption needs, from etcd and not from a cache.
func (r *room) read(ctx context.Context, cfg *config.Config) (ledger.Snapshot, error) {
	var s ledger.Snapshot
	live := metav1.ListOptions{}
	namespaces, err := r.options.Client.CoreV1().Namespaces().List(ctx, live)
	if err != nil {
		return s, fmt.Errorf("list namespaces: %w", err)
	}
	labelsOf := map[string]map[string]string{}
	for i := range namespaces.Items {
		labelsOf[namespaces.Items[i].Name] = namespaces.Items[i].Labels
		if namespaces.Items[i].Name == metav1.NamespaceSystem {
			r.tenants.clusterUID = string(namespaces.Items[i].UID)
		}
	}
	if r.tenants.clusterUID == "" {
		return s, fmt.Errorf("list namespaces: there is no namespace %s, whose UID tells this cluster from others", metav1.NamespaceSystem)
	}
	nodes, err := r.options.Client.CoreV1().Nodes().List(ctx, live)
	if err != nil {
		return s, fmt.Errorf("list nodes: %w", err)
	}
	uids := map[string]string{}
	for i := range nodes.Items {
		uids[nodes.Items[i].Name] = string(nodes.Items[i].UID)
		s.Nodes = append(s.Nodes, nodeaddresses.NodeOf(&nodes.Items[i]))
	}
	objects, err := r.addresses.List(ctx, live)
	if err != nil {
		return s, fmt.Errorf("list nodeaddresses: %w", err)
	}
	for i := range objects.Items {
		o := &objects.Items[i]
		r.writer.Adopted(o)
		s.Objects = append(s.Objects, nodeaddresses.SnapshotOf(o, uids[o.Name]))
	}
	services, err := r.options.Client.CoreV1().Services(metav1.NamespaceAll).List(ctx, live)
	if err != nil {
		return s, fmt.Errorf("list services: %w", err)
	}
	for i := range services.Items {
		s.Services = append(s.Services, service.SnapshotOf(&services.Items[i], labelsOf[services.Items[i].Namespace], cfg.ServesClass))
	}
	return s, nil
}
