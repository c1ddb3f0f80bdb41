package hetznertest

import (
	"math"
	"slices"
)

// Paging of every list.
const (
	defaultPerPage = 25
	mostPerPage    = 50
)

type pagination struct {
	Page         int  `json:"page"`
	PerPage      int  `json:"per_page"`
	PreviousPage *int `json:"previous_page"`
	NextPage     *int `json:"next_page"`
	LastPage     int  `json:"last_page"`
	TotalEntries int  `json:"total_entries"`
}

// page cuts out of a list what the request asks for, and says under which key it stands.
func page[T any](r *request, key string, all []T) (any, *failure) {
	at, failed := number(r.query, "page", 1, math.MaxInt32)
	if failed != nil {
		return nil, failed
	}
	per, failed := number(r.query, "per_page", defaultPerPage, mostPerPage)
	if failed != nil {
		return nil, failed
	}
	p := pagination{Page: at, PerPage: per, LastPage: max(1, (len(all)+per-1)/per), TotalEntries: len(all)}
	if at > 1 {
		p.PreviousPage = new(at - 1)
	}
	if at < p.LastPage {
		p.NextPage = new(at + 1)
	}
	begin := min((at-1)*per, len(all))
	shown := append([]T{}, all[begin:min(begin+per, len(all))]...)
	return map[string]any{key: shown, "meta": map[string]any{"pagination": p}}, nil
}

// wantsStatus reports whether the request asks for things in that status, among others or for all.
func (r *request) wantsStatus(status string) bool {
	return !r.query.Has("status") || slices.Contains(r.query["status"], status)
}
