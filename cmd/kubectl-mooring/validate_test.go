package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	examples, err := filepath.Glob("../../docs/examples/cloud-config*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, examples)
	c := newConsole(t)
	for _, example := range examples {
		require.NoError(t, c.run("validate", "-f", example))
		assert.Contains(t, c.out.String(), example+" is valid; pools: ")
		if !strings.Contains(example, "hetzner") {
			assert.Empty(t, c.err.String(), example)
		}
	}

	data, err := os.ReadFile("../../docs/examples/cloud-config-hetzner.yaml")
	require.NoError(t, err)
	c.in = string(data)
	require.NoError(t, c.run("validate", "-f", "-"))
	assert.Contains(t, c.out.String(), "standard input is valid; pools: bought, kept\n")
	assert.Contains(t, c.err.String(), "note: a pool buys Floating IPs", "the controller refuses that with the --cluster-name that it has by default")
	assert.Contains(t, c.err.String(), "--cluster-name")
}

// Every mistake is told, in the words in which the controller tells it, and the exit code is that of an error.
func TestValidateMistakes(t *testing.T) {
	const file = "../../cloud/config/testdata/mistakes.yaml"
	c := newConsole(t)
	err := c.run("validate", "-f", file)
	require.Error(t, err)
	assert.Empty(t, c.out.String())
	for _, says := range []string{
		"the cloud-config in " + file + " is not valid:\n",
		"initialiseNodes: Forbidden: unknown key: did you mean initializeNodes?\n",
		`pools[0].addresses[0]: Invalid value: "192.0.2.20-192.0.2.10": the range ends before it begins: write 192.0.2.10-192.0.2.20`,
		"pools[2].updater.portRange.hihg: Forbidden: unknown key: did you mean high?\n",
	} {
		assert.ErrorContains(t, err, says)
	}
	assert.ErrorContains(t, c.run("validate"), "name the file: kubectl mooring validate -f cloud-config.yaml")
	assert.ErrorContains(t, c.run("validate", "-f", "absent.yaml"), "read the cloud-config: open absent.yaml")
}
