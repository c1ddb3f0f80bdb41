package hetznertest

import (
	"cmp"
	"slices"
	"time"
)

// action is a piece of work that takes time.
type action struct {
	id       int64
	project  *project
	command  string
	floating int64
	server   int64
	started  time.Time
	ends     time.Time
	// finished is when it ended; zero: it runs.
	finished time.Time
	// fails is the code with which it ends; empty: success.
	fails Code
	// effect that it has when it ends in success. It may find that it cannot be had any more.
	effect func() Code
}

// start an action on a Floating IP, which has its effect when it ends.
func (s *Server) start(fault *Fault, f *floatingIP, command string, server int64, effect func() Code) *action {
	took := s.options.ActionTime
	if fault.ActionTime != 0 {
		took = orDefault(fault.ActionTime, 0)
	}
	now := s.clock.Now()
	a := &action{
		id: s.nextID(), project: f.project, command: command, floating: f.ID, server: server,
		started: now, ends: now.Add(took), fails: fault.ActionFails, effect: effect,
	}
	s.actions[a.id] = a
	f.Running = a.id
	at, _ := slices.BinarySearchFunc(s.running, a, func(x, y *action) int {
		return cmp.Or(x.ends.Compare(y.ends), cmp.Compare(x.id, y.id))
	})
	s.running = slices.Insert(s.running, at, a)
	if took > 0 {
		// In a goroutine of its own: a fake clock calls back while it holds its lock.
		s.clock.AfterFunc(took, func() { go s.change(func() {}) })
	}
	s.settle(now)
	return a
}

// settle ends the actions whose time has come, in that order.
func (s *Server) settle(now time.Time) {
	for len(s.running) > 0 && !s.running[0].ends.After(now) {
		a := s.running[0]
		s.running = slices.Delete(s.running, 0, 1)
		if a.fails == "" {
			a.fails = a.effect()
		}
		a.finished = a.ends
		if f := s.floating[a.floating]; f != nil {
			f.Running = 0
		}
	}
}

// busy reports whether an action that has not ended concerns the server.
func (s *Server) busy(server int64) bool {
	return slices.ContainsFunc(s.running, func(a *action) bool { return a.server == server })
}

// progress in percent. Only a finished action is at 100.
func (a *action) progress(now time.Time) int {
	if !a.finished.IsZero() {
		return 100
	}
	return int(99 * now.Sub(a.started) / a.ends.Sub(a.started))
}

func (a *action) status() string {
	switch {
	case a.finished.IsZero():
		return "running"
	case a.fails != "":
		return "error"
	}
	return "success"
}
