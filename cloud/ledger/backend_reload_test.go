package ledger

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

const twoHosts = `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: blue
  updater: {urls: ["http://192.0.2.1:3000/api/v1/lb"], host: 192.0.2.1, portRange: {low: 8100, high: 8102}}
- name: green
  updater: {urls: ["http://192.0.2.2:3000/api/v1/lb"], host: 192.0.2.2, portRange: {low: 8100, high: 8102}}
`

// TestPoolsSwapNames: each Service stays on its host, and its backend with it.
func TestPoolsSwapNames(t *testing.T) {
	w := newProxyWorld(t, twoHosts, "n1")
	a := w.create("a", web, func(r *lb.Request) { r.Ports[0].NodePort = 30001 })
	w.settle()
	b := w.create("b", web, func(r *lb.Request) { r.Pool, r.Ports[0].NodePort = "green", 30002 })
	w.settle()
	w.services[b].Pool = ""
	w.settle()
	require.Equal(t, "192.0.2.1", w.services[a].host)
	require.Equal(t, "192.0.2.2", w.services[b].host)
	w.cfg = parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: green
  updater: {urls: ["http://192.0.2.1:3000/api/v1/lb"], host: 192.0.2.1, portRange: {low: 8100, high: 8102}}
- name: blue
  updater: {urls: ["http://192.0.2.2:3000/api/v1/lb"], host: 192.0.2.2, portRange: {low: 8100, high: 8102}}
`)
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	require.NotPanics(t, func() { assert.Equal(t, "192.0.2.1", w.ledger.View(a).Host) })
	assert.True(t, w.ledger.View(b).Ports[0].Ready)
	w.settle()
	assert.Equal(t, "192.0.2.1", w.services[a].host)
	assert.Equal(t, "192.0.2.2", w.services[b].host)
	assert.EqualValues(t, 30001, w.proxy.told[BackendKey{"green", 8100, lb.TCP}].Targets[0].Port())
	assert.EqualValues(t, 30002, w.proxy.told[BackendKey{"blue", 8100, lb.TCP}].Targets[0].Port())
}

// TestLoadBalancersBecomeOne: two Services cannot have one port of one host.
func TestLoadBalancersBecomeOne(t *testing.T) {
	w := newProxyWorld(t, twoHosts, "n1")
	w.create("a", web)
	w.settle()
	w.create("b", web, func(r *lb.Request) { r.Pool = "green" })
	w.settle()
	require.Len(t, w.proxy.told, 2)
	require.ErrorContains(t, w.ledger.SetConfig(parse(t, `
apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: blue
  updater: {urls: ["http://192.0.2.2:3000/api/v1/lb"], host: 192.0.2.2, portRange: {low: 8100, high: 8102}}
`), w.rental, w.now), "8100/TCP")
}

// TestPoolGoesWhileAServiceLeaves: nobody can confirm that the backend is gone, and the Service says what to do.
func TestPoolGoesWhileAServiceLeaves(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.proxy.down = true
	w.services[uid].wants = false
	w.settle()
	require.NoError(t, w.ledger.SetConfig(parse(t, office), w.rental, w.now))
	assert.Contains(t, w.ledger.View(uid).Waiting.Message, "put the pool back")
	assert.Contains(t, w.ledger.View(uid).Waiting.Message, lb.AnnotationAbandon)
}

// TestRenamedPoolFinishesARemoval: what is on the way back is removed by the pool that has the port now.
func TestRenamedPoolFinishesARemoval(t *testing.T) {
	w := newProxyWorld(t, edge, "n1")
	uid := w.create("web", web)
	w.settle()
	w.proxy.down = true
	w.services[uid].wants = false
	w.settle()
	w.cfg = parse(t, strings.Replace(edge, "name: edge", "name: outside", 1))
	require.NoError(t, w.ledger.SetConfig(w.cfg, w.rental, w.now))
	w.proxy.down = false
	w.settle()
	assert.NotContains(t, w.services, uid)
}
