package updatertest

import (
	"net/http"
	"strings"
	"time"
)

// Answer that a call gets instead of its own.
type Answer string

const (
	// OwnAnswer is the one that it should get.
	OwnAnswer Answer = ""
	// Cut closes the connection without an answer.
	Cut Answer = "cut"
	// Half closes it in the middle of the answer.
	Half Answer = "half"
	// Garbage is a page of HTML with status 200.
	Garbage Answer = "garbage"
	// Huge is 10 MB with status 200.
	Huge Answer = "huge"
	// Redirect sends the caller elsewhere.
	Redirect Answer = "redirect"
	// InternalError is status 500 with a sentence.
	InternalError Answer = "500"
	// Unauthorized is status 401.
	Unauthorized Answer = "401"
)

// Fault is what goes wrong with a call. The zero value is nothing.
type Fault struct {
	// Delay before the effect, which comes even when the caller has gone meanwhile.
	Delay time.Duration
	// Hang for as long as the caller waits; there is no effect.
	Hang bool
	// NoEffect: nothing is written.
	NoEffect bool
	Answer   Answer
}

// Break has something go wrong with every call from now on; the zero Fault mends it.
func (s *Server) Break(f Fault) { s.BreakEach(func(Call) Fault { return f }) }

// BreakEach chooses for each call what goes wrong with it.
func (s *Server) BreakEach(fault func(Call) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// answer instead of what would be answered.
func (f Fault) answer(own reply) reply {
	switch f.Answer {
	case Cut:
		return reply{cut: true}
	case Half:
		return reply{status: own.status, body: `{"e`, cut: true}
	case Garbage:
		return reply{status: http.StatusOK, body: "<!doctype html><title>Welcome to nginx!</title>"}
	case Huge:
		return reply{status: http.StatusOK, body: strings.Repeat(" ", 10<<20)}
	case Redirect:
		return reply{status: http.StatusFound, location: "http://198.51.100.9/elsewhere"}
	case InternalError:
		return refused(http.StatusInternalServerError, "update stream: no space left on device")
	case Unauthorized:
		return refused(http.StatusUnauthorized, "who are you?")
	}
	return own
}
