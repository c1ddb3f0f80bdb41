package externalips

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Name of the ConfigMap, which manifests/base/external-ips-policy.yaml brings without data and names as the policy's
// parameters.
const Name = "mooring-external-ips"

// fieldManager of what is written.
const fieldManager = "mooring-cloud-controller-manager"

// Keeper keeps the ConfigMap as it is wanted, whoever edits or deletes it.
type Keeper struct {
	client    kubernetes.Interface
	namespace string
	want      func() map[string]string
	wrote     func(error)
	informer  cache.SharedIndexInformer
}

// NewKeeper makes a Keeper of the ConfigMap in the namespace. What it is to hold is asked for whenever it is looked at;
// wrote is told of each write, with its error.
func NewKeeper(client kubernetes.Interface, namespace string, want func() map[string]string, wrote func(error)) *Keeper {
	return &Keeper{
		client: client, namespace: namespace, want: want, wrote: wrote,
		informer: coreinformers.NewFilteredConfigMapInformer(client, namespace, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
			// The account may read this one alone.
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, Name).String()
		}),
	}
}

// Run watches the ConfigMap until the context ends, and calls changed when it is there for the first time, also when it
// turns out to be missing, and when it changed.
func (k *Keeper) Run(ctx context.Context, changed func()) error {
	if _, err := k.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
	}); err != nil {
		return fmt.Errorf("watch %s: %w", k.key(), err)
	}
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), k.informer.HasSynced) {
			changed()
		}
	}()
	k.informer.RunWithContext(ctx)
	return nil
}

// Sync writes the ConfigMap when it is not as it is wanted. Before it was seen for the first time nothing is done.
func (k *Keeper) Sync(ctx context.Context) error {
	if !k.informer.HasSynced() {
		return nil
	}
	object, found, err := k.informer.GetStore().GetByKey(k.key())
	if err != nil {
		return err
	}
	want := k.want()
	if found {
		err = k.update(ctx, object.(*corev1.ConfigMap), want)
	} else {
		// Applied and not created: so RBAC can narrow the right to create to this name.
		_, err = k.client.CoreV1().ConfigMaps(k.namespace).Apply(ctx, corev1apply.ConfigMap(Name, k.namespace).WithData(want),
			metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		k.wrote(err)
	}
	if err != nil {
		return fmt.Errorf("write the pools' addresses to configmap %s, which the admission policy mooring-external-ips goes by "+
			"(both are part of manifests/): %w", k.key(), err)
	}
	return nil
}

// update replaces the data, and so takes out what others added.
func (k *Keeper) update(ctx context.Context, object *corev1.ConfigMap, want map[string]string) error {
	if maps.Equal(object.Data, want) && len(object.BinaryData) == 0 {
		return nil
	}
	object = object.DeepCopy()
	object.Data, object.BinaryData = want, nil
	_, err := k.client.CoreV1().ConfigMaps(k.namespace).Update(ctx, object, metav1.UpdateOptions{FieldManager: fieldManager})
	k.wrote(err)
	return err
}

func (k *Keeper) key() string { return k.namespace + "/" + Name }
