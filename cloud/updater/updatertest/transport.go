package updatertest

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// ErrCut is what a caller over Transport gets when the connection is cut.
var ErrCut = errors.New("updatertest: the connection was cut")

// Transport answers requests without a network, whatever host they are for. A request whose context ends is given up by
// its caller alone: here it goes on.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ server *Server }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(in *http.Request) (*http.Response, error) {
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
	replies := make(chan reply, 1)
	t.server.late.Go(func() { replies <- t.server.serve(ctx, in.Method, in.Header, body) })
	var out reply
	select {
	case out = <-replies:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case out.cut && out.body == "":
		return nil, ErrCut
	}
	var answer io.Reader = strings.NewReader(out.body)
	if out.cut {
		answer = io.MultiReader(answer, broken{})
	}
	header := http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
	if out.location != "" {
		header.Set("Location", out.location)
	}
	return &http.Response{
		Status:     strconv.Itoa(out.status) + " " + http.StatusText(out.status),
		StatusCode: out.status,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     header,
		Body:       io.NopCloser(answer),
		Request:    in,
	}, nil
}

// Wait returns when every call over Transport has had its effect.
func (s *Server) Wait() { s.late.Wait() }

// broken is the end of an answer that was cut.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
