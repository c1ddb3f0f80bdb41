package externalips

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const namespace = "mooring-system"

// kept is a Keeper at work on a cluster, and what became of its writes.
type kept struct {
	*Keeper
	t       *testing.T
	cluster *fake.Clientset
	data    map[string]string
	writes  []error
}

// keep runs a test beside a Keeper that looks whenever something changed.
func keep(t *testing.T, test func(t *testing.T, k *kept), objects ...runtime.Object) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{t: t, cluster: fake.NewClientset(objects...), data: map[string]string{"192.0.2.1_32": "office"}}
		k.Keeper = NewKeeper(k.cluster, namespace, func() map[string]string { return k.data }, func(err error) { k.writes = append(k.writes, err) })
		ctx, cancel := context.WithCancel(t.Context())
		changed := make(chan struct{}, 100)
		go func() { assert.NoError(t, k.Run(ctx, func() { changed <- struct{}{} })) }()
		go func() {
			for {
				select {
				case <-changed:
					_ = k.Sync(ctx) // what it returns, the test asks for itself
				case <-ctx.Done():
					return
				}
			}
		}()
		<-time.After(time.Second) // client-go looks from time to time whether all is read
		synctest.Wait()
		test(t, k)
		cancel()
		synctest.Wait()
	})
}

func (k *kept) object() *corev1.ConfigMap {
	object, err := k.cluster.CoreV1().ConfigMaps(namespace).Get(k.t.Context(), Name, metav1.GetOptions{})
	require.NoError(k.t, err)
	return object
}

func shipped() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: namespace, Labels: map[string]string{"from": "the manifests"}}}
}

func TestItIsWrittenWhenItDiffersAndOnlyThen(t *testing.T) {
	keep(t, func(t *testing.T, k *kept) {
		assert.Equal(t, []error{nil}, k.writes)
		assert.Equal(t, k.data, k.object().Data)
		assert.Equal(t, shipped().Labels, k.object().Labels)
		for range 3 {
			require.NoError(t, k.Sync(t.Context()))
		}
		assert.Len(t, k.writes, 1, "it says that already")

		k.data = map[string]string{"192.0.2.2_32": "annex"}
		require.NoError(t, k.Sync(t.Context()))
		assert.Len(t, k.writes, 2)
		assert.Equal(t, k.data, k.object().Data, "the old is gone")
	}, shipped())
}

func TestWhatOthersDoToItIsUndone(t *testing.T) {
	for name, harm := range map[string]func(*corev1.ConfigMap){
		"a key of theirs": func(c *corev1.ConfigMap) { c.Data["10.0.0.0_8"] = "office" },
		"another value":   func(c *corev1.ConfigMap) { c.Data["192.0.2.1_32"] = "theirs" },
		"no data":         func(c *corev1.ConfigMap) { c.Data = nil },
		"binary data":     func(c *corev1.ConfigMap) { c.BinaryData = map[string][]byte{"lengths.4": []byte("8")} },
	} {
		t.Run(name, func(t *testing.T) {
			keep(t, func(t *testing.T, k *kept) {
				object := k.object()
				harm(object)
				_, err := k.cluster.CoreV1().ConfigMaps(namespace).Update(t.Context(), object, metav1.UpdateOptions{})
				require.NoError(t, err)
				synctest.Wait()
				assert.Equal(t, k.data, k.object().Data)
				assert.Empty(t, k.object().BinaryData)
				assert.Equal(t, []error{nil, nil}, k.writes)
			}, shipped())
		})
	}
}

func TestItIsMadeWhenItIsMissing(t *testing.T) {
	keep(t, func(t *testing.T, k *kept) {
		assert.Equal(t, k.data, k.object().Data)
		require.NoError(t, k.cluster.CoreV1().ConfigMaps(namespace).Delete(t.Context(), Name, metav1.DeleteOptions{}))
		synctest.Wait()
		assert.Equal(t, k.data, k.object().Data)
		assert.Equal(t, []error{nil, nil}, k.writes)
	})
}

func TestAWriteThatFailsIsSaid(t *testing.T) {
	keep(t, func(t *testing.T, k *kept) {
		refusal := errors.New("no")
		k.cluster.PrependReactor("update", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, refusal })
		k.data = nil
		err := k.Sync(t.Context())
		require.ErrorIs(t, err, refusal)
		assert.ErrorContains(t, err, "configmap mooring-system/mooring-external-ips")
		assert.Equal(t, []error{nil, refusal}, k.writes)
	}, shipped())
}
