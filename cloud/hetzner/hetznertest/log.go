package hetznertest

import (
	"slices"
	"time"
)

// Class of a call.
type Class string

// What a call may do.
const (
	Read  Class = "read"
	Write Class = "write"
)

// Call is a request as hooks see it and the log keeps it. It never has the token.
type Call struct {
	// Seq is the number of the request, from 1, in the order of arrival.
	Seq int
	// Time of arrival.
	Time time.Time
	// Project that the token belongs to; empty: the token is unknown.
	Project string
	// Caller is the name given to TransportAs, or the User-Agent of what came over HTTP.
	Caller string
	// Operation is the method and the path's template, such as "POST /floating_ips/{id}/actions/assign"; empty: the API
	// has no such path.
	Operation string
	Class     Class
	// IDs in the path, or those that GET /actions asks for.
	IDs []int64
	// Query and Body as they were sent.
	Query string
	Body  string
}

// Record is what became of a call.
type Record struct {
	Call
	// Answered is when; zero: it is not, or was cut.
	Answered time.Time
	// Remaining is how many calls the project had left when this one was taken off.
	Remaining int
	// Reset is what the answer said in RateLimit-Reset; zero: nothing.
	Reset time.Time
	// Status and Code of the answer; Code is empty after success.
	Status int
	Code   Code
	// Cut: the caller got no answer from us.
	Cut bool
	// Effect: what was asked for was done, or an action to do it was started.
	Effect bool
}

// Log of all requests in the order of their arrival, as far as they have got.
func (s *Server) Log() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Record, len(s.log))
	for i, r := range s.log {
		all[i] = *r
		all[i].IDs = slices.Clone(r.IDs)
	}
	return all
}

// Counts of the requests in the log by operation.
func (s *Server) Counts() map[string]int {
	counts := map[string]int{}
	for _, r := range s.Log() {
		counts[r.Operation]++
	}
	return counts
}

// ForgetLog empties the log. Requests under way are no longer in it.
func (s *Server) ForgetLog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}
