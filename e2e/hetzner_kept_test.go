package e2e

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/cloud/hetzner/hetznertest"
	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// What pool kept of TestHetzner lists: a Floating IP that is free, one that is assigned to a server that is no Node, and
// an address that is none.
const (
	keptAddress    = "203.0.113.10"
	foreignAddress = "203.0.113.20"
	missingAddress = "203.0.113.30"
)

// standingAddresses are assigned to a Node by hand before a pool lists them.
var standingAddresses = []string{"203.0.113.41", "203.0.113.42"}

// harbour is the cloud-config of TestHetzner, with the addresses of pool kept.
func (h *rented) harbour(kept ...string) string {
	// What is changed by hand at Hetzner is noticed by the slow loop.
	keys := "resyncInterval: 3s\n" + h.account()
	quoted := make([]string, 0, len(kept))
	for _, address := range kept {
		quoted = append(quoted, fmt.Sprintf("%q", address))
	}
	return h.cloudConfig(keys,
		"name: office, addresses: [10.90.0.30-10.90.0.39], autoAssign: false",
		"name: bought, hetzner: {ephemeral: {types: [ipv4, ipv6], labels: {team: web}}}",
		"name: small, autoAssign: false, hetzner: {ephemeral: {types: [ipv4], reclaimPolicy: Retain, maxAddresses: 1}}",
		"name: kept, addresses: ["+strings.Join(quoted, ", ")+"], hetzner: {takeover: false}",
		fmt.Sprintf("name: strange, autoAssign: false, hetzner: {tokenFile: %q, endpoint: %q, ephemeral: {types: [ipv4]}}", filepath.Join(h.secrets, "strange"), h.endpoint),
	)
}

// keptAddresses tells what becomes of Floating IPs that stand in a pool.
func keptAddresses(t *testing.T, h *rented) {
	namespace := h.Namespace(t, "kept")
	asking := func(name, address string) *corev1.Service {
		return annotated(cluster.LoadBalancer(namespace, name), lb.AnnotationAddresses, address)
	}

	t.Run("a listed address serves the Service that asks for it, and stays when that goes", func(t *testing.T) {
		f, err := h.cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Prefix: netip.MustParsePrefix(keptAddress + "/32"), Labels: map[string]string{"of": "people"}})
		require.NoError(t, err)
		purchases, releases := h.cloud.Purchases(ourProject), h.cloud.Releases(ourProject)
		service := h.create(t, asking("web", keptAddress))
		addr := h.published(t, service)
		h.answersFirst(t, addr)
		holder := h.heldBy(t, addr, anyNode)
		assert.Equal(t, h.serverOf(holder.Name), h.mustHave(t, addr).Server)

		h.remove(t, service)
		after := h.mustHave(t, addr)
		assert.Zero(t, after.Server, "it is assigned to no server")
		assert.Equal(t, f.Labels, after.Labels, "nothing is written on it")
		assert.Equal(t, purchases, h.cloud.Purchases(ourProject))
		assert.Equal(t, releases, h.cloud.Releases(ourProject))
	})

	t.Run("a listed address on a server that is no Node is left there, and taken with takeover", func(t *testing.T) {
		elsewhere, err := h.cloud.AddServer(ourProject, hetznertest.Machine{Name: "db"})
		require.NoError(t, err)
		f, err := h.cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Prefix: netip.MustParsePrefix(foreignAddress + "/32"), Server: elsewhere})
		require.NoError(t, err)
		service := h.create(t, asking("stolen", foreignAddress))
		h.refused(t, service, lb.ReasonHeldElsewhere, "takeover: true")
		assert.Equal(t, elsewhere, h.mustHave(t, f.Prefix.Addr()).Server)

		h.reload(t, strings.ReplaceAll(h.harbour(keptAddress, foreignAddress, missingAddress), "takeover: false", "takeover: true"), taken)
		addr := h.published(t, service)
		h.answersFirst(t, addr)
		h.remove(t, service)
		h.reload(t, h.harbour(keptAddress, foreignAddress, missingAddress), taken)
	})

	t.Run("a listed address that does not exist is refused, with what to do", func(t *testing.T) {
		service := h.create(t, asking("missing", missingAddress))
		h.refused(t, service, lb.ReasonFloatingIPMissing, missingAddress)
	})

	t.Run("addresses that were assigned by hand are listed: their Services get them where they are, without an outage", func(t *testing.T) {
		var services []*corev1.Service
		var addrs []netip.Addr
		for i, address := range standingAddresses {
			f, err := h.cloud.AddFloatingIP(ourProject, hetznertest.FloatingIP{Prefix: netip.MustParsePrefix(address + "/32"), Server: h.serverOf("n2")})
			require.NoError(t, err)
			service := asking(fmt.Sprint("standing-", i), address)
			service.Spec.ExternalIPs = []string{address} // which kube-proxy serves on every node
			services, addrs = append(services, h.create(t, service)), append(addrs, f.Prefix.Addr())
		}
		for _, addr := range addrs {
			h.serves(t, addr)
		}
		first, second := h.connects(t, addrs[0]), h.connects(t, addrs[1])
		since := h.lastCall()
		h.reload(t, h.harbour(slices.Concat([]string{keptAddress, foreignAddress, missingAddress}, standingAddresses)...), taken)
		for i, service := range services {
			assert.Equal(t, addrs[i], h.published(t, service))
			assert.Equal(t, "n2", h.heldBy(t, addrs[i], anyNode).Name)
		}
		first()
		second()
		assert.Zero(t, h.calls("POST /floating_ips/{id}/actions/unassign", since))
		assert.Zero(t, h.calls("POST /floating_ips/{id}/actions/assign", since))
		for i, service := range services {
			h.remove(t, service)
			assert.Zero(t, h.mustHave(t, addrs[i]).Server, "%s is assigned to no server", addrs[i])
		}
	})

	t.Run("a bought address is listed: its Service keeps it without an outage, and it survives its Service", func(t *testing.T) {
		service := h.create(t, cluster.DualStack(cluster.LoadBalancer(namespace, "moving")))
		addrs := h.publishedAll(t, service, 2)
		for _, addr := range addrs {
			h.serves(t, addr)
		}
		releases := h.cloud.Releases(ourProject)
		connected4, connected6 := h.connects(t, addrs[0]), h.connects(t, addrs[1])
		listed := []string{keptAddress, foreignAddress, missingAddress, addrs[0].String(), addrs[1].String()}
		h.reload(t, h.harbour(listed...), taken)
		for _, addr := range addrs {
			h.at(t, addr, "carries no label of ours", func(f hetznertest.FloatingIP) bool {
				for key := range f.Labels {
					if strings.HasPrefix(key, "mooring.dev/") {
						return false
					}
				}
				return true
			})
			assert.Equal(t, map[string]string{"team": "web"}, h.mustHave(t, addr).Labels)
		}
		h.publishes(t, service, addrs)
		connected4()
		connected6()
		h.remove(t, service)
		for _, addr := range addrs {
			assert.Zero(t, h.mustHave(t, addr).Server, "%s is assigned to no server", addr)
		}
		assert.Equal(t, releases, h.cloud.Releases(ourProject))
	})
}
