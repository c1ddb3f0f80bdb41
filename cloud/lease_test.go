package cloud

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

// TestLeaseRelease says who holds the lease after a controller that led has given it back.
func TestLeaseRelease(t *testing.T) {
	for _, test := range []struct {
		name      string
		conflicts int32
		successor string
		want      string
	}{
		{name: "nobody", want: ""},
		{name: "nobody, although its own leader election renewed it meanwhile", conflicts: 2, want: ""},
		{name: "whoever has taken it since", successor: "other", want: "other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset(&coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "leader"},
				Spec:       coordinationv1.LeaseSpec{HolderIdentity: new("me"), LeaseDurationSeconds: ptr.To[int32](5)},
			})
			leases := client.CoordinationV1().Leases("kube-system")
			l := &leadership{client: client, namespace: "kube-system", name: "leader"}
			require.NoError(t, l.note(t.Context()))
			if test.successor != "" {
				lease, err := leases.Get(t.Context(), "leader", metav1.GetOptions{})
				require.NoError(t, err)
				lease.Spec.HolderIdentity = &test.successor
				_, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{})
				require.NoError(t, err)
			}
			var tries atomic.Int32
			client.PrependReactor("update", "leases", func(k8stesting.Action) (bool, runtime.Object, error) {
				if tries.Add(1) > test.conflicts {
					return false, nil, nil
				}
				return true, nil, apierrors.NewConflict(coordinationv1.Resource("leases"), "leader", nil)
			})

			require.NoError(t, l.release(t.Context()))
			lease, err := leases.Get(t.Context(), "leader", metav1.GetOptions{})
			require.NoError(t, err)
			assert.Equal(t, test.want, ptr.Deref(lease.Spec.HolderIdentity, ""))
		})
	}
}
