package hetznertest

import (
	"net/netip"
)

// assign is POST /floating_ips/{id}/actions/assign.
func (s *Server) assign(r *request) (any, *failure) {
	body, failed := r.fields("server")
	if failed != nil {
		return nil, failed
	}
	server, failed := field[int64](body, "server", false)
	if failed != nil {
		return nil, failed
	}
	if server == nil {
		return nil, invalid("server", "is required")
	}
	f, failed := s.target(r)
	switch {
	case failed != nil:
		return nil, failed
	case s.machineOf(r.project, *server) == nil:
		return nil, refuse(NotFound, "server with ID '%d' not found", *server)
	case f.Server == *server, s.options.RefuseMoves && f.Server != 0:
		return nil, refuse(FloatingIPAssigned, "floating ip %d is already assigned", f.ID)
	case s.options.LockServers && s.busy(*server):
		return nil, refuse(Locked, "server %d is locked: another action is running", *server)
	}
	return s.started(s.start(&r.fault, f, "assign_floating_ip", *server, s.assigning(f.ID, *server)))
}

// assigning is the effect of an assignment.
func (s *Server) assigning(id, server int64) func() Code {
	return func() Code {
		f := s.floating[id]
		if f == nil || s.machineOf(f.project, server) == nil {
			return actionFailed
		}
		s.reroute(f, server)
		return ""
	}
}

// actionFailed is the code of an action that could not be completed.
const actionFailed Code = "action_failed"

// unassign is POST /floating_ips/{id}/actions/unassign.
func (s *Server) unassign(r *request) (any, *failure) {
	if _, failed := r.fields(); failed != nil {
		return nil, failed
	}
	f, failed := s.target(r)
	switch {
	case failed != nil:
		return nil, failed
	case f.Server == 0:
		return nil, refuse(ServiceError, "cannot unassign Floating IP because it is not assigned to a server")
	case s.options.LockServers && s.busy(f.Server):
		return nil, refuse(Locked, "server %d is locked: another action is running", f.Server)
	}
	return s.started(s.start(&r.fault, f, "unassign_floating_ip", f.Server, s.editing(f.ID, func(f *floatingIP) { s.reroute(f, 0) })))
}

// changeProtection is POST /floating_ips/{id}/actions/change_protection.
func (s *Server) changeProtection(r *request) (any, *failure) {
	body, failed := r.fields("delete")
	if failed != nil {
		return nil, failed
	}
	protect, failed := field[bool](body, "delete", false)
	if failed != nil {
		return nil, failed
	}
	if protect == nil {
		return nil, invalid("delete", "is required")
	}
	f, failed := s.target(r)
	if failed != nil {
		return nil, failed
	}
	return s.started(s.start(&r.fault, f, "change_protection", 0, s.editing(f.ID, func(f *floatingIP) { f.Protected = *protect })))
}

// changeDNSPtr is POST /floating_ips/{id}/actions/change_dns_ptr. A name that is null is the default one.
func (s *Server) changeDNSPtr(r *request) (any, *failure) {
	body, failed := r.fields("ip", "dns_ptr")
	if failed != nil {
		return nil, failed
	}
	ip, failed := field[string](body, "ip", false)
	if failed != nil {
		return nil, failed
	}
	name, failed := field[string](body, "dns_ptr", true)
	if failed != nil {
		return nil, failed
	}
	if _, given := body["dns_ptr"]; !given {
		return nil, invalid("dns_ptr", "is required")
	}
	f, failed := s.target(r)
	if failed != nil {
		return nil, failed
	}
	if ip == nil {
		return nil, invalid("ip", "is required")
	}
	addr, err := netip.ParseAddr(*ip)
	if err != nil || !f.within(addr) {
		return nil, invalid("ip", "%q is no address of the floating ip", *ip)
	}
	return s.started(s.start(&r.fault, f, "change_dns_ptr", 0, s.editing(f.ID, func(f *floatingIP) {
		delete(f.names, addr)
		if name != nil {
			f.names[addr] = *name
		}
	})))
}

// editing is the effect of an action that cannot fail while its Floating IP exists.
func (s *Server) editing(id int64, edit func(*floatingIP)) func() Code {
	return func() Code {
		f := s.floating[id]
		if f == nil {
			return actionFailed
		}
		edit(f)
		return ""
	}
}

func (s *Server) started(a *action) (any, *failure) {
	return map[string]any{"action": s.actionForm(a)}, nil
}
