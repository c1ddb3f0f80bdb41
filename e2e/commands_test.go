package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
)

// TestCommandsOfDocs types what pages say that is to be looked at, into a cluster in which nothing is wrong: every command
// is one that there is, of something that there is.
func TestCommandsOfDocs(t *testing.T) {
	r := newReader(t, cluster.Options{Nodes: []cluster.NodeOptions{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}})
	overlay := filepath.Join("manifests", "overlays", "my-cluster")
	require.NoError(t, os.CopyFS(filepath.Join(r.dir, overlay), os.DirFS(filepath.Join(r.dir, "manifests", "overlays", "bare-metal"))))
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, overlay, "cloud-config.yaml"), []byte(`apiVersion: mooring.dev/v1alpha1
kind: CloudConfig
pools:
- name: office
  addresses: [10.90.0.10]
  interface: pl0
`), 0o600))
	out, err := r.shell(t.Context(), `kubectl apply -k manifests/overlays/my-cluster
kubectl create deployment web --image=nginx
kubectl expose deployment web --port=80 --type=LoadBalancer
kubectl wait --for=condition=mooring.dev/Bound service/web --timeout=1m
kubectl rollout status deployment/web --timeout=1m`)
	require.NoError(t, err, out)
	r.follow(t, "troubleshooting.md")
	r.follow(t, "guides/failover.md")
}
