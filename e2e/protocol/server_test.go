package protocol

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/nodeaddresses"
)

// kind of object that the API server has.
type kind int

const (
	services kind = iota
	nodes
	addresses
	kinds
)

var resources = [kinds]schema.GroupResource{
	{Resource: "services"}, {Resource: "nodes"}, {Group: "mooring.dev", Resource: "nodeaddresses"},
}

// server is the API server: objects that are never changed but replaced, versions, and who watches. Its methods take no
// time; a client makes them calls that do.
type server struct {
	w       *world
	version int
	uids    int
	objects [kinds]map[string]object
	watches []*watch
	// epoch and leader are Leases, with their versions.
	epoch, epochVersion int64
	leader              leaderRecord
}

// object is one version of an object.
type object struct {
	version int
	value   any // *corev1.Service, *lb.Node, *v1alpha1.NodeAddresses
}

// leaderRecord is the Lease of leader election.
type leaderRecord struct {
	holder  string
	version int
}

func newServer(w *world) *server {
	s := &server{w: w}
	for k := range s.objects {
		s.objects[k] = map[string]object{}
	}
	return s
}

func (s *server) uid() string {
	s.uids++
	return "uid-" + strconv.Itoa(s.uids)
}

// put stores a version of an object, or with nil removes it, and tells those who watch.
func (s *server) put(k kind, name string, value any) {
	s.version++
	o := object{s.version, value}
	if value == nil {
		delete(s.objects[k], name)
	} else {
		s.objects[k][name] = o
	}
	for _, watch := range s.watches {
		if watch.kind == k && (watch.only == "" || watch.only == name) {
			watch.tell(name, o)
		}
	}
}

func (s *server) names(k kind) []string { return slices.Sorted(maps.Keys(s.objects[k])) }

func (s *server) service(name string) *corev1.Service {
	svc, _ := s.objects[services][name].value.(*corev1.Service)
	return svc
}

func (s *server) node(name string) *lb.Node {
	n, _ := s.objects[nodes][name].value.(*lb.Node)
	return n
}

func (s *server) addresses(name string) *v1alpha1.NodeAddresses {
	o, _ := s.objects[addresses][name].value.(*v1alpha1.NodeAddresses)
	return o
}

func notFound(k kind, name string) error { return apierrors.NewNotFound(resources[k], name) }

func conflict(k kind, name string) error {
	return apierrors.NewConflict(resources[k], name, errors.New("the object has been modified"))
}

// putService stores a version of a Service; one that is being deleted and has no finalizer is gone.
func (s *server) putService(svc *corev1.Service) {
	name := svc.Namespace + "/" + svc.Name
	if svc.DeletionTimestamp != nil && len(svc.Finalizers) == 0 {
		s.put(services, name, nil)
		return
	}
	svc.ResourceVersion = strconv.Itoa(s.version + 1)
	s.put(services, name, svc)
}

func (s *server) updateStatus(svc *corev1.Service) error {
	name := svc.Namespace + "/" + svc.Name
	is := s.service(name)
	switch {
	case is == nil:
		return notFound(services, name)
	case is.ResourceVersion != svc.ResourceVersion:
		return conflict(services, name)
	}
	is = is.DeepCopy()
	svc.Status.DeepCopyInto(&is.Status)
	s.w.check.published(s.service(name), is)
	s.putService(is)
	return nil
}

// putAddresses stores a version of a NodeAddresses; one that is being deleted and has no finalizer is gone.
func (s *server) putAddresses(o *v1alpha1.NodeAddresses) {
	if o.DeletionTimestamp != nil && len(o.Finalizers) == 0 {
		s.w.log("api: nodeaddresses %s is gone", o.Name)
		s.put(addresses, o.Name, nil)
		s.w.check.written(o.Name, nil, 0)
		return
	}
	o.ResourceVersion = strconv.Itoa(s.version + 1)
	s.put(addresses, o.Name, o)
}

func (s *server) create(o *v1alpha1.NodeAddresses, term int64) (*v1alpha1.NodeAddresses, error) {
	if s.addresses(o.Name) != nil {
		return nil, apierrors.NewAlreadyExists(resources[addresses], o.Name)
	}
	c := *o
	c.UID, c.Generation = types.UID(s.uid()), 1
	s.putAddresses(&c)
	s.logSpec(&c)
	s.w.check.written(c.Name, &c, term)
	return &c, nil
}

func (s *server) write(name string, expected ledger.Object, epoch int64, spec v1alpha1.NodeAddressesSpec, term int64) (*v1alpha1.NodeAddresses, error) {
	is := s.addresses(name)
	switch {
	case is == nil:
		return nil, notFound(addresses, name)
	case string(is.UID) != expected.UID || is.Generation != expected.Generation || nodeaddresses.EpochOf(is) != epoch:
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "NodeAddresses"}, name, nil)
	}
	c := *is
	c.Spec = spec
	c.Generation++
	s.putAddresses(&c)
	s.logSpec(&c)
	s.w.check.written(name, &c, term)
	return &c, nil
}

func (s *server) fence(name string, uid types.UID, version string, epoch int64) error {
	is := s.addresses(name)
	switch {
	case is == nil:
		return notFound(addresses, name)
	case is.UID != uid || is.ResourceVersion != version:
		return conflict(addresses, name)
	}
	c := *is
	c.Annotations = map[string]string{v1alpha1.AnnotationEpoch: strconv.FormatInt(epoch, 10)}
	s.putAddresses(&c)
	return nil
}

func (s *server) logSpec(o *v1alpha1.NodeAddresses) {
	if s.w.trace == nil {
		return
	}
	text := ""
	for _, a := range o.Spec.Addresses {
		text += fmt.Sprintf(" %s:%s(term %d, after %q)", a.Address, a.State, a.Term, a.Predecessor)
	}
	s.w.log("api: spec of %s, %s generation %d:%s", o.Name, o.UID, o.Generation, text)
}

func (s *server) remove(name string, uid types.UID) error {
	is := s.addresses(name)
	switch {
	case is == nil:
		return notFound(addresses, name)
	case is.UID != uid:
		return conflict(addresses, name)
	case is.DeletionTimestamp != nil:
		return nil
	}
	c := *is
	c.DeletionTimestamp = &metav1.Time{Time: s.w.time()}
	c.Generation++ // as the API server does when it sets the timestamp
	s.putAddresses(&c)
	return nil
}

func (s *server) unfinalize(name string, uid types.UID) error {
	is := s.addresses(name)
	switch {
	case is == nil:
		return notFound(addresses, name)
	case is.UID != uid:
		return conflict(addresses, name)
	}
	c := *is
	c.Finalizers = nil
	s.putAddresses(&c)
	return nil
}

// report replaces a status, as the agent's patch does, which names the UID.
func (s *server) report(name string, status v1alpha1.NodeAddressesStatus) (*v1alpha1.NodeAddresses, error) {
	is := s.addresses(name)
	switch {
	case is == nil:
		return nil, notFound(addresses, name)
	case is.UID != status.ObjectUID:
		return nil, conflict(addresses, name)
	}
	c := *is
	c.Status = status
	s.putAddresses(&c)
	return &c, nil
}
