package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/klog/v2"

	"github.com/mooring-lb/mooring/agent/netif"
)

// ReleaseAll removes from the host everything that is Mooring's: addresses, proxy-NDP entries, the guard, and the
// interfaces that it created and that nothing else uses. It asks no API server.
func ReleaseAll(ctx context.Context, host Host) error {
	have, err := host.Read(ctx)
	if err != nil {
		return fmt.Errorf("read the host's network: %w", err)
	}
	var errs []error
	for _, step := range planReleaseAll(&have) {
		failures := host.Do(ctx, step)
		for _, f := range failures {
			errs = append(errs, describe(step, f))
		}
		if len(failures) == 0 {
			klog.FromContext(ctx).Info("Step done", "step", step)
		}
	}
	return errors.Join(errs...)
}

func describe(step netif.Step, f netif.Failure) error {
	if f.IP == (netip.Addr{}) {
		return fmt.Errorf("%s: %w", step, f.Err)
	}
	return fmt.Errorf("%s %s on %s: %w", step.Kind, f.IP, step.Interface, f.Err)
}
