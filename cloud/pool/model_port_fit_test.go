package pool_test

import (
	"slices"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// expected is what the model says of a Service: which way it goes, and with which ports when it goes that way.
type expected struct {
	// way is ports, addresses, refused, or unknown.
	way   string
	ports []lb.PortLease
}

// expect says what Assign should do about ports. It is asked before Assign.
func (m *model) expect(req lb.Request) expected {
	way, p := m.way(req)
	if way != "ports" {
		return expected{way: way}
	}
	grants, fail := m.fit(req, p)
	for _, g := range grants {
		if fail == "" && m.portAt(g.modelAt) == nil && m.closed[g.pool] {
			fail = "closed"
		}
	}
	if fail != "" {
		return expected{way: "refused"}
	}
	e := expected{way: "ports"}
	for _, g := range grants {
		e.ports = append(e.ports, g.lease())
	}
	return e
}

func (m *model) way(req lb.Request) (string, *config.Pool) {
	named := m.named(req.Pool)
	mine := m.portsOf(req.UID)
	inNamed := slices.ContainsFunc(mine, func(p *modelPort) bool { return p.pool == req.Pool })
	stays := slices.ContainsFunc(mine, func(p *modelPort) bool { return p.stays(req) })
	switch {
	case len(m.asked(req)) > 0 && updater(named):
		return "refused", nil
	case len(m.asked(req)) > 0:
		return "addresses", nil
	case updater(named) && (inNamed || serves(*named, req)):
		return "ports", named
	case updater(named):
		return "refused", nil
	case req.Pool != "" && named == nil && inNamed:
		return "ports", nil
	case req.Pool != "":
		return "addresses", nil
	case stays || len(mine) > 0 && len(m.leases[req.UID]) == 0:
		if home := m.named(m.mainPort(req, "").pool); updater(home) {
			return "ports", home
		}
		return "ports", nil
	case len(m.leases[req.UID]) > 0:
		return "addresses", nil
	case slices.ContainsFunc(m.orders, func(o modelOrder) bool { return o.uid == req.UID }):
		return "unknown", nil
	}
	families := req.Families
	if req.FamilyPolicy == lb.SingleStack {
		families = families[:1]
	}
	for _, f := range families {
		if len(m.addressesOfKey(req, f)) > 0 {
			return "addresses", nil
		}
	}
	wished := false
	for _, p := range slices.SortedFunc(slices.Values(m.pools), preferred) {
		if !serves(p, req) || !p.AutoAssign {
			continue
		}
		if updater(&p) {
			_, fail := m.fit(req, &p)
			if fail == "" {
				return "ports", &p
			}
			wished = wished || fail == "wish"
			continue
		}
		for _, f := range families {
			if _, from := m.next(with(req, inPool(p.Name)), f); from != "" && wished {
				return "refused", nil
			} else if from != "" {
				return "addresses", nil
			}
		}
	}
	return "addresses", nil
}

// mainPort is the first port that stays, else the first that serves, else the first.
func (m *model) mainPort(req lb.Request, name string) *modelPort {
	mine := slices.DeleteFunc(m.portsOf(req.UID), func(p *modelPort) bool { return name != "" && p.pool != name })
	if i := slices.IndexFunc(mine, func(p *modelPort) bool { return p.stays(req) }); i >= 0 {
		return mine[i]
	}
	if i := slices.IndexFunc(mine, func(p *modelPort) bool { return slices.ContainsFunc(req.Served(), p.serves.Same) }); i >= 0 {
		return mine[i]
	}
	if len(mine) > 0 {
		return mine[0]
	}
	return nil
}

// fit finds the ports of a Service in a pool, or says what is missing: supported, wish, room, pool.
func (m *model) fit(req lb.Request, p *config.Pool) (grants []*modelPort, fail string) {
	served := req.Served()
	if req.SourceRanges || req.ClientIP || req.NoNodePorts || req.FamilyPolicy == lb.RequireDualStack ||
		slices.ContainsFunc(served, func(p lb.Port) bool { return p.Protocol == lb.SCTP }) {
		return nil, "supported"
	}
	grants = make([]*modelPort, len(served))
	here := func(o *modelPort) bool {
		if p == nil {
			return o.host == m.mainPort(req, req.Pool).host && (req.Pool == "" || o.pool == req.Pool)
		}
		return o.host == p.Updater.Host && (req.Pool == "" || o.pool == req.Pool)
	}
	granted := func(at modelAt) bool {
		return slices.ContainsFunc(grants, func(g *modelPort) bool { return g != nil && g.modelAt == at })
	}
	grant := func(i int, at modelAt, name string) {
		grants[i] = &modelPort{modelAt: at, uid: req.UID, pool: name, serves: served[i]}
	}
	for i, s := range served {
		w, _ := req.Wish(s)
		if w.Port == 0 {
			continue
		}
		var mine *modelPort
		for _, o := range m.portsOf(req.UID) {
			if o.number == w.Port && o.protocol == s.Protocol && here(o) {
				mine = o
			}
		}
		if mine != nil {
			for _, other := range served {
				if ow, _ := req.Wish(other); !mine.leaving && !other.Same(s) && other.Same(mine.serves) && ow.Port == 0 {
					return nil, "wish"
				}
			}
			grant(i, mine.modelAt, mine.pool)
			continue
		}
		if p == nil {
			return nil, "pool"
		}
		at := modelAt{p.Updater.Host, w.Port, s.Protocol}
		if e := m.edgeAt(at); e == nil || e.Name != p.Name || m.portAt(at) != nil {
			return nil, "wish"
		}
		grant(i, at, p.Name)
	}
	for i, s := range served {
		for _, leaving := range []bool{false, true} {
			for _, o := range m.portsOf(req.UID) {
				if grants[i] == nil && here(o) && o.leaving == leaving && o.serves.Same(s) && !granted(o.modelAt) {
					grant(i, o.modelAt, o.pool)
				}
			}
		}
		if grants[i] == nil && p == nil {
			return nil, "pool"
		}
	}
	for _, stage := range []string{"own", "unused", "freed"} {
		for i, s := range served {
			for _, at := range m.candidates(stage, p, s) {
				if grants[i] == nil && m.portAt(at) == nil && !granted(at) {
					grant(i, at, p.Name)
				}
			}
		}
	}
	for _, g := range grants {
		if g == nil {
			return nil, "room"
		}
		if m.portAt(g.modelAt) == nil && !serves(*p, req) {
			return nil, "pool"
		}
	}
	return grants, ""
}

func (m *model) candidates(stage string, p *config.Pool, s lb.Port) (all []modelAt) {
	if p == nil {
		return nil
	}
	add := func(at modelAt) {
		if e := m.edgeAt(at); e != nil && e.Name == p.Name && at.protocol == s.Protocol {
			all = append(all, at)
		}
	}
	switch stage {
	case "own":
		add(modelAt{p.Updater.Host, s.Number, s.Protocol})
	case "unused":
		for n := range uint16(200) {
			if at := (modelAt{p.Updater.Host, n, s.Protocol}); !slices.Contains(m.freedPorts, at) {
				add(at)
			}
		}
	case "freed":
		for _, at := range m.freedPorts {
			add(at)
		}
	}
	return all
}
