package cloud

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/updater/updatertest"
)

// A controller may take over when the cloud-config is there and the token file that it names is not yet: the cloud-config
// comes into force with the file.
func TestConfigThatCouldNotBeTakenAtTakeOverIsTakenLater(t *testing.T) {
	directory := t.TempDir()
	token := filepath.Join(directory, "hcloud-token")
	path := filepath.Join(directory, "cloud-config.yaml")
	require.NoError(t, os.WriteFile(path, []byte("apiVersion: mooring.dev/v1alpha1\nkind: CloudConfig\nhetzner: {tokenFile: "+token+"}\n"+
		"pools: [{name: kept, addresses: [203.0.113.4], hetzner: {}, interface: pl0}]\n"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		old := parseConfig(t, edgePool)
		r := newBalancedRoom(t, old, updatertest.New(updatertest.Options{}))
		defer r.stop()
		c := &Cloud{options: r.options, config: old, room: r}
		c.options.ConfigFile, c.options.PollConfig = path, true
		require.ErrorContains(t, c.loadConfig(), token)
		assert.Same(t, old, c.config)

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.watcher.Run(ctx) }()
		synctest.Wait()
		require.NoError(t, os.WriteFile(token, []byte("plain-text-token"), 0o600))
		<-time.After(time.Minute)
		stop()
		require.ErrorIs(t, <-done, context.Canceled)
		require.Len(t, c.config.Pools, 1)
		assert.Equal(t, "kept", c.config.Pools[0].Name)
	})
}
