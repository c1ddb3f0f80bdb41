// Package ledger is the controller's memory: which Service holds which address, which node has been told what
// about it, and how far that node's agent is. It is where pool (which address) and place (which node) meet.
//
// It is deterministic and does no I/O: time is an argument, and what has to be written is collected as Effects for
// the caller to carry out. It never calls a client, logs, or looks at a clock, so that the whole protocol can be
// run in a simulation. It is rebuilt from the cluster at each start (Adopt) and stored nowhere.
package ledger

import (
	"net/netip"
	"sync"
	"time"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// Ledger is safe for concurrent use. Its methods take microseconds; none of them blocks on anything but the
// others.
type Ledger struct {
	mu sync.Mutex

	epoch      int64
	pools      map[string]*config.Pool
	evacuate   bool
	allocator  *pool.Allocator
	nodes      map[string]*node
	candidates []*place.Candidate // of the nodes that exist, by name
	addresses  map[netip.Addr]*address
	services   map[string]*service     // by UID
	byKey      map[Key]map[string]bool // UIDs by namespaced name
	unserved   map[string]bool         // UIDs of Services that something is refused to
	stuck      map[netip.Addr]bool     // wanted addresses that are not bound, or not where they should be
	timers     timers
	// stored are the nodes whose objects say Hold of an address, or may say so: a write whose end is not known counts.
	stored map[netip.Addr][]*node
	// subnets are those of all nodes, nil until they are asked for.
	subnets *subnets
	// foreign are the machines that answer for addresses of pools.
	foreign foreign

	rental   Rental
	accounts map[string]*account
	rented   map[netip.Prefix]*rented
	// listed are the addresses that pools list as Floating IPs, by what is routed for them.
	listed map[netip.Prefix]lb.Lease
	orders map[target]*order
	// backends are the ports at external load balancers that Services hold; revision counts what was wanted of them.
	backends map[BackendKey]*backend
	revision uint64
	// known are Services that hold nothing that is known of: something may have been bought for them.
	known map[string]knownService
	// former are servers that were our Nodes in this term.
	former    map[int64]bool
	adoptedAt time.Time
	// poolsAt is when the pools came into force, if that was later.
	poolsAt        time.Time
	resyncInterval time.Duration
	// firstPulse is how long a controller that has just come waits for its probe.
	firstPulse time.Duration

	// overdueAt is when agents were last looked at for what they owe.
	overdueAt time.Time
	effects   Effects
	// adopting: not everything is known yet, so nothing is decided.
	adopting bool
}

// Effects is what the caller has to do because the ledger changed.
type Effects struct {
	// Nodes whose NodeAddresses differ from what was written.
	Nodes map[string]bool
	// Urgent are those of Nodes that carry a hard move: they are written before everything else.
	Urgent map[string]bool
	// FalseLosses are nodes that the probe took for lost and that have let go of their addresses at once.
	FalseLosses []string
	// Rescues are how long addresses took that were moved off lost nodes, from the decision until they were bound again.
	Rescues []time.Duration
	// Services, by namespaced name, whose View may have changed.
	Services map[Key]bool
	// Moves that were decided, for people to read.
	Moves []Move
	// Notices about what was done at the cloud, for people to read.
	Notices []Notice
	// Accounts at which there is something to do.
	Accounts map[string]bool
	// Reads are the accounts that have to be read soon.
	Reads map[string]bool
	// Backends of which something else is wanted.
	Backends map[BackendKey]bool
	// Later are Services of which something changed that nobody waits for.
	Later map[Key]bool
	// Next is when Tick has to be called; zero: not before something else happens.
	Next time.Time
}

// Key is a Service's namespaced name.
type Key struct{ Namespace, Name string }

// Move is one step of an address from or to a node.
type Move struct {
	Addr     netip.Addr
	Services []lb.Ref
	place.Step
}

// Notice is something that happened to what a Service holds.
type Notice struct {
	Service lb.Ref
	Warning bool
	Reason  lb.Reason
	Message string
}

func (e *Effects) account(key string) {
	if e.Accounts == nil {
		e.Accounts = map[string]bool{}
	}
	e.Accounts[key] = true
}

func (e *Effects) read(key string) {
	if e.Reads == nil {
		e.Reads = map[string]bool{}
	}
	e.Reads[key] = true
}

func (e *Effects) backend(k BackendKey) {
	if e.Backends == nil {
		e.Backends = map[BackendKey]bool{}
	}
	e.Backends[k] = true
}

func (e *Effects) later(ref lb.Ref) {
	if e.Later == nil {
		e.Later = map[Key]bool{}
	}
	e.Later[Key{ref.Namespace, ref.Name}] = true
}

// New returns an empty ledger that writes in the given term.
func New(cfg *config.Config, rental Rental, epoch int64) *Ledger {
	l := &Ledger{
		epoch:     epoch,
		pools:     poolsByName(cfg),
		evacuate:  cfg.Failover.EvacuateCordoned,
		allocator: pool.New(cfg.Pools),
		nodes:     map[string]*node{},
		addresses: map[netip.Addr]*address{},
		services:  map[string]*service{},
		byKey:     map[Key]map[string]bool{},
		unserved:  map[string]bool{},
		stuck:     map[netip.Addr]bool{},
		accounts:  map[string]*account{},
		rented:    map[netip.Prefix]*rented{},
		orders:    map[target]*order{},
		backends:  map[BackendKey]*backend{},
		stored:    map[netip.Addr][]*node{},
		known:     map[string]knownService{},
		former:    map[int64]bool{},

		resyncInterval: cfg.ResyncInterval,
		// Two rounds more than it takes: those before the first answers count, and the burst.
		firstPulse: max(place.FirstPulse, time.Duration(cfg.Failover.FailureThreshold+2)*cfg.Failover.ProbeInterval),
	}
	l.setRental(rental)
	return l
}

func poolsByName(cfg *config.Config) map[string]*config.Pool {
	m := make(map[string]*config.Pool, len(cfg.Pools))
	for i := range cfg.Pools {
		m[cfg.Pools[i].Name] = &cfg.Pools[i]
	}
	return m
}

// Drain returns what has to be done since the last call.
func (l *Ledger) Drain() Effects {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.effects
	l.effects = Effects{}
	e.Next = earliest(l.timers.next(), l.foreign.timers.next())
	return e
}

// Tick does what only time brings: the next node is tried, a release is given up.
func (l *Ledger) Tick(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for addr, ok := l.timers.due(now); ok; addr, ok = l.timers.due(now) {
		if a := l.addresses[addr]; a != nil {
			l.evaluate(a, now)
		}
	}
	l.liftForeign(now)
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (l *Ledger) wake(ref lb.Ref) {
	if l.effects.Services == nil {
		l.effects.Services = map[Key]bool{}
	}
	l.effects.Services[Key{ref.Namespace, ref.Name}] = true
}

func (l *Ledger) dirty(n *node) {
	n.seq++
	if l.effects.Nodes == nil {
		l.effects.Nodes = map[string]bool{}
	}
	l.effects.Nodes[n.name] = true
}

func (l *Ledger) urgent(n *node) {
	if l.effects.Urgent == nil {
		l.effects.Urgent = map[string]bool{}
	}
	l.effects.Urgent[n.name] = true
}
