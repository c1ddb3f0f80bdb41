package pool_test

import (
	"net/netip"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
)

// checkAsked: addresses that are asked for come all, and in order, or nothing new comes.
func (m *model) checkAsked(t require.TestingT, req lb.Request, refusal *lb.Refusal, want, fresh []netip.Addr) {
	asked := m.asked(req)
	if len(asked) == 0 {
		return
	}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		other := func(a netip.Addr) bool { return lb.FamilyOf(a) != f }
		of := slices.DeleteFunc(slices.Clone(asked), other)
		served := slices.DeleteFunc(slices.Clone(want), other)
		if len(of) > 0 && !slices.Equal(of, served) {
			require.NotNil(t, refusal, "%v asked, %v served", asked, want)
			require.Empty(t, fresh, "%v asked and refused, %v served", asked, want)
		}
	}
}

func (m *model) asked(req lb.Request) []netip.Addr {
	asked := req.Addresses
	if len(asked) == 0 {
		asked = slices.DeleteFunc(slices.Clone(req.ExternalIPs), func(a netip.Addr) bool {
			return m.home(a) == nil && !slices.Contains(m.holders[a], req.UID)
		})
	}
	if len(asked) == 0 && req.LoadBalancerIP.IsValid() {
		asked = []netip.Addr{req.LoadBalancerIP}
	}
	var once []netip.Addr
	for _, a := range asked {
		if !slices.Contains(once, a) {
			once = append(once, a)
		}
	}
	return once
}

// checkFresh: a new address comes from a pool that serves the Service, is shared with friends only, and is the one that
// was asked for, that the key has, or that is next.
func (m *model) checkFresh(t require.TestingT, req lb.Request, a netip.Addr) {
	p := m.home(a)
	require.NotNil(t, p, "%s lies in a pool", a)
	require.True(t, serves(*p, req), "pool %s serves %s", p.Name, req.UID)
	require.False(t, m.barred(a), "%s is given out", a)
	require.False(t, m.exposedBut(a, req.Namespace), "%s is given to %s and exposed by others", a, req.UID)
	require.False(t, m.closed[p.Name] && len(m.holders[a]) == 0, "%s comes from a closed pool", a)
	require.Contains(t, req.Families, lb.FamilyOf(a))
	if req.Pool != "" {
		require.Equal(t, req.Pool, p.Name)
	}
	for _, uid := range m.holders[a] {
		require.True(t, friendly(req, m.views[uid], a) && compatible(req, m.views[uid]), "%s shares %s with %s", req.UID, a, uid)
	}
	if slices.Contains(m.asked(req), a) {
		return
	}
	if keyed := m.addressesOfKey(req, lb.FamilyOf(a)); len(keyed) > 0 {
		fits := slices.IndexFunc(keyed, func(k netip.Addr) bool {
			p := m.home(k)
			return p != nil && serves(*p, req) && !m.barred(k) && !m.exposedBut(k, req.Namespace) && !slices.ContainsFunc(m.holders[k], func(uid string) bool {
				return !friendly(req, m.views[uid], k) || !compatible(req, m.views[uid])
			})
		})
		require.GreaterOrEqual(t, fits, 0, "%s gets %s beside its key's %v", req.UID, a, keyed)
		require.Equal(t, keyed[fits], a, "the first of its key's that fits")
		return
	}
	next, _ := m.next(req, lb.FamilyOf(a))
	require.Equal(t, next, a, "the next one for %s", req.UID)
}

// addressesOfKey are those that others of the Service's key hold, may share and do not leave.
func (m *model) addressesOfKey(req lb.Request, f lb.Family) []netip.Addr {
	var found []netip.Addr
	for _, a := range everywhere {
		p := m.home(a)
		if lb.FamilyOf(a) != f || req.Pool != "" && (p == nil || p.Name != req.Pool) {
			continue
		}
		if slices.ContainsFunc(m.holders[a], func(uid string) bool {
			o := m.views[uid]
			return uid != req.UID && req.SharingKey != "" && o.SharingKey == req.SharingKey && o.Namespace == req.Namespace &&
				!slices.Contains(m.leaving[uid], a) && !reserves(o, a)
		}) {
			found = append(found, a)
		}
	}
	return found
}

// next is what a free choice falls on: pools in order, and in each what was never used before what was freed, or an
// order. Neither an address nor a pool: there is nothing.
func (m *model) next(req lb.Request, f lb.Family) (netip.Addr, string) {
	pools := slices.DeleteFunc(slices.Clone(m.pools), func(p config.Pool) bool {
		return p.Addresses == nil && !buyer(&p) || !serves(p, req) || !p.AutoAssign && p.Name != req.Pool || req.Pool != "" && p.Name != req.Pool
	})
	slices.SortFunc(pools, preferred)
	for _, p := range pools {
		if buyer(&p) {
			if buys(&p, f) && m.had(&p, req.UID, f) < limit(&p) {
				return netip.Addr{}, p.Name
			}
			continue
		}
		for _, a := range world {
			if lb.FamilyOf(a) == f && p.Addresses.Contains(a) && len(m.holders[a]) == 0 && !m.kept(a) && !slices.Contains(m.freed, a) {
				return a, p.Name
			}
		}
		for _, a := range m.freed {
			if lb.FamilyOf(a) == f && p.Addresses.Contains(a) {
				return a, p.Name
			}
		}
	}
	return netip.Addr{}, ""
}

func (m *model) checkExhausted(t require.TestingT, req lb.Request) {
	for _, f := range req.Families {
		if _, from := m.next(req, f); from == "" {
			return
		}
	}
	if m.scarce(req) {
		return
	}
	require.Fail(t, "refused as exhausted although every family has a free address")
}

// servable says of a Service that holds nothing whether it could have all that it asks for. It may say no too often for
// a Service with a key, whose addresses are not free to choose.
func (m *model) servable(req lb.Request) bool {
	asked := m.asked(req)
	families := req.Families
	if req.FamilyPolicy == lb.SingleStack {
		families = families[:1]
	}
	for _, a := range asked {
		p := m.poolOf(a)
		if p == nil || !serves(*p, req) || m.barred(a) || m.exposedBut(a, req.Namespace) || m.closed[p.Name] || req.Pool != "" && req.Pool != p.Name || !slices.Contains(families, lb.FamilyOf(a)) {
			return false
		}
		for _, uid := range m.holders[a] {
			if !friendly(req, m.views[uid], a) || !compatible(req, m.views[uid]) {
				return false
			}
		}
	}
	served := 0
	for _, f := range families {
		_, from := m.next(req, f)
		free := from != "" && !m.closed[from] && req.SharingKey == "" && !m.scarce(req)
		if free || slices.ContainsFunc(asked, func(a netip.Addr) bool { return lb.FamilyOf(a) == f }) {
			served++
		}
	}
	return served == len(families) || served > 0 && req.FamilyPolicy == lb.PreferDualStack
}

// checkKept: what is held stays when nothing else is asked for, and when what is asked for is refused.
func (m *model) checkKept(t require.TestingT, req lb.Request, refusal *lb.Refusal, way string, before, want, fresh []netip.Addr) {
	if way == "ports" {
		return
	}
	asked := m.asked(req)
	for i, f := range req.Families {
		if i > 0 && req.FamilyPolicy == lb.SingleStack {
			break
		}
		mine := slices.DeleteFunc(slices.Clone(before), func(a netip.Addr) bool { return lb.FamilyOf(a) != f })
		staying := slices.DeleteFunc(slices.Clone(mine), func(a netip.Addr) bool { return slices.Contains(m.leaving[req.UID], a) })
		alone := func(a netip.Addr) bool {
			return !slices.ContainsFunc(m.holders[a], func(uid string) bool { return uid != req.UID && !friendly(req, m.views[uid], a) })
		}
		if len(asked) == 0 && req.Pool == "" && slices.ContainsFunc(mine, alone) {
			require.False(t, slices.ContainsFunc(fresh, func(a netip.Addr) bool { return lb.FamilyOf(a) == f }), "%v is held, why %v?", mine, fresh)
			require.Empty(t, m.ordered(req.UID, f), "%v is held, why order another?", mine)
			if len(staying) == 1 && alone(staying[0]) {
				require.Contains(t, want, staying[0], "no swinging back to what was left")
			}
		}
		done := len(asked) > 0 && !slices.ContainsFunc(asked, func(a netip.Addr) bool { return !slices.Contains(want, a) })
		if refusal != nil && len(fresh) == 0 && !done && len(staying) == 1 && (req.Pool == "" || m.pool[staying[0]] == req.Pool || len(mine) == 1) && alone(staying[0]) {
			require.Contains(t, want, staying[0], "refused, so it keeps what it has: %s", refusal)
		}
	}
}
