package pool_test

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// modelAt is a port of a load balancer, modelPort one that is held.
type modelAt struct {
	host     string
	number   uint16
	protocol lb.Protocol
}

type modelPort struct {
	modelAt
	uid, pool string
	serves    lb.Port
	leaving   bool
}

func (p *modelPort) lease() lb.PortLease {
	return lb.PortLease{Pool: p.pool, Service: p.serves, Port: p.number}
}

// stays: it serves what the Service has still, and is not about to be left.
func (p *modelPort) stays(req lb.Request) bool {
	return !p.leaving && slices.ContainsFunc(req.Served(), p.serves.Same)
}

// portModel is the naive ledger of ports: the held ones in the order in which they were taken, the freed ones in the order
// in which they were freed.
type portModel struct {
	ports      []*modelPort
	freedPorts []modelAt
}

func (m *model) portAt(at modelAt) *modelPort {
	for _, p := range m.ports {
		if p.modelAt == at {
			return p
		}
	}
	return nil
}

func (m *model) portsOf(uid string) (ports []*modelPort) {
	for _, p := range m.ports {
		if p.uid == uid {
			ports = append(ports, p)
		}
	}
	return ports
}

func updater(p *config.Pool) bool { return p != nil && p.Updater != nil }

// edgeAt is the updater pool whose range contains the port.
func (m *model) edgeAt(at modelAt) *config.Pool {
	for i, p := range m.pools {
		if u := p.Updater; u != nil && u.Host == at.host && u.PortLow <= at.number && at.number <= u.PortHigh {
			return &m.pools[i]
		}
	}
	return nil
}

// belongs is the pool of a held port, in its range or not.
func (m *model) belongs(p *modelPort) *config.Pool {
	if e := m.edgeAt(p.modelAt); e != nil {
		return e
	}
	if e := m.named(p.pool); updater(e) && e.Updater.Host == p.host {
		return e
	}
	return nil
}

func (m *model) rehomePorts() {
	sorted := slices.SortedFunc(slices.Values(m.ports), func(x, y *modelPort) int {
		return cmp.Or(cmp.Compare(x.host, y.host), cmp.Compare(x.number, y.number), cmp.Compare(x.protocol, y.protocol))
	})
	for _, p := range sorted {
		if e := m.named(p.pool); m.edgeAt(p.modelAt) == nil && updater(e) {
			if moved := (modelAt{e.Updater.Host, p.number, p.protocol}); m.portAt(moved) == nil {
				p.modelAt = moved
			}
		}
		if e := m.belongs(p); e != nil {
			p.pool = e.Name
		}
	}
	m.forgetPorts(func(at modelAt) bool { return m.edgeAt(at) == nil || m.portAt(at) != nil })
}

// forgetPorts drops freed ports.
func (m *model) forgetPorts(drop func(modelAt) bool) {
	m.freedPorts = slices.DeleteFunc(m.freedPorts, drop)
}

func (m *model) takePort(uid, name string, at modelAt, serves lb.Port) *modelPort {
	p := &modelPort{modelAt: at, uid: uid, pool: name, serves: serves}
	if e := m.belongs(p); e != nil {
		p.pool = e.Name
	}
	m.ports = append(m.ports, p)
	m.forgetPorts(func(o modelAt) bool { return o == at })
	return p
}

func (m *model) releasePort(t require.TestingT, uid string, l lb.PortLease) {
	var released *modelPort
	for _, p := range m.portsOf(uid) {
		if p.pool == l.Pool && p.number == l.Port && p.protocol == l.Service.Protocol && (released == nil || p.leaving) {
			released = p
		}
	}
	require.Equal(t, released != nil, m.real.ReleasePort(uid, l.Pool, l.Port, l.Service.Protocol))
	require.Equal(t, released != nil, m.twin.ReleasePort(uid, l.Pool, l.Port, l.Service.Protocol))
	if released != nil {
		m.ports = slices.DeleteFunc(m.ports, func(p *modelPort) bool { return p == released })
		if m.edgeAt(released.modelAt) != nil {
			m.freedPorts = append(m.freedPorts, released.modelAt)
		}
	}
}

func (m *model) adoptPort(t require.TestingT, req lb.Request, l lb.PortLease) {
	at := modelAt{"pool/" + l.Pool, l.Port, l.Service.Protocol}
	if e := m.named(l.Pool); updater(e) {
		at.host = e.Updater.Host
	}
	holder := m.portAt(at)
	refusal := m.real.AdoptPort(req, l)
	require.Equal(t, refusal, m.twin.AdoptPort(req, l))
	require.Equal(t, holder == nil || holder.uid == req.UID, refusal == nil, "adoption of %s by %s", l, req.UID)
	if holder == nil {
		m.views[req.UID] = req
		m.takePort(req.UID, l.Pool, at, l.Service)
	}
}

// checkPorts compares what was decided with what was expected, and takes it over.
func (m *model) checkPorts(t require.TestingT, req lb.Request, e expected, got pool.Result, fresh int) {
	kept := m.keptPorts(req)
	switch {
	case e.way == "ports":
		require.Equal(t, e.ports, got.Ports, "%s: %v", req.UID, got.Refusal)
		require.Empty(t, got.Want)
		require.Empty(t, got.Orders)
	case e.way == "refused":
		require.NotNil(t, got.Refusal)
		require.Equal(t, kept, got.Ports, "%s is refused: %v", req.UID, got.Refusal)
		require.Zero(t, fresh+len(got.Orders))
	case e.way == "unknown":
	case fresh > 0 || got.Refusal == nil && len(got.Orders) == 0:
		require.Empty(t, got.Ports, "%s is served by addresses", req.UID)
	case len(got.Want) == 0:
		require.Equal(t, kept, got.Ports, "%s keeps its ports: %v", req.UID, got.Refusal)
	case len(got.Ports) > 0:
		require.Equal(t, kept, got.Ports)
	}
	m.takePorts(t, req, got)
}

// keptPorts are those of the Service that serve what it has still.
func (m *model) keptPorts(req lb.Request) (kept []lb.PortLease) {
	mine := m.portsOf(req.UID)
	stays := func(p *modelPort) bool { return !p.leaving }
	if len(m.leases[req.UID]) > 0 && !slices.ContainsFunc(mine, func(p *modelPort) bool { return p.stays(req) }) {
		return nil
	}
	for _, s := range req.Served() {
		here := slices.DeleteFunc(slices.Clone(mine), func(p *modelPort) bool {
			return !p.serves.Same(s) || p.host != m.mainPort(req, "").host
		})
		if i := slices.IndexFunc(here, stays); i > 0 {
			here = here[i:]
		}
		if len(here) > 0 {
			kept = append(kept, lb.PortLease{Pool: here[0].pool, Service: s, Port: here[0].number})
		}
	}
	return kept
}

func (m *model) takePorts(t require.TestingT, req lb.Request, got pool.Result) {
	m.sortPorts(req)
	mine := m.portsOf(req.UID)
	for _, p := range mine {
		p.leaving = true
	}
	var served []lb.Port
	for _, l := range got.Ports {
		served = append(served, l.Service)
		at := modelAt{number: l.Port, protocol: l.Service.Protocol}
		var p *modelPort
		for _, o := range mine {
			if o.pool == l.Pool && o.number == at.number && o.protocol == at.protocol && (p == nil || o.host == m.hostOf(l.Pool)) {
				p = o
			}
		}
		if p == nil {
			at.host = m.hostOf(l.Pool)
			require.Nil(t, m.portAt(at), "%s of %s is held by another", l, req.UID)
			require.NotNil(t, m.edgeAt(at), "%s lies in no range", l)
			p = m.takePort(req.UID, l.Pool, at, l.Service)
		}
		p.leaving, p.serves = false, l.Service
	}
	if e := req.Served(); len(got.Ports) == len(e) {
		require.Equal(t, e, served, "in the order of the served ports")
	}
	var leave []lb.PortLease
	for _, p := range m.portsOf(req.UID) {
		if p.leaving {
			leave = append(leave, p.lease())
		}
	}
	require.ElementsMatch(t, leave, got.LeavePorts, "what is held is wanted or left")
	m.sortPorts(req)
}

// sortPorts puts the Service's ports in the order of their ranks.
func (m *model) sortPorts(req lb.Request) {
	rank := func(p *modelPort) int {
		switch {
		case p.uid != req.UID:
			return 0
		case p.stays(req):
			return 1
		case slices.ContainsFunc(req.Served(), p.serves.Same):
			return 2
		}
		return 3
	}
	slices.SortStableFunc(m.ports, func(x, y *modelPort) int { return cmp.Compare(rank(x), rank(y)) })
}

func (m *model) hostOf(name string) string {
	if p := m.named(name); updater(p) {
		return p.Updater.Host
	}
	return ""
}

// comparePorts compares all that can be asked for.
func (m *model) comparePorts(t require.TestingT) {
	for uid := range m.views {
		var held []lb.PortLease
		for _, p := range m.portsOf(uid) {
			held = append(held, p.lease())
		}
		require.Equal(t, held, m.real.Ports(uid), "ports of %s", uid)
	}
	outside := 0
	for _, p := range m.ports {
		if m.edgeAt(p.modelAt) == nil {
			outside++
			require.Contains(t, m.real.OutsidePorts(), p.lease())
		}
	}
	require.Len(t, m.real.OutsidePorts(), outside)
	var usage []lb.PortUsage
	for _, p := range slices.SortedFunc(slices.Values(m.pools), func(x, y config.Pool) int { return cmp.Compare(x.Name, y.Name) }) {
		if !updater(&p) {
			require.Empty(t, unusedPorts(m.real, p.Name))
			continue
		}
		var unused []string
		for _, protocol := range []lb.Protocol{lb.TCP, lb.UDP} {
			u := lb.PortUsage{Pool: p.Name, Protocol: protocol}
			for n := p.Updater.PortLow; n <= p.Updater.PortHigh; n++ {
				u.Size++
				if m.portAt(modelAt{p.Updater.Host, n, protocol}) != nil {
					u.Used++
				} else {
					unused = append(unused, fmt.Sprintf("%d/%s", n, protocol))
				}
			}
			usage = append(usage, u)
		}
		slices.Sort(unused)
		require.Equal(t, unused, unusedPorts(m.real, p.Name))
	}
	require.Equal(t, usage, m.real.PortUsage())
}
