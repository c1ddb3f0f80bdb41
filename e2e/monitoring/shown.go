package monitoring

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Shown is what a running system shows: the values of each label of each metric.
type Shown map[string]map[string]map[string]bool

// targetLabels are put on by Prometheus, as the scrape configuration says. An agent's node is one.
var targetLabels = []string{"instance", "job"}

// agentPrefix begins the names of the agents' metrics.
const agentPrefix = "mooring_agent_"

// Add takes in one scrape.
func (s Shown) Add(scrape io.Reader) error {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(scrape)
	if err != nil {
		return fmt.Errorf("parse a scrape: %w", err)
	}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			switch family.GetType() {
			case dto.MetricType_HISTOGRAM:
				for _, b := range m.GetHistogram().GetBucket() {
					s.add(name+"_bucket", m.GetLabel(), &dto.LabelPair{Name: new("le"), Value: new(fmt.Sprint(b.GetUpperBound()))})
				}
				s.add(name+"_sum", m.GetLabel())
				s.add(name+"_count", m.GetLabel())
			case dto.MetricType_SUMMARY:
				s.add(name, m.GetLabel(), &dto.LabelPair{Name: new("quantile"), Value: new("")})
				s.add(name+"_sum", m.GetLabel())
				s.add(name+"_count", m.GetLabel())
			default:
				s.add(name, m.GetLabel())
			}
		}
	}
	return nil
}

func (s Shown) add(name string, pairs []*dto.LabelPair, more ...*dto.LabelPair) {
	if s[name] == nil {
		s[name] = map[string]map[string]bool{}
	}
	for _, pair := range slices.Concat(pairs, more) {
		if s[name][pair.GetName()] == nil {
			s[name][pair.GetName()] = map[string]bool{}
		}
		s[name][pair.GetName()][pair.GetValue()] = true
	}
}

// Missing says what an expression asks for that is not shown: a metric, a label of it, or a value for which it looks. A
// value may be shown by another metric with that label: what goes wrong seldom is counted when it does.
func (s Shown) Missing(expr string) ([]string, error) {
	selectors, err := Selectors(expr)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, sel := range selectors {
		if sel.Metric == "up" {
			continue // Prometheus' own
		}
		shown, ok := s[sel.Metric]
		if !ok {
			missing = append(missing, fmt.Sprintf("no metric %s", sel.Metric))
			continue
		}
		for _, name := range sel.Labels {
			if shown[name] == nil && !slices.Contains(targetLabels, name) && (name != "node" || !strings.HasPrefix(sel.Metric, agentPrefix)) {
				missing = append(missing, fmt.Sprintf("%s has no label %s", sel.Metric, name))
			}
		}
		for _, m := range sel.Matchers {
			if values := slices.Collect(maps.Keys(s.values(m.Name))); !slices.ContainsFunc(values, m.Matches) && !slices.Contains(targetLabels, m.Name) {
				missing = append(missing, fmt.Sprintf("%s{%s} matches nothing that is shown", sel.Metric, m))
			}
		}
	}
	return missing, nil
}

// values that any metric shows for a label.
func (s Shown) values(label string) map[string]bool {
	values := map[string]bool{}
	for _, metric := range s {
		maps.Copy(values, metric[label])
	}
	return values
}
