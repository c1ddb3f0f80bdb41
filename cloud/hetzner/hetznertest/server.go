package hetznertest

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Endpoint is where a client that uses Transport says that the API is. The stand-in looks at the path alone, which
// begins with /v1 wherever it is served.
const Endpoint = "https://api.hetzner.cloud/v1"

// Options of a stand-in. The zero value is Hetzner as it is on an ordinary day.
type Options struct {
	// Clock that everything is timed by; nil: the real one, which in a testing/synctest bubble is the bubble's.
	Clock clock.WithDelayedExecution
	// Seed of everything that happens by chance.
	Seed uint64
	// ActionTime is how long an action runs; 0: one second, negative: it has ended when its call is answered.
	ActionTime time.Duration
	// ListLag is how long after its purchase a Floating IP is missing in lists, also in filtered ones, though not when
	// it is read by id; 0: one second, negative: none.
	ListLag time.Duration
	// RateLimit is how many calls an hour a project has; 0: 3600.
	RateLimit int
	// ResetIsNext makes RateLimit-Reset of a refused call say when the next call is let through. Otherwise it says, as
	// everywhere, when the whole limit is there again.
	ResetIsNext bool
	// RefuseMoves answers floating_ip_assigned to an assign of what is assigned already.
	RefuseMoves bool
	// LockServers lets a server take part in one action at a time.
	LockServers bool
	// IPv4 holds the addresses that are sold, in this order and none twice; empty: 198.51.100.0/24, 203.0.113.0/24 and,
	// because that is too few for a cluster with many Services, 198.18.0.0/15.
	IPv4 []netip.Prefix
	// IPv6 is where the /64s are cut from that are sold; the zero value: 2001:db8:f000::/36.
	IPv6 netip.Prefix
	// OnRoute is called when a Floating IP is routed elsewhere, in the order of the changes and before any answer shows
	// them; server 0: nowhere. It may read the Server's state and must not change it.
	OnRoute func(prefix netip.Prefix, server int64)
}

// Server is the stand-in for the whole of Hetzner. Make one with New. It is safe for concurrent use.
type Server struct {
	options Options
	clock   clock.WithDelayedExecution

	// done ends every delay when the stand-in is closed; requests counts those that are under way.
	done     chan struct{}
	requests sync.WaitGroup

	// routing has room for one who tells route changes, which keeps them in order. It is no mutex, because to wait for
	// one stops the clock of a testing/synctest bubble.
	routing chan struct{}

	mu       sync.Mutex
	closed   bool
	projects map[string]*project
	tokens   map[string]*token
	machines map[int64]*machine
	floating map[int64]*floatingIP
	actions  map[int64]*action
	// running holds the actions that have not ended, by the time at which they will.
	running []*action
	routes  []route
	lastID  int64
	lastSeq int
	sold    [2]int
	log     []*Record
	rules   []*rule
	hooks   []*hook
	ruled   int
}

// New returns a stand-in without any project. One that is used in a testing/synctest bubble must be made in it.
func New(options Options) *Server {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	options.ActionTime = orDefault(options.ActionTime, time.Second)
	options.ListLag = orDefault(options.ListLag, time.Second)
	if options.RateLimit == 0 {
		options.RateLimit = 3600
	}
	if len(options.IPv4) == 0 {
		options.IPv4 = []netip.Prefix{
			netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
		}
	}
	if !options.IPv6.IsValid() {
		options.IPv6 = netip.MustParsePrefix("2001:db8:f000::/36")
	}
	return &Server{
		options:  options,
		clock:    options.Clock,
		done:     make(chan struct{}),
		routing:  make(chan struct{}, 1),
		projects: map[string]*project{},
		tokens:   map[string]*token{},
		machines: map[int64]*machine{},
		floating: map[int64]*floatingIP{},
		actions:  map[int64]*action{},
		lastID:   1000,
	}
}

// orDefault reads a duration of which 0 is the default and a negative one is none.
func orDefault(d, otherwise time.Duration) time.Duration {
	switch {
	case d == 0:
		return otherwise
	case d < 0:
		return 0
	}
	return d
}

// Close ends every delay, so that no request is under way when it returns. A request that waited for its effect has
// none. Requests that come later are cut. It waits for hooks that block.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.mu.Unlock()
	s.requests.Wait()
}

// begin counts a request, or another piece of work that Close waits for; false: the stand-in is closed.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.requests.Add(1)
	return true
}

// wait until the time has passed; false: the stand-in is closed.
func (s *Server) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := s.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-s.done:
		return false
	}
}

// nextID is one that nothing has, in no project: at Hetzner ids are unique over all of them.
func (s *Server) nextID() int64 {
	s.lastID++
	return s.lastID
}

// route is a change of where a Floating IP's packets go.
type route struct {
	prefix netip.Prefix
	server int64
}

// reroute sets where a Floating IP is routed to.
func (s *Server) reroute(f *floatingIP, server int64) {
	if f.Server == server {
		return
	}
	f.Server = server
	if s.options.OnRoute != nil {
		s.routes = append(s.routes, route{f.Prefix, server})
	}
}

// tellRoutes tells every change of routing that has not been told.
func (s *Server) tellRoutes() {
	if s.options.OnRoute == nil {
		return
	}
	s.routing <- struct{}{}
	defer func() { <-s.routing }()
	for {
		s.mu.Lock()
		if len(s.routes) == 0 {
			s.mu.Unlock()
			return
		}
		next := s.routes[0]
		s.routes = slices.Delete(s.routes, 0, 1)
		s.mu.Unlock()
		s.options.OnRoute(next.prefix, next.server)
	}
}

// read runs f over the state as it is now.
func (s *Server) read(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(s.clock.Now())
	f()
}

// change runs f over the state as it is now, and tells where packets go after it.
func (s *Server) change(f func()) {
	s.read(f)
	s.tellRoutes()
}
