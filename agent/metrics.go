package agent

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/agent/netif"
)

// Metrics of an agent.
type Metrics struct {
	bound, failed             *metrics.Gauge
	pending, contested        *metrics.Gauge
	undetected                *metrics.GaugeVec
	applySeconds              *metrics.Histogram
	steps, announcements      *metrics.CounterVec
	statusWrites              *metrics.CounterVec
	watchRestarts, readErrors *metrics.Counter
	claims, claimsDropped     *metrics.Counter
	probes, conflicts         *metrics.CounterVec
	liveReads                 *metrics.CounterVec

	dropped     func() uint64
	droppedThen uint64 // counted of dropped
}

// NewMetrics makes the agent's metrics and hands them to register. dropped is how many claims the host could not tell of
// since it was opened; nil: that is not known.
func NewMetrics(register func(...metrics.Registerable), dropped func() uint64) *Metrics {
	const namespace = "mooring_agent"
	gauge := func(name, help string) *metrics.Gauge {
		return metrics.NewGauge(&metrics.GaugeOpts{Namespace: namespace, Name: name, Help: help, StabilityLevel: metrics.ALPHA})
	}
	counter := func(name, help string) *metrics.Counter {
		return metrics.NewCounter(&metrics.CounterOpts{Namespace: namespace, Name: name, Help: help, StabilityLevel: metrics.ALPHA})
	}
	vec := func(name, help string, labels ...string) *metrics.CounterVec {
		return metrics.NewCounterVec(&metrics.CounterOpts{Namespace: namespace, Name: name, Help: help,
			StabilityLevel: metrics.ALPHA}, labels)
	}
	m := &Metrics{
		bound:     gauge("bound_addresses", "Addresses of Mooring that are bound on this host."),
		failed:    gauge("failed_addresses", "Addresses that could not be bound or unbound at the last attempt."),
		pending:   gauge("pending_addresses", "Addresses of which the agent has not done yet what it is told, as reported."),
		contested: gauge("contested_addresses", "Addresses held here that another machine answers for, too, as reported."),
		undetected: metrics.NewGaugeVec(&metrics.GaugeOpts{Namespace: namespace, Name: "conflicts_undetected",
			Help: "1 while conflicts over addresses cannot be detected, by reason: NotListening, ProxyARP.", StabilityLevel: metrics.ALPHA},
			[]string{"reason"}),
		applySeconds: metrics.NewHistogram(&metrics.HistogramOpts{Namespace: namespace, Name: "apply_seconds",
			Help: "How long it took to make the host match the object.", StabilityLevel: metrics.ALPHA,
			Buckets: metrics.ExponentialBuckets(0.0005, 2, 14)}),
		steps:         vec("steps_total", "Steps carried out on the host, by kind and result (ok, error).", "kind", "result"),
		announcements: vec("announcements_total", "Announcements of an address on its uplink, by result (ok, error).", "result"),
		statusWrites:  vec("status_writes_total", "Writes of the object's status, by result (ok, error).", "result"),
		watchRestarts: counter("watch_restarts_total", "How often a watch of the host's network began, the first time included."),
		readErrors:    counter("read_errors_total", "How often the host's network could not be read."),
		claims:        counter("claims_total", "Claims of other machines to addresses of this node."),
		claimsDropped: counter("claims_dropped_total", "Claims, and frames that may have been claims, that were not looked at because "+
			"there were too many."),
		probes: vec("probes_total", "Probes for an address on its uplink, by result (ok, error).", "result"),
		conflicts: vec("conflicts_total", "Addresses that another machine answered for, by outcome (occupied: a new address was "+
			"not bound; yielded: unbound, because the API server could not be asked; defended: announced).", "outcome"),
		liveReads: vec("live_reads_total", "Live reads of the object because of a conflict or after an absence, by result (ok, error).",
			"result"),
		dropped: dropped,
	}
	register(m.bound, m.failed, m.pending, m.contested, m.undetected, m.applySeconds, m.steps, m.announcements, m.statusWrites, m.watchRestarts, m.readErrors,
		m.claims, m.claimsDropped, m.probes, m.conflicts, m.liveReads)
	// What may be counted is shown as 0 before: the first time is an increase, too.
	for _, r := range []string{result(true), result(false)} {
		for _, counted := range []*metrics.CounterVec{m.announcements, m.statusWrites, m.probes, m.liveReads} {
			counted.WithLabelValues(r)
		}
	}
	for _, outcome := range []string{"occupied", "yielded", "defended"} {
		m.conflicts.WithLabelValues(outcome)
	}
	m.told(v1alpha1.NodeAddressesStatus{})
	return m
}

func result(ok bool) string {
	if ok {
		return "ok"
	}
	return "error"
}

// The methods work without metrics, too: a keeper may have none.

func (m *Metrics) step(kind netif.Kind, ok bool) {
	if m != nil {
		m.steps.WithLabelValues(string(kind), result(ok)).Inc()
	}
}

func (m *Metrics) announced(ok bool) {
	if m != nil {
		m.announcements.WithLabelValues(result(ok)).Inc()
	}
}

func (m *Metrics) reported(ok bool) {
	if m != nil {
		m.statusWrites.WithLabelValues(result(ok)).Inc()
	}
}

// told takes up what the agent reports.
func (m *Metrics) told(status v1alpha1.NodeAddressesStatus) {
	if m == nil {
		return
	}
	m.pending.Set(float64(len(status.Pending)))
	m.contested.Set(float64(len(status.Contested)))
	blind := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionConflictDetection)
	for _, reason := range []string{ReasonNotListening, ReasonProxyARP} {
		undetected := 0.0
		if blind != nil && blind.Reason == reason {
			undetected = 1
		}
		m.undetected.WithLabelValues(reason).Set(undetected)
	}
}

func (m *Metrics) watchBegan() {
	if m != nil {
		m.watchRestarts.Inc()
	}
}

func (m *Metrics) unreadable() {
	if m != nil {
		m.readErrors.Inc()
	}
}

// applying begins to measure an attempt to make the host match the object; done ends it.
func (m *Metrics) applying() (done func(bound, failed int)) {
	if m == nil {
		return func(int, int) {}
	}
	began := time.Now()
	return func(bound, failed int) {
		m.applySeconds.Observe(time.Since(began).Seconds())
		m.bound.Set(float64(bound))
		m.failed.Set(float64(failed))
	}
}

func (m *Metrics) claimed() {
	if m != nil {
		m.claims.Inc()
	}
}

// beat brings up to date what nobody tells of. It is called from one thread.
func (m *Metrics) beat() {
	if m == nil || m.dropped == nil {
		return
	}
	total := m.dropped()
	m.claimsDropped.Add(float64(total - m.droppedThen))
	m.droppedThen = total
}

func (m *Metrics) probed(ok bool) {
	if m != nil {
		m.probes.WithLabelValues(result(ok)).Inc()
	}
}

func (m *Metrics) conflicted(outcome string) {
	if m != nil {
		m.conflicts.WithLabelValues(outcome).Inc()
	}
}

func (m *Metrics) readLive(ok bool) {
	if m != nil {
		m.liveReads.WithLabelValues(result(ok)).Inc()
	}
}
