package cloud

import (
	"math"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/cloud/ledger"
	"github.com/mooring-lb/mooring/cloud/place"
	"github.com/mooring-lb/mooring/cloud/probe"
	"github.com/mooring-lb/mooring/cloud/service"
)

// This file is about metrics that are read when they are asked for, and shown by the controller that leads alone.

// stats reads the ledger and others when metrics are asked for. The ledger may be nil until it is rebuilt.
type stats struct {
	metrics.BaseStableCollector
	probe    func() probe.Stats
	ledger   func() *ledger.Ledger
	accounts func() []accountState
	updaters func() []updaterHealth
	services func() []service.Standing
	now      func() time.Time
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
	descServices = metrics.NewDesc("mooring_services", "Services by state: bound, degraded (published, and something asked for is not done), waiting (no address yet), down (published, and an address of it is bound by no node), releasing.", []string{"state"}, nil, metrics.ALPHA, "")
	descTrouble  = metrics.NewDesc("mooring_services_in_trouble", "Services that are not bound, by state and by the reason in their condition.", []string{"state", "reason"}, nil, metrics.ALPHA, "")
	descOldest   = metrics.NewDesc("mooring_service_trouble_seconds", "For how long the Service that has been in this state for longest is in it, of those with this reason.", []string{"state", "reason"}, nil, metrics.ALPHA, "")
	descCarried  = metrics.NewDesc("mooring_node_addresses", "Addresses that a Node is told of, by what it is told: hold, yield (while another one takes over), release.", []string{"node", "state"}, nil, metrics.ALPHA, "")
	descWorks    = metrics.NewDesc("mooring_node_agent_ready", "1 when a Node's agent has reported, can do its work and does what it is told, else 0.", []string{"node"}, nil, metrics.ALPHA, "")
	descProbed   = metrics.NewDesc("mooring_node_probed", "1 when the health port of a Node's agent has answered once, so that its silence is noticed, else 0.", []string{"node"}, nil, metrics.ALPHA, "")
	descQuiet    = metrics.NewDesc("mooring_node_silent", "1 while the health port of a Node's agent, which has answered once, is silent, and the Node gets no address, else 0.", []string{"node"}, nil, metrics.ALPHA, "")
	descFailing  = metrics.NewDesc("mooring_account_read_failures", "How often in a row the account could not be read.", []string{"account"}, nil, metrics.ALPHA, "")
	descToken    = metrics.NewDesc("mooring_account_token_refused", "1 when the token in the file of the account is not in use because it was refused, else 0.", []string{"account"}, nil, metrics.ALPHA, "")
	descEpoch    = metrics.NewDesc("mooring_epoch", "Number of this controller's leadership.", nil, nil, metrics.ALPHA, "")
)

// DescribeWithStability implements metrics.StableCollector.
func (s *stats) DescribeWithStability(ch chan<- *metrics.Desc) {
	for _, d := range []*metrics.Desc{descAddresses, descPorts, descUnserved, descUnbound, descOutside, descEpoch,
		descBudget, descLimit, descOpen, descOrphans, descUpdater, descPending, descSilent, descDoubting, descDoubts, descFalse,
		descServices, descTrouble, descOldest, descCarried, descWorks, descProbed, descQuiet, descFailing, descToken} {
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
		gauge(descOpen, number(a.Open), a.Key)
		gauge(descOrphans, float64(a.Orphans), a.Key)
	}
	p := s.probe()
	gauge(descSilent, float64(p.Silent))
	gauge(descDoubting, number(p.Doubting))
	ch <- metrics.NewLazyConstMetric(descDoubts, metrics.CounterValue, float64(p.Doubts))
	ch <- metrics.NewLazyConstMetric(descFalse, metrics.CounterValue, float64(p.FalseLosses))
	for _, h := range s.updaters() {
		gauge(descUpdater, number(h.Err == nil), h.pool, h.URL)
		gauge(descPending, float64(h.Pending), h.pool, h.URL)
	}
	for _, a := range s.accounts() {
		gauge(descFailing, float64(a.failures), a.account)
		gauge(descToken, number(a.tokenRefused), a.account)
		if a.known {
			gauge(descBudget, float64(a.remaining), a.account)
			gauge(descLimit, float64(a.limit), a.account)
		}
	}
	for _, n := range st.Nodes {
		for _, state := range []place.State{place.Hold, place.Yield, place.Release} {
			gauge(descCarried, float64(n.Addresses[state]), n.Name, strings.ToLower(string(state)))
		}
		gauge(descWorks, number(n.Works), n.Name)
		gauge(descProbed, number(n.Probed), n.Name)
		gauge(descQuiet, number(n.Silent), n.Name)
	}
	s.collectServices(gauge)
}

// collectServices counts by what is bounded: never is there a series for each Service.
func (s *stats) collectServices(gauge func(d *metrics.Desc, v float64, labels ...string)) {
	type trouble struct {
		state  service.State
		reason string
	}
	states, troubles, oldest := map[service.State]int{}, map[trouble]int{}, map[trouble]time.Duration{}
	now := s.now()
	for _, x := range s.services() {
		states[x.State]++
		if t := (trouble{x.State, x.Reason}); x.State != service.StateBound {
			troubles[t]++
			oldest[t] = max(oldest[t], now.Sub(x.Since))
		}
	}
	for _, state := range service.States {
		gauge(descServices, float64(states[state]), string(state))
	}
	for t, count := range troubles {
		gauge(descTrouble, float64(count), string(t.state), t.reason)
		gauge(descOldest, oldest[t].Seconds(), string(t.state), t.reason)
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// standings of the Services that are ours, or were and are not let go of yet.
func (r *room) standings() []service.Standing {
	services, _ := r.services.List(labels.Everything()) // an informer's cache has no error to give
	all := make([]service.Standing, 0, len(services))
	for _, svc := range services {
		if standing, ok := r.syncer.StandingOf(svc); ok {
			all = append(all, standing)
		}
	}
	return all
}
