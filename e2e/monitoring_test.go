package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/mooring-lb/mooring/e2e/monitoring"
)

// TestMonitoring has a system with every kind of pool at work, and one thing wrong, and sees that each metric is there
// that an alert or a panel of the dashboard asks for, with the labels that it groups by and the values that it looks for:
// a rule about a metric that was renamed is silent for ever.
func TestMonitoring(t *testing.T) {
	h := rent(t, cluster.Options{}, "n1", "n2", "n3")
	updater, broken := updatertest.New(updatertest.Options{}), updatertest.New(updatertest.Options{})
	broken.Break(updatertest.Fault{Answer: updatertest.InternalError})
	serve := func(s *updatertest.Server) (url string) {
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		return server.URL
	}
	pool := func(name, url string, low int) string {
		return fmt.Sprintf("- {name: %s, updater: {urls: [%q], host: 192.0.2.1, portRange: {low: %d, high: %d}, timeout: 1s, verify: false}}\n",
			name, url+"/api/v1/lb", low, low+3)
	}
	cloudConfig := cloudConfigOf("10m",
		"- {name: office, addresses: [10.90.0.30-10.90.0.39], interface: pl0}\n",
		"- {name: bought, interface: pl0, hetzner: {ephemeral: {types: [ipv4]}}}\n",
		pool("edge", serve(updater), 8100), pool("broken", serve(broken), 8200),
	) + h.account() + "\n"
	h.deploy(t, cloudConfig, clusterName)

	namespace := h.Namespace(t, "monitored")
	for _, name := range []string{"office", "bought", "edge"} {
		h.published(t, h.create(t, from(cluster.LoadBalancer(namespace, name), name)))
	}
	// Its updater takes nothing, also not that it goes.
	h.create(t, annotated(from(cluster.LoadBalancer(namespace, "broken"), "broken"), lb.AnnotationAbandon, "true"))
	h.reload(t, strings.Replace(cloudConfig, "office", "Office", 1), refused)
	h.reload(t, cloudConfig+"\n# corrected\n", taken)

	root, err := cluster.Root()
	require.NoError(t, err)
	expressions, err := monitoring.Expressions(root)
	require.NoError(t, err)
	h.Eventually(t, "all that rules and dashboard name is shown", func(ctx context.Context) error {
		shown, err := h.shown(ctx)
		if err != nil {
			return err
		}
		var missing []error
		for who, expr := range expressions {
			names, err := shown.Missing(expr)
			if err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
			for _, name := range names {
				missing = append(missing, fmt.Errorf("%s: %s", who, name))
			}
		}
		return errors.Join(missing...)
	})
}

// shown is what Prometheus would read of the first controller and of the agents.
func (m *moored) shown(ctx context.Context) (monitoring.Shown, error) {
	shown := monitoring.Shown{}
	text, err := m.ControllerMetrics(ctx, 0)
	if err != nil {
		return nil, err
	}
	if err := shown.Add(strings.NewReader(text)); err != nil {
		return nil, err
	}
	for _, node := range m.Nodes {
		at := netip.MustParseAddrPort("127.0.0.1:" + strconv.Itoa(cluster.AgentHealthPort))
		text, err := node.Get(ctx, at, "/metrics")
		if err != nil {
			return nil, err
		}
		if err := shown.Add(strings.NewReader(text)); err != nil {
			return nil, err
		}
	}
	return shown, nil
}
