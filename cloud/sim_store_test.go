package cloud_test

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// kind of object that the simulated API server stores.
type kind struct {
	group, version, resource, name string
	// custom: its status subresource takes nothing but the status.
	custom bool
	// typed is what a strategic merge patch is merged by.
	typed any
}

var kinds = []kind{
	{version: "v1", resource: "namespaces", name: "Namespace", typed: corev1.Namespace{}},
	{version: "v1", resource: "nodes", name: "Node", typed: corev1.Node{}},
	{version: "v1", resource: "services", name: "Service", typed: corev1.Service{}},
	{group: "discovery.k8s.io", version: "v1", resource: "endpointslices", name: "EndpointSlice"},
	{group: "coordination.k8s.io", version: "v1", resource: "leases", name: "Lease"},
	{group: "mooring.dev", version: "v1alpha1", resource: "nodeaddresses", name: "NodeAddresses", custom: true},
}

func (k kind) apiVersion() string {
	return schema.GroupVersion{Group: k.group, Version: k.version}.String()
}

func (k kind) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.group, Resource: k.resource}
}

func kindOf(resource string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.resource == resource })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// fields of an object as JSON has them.
type fields = map[string]any

// stored is one version of an object. It is never changed.
type stored struct {
	fields fields
	raw    []byte
	decode sync.Once
	typed  any
}

func (s *stored) meta() fields { return s.fields["metadata"].(fields) }

func (s *stored) text(name string) string {
	text, _ := s.meta()[name].(string)
	return text
}

// change is one event of a watch.
type change struct {
	version int
	event   string
	object  *stored
}

// store is what an API server does to objects: versions, generations, finalizers, preconditions, patches. It does not
// validate: that the controller writes what the real one takes is shown by the end-to-end tests.
type store struct {
	// salt makes the UIDs of one cluster others than those of another.
	salt string

	mu      sync.Mutex
	version int
	uids    int
	objects map[string]map[string]*stored // by resource, and then by namespace/name
	changes map[string][]change           // by resource
	// changed is closed at the next change.
	changed chan struct{}
	// written is told of every change, under the lock. Nil: the object was not there before, or is gone.
	written func(resource, key string, was, is *stored)
}

func newStore(salt string, written func(resource, key string, was, is *stored)) *store {
	s := &store{
		salt: salt, version: 100, objects: map[string]map[string]*stored{}, changes: map[string][]change{}, changed: make(chan struct{}),
		written: written,
	}
	for _, k := range kinds {
		s.objects[k.resource] = map[string]*stored{}
	}
	return s
}

func keyIn(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// next returns a channel that is closed at the next change.
func (s *store) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *store) get(k kind, key string) (*stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(k, key)
}

func (s *store) find(k kind, key string) (*stored, error) {
	if o := s.objects[k.resource][key]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(k.groupResource(), key)
}

// list returns all objects of a kind by name, and the version that this is.
func (s *store) list(k kind) ([]*stored, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.objects[k.resource]
	list := make([]*stored, 0, len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[key])
	}
	return list, s.version
}

// since returns the changes after a version.
func (s *store) since(k kind, version int) ([]change, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.changes[k.resource]
	i, _ := slices.BinarySearchFunc(all, version+1, func(c change, v int) int { return c.version - v })
	return slices.Clone(all[i:]), s.changed
}

func (s *store) create(k kind, key string, body []byte) (*stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var f fields
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if s.objects[k.resource][key] != nil {
		return nil, apierrors.NewAlreadyExists(k.groupResource(), key)
	}
	s.uids++
	m := f["metadata"].(fields)
	// As random as real ones: their first eight characters tell them apart.
	m["uid"] = fmt.Sprintf("%016x-%d", xxhash.Sum64String(fmt.Sprint(s.salt, s.uids)), s.uids)
	m["creationTimestamp"] = timestamp()
	m["generation"] = 1.0
	f["apiVersion"], f["kind"] = k.apiVersion(), k.name
	if k.custom {
		delete(f, "status")
	}
	return s.put(k, key, nil, f), nil
}

// update replaces an object, or with subresource status its status.
func (s *store) update(k kind, key, subresource string, body []byte) (*stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.find(k, key)
	if err != nil {
		return nil, err
	}
	return s.replace(k, key, subresource, old, body)
}

func (s *store) patch(k kind, key, subresource string, patchType types.PatchType, patch []byte) (*stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.find(k, key)
	if err != nil {
		return nil, err
	}
	var body []byte
	switch patchType {
	case types.JSONPatchType:
		var p jsonpatch.Patch
		if p, err = jsonpatch.DecodePatch(patch); err == nil {
			body, err = p.Apply(old.raw)
		}
		if err != nil { // also when a test fails
			return nil, apierrors.NewGenericServerResponse(422, "", schema.GroupResource{}, "", err.Error(), 0, false)
		}
	case types.MergePatchType:
		body, err = jsonpatch.MergePatch(old.raw, patch)
	case types.StrategicMergePatchType:
		body, err = strategicpatch.StrategicMergePatch(old.raw, patch, k.typed)
	default:
		return nil, apierrors.NewGenericServerResponse(415, "patch", k.groupResource(), key, string(patchType), 0, false)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return s.replace(k, key, subresource, old, body)
}

func (s *store) replace(k kind, key, subresource string, old *stored, body []byte) (*stored, error) {
	var f fields
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	m := f["metadata"].(fields)
	for _, name := range []string{"resourceVersion", "uid"} {
		if is, _ := m[name].(string); is != "" && is != old.text(name) {
			return nil, apierrors.NewConflict(k.groupResource(), key, nil)
		}
	}
	if subresource == "status" {
		if k.custom {
			status := f["status"]
			f = maps.Clone(old.fields)
			f["status"] = status
			m = maps.Clone(old.meta())
			f["metadata"] = m
		} else {
			keep(f, old.fields, "spec")
		}
	} else {
		keep(f, old.fields, "status")
	}
	for _, name := range []string{"uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion"} {
		keep(m, old.meta(), name)
	}
	delete(m, "managedFields")
	if m["deletionTimestamp"] != nil && len(slices.Compact(slices.Sorted(namesIn(m, old.meta())))) > len(slices.Collect(namesIn(old.meta()))) {
		return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", k.groupResource(), key,
			"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted", 0, false)
	}
	if k.resource == "services" {
		clearLoadBalancer(f, old.fields)
	}
	if !reflect.DeepEqual(f["spec"], old.fields["spec"]) {
		m["generation"] = m["generation"].(float64) + 1
	}
	f["apiVersion"], f["kind"] = k.apiVersion(), k.name
	if finalizers, _ := m["finalizers"].([]any); len(finalizers) == 0 && m["deletionTimestamp"] != nil {
		return s.remove(k, key, old, f), nil
	}
	return s.put(k, key, old, f), nil
}

// namesIn are the finalizers in some metadata.
func namesIn(all ...fields) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, m := range all {
			finalizers, _ := m["finalizers"].([]any)
			for _, f := range finalizers {
				if !yield(f.(string)) {
					return
				}
			}
		}
	}
}

// keep gives a field the value that it had.
func keep(f, old fields, name string) {
	if v, ok := old[name]; ok {
		f[name] = v
	} else {
		delete(f, name)
	}
}

// clearLoadBalancer is what the API server does when a Service becomes one of another type.
func clearLoadBalancer(f, old fields) {
	const lb = "LoadBalancer"
	spec, was := f["spec"].(fields), old["spec"].(fields)
	if was["type"] != lb || spec["type"] == lb {
		return
	}
	if status, ok := f["status"].(fields); ok {
		status = maps.Clone(status)
		status["loadBalancer"] = fields{}
		f["status"] = status
	}
	delete(spec, "loadBalancerClass")
}

// delete removes an object, or marks it as deleted while it has finalizers.
func (s *store) delete(k kind, key string, uid types.UID) (*stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.find(k, key)
	if err != nil {
		return nil, err
	}
	if uid != "" && old.text("uid") != string(uid) {
		return nil, apierrors.NewConflict(k.groupResource(), key, nil)
	}
	m, f := maps.Clone(old.meta()), maps.Clone(old.fields)
	f["metadata"] = m
	if finalizers, _ := m["finalizers"].([]any); len(finalizers) == 0 {
		return s.remove(k, key, old, f), nil
	}
	if m["deletionTimestamp"] == nil {
		m["deletionTimestamp"] = timestamp()
		m["generation"] = m["generation"].(float64) + 1
	}
	return s.put(k, key, old, f), nil
}

// put stores a version, unless it is what is stored already.
func (s *store) put(k kind, key string, old *stored, f fields) *stored {
	if old != nil && reflect.DeepEqual(old.fields, f) {
		return old
	}
	event := "ADDED"
	if old != nil {
		event = "MODIFIED"
	}
	o := s.note(k, event, f)
	s.objects[k.resource][key] = o
	s.written(k.resource, key, old, o)
	return o
}

func (s *store) remove(k kind, key string, old *stored, f fields) *stored {
	o := s.note(k, "DELETED", f)
	delete(s.objects[k.resource], key)
	s.written(k.resource, key, old, nil)
	return o
}

func (s *store) note(k kind, event string, f fields) *stored {
	s.version++
	f["metadata"].(fields)["resourceVersion"] = strconv.Itoa(s.version)
	raw, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	o := &stored{fields: f, raw: raw}
	s.changes[k.resource] = append(s.changes[k.resource], change{s.version, event, o})
	close(s.changed)
	s.changed = make(chan struct{})
	return o
}

// collectGarbage deletes NodeAddresses whose Node is gone, or is another one of that name.
func (s *store) collectGarbage() {
	nodes, _ := kindOf("nodes")
	objects, _ := kindOf("nodeaddresses")
	list, _ := s.list(objects)
	for _, o := range list {
		owners, _ := o.meta()["ownerReferences"].([]any)
		if len(owners) == 0 || o.text("deletionTimestamp") != "" {
			continue
		}
		owner := owners[0].(fields)
		node, err := s.get(nodes, owner["name"].(string))
		if err != nil || node.text("uid") != owner["uid"] {
			_, _ = s.delete(objects, o.text("name"), types.UID(o.text("uid"))) // else it is gone already
		}
	}
}

func timestamp() string { return metav1.Now().UTC().Format(time.RFC3339) }

// as returns an object as what it is. Nobody changes what it returns.
func as[T any](o *stored) *T {
	o.decode.Do(func() {
		v := new(T)
		if err := json.Unmarshal(o.raw, v); err != nil {
			panic(err)
		}
		o.typed = v
	})
	return o.typed.(*T)
}
