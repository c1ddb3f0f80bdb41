package hetznertest_test

import (
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
)

// The stand-in is the same over a real connection, and cuts that where it is told to.
func TestOverHTTP(t *testing.T) {
	w := newWorld(t, hetznertest.Options{ActionTime: -1, ListLag: -1})
	served := httptest.NewServer(w)
	defer served.Close()
	client := hcloud.NewClient(
		hcloud.WithEndpoint(served.URL+"/v1"), hcloud.WithToken(secret), hcloud.WithApplication("mooring", "1"),
		hcloud.WithRetryOpts(hcloud.RetryOpts{BackoffFunc: hcloud.ConstantBackoff(0), MaxRetries: 0}),
	)
	var mu sync.Mutex
	var stages []hetznertest.Stage
	w.AddHook(func(stage hetznertest.Stage, _ hetznertest.Call) bool {
		mu.Lock()
		defer mu.Unlock()
		stages = append(stages, stage)
		return false
	})
	buy := func(name string) error {
		_, _, err := client.FloatingIP.Create(t.Context(), hcloud.FloatingIPCreateOpts{
			Type: hcloud.FloatingIPTypeIPv4, Server: &hcloud.Server{ID: w.n1}, Name: &name,
		})
		return err
	}
	require.NoError(t, buy("a"))
	w.AddRule(hetznertest.Rule{Operation: purchase, Nth: 1, Fault: hetznertest.Fault{Cut: true}})
	w.AddRule(hetznertest.Rule{Operation: purchase, Nth: 2, Fault: hetznertest.Fault{Cut: true, AfterEffect: true}})
	require.Error(t, buy("b"))
	require.Error(t, buy("c"))

	all, err := client.FloatingIP.All(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, "a", all[0].Name)
	assert.Equal(t, "c", all[1].Name)
	assert.Equal(t, w.n1, all[1].Server.ID)
	assert.Contains(t, w.Log()[0].Caller, "mooring/1")

	served.Close()
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []hetznertest.Stage{
		hetznertest.BeforeEffect, hetznertest.AfterEffect, hetznertest.AfterAnswer, // a
		hetznertest.BeforeEffect,                          // b
		hetznertest.BeforeEffect, hetznertest.AfterEffect, // c
		hetznertest.BeforeEffect, hetznertest.AfterEffect, hetznertest.AfterAnswer, // the list
	}, stages)
}
