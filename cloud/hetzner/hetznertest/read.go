package hetznertest

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// mostActionIDs that one GET /actions answers for.
const mostActionIDs = 25

// listFloatingIPs is GET /floating_ips.
func (s *Server) listFloatingIPs(r *request) (any, *failure) {
	if failed := r.parameters("name", "label_selector", "sort", "page", "per_page"); failed != nil {
		return nil, failed
	}
	selector, failed := r.selector()
	if failed != nil {
		return nil, failed
	}
	shown := []any{}
	now := s.clock.Now()
	for _, f := range s.floatingIPs() {
		if f.project != r.project || f.listed.After(now) || selector != nil && !selector.Matches(labels.Set(f.Labels)) ||
			r.query.Has("name") && r.query.Get("name") != f.Name {
			continue
		}
		shown = append(shown, floatingForm(f))
	}
	return page(r, "floating_ips", shown)
}

// getFloatingIP is GET /floating_ips/{id}.
func (s *Server) getFloatingIP(r *request) (any, *failure) {
	if failed := r.parameters(); failed != nil {
		return nil, failed
	}
	f := s.floatingOf(r.project, r.IDs[0])
	if f == nil {
		return nil, refuse(NotFound, "floating ip with ID '%d' not found", r.IDs[0])
	}
	return map[string]any{"floating_ip": floatingForm(f)}, nil
}

// listServers is GET /servers.
func (s *Server) listServers(r *request) (any, *failure) {
	if failed := r.parameters("name", "label_selector", "sort", "status", "page", "per_page"); failed != nil {
		return nil, failed
	}
	selector, failed := r.selector()
	if failed != nil {
		return nil, failed
	}
	shown := []any{}
	for _, m := range s.sortedMachines() {
		if m.project != r.project || selector != nil && !selector.Matches(labels.Set(m.Labels)) ||
			r.query.Has("name") && r.query.Get("name") != m.Name || !r.wantsStatus(m.Status) {
			continue
		}
		shown = append(shown, s.serverForm(m))
	}
	return page(r, "servers", shown)
}

// getServer is GET /servers/{id}.
func (s *Server) getServer(r *request) (any, *failure) {
	if failed := r.parameters(); failed != nil {
		return nil, failed
	}
	m := s.machineOf(r.project, r.IDs[0])
	if m == nil {
		return nil, refuse(NotFound, "server with ID '%d' not found", r.IDs[0])
	}
	return map[string]any{"server": s.serverForm(m)}, nil
}

// listLocations is GET /locations.
func (s *Server) listLocations(r *request) (any, *failure) {
	if failed := r.parameters("name", "sort", "page", "per_page"); failed != nil {
		return nil, failed
	}
	shown := []*place{}
	for i := range places {
		if !r.query.Has("name") || r.query.Get("name") == places[i].Name {
			shown = append(shown, &places[i])
		}
	}
	return page(r, "locations", shown)
}

// getLocation is GET /locations/{id}.
func (s *Server) getLocation(r *request) (any, *failure) {
	if failed := r.parameters(); failed != nil {
		return nil, failed
	}
	for i := range places {
		if places[i].ID == r.IDs[0] {
			return map[string]any{"location": &places[i]}, nil
		}
	}
	return nil, refuse(NotFound, "location with ID '%d' not found", r.IDs[0])
}

// listActions is GET /actions, which answers for given ids alone. An id that is unknown is left out.
func (s *Server) listActions(r *request) (any, *failure) {
	// The documentation has id alone; the others are what every list takes, and clients send them.
	if failed := r.parameters("id", "sort", "status", "page", "per_page"); failed != nil {
		return nil, failed
	}
	switch asked := r.query["id"]; {
	case len(asked) == 0:
		return nil, refuse(Deprecated, "listing all actions was removed: name them by id")
	case len(r.IDs) != len(asked):
		return nil, invalid("id", "must be numbers")
	case len(asked) > mostActionIDs:
		return nil, invalid("id", "at most %d ids are allowed", mostActionIDs)
	}
	shown := []any{}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(r.IDs))) {
		if a := s.actions[id]; a != nil && a.project == r.project && r.wantsStatus(a.status()) {
			shown = append(shown, s.actionForm(a))
		}
	}
	return map[string]any{"actions": shown}, nil
}

// listFloatingActions is GET /floating_ips/actions and GET /floating_ips/{id}/actions.
func (s *Server) listFloatingActions(r *request) (any, *failure) {
	if len(r.IDs) == 0 {
		if failed := r.parameters("id", "sort", "status", "page", "per_page"); failed != nil {
			return nil, failed
		}
		ids := idsIn(r.query["id"])
		if len(ids) != len(r.query["id"]) {
			return nil, invalid("id", "must be numbers")
		}
		return s.pageOfActions(r, func(a *action) bool { return len(ids) == 0 || slices.Contains(ids, a.id) })
	}
	if failed := r.parameters("sort", "status", "page", "per_page"); failed != nil {
		return nil, failed
	}
	if s.floatingOf(r.project, r.IDs[0]) == nil {
		return nil, refuse(NotFound, "floating ip with ID '%d' not found", r.IDs[0])
	}
	return s.pageOfActions(r, func(a *action) bool { return a.floating == r.IDs[0] })
}

func (s *Server) pageOfActions(r *request, asked func(*action) bool) (any, *failure) {
	shown := []any{}
	for _, a := range slices.SortedFunc(maps.Values(s.actions), func(a, b *action) int { return cmp.Compare(a.id, b.id) }) {
		if a.project == r.project && asked(a) && r.wantsStatus(a.status()) {
			shown = append(shown, s.actionForm(a))
		}
	}
	return page(r, "actions", shown)
}

// getAction is GET /actions/{id} and its two forms below /floating_ips.
func (s *Server) getAction(r *request) (any, *failure) {
	if failed := r.parameters(); failed != nil {
		return nil, failed
	}
	id := r.IDs[len(r.IDs)-1]
	a := s.actions[id]
	if a == nil || a.project != r.project || len(r.IDs) == 2 && a.floating != r.IDs[0] {
		return nil, refuse(NotFound, "action with ID '%d' not found", id)
	}
	return map[string]any{"action": s.actionForm(a)}, nil
}

// actionForm is an action as the API shows it.
func (s *Server) actionForm(a *action) any {
	resources := []map[string]any{{"id": a.floating, "type": "floating_ip"}}
	if a.server != 0 {
		resources = append(resources, map[string]any{"id": a.server, "type": "server"})
	}
	form := map[string]any{
		"id": a.id, "command": a.command, "status": a.status(), "progress": a.progress(s.clock.Now()),
		"started": a.started.UTC().Format(time.RFC3339), "finished": nil, "resources": resources, "error": nil,
	}
	if !a.finished.IsZero() {
		form["finished"] = a.finished.UTC().Format(time.RFC3339)
	}
	if a.status() == "error" {
		form["error"] = map[string]any{"code": a.fails, "message": "the action could not be completed"}
	}
	return form
}

// nullable turns a zero value to null.
func nullable[T comparable](value T) any {
	var zero T
	if value == zero {
		return nil
	}
	return value
}

func sortedAddrs[T any](m map[netip.Addr]T) []netip.Addr {
	return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare)
}

// serverForm is a server as the API shows it.
func (s *Server) serverForm(m *machine) any {
	floating := []int64{}
	for _, f := range s.floating {
		if f.Server == m.ID {
			floating = append(floating, f.ID)
		}
	}
	slices.Sort(floating)
	public := map[string]any{"ipv4": nil, "ipv6": nil, "floating_ips": floating, "firewalls": []any{}}
	if m.IPv4.IsValid() {
		public["ipv4"] = map[string]any{"id": m.ID + 1_000_000, "ip": m.IPv4.String(), "blocked": false, "dns_ptr": m.Name + ".example.com"}
	}
	if m.IPv6.IsValid() {
		public["ipv6"] = map[string]any{"id": m.ID + 2_000_000, "ip": m.IPv6.Masked().String(), "blocked": false, "dns_ptr": []any{}}
	}
	private := []map[string]any{}
	for i, addr := range m.Private {
		private = append(private, map[string]any{
			"network": i + 1, "ip": addr.String(), "alias_ips": []any{}, "mac_address": "86:00:00:00:00:0" + strconv.Itoa(i%10),
		})
	}
	set := map[string]string{}
	maps.Copy(set, m.Labels)
	return map[string]any{
		"id": m.ID, "name": m.Name, "status": m.Status, "created": m.created.UTC().Format(time.RFC3339),
		"public_net": public, "private_net": private, "location": locationNamed(m.Location), "labels": set,
		"server_type": map[string]any{
			"id": 1, "name": m.Type, "description": m.Type, "category": "shared", "cores": 2, "memory": 4, "disk": 40,
			"storage_type": "local", "cpu_type": "shared", "architecture": "x86", "prices": []any{}, "locations": []any{},
			"deprecated": false, "deprecation": nil,
		},
		"image": nil, "iso": nil, "rescue_enabled": false, "locked": false, "backup_window": nil, "outgoing_traffic": nil,
		"ingoing_traffic": nil, "included_traffic": 0, "protection": map[string]any{"delete": false, "rebuild": false},
		"volumes": []any{}, "load_balancers": []any{}, "primary_disk_size": 40, "placement_group": nil,
	}
}
