package hetznertest

import (
	"net/http"
	"strconv"
	"strings"
)

// operation is one that the API has.
type operation struct {
	// name is the method and the path's template, as the log says it.
	name   string
	method string
	path   []string
	// status of an answer that tells success.
	status int
	// listsActions: ids come in the query.
	listsActions bool
	// run judges the request and does what it asks for.
	run func(*Server, *request) (any, *failure)
}

var operations = []*operation{
	op("GET /locations", http.StatusOK, (*Server).listLocations),
	op("GET /locations/{id}", http.StatusOK, (*Server).getLocation),
	op("GET /servers", http.StatusOK, (*Server).listServers),
	op("GET /servers/{id}", http.StatusOK, (*Server).getServer),
	op("GET /actions", http.StatusOK, (*Server).listActions),
	op("GET /actions/{id}", http.StatusOK, (*Server).getAction),
	op("GET /floating_ips", http.StatusOK, (*Server).listFloatingIPs),
	op("POST /floating_ips", http.StatusCreated, changing((*Server).buy)),
	// Before those with an id, which is a number.
	op("GET /floating_ips/actions", http.StatusOK, (*Server).listFloatingActions),
	op("GET /floating_ips/actions/{id}", http.StatusOK, (*Server).getAction),
	op("GET /floating_ips/{id}", http.StatusOK, (*Server).getFloatingIP),
	op("PUT /floating_ips/{id}", http.StatusOK, changing((*Server).update)),
	op("DELETE /floating_ips/{id}", http.StatusNoContent, changing((*Server).release)),
	op("GET /floating_ips/{id}/actions", http.StatusOK, (*Server).listFloatingActions),
	op("GET /floating_ips/{id}/actions/{action_id}", http.StatusOK, (*Server).getAction),
	op("POST /floating_ips/{id}/actions/assign", http.StatusCreated, changing((*Server).assign)),
	op("POST /floating_ips/{id}/actions/unassign", http.StatusCreated, changing((*Server).unassign)),
	op("POST /floating_ips/{id}/actions/change_protection", http.StatusCreated, changing((*Server).changeProtection)),
	op("POST /floating_ips/{id}/actions/change_dns_ptr", http.StatusCreated, changing((*Server).changeDNSPtr)),
}

func op(name string, status int, run func(*Server, *request) (any, *failure)) *operation {
	method, path, _ := strings.Cut(name, " ")
	return &operation{
		name: name, method: method, path: strings.Split(path[1:], "/"), status: status,
		listsActions: name == "GET /actions", run: run,
	}
}

// changing refuses tokens that may only read.
func changing(run func(*Server, *request) (any, *failure)) func(*Server, *request) (any, *failure) {
	return func(s *Server, r *request) (any, *failure) {
		if r.readOnly {
			return nil, refuse(TokenReadonly, "the token is only allowed to perform GET requests")
		}
		return run(s, r)
	}
}

// find the operation of a request and the ids in its path; known: the path has operations, though none of the method.
func find(method, path string) (found *operation, ids []int64, known bool) {
	rest, ok := strings.CutPrefix(path, "/v1/")
	if !ok {
		return nil, nil, false
	}
	parts := strings.Split(rest, "/")
	for _, o := range operations {
		got, fits := o.fits(parts)
		if !fits {
			continue
		}
		known = true
		if o.method == method {
			return o, got, true
		}
	}
	return nil, nil, known
}

func (o *operation) fits(parts []string) (ids []int64, ok bool) {
	if len(parts) != len(o.path) {
		return nil, false
	}
	for i, want := range o.path {
		if !strings.HasPrefix(want, "{") {
			if parts[i] != want {
				return nil, false
			}
			continue
		}
		id, err := strconv.ParseInt(parts[i], 10, 64)
		if err != nil || id <= 0 {
			return nil, false
		}
		ids = append(ids, id)
	}
	return ids, true
}
