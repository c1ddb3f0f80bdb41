package hetzner_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mooring-lb/mooring/cloud/hetzner"
	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
)

func TestName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, test := range map[string]struct {
		cluster, namespace, service, uid string
		family                           lb.Family
		want                             string
	}{
		"plain":           {"demo", "default", "web", "12345678-9abc", lb.IPv4, "demo-default-web-12345678-v4"},
		"IPv6":            {"demo", "default", "web", "12345678-9abc", lb.IPv6, "demo-default-web-12345678-v6"},
		"long":            {"demo", "default", long, "12345678-9abc", lb.IPv4, "demo-default-" + long[:37] + "-12345678-v4"},
		"cut at a hyphen": {"demo", "default", long[:36] + "-b", "12345678-9abc", lb.IPv4, "demo-default-" + long[:36] + "-12345678-v4"},
		"strange cluster": {"/Prod (EU) é", "default", "web", "12345678-9abc", lb.IPv4, "Prod--EU----default-web-12345678-v4"},
		"short uid":       {"demo", "default", "web", "7", lb.IPv4, "demo-default-web-7-v4"},
	} {
		t.Run(name, func(t *testing.T) {
			got := hetzner.Name(lb.Order{
				Owner: lb.Owner{Cluster: test.cluster, Service: lb.Ref{Namespace: test.namespace, Name: test.service, UID: test.uid}}, Family: test.family,
			})
			assert.Equal(t, test.want, got)
		})
	}
}

// Whatever the cluster is called, the stand-in takes the name and the labels, and gives the owner back.
func TestAnyClusterCanBuy(t *testing.T) {
	dns := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`)
	uid := rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{27}`)
	w := newWorld(t, hetznertest.Options{RateLimit: 1_000_000})
	rapid.Check(t, func(t *rapid.T) {
		o := lb.Order{
			Owner: lb.Owner{
				ClusterUID: uid.Draw(t, "cluster uid"),
				Cluster:    rapid.String().Draw(t, "cluster"),
				Service:    lb.Ref{Namespace: dns.Draw(t, "namespace"), Name: dns.Draw(t, "name"), UID: uid.Draw(t, "uid")},
				Pool:       dns.Draw(t, "pool"),
				Retain:     rapid.Bool().Draw(t, "retain"),
			},
			Family: rapid.SampledFrom([]lb.Family{lb.IPv4, lb.IPv6}).Draw(t, "family"), Location: "fsn1",
		}
		f, err := w.Buy(w.t.Context(), o)
		require.NoError(t, err)
		o.Cluster = hetzner.LabelValue(o.Cluster)
		require.Equal(t, o.Owner, f.Owner)
		require.Equal(t, hetzner.LabelValue(o.Cluster), o.Cluster)
		require.NoError(t, w.Delete(w.t.Context(), f.ID))
	})
}

// A pool's label never stands in for one of ours.
func TestOurLabelsWin(t *testing.T) {
	in(t, hetznertest.Options{}, func(t *testing.T, w *world) {
		o := order("web", lb.IPv4)
		o.Labels = map[string]string{"mooring.dev/cluster-uid": "stolen", "team": "web"}
		f, err := w.Buy(t.Context(), o)
		require.NoError(t, err)
		assert.Equal(t, o.Owner, f.Owner)
	})
}
