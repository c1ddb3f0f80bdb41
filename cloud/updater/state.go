package updater

import (
	"fmt"
	"time"
)

// Phase is how far the updaters have been told about a port.
type Phase string

const (
	// PhaseUnknown: nothing was ever said about the port.
	PhaseUnknown Phase = "Unknown"
	// PhaseTelling: no URL has taken what is wanted. One may have what was wanted before.
	PhaseTelling Phase = "Telling"
	// PhaseToldSome: at least one URL has taken what is wanted, and at least one has not.
	PhaseToldSome Phase = "ToldSome"
	// PhaseTold: every URL has taken what is wanted.
	PhaseTold Phase = "Told"
	// PhaseRemoving: a URL has not confirmed the removal.
	PhaseRemoving Phase = "Removing"
	// PhaseRemoved: every URL has confirmed the removal.
	PhaseRemoved Phase = "Removed"
)

// Listening is whether the load balancer answers on a port.
type Listening string

const (
	// ListeningNotJudged: UDP, or the pool does not verify.
	ListeningNotJudged Listening = "NotJudged"
	// ListeningWaiting: not found out yet.
	ListeningWaiting Listening = "Waiting"
	// ListeningYes: it was connected to.
	ListeningYes Listening = "Yes"
	// ListeningNo: it could not be connected to.
	ListeningNo Listening = "No"
)

// Lag is a URL that has not taken what is wanted.
type Lag struct {
	URL string
	// Err is why; nil: it was not tried yet.
	Err error
}

func (l Lag) String() string {
	if l.Err != nil {
		return l.Err.Error()
	}
	return l.URL + " has not been told yet"
}

// State is where a port stands.
type State struct {
	Phase Phase
	// Revision is the highest of the caller's that at least one URL has taken; 0: none.
	Revision uint64
	// Lagging are the URLs that have not taken what is wanted, in the order of the cloud-config.
	Lagging []Lag
	// Listening of the load balancer, and for ListeningNo what was found instead.
	Listening Listening
	Found     string
	// Ready to be published: a URL has taken the backend, and it was found to listen or was given the time for it. It
	// stays so until the backend is removed.
	Ready bool
}

// text is equal for states that a caller cannot tell apart.
func (s *State) text() string {
	return fmt.Sprint(s.Phase, s.Revision, s.Lagging, s.Listening, s.Found, s.Ready)
}

// Why a call is made. Its text is a metric label and never changes.
type Why string

const (
	// WhyChange: something else is wanted than what was told last, or the call for it failed.
	WhyChange Why = "change"
	// WhyNothingListens: verify found nothing on the port.
	WhyNothingListens Why = "nothing-listens"
	// WhyLate: an earlier call without an answer may have had its effect late.
	WhyLate Why = "late"
	// WhyResync: everything is sent again.
	WhyResync Why = "resync"
	// WhyRepeat: the load balancer may have missed the last change of a burst.
	WhyRepeat Why = "repeat"
	// WhySweep: a port that nobody uses is cleared.
	WhySweep Why = "sweep"
)

// urgency of calls, first the most urgent.
var urgency = map[Why]int{WhyChange: 0, WhyNothingListens: 1, WhyLate: 2, WhyResync: 3, WhyRepeat: 4, WhySweep: 5}

// Call is one task that was done at one URL, for metrics and logs: one call, or with a takeover the two of it.
type Call struct {
	URL string
	Key Key
	// Remove: the backend was removed, else set.
	Remove bool
	Why    Why
	Took   time.Duration
	Err    error
}

func (c Call) String() string {
	what := "set"
	if c.Remove {
		what = "remove"
	}
	return fmt.Sprintf("%s %s at %s (%s)", what, c.Key, c.URL, c.Why)
}

// Health of one URL.
type Health struct {
	URL string
	// Err is why no call to it succeeds; nil: none is known to fail for all.
	Err error
	// Pending is how many ports it has not been told of what is wanted.
	Pending int
}

// Health of every URL, in the order of the cloud-config.
func (w *Worker) Health() []Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]Health, len(w.lines))
	for i, l := range w.lines {
		all[i] = Health{URL: l.client.URL(), Err: l.err}
		for k, e := range w.entries {
			if j := l.jobs[k]; j == nil || j.told != e.seq {
				all[i].Pending++
			}
		}
	}
	return all
}

// State of a port as it is now.
func (w *Worker) State(k Key) State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state(k, w.options.Clock.Now())
}

func (w *Worker) state(k Key, now time.Time) State {
	e := w.entries[k]
	if e == nil {
		return State{Phase: PhaseUnknown, Listening: ListeningNotJudged}
	}
	s := State{Listening: ListeningNotJudged}
	for _, l := range w.lines {
		j := l.jobs[k]
		if j != nil && j.told == e.seq {
			if e.want != nil {
				s.Revision = max(s.Revision, e.want.Revision)
			}
			continue
		}
		lag := Lag{URL: l.client.URL()}
		if j != nil {
			s.Revision = max(s.Revision, j.revision)
			lag.Err = j.err
		}
		if l.down {
			lag.Err = l.err
		}
		s.Lagging = append(s.Lagging, lag)
	}
	switch {
	case e.want == nil && len(s.Lagging) == 0:
		s.Phase = PhaseRemoved
	case e.want == nil:
		s.Phase = PhaseRemoving
	case len(s.Lagging) == 0:
		s.Phase = PhaseTold
	case len(s.Lagging) < len(w.lines):
		s.Phase = PhaseToldSome
	default:
		s.Phase = PhaseTelling
	}
	if e.want == nil {
		s.Revision = 0
		return s
	}
	judged := w.judges(k)
	if judged {
		s.Listening, s.Found = e.check.listening, e.check.found
	}
	s.Ready = !e.since.IsZero() && (!judged || e.proven || !now.Before(e.since.Add(patience)))
	return s
}
