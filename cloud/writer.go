package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/place"
)

// writer keeps one NodeAddresses for each Node and writes the ledger's decisions into it. One write carries all
// that was decided since the last (group commit): the queue runs one sync for a node at a time, and what is decided
// meanwhile, or during the pause after a write (pace), waits for the next.
type writer struct {
	room *room
	mu   sync.Mutex
	// last is what each object was when we wrote or adopted it.
	last map[string]ledger.Object
	pace pace
}

func (w *writer) remember(name string, o ledger.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = map[string]ledger.Object{}
	}
	w.last[name] = o
}

func (w *writer) known(name string) ledger.Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last[name]
}

// unexpected reports whether an object is not as it was written last: somebody else wrote it, or it is being
// deleted, or gone.
func (w *writer) unexpected(o *v1alpha1.NodeAddresses) bool {
	last := w.known(o.Name)
	return string(o.UID) != last.UID || o.Generation > last.Generation || o.DeletionTimestamp != nil || w.room.object(o.Name) == nil
}

// object returns what the informer shows of a node's object, nil when there is none.
func (r *room) object(name string) *v1alpha1.NodeAddresses {
	if obj, ok, err := r.objects.GetByKey(name); err == nil && ok {
		return obj.(*v1alpha1.NodeAddresses)
	}
	return nil
}

// sync brings one node's object nearer to what the ledger says.
func (w *writer) sync(ctx context.Context, name string) error {
	// Before anything else: to look at a full node is work, too.
	if wait := w.pace.wait(name, w.room.options.Clock.Now()); wait > 0 {
		w.room.nodeQueue.AddAfter(name, wait)
		return nil
	}
	o, err := w.look(ctx, name)
	if err != nil {
		return err
	}
	v := w.room.ledger().Node(name)
	switch {
	case o == nil && v.Name == "":
		w.room.ledger().Forget(name)
		w.pace.forget(name)
		return nil
	case o == nil:
		return w.create(ctx, v)
	case v.Name == "":
		return w.retire(ctx, name, v, o)
	case o.DeletionTimestamp != nil || !ownedBy(o, v.UID):
		return w.replace(ctx, v, o)
	case v.Dirty:
		return w.write(ctx, name, v)
	default:
		return nil
	}
}

// look returns a node's object, nil when there is none. What the informer shows is believed only while it agrees
// with what was written last: it may be behind our own writes, so the API server itself is asked otherwise.
func (w *writer) look(ctx context.Context, name string) (*v1alpha1.NodeAddresses, error) {
	last := w.known(name)
	o := w.room.object(name)
	if o == nil && last.UID == "" || o != nil && string(o.UID) == last.UID && o.Generation <= last.Generation {
		return o, nil
	}
	o, err := w.room.addresses.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		if last.UID != "" {
			w.lost(name)
		}
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read nodeaddresses %s: %w", name, err)
	case string(o.UID) == last.UID && o.Generation == last.Generation:
		return o, nil
	}
	return o, w.takeNotice(ctx, name, o)
}

// takeNotice looks at what somebody else wrote. In a newer epoch there is another leader: this one stops. Anything else
// is written over.
func (w *writer) takeNotice(ctx context.Context, name string, o *v1alpha1.NodeAddresses) error {
	ours := w.room.ledger().Epoch()
	term, err := w.room.epoch.current(ctx)
	if err != nil {
		return err
	}
	if term = max(term, highestTerm(o)); term > ours {
		return fmt.Errorf("NodeAddresses %s was written in epoch %d, ours is %d: %w", name, term, ours, errSuperseded)
	}
	klog.FromContext(ctx).Info("NodeAddresses is not what was written last; writing it again", "node", name,
		"uid", o.UID, "generation", o.Generation)
	w.remember(name, objectOf(o))
	w.room.ledger().Reset(name, objectOf(o), w.room.options.Clock.Now())
	w.room.ledger().Report(name, reportOf(o), w.room.options.Clock.Now())
	return nil
}

func ownedBy(o *v1alpha1.NodeAddresses, uid string) bool {
	for _, ref := range o.OwnerReferences {
		if ref.Kind == "Node" {
			return string(ref.UID) == uid
		}
	}
	return false
}

func (w *writer) create(ctx context.Context, v ledger.NodeView) error {
	o, err := w.room.addresses.Create(ctx, &v1alpha1.NodeAddresses{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeAddresses"},
		ObjectMeta: metav1.ObjectMeta{
			Name:       v.Name,
			Finalizers: []string{v1alpha1.Finalizer},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Node", Name: v.Name, UID: types.UID(v.UID),
			}},
		},
		Spec: specOf(v),
	}, metav1.CreateOptions{})
	w.room.metrics.wrote("nodeaddresses", err)
	if apierrors.IsAlreadyExists(err) {
		return w.again(ctx, v.Name, err)
	}
	if err != nil {
		return fmt.Errorf("create nodeaddresses %s: %w", v.Name, err)
	}
	w.committed(v.Name, v.Seq, o)
	return nil
}

// write replaces the spec, provided that nobody else has written it since: metadata.generation counts changes of
// the spec alone, so the agent's writes of the status do not get in the way.
func (w *writer) write(ctx context.Context, name string, v ledger.NodeView) error {
	last := w.known(name)
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": last.UID},
		{"op": "test", "path": "/metadata/generation", "value": last.Generation},
		{"op": "add", "path": "/spec", "value": specOf(v)},
		{"op": "add", "path": "/metadata/managedFields", "value": noManagedFields},
	})
	if err != nil {
		return fmt.Errorf("encode nodeaddresses %s: %w", name, err)
	}
	start := w.room.options.Clock.Now()
	o, err := w.room.addresses.Patch(ctx, name, types.JSONPatchType, patch, metav1.PatchOptions{})
	now := w.room.options.Clock.Now()
	w.pace.wrote(name, now, now.Sub(start))
	w.room.metrics.wrote("nodeaddresses", err)
	switch {
	case apierrors.IsInvalid(err), apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return w.again(ctx, name, err)
	case err != nil:
		return fmt.Errorf("write nodeaddresses %s: %w", name, err)
	}
	w.committed(name, v.Seq, o)
	return nil
}

// noManagedFields clears the record of who owns which field ("Clearing managedFields" in Kubernetes' documentation of
// server-side apply), and an object without one gets none by updates. Nobody applies a NodeAddresses, and keeping
// the record cost the API server a fifth of its work for 1,000 Services at once.
var noManagedFields = []struct{}{{}}

func (w *writer) committed(name string, seq uint64, o *v1alpha1.NodeAddresses) {
	w.remember(name, objectOf(o))
	w.room.ledger().Committed(name, seq, objectOf(o), w.room.options.Clock.Now())
	// The agent may have been faster than the answer to our write.
	if seen := w.room.object(name); seen != nil {
		w.room.ledger().Report(name, reportOf(seen), w.room.options.Clock.Now())
	}
}

// again looks at an object that a write found otherwise than expected, and returns the error so that the write is tried
// again. When the object is just what was expected, the API server has refused what we say.
func (w *writer) again(ctx context.Context, name string, refused error) error {
	last := w.known(name)
	o, err := w.room.addresses.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		w.lost(name)
	case err != nil:
		return fmt.Errorf("read nodeaddresses %s: %w", name, err)
	case objectOf(o) != last:
		if err := w.takeNotice(ctx, name, o); err != nil {
			return err
		}
	}
	return fmt.Errorf("write nodeaddresses %s: %w", name, refused)
}

// lost takes notice of an object that is gone.
func (w *writer) lost(name string) {
	w.remember(name, ledger.Object{})
	w.room.ledger().Reset(name, ledger.Object{}, w.room.options.Clock.Now())
}

// replace ends an object whose Node exists but which is being deleted, or belongs to an earlier Node of that name.
// The agent keeps what is bound while there is no object, and works on the new one.
func (w *writer) replace(ctx context.Context, v ledger.NodeView, o *v1alpha1.NodeAddresses) error {
	klog.FromContext(ctx).Info("NodeAddresses is deleted or of an earlier Node; making a new one", "node", o.Name)
	if err := w.end(ctx, o); err != nil {
		return err
	}
	return w.create(ctx, v)
}

// retire ends the object of a Node that is gone, once its agent has let go of everything or has had the time to.
func (w *writer) retire(ctx context.Context, name string, v ledger.NodeView, o *v1alpha1.NodeAddresses) error {
	if v.Dirty {
		if err := w.write(ctx, name, v); err != nil {
			return err
		}
	}
	if rest := place.ReleaseTimeout - w.room.options.Clock.Since(v.GoneSince); !v.Acknowledged && rest > 0 {
		w.room.nodeQueue.AddAfter(name, min(rest, time.Second))
		return nil
	}
	return w.end(ctx, o)
}

// end deletes an object and takes our finalizer off it.
func (w *writer) end(ctx context.Context, o *v1alpha1.NodeAddresses) error {
	uid := o.UID
	if o.DeletionTimestamp == nil {
		err := w.room.addresses.Delete(ctx, o.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete nodeaddresses %s: %w", o.Name, err)
		}
	}
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"finalizers":null}}`, uid)
	_, err := w.room.addresses.Patch(ctx, o.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	w.room.metrics.wrote("nodeaddresses", err)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("remove the finalizer of nodeaddresses %s: %w", o.Name, err)
	}
	return nil
}
