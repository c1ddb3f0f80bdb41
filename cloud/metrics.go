package cloud

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/place"
)

// instruments are the controller's metrics. Labels are bounded: pools, kinds and results, never a Service.
type instruments struct {
	steps     *metrics.CounterVec
	writes    *metrics.CounterVec
	published *metrics.Histogram
	reloads   *metrics.CounterVec
	calls     *metrics.CounterVec
	rented    *metrics.CounterVec
	pushes    *metrics.CounterVec
	probes    *metrics.Histogram
	rescues   *metrics.Histogram
	current   *metrics.Gauge
}

// newInstruments registers the controller's metrics; what s reads is asked when they are read.
func newInstruments(registry Registry, s *stats) *instruments {
	m := &instruments{
		steps: metrics.NewCounterVec(&metrics.CounterOpts{
			Name: "mooring_address_steps_total", StabilityLevel: metrics.ALPHA,
			Help: "Changes of what a node is told about an address, by operation: hold, yield, release.",
		}, []string{"op"}),
		writes: metrics.NewCounterVec(&metrics.CounterOpts{
			Name: "mooring_api_writes_total", StabilityLevel: metrics.ALPHA,
			Help: "Writes to the API server by kind of object and result: ok, conflict, error.",
		}, []string{"kind", "result"}),
		published: metrics.NewHistogram(&metrics.HistogramOpts{
			Name: "mooring_service_publish_seconds", StabilityLevel: metrics.ALPHA,
			Help:    "Age of a Service when its addresses were published: bound, announced, and in its status.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 300, 3600},
		}),
		reloads: metrics.NewCounterVec(&metrics.CounterOpts{
			Name: "mooring_config_reloads_total", StabilityLevel: metrics.ALPHA,
			Help: "Changes of the cloud-config by result: ok, refused.",
		}, []string{"result"}),
	}
	m.calls = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "mooring_cloud_calls_total", StabilityLevel: metrics.ALPHA,
		Help: "Calls to the cloud that were decided, by operation (buy, assign, unassign, label, delete, look) and result: ok, or the kind of failure.",
	}, []string{"op", "result"})
	m.rented = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "mooring_floating_ips_total", StabilityLevel: metrics.ALPHA,
		Help: "Floating IPs that were bought and that were given back (released), by pool.",
	}, []string{"pool", "event"})
	m.pushes = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: "mooring_updater_calls_total", StabilityLevel: metrics.ALPHA,
		Help: "What was done at the updaters of a pool, by reason and result: ok, error.",
	}, []string{"pool", "reason", "result"})
	m.probes = metrics.NewHistogram(&metrics.HistogramOpts{
		Name: "mooring_probe_seconds", StabilityLevel: metrics.ALPHA,
		Help:    "Time until the health port of a node's agent answered the probe, be it by refusing.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
	})
	m.rescues = metrics.NewHistogram(&metrics.HistogramOpts{
		Name: "mooring_failover_seconds", StabilityLevel: metrics.ALPHA,
		Help:    "How long an address that was moved off a lost node was bound by nobody that answers, from the decision on. Until a loss is noticed, time passes before that.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	})
	m.current = metrics.NewGauge(&metrics.GaugeOpts{
		Name: "mooring_config_current", StabilityLevel: metrics.ALPHA,
		Help: "1 while the newest cloud-config is in force, 0 when it was refused and the last good one stays.",
	})
	registry.MustRegister(m.steps, m.writes, m.published, m.reloads, m.calls, m.rented, m.pushes, m.probes, m.rescues, m.current)
	registry.CustomMustRegister(s)
	m.current.Set(1)
	// What may be counted is shown as 0 before: the first time is an increase, too.
	for _, result := range []string{"ok", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	for _, op := range []place.Op{place.OpHold, place.OpYield, place.OpRelease} {
		m.steps.WithLabelValues(string(op))
	}
	return m
}

// DescribeMetrics registers the controller's metrics without a controller: their names, labels and help texts can be
// read, and their values cannot. hack/reference lists them.
func DescribeMetrics(registry Registry) { newInstruments(registry, &stats{}) }

// called counts a call to the cloud.
func (m *instruments) called(job ledger.Job, answer ledger.Answer) {
	result := "ok"
	if answer.Fault != nil {
		result = string(answer.Fault.Kind)
	}
	m.calls.WithLabelValues(string(job.Op), result).Inc()
	switch {
	case answer.Fault != nil:
	case job.Op == ledger.OpBuy:
		m.rented.WithLabelValues(job.Pool, "bought").Inc()
	case job.Op == ledger.OpDelete:
		m.rented.WithLabelValues(job.Pool, "released").Inc()
	}
}

// reloaded takes notice of a changed cloud-config that was taken over, or refused.
func (m *instruments) reloaded(err error) {
	result, current := "ok", 1.0
	if err != nil {
		result, current = "refused", 0
	}
	m.reloads.WithLabelValues(result).Inc()
	m.current.Set(current)
}

// accountState is how calls to an account fare.
type accountState struct {
	account string
	// remaining calls of limit an hour; known is false before the first answer.
	remaining, limit int
	known            bool
	// failures of reads in a row.
	failures int
	// tokenRefused: the token in the file is not in use.
	tokenRefused bool
}

func (m *instruments) wrote(kind string, err error) {
	result := "ok"
	switch {
	case apierrors.IsConflict(err), apierrors.IsInvalid(err):
		result = "conflict"
	case err != nil:
		result = "error"
	}
	m.writes.WithLabelValues(kind, result).Inc()
}
