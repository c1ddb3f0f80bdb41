package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// controlPlaneAway is how long there is no API server; longControlPlaneAway with LONG=1.
	controlPlaneAway     = time.Minute + 30*time.Second
	longControlPlaneAway = 10 * time.Minute
)

// TestControlPlaneAway tells what clients notice of a control plane that is away for long while agents are restarted, a
// node is rebooted and somebody says something wrong on the wire: nothing, but that the rebooted node's addresses wait.
func TestControlPlaneAway(t *testing.T) {
	m := &moored{Cluster: start(t, cluster.Options{Manifests: "manifests/base", NodeMonitorGracePeriod: longGrace})}
	m.deploy(t, officePool)
	m.untainted(t)
	neighbour := m.neighbour(t)
	addrs := m.createReachable(t, m.Namespace(t, "steady"), 6, neighbour)
	before := m.placed(t, anyNode, addrs...)
	rebooted := before[addrs[0]]
	var steady, waiting []netip.Addr
	for _, addr := range addrs {
		if before[addr] == rebooted {
			waiting = append(waiting, addr)
		} else {
			steady = append(steady, addr)
		}
	}
	require.NotEmpty(t, steady)

	unbroken := m.uninterrupted(t, steady...)
	begin, while := time.Now(), controlPlaneAway
	if os.Getenv("LONG") == "1" {
		while = longControlPlaneAway
	}
	// Kubernetes' own controllers end without it, too: they lose their lease.
	require.NoError(t, m.ControllerManager.Kill())
	require.NoError(t, m.APIServer.Kill())
	for _, node := range m.Nodes {
		require.NoError(t, node.Agent.Restart())
	}
	require.NoError(t, rebooted.PowerOff())
	require.NoError(t, m.PowerOn(rebooted))
	for _, addr := range steady {
		require.NoError(t, m.Client.Claim(addr, net.HardwareAddr{2, 0, 0, 0, 0, 0x99}))
	}
	m.Throughout(t, while-time.Since(begin), "every address is where it was", func(context.Context) error {
		for _, addr := range steady {
			holds, err := before[addr].Holds("pl0", addr)
			if err == nil && !holds {
				err = fmt.Errorf("%s is not on %s any more", addr, before[addr].Name)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, addr := range waiting {
		answers, err := m.Client.WhoHas(addr)
		require.NoError(t, err)
		assert.Empty(t, answers, "a node that has forgotten everything cannot know of %s", addr)
	}

	require.NoError(t, m.APIServer.Start())
	require.NoError(t, m.AwaitAPIServer(t.Context()))
	back := time.Now()
	require.NoError(t, m.ControllerManager.Start())
	// It waits for longer and longer while there is no API server.
	require.NoError(t, rebooted.Proxy.Restart())
	m.Eventually(t, "the rebooted node's addresses are answered for", func(context.Context) error {
		for _, addr := range waiting {
			answers, err := m.Client.WhoHas(addr)
			if err != nil {
				return err
			}
			if len(answers) == 0 {
				return fmt.Errorf("nobody answers for %s", addr)
			}
		}
		return nil
	})
	t.Logf("%.2f s from the API server's return until the rebooted node's addresses are answered for", time.Since(back).Seconds())
	m.untilAnswered(t, waiting...)
	for _, node := range m.Nodes {
		m.recovered(t, node)
	}
	// That somebody leads again shows in what it does.
	m.published(t, m.create(t, cluster.LoadBalancer(m.Namespace(t, "afterwards"), "web"), neighbour))
	m.answeredBy(t, m.placed(t, anyNode, addrs...))
	after := m.placed(t, anyNode, addrs...)
	for _, addr := range steady {
		assert.Equal(t, before[addr].Name, after[addr].Name, "the node of %s", addr)
	}
	unbroken()
}
