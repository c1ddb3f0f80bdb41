package cloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// call is one request to the simulated API server.
type call struct {
	verb, subresource string
	kind              kind
	namespace, name   string
	body              []byte
	request           *http.Request
}

// String names the call as crash points do: "patch nodeaddresses n1", "update services/status default/web".
func (c *call) String() string {
	text := c.verb + " " + c.kind.resource
	if c.subresource != "" {
		text += "/" + c.subresource
	}
	if c.name != "" {
		text += " " + c.key()
	}
	return text
}

func (c *call) key() string { return keyIn(c.namespace, c.name) }

// parse reads what a client asks for.
func parse(r *http.Request) (*call, error) {
	c := &call{request: r}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		c.body = body
		_ = r.Body.Close()
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if parts[0] == "apis" {
		parts = parts[1:]
	}
	parts = parts[2:] // without group and version
	if len(parts) > 2 && parts[0] == "namespaces" {
		c.namespace, parts = parts[1], parts[2:]
	}
	parts = append(parts, "", "")
	c.name, c.subresource = parts[1], parts[2]
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodGet && query.Get("watch") != "":
		c.verb = "watch"
	case r.Method == http.MethodGet && c.name == "":
		c.verb = "list"
	default:
		c.verb = map[string]string{
			http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
		}[r.Method]
	}
	if c.verb == "create" {
		var o metav1.PartialObjectMetadata
		if err := json.Unmarshal(c.body, &o); err != nil {
			return nil, err
		}
		c.name = o.Name
	}
	c.kind = kind{resource: parts[0]}
	if k, ok := kindOf(parts[0]); ok {
		c.kind = k
	} else if parts[0] != "events" {
		return nil, fmt.Errorf("the simulated API server has no %s: %s", parts[0], r.URL)
	}
	if query.Get("fieldSelector") != "" || query.Get("labelSelector") != "" {
		return nil, fmt.Errorf("the simulated API server has no selectors: %s", r.URL)
	}
	return c, nil
}

// serve does what a call asks for, but for watch.
func (s *store) serve(c *call) *http.Response {
	var o *stored
	var err error
	switch {
	case c.kind.resource == "events":
		return respond(http.StatusCreated, c.body)
	case c.verb == "list":
		return respond(http.StatusOK, s.listBody(c.kind))
	case c.verb == "get":
		o, err = s.get(c.kind, c.key())
	case c.verb == "create":
		o, err = s.create(c.kind, c.key(), c.body)
	case c.verb == "update":
		o, err = s.update(c.kind, c.key(), c.subresource, c.body)
	case c.verb == "patch":
		contentType, _, _ := strings.Cut(c.request.Header.Get("Content-Type"), ";")
		o, err = s.patch(c.kind, c.key(), c.subresource, types.PatchType(contentType), c.body)
	case c.verb == "delete":
		var options metav1.DeleteOptions
		_ = json.Unmarshal(c.body, &options) // none is fine
		var uid types.UID
		if options.Preconditions != nil && options.Preconditions.UID != nil {
			uid = *options.Preconditions.UID
		}
		o, err = s.delete(c.kind, c.key(), uid)
	}
	if err != nil {
		return refuse(err)
	}
	return respond(http.StatusOK, o.raw)
}

func (s *store) listBody(k kind) []byte {
	list, version := s.list(k)
	items := make([]json.RawMessage, 0, len(list))
	for _, o := range list {
		items = append(items, o.raw)
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": k.apiVersion(), "kind": k.name + "List",
		"metadata": fields{"resourceVersion": strconv.Itoa(version)}, "items": items,
	})
	if err != nil {
		panic(err)
	}
	return body
}

func respond(code int, body []byte) *http.Response {
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func refuse(err error) *http.Response {
	status := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
	if known := apierrors.APIStatus(nil); errors.As(err, &known) {
		status = known.Status()
	}
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	body, err := json.Marshal(status)
	if err != nil {
		panic(err)
	}
	return respond(int(status.Code), body)
}

// watchBody is the reader's end of a watch.
type watchBody struct {
	*io.PipeReader
	closed func()
}

func (b *watchBody) Close() error {
	b.closed()
	return b.PipeReader.Close()
}

// watch streams changes to a process, each after its latency.
func (p *process) watch(c *call) *http.Response {
	query := c.request.URL.Query()
	timeout, err := strconv.Atoi(query.Get("timeoutSeconds"))
	if err != nil {
		timeout = 600
	}
	reader, writer := io.Pipe()
	closed := make(chan struct{})
	response := respond(http.StatusOK, nil)
	response.ContentLength = -1
	response.Body = &watchBody{reader, func() {
		select {
		case <-closed:
		default:
			close(closed)
		}
	}}
	version, _ := strconv.Atoi(query.Get("resourceVersion"))
	// A dead process reads no more.
	cut := context.AfterFunc(p.ctx, func() { _ = reader.CloseWithError(errDead) })
	go func() {
		defer cut()
		end := time.NewTimer(time.Duration(timeout) * time.Second)
		defer end.Stop()
		out := json.NewEncoder(writer)
		if query.Get("sendInitialEvents") == "true" {
			version, err = p.world.api.initialEvents(c.kind, out)
		}
		for err == nil {
			changes, more := p.world.api.since(c.kind, version)
			if len(changes) > 0 && !p.world.wait(p.ctx, p.world.latency(fmt.Sprint("event", p.number, changes[0].version), maxEventLatency)) {
				break
			}
			for _, change := range changes {
				version = change.version
				err = errors.Join(err, sendEvent(out, change.event, change.object.raw))
			}
			if len(changes) > 0 {
				continue
			}
			select {
			case <-more:
				continue
			case <-end.C:
			case <-closed:
			case <-p.ctx.Done():
			case <-c.request.Context().Done():
			}
			break
		}
		_ = writer.CloseWithError(io.EOF)
	}()
	return response
}

func sendEvent(out *json.Encoder, event string, object json.RawMessage) error {
	return out.Encode(map[string]any{"type": event, "object": object})
}

// initialEvents sends all objects and then the bookmark that says so.
func (s *store) initialEvents(k kind, out *json.Encoder) (int, error) {
	list, version := s.list(k)
	var err error
	for _, o := range list {
		err = errors.Join(err, sendEvent(out, "ADDED", o.raw))
	}
	bookmark := fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d","annotations":{%q:"true"}}}`,
		k.apiVersion(), k.name, version, metav1.InitialEventsAnnotationKey)
	return version, errors.Join(err, sendEvent(out, "BOOKMARK", bookmark))
}

// fail answers a call as an API server in trouble does: refused, or lost before or after the effect. Ok: it did.
func (p *process) fail(c *call, point string) (response *http.Response, ok bool, err error) {
	if slices.Contains([]string{"watch", "list"}, c.verb) {
		return nil, false, nil
	}
	switch p.world.draw("fault"+point) % 30 {
	case 0:
		return refuse(apierrors.NewServiceUnavailable("simulated")), true, nil
	case 1:
		return nil, true, io.ErrUnexpectedEOF
	case 2:
		p.world.api.serve(c)
		return nil, true, io.ErrUnexpectedEOF
	}
	return nil, false, nil
}
