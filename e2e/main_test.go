// Package e2e holds the black-box tests: a real cluster (e2e/cluster), the built binaries, the manifests that users
// apply, and packets. A test states what a user of the cluster notices. Nothing here imports the product but its API
// types, its annotation keys and the stand-ins for Hetzner's API and for an updater.
//
// The tests need the built binaries (make e2e builds them) and root or unprivileged user namespaces. They leave
// nothing behind on the machine, and two runs do not disturb each other. So they run beside each other, but for those
// that measure: see beside_test.go.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"testing"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if option("list") != "" {
		os.Exit(m.Run())
	}
	os.Exit(provingRights(func() int {
		return besideEachOther(os.Stdout, func() int { return cluster.Enter(m.Run) })
	}))
}

// start starts a cluster that lasts as long as the test.
func start(t *testing.T, options cluster.Options) *cluster.Cluster {
	t.Helper()
	options.Progress = t.Logf
	c, err := cluster.Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("KEEP") == "1" {
			keep(c)
		}
		require.NoError(t, c.Close())
	})
	return c
}

// keep leaves the cluster of a failed test as it is until Ctrl-C.
func keep(c *cluster.Cluster) {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)
	fmt.Printf("the cluster stays until Ctrl-C\n%s\n", c.LookAround())
	<-interrupted
}
