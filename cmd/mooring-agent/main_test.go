package main

import (
	"bytes"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs(append([]string{}, args...)) // nil would be the arguments of the test itself
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Setenv("NODE_NAME", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := execute(t)
	assert.ErrorContains(t, err, "--node-name")
	assert.ErrorContains(t, err, "NODE_NAME")

	_, err = execute(t, "--node-name=n1")
	assert.ErrorContains(t, err, "--kubeconfig")

	_, err = execute(t, "--node-name=n1", "--kubeconfig=/does/not/exist")
	assert.ErrorContains(t, err, "/does/not/exist")

	_, err = execute(t, "--no-such-flag")
	assert.ErrorContains(t, err, "unknown flag: --no-such-flag: mooring-agent --help lists the flags")

	_, err = execute(t, "release-all")
	assert.ErrorContains(t, err, `mooring-agent takes flags alone, and "release-all" is none: mooring-agent --help lists them`)
}

func TestHelpAndVersion(t *testing.T) {
	out, err := execute(t, "--help")
	require.NoError(t, err)
	for _, flag := range []string{"--kubeconfig", "--node-name", "--health-address", "--release-all", "--version"} {
		assert.Contains(t, out, flag)
	}
	out, err = execute(t, "--version")
	require.NoError(t, err)
	assert.Contains(t, out, "commit")
}

func TestAHealthAddressInUseIsNamed(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, listener.Close()) })
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	kubeconfig := t.TempDir() + "/kubeconfig"
	require.NoError(t, os.WriteFile(kubeconfig, []byte(`{apiVersion: v1, kind: Config, current-context: c,
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}], contexts: [{name: c, context: {cluster: c}}]}`), 0o600))
	_, err = execute(t, "--node-name=n1", "--kubeconfig="+kubeconfig, "--health-address="+listener.Addr().String())
	assert.ErrorContains(t, err, "--health-address "+listener.Addr().String())
}
