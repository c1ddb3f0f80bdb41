package manifests_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// copied is a copy of the kustomizations that a test may change.
func copied(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	for _, part := range []string{"base", "components", "overlays"} {
		require.NoError(t, os.CopyFS(filepath.Join(directory, part), os.DirFS(part)))
	}
	return directory
}

// renamed is a copy of the kustomizations for another namespace, made the way that the README has: the name is replaced
// wherever it stands.
func renamed(t *testing.T, namespace string) string {
	t.Helper()
	directory := copied(t)
	require.NoError(t, filepath.WalkDir(directory, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(file, bytes.ReplaceAll(text, []byte("mooring-system"), []byte(namespace)), 0o600)
	}))
	return directory
}

// What the README has users add to their kustomization does what the chart's value of that purpose does, and nothing else.
func TestKustomizationsCanBeChanged(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for name, row := range map[string]struct {
		addition *regexp.Regexp
		value    string
	}{
		"one replica":   {regexp.MustCompile(`replicas: \[\{name: .*`), "--set=controller.replicas=1"},
		"control plane": {regexp.MustCompile("components: [^`]*"), `--set-json=agents.tolerations=[{"key":"node-role.kubernetes.io/control-plane","operator":"Exists","effect":"NoSchedule"}]`},
	} {
		t.Run(name, func(t *testing.T) {
			addition := row.addition.FindString(string(readme))
			require.NotEmpty(t, addition, "the README has %s", row.addition)
			directory := filepath.Join(copied(t), "overlays", "bare-metal")
			file := filepath.Join(directory, "kustomization.yaml")
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, []byte(strings.Join([]string{string(text), addition, ""}, "\n")), 0o600))

			same(t, fromOverlay(t, directory, "mooring-system"), fromChart(t, example("bare-metal", "--namespace=mooring-system", row.value)...))
			assert.NotEqual(t, fromOverlay(t, "overlays/bare-metal", "mooring-system"), fromOverlay(t, directory, "mooring-system"))
		})
	}
}
