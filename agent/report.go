package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

const (
	reportRetryFirst = 250 * time.Millisecond
	reportRetryMost  = 5 * time.Second
	// incidental changes, such as those of the host's own addresses, are written at most this often after the first
	// few; acknowledgements are not held back.
	incidentalGap   = 10 * time.Second
	incidentalBurst = 3
)

// reporter writes the status. It works beside the agent's loop, so that an API server that hangs does not keep the
// host from being mended, and it writes the newest status only: what was overtaken meanwhile is never sent.
type reporter struct {
	client   *v1alpha1.Client
	nodeName string
	metrics  *Metrics
	kick     chan struct{}
	limiter  *rate.Limiter

	mu     sync.Mutex
	wanted *v1alpha1.NodeAddressesStatus // nil: nothing to report yet
	// written is the object as the API server is known to have it.
	written *v1alpha1.NodeAddresses
}

func newReporter(client *v1alpha1.Client, nodeName string, m *Metrics) *reporter {
	return &reporter{client: client, nodeName: nodeName, metrics: m, kick: make(chan struct{}, 1),
		limiter: rate.NewLimiter(rate.Every(incidentalGap), incidentalBurst)}
}

// offer replaces the status that is to be written.
func (r *reporter) offer(status v1alpha1.NodeAddressesStatus) {
	r.mu.Lock()
	same := r.wanted != nil && equality.Semantic.DeepEqual(*r.wanted, status)
	if !same {
		r.wanted = &status
	}
	r.mu.Unlock()
	if !same {
		r.wake()
	}
}

// saw tells of the object as the watch delivered it. One that is older than our own last write is ignored: else each
// write would be repeated until the watch has caught up.
func (r *reporter) saw(object *v1alpha1.NodeAddresses) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.written != nil && r.written.UID == object.UID {
		if c, err := resourceversion.CompareResourceVersion(object.ResourceVersion, r.written.ResourceVersion); err == nil && c <= 0 {
			return
		}
	}
	r.written = object
	r.wake()
}

func (r *reporter) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

func (r *reporter) run(ctx context.Context) {
	log := klog.FromContext(ctx)
	backoff, failing := reportRetryFirst, false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.kick:
		case <-timer.C:
		}
		wait, err := r.write(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failing {
				log.Error(err, "Status cannot be reported; trying again")
			}
			failing, wait = true, backoff
			backoff = min(2*backoff, reportRetryMost)
		default:
			if failing {
				log.Info("Status is reported again")
			}
			backoff, failing = reportRetryFirst, false
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// write brings the API server up to date, or returns for how long to wait before it does.
func (r *reporter) write(ctx context.Context) (time.Duration, error) {
	r.mu.Lock()
	wanted, written := r.wanted, r.written
	r.mu.Unlock()
	if wanted == nil || written == nil || written.UID != wanted.ObjectUID {
		return 0, nil
	}
	status := *wanted
	status.Conditions = slices.DeleteFunc(slices.Clone(written.Status.Conditions), func(c metav1.Condition) bool {
		return meta.FindStatusCondition(wanted.Conditions, c.Type) == nil
	})
	for _, condition := range wanted.Conditions {
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	if equality.Semantic.DeepEqual(status, written.Status) {
		return 0, nil
	}
	if acknowledged(status, written.Status) {
		reservation := r.limiter.Reserve()
		if wait := reservation.Delay(); wait > 0 {
			reservation.Cancel()
			return wait, nil
		}
	}
	patch, err := statusPatch(status)
	if err != nil {
		return 0, err
	}
	object, err := r.client.Patch(ctx, r.nodeName, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	r.metrics.reported(err == nil)
	if err != nil {
		return 0, fmt.Errorf("patch status of NodeAddresses %s: %w", r.nodeName, err)
	}
	r.saw(object)
	return 0, nil
}

// acknowledged says that the two statuses tell the controller the same about the spec.
func acknowledged(a, b v1alpha1.NodeAddressesStatus) bool {
	return a.ObjectUID == b.ObjectUID && a.ObservedGeneration == b.ObservedGeneration && a.BootID == b.BootID &&
		a.Bound == b.Bound && slices.Equal(a.Pending, b.Pending) && slices.Equal(a.Failed, b.Failed)
}

// statusPatch is a merge patch that sets the whole status, with the UID as precondition: it cannot hit another object
// of the same name.
func statusPatch(status v1alpha1.NodeAddressesStatus) ([]byte, error) {
	raw, err := json.Marshal(status)
	if err != nil {
		return nil, fmt.Errorf("encode the status: %w", err)
	}
	// A merge patch leaves alone what it does not name, so what is empty is named as null.
	fields := map[string]json.RawMessage{}
	for _, name := range []string{"pending", "failed", "contested", "nodeAddresses", "hardwareAddresses", "healthPort", "bootID"} {
		fields[name] = json.RawMessage("null")
	}
	present := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &present); err != nil {
		return nil, fmt.Errorf("encode the status: %w", err)
	}
	maps.Copy(fields, present)
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": status.ObjectUID},
		"status":   fields,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the status: %w", err)
	}
	return patch, nil
}
