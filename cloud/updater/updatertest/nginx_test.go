package updatertest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNginxRefusesTheSame runs nginx -t, from Debian's packages nginx and libnginx-mod-stream, which hack/debian-packages.sh
// installs.
func TestNginxRefusesTheSame(t *testing.T) {
	check := func(t *testing.T, files map[string]string) error {
		n := &Nginx{Dir: t.TempDir()}
		require.NoError(t, n.Write())
		for name, content := range files {
			require.NoError(t, os.WriteFile(filepath.Join(n.Streams(), name+ending), []byte(content), 0o644))
		}
		return n.Test(t.Context())
	}
	require.NoError(t, check(t, accepted), "without nginx this test cannot run: hack/debian-packages.sh installs it")
	for what, files := range refusals {
		t.Run(what, func(t *testing.T) {
			assert.ErrorContains(t, check(t, files), "[emerg]")
		})
	}
}

func TestReloadBeforeTheStartIsNone(t *testing.T) {
	n := &Nginx{Dir: t.TempDir()}
	require.NoError(t, n.Reload(t.Context()))
	require.Error(t, n.Run(context.WithoutCancel(t.Context())), "there is no configuration")
}
