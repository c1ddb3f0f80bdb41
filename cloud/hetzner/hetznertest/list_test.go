package hetznertest_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

func protection(on bool) hcloud.FloatingIPChangeProtectionOpts {
	return hcloud.FloatingIPChangeProtectionOpts{Delete: &on}
}

// names of what a list shows.
func (w *world) names(opts hcloud.FloatingIPListOpts) []string {
	w.t.Helper()
	found, err := w.client.FloatingIP.AllWithOpts(w.t.Context(), opts)
	require.NoError(w.t, err)
	names := []string{}
	for _, f := range found {
		names = append(names, f.Name)
	}
	return names
}

// A list comes in pages, each of which costs a call, and together they show everything once.
func TestPages(t *testing.T) {
	w := newWorld(t, hetznertest.Options{})
	var want []string
	for i := range 101 {
		f, err := w.AddFloatingIP("prod", hetznertest.FloatingIP{Name: fmt.Sprintf("f%03d", i)})
		require.NoError(t, err)
		want = append(want, f.Name)
	}
	assert.Equal(t, want, w.names(hcloud.FloatingIPListOpts{}))
	assert.Equal(t, 3, w.Counts()["GET /floating_ips"])

	first, response, err := w.client.FloatingIP.List(t.Context(), hcloud.FloatingIPListOpts{})
	require.NoError(t, err)
	assert.Len(t, first, 25)
	assert.Equal(t, hcloud.Pagination{Page: 1, PerPage: 25, NextPage: 2, LastPage: 5, TotalEntries: 101}, *response.Meta.Pagination)
	last, response, err := w.client.FloatingIP.List(t.Context(), hcloud.FloatingIPListOpts{ListOpts: hcloud.ListOpts{Page: 5}})
	require.NoError(t, err)
	assert.Len(t, last, 1)
	assert.Equal(t, hcloud.Pagination{Page: 5, PerPage: 25, PreviousPage: 4, LastPage: 5, TotalEntries: 101}, *response.Meta.Pagination)
}

// Label selectors choose as the API documents it; PUT replaces every label.
func TestLabels(t *testing.T) {
	w := newWorld(t, hetznertest.Options{})
	for name, labels := range map[string]map[string]string{
		"a": {"env": "prod", "mooring.dev/pool": "p"}, "b": {"env": "dev"}, "c": {},
	} {
		_, err := w.AddFloatingIP("prod", hetznertest.FloatingIP{Name: name, Labels: labels})
		require.NoError(t, err)
	}
	for selector, want := range map[string][]string{
		"env=prod":              {"a"},
		"env==prod":             {"a"},
		"env!=prod":             {"b", "c"},
		"env":                   {"a", "b"},
		"!env":                  {"c"},
		"env in (prod,dev)":     {"a", "b"},
		"env notin (prod)":      {"b", "c"},
		"env,!mooring.dev/pool": {"b"},
		"mooring.dev/pool=p":    {"a"},
		"env=none":              {},
	} {
		got := w.names(hcloud.FloatingIPListOpts{ListOpts: hcloud.ListOpts{LabelSelector: selector}})
		assert.ElementsMatch(t, want, got, selector)
	}

	assert.Equal(t, []string{"b"}, w.names(hcloud.FloatingIPListOpts{Name: "b"}))
	assert.Empty(t, w.names(hcloud.FloatingIPListOpts{Name: "B"}))

	a, _, err := w.client.FloatingIP.GetByName(t.Context(), "a")
	require.NoError(t, err)
	got, _, err := w.client.FloatingIP.Update(t.Context(), a, hcloud.FloatingIPUpdateOpts{Labels: map[string]string{"x": "y"}})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"x": "y"}, got.Labels)
	got, _, err = w.client.FloatingIP.Update(t.Context(), a, hcloud.FloatingIPUpdateOpts{Name: "z"})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"x": "y"}, got.Labels)
	_, _, err = w.client.FloatingIP.Update(t.Context(), a, hcloud.FloatingIPUpdateOpts{Name: "b"})
	assert.Equal(t, "uniqueness_error", code(err))
}

// What was bought a moment ago is there by id and in no list; its name is taken nevertheless.
func TestListsLagBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{})
		f := w.buy("web", map[string]string{"a": "b"})
		everywhere := []hcloud.FloatingIPListOpts{{}, {Name: "web"}, {ListOpts: hcloud.ListOpts{LabelSelector: "a=b"}}}
		for _, opts := range everywhere {
			assert.Empty(t, w.names(opts))
		}
		got, _, err := w.client.FloatingIP.GetByID(t.Context(), f.ID)
		require.NoError(t, err)
		assert.Equal(t, "web", got.Name)
		_, _, err = w.client.FloatingIP.Create(t.Context(), hcloud.FloatingIPCreateOpts{
			Type: hcloud.FloatingIPTypeIPv4, HomeLocation: &hcloud.Location{Name: "fsn1"}, Name: new("web"),
		})
		assert.Equal(t, "uniqueness_error", code(err))
		<-time.After(time.Second)
		for _, opts := range everywhere {
			assert.Equal(t, []string{"web"}, w.names(opts))
		}
	})
}

// A Floating IP of IPv6 is a /64 that nobody else has.
func TestIPv6(t *testing.T) {
	w := newWorld(t, hetznertest.Options{ActionTime: -1})
	var sold []string
	for range 300 {
		got, _, err := w.client.FloatingIP.Create(t.Context(), hcloud.FloatingIPCreateOpts{
			Type: hcloud.FloatingIPTypeIPv6, Server: &hcloud.Server{ID: w.n1},
		})
		require.NoError(t, err)
		assert.Equal(t, hcloud.ActionStatusSuccess, got.Action.Status)
		ones, _ := got.FloatingIP.Network.Mask.Size()
		assert.Equal(t, 64, ones)
		assert.True(t, netip.MustParsePrefix("2001:db8:f000::/36").Contains(netip.MustParseAddr(got.FloatingIP.IP.String())))
		assert.NotContains(t, sold, got.FloatingIP.Network.String())
		sold = append(sold, got.FloatingIP.Network.String())
	}
	server, _, err := w.client.Server.GetByID(t.Context(), w.n1)
	require.NoError(t, err)
	assert.Len(t, server.PublicNet.FloatingIPs, 300)
}

// More IPv4 addresses can be had than a documentation range has, none of them twice.
func TestManyAddresses(t *testing.T) {
	w := newWorld(t, hetznertest.Options{})
	seen := map[netip.Prefix]bool{}
	for range 1000 {
		f, err := w.AddFloatingIP("prod", hetznertest.FloatingIP{})
		require.NoError(t, err)
		assert.False(t, seen[f.Prefix], "%s was sold twice", f.Prefix)
		seen[f.Prefix] = true
	}
	assert.True(t, seen[netip.MustParsePrefix("198.51.100.254/32")])
	assert.True(t, seen[netip.MustParsePrefix("203.0.113.1/32")])
	assert.True(t, seen[netip.MustParsePrefix("198.18.1.1/32")])
}
