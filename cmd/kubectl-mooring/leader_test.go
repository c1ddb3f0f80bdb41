package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
	testingclock "k8s.io/utils/clock/testing"
)

// hasty is a clock by which whoever waits has waited already.
type hasty struct{ *testingclock.FakeClock }

func (c hasty) After(d time.Duration) <-chan time.Time {
	defer c.Step(d)
	return c.FakeClock.After(d)
}

// newLeaderConsole is a console in a cluster whose Lease of leader election is changed.
func newLeaderConsole(t *testing.T, change func(*coordinationv1.LeaseSpec)) *console {
	t.Helper()
	c := newConsole(t)
	c.clock = hasty{testingclock.NewFakeClock(now)}
	leases := c.core.CoordinationV1().Leases("kube-system")
	lease, err := leases.Get(t.Context(), "mooring-cloud-controller-manager", metav1.GetOptions{})
	require.NoError(t, err)
	change(&lease.Spec)
	_, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{})
	require.NoError(t, err)
	return c
}

func renewed(ago time.Duration) func(*coordinationv1.LeaseSpec) {
	return func(s *coordinationv1.LeaseSpec) { s.RenewTime = new(metav1.NewMicroTime(now.Add(-ago))) }
}

// Who is in charge is the first that status says, and what a Service waits for when nobody is.
func TestNobodyLeads(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*coordinationv1.LeaseSpec)
		says   string
		waits  string
	}{
		"it died": {renewed(10 * time.Minute), `
LEADER  SINCE  RENEWED  MESSAGE
nobody  10m    10m      n1_2f1c7a90-6f0e-4c0b-9d37-5b8f6f6b2a11 led last, and
                        has not renewed its lease: is
                        mooring-cloud-controller-manager running in namespace
                        mooring-system?
`, "none does since 2026-01-02T23:50:04Z; n1_"},
		"it was stopped": {func(s *coordinationv1.LeaseSpec) {
			s.HolderIdentity, s.LeaseDurationSeconds = new(""), new(int32(1))
			renewed(3 * time.Minute)(s)
		}, `
LEADER  SINCE  RENEWED  MESSAGE
nobody  3m     3m       the last one has stopped, and no other has taken over:
                        is mooring-cloud-controller-manager running in namespace
                        mooring-system?
`, "none does since 2026-01-02T23:57:00Z; the last one has stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newLeaderConsole(t, row.change)
			require.NoError(t, c.run("status"))
			said, _, _ := strings.Cut(c.out.String(), "\nPOOL")
			assert.Equal(t, row.says, "\n"+said)
			require.NoError(t, c.run("status", "-o", "json"))
			assert.Contains(t, c.out.String(), `"leads": false`)
			for _, service := range []string{"full", "garbled"} {
				require.NoError(t, c.run("explain", "service", service))
				_, waits, _ := strings.Cut(unwrapped(c.out.String()), "Waits for ")
				assert.True(t, strings.HasPrefix(waits, "a controller that leads: "+row.waits), waits)
				assert.Equal(t, 1, strings.Count(waits, "is mooring-cloud-controller-manager running"), waits)
			}
			require.NoError(t, c.run("explain", "service", "web"))
			assert.Contains(t, unwrapped(c.out.String()), "Waits for nothing", "it goes on working")
			assert.Empty(t, c.err.String())
		})
	}
}

// unwrapped is a page as if the terminal had no end.
func unwrapped(page string) string { return strings.Join(strings.Fields(page), " ") }

// Nothing is said of a leader's death because of a clock: a Lease that is renewed while one looks has a leader.
func TestLeaderByAnotherClock(t *testing.T) {
	for name, ago := range map[string]time.Duration{"this machine is ahead": time.Minute, "this machine is behind": -time.Minute} {
		t.Run(name, func(t *testing.T) {
			c := newLeaderConsole(t, renewed(ago))
			looks := 0
			c.core.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
				looks++
				written := now.Add(-ago)
				if looks > 2 {
					written = c.clock.Now().Add(-ago)
				}
				return true, &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
					HolderIdentity: new("n1_a"), LeaseDurationSeconds: new(int32(4)), AcquireTime: new(metav1.NewMicroTime(now.Add(-24 * time.Hour))),
					RenewTime: new(metav1.NewMicroTime(written)),
				}}, nil
			})
			require.NoError(t, c.run("status"))
			leader := strings.Fields(strings.Split(c.out.String(), "\n")[1])
			assert.Equal(t, []string{"n1_a", "24h"}, leader[:2])
			assert.Contains(t, unwrapped(c.out.String()), "its clock and this machine's differ by about 1m0s")
		})
	}
}

// One that comes to lead, or leads again, while one looks has no other clock than this machine.
func TestLeaderWhileOneLooks(t *testing.T) {
	for name, who := range map[string]string{"another one": "n2_b", "the same one": "n1_a"} {
		t.Run(name, func(t *testing.T) {
			c := newLeaderConsole(t, renewed(time.Minute))
			looks := 0
			c.core.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
				looks++
				lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
					HolderIdentity: new("n1_a"), LeaseDurationSeconds: new(int32(4)),
					AcquireTime: new(metav1.NewMicroTime(now.Add(-24 * time.Hour))), RenewTime: new(metav1.NewMicroTime(now.Add(-time.Minute))),
				}}
				if looks > 2 {
					lease.Spec.HolderIdentity = new(who)
					lease.Spec.RenewTime = new(metav1.NewMicroTime(c.clock.Now()))
				}
				return true, lease, nil
			})
			require.NoError(t, c.run("status"))
			said, _, _ := strings.Cut(c.out.String(), "\nPOOL")
			assert.Equal(t, []string{who, "24h", "0s"}, strings.Fields(strings.Split(said, "\n")[1]))
		})
	}
}

// A Lease without a time is nobody's; it takes somebody to write it for there to be a leader.
func TestLeaseWithoutATime(t *testing.T) {
	c := newLeaderConsole(t, func(s *coordinationv1.LeaseSpec) { s.RenewTime = nil })
	looks := 0
	c.core.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		looks++
		lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: new("n1_a"), LeaseDurationSeconds: new(int32(4))}}
		if looks > 2 {
			lease.Spec.RenewTime = new(metav1.NewMicroTime(c.clock.Now()))
		}
		return true, lease, nil
	})
	require.NoError(t, c.run("status"))
	assert.Equal(t, "n1_a", strings.Fields(strings.Split(c.out.String(), "\n")[1])[0])
}

// A Lease that lies ahead and is renewed no more is nobody's.
func TestNobodyLeadsByAnotherClock(t *testing.T) {
	c := newLeaderConsole(t, renewed(-time.Minute))
	require.NoError(t, c.run("status"))
	assert.Equal(t, []string{"nobody", "-", "0s", "n1_2f1c7a90-6f0e-4c0b-9d37-5b8f6f6b2a11", "led", "last,"},
		strings.Fields(strings.Split(c.out.String(), "\n")[1])[:6])
}

func TestNobodyEverLed(t *testing.T) {
	c := newConsole(t, "Lease")
	require.NoError(t, c.run("status", "-n", "mail"))
	assert.Contains(t, unwrapped(c.out.String()), "nobody - - there is no Lease of one: is mooring-cloud-controller-manager running")
	require.NoError(t, c.run("status", "--lease", "other/name"))
	require.ErrorContains(t, c.run("status", "--lease", "name"), `--lease "name" is not namespace/name, such as kube-system/`)
}

// Somebody who may not read the Lease sees all the rest, and which right is missing.
func TestStatusWithoutTheRightToReadTheLease(t *testing.T) {
	c := newConsole(t)
	require.NoError(t, c.run("status"))
	_, rest, _ := strings.Cut(c.out.String(), "\n\n")
	c.core.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, "mooring-cloud-controller-manager", nil)
	})
	require.NoError(t, c.run("status"))
	assert.Equal(t, rest, c.out.String())
	assert.Equal(t, "warning: who leads is not shown: the right to get lease kube-system/mooring-cloud-controller-manager is missing, "+
		"see docs/guides/kubectl.md\n", c.err.String())
	require.NoError(t, c.run("explain", "service", "full"))
	assert.Contains(t, c.out.String(), "Waits for\n  PoolExhausted")
}
