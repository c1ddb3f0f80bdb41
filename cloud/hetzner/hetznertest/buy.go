package hetznertest

import (
	"maps"
	"net/netip"
	"strconv"
	"time"
)

// buy is POST /floating_ips.
func (s *Server) buy(r *request) (any, *failure) {
	if failed := r.parameters(); failed != nil {
		return nil, failed
	}
	order, server, failed := s.order(r)
	if failed != nil {
		return nil, failed
	}
	p := r.project
	if s.nameTaken(p, order.Name, 0) {
		failed := refuse(UniquenessError, "a floating ip with the name %s exists already", order.Name)
		failed.details = map[string]any{"fields": []map[string]any{{"name": "name"}}}
		return nil, failed
	}
	owned := 0
	for _, f := range s.floating {
		if f.project == p {
			owned++
		}
	}
	if p.limit > 0 && owned >= p.limit {
		return nil, refuse(ResourceLimitExceeded, "floating ip limit exceeded")
	}
	if server != 0 && s.options.LockServers && s.busy(server) {
		return nil, refuse(Locked, "server %d is locked: another action is running", server)
	}
	sold, ok := s.sell(order.ipv6)
	if !ok {
		return nil, refuse(ResourceUnavailable, "no addresses are left")
	}
	order.Prefix = sold
	f := s.add(p, order.FloatingIP, s.clock.Now().Add(s.options.ListLag))
	p.purchases++
	body := map[string]any{}
	if server != 0 {
		started := s.start(&r.fault, f, "assign_floating_ip", server, s.assigning(f.ID, server))
		body["action"] = s.actionForm(started)
	}
	body["floating_ip"] = floatingForm(f)
	return body, nil
}

type order struct {
	FloatingIP
	ipv6 bool
}

// order that a purchase is, and the server that it is for.
func (s *Server) order(r *request) (o order, server int64, failed *failure) {
	body, failed := r.fields("type", "server", "home_location", "name", "description", "labels")
	if failed != nil {
		return o, 0, failed
	}
	kind, failed := field[string](body, "type", false)
	if failed != nil {
		return o, 0, failed
	}
	if kind == nil || *kind != "ipv4" && *kind != "ipv6" {
		return o, 0, invalid("type", "must be ipv4 or ipv6")
	}
	o.ipv6 = *kind == "ipv6"
	if o.Name, failed = nameField(body); failed != nil {
		return o, 0, failed
	}
	if o.Labels, failed = labelsField(body); failed != nil {
		return o, 0, failed
	}
	description, failed := field[string](body, "description", true)
	if failed != nil {
		return o, 0, failed
	}
	if description != nil {
		o.Description = *description
	}
	o.Location, server, failed = s.destination(r, body)
	return o, server, failed
}

// destination of a purchase: a location, or a server and its location.
func (s *Server) destination(r *request, body fields) (location string, server int64, failed *failure) {
	home, failed := field[string](body, "home_location", false)
	if failed != nil {
		return "", 0, failed
	}
	id, failed := field[int64](body, "server", true)
	switch {
	case failed != nil:
		return "", 0, failed
	case home != nil && id != nil:
		return "", 0, invalid("home_location", "server and home_location exclude each other")
	case id != nil:
		m := s.machineOf(r.project, *id)
		if m == nil {
			return "", 0, refuse(NotFound, "server with ID '%d' not found", *id)
		}
		return m.Location, *id, nil
	case home == nil:
		return "", 0, invalid("home_location", "either server or home_location is required")
	}
	for _, l := range places {
		if *home == l.Name || *home == strconv.FormatInt(l.ID, 10) {
			return l.Name, 0, nil
		}
	}
	return "", 0, invalid("home_location", "there is no location %q", *home)
}

// target is the Floating IP in a request's path, which no action may hold.
func (s *Server) target(r *request) (*floatingIP, *failure) {
	if failed := r.parameters(); failed != nil {
		return nil, failed
	}
	f := s.floatingOf(r.project, r.IDs[0])
	switch {
	case f == nil:
		return nil, refuse(NotFound, "floating ip with ID '%d' not found", r.IDs[0])
	case f.Running != 0:
		return nil, refuse(Locked, "floating ip %d is locked: action %d is running", f.ID, f.Running)
	}
	return f, nil
}

// update is PUT /floating_ips/{id}. Labels that are given replace all that there were.
func (s *Server) update(r *request) (any, *failure) {
	body, failed := r.fields("name", "description", "labels")
	if failed != nil {
		return nil, failed
	}
	name, failed := nameField(body)
	if failed != nil {
		return nil, failed
	}
	set, failed := labelsField(body)
	if failed != nil {
		return nil, failed
	}
	description, failed := field[string](body, "description", true)
	if failed != nil {
		return nil, failed
	}
	f, failed := s.target(r)
	if failed != nil {
		return nil, failed
	}
	if name != "" && s.nameTaken(r.project, name, f.ID) {
		return nil, refuse(UniquenessError, "a floating ip with the name %s exists already", name)
	}
	if name != "" {
		f.Name = name
	}
	if set != nil {
		f.Labels = maps.Clone(set)
	}
	if description != nil {
		f.Description = *description
	}
	return map[string]any{"floating_ip": floatingForm(f)}, nil
}

// release is DELETE /floating_ips/{id}.
func (s *Server) release(r *request) (any, *failure) {
	if _, failed := r.fields(); failed != nil {
		return nil, failed
	}
	f, failed := s.target(r)
	switch {
	case failed != nil:
		return nil, failed
	case f.Protected:
		return nil, refuse(Protected, "floating ip %d is delete protected", f.ID)
	case f.Server != 0:
		return nil, refuse(MustBeUnassigned, "floating ip %d must be unassigned", f.ID)
	}
	s.remove(f)
	r.project.releases++
	return nil, nil
}

// floatingForm is a Floating IP as the API shows it.
func floatingForm(f *floatingIP) any {
	kind, ip := "ipv4", f.Prefix.Addr().String()
	if f.Prefix.Addr().Is6() {
		kind, ip = "ipv6", f.Prefix.String()
	}
	names := []map[string]any{}
	for _, addr := range sortedAddrs(f.names) {
		names = append(names, map[string]any{"ip": addr.String(), "dns_ptr": f.names[addr]})
	}
	set := map[string]string{}
	maps.Copy(set, f.Labels)
	return map[string]any{
		"id": f.ID, "name": f.Name, "description": nullable(f.Description), "ip": ip, "type": kind,
		"server": nullable(f.Server), "dns_ptr": names, "home_location": locationNamed(f.Location), "blocked": f.Blocked,
		"protection": map[string]any{"delete": f.Protected}, "labels": set, "created": f.Created.UTC().Format(time.RFC3339),
	}
}

// within reports whether an address is the Floating IP's.
func (f *floatingIP) within(a netip.Addr) bool { return f.Prefix.Masked().Contains(a) }
