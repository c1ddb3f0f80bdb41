package hetznertest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
)

// ErrCut is what a caller over Transport gets when the connection is cut.
var ErrCut = errors.New("hetznertest: the connection was cut")

// maxBody is more than any request of the API needs, in bytes.
const maxBody = 1 << 20

// Transport answers requests without a network, whatever host they are for. A request whose context ends is given up by
// its caller alone: on our side it goes on.
func (s *Server) Transport() http.RoundTripper { return s.TransportAs("") }

// TransportAs is Transport for a caller whose name is known to the log, hooks and rules.
func (s *Server) TransportAs(caller string) http.RoundTripper { return &transport{s, caller} }

type transport struct {
	server *Server
	caller string
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(in *http.Request) (*http.Response, error) {
	var body []byte
	if in.Body != nil {
		var err error
		body, err = io.ReadAll(in.Body)
		in.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	ctx := in.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !t.server.begin() {
		return nil, ErrCut
	}
	type result struct {
		request *request
		answer  answer
		cut     bool
	}
	results := make(chan result, 1)
	sent := in.Clone(ctx)
	go func() {
		defer t.server.requests.Done()
		r, out, cut := t.server.serve(sent, body, t.caller)
		results <- result{r, out, cut}
	}()
	var got result
	select {
	case got = <-results:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case got.cut:
		return nil, ErrCut
	}
	text, err := got.answer.encode()
	if err != nil {
		return nil, err
	}
	read := func() { t.server.answerRead(got.request) }
	return &http.Response{
		Status:        strconv.Itoa(got.answer.status) + " " + http.StatusText(got.answer.status),
		StatusCode:    got.answer.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        got.answer.header,
		Body:          &watchedBody{Reader: bytes.NewReader(text), read: sync.OnceFunc(read)},
		ContentLength: int64(len(text)),
		Request:       in,
	}, nil
}

// watchedBody tells when it has been read or closed.
type watchedBody struct {
	io.Reader
	read func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		b.read()
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.read()
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	if !s.begin() {
		abort()
	}
	defer s.requests.Done()
	body, err := io.ReadAll(http.MaxBytesReader(w, in.Body, maxBody))
	if err != nil {
		abort()
	}
	r, out, cut := s.serve(in, body, in.UserAgent())
	if cut {
		abort()
	}
	text, err := out.encode()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	maps.Copy(w.Header(), out.header)
	w.WriteHeader(out.status)
	if _, err := w.Write(text); err != nil {
		return
	}
	if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return
	}
	s.answerRead(r)
}

// answerRead shows the hooks that a caller has its answer.
func (s *Server) answerRead(r *request) {
	if !r.hidden {
		s.show(AfterAnswer, r.Call)
	}
}

// abort closes the connection without an answer.
func abort() {
	panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way of cutting a connection
}

func (a *answer) encode() ([]byte, error) {
	if a.body == nil {
		return nil, nil
	}
	return json.Marshal(a.body)
}
