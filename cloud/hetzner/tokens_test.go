package hetzner_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/hetzner"
	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// tokens is a stand-in with two projects, and a directory of token files.
type tokens struct {
	*hetznertest.Server
	t        *testing.T
	dir      string
	accounts *hetzner.Accounts
}

func newTokens(t *testing.T) *tokens {
	w := &tokens{Server: hetznertest.New(hetznertest.Options{}), t: t, dir: t.TempDir()}
	t.Cleanup(w.Close)
	for _, secret := range []string{"secret-1", "secret-1-renewed"} {
		w.AddProject("first", secret)
	}
	w.AddProject("second", "secret-2")
	for project, name := range map[string]string{"first": "n1", "second": "n2"} {
		_, err := w.AddServer(project, hetznertest.Machine{Name: name})
		require.NoError(t, err)
	}
	w.accounts = hetzner.NewAccounts(hetzner.Options{Transport: w.Transport()})
	return w
}

func (w *tokens) at(file string) config.Account {
	return config.Account{TokenFile: filepath.Join(w.dir, file), Endpoint: hetznertest.Endpoint}
}

func (w *tokens) write(file, content string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(filepath.Join(w.dir, file), []byte(content), 0o600))
}

// conf is a cloud-config whose default account has the first file, and whose pools have the others.
func (w *tokens) conf(files ...string) *config.Config {
	var cfg config.Config
	for i, file := range files {
		if account := w.at(file); i == 0 {
			cfg.Hetzner = &account
		} else {
			cfg.Pools = append(cfg.Pools, config.Pool{Hetzner: &config.HetznerPool{Account: account}})
		}
	}
	return &cfg
}

// shows is the server that an account has in its project.
func (w *tokens) shows(a *hetzner.Account) string {
	w.t.Helper()
	require.NotNil(w.t, a)
	inventory, err := a.Inventory(w.t.Context(), true)
	require.NoError(w.t, err)
	require.Len(w.t, inventory.Servers, 1)
	return inventory.Servers[0].Name
}

func (w *tokens) reread() []*hetzner.Account {
	w.t.Helper()
	changed, err := w.accounts.Reread()
	require.NoError(w.t, err)
	return changed
}

// One token is one account, and one rate limit, in however many files it stands.
func TestPoolsShareAnAccount(t *testing.T) {
	w := newTokens(t)
	w.write("a", "secret-1\n")
	w.write("b", "secret-1")
	w.write("c", "secret-2")
	require.NoError(t, w.accounts.Load(w.conf("a", "b", "c", "a")))
	a, b, c := w.accounts.Of(w.at("a")), w.accounts.Of(w.at("b")), w.accounts.Of(w.at("c"))
	assert.Same(t, a, b)
	assert.Equal(t, []*hetzner.Account{a, c}, w.accounts.All())
	assert.Equal(t, "n1", w.shows(a))
	assert.Equal(t, "n2", w.shows(c))
	assert.Equal(t, "api.hetzner.cloud/v1 "+filepath.Join(w.dir, "a"), a.Key())
	assert.Nil(t, w.accounts.Of(w.at("d")))

	elsewhere := w.at("a")
	elsewhere.Endpoint = "http://127.0.0.1:8080/v1"
	cfg := w.conf("a")
	cfg.Pools = []config.Pool{{Hetzner: &config.HetznerPool{Account: elsewhere}}, {}}
	require.NoError(t, w.accounts.Load(cfg))
	assert.Same(t, a, w.accounts.Of(w.at("a")), "what was there stays")
	assert.NotSame(t, a, w.accounts.Of(elsewhere), "a token is known to one endpoint")
	assert.Nil(t, w.accounts.Of(w.at("c")))
}

// A file that cannot be used is named with what to do, all of them at once, and what was loaded stays.
func TestBadTokenFiles(t *testing.T) {
	w := newTokens(t)
	w.write("good", "secret-1")
	require.NoError(t, w.accounts.Load(w.conf("good")))
	before := w.accounts.All()
	for file, content := range map[string]string{
		"empty": " \n", "lines": "secret-3\nx\n", "control": "secret-3\x00", "umlaut": "secret-ä", "inside": "a secret-3", "long": strings.Repeat("x", 5000),
	} {
		w.write(file, content)
	}
	err := w.accounts.Load(w.conf("good", "missing", "empty", "lines", "control", "umlaut", "inside", "long"))
	require.Error(t, err)
	mistakes := strings.Split(err.Error(), "\n")
	require.Len(t, mistakes, 7)
	for i, file := range []string{"missing", "empty", "lines", "control", "umlaut", "inside", "long"} {
		assert.Contains(t, mistakes[i], filepath.Join(w.dir, file))
		assert.Contains(t, mistakes[i], ": write")
	}
	assert.NotContains(t, err.Error(), "secret")
	assert.NotContains(t, err.Error(), "xxx")
	assert.Equal(t, before, w.accounts.All())
}

// A new token is used when it was accepted, and not before.
func TestCandidate(t *testing.T) {
	w := newTokens(t)
	w.write("a", "secret-1")
	require.NoError(t, w.accounts.Load(w.conf("a")))
	a := w.accounts.Of(w.at("a"))
	assert.Empty(t, w.reread())
	assert.Nil(t, a.Candidate())

	w.write("a", "secret-1-renewed")
	assert.Equal(t, []*hetzner.Account{a}, w.reread())
	assert.Empty(t, w.reread(), "it is offered once")
	candidate := a.Candidate()
	assert.Equal(t, a.Key(), candidate.Key())
	assert.Equal(t, "n1", w.shows(candidate))
	require.True(t, candidate.Accept())
	assert.Nil(t, a.Candidate())
	w.RevokeToken("secret-1")
	assert.Equal(t, "n1", w.shows(a), "the new token is in use")
	assert.Empty(t, w.reread())
	assert.False(t, candidate.Accept(), "once")
}

// A token of another project is refused; the good one stays, and the same content is not offered again.
func TestRejectedCandidate(t *testing.T) {
	w := newTokens(t)
	w.write("a", "secret-1")
	require.NoError(t, w.accounts.Load(w.conf("a")))
	a := w.accounts.Of(w.at("a"))
	w.write("a", "secret-2")
	w.reread()
	require.Equal(t, "n2", w.shows(a.Candidate()))
	require.True(t, a.Candidate().Reject("it shows none of our servers"))
	assert.Equal(t, "it shows none of our servers", a.Rejected())
	assert.Empty(t, w.reread())
	assert.Nil(t, a.Candidate())
	assert.Equal(t, "n1", w.shows(a))
	require.NoError(t, w.accounts.Load(w.conf("a")))
	assert.Equal(t, "n1", w.shows(w.accounts.Of(w.at("a"))), "a reload does not bring it in")

	w.write("a", "secret-1")
	assert.Empty(t, w.reread())
	assert.Empty(t, a.Rejected())
	w.write("a", "secret-2")
	assert.Len(t, w.reread(), 1, "written again, it is judged again")
}

// A verdict on a token holds for that token: the file may have changed while it was judged.
func TestFileChangesWhileItIsJudged(t *testing.T) {
	w := newTokens(t)
	w.write("a", "secret-1")
	require.NoError(t, w.accounts.Load(w.conf("a")))
	a := w.accounts.Of(w.at("a"))
	w.write("a", "secret-1-renewed")
	w.reread()
	judged := a.Candidate()
	w.write("a", "secret-2")
	assert.Len(t, w.reread(), 1)
	assert.False(t, judged.Accept())
	assert.False(t, judged.Reject("stale"))
	assert.NotNil(t, a.Candidate())
	assert.Equal(t, "n1", w.shows(a))

	w.write("a", "secret-1")
	assert.Empty(t, w.reread())
	assert.Nil(t, a.Candidate(), "the file holds what is in use")
}

// A file that cannot be read changes nothing, and keeps no other from being read.
func TestRereadOfABadFile(t *testing.T) {
	w := newTokens(t)
	w.write("a", "secret-1")
	w.write("b", "secret-2")
	require.NoError(t, w.accounts.Load(w.conf("a", "b")))
	a, b := w.accounts.Of(w.at("a")), w.accounts.Of(w.at("b"))
	require.NoError(t, os.Remove(filepath.Join(w.dir, "a")))
	w.write("b", "secret-1-renewed")
	changed, err := w.accounts.Reread()
	require.ErrorContains(t, err, filepath.Join(w.dir, "a"))
	assert.Equal(t, []*hetzner.Account{b}, changed)
	assert.Equal(t, "n1", w.shows(a))

	w.write("a", "secret-1")
	w.write("b", "secret-1")
	require.NoError(t, w.accounts.Load(w.conf("a")))
	require.NoError(t, w.accounts.Load(w.conf("a", "b")))
	require.Same(t, a, w.accounts.Of(w.at("b")))
	require.NoError(t, os.Remove(filepath.Join(w.dir, "a")))
	w.write("b", "secret-2")
	changed, err = w.accounts.Reread()
	require.Error(t, err)
	assert.Empty(t, changed, "a shared account follows its first file")
}

// Pools part when their files do, each with the token that was in use until its own is accepted; a reload joins what
// uses the same again.
func TestFilesPartAndJoin(t *testing.T) {
	w := newTokens(t)
	w.write("a", "secret-1")
	w.write("b", "secret-1")
	require.NoError(t, w.accounts.Load(w.conf("a", "b")))
	shared := w.accounts.Of(w.at("a"))

	w.write("a", "secret-1-renewed")
	w.write("b", "secret-1-renewed")
	assert.Equal(t, []*hetzner.Account{shared}, w.reread(), "renewed together they stay together")
	require.True(t, shared.Candidate().Accept())

	w.write("b", "secret-2")
	changed := w.reread()
	own := w.accounts.Of(w.at("b"))
	assert.NotSame(t, shared, own)
	assert.Equal(t, []*hetzner.Account{own}, changed)
	assert.Equal(t, []*hetzner.Account{shared, own}, w.accounts.All())
	assert.NotEqual(t, shared.Key(), own.Key())
	assert.Equal(t, "n1", w.shows(own), "the last good token, until the new one is proven")
	assert.Equal(t, "n2", w.shows(own.Candidate()))
	assert.Nil(t, shared.Candidate())

	w.write("b", "secret-1-renewed")
	assert.Empty(t, w.reread())
	require.NoError(t, w.accounts.Load(w.conf("a", "b")))
	assert.Same(t, shared, w.accounts.Of(w.at("b")))
}

// The file that gave the account its name changes: the other pools go on as they are.
func TestFirstFileParts(t *testing.T) {
	w := newTokens(t)
	w.write("a", "secret-1")
	w.write("b", "secret-1")
	require.NoError(t, w.accounts.Load(w.conf("a", "b")))
	shared := w.accounts.Of(w.at("a"))
	w.write("a", "secret-2")
	changed := w.reread()
	own := w.accounts.Of(w.at("b"))
	assert.Equal(t, []*hetzner.Account{shared, own}, changed)
	assert.NotNil(t, shared.Candidate())
	assert.Nil(t, own.Candidate())
	assert.Equal(t, "n1", w.shows(own))
	require.True(t, shared.Candidate().Accept())
	assert.Equal(t, "n2", w.shows(shared))

	require.NoError(t, w.accounts.Load(w.conf("b")))
	assert.Equal(t, []*hetzner.Account{own}, w.accounts.All())
}

// All accounts count into the same metrics, which know neither a token nor an id.
func TestMetrics(t *testing.T) {
	w := newTokens(t)
	registry := prometheus.NewRegistry()
	w.accounts = hetzner.NewAccounts(hetzner.Options{Transport: w.Transport(), Registerer: registry})
	w.write("a", "secret-1")
	w.write("b", "secret-2")
	require.NoError(t, w.accounts.Load(w.conf("a", "b")))
	w.shows(w.accounts.Of(w.at("a")))
	w.shows(w.accounts.Of(w.at("b")))
	families, err := registry.Gather()
	require.NoError(t, err)
	calls := 0.0
	for _, family := range families {
		if family.GetName() == "hcloud_api_requests_total" {
			for _, metric := range family.GetMetric() {
				calls += metric.GetCounter().GetValue()
			}
		}
		assert.NotContains(t, family.String(), "secret")
	}
	assert.InDelta(t, 4, calls, 0)
}

// The first server of a token's project may become a Node later, so a token that was rejected is judged again after a
// while.
func TestRejectedCandidateIsOfferedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTokens(t)
		w.write("a", "secret-1")
		require.NoError(t, w.accounts.Load(w.conf("a")))
		a := w.accounts.Of(w.at("a"))
		w.write("a", "secret-2")
		w.reread()
		require.True(t, a.Candidate().Reject("it shows none of our servers"))
		<-time.After(10 * time.Minute)
		assert.Len(t, w.reread(), 1)
	})
}
