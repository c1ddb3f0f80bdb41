package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics"

	"github.com/mooring-lb/mooring/agent"
	"github.com/mooring-lb/mooring/cloud"
	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/hetzner"
)

// metric is one as its program registers it.
type metric struct{ name, kind, labels, stability, help string }

// programs are the metrics by the program that serves them: controller, agent and hetzner, which the controller serves.
type programs map[string][]metric

// ofHetzner are the metrics of hcloud-go in our words.
var ofHetzner = map[string]string{
	"hcloud_api_in_flight_requests":       "HTTP calls that no answer has come to yet.",
	"hcloud_api_request_duration_seconds": "Time until a call was answered.",
	"hcloud_api_requests_total":           "HTTP calls by status code, method and path (without ids), polls and lists included.",
}

// registered has the programs' own code register its metrics.
func registered() (programs, error) {
	all := make(programs)
	var mistakes []error
	add := func(program, kind string, c prometheus.Collector) {
		for _, d := range descriptions(c) {
			m, err := parseDescription(d.String())
			if err != nil {
				mistakes = append(mistakes, err)
				continue
			}
			m.kind = cmp.Or(kind, guess(m.name))
			all[program] = append(all[program], m)
		}
	}
	cloud.DescribeMetrics(registry{add: func(kind string, c prometheus.Collector) { add("controller", kind, c) }})
	agent.NewMetrics(func(list ...metrics.Registerable) {
		registry{add: func(kind string, c prometheus.Collector) { add("agent", kind, c) }}.MustRegister(list...)
	}, nil)
	client := &registerer{add: func(c prometheus.Collector) { add("hetzner", kindOfCollector(c), c) }}
	if err := hetznerMetrics(client); err != nil {
		return nil, err
	}
	for i, m := range all["hetzner"] {
		all["hetzner"][i].help = ofHetzner[m.name]
	}
	for program := range all {
		slices.SortFunc(all[program], func(a, b metric) int { return strings.Compare(a.name, b.name) })
		for _, m := range all[program] {
			if m.help == "" {
				mistakes = append(mistakes, fmt.Errorf("metric %s of the %s has no help text", m.name, program))
			}
		}
	}
	return all, errors.Join(mistakes...)
}

func (p programs) table(program string) (string, error) {
	if len(p[program]) == 0 {
		return "", fmt.Errorf("nothing registers metrics of the %s", program)
	}
	var rows [][]string
	for _, m := range p[program] {
		rows = append(rows, []string{code(m.name), m.kind, m.labels, cmp.Or(m.stability, "-"), m.help})
	}
	return table([]string{"Metric", "Type", "Labels", "Stability", "Meaning"}, rows), nil
}

// descriptions of what a collector would give.
func descriptions(c prometheus.Collector) []*prometheus.Desc {
	given := make(chan *prometheus.Desc)
	go func() {
		defer close(given)
		c.Describe(given)
	}()
	var all []*prometheus.Desc
	for d := range given {
		all = append(all, d)
	}
	return all
}

// A description keeps its fields to itself; what it prints has them all.
var (
	descriptionText = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*")(?:, unit: ".*?")?, constLabels: \{.*\}, variableLabels: \{(.*)\}\}$`)
	stabilityText   = regexp.MustCompile(`^\[(ALPHA|BETA|STABLE|INTERNAL)\] `)
)

func parseDescription(s string) (metric, error) {
	m := descriptionText.FindStringSubmatch(s)
	if m == nil {
		return metric{}, fmt.Errorf("the metric %s cannot be read", s)
	}
	name, err := strconv.Unquote(m[1])
	if err != nil {
		return metric{}, fmt.Errorf("the name of metric %s cannot be read: %w", s, err)
	}
	help, err := strconv.Unquote(m[2])
	if err != nil {
		return metric{}, fmt.Errorf("the help of metric %s cannot be read: %w", s, err)
	}
	found := metric{name: name, help: help}
	if s := stabilityText.FindStringSubmatch(help); s != nil {
		found.stability, found.help = s[1], strings.TrimPrefix(help, s[0])
	}
	var labels []string
	for label := range strings.SplitSeq(m[3], ",") {
		if label != "" {
			labels = append(labels, code(label))
		}
	}
	found.labels = strings.Join(labels, ", ")
	return found, nil
}

// guess is the type of a metric that is made when it is read: no more is known of it than its name.
func guess(name string) string {
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

// registry implements cloud.Registry and describes what it is given.
type registry struct {
	add func(kind string, c prometheus.Collector)
}

// MustRegister implements cloud.Registry.
func (r registry) MustRegister(list ...metrics.Registerable) {
	metrics.NewKubeRegistry().MustRegister(list...)
	for _, m := range list {
		r.add(kindOfMetric(m), m)
	}
}

// CustomMustRegister implements cloud.Registry.
func (r registry) CustomMustRegister(list ...metrics.StableCollector) {
	metrics.NewKubeRegistry().CustomMustRegister(list...)
	for _, c := range list {
		r.add("", c)
	}
}

func kindOfMetric(m metrics.Registerable) string {
	switch m.(type) {
	case *metrics.Counter, *metrics.CounterVec:
		return "counter"
	case *metrics.Histogram, *metrics.HistogramVec:
		return "histogram"
	default:
		return "gauge"
	}
}

// registerer implements prometheus.Registerer and describes what it is given.
type registerer struct{ add func(prometheus.Collector) }

// Register implements prometheus.Registerer.
func (r *registerer) Register(c prometheus.Collector) error {
	r.add(c)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r *registerer) MustRegister(list ...prometheus.Collector) {
	for _, c := range list {
		r.add(c)
	}
}

// Unregister implements prometheus.Registerer.
func (r *registerer) Unregister(prometheus.Collector) bool { return true }

func kindOfCollector(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	case *prometheus.GaugeVec, prometheus.Gauge:
		return "gauge"
	default:
		return ""
	}
}

// hetznerMetrics makes a client, with a token that is none and that nothing is sent with.
func hetznerMetrics(r prometheus.Registerer) (err error) {
	dir, err := os.MkdirTemp("", "reference-")
	if err != nil {
		return fmt.Errorf("make a directory for a token file: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("none"), 0o600); err != nil {
		return fmt.Errorf("write a token file: %w", err)
	}
	account := &config.Account{TokenFile: token, Endpoint: "https://api.example.com/v1"}
	if err := hetzner.NewAccounts(hetzner.Options{Registerer: r}).Load(&config.Config{Hetzner: account}); err != nil {
		return fmt.Errorf("make a client of Hetzner: %w", err)
	}
	return nil
}
