// Package updatertest is an updater for tests: it speaks the protocol of nginx-lb-updater with the habits of the real one,
// and it can fail in every way that a caller has to survive.
//
// A POST truncates a file and writes it, one at a time; names and hosts go into it unescaped; the answer is text/plain
// whatever it is; a DELETE has a body, and an unknown name is fine; there is no list. A loop beside it notices that a file
// has changed, asks nginx -t, and reloads; what changes meanwhile it does not notice. It knows nothing of the client that
// it tests.
package updatertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Options of a Server.
type Options struct {
	// Dir that the files are written into; empty: memory.
	Dir string
	// Listen is the IPv4 address that the load balancer listens on; empty: all.
	Listen string
	// Token that a caller has to bring; empty: none.
	Token string
	// ProxyTimeout and ConnectTimeout are for backends that bring none, in seconds; 0: 5 and 2.
	ProxyTimeout, ConnectTimeout int
	// Test and Reload are nginx -t and nginx -s reload, such as those of Nginx; nil: Check, and nothing.
	Test, Reload func(context.Context) error
	// WriteTime is how long a file is empty while it is written, TestTime how long nginx -t takes, after which a reload reads
	// the files, and ReloadTime how long that takes.
	WriteTime, TestTime, ReloadTime time.Duration
	// Whole files only: one is replaced in one step and never empty, as the real one's are for a moment. A reload in that
	// moment closes the port until the next one, which no caller can prevent: for those who count connections.
	Whole bool
	// Clock; nil: the real one.
	Clock clock.Clock
}

// Request is the body of a POST or a DELETE. Unknown fields are ignored, as the real one does.
type Request struct {
	BackendName                string   `json:"backendName"`
	LBPort                     int      `json:"lbPort"`
	LBProtocol                 string   `json:"lbProtocol"`
	UpstreamServers            []Target `json:"upstreamServers"`
	ProxyTimeoutSeconds        int      `json:"proxyTimeoutSeconds"`
	ProxyConnectTimeoutSeconds int      `json:"proxyConnectTimeoutSeconds"`
}

// Target is one server behind a port.
type Target struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// Call is a request that has arrived, in the order of arrival.
type Call struct {
	At     time.Time
	Method string
	Header http.Header
	// Body as it came, and what it says; Bad when it says nothing.
	Body    string
	Request Request
	Bad     error
}

// Server is the updater. It is an http.Handler for the whole of its URL.
type Server struct {
	options Options
	files   files
	// noticed holds at most one change that the loop has not looked at.
	noticed chan struct{}
	// late are calls whose effect comes after their caller has gone.
	late sync.WaitGroup

	// writing holds something while a file is written: one at a time. A mutex would stop the time of a synctest bubble.
	writing chan struct{}

	mu       sync.Mutex
	calls    []Call
	fault    func(Call) Fault
	served   map[string]string
	reloads  int
	refusals []error
}

// New returns an updater without files. Run is its reload loop.
func New(o Options) *Server {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	o.ProxyTimeout, o.ConnectTimeout = orElse(o.ProxyTimeout, 5), orElse(o.ConnectTimeout, 2)
	s := &Server{options: o, noticed: make(chan struct{}, 1), writing: make(chan struct{}, 1), served: map[string]string{}}
	if o.Dir == "" {
		s.files = &memory{content: map[string]string{}}
	} else {
		s.files = directory(o.Dir)
	}
	return s
}

func orElse(value, otherwise int) int {
	if value <= 0 {
		return otherwise
	}
	return value
}

// Calls that have arrived so far.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Count of calls that have arrived so far, by method.
func (s *Server) Count() (posts, deletes int) {
	for _, c := range s.Calls() {
		if c.Method == http.MethodPost {
			posts++
		} else {
			deletes++
		}
	}
	return posts, deletes
}

// Files by backend name, as they are now.
func (s *Server) Files() (map[string]string, error) { return s.files.read() }

// Put a file there that came from elsewhere.
func (s *Server) Put(name, content string) error {
	defer s.notice()
	return s.files.write(name, content)
}

// LoseFiles removes every file: the load balancer was installed anew.
func (s *Server) LoseFiles() error {
	all, err := s.files.read()
	for name := range all {
		err = errors.Join(err, s.files.remove(name))
	}
	s.notice()
	return err
}

// serve a request, and return what is answered.
func (s *Server) serve(ctx context.Context, method string, header http.Header, body []byte) reply {
	c := Call{At: s.options.Clock.Now(), Method: method, Header: header.Clone(), Body: string(body)}
	c.Bad = json.NewDecoder(strings.NewReader(c.Body)).Decode(&c.Request)
	s.mu.Lock()
	s.calls = append(s.calls, c)
	var f Fault
	if s.fault != nil {
		f = s.fault(c)
	}
	s.mu.Unlock()
	if f.Delay > 0 {
		<-s.options.Clock.After(f.Delay)
	}
	if f.Hang {
		<-ctx.Done()
		return reply{cut: true}
	}
	out := reply{status: http.StatusOK, body: "{}\n"}
	if !f.NoEffect {
		out = s.act(c)
	}
	return f.answer(out)
}

// reply is what is answered; cut: the connection is closed instead, or with half of the body after it.
type reply struct {
	status   int
	body     string
	location string
	cut      bool
}

func refused(status int, format string, args ...any) reply {
	text, err := json.Marshal(map[string]string{"err": fmt.Sprintf(format, args...)})
	if err != nil {
		text = []byte("{}")
	}
	return reply{status: status, body: string(text) + "\n"}
}

// act does what a call asks for.
func (s *Server) act(c Call) reply {
	if s.options.Token != "" && c.Header.Get("Authorization") != "Bearer "+s.options.Token {
		return refused(http.StatusUnauthorized, "who are you?")
	}
	if c.Method != http.MethodPost && c.Method != http.MethodDelete {
		return refused(http.StatusMethodNotAllowed, "method %s", c.Method)
	}
	if c.Bad != nil {
		return refused(http.StatusBadRequest, "decode request: %v", c.Bad)
	}
	name := strings.TrimSpace(c.Request.BackendName)
	if name == "" || strings.Contains(name, "/") {
		return refused(http.StatusInternalServerError, "update stream: backend name %q", name)
	}
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	defer s.notice()
	var err error
	if c.Method == http.MethodDelete {
		err = s.files.remove(name)
	} else {
		if !s.options.Whole {
			err = s.files.write(name, "")
		}
		if err == nil {
			if s.options.WriteTime > 0 {
				s.notice()
				<-s.options.Clock.After(s.options.WriteTime)
			}
			err = s.files.write(name, s.render(c.Request))
		}
	}
	if err != nil {
		return refused(http.StatusInternalServerError, "update stream: %v", err)
	}
	return reply{status: http.StatusOK, body: "{}\n"}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := s.serve(r.Context(), r.Method, r.Header, body)
	if out.cut && out.body == "" {
		abort()
	}
	if out.location != "" {
		w.Header().Set("Location", out.location)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if out.cut {
		w.Header().Set("Content-Length", fmt.Sprint(2*len(out.body)))
	}
	w.WriteHeader(out.status)
	if _, err := io.WriteString(w, out.body); err != nil {
		return
	}
	if out.cut {
		_ = http.NewResponseController(w).Flush()
		abort()
	}
}

// abort closes the connection.
func abort() {
	panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way of cutting a connection
}

// Served are the files that the load balancer was reloaded with last, by backend name.
func (s *Server) Served() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.served)
}

// Reloads that were made, and what nginx -t said when it refused.
func (s *Server) Reloads() (made int, refusals []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloads, slices.Clone(s.refusals)
}
