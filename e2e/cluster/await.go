package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Guard is how long anything that must happen is waited for. It is generous on purpose: how fast something is, a
// benchmark measures.
const Guard = 30 * time.Second

// pollInterval between two looks: a look is a request to an idle API server or a read in memory.
const pollInterval = 25 * time.Millisecond

// T is what of *testing.T the helpers need; the demo has none.
type T interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Await waits until check returns nil, for at most Guard, and returns check's last error otherwise.
func Await(ctx context.Context, what string, check func(context.Context) error) error {
	return AwaitFor(ctx, Guard, what, check)
}

// AwaitFor is Await for what has a known duration of its own: the guard must cover that, too.
func AwaitFor(ctx context.Context, guard time.Duration, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, guard, fmt.Errorf("not within %v", guard))
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // the error of a check that was cut short says nothing
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}

// Eventually waits until check returns nil, for at most Guard. Else the test ends, with check's last error, what the
// API server knows and the ends of the logs.
func (c *Cluster) Eventually(t T, what string, check func(context.Context) error) {
	t.Helper()
	if err := Await(t.Context(), what, check); err != nil {
		t.Fatalf("%v\n%s", err, c.Dump(context.WithoutCancel(t.Context())))
	}
}

// Throughout checks again and again for as long as the duration says, and ends the test at the first error: for what
// must not happen.
func (c *Cluster) Throughout(t T, duration time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	end := time.After(duration)
	for {
		if err := check(t.Context()); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, c.Dump(context.WithoutCancel(t.Context())))
		}
		select {
		case <-end:
			return
		case <-ticker.C:
		}
	}
}

// dumpedLines of each process's log.
const dumpedLines = 15

// Dump tells the state of the cluster to whoever looks for the cause of a failure.
func (c *Cluster) Dump(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out strings.Builder
	section := func(title, text string) { fmt.Fprintf(&out, "--- %s\n%s\n", title, strings.TrimRight(text, "\n")) }
	if c.APIServer != nil && c.APIServer.Running() {
		for _, args := range [][]string{
			{"get", "nodes", "-o", "wide"},
			{"get", "services,endpointslices", "-A", "-o", "wide"},
			{"get", "services", "-A", "--field-selector=spec.type=LoadBalancer", "-o", "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.status}{\"\\n\"}{end}"},
			{"get", "nodeaddresses", "-o", "yaml"},
			{"get", "events", "-A", "--sort-by=.lastTimestamp"},
		} {
			text, err := c.Kubectl(ctx, args...)
			if err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "the server doesn't have a resource type") {
				continue // Mooring is not installed
			}
			if err != nil {
				text = errors.Join(errors.New(text), err).Error()
			}
			section("kubectl "+strings.Join(args, " "), text)
		}
	}
	for _, process := range c.processes() {
		state := "running"
		if !process.Running() {
			state = "not running"
			if err := process.Ended(); err != nil {
				state = err.Error()
			}
		}
		section(fmt.Sprintf("%s (%s), end of %s", process.Name, state, process.Log), process.Tail(dumpedLines))
	}
	return out.String()
}
