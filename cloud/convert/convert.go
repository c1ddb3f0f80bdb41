// Package convert says how a cluster comes over from PaperLB or PlenusLB: from the objects that these keep, and the
// Services and Nodes that they serve, it makes a cloud-config, annotations for Services, and NodeAddresses with which the
// first controller finds every address, port and node as they are (Convert). What has no counterpart it says in notes.
//
// It is pure: it calls no client, reads no file and no clock, and the same objects give the same Plan in whatever order
// they come. It knows of the two operators only what their objects say, by types of its own; and a token that it reads in
// one of them it compares, and never hands on.
//
// Source: the objects, annotations, labels and names that github.com/didil/paperlb (February 2023) and
// github.com/plenus-cloud/plenuslb (August 2021) read and write.
package convert

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/config"
)

// Plan is what is to be applied, in this order, before the first controller of Mooring starts.
type Plan struct {
	// CloudConfig is the file, with comments. It has passed config.Parse.
	CloudConfig []byte
	// Secrets that the cloud-config names, by file.
	Secrets []Secret
	// NodeAddresses say on which node each address is, by name.
	NodeAddresses []v1alpha1.NodeAddresses
	// Services are changed by annotations that are added, by namespace and name.
	Services []ServiceChange
	// Notes are what a person has to know, those that are to be done first before others.
	Notes []Note
}

// Secret is a file beside the cloud-config, and where its content stands now.
type Secret struct {
	// File is its name, without directory.
	File string `json:"file"`
	// Resource and JSONPath are arguments of kubectl get that print the content.
	Resource string `json:"resource"`
	JSONPath string `json:"jsonPath"`
}

// ServiceChange is what is added to a Service.
type ServiceChange struct {
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Publish is to stand in the status instead of what does; nil: that is right.
	Publish *corev1.LoadBalancerIngress `json:"publish,omitempty"`
}

// Note says of one object what is not, or not quite, as it was.
type Note struct {
	// About is the object, such as Service shop/web.
	About string `json:"about"`
	Text  string `json:"text"`
	// First: it has to be seen to before the old operator is stopped, or what works now does not later.
	First bool `json:"first,omitempty"`
}

// Convert makes a plan of what was read. An error says what is missing from the input, or lists the mistakes in the
// cloud-config that would come out of it.
func Convert(in *Input) (*Plan, error) {
	if err := in.complete(); err != nil {
		return nil, err
	}
	in.sort()
	c := &conversion{
		services: map[types.NamespacedName]*corev1.Service{}, nodes: map[string]*corev1.Node{}, names: names{},
		taken: map[types.NamespacedName]string{}, changes: map[types.NamespacedName]*ServiceChange{},
		objects: map[string]*v1alpha1.NodeAddresses{}, allocated: map[types.NamespacedName]bool{},
	}
	for i := range in.services {
		c.services[keyOf(&in.services[i])] = &in.services[i]
	}
	for i := range in.nodes {
		c.nodes[in.nodes[i].Name] = &in.nodes[i]
	}
	for i := range in.allocations {
		c.allocated[keyOf(&in.allocations[i])] = true
	}
	convertPaperLB(c, in)
	convertPlenusLB(c, in)
	c.keepObjects(in)

	text, err := c.config()
	if err != nil {
		return nil, err
	}
	if _, err := config.Parse(text); err != nil {
		return nil, fmt.Errorf("the cloud-config that these objects give is not valid; change the objects, or leave out the pool:\n%w", err)
	}
	plan := &Plan{CloudConfig: text, Secrets: c.secrets, Notes: c.notes}
	for _, name := range slices.Sorted(maps.Keys(c.objects)) {
		plan.NodeAddresses = append(plan.NodeAddresses, *c.objects[name])
	}
	for _, key := range slices.SortedFunc(maps.Keys(c.changes), compareKeys) {
		plan.Services = append(plan.Services, *c.changes[key])
	}
	slices.SortStableFunc(plan.Notes, func(a, b Note) int {
		switch {
		case a.First == b.First:
			return 0
		case a.First:
			return -1
		default:
			return 1
		}
	})
	return plan, nil
}

// conversion is a plan in the making.
type conversion struct {
	services map[types.NamespacedName]*corev1.Service
	nodes    map[string]*corev1.Node
	// allocated are the Services that PlenusLB has an IPAllocation of.
	allocated map[types.NamespacedName]bool

	names   names
	pools   []pool
	account *account
	secrets []Secret
	// taken names the operator that has served a Service.
	taken   map[types.NamespacedName]string
	changes map[types.NamespacedName]*ServiceChange
	objects map[string]*v1alpha1.NodeAddresses
	notes   []Note
}

func (c *conversion) note(about, format string, args ...any) {
	c.notes = append(c.notes, Note{About: about, Text: fmt.Sprintf(format, args...)})
}

func (c *conversion) first(about, format string, args ...any) {
	c.notes = append(c.notes, Note{About: about, Text: fmt.Sprintf(format, args...), First: true})
}

// change is what is added to a Service so far.
func (c *conversion) change(svc *corev1.Service) *ServiceChange {
	key := keyOf(svc)
	if c.changes[key] == nil {
		c.changes[key] = &ServiceChange{Namespace: svc.Namespace, Name: svc.Name, Annotations: map[string]string{}}
	}
	return c.changes[key]
}

// annotate adds an annotation. One that somebody has set is left alone.
func (c *conversion) annotate(svc *corev1.Service, key, value string) {
	switch is, ok := svc.Annotations[key]; {
	case !ok:
		c.change(svc).Annotations[key] = value
	case is != value:
		c.note(about(svc), "has the annotation %s=%q already, which is left as it is; %q would keep what the Service has", key, is, value)
	}
}

// served are the Services of type LoadBalancer that are not being deleted, the older one first: of two that claim one
// thing it is the older one's, as for the controller.
func (c *conversion) served() []*corev1.Service {
	var served []*corev1.Service
	for _, svc := range c.services {
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil {
			served = append(served, svc)
		}
	}
	slices.SortFunc(served, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), compareKeys(keyOf(a), keyOf(b)))
	})
	return served
}

// gone says why the Service of that name is not served any more, empty when it is.
func (c *conversion) gone(key types.NamespacedName) string {
	switch svc := c.services[key]; {
	case svc == nil:
		return "which does not exist"
	case svc.DeletionTimestamp != nil:
		return "which is being deleted"
	case svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
		return fmt.Sprintf("which is of type %s now", svc.Spec.Type)
	default:
		return ""
	}
}

func about(svc *corev1.Service) string { return "Service " + keyOf(svc).String() }

func classOf(svc *corev1.Service) string {
	if svc.Spec.LoadBalancerClass == nil {
		return ""
	}
	return *svc.Spec.LoadBalancerClass
}

func compareKeys(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
