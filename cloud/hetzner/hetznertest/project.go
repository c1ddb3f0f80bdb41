package hetznertest

import (
	"fmt"
	"slices"
	"time"
)

// project is one customer's room: nothing in it can be seen with another project's token.
type project struct {
	name      string
	limit     int
	purchases int
	releases  int
	budget    budget
}

type token struct {
	project  *project
	readOnly bool
}

// room returns a project, which is made if there is none of the name.
func (s *Server) room(name string) *project {
	p := s.projects[name]
	if p == nil {
		p = &project{name: name, budget: newBudget(s.options.RateLimit, s.clock.Now())}
		s.projects[name] = p
	}
	return p
}

// AddProject adds an empty project, which one token may read and change. Adding it again adds a token.
func (s *Server) AddProject(name, secret string) { s.AddToken(name, secret, false) }

// AddToken adds a token to a project; one that is read-only is answered token_readonly when it is used to change
// anything.
func (s *Server) AddToken(project, secret string, readOnly bool) {
	s.read(func() { s.tokens[secret] = &token{project: s.room(project), readOnly: readOnly} })
}

// RevokeToken makes a token unknown: calls with it are answered unauthorized.
func (s *Server) RevokeToken(secret string) {
	s.read(func() { delete(s.tokens, secret) })
}

// SetLimit sets how many Floating IPs a project may have; 0: as many as it likes. A purchase above it is answered
// resource_limit_exceeded.
func (s *Server) SetLimit(project string, floatingIPs int) {
	s.read(func() { s.room(project).limit = floatingIPs })
}

// SetOtherClient lets another tool of the project make so many calls an hour, evenly.
func (s *Server) SetOtherClient(project string, callsPerHour int) {
	s.read(func() {
		b := &s.room(project).budget
		b.refill(s.clock.Now())
		b.others = float64(callsPerHour) / time.Hour.Seconds()
	})
}

// Spend lets another tool of the project make so many calls at once. It gets no more than there are.
func (s *Server) Spend(project string, calls int) {
	s.read(func() {
		b := &s.room(project).budget
		b.refill(s.clock.Now())
		b.left = max(0, b.left-float64(calls))
	})
}

// Remaining is how many calls a project has left now.
func (s *Server) Remaining(project string) int {
	var left int
	s.read(func() {
		b := &s.room(project).budget
		b.refill(s.clock.Now())
		left = b.calls()
	})
	return left
}

// Purchases is how many Floating IPs were bought over the API in a project, since it was added.
func (s *Server) Purchases(project string) int {
	var n int
	s.read(func() { n = s.room(project).purchases })
	return n
}

// Releases is how many Floating IPs were deleted over the API in a project, since it was added.
func (s *Server) Releases(project string) int {
	var n int
	s.read(func() { n = s.room(project).releases })
	return n
}

// AddServer adds a server to a project, which has its name to itself there, and returns the server's id.
func (s *Server) AddServer(project string, m Machine) (int64, error) {
	var id int64
	var err error
	s.read(func() {
		p := s.room(project)
		if m.Location == "" {
			m.Location = "fsn1"
		}
		if m.Type == "" {
			m.Type = "cx23"
		}
		if m.Status == "" {
			m.Status = "running"
		}
		if locationNamed(m.Location) == nil {
			err = fmt.Errorf("add server %s: there is no location %q", m.Name, m.Location)
			return
		}
		if err = s.freeName(p, m.Name); err != nil {
			return
		}
		id = s.nextID()
		m.ID, m.Project = id, project
		s.machines[id] = &machine{Machine: m, project: p, created: s.clock.Now()}
	})
	return id, err
}

func (s *Server) freeName(p *project, name string) error {
	for _, m := range s.machines {
		if m.project == p && m.Name == name {
			return fmt.Errorf("server %d of project %s is named %s already", m.ID, p.name, name)
		}
	}
	return nil
}

// RenameServer gives a server another name, which no other server of its project may have.
func (s *Server) RenameServer(id int64, name string) error {
	var err error
	s.read(func() {
		m := s.machines[id]
		if m == nil {
			err = fmt.Errorf("rename server: there is no server %d", id)
			return
		}
		if err = s.freeName(m.project, name); err == nil {
			m.Name = name
		}
	})
	return err
}

// DeleteServer deletes a server and unassigns its Floating IPs: packets stop at once, and for as long as an action takes
// the Floating IPs are locked. The server's name is free then, its id is never used again.
func (s *Server) DeleteServer(id int64) error {
	var err error
	s.change(func() {
		if s.machines[id] == nil {
			err = fmt.Errorf("delete server: there is no server %d", id)
			return
		}
		delete(s.machines, id)
		for _, f := range s.floatingIPs() {
			if f.Server != id {
				continue
			}
			s.reroute(f, 0)
			if f.Running == 0 {
				s.start(&Fault{}, f, "unassign_floating_ip", id, func() Code { return "" })
			}
		}
	})
	return err
}

// Servers of a project, by id.
func (s *Server) Servers(project string) []Machine {
	var all []Machine
	s.read(func() {
		for _, m := range s.sortedMachines() {
			if m.project.name == project {
				copied := m.Machine
				copied.Private = slices.Clone(m.Private)
				all = append(all, copied)
			}
		}
	})
	return all
}
