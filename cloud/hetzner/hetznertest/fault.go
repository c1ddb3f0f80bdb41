package hetznertest

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is what goes wrong with a call. The zero value is nothing.
type Fault struct {
	// Delay before the call is looked at. The effect comes after it even when the caller has gone meanwhile.
	Delay time.Duration
	// Fail is the code of the error that is answered; empty: none.
	Fail Code
	// Cut the connection, so that the caller learns nothing.
	Cut bool
	// AfterEffect: Fail and Cut come after the effect instead of preventing it. A call that is refused anyway is
	// refused with its own code.
	AfterEffect bool
	// Late: Fail and Cut come at once, and so much later the call has its effect nevertheless.
	Late time.Duration
	// DelayAnswer between the effect and the answer.
	DelayAnswer time.Duration
	// ActionFails is the code with which the action ends that the call starts; empty: none.
	ActionFails Code
	// ActionTime is how long that action runs; 0: as all, negative: no time.
	ActionTime time.Duration
}

func (f *Fault) fails() bool { return f.Fail != "" || f.Cut }

// Rule says which calls a fault happens to. What is left out holds for all.
type Rule struct {
	Operation string
	Class     Class
	Project   string
	Caller    string
	// Nth call alone of those that match, counted from 1 since the rule was added; 0: every one.
	Nth int
	// Probability with which it happens, decided by the seed, the rule and the number of the matching call; 0: always.
	Probability float64
	Fault       Fault
	// Pick chooses the fault instead, from a source that depends on the same.
	Pick func(*rand.Rand) Fault
}

type rule struct {
	Rule
	number uint64
	seen   uint64
}

func (r *rule) matches(c *Call) bool {
	return (r.Operation == "" || r.Operation == c.Operation) && (r.Class == "" || r.Class == c.Class) &&
		(r.Project == "" || r.Project == c.Project) && (r.Caller == "" || r.Caller == c.Caller)
}

// AddRule adds a rule after those that there are, and returns what takes it away. Of several that apply to a call the
// first one counts.
func (s *Server) AddRule(r Rule) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ruled++
	added := &rule{Rule: r, number: uint64(s.ruled)}
	s.rules = append(s.rules, added)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rules = slices.DeleteFunc(s.rules, func(r *rule) bool { return r == added })
	}
}

// ClearRules takes all rules away: from now on nothing goes wrong that is not under way.
func (s *Server) ClearRules() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
}

// faultFor a call that has arrived.
func (s *Server) faultFor(c *Call) Fault {
	var fault Fault
	found := false
	for _, r := range s.rules {
		if !r.matches(c) {
			continue
		}
		r.seen++
		if found || r.Nth > 0 && r.seen != uint64(r.Nth) {
			continue
		}
		source := rand.New(rand.NewPCG(s.options.Seed, r.number<<32|r.seen))
		if r.Probability > 0 && source.Float64() >= r.Probability {
			continue
		}
		found = true
		fault = r.Fault
		if r.Pick != nil {
			fault = r.Pick(source)
		}
	}
	return fault
}

// Stage of a call at which hooks are called.
type Stage int

const (
	// BeforeEffect: the call has arrived, nothing has happened.
	BeforeEffect Stage = iota
	// AfterEffect: what was asked for was done or refused, the caller does not know.
	AfterEffect
	// AfterAnswer: the caller has read the whole answer, or over HTTP: it was sent.
	AfterAnswer
)

func (s Stage) String() string {
	return [...]string{"before effect", "after effect", "after answer"}[s]
}

// Hook is shown a call. Returning true cuts the connection there: before the effect it prevents it. A hook that ends the
// caller returns true, or the call would go on without it. It may block, which holds up that call alone, and it may use
// everything that the Server offers but Close. AfterAnswer comes in the goroutine in which the caller reads the answer, when that
// goes over Transport; a call that gets no answer has no such stage.
type Hook func(stage Stage, call Call) (cut bool)

type hook struct{ call Hook }

// AddHook adds a hook, and returns what takes it away. Calls with an unknown token, above the rate limit or without an
// operation are not shown.
func (s *Server) AddHook(h Hook) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := &hook{h}
	s.hooks = append(s.hooks, added)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hooks = slices.DeleteFunc(s.hooks, func(h *hook) bool { return h == added })
	}
}

// show a call to every hook; true: cut the connection.
func (s *Server) show(stage Stage, c Call) bool {
	s.mu.Lock()
	hooks := slices.Clone(s.hooks)
	s.mu.Unlock()
	cut := false
	for _, h := range hooks {
		if h.call(stage, c) {
			cut = true
		}
	}
	return cut
}
