package hetznertest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// A request that the API does not describe is refused, with the code and the form that the API has for it.
func TestRefusesWhatTheAPIDoesNotDescribe(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		code                     hetznertest.Code
		field                    string
	}{
		{"unknown path", "GET", "/networks", "", 404, hetznertest.NotFound, ""},
		{"id that is none", "GET", "/floating_ips/one", "", 404, hetznertest.NotFound, ""},
		{"unknown method", "PATCH", "/floating_ips/1", "", 405, hetznertest.MethodNotAllowed, ""},
		{"unknown query parameter", "GET", "/floating_ips?label=a", "", 422, hetznertest.InvalidInput, "label"},
		{"name given twice", "GET", "/floating_ips?name=a&name=b", "", 422, hetznertest.InvalidInput, "name"},
		{"too large a page", "GET", "/floating_ips?per_page=51", "", 422, hetznertest.InvalidInput, "per_page"},
		{"page zero", "GET", "/servers?page=0", "", 422, hetznertest.InvalidInput, "page"},
		{"selector that is none", "GET", "/floating_ips?label_selector=a+in", "", 422, hetznertest.InvalidInput, "label_selector"},
		{"operator of Kubernetes alone", "GET", "/floating_ips?label_selector=a%3E1", "", 422, hetznertest.InvalidInput, "label_selector"},
		{"no JSON", "POST", "/floating_ips", `{"type":`, 400, hetznertest.JSONError, ""},
		{"no object", "POST", "/floating_ips", `[]`, 400, hetznertest.JSONError, ""},
		{"unknown field", "POST", "/floating_ips", `{"type":"ipv4","home_location":"fsn1","ip":"1.2.3.4"}`, 422, hetznertest.InvalidInput, "ip"},
		{"no type", "POST", "/floating_ips", `{"home_location":"fsn1"}`, 422, hetznertest.InvalidInput, "type"},
		{"unknown type", "POST", "/floating_ips", `{"type":"IPv4","home_location":"fsn1"}`, 422, hetznertest.InvalidInput, "type"},
		{"type of another type", "POST", "/floating_ips", `{"type":4,"home_location":"fsn1"}`, 422, hetznertest.InvalidInput, "type"},
		{"neither server nor location", "POST", "/floating_ips", `{"type":"ipv4"}`, 422, hetznertest.InvalidInput, "home_location"},
		{"server and location", "POST", "/floating_ips", `{"type":"ipv4","home_location":"fsn1","server":1001}`, 422, hetznertest.InvalidInput, "home_location"},
		{"unknown location", "POST", "/floating_ips", `{"type":"ipv4","home_location":"ffm1"}`, 422, hetznertest.InvalidInput, "home_location"},
		{"unknown server", "POST", "/floating_ips", `{"type":"ipv4","server":4}`, 404, hetznertest.NotFound, ""},
		{"server by name", "POST", "/floating_ips", `{"type":"ipv4","server":"n1"}`, 422, hetznertest.InvalidInput, "server"},
		{"empty name", "POST", "/floating_ips", `{"type":"ipv4","home_location":"fsn1","name":""}`, 422, hetznertest.InvalidInput, "name"},
		{"long name", "POST", "/floating_ips", `{"type":"ipv4","home_location":"fsn1","name":"` + long + `"}`, 422, hetznertest.InvalidInput, "name"},
		{"reserved label", "POST", "/floating_ips", `{"type":"ipv4","home_location":"fsn1","labels":{"hetzner.cloud/a":"b"}}`, 422, hetznertest.InvalidInput, "labels"},
		{"long label value", "POST", "/floating_ips", `{"type":"ipv4","home_location":"fsn1","labels":{"a":"` + long + `"}}`, 422, hetznertest.InvalidInput, "labels"},
		{"label value with a slash", "POST", "/floating_ips", `{"type":"ipv4","home_location":"fsn1","labels":{"a":"b/c"}}`, 422, hetznertest.InvalidInput, "labels"},
		{"label key with a blank", "POST", "/floating_ips", `{"type":"ipv4","home_location":"fsn1","labels":{"a b":"c"}}`, 422, hetznertest.InvalidInput, "labels"},
		{"label that is null", "PUT", "/floating_ips/1003", `{"labels":{"a":null}}`, 422, hetznertest.InvalidInput, "labels"},
		{"labels that are null", "PUT", "/floating_ips/1003", `{"labels":null}`, 422, hetznertest.InvalidInput, "labels"},
		{"no server to assign to", "POST", "/floating_ips/1003/actions/assign", `{}`, 422, hetznertest.InvalidInput, "server"},
		{"unassign with a field", "POST", "/floating_ips/1003/actions/unassign", `{"server":1001}`, 422, hetznertest.InvalidInput, "server"},
		{"unassign what is not assigned", "POST", "/floating_ips/1003/actions/unassign", `{}`, 422, hetznertest.ServiceError, ""},
		{"protection of nothing", "POST", "/floating_ips/1003/actions/change_protection", `{}`, 422, hetznertest.InvalidInput, "delete"},
		{"name for a foreign address", "POST", "/floating_ips/1003/actions/change_dns_ptr", `{"ip":"192.0.2.1","dns_ptr":null}`, 422, hetznertest.InvalidInput, "ip"},
		{"all actions", "GET", "/actions", "", 410, hetznertest.Deprecated, ""},
		{"actions by name", "GET", "/actions?id=a", "", 422, hetznertest.InvalidInput, "id"},
		{"too many actions", "GET", "/actions?id=" + strings.Repeat("1&id=", 25) + "1", "", 422, hetznertest.InvalidInput, "id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, hetznertest.Options{})
			_, err := w.AddFloatingIP("prod", hetznertest.FloatingIP{Name: "web"})
			require.NoError(t, err)
			before := w.FloatingIPs("prod")

			got := w.send(tt.method, tt.path, tt.body)
			assert.Equal(t, tt.status, got.status, got.body)
			assert.Equal(t, "application/json", got.header.Get("Content-Type"))
			var refused struct {
				Error struct {
					Code    hetznertest.Code
					Message string
					Details *struct {
						Fields []struct{ Name string }
					}
				}
			}
			require.NoError(t, json.Unmarshal([]byte(got.body), &refused))
			assert.Equal(t, tt.code, refused.Error.Code, got.body)
			assert.NotEmpty(t, refused.Error.Message)
			if tt.field != "" {
				require.NotNil(t, refused.Error.Details, got.body)
				assert.Equal(t, tt.field, refused.Error.Details.Fields[0].Name)
			}
			assert.Equal(t, before, w.FloatingIPs("prod"), "a refused request has changed something")
		})
	}
}

// Every call needs a token that is known, changes need one that may write, and another project's things do not exist.
func TestTokens(t *testing.T) {
	w := newWorld(t, hetznertest.Options{})
	f := w.buy("web", nil)
	w.AddToken("prod", "reader", true)
	w.AddProject("dev", "foreign")

	_, err := w.clientOf("", "nonsense").FloatingIP.All(t.Context())
	assert.Equal(t, "unauthorized", code(err))
	_, err = w.clientOf("", "reader").FloatingIP.All(t.Context())
	require.NoError(t, err)
	_, err = w.clientOf("", "reader").FloatingIP.Delete(t.Context(), f)
	assert.Equal(t, "token_readonly", code(err))
	_, err = w.clientOf("", "foreign").FloatingIP.Delete(t.Context(), f)
	assert.Equal(t, "not_found", code(err))
	w.RevokeToken(secret)
	_, err = w.client.FloatingIP.All(t.Context())
	assert.Equal(t, "unauthorized", code(err))
	assert.Len(t, w.FloatingIPs("prod"), 1)

	for _, r := range w.Log() {
		for _, token := range []string{secret, "nonsense", "reader", "foreign"} {
			assert.NotContains(t, fmt.Sprintf("%+v", r), token, "the log has a token")
		}
	}
}

// What is in one project does not exist for another one, whoever knows its id.
func TestProjectsDoNotSeeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{ListLag: -1})
		w.AddProject("dev", "foreign")
		foreign := w.clientOf("", "foreign")
		ours, err := w.AddFloatingIP("prod", hetznertest.FloatingIP{Name: "web"})
		require.NoError(t, err)
		theirs, err := w.AddFloatingIP("dev", hetznertest.FloatingIP{Name: "web"})
		require.NoError(t, err)
		action, _, err := w.client.FloatingIP.Assign(t.Context(), &hcloud.FloatingIP{ID: ours.ID}, &hcloud.Server{ID: w.n1})
		require.NoError(t, err)

		all, err := foreign.FloatingIP.All(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		assert.Equal(t, theirs.ID, all[0].ID)
		servers, err := foreign.Server.All(t.Context())
		require.NoError(t, err)
		assert.Empty(t, servers)
		server, _, err := foreign.Server.GetByID(t.Context(), w.n1)
		require.NoError(t, err)
		assert.Nil(t, server)
		got, _, err := foreign.Action.GetByID(t.Context(), action.ID)
		require.NoError(t, err)
		assert.Nil(t, got)
		actions, err := foreign.FloatingIP.Action.All(t.Context(), hcloud.ActionListOpts{})
		require.NoError(t, err)
		assert.Empty(t, actions)
		_, _, err = foreign.FloatingIP.Assign(t.Context(), &hcloud.FloatingIP{ID: theirs.ID}, &hcloud.Server{ID: w.n1})
		assert.Equal(t, "not_found", code(err))
		_, _, err = foreign.FloatingIP.Create(t.Context(), hcloud.FloatingIPCreateOpts{
			Type: hcloud.FloatingIPTypeIPv4, Server: &hcloud.Server{ID: w.n1},
		})
		assert.Equal(t, "not_found", code(err))
		misplaced := w.send(http.MethodGet, fmt.Sprintf("/floating_ips/%d/actions/%d", theirs.ID, action.ID), "")
		assert.Equal(t, http.StatusNotFound, misplaced.status)
		found := w.send(http.MethodGet, fmt.Sprintf("/floating_ips/%d/actions/%d", ours.ID, action.ID), "")
		assert.Equal(t, http.StatusOK, found.status)
		other, err := w.AddFloatingIP("prod", hetznertest.FloatingIP{})
		require.NoError(t, err)
		misplaced = w.send(http.MethodGet, fmt.Sprintf("/floating_ips/%d/actions/%d", other.ID, action.ID), "")
		assert.Equal(t, http.StatusNotFound, misplaced.status)
		<-time.After(time.Second)
	})
}

// Names are unique in a project and free again after a release, and the number of Floating IPs is limited.
func TestPurchasesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, hetznertest.Options{ActionTime: -1})
		f := w.buy("web", nil)
		got := w.send(http.MethodPost, "/floating_ips", `{"type":"ipv6","home_location":"2","name":"web"}`)
		assert.Equal(t, http.StatusConflict, got.status, got.body)
		w.SetLimit("prod", 1)
		got = w.send(http.MethodPost, "/floating_ips", `{"type":"ipv6","home_location":"2"}`)
		assert.Equal(t, http.StatusForbidden, got.status, got.body)
		assert.Contains(t, got.body, `"resource_limit_exceeded"`)
		assert.Equal(t, 1, w.Purchases("prod"))

		require.NoError(t, w.Protect(f.ID, true))
		_, err := w.client.FloatingIP.Delete(t.Context(), f)
		assert.Equal(t, "protected", code(err))
		action, _, err := w.client.FloatingIP.ChangeProtection(t.Context(), f, protection(false))
		require.NoError(t, err)
		require.NoError(t, w.client.Action.WaitFor(t.Context(), action))
		_, err = w.client.FloatingIP.Delete(t.Context(), f)
		require.NoError(t, err)
		again := w.buy("web", nil)
		assert.NotEqual(t, f.ID, again.ID)
		assert.NotEqual(t, f.IP, again.IP, "an address was sold twice")
	})
}

// Nobody can tell from an answer that he talks to a stand-in because a server's name was used before.
func TestServersComeAndGo(t *testing.T) {
	w := newWorld(t, hetznertest.Options{})
	_, err := w.AddServer("prod", hetznertest.Machine{Name: "n1"})
	require.Error(t, err, "two servers have one name")
	require.NoError(t, w.RenameServer(w.n1, "n9"))
	successor := w.server("prod", "n1", "192.0.2.9")
	server, _, err := w.client.Server.GetByName(t.Context(), "n1")
	require.NoError(t, err)
	assert.Equal(t, successor, server.ID)
	require.NoError(t, w.DeleteServer(w.n1))
	server, _, err = w.client.Server.GetByID(t.Context(), w.n1)
	require.NoError(t, err)
	assert.Nil(t, server)
	server, _, err = w.client.Server.GetByID(t.Context(), w.n2)
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.2", server.PublicNet.IPv4.IP.String())
	assert.Equal(t, "2001:db8:1::/64", server.PublicNet.IPv6.Network.String())
	assert.Equal(t, "10.0.0.1", server.PrivateNet[0].IP.String())
	assert.Equal(t, "cx23", server.ServerType.Name)
	assert.Equal(t, "eu-central", string(server.Location.NetworkZone))
}
