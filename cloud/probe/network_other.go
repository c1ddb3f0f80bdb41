//go:build !linux

package probe

import (
	"context"
	"errors"
)

// ErrNotLinux says that nodes cannot be probed from this machine.
var ErrNotLinux = errors.New("nodes are probed on Linux only")

func openNetwork(context.Context) (network, error) { return nil, ErrNotLinux }
