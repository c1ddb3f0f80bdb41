package pool_test

import (
	"net/netip"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// kept addresses are no free choice.
func (m *model) kept(a netip.Addr) bool { return m.barred(a) || m.exposedBut(a, "") }

// exposedBut says whether a Service exposes the address of a pool that is not of the namespace.
func (m *model) exposedBut(a netip.Addr, namespace string) bool {
	for by, list := range m.exposed {
		if by.Namespace != namespace && m.poolOf(a) != nil && slices.Contains(list, a) {
			return true
		}
	}
	return false
}

func (m *model) expose(t require.TestingT, by lb.Ref, list []netip.Addr) {
	var ended bool
	was := map[netip.Addr]bool{}
	for _, a := range everywhere {
		was[a] = m.kept(a)
	}
	before := m.exposed[by]
	delete(m.exposed, by)
	if len(list) > 0 {
		m.exposed[by] = list
	}
	for _, a := range before {
		ended = ended || m.poolOf(a) != nil && !slices.Contains(list, a)
		m.rebar(a, was[a])
		was[a] = m.kept(a)
	}
	for _, a := range list {
		m.rebar(a, was[a])
	}
	by.UID = "whichever"
	require.Equal(t, ended, m.real.SetExposed(by, list))
	require.Equal(t, ended, m.twin.SetExposed(by, slices.Clone(list)))
}
