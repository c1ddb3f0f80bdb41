package convert

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

// The API groups of the two operators.
const (
	paperGroup  = "lb.paperlb.com"
	plenusGroup = "loadbalancing.plenus.io"
)

// Operators are the resources that the two operators keep in a cluster. A cluster has those of the one that is installed.
func Operators() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{
		{Group: paperGroup, Version: "v1alpha1", Resource: "loadbalancerconfigs"},
		{Group: paperGroup, Version: "v1alpha1", Resource: "loadbalancers"},
		{Group: plenusGroup, Version: "v1alpha1", Resource: "persistentippools"},
		{Group: plenusGroup, Version: "v1alpha1", Resource: "ephemeralippools"},
		{Group: plenusGroup, Version: "v1alpha1", Resource: "ipallocations"},
	}
}

// Others are the resources that are read beside them: what they served, where, and what Mooring has already.
func Others() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{
		corev1.SchemeGroupVersion.WithResource("services"),
		corev1.SchemeGroupVersion.WithResource("nodes"),
		v1alpha1.GroupVersion.WithResource("nodeaddresses"),
	}
}

// Input is what was read, of files or of a cluster. The zero value is empty.
type Input struct {
	services  []corev1.Service
	nodes     []corev1.Node
	addresses []v1alpha1.NodeAddresses

	configs   []paperConfig
	balancers []paperBalancer

	persistent, ephemeral []plenusPool
	allocations           []plenusAllocation

	// at is where each object stands in its list.
	at map[objectKey]int
}

type objectKey struct {
	kind schema.GroupKind
	name types.NamespacedName
}

// Add takes in an object. Kinds that are of no use are passed over; of two objects of one kind and name the last counts.
func (in *Input) Add(o *unstructured.Unstructured) error {
	switch kind := o.GroupVersionKind().GroupKind(); kind {
	case schema.GroupKind{Kind: "Service"}:
		return add(in, kind, &in.services, o)
	case schema.GroupKind{Kind: "Node"}:
		return add(in, kind, &in.nodes, o)
	case schema.GroupKind{Group: v1alpha1.GroupVersion.Group, Kind: "NodeAddresses"}:
		return add(in, kind, &in.addresses, o)
	case schema.GroupKind{Group: paperGroup, Kind: "LoadBalancerConfig"}:
		return add(in, kind, &in.configs, o)
	case schema.GroupKind{Group: paperGroup, Kind: "LoadBalancer"}:
		return add(in, kind, &in.balancers, o)
	case schema.GroupKind{Group: plenusGroup, Kind: "PersistentIPPool"}:
		return add(in, kind, &in.persistent, o)
	case schema.GroupKind{Group: plenusGroup, Kind: "EphemeralIPPool"}:
		return add(in, kind, &in.ephemeral, o)
	case schema.GroupKind{Group: plenusGroup, Kind: "IPAllocation"}:
		return add(in, kind, &in.allocations, o)
	default:
		return nil
	}
}

// named is what has a namespace and a name.
type named[T any] interface {
	*T
	metav1.Object
}

func add[T any, P named[T]](in *Input, kind schema.GroupKind, list *[]T, from *unstructured.Unstructured) error {
	var read P = new(T)
	key := keyOf(from)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(from.Object, read); err != nil {
		return fmt.Errorf("read %s %s: %w", from.GetKind(), strings.TrimPrefix(key.String(), "/"), err)
	}
	if key.Name == "" {
		return fmt.Errorf("read %s: it has no metadata.name: give objects as kubectl get -o yaml prints them", from.GetKind())
	}
	// Names stand in commands that are printed for a shell.
	if len(validation.IsDNS1123Subdomain(key.Name)) > 0 || key.Namespace != "" && len(validation.IsDNS1123Label(key.Namespace)) > 0 {
		return fmt.Errorf("read %s %q: no object of Kubernetes can be called so: give objects as kubectl get -o yaml prints them",
			from.GetKind(), strings.TrimPrefix(key.String(), "/"))
	}
	id := objectKey{kind: kind, name: key}
	if at, ok := in.at[id]; ok {
		(*list)[at] = *read
		return nil
	}
	if in.at == nil {
		in.at = map[objectKey]int{}
	}
	in.at[id] = len(*list)
	*list = append(*list, *read)
	return nil
}

func keyOf(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// sort puts the objects in an order that does not depend on the one in which they came.
func (in *Input) sort() {
	sortByName(in.services)
	sortByName(in.nodes)
	sortByName(in.addresses)
	sortByName(in.configs)
	sortByName(in.balancers)
	sortByName(in.persistent)
	sortByName(in.ephemeral)
	sortByName(in.allocations)
}

func sortByName[T any, P named[T]](list []T) {
	slices.SortFunc(list, func(a, b T) int { return compareKeys(keyOf(P(&a)), keyOf(P(&b))) })
}

// complete reports what is missing for the work.
func (in *Input) complete() error {
	if len(in.configs)+len(in.balancers)+len(in.persistent)+len(in.ephemeral)+len(in.allocations) == 0 {
		return errors.New("there is nothing to convert: no object of PaperLB (" + paperGroup + ") and none of PlenusLB (" + plenusGroup + ") was found")
	}
	if len(in.services) == 0 && len(in.balancers)+len(in.allocations) > 0 {
		return errors.New("there is no Service in what was read, and what they have is to be kept: " +
			"add the output of kubectl get services --all-namespaces -o yaml")
	}
	if len(in.nodes) == 0 && slices.ContainsFunc(in.allocations, func(a plenusAllocation) bool {
		return slices.ContainsFunc(a.Spec.Allocations, func(a plenusAddress) bool { return a.NodeName != "" })
	}) {
		return errors.New("there is no Node in what was read, and addresses are to stay where they are: " +
			"add the output of kubectl get nodes -o yaml")
	}
	return nil
}

// paperConfig is PaperLB's LoadBalancerConfig: one load balancer and the ports that are given out there.
type paperConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Default        bool   `json:"default"`
		HTTPUpdaterURL string `json:"httpUpdaterURL"`
		Host           string `json:"host"`
		PortRange      struct {
			Low  int `json:"low"`
			High int `json:"high"`
		} `json:"portRange"`
	} `json:"spec"`
}

// paperBalancer is PaperLB's LoadBalancer: what one Service has, under the Service's name.
type paperBalancer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ConfigName  string `json:"configName"`
		HTTPUpdater struct {
			URL string `json:"url"`
		} `json:"httpUpdater"`
		Host     string `json:"host"`
		Port     int    `json:"port"`
		Protocol string `json:"protocol"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

// plenusPool is PlenusLB's PersistentIPPool or EphemeralIPPool; the latter has no addresses.
type plenusPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Addresses         []string `json:"addresses"`
		AllowedNamespaces []string `json:"allowedNamespaces"`
		CloudIntegration  *struct {
			Hetzner *struct {
				Token string `json:"token"`
			} `json:"hetzner"`
		} `json:"cloudIntegration"`
		Options *plenusOptions `json:"options"`
	} `json:"spec"`
}

type plenusOptions struct {
	HostNetworkInterface *plenusInterface `json:"hostNetworkInterface"`
}

type plenusInterface struct {
	AddAddressesToInterface bool   `json:"addAddressesToInterface"`
	InterfaceName           string `json:"interfaceName"`
}

// plenusAllocation is PlenusLB's IPAllocation: what one Service has, under the Service's name.
type plenusAllocation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Type        string          `json:"type"`
		Allocations []plenusAddress `json:"allocations"`
	} `json:"spec"`
	Status struct {
		State   string `json:"state"`
		Message string `json:"message"`
	} `json:"status"`
}

type plenusAddress struct {
	Address          string `json:"address"`
	NetworkInterface string `json:"networkInterface"`
	NodeName         string `json:"nodeName"`
	CloudProvider    string `json:"cloudProvider"`
	Pool             string `json:"pool"`
}
