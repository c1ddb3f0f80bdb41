package agent

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

// apiServer stands in for the API server: lists, watches and status patches of NodeAddresses, over HTTP. What the real
// one does beyond that is for the end-to-end tests.
type apiServer struct {
	t      testing.TB
	server *httptest.Server

	mu       sync.Mutex
	changed  *sync.Cond
	version  int
	objects  map[string]*v1alpha1.NodeAddresses
	log      []change
	patches  int
	gets     int
	down     int           // HTTP status with which everything is refused; 0: it works
	held     chan struct{} // patches wait until it is closed; nil: they do not
	watchers map[*http.Request]bool
}

type change struct {
	version int
	kind    string
	object  *v1alpha1.NodeAddresses
}

func newAPIServer(t testing.TB) *apiServer {
	s := &apiServer{t: t, objects: map[string]*v1alpha1.NodeAddresses{}, version: 100, watchers: map[*http.Request]bool{}}
	s.changed = sync.NewCond(&s.mu)
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.refuse(http.StatusServiceUnavailable)
		s.server.CloseClientConnections()
		s.server.Close()
	})
	return s
}

func (s *apiServer) client() *v1alpha1.Client {
	client, err := v1alpha1.NewClient(&rest.Config{Host: s.server.URL, QPS: 1000, Burst: 1000})
	require.NoError(s.t, err)
	return client
}

// put creates or replaces the object's spec, as the controller does.
func (s *apiServer) put(name string, uid types.UID, addresses ...v1alpha1.Address) (generation int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.objects[name]
	object := &v1alpha1.NodeAddresses{
		TypeMeta:   metav1.TypeMeta{APIVersion: "mooring.dev/v1alpha1", Kind: "NodeAddresses"},
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid, Generation: 1},
	}
	kind := "ADDED"
	if old != nil && old.UID == uid {
		object, kind = old.DeepCopy(), "MODIFIED"
		object.Generation++
	}
	object.Spec.Addresses = addresses
	s.store(kind, object)
	return object.Generation
}

func (s *apiServer) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store("DELETED", s.objects[name].DeepCopy())
	delete(s.objects, name)
}

// store needs the lock.
func (s *apiServer) store(kind string, object *v1alpha1.NodeAddresses) {
	s.version++
	object.ResourceVersion = strconv.Itoa(s.version)
	s.objects[object.Name] = object
	s.log = append(s.log, change{s.version, kind, object})
	s.changed.Broadcast()
}

// refuse answers everything with an HTTP status from now on, and ends what is open; 0 ends that.
func (s *apiServer) refuse(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = status
	s.changed.Broadcast()
}

// holdPatches lets every patch wait until release is called.
func (s *apiServer) holdPatches() (release func()) {
	held := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
	release = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = nil
		close(held)
	})
	s.t.Cleanup(release)
	return release
}

func (s *apiServer) status(name string) v1alpha1.NodeAddressesStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[name] == nil {
		return v1alpha1.NodeAddressesStatus{}
	}
	return *s.objects[name].Status.DeepCopy()
}

func (s *apiServer) patchCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.patches
}

func (s *apiServer) getCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets
}

func (s *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	s.mu.Lock()
	down, held := s.down, s.held
	s.mu.Unlock()
	if held != nil && r.Method == http.MethodPatch {
		<-held
	}
	switch {
	case down != 0:
		s.fail(w, down)
	case r.Method == http.MethodPatch:
		s.patch(w, r)
	case r.URL.Query().Get("watch") != "" && r.URL.Query().Get("sendInitialEvents") == "true":
		s.fail(w, http.StatusUnprocessableEntity) // an API server without streaming lists
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r)
	case strings.HasSuffix(r.URL.Path, "/nodeaddresses"):
		s.list(w, r)
	default:
		s.get(w, r)
	}
}

func (s *apiServer) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	object := s.objects[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
	if object == nil {
		s.fail(w, http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(object)
}

func (s *apiServer) fail(w http.ResponseWriter, code int) {
	reason := map[int]metav1.StatusReason{409: metav1.StatusReasonConflict, 422: metav1.StatusReasonInvalid, 403: metav1.StatusReasonForbidden,
		401: metav1.StatusReasonUnauthorized, 404: metav1.StatusReasonNotFound}[code]
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: http.StatusText(code)})
}

func selected(r *http.Request, name string) bool {
	return r.URL.Query().Get("fieldSelector") == "metadata.name="+name
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := v1alpha1.NodeAddressesList{TypeMeta: metav1.TypeMeta{APIVersion: "mooring.dev/v1alpha1", Kind: "NodeAddressesList"},
		ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}}
	for object := range maps.Values(s.objects) {
		if !selected(r, object.Name) {
			continue
		}
		if r.URL.Query().Get("resourceVersion") == "0" { // any version will do: a cache that lags
			first := s.log[slices.IndexFunc(s.log, func(c change) bool { return c.object.Name == object.Name })]
			object, list.ResourceVersion = first.object, strconv.Itoa(first.version)
		}
		list.Items = append(list.Items, *object)
	}
	_ = json.NewEncoder(w).Encode(list)
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	w.WriteHeader(http.StatusOK)
	flusher := w.(http.Flusher)
	flusher.Flush()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-r.Context().Done():
			s.changed.Broadcast()
		case <-stop:
		}
	}()
	encoder := json.NewEncoder(w)
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.down == 0 && r.Context().Err() == nil {
		for _, c := range s.log {
			if c.version > from && selected(r, c.object.Name) {
				from = c.version
				if encoder.Encode(map[string]any{"type": c.kind, "object": c.object}) != nil {
					return
				}
			}
		}
		flusher.Flush()
		s.changed.Wait()
	}
}

func (s *apiServer) patch(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patches++
	old := s.objects[parts[len(parts)-2]]
	if parts[len(parts)-1] != "status" || r.Header.Get("Content-Type") != string(types.MergePatchType) {
		s.fail(w, http.StatusBadRequest)
		return
	}
	if old == nil {
		s.fail(w, http.StatusNotFound)
		return
	}
	before, _ := json.Marshal(old)
	after, err := jsonpatch.MergePatch(before, body)
	var object v1alpha1.NodeAddresses
	if err != nil || json.Unmarshal(after, &object) != nil {
		s.fail(w, http.StatusBadRequest)
		return
	}
	if object.UID != old.UID {
		s.fail(w, http.StatusConflict)
		return
	}
	object.Spec = old.Spec
	object.Generation = old.Generation
	s.store("MODIFIED", &object)
	_ = json.NewEncoder(w).Encode(object)
}
