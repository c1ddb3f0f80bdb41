package hetznertest

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// request is a call on its way through the stand-in.
type request struct {
	Call
	project     *project
	readOnly    bool
	operation   *operation
	query       url.Values
	contentType string
	body        []byte
	fault       Fault
	record      *Record
	// hidden from hooks: it was refused before it was judged.
	hidden bool
}

// answer to a request; body nil: none.
type answer struct {
	status int
	header http.Header
	body   any
	code   Code
}

func (f *failure) answer() answer {
	return answer{status: f.code.Status(), header: http.Header{}, body: f.body(), code: f.code}
}

// serve a request; cut: the caller is to get no answer.
func (s *Server) serve(in *http.Request, body []byte, caller string) (r *request, out answer, cut bool) {
	r, refused := s.arrive(in, body, caller)
	if refused != nil {
		r.hidden = true
		return r, s.answered(r, *refused), false
	}
	if !s.wait(r.fault.Delay) || s.show(BeforeEffect, r.Call) {
		return r, answer{}, s.cut(r)
	}
	if r.fault.fails() && !r.fault.AfterEffect {
		if r.fault.Late > 0 && s.begin() {
			go s.late(r)
		}
		return s.failed(r)
	}
	out = s.execute(r)
	cut = s.show(AfterEffect, r.Call)
	if !s.wait(r.fault.DelayAnswer) || cut {
		return r, answer{}, s.cut(r)
	}
	if r.fault.fails() && out.code == "" {
		return s.failed(r)
	}
	return r, s.answered(r, out), false
}

// arrive recognises a request, or refuses it.
func (s *Server) arrive(in *http.Request, body []byte, caller string) (*request, *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	s.settle(now)
	operation, ids, known := find(in.Method, in.URL.Path)
	r := &request{
		Call: Call{
			Seq: s.lastSeq + 1, Time: now, Caller: caller, Class: classOf(in.Method), IDs: ids,
			Query: in.URL.RawQuery, Body: string(body),
		},
		operation: operation, contentType: in.Header.Get("Content-Type"), body: body,
	}
	s.lastSeq++
	if operation != nil {
		r.Operation = operation.name
	}
	r.record = &Record{Call: r.Call}
	s.log = append(s.log, r.record)

	secret, bearer := strings.CutPrefix(in.Header.Get("Authorization"), "Bearer ")
	t := s.tokens[secret]
	if !bearer || t == nil {
		refused := refuse(Unauthorized, "unable to authenticate").answer()
		return r, &refused
	}
	r.project, r.readOnly, r.Project = t.project, t.readOnly, t.project.name
	r.record.Project = r.Project

	header := http.Header{}
	failed := s.recognise(r, in, known, header)
	if failed != nil {
		refused := failed.answer()
		refused.header = header
		return r, &refused
	}
	r.record.Call = r.Call
	r.fault = s.faultFor(&r.Call)
	return r, nil
}

// recognise what a known caller wants, and takes a call off the project's budget.
func (s *Server) recognise(r *request, in *http.Request, known bool, header http.Header) *failure {
	b := &r.project.budget
	if !b.take(r.Time) {
		if s.options.ResetIsNext {
			b.headerNext(header)
		} else {
			b.header(header)
		}
		return refuse(RateLimitExceeded, "limit of %d requests per hour reached", int(b.limit))
	}
	b.header(header)
	r.record.Remaining = b.calls()
	if r.operation == nil {
		if known {
			return refuse(MethodNotAllowed, "the method is not allowed for this path")
		}
		return refuse(NotFound, "the path does not exist")
	}
	query, err := url.ParseQuery(in.URL.RawQuery)
	if err != nil {
		return invalid("query", "%v", err)
	}
	r.query = query
	if r.operation.listsActions {
		r.IDs = append(r.IDs, idsIn(query["id"])...)
	}
	return nil
}

// execute what is asked for, at once.
func (s *Server) execute(r *request) answer {
	s.mu.Lock()
	s.settle(s.clock.Now())
	body, failed := r.operation.run(s, r)
	r.record.Effect = failed == nil && r.Class == Write
	s.mu.Unlock()
	s.tellRoutes()
	if failed != nil {
		return failed.answer()
	}
	return answer{status: r.operation.status, header: http.Header{}, body: body}
}

// late executes what its caller was told had gone wrong.
func (s *Server) late(r *request) {
	defer s.requests.Done()
	if s.wait(r.fault.Late) {
		s.execute(r)
	}
}

// failed is how a call ends of which the fault says so.
func (s *Server) failed(r *request) (*request, answer, bool) {
	if r.fault.Cut {
		return r, answer{}, s.cut(r)
	}
	return r, s.answered(r, refuse(r.fault.Fail, "the stand-in was told to fail here").answer()), false
}

// cut a call off, always true.
func (s *Server) cut(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.record.Cut = true
	return true
}

// answered completes an answer and writes it to the log.
func (s *Server) answered(r *request, out answer) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if r.project != nil && out.header.Get("RateLimit-Limit") == "" {
		b := &r.project.budget
		b.refill(now)
		b.header(out.header)
		if out.code == RateLimitExceeded {
			// A fault: nothing was used up, so the promise is a short one.
			b.tell(out.header, 0, 1)
		}
	}
	if out.body != nil {
		out.header.Set("Content-Type", "application/json")
	}
	if seconds, err := strconv.ParseInt(out.header.Get("RateLimit-Reset"), 10, 64); err == nil {
		r.record.Reset = time.Unix(seconds, 0)
	}
	r.record.Answered, r.record.Status, r.record.Code = now, out.status, out.code
	return out
}

func classOf(method string) Class {
	if method == http.MethodGet || method == http.MethodHead {
		return Read
	}
	return Write
}
