package cloud

import (
	"math"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/probe"
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
	registry.MustRegister(m.steps, m.writes, m.published, m.reloads, m.calls, m.rented, m.pushes, m.probes)
	registry.CustomMustRegister(s)
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

// budget is what is left of an account's rate limit.
type budget struct {
	account          string
	remaining, limit int
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

// stats reads the ledger and others when metrics are asked for. The ledger may be nil until it is rebuilt.
type stats struct {
	metrics.BaseStableCollector
	probe    func() probe.Stats
	ledger   func() *ledger.Ledger
	budgets  func() []budget
	updaters func() []updaterHealth
}

var (
	descAddresses = metrics.NewDesc("mooring_pool_addresses", "Addresses of a pool by IP family and state: size (absent without a limit), used, ordered, quarantined.",
		[]string{"pool", "family", "state"}, nil, metrics.ALPHA, "")
	descPorts    = metrics.NewDesc("mooring_pool_ports", "Ports of an updater pool by protocol and state: size, used.", []string{"pool", "protocol", "state"}, nil, metrics.ALPHA, "")
	descUnserved = metrics.NewDesc("mooring_services_refused", "Services that something is refused to.", nil, nil, metrics.ALPHA, "")
	descUnbound  = metrics.NewDesc("mooring_addresses_unbound", "Addresses that a Service holds and no node has bound.", nil, nil, metrics.ALPHA, "")
	descOutside  = metrics.NewDesc("mooring_addresses_outside", "Addresses in use whose pool is not configured or does not contain them.", nil, nil, metrics.ALPHA, "")
	descBudget   = metrics.NewDesc("mooring_cloud_calls_remaining", "Calls that the account's rate limit leaves now, as estimated from its last answer.", []string{"account"}, nil, metrics.ALPHA, "")
	descLimit    = metrics.NewDesc("mooring_cloud_calls_limit", "Calls an hour that the account's rate limit allows all who use it.", []string{"account"}, nil, metrics.ALPHA, "")
	descUpdater  = metrics.NewDesc("mooring_updater_up", "1 when an updater answers calls, as far as is known, else 0.", []string{"pool", "url"}, nil, metrics.ALPHA, "")
	descPending  = metrics.NewDesc("mooring_updater_pending", "Ports of which an updater has not taken what is wanted.", []string{"pool", "url"}, nil, metrics.ALPHA, "")
	descOpen     = metrics.NewDesc("mooring_account_open", "1 when the account was read and shows servers of this cluster, else 0: then nothing is done there.", []string{"account"}, nil, metrics.ALPHA, "")
	descOrphans  = metrics.NewDesc("mooring_floating_ips_orphaned", "Floating IPs that this cluster bought for Services that exist no more.", []string{"account"}, nil, metrics.ALPHA, "")
	descSilent   = metrics.NewDesc("mooring_probe_silent_nodes", "Nodes whose agent's health port is silent.", nil, nil, metrics.ALPHA, "")
	descDoubting = metrics.NewDesc("mooring_probe_doubting", "1 while more than half of the nodes are silent, so that the probe doubts itself and nothing is concluded from silence, else 0.", nil, nil, metrics.ALPHA, "")
	descDoubts   = metrics.NewDesc("mooring_probe_doubts_total", "How often the probe began to doubt itself.", nil, nil, metrics.ALPHA, "")
	descFalse    = metrics.NewDesc("mooring_probe_false_losses_total", "Nodes that the probe took for lost and that were not.", nil, nil, metrics.ALPHA, "")
	descEpoch    = metrics.NewDesc("mooring_epoch", "Number of this controller's leadership.", nil, nil, metrics.ALPHA, "")
)

// DescribeWithStability implements metrics.StableCollector.
func (s *stats) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{descAddresses, descPorts, descUnserved, descUnbound, descOutside, descEpoch,
		descBudget, descLimit, descOpen, descOrphans, descUpdater, descPending, descSilent, descDoubting, descDoubts, descFalse} {
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
		if u.Size != math.MaxUint64 {
			gauge(descAddresses, float64(u.Size), u.Pool, string(u.Family), "size")
		}
		gauge(descAddresses, float64(u.Ordered), u.Pool, string(u.Family), "ordered")
		gauge(descAddresses, float64(u.Used), u.Pool, string(u.Family), "used")
		gauge(descAddresses, float64(u.Quarantined), u.Pool, string(u.Family), "quarantined")
	}
	for _, u := range st.Ports {
		gauge(descPorts, float64(u.Size), u.Pool, string(u.Protocol), "size")
		gauge(descPorts, float64(u.Used), u.Pool, string(u.Protocol), "used")
	}
	gauge(descUnserved, float64(st.Unserved))
	gauge(descUnbound, float64(st.Unbound))
	gauge(descOutside, float64(len(st.Outside)))
	gauge(descEpoch, float64(l.Epoch()))
	for _, a := range st.Accounts {
		open := 0.0
		if a.Open {
			open = 1
		}
		gauge(descOpen, open, a.Key)
		gauge(descOrphans, float64(a.Orphans), a.Key)
	}
	p := s.probe()
	doubting := 0.0
	if p.Doubting {
		doubting = 1
	}
	gauge(descSilent, float64(p.Silent))
	gauge(descDoubting, doubting)
	ch <- metrics.NewLazyConstMetric(descDoubts, metrics.CounterValue, float64(p.Doubts))
	ch <- metrics.NewLazyConstMetric(descFalse, metrics.CounterValue, float64(p.FalseLosses))
	for _, h := range s.updaters() {
		up := 1.0
		if h.Err != nil {
			up = 0
		}
		gauge(descUpdater, up, h.pool, h.URL)
		gauge(descPending, float64(h.Pending), h.pool, h.URL)
	}
	for _, b := range s.budgets() {
		gauge(descBudget, float64(b.remaining), b.account)
		gauge(descLimit, float64(b.limit), b.account)
	}
}
