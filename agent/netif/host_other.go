//go:build !linux

package netif

import (
	"context"
	"errors"
	"net/netip"
)

// ErrNotLinux says that there is no host network here that this package could work on.
var ErrNotLinux = errors.New("mooring-agent runs on Linux only")

// Host exists on Linux only.
type Host struct{}

// Open always returns ErrNotLinux.
func Open() (*Host, error) { return nil, ErrNotLinux }

// Close does nothing.
func (*Host) Close() error { return nil }

// Read always returns ErrNotLinux.
func (*Host) Read(context.Context) (State, error) { return State{}, ErrNotLinux }

// Do always fails with ErrNotLinux.
func (*Host) Do(context.Context, Step) []Failure { return []Failure{{Err: ErrNotLinux}} }

// Announce always returns ErrNotLinux.
func (*Host) Announce(string, netip.Addr) error { return ErrNotLinux }

// Probe always returns ErrNotLinux.
func (*Host) Probe(string, netip.Addr) error { return ErrNotLinux }

// Listen always returns ErrNotLinux.
func (*Host) Listen(map[string][]netip.Addr) error { return ErrNotLinux }

// ClaimsDropped is always 0.
func (*Host) ClaimsDropped() uint64 { return 0 }

// Watch returns a channel that is closed when ctx ends.
func (*Host) Watch(ctx context.Context) <-chan Event {
	events := make(chan Event)
	context.AfterFunc(ctx, func() { close(events) })
	return events
}
