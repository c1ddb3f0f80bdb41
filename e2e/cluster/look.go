package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// shell is a script of the namespaces that runs a command, or a shell, with kubectl, its plugin and the administrator's
// kubeconfig.
const shell = scratch + "/shell"

func (c *Cluster) writeShell() error {
	scripts := map[string]string{
		filepath.Join(scratch, "bin", "kubectl"):         fmt.Sprintf("#!/bin/sh\nexec '%s' kubectl \"$@\"\n", filepath.Join(c.root, KubeBinary)),
		filepath.Join(scratch, "bin", "kubectl-mooring"): fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", filepath.Join(c.root, KubectlBinary)),
		shell: fmt.Sprintf(`#!/bin/sh
export KUBECONFIG='%s' PATH="%s/bin:$PATH:/usr/sbin:/sbin"
[ $# -eq 0 ] || exec "$@"
exec "${SHELL:-/bin/sh}"
`, c.kubeconfig("admin"), scratch),
	}
	for path, text := range scripts {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// LookAround says how to look into the running cluster from another terminal.
func (c *Cluster) LookAround() string {
	enter := fmt.Sprintf("nsenter -t %s -m -n -p %s", os.Getenv(initVariable), shell)
	if os.Getenv(userNamespaceVariable) != "" {
		enter = strings.Replace(enter, " -m", " -U --preserve-credentials -m", 1)
	}
	status := "kubectl mooring status"
	if _, err := os.Stat(c.CloudConfig()); err == nil {
		status += " -f " + c.CloudConfig()
	}
	examples := []struct{ command, purpose string }{
		{"", "a shell with kubectl"},
		{"kubectl get nodes,services,nodeaddresses", "what the API server knows"},
		{status, "the same on one page; when the file of -f is edited, the controller reads it again"},
		{"ip netns exec n1 ip -brief address", "a node's addresses; n2, n3 and client are the other machines"},
		{"ip netns exec client curl -s http://ADDRESS/", "a request from the client"},
		{"ip link set wire-n1 down", "pull the cable of n1; up plugs it in again"},
	}
	var out strings.Builder
	fmt.Fprintf(&out, "To look around, from another terminal of the same user:\n")
	for _, example := range examples {
		fmt.Fprintf(&out, "  # %s\n  %s\n", example.purpose, strings.TrimSpace(enter+" "+example.command))
	}
	fmt.Fprintf(&out, "Logs of every process: %s\n", c.Logs)
	return out.String()
}
