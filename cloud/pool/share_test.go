package pool_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/pool"
)

// Services with one key share an address on different ports, and are refused on equal ones, whatever the way in which
// they ask for it.
func TestSharing(t *testing.T) {
	tests := map[string]struct {
		first, second lb.Request
		reason        lb.Reason
		says          []string
	}{
		"other port":                     {web("default/a", key("k")), web("default/b", key("k"), port(443, "TCP")), "", nil},
		"other protocol":                 {web("default/a", key("k")), web("default/b", key("k"), port(80, "UDP")), "", nil},
		"same port":                      {web("default/a", key("k")), web("default/b", key("k")), lb.ReasonSharingConflict, []string{"80/TCP", "192.0.2.5", "Service default/a", `"k"`}},
		"other namespace":                {web("default/a", key("k")), web("other/b", key("k"), port(443, "TCP")), lb.ReasonAddressInUse, []string{"Service default/a"}},
		"other key":                      {web("default/a", key("k")), web("default/b", key("l"), port(443, "TCP")), lb.ReasonAddressInUse, []string{"Service default/a"}},
		"no key":                         {web("default/a"), web("default/b", port(443, "TCP")), lb.ReasonAddressInUse, []string{"Service default/a"}},
		"both Local, same selector":      {web("default/a", key("k"), local("app=a")), web("default/b", key("k"), port(443, "TCP"), local("app=a")), "", nil},
		"both Local, different selector": {web("default/a", key("k"), local("app=a")), web("default/b", key("k"), port(443, "TCP"), local("app=b")), lb.ReasonSharingConflict, []string{"spec.selector", "Service default/a"}},
		"one Local, different selector":  {web("default/a", key("k"), local("app=a")), web("default/b", key("k"), port(443, "TCP")), lb.ReasonSharingConflict, []string{"externalTrafficPolicy"}},
		"reserved by externalIPs":        {web("default/a", key("k"), external("192.0.2.5")), web("default/b", key("k"), port(443, "TCP")), lb.ReasonAddressInUse, []string{"Service default/a", "spec.externalIPs"}},
		"Cluster, different selectors": {
			web("default/a", key("k"), func(r *lb.Request) { r.PodSelector = "app=a" }), web("default/b", key("k"), port(443, "TCP")), "", nil,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := pool.New(office())
			first := test.first
			if len(first.ExternalIPs) == 0 {
				first = with(first, askFor("192.0.2.5"))
			}
			gets(t, a, first, "192.0.2.5@office")
			second := with(test.second, loadBalancerIP("192.0.2.5"))
			if test.reason != "" {
				refused(t, a, second, nil, test.reason, test.says...)
				return
			}
			gets(t, a, second, "192.0.2.5@office")
			assert.Equal(t, leases("192.0.2.5@office"), a.Leases(first.UID), "the first one keeps it")
			assert.Equal(t, uint64(1), a.Usage()[0].Used)
			assert.False(t, a.Release("default/a", addr("192.0.2.5")), "the other one still holds it")
			release(t, a, "default/b", "192.0.2.5")
		})
	}
}

// One key is one address: later Services go to it without asking for it, and do not get another one when they
// do not fit.
func TestKeyLeadsToItsAddress(t *testing.T) {
	a := pool.New([]config.Pool{aPool("office", "192.0.2.0/28"), aPool("zoo", "198.51.100.0/28,2001:db8::/124", named)})
	gets(t, a, web("default/first"), "192.0.2.0@office")
	gets(t, a, web("default/a", key("k"), inPool("zoo")), "198.51.100.0@zoo")
	gets(t, a, web("default/b", key("k"), port(443, "TCP")), "198.51.100.0@zoo")
	refused(t, a, web("default/c", key("k")), nil, lb.ReasonSharingConflict, "80/TCP", "198.51.100.0", "Service default/a")
	gets(t, a, web("other/c", key("k")), "192.0.2.1@office")
	gets(t, a, web("default/d", key("k"), inPool("office")), "192.0.2.2@office")

	// The lower one first, and the next when it does not fit.
	gets(t, a, web("default/e", key("k"), port(81, "TCP")), "192.0.2.2@office")
	refused(t, a, web("default/f", key("k"), port(81, "TCP"), inPool("office")), nil, lb.ReasonSharingConflict, "81/TCP")
	gets(t, a, web("default/g", key("k"), port(443, "TCP")), "192.0.2.2@office")
	gets(t, a, web("default/h", key("k"), port(82, "TCP"), inPool("zoo")), "198.51.100.0@zoo")
}

// The key's address is not reachable for every Service that has the key.
func TestKeyWhoseAddressIsClosed(t *testing.T) {
	b := web("default/b", key("k"), port(443, "TCP"))
	t.Run("the pool does not serve the Service", func(t *testing.T) {
		a := pool.New([]config.Pool{aPool("office", "192.0.2.0/28", services("expose=true")), aPool("lab", "198.51.100.0/28", prio(-1))})
		gets(t, a, web("default/a", key("k"), labelled("true", "")), "192.0.2.0@office")
		refused(t, a, b, nil, lb.ReasonSharingConflict, "192.0.2.0", `"office"`, "expose=true")
	})
	t.Run("quarantined", func(t *testing.T) {
		a := pool.New(office())
		gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
		a.Quarantine(addr("192.0.2.0"))
		refused(t, a, b, nil, lb.ReasonSharingConflict, "192.0.2.0", "quarantined")
	})
	t.Run("in no pool any more", func(t *testing.T) {
		a := pool.New(office())
		gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
		a.SetPools([]config.Pool{aPool("lab", "198.51.100.0/28")})
		refused(t, a, b, nil, lb.ReasonSharingConflict, "192.0.2.0", `"office"`)
	})
	t.Run("reserved, so it is not the key's", func(t *testing.T) {
		a := pool.New(office())
		gets(t, a, web("default/a", key("k"), external("192.0.2.0")), "192.0.2.0@office")
		gets(t, a, b, "192.0.2.1@office")
	})
	t.Run("about to be left, so it is not the key's", func(t *testing.T) {
		a := pool.New(office())
		gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
		require.Len(t, a.Assign(web("default/a", key("k"), askFor("192.0.2.7"))).Leave, 1)
		gets(t, a, b, "192.0.2.7@office")
	})
	t.Run("the key's last Service is gone", func(t *testing.T) {
		a := pool.New(office())
		gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
		release(t, a, "default/a", "192.0.2.0")
		gets(t, a, b, "192.0.2.1@office")
	})
	t.Run("one family of two fits", func(t *testing.T) {
		a := pool.New(office())
		gets(t, a, web("default/a", key("k")), "192.0.2.0@office")
		dual := web("default/b", key("k"), families(lb.PreferDualStack, lb.IPv4, lb.IPv6))
		refused(t, a, dual, []string{"2001:db8::@office"}, lb.ReasonSharingConflict, "80/TCP")
		gets(t, a, with(dual, port(443, "TCP")), "192.0.2.0@office", "2001:db8::@office")
	})
}

// Services that share an address come to clash: none loses it, both are told, and both are well when it is mended.
func TestClashOfLiveServices(t *testing.T) {
	a := pool.New(office())
	x, y := web("default/x", key("k")), web("default/y", key("k"), port(443, "TCP"))
	gets(t, a, x, "192.0.2.0@office")
	gets(t, a, y, "192.0.2.0@office")
	for name, edit := range map[string]func(*lb.Request){"port": port(80, "TCP"), "policy": edits(port(443, "TCP"), local("app=y"))} {
		t.Run(name, func(t *testing.T) {
			refused(t, a, with(y, edit), []string{"192.0.2.0@office"}, lb.ReasonSharingConflict, "Service default/x")
			refused(t, a, x, []string{"192.0.2.0@office"}, lb.ReasonSharingConflict, "Service default/y")
			gets(t, a, y, "192.0.2.0@office")
			gets(t, a, x, "192.0.2.0@office")
		})
	}
}

func edits(edits ...func(*lb.Request)) func(*lb.Request) {
	return func(r *lb.Request) { *r = with(*r, edits...) }
}

// A Service that shares gives up its key, or reserves the address: the older one keeps it, the younger one moves, or
// stays and is told when there is nowhere to go.
func TestSharingEnds(t *testing.T) {
	for name, edit := range map[string]func(*lb.Request){
		"key removed": key(""), "key changed": key("l"), "reserved": external("192.0.2.0"),
	} {
		t.Run(name+" by the older", func(t *testing.T) {
			a := pool.New(office())
			older, younger := web("default/z", key("k")), web("default/a", key("k"), port(443, "TCP"), born(1))
			gets(t, a, older, "192.0.2.0@office")
			gets(t, a, younger, "192.0.2.0@office")
			gets(t, a, with(older, edit), "192.0.2.0@office")
			moves(t, a, younger, []string{"192.0.2.1@office"}, []string{"192.0.2.0@office"})
			gets(t, a, with(older, edit), "192.0.2.0@office")
		})
	}
	t.Run("key removed by the younger", func(t *testing.T) {
		a := pool.New(office())
		older, younger := web("default/z", key("k")), web("default/a", key("k"), port(443, "TCP"), born(1))
		gets(t, a, younger, "192.0.2.0@office")
		gets(t, a, older, "192.0.2.0@office")
		got := a.Assign(with(younger, key("")))
		require.Equal(t, got.Want, leases("192.0.2.1@office"))
		gets(t, a, older, "192.0.2.0@office")
		// The older one goes before the younger one has left: it does not swing back.
		require.False(t, a.Release(older.UID, addr("192.0.2.0")))
		moves(t, a, with(younger, key("")), []string{"192.0.2.1@office"}, []string{"192.0.2.0@office"})
	})
	t.Run("by an older one that is leaving", func(t *testing.T) {
		a := pool.New(office())
		older, younger := web("default/z", key("k")), web("default/a", key("k"), port(443, "TCP"), born(1))
		gets(t, a, older, "192.0.2.0@office")
		gets(t, a, younger, "192.0.2.0@office")
		require.Equal(t, leases("192.0.2.0@office"), a.Assign(with(older, key(""), askFor("192.0.2.9"))).Leave)
		gets(t, a, younger, "192.0.2.0@office")
	})
	t.Run("nowhere to go", func(t *testing.T) {
		a := pool.New([]config.Pool{aPool("tiny", "192.0.2.0")})
		older, younger := web("default/z", key("k")), web("default/a", key("k"), port(443, "TCP"), born(1))
		gets(t, a, older, "192.0.2.0@tiny")
		gets(t, a, younger, "192.0.2.0@tiny")
		gets(t, a, with(older, key("")), "192.0.2.0@tiny")
		refused(t, a, younger, []string{"192.0.2.0@tiny"}, lb.ReasonSharingConflict, "older Service default/z", "pool tiny: all 1 IPv4 addresses are in use")
		require.False(t, a.Release(older.UID, addr("192.0.2.0")))
		gets(t, a, younger, "192.0.2.0@tiny")
	})
	t.Run("the younger asks for that very address", func(t *testing.T) {
		a := pool.New(office())
		older, younger := web("default/z", key("k")), web("default/a", key("k"), port(443, "TCP"), born(1), askFor("192.0.2.0"))
		gets(t, a, older, "192.0.2.0@office")
		gets(t, a, younger, "192.0.2.0@office")
		refused(t, a, with(younger, key("")), []string{"192.0.2.0@office"}, lb.ReasonAddressInUse, "Service default/z")
		gets(t, a, older, "192.0.2.0@office")
	})
	t.Run("of one age, by name", func(t *testing.T) {
		a := pool.New(office())
		gets(t, a, web("default/b", key("k")), "192.0.2.0@office")
		gets(t, a, web("default/a", key("k"), port(443, "TCP")), "192.0.2.0@office")
		gets(t, a, web("default/a", port(443, "TCP")), "192.0.2.0@office")
		moves(t, a, web("default/b", key("k")), []string{"192.0.2.1@office"}, []string{"192.0.2.0@office"})
	})
}
