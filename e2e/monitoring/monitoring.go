// Package monitoring reads what manifests/monitoring asks Prometheus for, and compares it with what a running system shows.
// It speaks to nobody: it reads files and the text of a scrape, and does not run a query.
package monitoring

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// Directory of the rules and of the dashboard, in the repository.
const Directory = "manifests/monitoring"

// Rule is an alert.
type Rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Rules reads the alert rules of a repository.
func Rules(root string) ([]Rule, error) {
	text, err := os.ReadFile(filepath.Join(root, Directory, "alerts.yaml"))
	if err != nil {
		return nil, err
	}
	var file struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []Rule `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		return nil, fmt.Errorf("parse alerts.yaml: %w", err)
	}
	var rules []Rule
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules, nil
}

// Dashboard is what is looked at of Grafana's.
type Dashboard struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Panels     []Panel `json:"panels"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

// Panel of a dashboard; a row is one without targets.
type Panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Datasource struct {
		Type, UID string
	} `json:"datasource"`
	Targets []struct {
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
		RefID        string `json:"refId"`
	} `json:"targets"`
}

// ReadDashboard reads the dashboard of a repository.
func ReadDashboard(root string) (Dashboard, error) {
	var d Dashboard
	text, err := os.ReadFile(filepath.Join(root, Directory, "dashboard.json"))
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("parse dashboard.json: %w", err)
	}
	return d, nil
}

// Expressions are all that rules and dashboard ask for, by who asks.
func Expressions(root string) (map[string]string, error) {
	rules, err := Rules(root)
	if err != nil {
		return nil, err
	}
	dashboard, err := ReadDashboard(root)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, r := range rules {
		all["alert "+r.Alert] = r.Expr
	}
	for _, p := range dashboard.Panels {
		for _, t := range p.Targets {
			all[fmt.Sprintf("panel %q, query %s", p.Title, t.RefID)] = Fill(t.Expr)
		}
	}
	return all, nil
}

// filled are the places that Grafana fills in, with what it puts there when all is to be seen.
var filled = strings.NewReplacer("$__rate_interval", "5m", "$pool", ".*", "$node", ".*")

// Fill puts something into the places that Grafana fills in.
func Fill(expr string) string { return filled.Replace(expr) }

// Selector is a metric that an expression names, and the labels that it must have.
type Selector struct {
	Metric string
	// Matchers are those that say which value a label has.
	Matchers []*labels.Matcher
	// Labels are named by matchers, groupings and joins.
	Labels []string
}

// Selectors of an expression.
func Selectors(expr string) ([]Selector, error) {
	root, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, fmt.Errorf("parse %q: %w", expr, err)
	}
	var found []Selector
	parser.Inspect(root, func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		s, named := Selector{Metric: selector.Name}, map[string]bool{}
		for _, m := range selector.LabelMatchers {
			if m.Name != model.MetricNameLabel {
				s.Matchers = append(s.Matchers, m)
				named[m.Name] = true
			}
		}
		// What stands around the selector groups, or joins, by labels that it must have.
		for _, around := range path {
			for _, name := range groupedBy(around) {
				named[name] = true
			}
		}
		s.Labels = slices.Sorted(maps.Keys(named))
		found = append(found, s)
		return nil
	})
	return found, nil
}

// groupedBy are the labels by which a part of an expression groups or joins.
func groupedBy(node parser.Node) []string {
	switch n := node.(type) {
	case *parser.AggregateExpr:
		return n.Grouping
	case *parser.BinaryExpr:
		if n.VectorMatching != nil {
			return n.VectorMatching.MatchingLabels
		}
	}
	return nil
}
