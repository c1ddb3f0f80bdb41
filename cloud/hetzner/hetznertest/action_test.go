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
	})
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
