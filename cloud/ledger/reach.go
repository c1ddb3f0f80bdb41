package ledger

import (
	"fmt"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/place"
)

// targetsOf are the nodes that a Service can be reached on from outside of the cluster.
func (l *Ledger) targetsOf(pool string, s *service, memo targetsMemo) place.Targets {
	r := l.reach(pool, &s.request)
	if r.Local {
		return place.TargetsOf(r, l.candidates)
	}
	key := ""
	if s.request.NodeSelector != nil {
		key = s.request.NodeSelector.String()
	}
	key = fmt.Sprint(pool, " ", r.Families, " ", key)
	if t, ok := memo[key]; ok {
		return t
	}
	t := place.TargetsOf(r, l.candidates)
	if memo != nil {
		memo[key] = t
	}
	return t
}

// reach is what a pool and a Service ask of a target.
func (l *Ledger) reach(pool string, request *lb.Request) place.Reach {
	r := place.Reach{Families: request.Families, Local: request.Local}
	if p := l.pools[pool]; p != nil && p.Updater != nil {
		r.Types, r.IgnoreExcludeLabel = p.Updater.NodeAddressTypes, p.IgnoreExcludeLabel
		r.Selectors = append(r.Selectors, p.NodeSelector)
	}
	if request.NodeSelector != nil {
		r.Selectors = append(r.Selectors, request.NodeSelector)
	}
	if r.Local {
		r.EndpointNodes = map[string]bool{}
		for _, n := range request.EndpointNodes {
			r.EndpointNodes[n] = true
		}
	}
	return r
}
