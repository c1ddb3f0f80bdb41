package hetzner_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/hetzner"
	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
)

const (
	project = "prod"
	secret  = "token-of-prod"
)

// world is a stand-in with a project of two servers, and the account that uses it.
type world struct {
	*hetznertest.Server
	*hetzner.Account
	t        *testing.T
	accounts *hetzner.Accounts
	file     string
	n1, n2   int64
}

// in runs a test in a bubble of time of its own.
func in(t *testing.T, options hetznertest.Options, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, options)) })
}

func newWorld(t *testing.T, options hetznertest.Options) *world {
	w := &world{Server: hetznertest.New(options), t: t, file: filepath.Join(t.TempDir(), "token")}
	t.Cleanup(w.Close)
	w.AddProject(project, secret)
	w.n1 = w.server("n1", "192.0.2.1")
	w.n2 = w.server("n2", "192.0.2.2")
	w.write(w.file, secret+"\n")
	w.accounts = hetzner.NewAccounts(hetzner.Options{Transport: w.Transport(), Version: "test"})
	account := w.at(w.file)
	require.NoError(t, w.accounts.Load(&config.Config{Hetzner: &account}))
	w.Account = w.accounts.Of(account)
	require.NotNil(t, w.Account)
	return w
}

func (w *world) write(file, content string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(file, []byte(content), 0o600))
}

// at is an account of the cloud-config.
func (w *world) at(file string) config.Account {
	return config.Account{TokenFile: file, Endpoint: hetznertest.Endpoint}
}

func (w *world) server(name, ip string) int64 {
	w.t.Helper()
	id, err := w.AddServer(project, hetznertest.Machine{
		Name: name, IPv4: netip.MustParseAddr(ip), IPv6: netip.MustParsePrefix("2001:db8:" + ip[len(ip)-1:] + "::/64"),
		Private: []netip.Addr{netip.MustParseAddr("10.0.0." + ip[len(ip)-1:])},
	})
	require.NoError(w.t, err)
	return id
}

// order for a Service of the name.
func order(service string, family lb.Family) lb.Order {
	return lb.Order{
		Owner: lb.Owner{
			ClusterUID: "9c9f8b52-0000-4000-8000-000000000001", Cluster: "demo", Pool: "bought",
			Service: lb.Ref{Namespace: "default", Name: service, UID: "12345678-0000-4000-8000-00000000000a"},
		},
		Family: family, Location: "fsn1", Labels: map[string]string{"team": "web"},
	}
}

// bought is a Floating IP that was bought for a Service called web.
func (w *world) bought() lb.FloatingIP {
	w.t.Helper()
	f, err := w.Buy(w.t.Context(), order("web", lb.IPv4))
	require.NoError(w.t, err)
	return f
}

func (w *world) fails(kind hetzner.Kind, err error) {
	w.t.Helper()
	_ = w.failsWith(kind, err)
}

// failsWith is fails for a test that looks at more than the kind.
func (w *world) failsWith(kind hetzner.Kind, err error) *hetzner.Error {
	w.t.Helper()
	var e *hetzner.Error
	require.ErrorAs(w.t, err, &e)
	assert.Equal(w.t, kind, e.Kind, "%v", err)
	return e
}

// calls of an operation so far.
func (w *world) calls(operation string) int { return w.Counts()[operation] }

const (
	create   = "POST /floating_ips"
	assign   = "POST /floating_ips/{id}/actions/assign"
	unassign = "POST /floating_ips/{id}/actions/unassign"
	put      = "PUT /floating_ips/{id}"
	remove   = "DELETE /floating_ips/{id}"
	get      = "GET /floating_ips/{id}"
	lists    = "GET /floating_ips"
	polls    = "GET /actions"
)

// The life of a bought address costs the calls that it must, and the account shows each step.
func TestLife(t *testing.T) {
	for _, family := range []lb.Family{lb.IPv4, lb.IPv6} {
		t.Run(string(family), func(t *testing.T) {
			in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
				o := order("web", family)
				f, err := w.Buy(t.Context(), o)
				require.NoError(t, err)
				assert.Equal(t, o.Owner, f.Owner)
				assert.Equal(t, family, f.Family())
				assert.Equal(t, hetzner.Name(o), f.Name)
				assert.Zero(t, f.Server)
				sold := w.FloatingIPs(project)[0]
				assert.Equal(t, sold.Prefix, f.Prefix)
				assert.Equal(t, "fsn1", sold.Location)
				assert.Equal(t, "web", sold.Labels["team"])

				require.NoError(t, w.Assign(t.Context(), f.ID, w.n1, false))
				assert.Equal(t, w.n1, w.FloatingIPs(project)[0].Server, "believed before it was so")
				f, err = w.FloatingIP(t.Context(), f.ID)
				require.NoError(t, err)
				assert.Equal(t, w.n1, f.Server)

				require.NoError(t, w.Assign(t.Context(), f.ID, w.n2, true))
				assert.Equal(t, w.n2, w.FloatingIPs(project)[0].Server)

				w.fails(hetzner.Assigned, w.Delete(t.Context(), f.ID))
				require.NoError(t, w.Unassign(t.Context(), f.ID))
				require.NoError(t, w.Delete(t.Context(), f.ID))
				require.NoError(t, w.Delete(t.Context(), f.ID), "what does not exist is deleted")
				assert.Empty(t, w.FloatingIPs(project))
				_, err = w.FloatingIP(t.Context(), f.ID)
				w.fails(hetzner.NotFound, err)

				assert.Equal(t, 1, w.calls(create))
				assert.Equal(t, 2, w.calls(assign))
				assert.Equal(t, 1, w.calls(unassign))
			})
		})
	}
}

// What is already as it is asked for is no error, such as after an answer that got lost.
func TestRepeatedRouting(t *testing.T) {
	in(t, hetznertest.Options{RefuseMoves: true}, func(t *testing.T, w *world) {
		id := w.bought().ID
		w.AddRule(hetznertest.Rule{Operation: assign, Nth: 1, Fault: hetznertest.Fault{Cut: true, AfterEffect: true}})
		w.fails(hetzner.Unknown, w.Assign(t.Context(), id, w.n1, false))
		<-time.After(time.Minute)
		require.NoError(t, w.Assign(t.Context(), id, w.n1, false))
		w.fails(hetzner.Assigned, w.Assign(t.Context(), id, w.n2, false))
		assert.Equal(t, w.n1, w.FloatingIPs(project)[0].Server)

		w.AddRule(hetznertest.Rule{Operation: unassign, Nth: 1, Fault: hetznertest.Fault{Cut: true, AfterEffect: true}})
		w.fails(hetzner.Unknown, w.Unassign(t.Context(), id))
		<-time.After(time.Minute)
		require.NoError(t, w.Unassign(t.Context(), id))

		w.ClearRules()
		require.NoError(t, w.Assign(t.Context(), id, w.n2, false))
		w.AddRule(hetznertest.Rule{Operation: unassign, Fault: hetznertest.Fault{Fail: hetznertest.ServiceError}})
		w.fails(hetzner.Temporary, w.Unassign(t.Context(), id))
		w.ClearRules()
		w.fails(hetzner.NotFound, w.Unassign(t.Context(), 1))
	})
}

// Floating IPs and servers are read whole, over as many pages as it takes.
func TestInventory(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		const many = 110
		for i := range many {
			_, err := w.AddFloatingIP(project, hetznertest.FloatingIP{Name: "other-" + strconv.Itoa(i)})
			require.NoError(t, err)
		}
		mine := w.bought()
		require.NoError(t, w.Assign(t.Context(), mine.ID, w.n2, false))
		require.NoError(t, w.Protect(mine.ID, true))
		require.NoError(t, w.Block(mine.ID, true))
		<-time.After(time.Minute)
		w.ForgetLog()

		inventory, err := w.Inventory(t.Context(), true)
		require.NoError(t, err)
		assert.Equal(t, time.Now(), inventory.Began)
		require.Len(t, inventory.FloatingIPs, many+1)
		assert.Equal(t, map[string]int{lists: 3, "GET /servers": 1}, w.Counts())
		assert.Equal(t, lb.FloatingIP{
			ID: mine.ID, Name: mine.Name, Prefix: mine.Prefix, Server: w.n2, Blocked: true, Protected: true, Owner: mine.Owner,
		}, inventory.FloatingIPs[many])
		assert.Equal(t, lb.Owner{}, inventory.FloatingIPs[0].Owner)
		require.Len(t, inventory.Servers, 2)
		assert.Equal(t, lb.Server{
			ID: w.n1, Name: "n1", Type: "cx23", Location: "fsn1", Region: "fsn1", Zone: "fsn1-dc14",
			Networks: []netip.Prefix{
				netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8:1::/64"), netip.MustParsePrefix("10.0.0.1/32"),
			},
		}, inventory.Servers[0])

		inventory, err = w.Inventory(t.Context(), false)
		require.NoError(t, err)
		assert.Nil(t, inventory.Servers)
		assert.Equal(t, 1, w.calls("GET /servers"))
	})
}

// An account without servers was read, and says so: nil would say that nobody asked.
func TestInventoryOfAnEmptyProject(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		require.NoError(t, w.DeleteServer(w.n1))
		require.NoError(t, w.DeleteServer(w.n2))
		inventory, err := w.Inventory(t.Context(), true)
		require.NoError(t, err)
		assert.NotNil(t, inventory.Servers)
		assert.Empty(t, inventory.Servers)
	})
}

// An inventory of which a part is missing is none: what it does not show would be taken for gone.
func TestInventoryIsWholeOrAnError(t *testing.T) {
	for name, rule := range map[string]hetznertest.Rule{
		"second page fails":  {Operation: lists, Nth: 2, Fault: hetznertest.Fault{Fail: hetznertest.ServerError}},
		"second page is cut": {Operation: lists, Nth: 2, Fault: hetznertest.Fault{Cut: true}},
		"servers fail":       {Operation: "GET /servers", Fault: hetznertest.Fault{Fail: hetznertest.Timeout}},
		// Meanwhile the first is deleted, so that the 51st slips into the page that was read.
		"list changes": {Operation: lists, Nth: 2, Fault: hetznertest.Fault{Delay: 10 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
				for range 60 {
					_, err := w.AddFloatingIP(project, hetznertest.FloatingIP{})
					require.NoError(t, err)
				}
				first := w.FloatingIPs(project)[0].ID
				w.AddRule(rule)
				deletion := time.AfterFunc(5*time.Second, func() { assert.NoError(t, w.DeleteFloatingIP(first)) })
				defer deletion.Stop()
				inventory, err := w.Inventory(t.Context(), true)
				w.fails(hetzner.Temporary, err)
				assert.Empty(t, inventory)
			})
		})
	}
}

// Labels of others stay, whatever is written or stripped, and nothing is written that is there already.
func TestLabel(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		f := w.bought()
		labels := w.FloatingIPs(project)[0].Labels
		labels["billing"] = "42"
		require.NoError(t, w.Server.Label(f.ID, labels))

		retained := f.Owner
		retained.Retain = true
		require.NoError(t, w.Account.Label(t.Context(), f.ID, retained))
		f, err := w.FloatingIP(t.Context(), f.ID)
		require.NoError(t, err)
		assert.Equal(t, retained, f.Owner)
		assert.Equal(t, "42", w.FloatingIPs(project)[0].Labels["billing"])
		assert.Equal(t, "web", w.FloatingIPs(project)[0].Labels["team"])

		require.NoError(t, w.Account.Label(t.Context(), f.ID, retained))
		assert.Equal(t, 1, w.calls(put))

		require.NoError(t, w.Account.Label(t.Context(), f.ID, lb.Owner{}))
		assert.Equal(t, map[string]string{"billing": "42", "team": "web"}, w.FloatingIPs(project)[0].Labels)
		w.fails(hetzner.NotFound, w.Account.Label(t.Context(), 1, retained))
	})
}

// Stripping the last labels empties them.
func TestLabelStripsAll(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		o := order("web", lb.IPv4)
		o.Labels = nil
		f, err := w.Buy(t.Context(), o)
		require.NoError(t, err)
		require.NoError(t, w.Account.Label(t.Context(), f.ID, lb.Owner{}))
		assert.Empty(t, w.FloatingIPs(project)[0].Labels)
	})
}

// A purchase whose answer was lost is found by its name, and not paid twice.
func TestBuyAfterALostAnswer(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		w.AddRule(hetznertest.Rule{Operation: create, Nth: 1, Fault: hetznertest.Fault{Cut: true, AfterEffect: true}})
		o := order("web", lb.IPv4)
		_, err := w.Buy(t.Context(), o)
		assert.True(t, w.failsWith(hetzner.Unknown, err).Uncertain)
		require.Len(t, w.FloatingIPs(project), 1)

		_, err = w.Buy(t.Context(), o)
		w.fails(hetzner.Temporary, err)
		<-time.After(2 * time.Second)
		f, err := w.Buy(t.Context(), o)
		require.NoError(t, err)
		assert.Equal(t, w.FloatingIPs(project)[0].ID, f.ID)
		assert.Equal(t, o.Owner, f.Owner)
		assert.Equal(t, 1, w.Purchases(project))
	})
}

// What has the name and belongs to another is not ours, however alike it looks.
func TestBuyUnderATakenName(t *testing.T) {
	o := order("web", lb.IPv4)
	for name, tamper := range map[string]func(labels map[string]string){
		"no labels":       func(labels map[string]string) { clear(labels) },
		"another cluster": func(labels map[string]string) { labels["mooring.dev/cluster-uid"] = "other" },
		"another Service": func(labels map[string]string) { labels["mooring.dev/service-uid"] = "other" },
		"incomplete":      func(labels map[string]string) { delete(labels, "mooring.dev/reclaim") },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, hetznertest.Options{ListLag: -1}, func(t *testing.T, w *world) {
				f := w.bought()
				labels := w.FloatingIPs(project)[0].Labels
				tamper(labels)
				require.NoError(t, w.Server.Label(f.ID, labels))
				_, err := w.Buy(t.Context(), o)
				e := w.failsWith(hetzner.NameTaken, err)
				assert.Contains(t, e.Error(), strconv.FormatInt(f.ID, 10), "which one has the name")
				assert.False(t, e.Uncertain)
				assert.Equal(t, 1, w.Purchases(project))
			})
		})
	}
}

// Nor is what has the name and the labels, but is of the other family.
func TestBuyUnderTheNameOfTheOtherFamily(t *testing.T) {
	in(t, hetznertest.Options{ListLag: -1}, func(t *testing.T, w *world) {
		f := w.bought()
		labels := w.FloatingIPs(project)[0].Labels
		require.NoError(t, w.DeleteFloatingIP(f.ID))
		_, err := w.AddIPv6(project, hetznertest.FloatingIP{Name: f.Name, Labels: labels})
		require.NoError(t, err)
		_, err = w.Buy(t.Context(), order("web", lb.IPv4))
		w.fails(hetzner.NameTaken, err)
	})
}
