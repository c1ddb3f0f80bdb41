package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Helm runs helm as the administrator, in the directory of the repository, and returns what it prints. What it or the API
// server warns of is an error, as in Apply.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	if _, err := os.Stat(filepath.Join(c.root, HelmBinary)); err != nil {
		return "", fmt.Errorf("%s is not built: run hack/build-helm.sh", HelmBinary)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.root, HelmBinary), append([]string{"--kubeconfig=" + c.Kubeconfig}, args...)...)
	cmd.Dir = c.root
	// What it caches ends with the cluster.
	cmd.Env = append(os.Environ(), "HOME="+c.work)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil && stderr.Len() > 0 {
		err = errors.New("it warns")
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("helm %s: %w", strings.Join(args, " "), err), errors.New(stderr.String()))
	}
	return stdout.String(), err
}
