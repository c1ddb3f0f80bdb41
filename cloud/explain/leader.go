package explain

import (
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Leader is who is in charge of a cluster, as the Lease of leader election shows it.
type Leader struct {
	// Leads: somebody holds the Lease and renews it.
	Leads bool `json:"leads"`
	// Identity of who leads, or of who led last; empty when nobody ever did, and when the last one gave the Lease back.
	Identity string `json:"identity,omitempty"`
	// Since when it leads, or since when nobody does; nil when that is not known.
	Since *metav1.Time `json:"since,omitempty"`
	// Renewed is when the Lease was written last, by the clock of who wrote it.
	Renewed *metav1.Time `json:"renewed,omitempty"`
	// Message says why nobody leads.
	Message string `json:"message,omitempty"`
}

// isItRunning is where to look when no controller does what one would.
const isItRunning = "is mooring-cloud-controller-manager running in namespace mooring-system?"

// LeaderOf judges the Lease of leader election, nil when there is none, at a moment by the clock of whoever holds it. By
// another clock a leader may look as if it renewed the Lease no more: only a second look at the Lease, LeaseDuration
// later, tells a wrong clock from a dead leader.
func LeaderOf(lease *coordinationv1.Lease, now time.Time) Leader {
	if lease == nil {
		return Leader{Message: "there is no Lease of one: " + isItRunning}
	}
	renewed := ptr.Deref(lease.Spec.RenewTime, metav1.MicroTime{}).Time
	l := Leader{Identity: ptr.Deref(lease.Spec.HolderIdentity, ""), Renewed: since(metav1.NewTime(renewed))}
	if l.Identity == "" {
		l.Since, l.Message = l.Renewed, "the last one has stopped, and no other has taken over: "+isItRunning
		return l
	}
	age, lasts := now.Sub(renewed), LeaseDuration(lease)
	if age <= lasts && age >= -lasts {
		l.Leads, l.Since = true, since(metav1.NewTime(ptr.Deref(lease.Spec.AcquireTime, metav1.MicroTime{}).Time))
		return l
	}
	if age >= 0 {
		l.Since = since(metav1.NewTime(renewed.Add(lasts)))
	}
	l.Message = l.Identity + " led last, and has not renewed its lease: " + isItRunning
	return l
}

// LeaseDuration is how long a Lease holds without being renewed.
func LeaseDuration(lease *coordinationv1.Lease) time.Duration {
	return time.Duration(ptr.Deref(lease.Spec.LeaseDurationSeconds, 0)) * time.Second
}

// waitForLeader says what stands before everything else that a Service waits for: nobody who would do it.
func (x *Explanation) waitForLeader(svc *corev1.Service, l *Leader) {
	ours := x.State != StateNotServed && (svc.Spec.Type == corev1.ServiceTypeLoadBalancer || x.State != StateNotSeen)
	if l == nil || l.Leads || !ours || len(x.Waits) == 0 {
		return
	}
	line := "a controller that leads: " + l.Message
	if l.Since != nil {
		line = fmt.Sprintf("a controller that leads: none does since %s; %s", l.Since.UTC().Format(time.RFC3339), l.Message)
	}
	x.Waits = append([]string{line}, slices.DeleteFunc(x.Waits, func(w string) bool { return w == notSeen })...)
}
