package nodeaddresses

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// NewAPI returns the API that a client speaks to.
func NewAPI(c *v1alpha1.Client) API { return remote{c} }

// remote is the API server behind a client.
type remote struct{ client *v1alpha1.Client }

func (r remote) Get(ctx context.Context, name string) (*v1alpha1.NodeAddresses, error) {
	return r.client.Get(ctx, name, metav1.GetOptions{})
}

func (r remote) Create(ctx context.Context, o *v1alpha1.NodeAddresses) (*v1alpha1.NodeAddresses, error) {
	return r.client.Create(ctx, o, metav1.CreateOptions{})
}

// Write is a JSON patch (RFC 6902), whose tests are the preconditions.
func (r remote) Write(ctx context.Context, name string, expected ledger.Object, epoch int64, spec v1alpha1.NodeAddressesSpec) (*v1alpha1.NodeAddresses, error) {
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": expected.UID},
		{"op": "test", "path": "/metadata/generation", "value": expected.Generation},
		{"op": "test", "path": epochPath, "value": formatEpoch(epoch)},
		{"op": "add", "path": "/spec", "value": spec},
		{"op": "add", "path": "/metadata/managedFields", "value": noManagedFields},
	})
	if err != nil {
		return nil, fmt.Errorf("encode nodeaddresses %s: %w", name, err)
	}
	return r.client.Patch(ctx, name, types.JSONPatchType, patch, metav1.PatchOptions{})
}

// epochPath is a JSON pointer, in which a slash is written ~1 (RFC 6901, section 3).
var epochPath = "/metadata/annotations/" + strings.ReplaceAll(v1alpha1.AnnotationEpoch, "/", "~1")

// noManagedFields clears the record of who owns which field ("Clearing managedFields" in Kubernetes' documentation of
// server-side apply), and an object without one gets none by updates. Nobody applies a NodeAddresses, and keeping
// the record cost the API server a fifth of its work for 1,000 Services at once.
var noManagedFields = []struct{}{{}}

func (r remote) Fence(ctx context.Context, name string, uid types.UID, resourceVersion string, epoch int64) error {
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"resourceVersion":%q,"annotations":{%q:%q}}}`, uid, resourceVersion, v1alpha1.AnnotationEpoch, formatEpoch(epoch))
	_, err := r.client.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (r remote) Delete(ctx context.Context, name string, uid types.UID) error {
	return r.client.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
}

func (r remote) Unfinalize(ctx context.Context, name string, uid types.UID) error {
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"finalizers":null}}`, uid)
	_, err := r.client.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
