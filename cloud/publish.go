package cloud

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mooring-lb/mooring/cloud/lb"
	"github.com/mooring-lb/mooring/cloud/ledger"
)

// Event reasons beside those of lb.Reason, which are used for refusals.
const (
	// eventMoved: an address goes from one node to another.
	eventMoved = "AddressMoved"
	// eventPublished: the Service has its addresses.
	eventPublished = "AddressPublished"
	// eventConfigRefused and eventConfigLoaded are about the controller's Pod: the cloud-config changed.
	eventConfigRefused = "CloudConfigRefused"
	eventConfigLoaded  = "CloudConfigLoaded"
	// eventTokenAccepted and eventTokenRefused are about the controller's Pod: a token file changed.
	eventTokenAccepted = "TokenAccepted"
	eventTokenRefused  = "TokenRefused"
	// eventAbandoned: a Service was forgotten without cleaning.
	eventAbandoned = "Abandoned"
)

// shortWait is not worth a write of the status: a grant takes some ten milliseconds.
const shortWait = time.Second

func uidOf(ref lb.Ref) types.UID { return types.UID(ref.UID) }

// publish writes the Service's status when it is not what it should be: the addresses once all of them answer, and
// our conditions. It is the one writer of both, conditional on the version that the decision was made on.
func (r *room) publish(ctx context.Context, svc *corev1.Service, v ledger.View) error {
	now := r.options.Clock.Now()
	uid := string(svc.UID)
	status := svc.Status.DeepCopy()
	r.setIngress(status, v)
	setDegraded(status, svc.Generation, v, metav1.NewTime(now))
	if !r.waitsShortly(svc, v) {
		setBound(status, svc.Generation, v, metav1.NewTime(now))
	}
	if reflect.DeepEqual(status, &svc.Status) {
		r.published(uid, v)
		return nil
	}
	if err := r.writeStatus(ctx, svc, status); err != nil {
		return err
	}
	if v.Ready && !v.Published {
		r.metrics.published.Observe(now.Sub(svc.CreationTimestamp.Time).Seconds())
	}
	r.announceChange(svc, status)
	r.published(uid, v)
	return nil
}

// waitsShortly reports whether the Service waits for something that has just begun, and has it looked at again when
// that lasts. The condition Bound stays as it is until then.
func (r *room) waitsShortly(svc *corev1.Service, v ledger.View) bool {
	uid := string(svc.UID)
	if v.Waiting == nil {
		r.waiting.over(uid)
		return false
	}
	rest := shortWait - r.waiting.lasts(uid, r.options.Clock.Now())
	if rest > 0 {
		r.queue.AddAfter(keyOf(svc), rest)
	}
	return rest > 0
}

// published tells the ledger what stands in the status now, so that it lets go of what the Service has left.
func (r *room) published(uid string, v ledger.View) {
	if !v.Ready {
		return
	}
	addrs := make([]netip.Addr, 0, len(v.Addresses))
	for _, a := range v.Addresses {
		addrs = append(addrs, a.Addr)
	}
	ports := make([]lb.PortLease, 0, len(v.Ports))
	for _, p := range v.Ports {
		ports = append(ports, p.PortLease)
	}
	r.ledger().Published(uid, addrs, ports, r.options.Clock.Now())
}

func (r *room) writeStatus(ctx context.Context, svc *corev1.Service, status *corev1.ServiceStatus) error {
	update := svc.DeepCopy()
	update.Status = *status
	_, err := r.options.Client.CoreV1().Services(svc.Namespace).UpdateStatus(ctx, update, metav1.UpdateOptions{})
	r.metrics.wrote("service_status", err)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write status of service %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	return nil
}

func ingressOf(v ledger.View) []corev1.LoadBalancerIngress {
	ingress := make([]corev1.LoadBalancerIngress, 0, len(v.Addresses))
	for _, a := range v.Addresses {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: a.Addr.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
	}
	if len(v.Ports) > 0 {
		ingress = append(ingress, proxyIngress(v))
	}
	return ingress
}

// proxyIngress is the host of an external load balancer and a port for each served port of the Service, in order. The
// API server takes ipMode beside an address only.
func proxyIngress(v ledger.View) corev1.LoadBalancerIngress {
	i := corev1.LoadBalancerIngress{Hostname: v.Host}
	if v.HostAddr.IsValid() {
		i = corev1.LoadBalancerIngress{IP: v.HostAddr.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)}
	}
	for _, p := range v.Ports {
		i.Ports = append(i.Ports, corev1.PortStatus{Port: int32(p.Port), Protocol: corev1.Protocol(p.Service.Protocol)})
	}
	return i
}

// setIngress puts the addresses into the status once all of them answer. Until then what is published stays; what
// the Service does not hold goes, unless it is none of our pools' business.
func (r *room) setIngress(status *corev1.ServiceStatus, v ledger.View) {
	switch {
	case v.Ready:
		status.LoadBalancer.Ingress = ingressOf(v)
	case len(v.Addresses)+len(v.Ports) == 0:
		var keep []corev1.LoadBalancerIngress
		for _, i := range status.LoadBalancer.Ingress {
			if addr, ok := parseAddr(i.IP); len(i.Ports) > 0 && !r.ledger().HasHost(cmp.Or(i.IP, i.Hostname), i.Ports[0].Port) ||
				len(i.Ports) == 0 && (!ok || !r.ledger().InPool(addr)) {
				keep = append(keep, i)
			}
		}
		status.LoadBalancer.Ingress = keep
	}
}

func setBound(status *corev1.ServiceStatus, generation int64, v ledger.View, now metav1.Time) {
	bound := metav1.Condition{
		Type: lb.ConditionBound, Status: metav1.ConditionFalse, ObservedGeneration: generation, LastTransitionTime: now,
		Reason: string(lb.ReasonWaitingForAgent), Message: "waiting for a node",
	}
	switch {
	case len(v.Addresses)+len(v.Ports) == 0 && v.Refusal != nil:
		bound.Reason, bound.Message = string(v.Refusal.Reason), v.Refusal.Message
	case v.Waiting != nil:
		bound.Reason, bound.Message = string(v.Waiting.Reason), v.Waiting.Message
	case v.Ready:
		bound.Status, bound.Reason, bound.Message = metav1.ConditionTrue, string(lb.ReasonBound), describe(v)
	}
	meta.SetStatusCondition(&status.Conditions, bound)
}

func setDegraded(status *corev1.ServiceStatus, generation int64, v ledger.View, now metav1.Time) {
	if v.Refusal == nil || len(v.Addresses)+len(v.Ports) == 0 {
		meta.RemoveStatusCondition(&status.Conditions, lb.ConditionDegraded)
		return
	}
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: lb.ConditionDegraded, Status: metav1.ConditionTrue, ObservedGeneration: generation, LastTransitionTime: now,
		Reason: string(v.Refusal.Reason), Message: v.Refusal.Message,
	})
}

// describe says where the addresses are, as in "192.0.2.10 on n2 (pool office)".
func describe(v ledger.View) string {
	parts := make([]string, 0, len(v.Addresses))
	for _, a := range v.Addresses {
		if a.Node == "" {
			parts = append(parts, fmt.Sprintf("%s, not bound by Mooring (pool %s)", a.Addr, a.Pool))
		} else {
			parts = append(parts, fmt.Sprintf("%s on %s (pool %s)", a.Addr, a.Node, a.Pool))
		}
	}
	for _, p := range v.Ports {
		host := v.Host
		if v.HostAddr.Is6() {
			host = "[" + host + "]"
		}
		parts = append(parts, fmt.Sprintf("%s %s:%d/%s -> %d, %d targets", p.Pool, host, p.Port, p.Service.Protocol, p.Service.Number, p.Targets))
	}
	return strings.Join(parts, ", ")
}

// announceChange makes an event of what is new for those who look at the Service.
func (r *room) announceChange(svc *corev1.Service, status *corev1.ServiceStatus) {
	if was, is := svc.Status.LoadBalancer.Ingress, status.LoadBalancer.Ingress; len(is) > 0 && !reflect.DeepEqual(was, is) {
		if c := meta.FindStatusCondition(status.Conditions, lb.ConditionBound); c != nil {
			r.options.Recorder.Event(svc, corev1.EventTypeNormal, eventPublished, c.Message)
		}
	}
	for _, kind := range []string{lb.ConditionBound, lb.ConditionDegraded} {
		was, is := meta.FindStatusCondition(svc.Status.Conditions, kind), meta.FindStatusCondition(status.Conditions, kind)
		trouble := is != nil && (is.Status == metav1.ConditionTrue) == (kind == lb.ConditionDegraded)
		if trouble && (was == nil || was.Status != is.Status || was.Reason != is.Reason || was.Message != is.Message) {
			r.options.Recorder.Event(svc, corev1.EventTypeWarning, is.Reason, is.Message)
		}
	}
}

// withdraw takes our conditions off a Service that is no load balancer of ours any more, once nothing of it is held.
// Its status is the API server's to clear, or another implementation's to keep.
//
// A release that takes long is shown, and its end is a write that the service controller notices: it looks at a
// Service that needs cleanup on every change of it, and otherwise only after a backoff.
func (r *room) withdraw(ctx context.Context, svc *corev1.Service, v ledger.View) error {
	status := svc.Status.DeepCopy()
	bound := meta.FindStatusCondition(status.Conditions, lb.ConditionBound)
	switch {
	case v.Holds && v.Waiting != nil:
		if r.waitsShortly(svc, v) {
			return nil
		}
		setBound(status, svc.Generation, v, metav1.NewTime(r.options.Clock.Now()))
	case v.Holds:
		return nil
	default:
		r.waiting.over(string(svc.UID))
		if svc.DeletionTimestamp != nil && (bound == nil || bound.Reason != string(lb.ReasonReleasing)) {
			return nil // the service controller is about to hear of it, or has
		}
		meta.RemoveStatusCondition(&status.Conditions, lb.ConditionBound)
		meta.RemoveStatusCondition(&status.Conditions, lb.ConditionDegraded)
	}
	if reflect.DeepEqual(status, &svc.Status) {
		return nil
	}
	return r.writeStatus(ctx, svc, status)
}
