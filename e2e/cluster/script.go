package cluster

import "context"

// Script runs a shell script as an administrator who has kubectl, with the arguments, and returns what it prints.
func (c *Cluster) Script(ctx context.Context, path string, args ...string) (string, error) {
	return run(ctx, shell, append([]string{"sh", path}, args...)...)
}
