package cloud

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/cloud/ledger"
)

// instruments are the controller's metrics. Labels are bounded: pools, kinds and results, never a Service.
type instruments struct {
	steps     *metrics.CounterVec
	writes    *metrics.CounterVec
	published *metrics.Histogram
	reloads   *metrics.CounterVec
}

// newInstruments registers the controller's metrics; the ledger is asked when they are read, and may be nil until
// it is rebuilt.
func newInstruments(registry Registry, l func() *ledger.Ledger) *instruments {
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
	registry.MustRegister(m.steps, m.writes, m.published, m.reloads)
	registry.CustomMustRegister(&stats{ledger: l})
	return m
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

// stats reads the ledger when metrics are asked for.
type stats struct {
	metrics.BaseStableCollector
	ledger func() *ledger.Ledger
}

var (
	descAddresses = metrics.NewDesc("mooring_pool_addresses", "Addresses of a pool by IP family and state: size, used, quarantined.",
		[]string{"pool", "family", "state"}, nil, metrics.ALPHA, "")
	descUnserved = metrics.NewDesc("mooring_services_refused", "Services that something is refused to.", nil, nil, metrics.ALPHA, "")
	descUnbound  = metrics.NewDesc("mooring_addresses_unbound", "Addresses that a Service holds and no node has bound.", nil, nil, metrics.ALPHA, "")
	descOutside  = metrics.NewDesc("mooring_addresses_outside", "Addresses in use whose pool is not configured or does not contain them.", nil, nil, metrics.ALPHA, "")
	descEpoch    = metrics.NewDesc("mooring_epoch", "Number of this controller's leadership.", nil, nil, metrics.ALPHA, "")
)

// DescribeWithStability implements metrics.StableCollector.
func (s *stats) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{descAddresses, descUnserved, descUnbound, descOutside, descEpoch} {
		ch <- d
	}
}

// CollectWithStability implements metrics.StableCollector.
func (s *stats) CollectWithStability(ch chan<- metrics.Metric) {
	l := s.ledger()
	if l == nil {
		return
	}
	gauge := func(d *metrics.Desc, v float64, labels ...string) {
		ch <- metrics.NewLazyConstMetric(d, metrics.GaugeValue, v, labels...)
	}
	st := l.Stats()
	for _, u := range st.Pools {
		gauge(descAddresses, float64(u.Size), u.Pool, string(u.Family), "size")
		gauge(descAddresses, float64(u.Used), u.Pool, string(u.Family), "used")
		gauge(descAddresses, float64(u.Quarantined), u.Pool, string(u.Family), "quarantined")
	}
	gauge(descUnserved, float64(st.Unserved))
	gauge(descUnbound, float64(st.Unbound))
	gauge(descOutside, float64(len(st.Outside)))
	gauge(descEpoch, float64(l.Epoch()))
}
