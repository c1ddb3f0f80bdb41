package nodeaddresses

import (
	"context"
	"errors"
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

// ErrSuperseded says that another controller leads: this one must not write any more.
var ErrSuperseded = errors.New("another controller leads")

// API is what the writer asks of the API server. Errors are those of k8s.io/apimachinery/pkg/api/errors; a call whose
// answer is lost may have been carried out.
type API interface {
	// Get reads an object live, and not from a cache.
	Get(ctx context.Context, name string) (*v1alpha1.NodeAddresses, error)
	// Create makes an object; AlreadyExists when there is one of that name.
	Create(ctx context.Context, o *v1alpha1.NodeAddresses) (*v1alpha1.NodeAddresses, error)
	// Write replaces the spec, provided that the object is still the expected one in its expected generation, and fenced
	// by this epoch and no later one; Invalid or Conflict when it is not.
	Write(ctx context.Context, name string, expected ledger.Object, epoch int64, spec v1alpha1.NodeAddressesSpec) (*v1alpha1.NodeAddresses, error)
	// Fence has every Write of another epoch refused from now on; Conflict when the object is not in this version.
	Fence(ctx context.Context, name string, uid types.UID, resourceVersion string, epoch int64) error
	// Delete asks for the end of the object with this UID, which its finalizer holds up.
	Delete(ctx context.Context, name string, uid types.UID) error
	// Unfinalize takes all finalizers off the object with this UID.
	Unfinalize(ctx context.Context, name string, uid types.UID) error
}

// Options are what a Writer works with. All are required.
type Options struct {
	API API
	// Ledger returns the ledger whose decisions are written.
	Ledger func() *ledger.Ledger
	// Seen returns what the watch shows of a node's object, nil when there is none.
	Seen func(name string) *v1alpha1.NodeAddresses
	// Epoch reads the newest controller's term live.
	Epoch func(context.Context) (int64, error)
	// Again has Sync called for a node after a while.
	Again func(name string, after time.Duration)
	Now   func() time.Time
	// Wrote is told of every write and of its error.
	Wrote func(error)
}

// Writer keeps one NodeAddresses for each Node and writes the ledger's decisions into it. One write carries all that
// was decided since the last (group commit): Sync runs for a node once at a time, and what is decided meanwhile, or
// during the pause after a write (pace), waits for the next. Different nodes may be synced at once.
type Writer struct {
	options Options
	lanes   *Lanes

	mu sync.Mutex
	// last is what each object was when we wrote or adopted it.
	last map[string]ledger.Object
	pace pace
}

// NewWriter returns a writer of the nodes that wait in lanes.
func NewWriter(o Options, lanes *Lanes) *Writer {
	return &Writer{options: o, lanes: lanes, last: map[string]ledger.Object{}}
}

// Fence keeps controllers of earlier epochs from writing an object, whatever they have under way. Only what is read
// after that holds for as long as this controller leads.
//
// It is ErrSuperseded that a later epoch has fenced the object: no fence is ever lowered.
func Fence(ctx context.Context, api API, o *v1alpha1.NodeAddresses, epoch int64) error {
	name := o.Name
	for EpochOf(o) != epoch {
		if is := EpochOf(o); is > epoch {
			return fmt.Errorf("NodeAddresses %s is fenced by epoch %d, ours is %d: %w", name, is, epoch, ErrSuperseded)
		}
		err := api.Fence(ctx, name, o.UID, o.ResourceVersion, epoch)
		if apierrors.IsConflict(err) {
			// Its agent has reported meanwhile, or somebody else has fenced it.
			if o, err = api.Get(ctx, name); err == nil {
				continue
			}
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("fence nodeaddresses %s: %w", name, err)
		}
		return nil
	}
	return nil
}

// Adopted says that an object was read when the ledger was rebuilt.
func (w *Writer) Adopted(o *v1alpha1.NodeAddresses) { w.remember(o.Name, ObjectOf(o)) }

func (w *Writer) remember(name string, o ledger.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last[name] = o
}

func (w *Writer) known(name string) ledger.Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last[name]
}

// Unexpected reports whether an object that the watch told of is not as it was written last: somebody else wrote it,
// or fenced it in a later epoch, or it is being deleted, or gone. Sync has to look then.
func (w *Writer) Unexpected(o *v1alpha1.NodeAddresses) bool {
	last := w.known(o.Name)
	return w.deposed(o) || string(o.UID) != last.UID || o.Generation > last.Generation || o.DeletionTimestamp != nil || w.options.Seen(o.Name) == nil
}

// deposed reports whether a later epoch has fenced an object, so that nothing that is decided here can be written. Whoever
// did so may have lost the lead since: this controller may go on leading for long before it has anything to write, and
// then, when a node is lost, there is no time to start anew.
func (w *Writer) deposed(o *v1alpha1.NodeAddresses) bool {
	return EpochOf(o) > w.options.Ledger().Epoch()
}

// Sync brings one node's object nearer to what the ledger says. An error means that it is to be tried again, unless
// it is ErrSuperseded.
func (w *Writer) Sync(ctx context.Context, name string) error {
	urgent := w.lanes.take(name)
	// Before anything else: to look at a full node is work, too.
	if wait := w.pace.wait(name, w.options.Now()); wait > 0 && !urgent {
		w.options.Again(name, wait)
		return nil
	}
	err := w.sync(ctx, name)
	if err != nil && urgent {
		w.lanes.Hurry(name)
	}
	return err
}

func (w *Writer) sync(ctx context.Context, name string) error {
	o, err := w.look(ctx, name)
	if err != nil {
		return err
	}
	v := w.options.Ledger().Node(name)
	switch {
	case o == nil && v.Name == "":
		w.options.Ledger().Forget(name)
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

// look returns a node's object, nil when there is none. What the watch shows is believed only while it agrees with
// what was written last: it may be behind our own writes, so the API server itself is asked otherwise.
func (w *Writer) look(ctx context.Context, name string) (*v1alpha1.NodeAddresses, error) {
	last := w.known(name)
	o := w.options.Seen(name)
	if o == nil && last.UID == "" || o != nil && string(o.UID) == last.UID && o.Generation <= last.Generation && !w.deposed(o) {
		return o, nil
	}
	o, err := w.options.API.Get(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		if last.UID != "" {
			w.lost(name)
		}
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read nodeaddresses %s: %w", name, err)
	case string(o.UID) == last.UID && o.Generation == last.Generation && !w.deposed(o):
		return o, nil
	}
	return o, w.takeNotice(ctx, name, o)
}

// takeNotice looks at what somebody else wrote, or fenced. In a newer epoch there is another leader: this one stops.
// Anything else is written over.
func (w *Writer) takeNotice(ctx context.Context, name string, o *v1alpha1.NodeAddresses) error {
	ours := w.options.Ledger().Epoch()
	term, err := w.options.Epoch(ctx)
	if err != nil {
		return err
	}
	if term = max(term, highestTerm(o), EpochOf(o)); term > ours {
		return fmt.Errorf("NodeAddresses %s was written in epoch %d, ours is %d: %w", name, term, ours, ErrSuperseded)
	}
	if err := Fence(ctx, w.options.API, o, ours); err != nil {
		return err
	}
	if ObjectOf(o) == w.known(name) {
		return nil
	}
	klog.FromContext(ctx).Info("NodeAddresses is not what was written last; writing it again", "node", name,
		"uid", o.UID, "generation", o.Generation)
	w.remember(name, ObjectOf(o))
	w.options.Ledger().Reset(name, ObjectOf(o), w.options.Now())
	w.options.Ledger().Report(name, ReportOf(o), w.options.Now())
	return nil
}

func (w *Writer) create(ctx context.Context, v ledger.NodeView) error {
	o, err := w.options.API.Create(ctx, &v1alpha1.NodeAddresses{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "NodeAddresses"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        v.Name,
			Annotations: map[string]string{v1alpha1.AnnotationEpoch: formatEpoch(w.options.Ledger().Epoch())},
			Finalizers:  []string{v1alpha1.Finalizer},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Node", Name: v.Name, UID: types.UID(v.UID),
			}},
		},
		Spec: specOf(v),
	})
	w.options.Wrote(err)
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
func (w *Writer) write(ctx context.Context, name string, v ledger.NodeView) error {
	start := w.options.Now()
	o, err := w.options.API.Write(ctx, name, w.known(name), w.options.Ledger().Epoch(), specOf(v))
	now := w.options.Now()
	w.pace.wrote(name, now, now.Sub(start))
	w.options.Wrote(err)
	switch {
	case apierrors.IsInvalid(err), apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return w.again(ctx, name, err)
	case err != nil:
		return fmt.Errorf("write nodeaddresses %s: %w", name, err)
	}
	w.committed(name, v.Seq, o)
	return nil
}

func (w *Writer) committed(name string, seq uint64, o *v1alpha1.NodeAddresses) {
	w.remember(name, ObjectOf(o))
	w.options.Ledger().Committed(name, seq, ObjectOf(o), w.options.Now())
	// The agent may have been faster than the answer to our write.
	if seen := w.options.Seen(name); seen != nil {
		w.options.Ledger().Report(name, ReportOf(seen), w.options.Now())
	}
}

// again looks at an object that a write found otherwise than expected, and returns the error so that the write is tried
// again. When the object is just what was expected, it is fenced by another epoch, or the API server has refused what we
// say.
func (w *Writer) again(ctx context.Context, name string, refused error) error {
	o, err := w.options.API.Get(ctx, name)
	switch {
	case apierrors.IsNotFound(err):
		w.lost(name)
	case err != nil:
		return fmt.Errorf("read nodeaddresses %s: %w", name, err)
	case ObjectOf(o) != w.known(name) || EpochOf(o) != w.options.Ledger().Epoch():
		if err := w.takeNotice(ctx, name, o); err != nil {
			return err
		}
	}
	return fmt.Errorf("write nodeaddresses %s: %w", name, refused)
}

// lost takes notice of an object that is gone.
func (w *Writer) lost(name string) {
	w.remember(name, ledger.Object{})
	w.options.Ledger().Reset(name, ledger.Object{}, w.options.Now())
}

// replace ends an object whose Node exists but which is being deleted, or belongs to an earlier Node of that name.
// The agent keeps what is bound while there is no object, and works on the new one.
func (w *Writer) replace(ctx context.Context, v ledger.NodeView, o *v1alpha1.NodeAddresses) error {
	klog.FromContext(ctx).Info("NodeAddresses is deleted or of an earlier Node; making a new one", "node", o.Name)
	if err := w.end(ctx, o); err != nil {
		return err
	}
	return w.create(ctx, v)
}

// retire ends the object of a Node that is gone, once its agent has let go of everything or has had the time to.
func (w *Writer) retire(ctx context.Context, name string, v ledger.NodeView, o *v1alpha1.NodeAddresses) error {
	if v.Dirty {
		if err := w.write(ctx, name, v); err != nil {
			return err
		}
	}
	if rest := place.ReleaseTimeout - w.options.Now().Sub(v.GoneSince); !v.Acknowledged && rest > 0 {
		w.options.Again(name, min(rest, time.Second))
		return nil
	}
	return w.end(ctx, o)
}

// end deletes an object and takes our finalizer off it.
func (w *Writer) end(ctx context.Context, o *v1alpha1.NodeAddresses) error {
	if o.DeletionTimestamp == nil {
		if err := w.options.API.Delete(ctx, o.Name, o.UID); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete nodeaddresses %s: %w", o.Name, err)
		}
	}
	err := w.options.API.Unfinalize(ctx, o.Name, o.UID)
	w.options.Wrote(err)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("remove the finalizer of nodeaddresses %s: %w", o.Name, err)
	}
	return nil
}
