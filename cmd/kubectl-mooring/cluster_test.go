package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"
)

// Who has no kubeconfig, or that of a cluster that is away, is told what names another one.
func TestNoCluster(t *testing.T) {
	t.Setenv("KUBECONFIG", t.TempDir()+"/absent")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := connect(genericclioptions.NewConfigFlags(true))
	require.EqualError(t, err, "no kubeconfig names a cluster: give --kubeconfig, set KUBECONFIG, or name the API server with --server")

	for _, args := range [][]string{{"status"}, {"explain", "service", "web"}, {"evacuate", "n1"}} {
		cmd := newCommand(genericiooptions.NewTestIOStreamsDiscard(), clock.RealClock{}, connect)
		cmd.SetArgs(append(args, "--server=http://127.0.0.1:1"))
		err = cmd.ExecuteContext(t.Context())
		require.ErrorContains(t, err, "http://127.0.0.1:1/")
		require.ErrorContains(t, err, ": is that the cluster that you mean? --context, --kubeconfig or KUBECONFIG name another one")
	}
}
