package hetznertest_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// While an action runs nothing else may change its Floating IP, and its progress can be followed.
func TestRunningActionLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{ActionTime: 4 * time.Second})
		f := w.buy("web", nil)
		action, _, err := w.client.FloatingIP.Assign(t.Context(), f, &hcloud.Server{ID: w.n1})
		require.NoError(t, err)
		for what, change := range map[string]func() error{
			"assign": func() error {
				_, _, err := w.client.FloatingIP.Assign(t.Context(), f, &hcloud.Server{ID: w.n2})
				return err
			},
			"unassign": func() error { _, _, err := w.client.FloatingIP.Unassign(t.Context(), f); return err },
			"delete":   func() error { _, err := w.client.FloatingIP.Delete(t.Context(), f); return err },
			"label": func() error {
				_, _, err := w.client.FloatingIP.Update(t.Context(), f, hcloud.FloatingIPUpdateOpts{Labels: map[string]string{"a": "b"}})
				return err
			},
		} {
			assert.Equal(t, "locked", code(change()), what)
		}
		<-time.After(2 * time.Second)
		got, _, err := w.client.Action.GetByID(t.Context(), action.ID)
		require.NoError(t, err)
		assert.Equal(t, hcloud.ActionStatusRunning, got.Status)
		assert.InDelta(t, 50, got.Progress, 1)
		<-time.After(2 * time.Second)
		got, _, err = w.client.Action.GetByID(t.Context(), action.ID)
		require.NoError(t, err)
		assert.Equal(t, hcloud.ActionStatusSuccess, got.Status)
		assert.Equal(t, 4*time.Second, got.Finished.Sub(got.Started))
		_, _, err = w.client.FloatingIP.Unassign(t.Context(), f)
		require.NoError(t, err)
	})
}

// An assignment takes the place of another one, or is refused where the test asks for it, and always when nothing is to
// change.
func TestAssignWhatIsAssigned(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, hetznertest.Options{RefuseMoves: refuses})
			f, err := w.AddFloatingIP("prod", hetznertest.FloatingIP{Server: w.n1})
			require.NoError(t, err)
			_, _, err = w.client.FloatingIP.Assign(t.Context(), &hcloud.FloatingIP{ID: f.ID}, &hcloud.Server{ID: w.n1})
			assert.Equal(t, "floating_ip_assigned", code(err))
			_, _, err = w.client.FloatingIP.Assign(t.Context(), &hcloud.FloatingIP{ID: f.ID}, &hcloud.Server{ID: w.n2})
			if refuses {
				assert.Equal(t, "floating_ip_assigned", code(err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, w.n1, w.FloatingIPs("prod")[0].Server, "the old server has it until the action has ended")
			<-time.After(time.Second)
			assert.Equal(t, w.n2, w.FloatingIPs("prod")[0].Server)
		})
	}
}

// Many actions are asked for in one call, and those of a Floating IP in its own list.
func TestActionsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{})
		w.AddProject("dev", "foreign")
		var actions []*hcloud.Action
		for range 30 {
			f, err := w.AddFloatingIP("prod", hetznertest.FloatingIP{})
			require.NoError(t, err)
			action, _, err := w.client.FloatingIP.Assign(t.Context(), &hcloud.FloatingIP{ID: f.ID}, &hcloud.Server{ID: w.n1})
			require.NoError(t, err)
			actions = append(actions, action)
			own, _, err := w.client.FloatingIP.Action.GetByID(t.Context(), action.ID)
			require.NoError(t, err)
			assert.Equal(t, "assign_floating_ip", own.Command)
			listed, err := w.client.FloatingIP.Action.AllFor(t.Context(), &hcloud.FloatingIP{ID: f.ID}, hcloud.ActionListOpts{})
			require.NoError(t, err)
			require.Len(t, listed, 1)
			assert.Equal(t, action.ID, listed[0].ID)
		}
		foreign, err := w.clientOf("", "foreign").Action.AllWithOpts(t.Context(), hcloud.ActionListOpts{ID: []int64{actions[0].ID}})
		require.NoError(t, err)
		assert.Empty(t, foreign)
		w.ForgetLog()
		<-time.After(time.Second)
		require.NoError(t, w.client.Action.WaitFor(t.Context(), actions...))
		assert.Equal(t, 2, w.Counts()["GET /actions"])
		assert.Len(t, w.Log()[0].IDs, 25)
	})
}

// A server that goes takes the routing with it: an assignment to it that is under way ends in an error.
func TestServerIsDeletedUnderAnAction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type route struct {
			prefix netip.Prefix
			server int64
		}
		var routes []route
		w := newWorld(t, hetznertest.Options{OnRoute: func(p netip.Prefix, s int64) { routes = append(routes, route{p, s}) }})
		held, err := w.AddFloatingIP("prod", hetznertest.FloatingIP{Server: w.n1})
		require.NoError(t, err)
		f := w.buy("web", nil)
		action, _, err := w.client.FloatingIP.Assign(t.Context(), f, &hcloud.Server{ID: w.n1})
		require.NoError(t, err)
		require.NoError(t, w.DeleteServer(w.n1))
		_, err = w.client.FloatingIP.Delete(t.Context(), &hcloud.FloatingIP{ID: held.ID})
		assert.Equal(t, "locked", code(err))
		require.Error(t, w.client.Action.WaitFor(t.Context(), action))
		for _, f := range w.FloatingIPs("prod") {
			assert.Zero(t, f.Server)
			assert.Zero(t, f.Running)
		}
		assert.Equal(t, []route{{held.Prefix, w.n1}, {held.Prefix, 0}}, routes)
		_, err = w.client.FloatingIP.Delete(t.Context(), &hcloud.FloatingIP{ID: held.ID})
		require.NoError(t, err)
	})
}

// Where the test asks for it, a server takes part in one action at a time.
func TestServersLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{LockServers: true})
		first, second := w.buy("a", nil), w.buy("b", nil)
		_, _, err := w.client.FloatingIP.Assign(t.Context(), first, &hcloud.Server{ID: w.n1})
		require.NoError(t, err)
		_, _, err = w.client.FloatingIP.Assign(t.Context(), second, &hcloud.Server{ID: w.n1})
		assert.Equal(t, "locked", code(err))
		_, _, err = w.client.FloatingIP.Assign(t.Context(), second, &hcloud.Server{ID: w.n2})
		require.NoError(t, err)
		<-time.After(time.Second)
		w.assign(second.ID, w.n1)
		_, _, err = w.client.FloatingIP.Unassign(t.Context(), first)
		require.NoError(t, err)
		_, _, err = w.client.FloatingIP.Unassign(t.Context(), second)
		assert.Equal(t, "locked", code(err))
		_, _, err = w.client.FloatingIP.Create(t.Context(), hcloud.FloatingIPCreateOpts{
			Type: hcloud.FloatingIPTypeIPv4, Server: &hcloud.Server{ID: w.n1},
		})
		assert.Equal(t, "locked", code(err))
		assert.Equal(t, 2, w.Purchases("prod"))
		<-time.After(time.Second)
	})
}

// What people do by hand at the console happens at once, and packets follow it.
func TestByHand(t *testing.T) {
	var routes []int64
	w := newWorld(t, hetznertest.Options{OnRoute: func(_ netip.Prefix, s int64) { routes = append(routes, s) }})
	f, err := w.AddIPv6("prod", hetznertest.FloatingIP{Name: "web", Location: "hel1"})
	require.NoError(t, err)
	require.NoError(t, w.Label(f.ID, map[string]string{"a": "b"}))
	require.NoError(t, w.Block(f.ID, true))
	require.NoError(t, w.Route(f.ID, w.n1))
	got, _, err := w.client.FloatingIP.GetByID(t.Context(), f.ID)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "b"}, got.Labels)
	assert.Equal(t, f.Prefix.String(), got.Network.String())
	assert.Equal(t, "hel1", got.HomeLocation.Name)
	assert.Equal(t, w.n1, got.Server.ID)
	assert.True(t, got.Blocked)
	require.NoError(t, w.DeleteFloatingIP(f.ID))
	assert.Equal(t, []int64{w.n1, 0}, routes)
	for _, err := range []error{w.Label(f.ID, nil), w.Block(f.ID, true), w.Route(f.ID, 0), w.Protect(f.ID, true), w.DeleteFloatingIP(f.ID)} {
		require.ErrorContains(t, err, "there is no floating ip")
	}
	assert.Zero(t, w.Purchases("prod"))
	assert.Zero(t, w.Releases("prod"))
}

// Packets go the new way when the answer says so, not a moment later.
func TestRoutesBeforeTheAnswer(t *testing.T) {
	var routes []int64
	w := newWorld(t, hetznertest.Options{ActionTime: -1, OnRoute: func(_ netip.Prefix, s int64) { routes = append(routes, s) }})
	f := w.buy("web", nil)
	w.assign(f.ID, w.n1)
	assert.Equal(t, []int64{w.n1}, routes)
}

// The reverse DNS entry is changed and taken back.
func TestReverseDNS(t *testing.T) {
	w := newWorld(t, hetznertest.Options{ActionTime: -1})
	f := w.buy("web", nil)
	for _, name := range []*string{new("web.example.com"), nil} {
		_, _, err := w.client.FloatingIP.ChangeDNSPtr(t.Context(), f, f.IP.String(), name)
		require.NoError(t, err)
		got, _, err := w.client.FloatingIP.GetByID(t.Context(), f.ID)
		require.NoError(t, err)
		if name == nil {
			assert.Empty(t, got.DNSPtr)
		} else {
			assert.Equal(t, map[string]string{f.IP.String(): *name}, got.DNSPtr)
		}
	}
}
