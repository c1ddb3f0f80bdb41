package manifests_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/mooring-lb/mooring/e2e/monitoring"
)

// Who is woken at three in the morning follows the link, and finds what to do.
func TestEachAlertHasItsPage(t *testing.T) {
	rules, err := monitoring.Rules("..")
	require.NoError(t, err)
	index, err := os.ReadFile("../docs/alerts/README.md")
	require.NoError(t, err)
	var pages []string
	for _, r := range rules {
		t.Run(r.Alert, func(t *testing.T) {
			page := "docs/alerts/" + r.Alert + ".md"
			pages = append(pages, r.Alert+".md")
			assert.Equal(t, "https://github.com/mooring-lb/mooring/blob/main/"+page, r.Annotations["runbook_url"])
			assert.Contains(t, string(index), "["+r.Alert+"]("+r.Alert+".md)")
			assert.Contains(t, []string{"critical", "warning"}, r.Labels["severity"])
			assert.Regexp(t, `^[1-9][0-9]*[mh]$`, r.For)
			assert.NotEmpty(t, r.Annotations["summary"])
			assert.NotEmpty(t, r.Annotations["description"])

			text, err := os.ReadFile("../" + page)
			require.NoError(t, err)
			assert.True(t, strings.HasPrefix(string(text), "# "+r.Alert+"\n"))
			for _, heading := range []string{"What it means", "What users notice", "What to look at", "What to do", "When it may be silenced"} {
				assert.Contains(t, string(text), "\n## "+heading+"\n")
			}
			assert.Contains(t, string(text), "Severity: "+r.Labels["severity"]+",")
		})
	}
	found, err := filepath.Glob("../docs/alerts/*.md")
	require.NoError(t, err)
	for _, page := range found {
		assert.Contains(t, append(pages, "README.md"), filepath.Base(page), "it is the page of no alert")
	}
	assert.Len(t, slices.Compact(slices.Sorted(slices.Values(pages))), len(rules), "each alert is there once")
}

// A rule that never fires, and one that always does, look like a good one. promtool plays the cases; make lint runs it.
func TestEachAlertIsTestedBothWays(t *testing.T) {
	rules, err := monitoring.Rules("..")
	require.NoError(t, err)
	text, err := os.ReadFile("monitoring/testdata/alerts_test.yaml")
	require.NoError(t, err)
	var file struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string `json:"alertname"`
				ExpAlerts []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.AlertRuleTest {
			if len(c.ExpAlerts) > 0 {
				fires[c.Alertname] = true
			} else {
				silent[c.Alertname] = true
			}
		}
	}
	for _, r := range rules {
		assert.True(t, fires[r.Alert], "%s is never seen to fire", r.Alert)
		assert.True(t, silent[r.Alert], "%s is never seen to be silent", r.Alert)
	}
	assert.Len(t, fires, len(rules))
}

func TestDashboard(t *testing.T) {
	d, err := monitoring.ReadDashboard("..")
	require.NoError(t, err)
	assert.Equal(t, "mooring", d.UID)
	variables := map[string]bool{}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	variable, legend := regexp.MustCompile(`\$(\w+)|\$\{(\w+)\}`), regexp.MustCompile(`\{\{(\w+)\}\}`)
	for _, p := range d.Panels {
		assert.False(t, ids[p.ID], "panel id %d is there twice", p.ID)
		ids[p.ID] = true
		g := p.GridPos
		assert.LessOrEqual(t, g.X+g.W, 24, p.Title)
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				assert.Empty(t, cells[[2]int{x, y}], "it lies on %q", p.Title)
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			assert.Empty(t, p.Targets)
			continue
		}
		assert.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
		assert.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			selectors, err := monitoring.Selectors(monitoring.Fill(target.Expr))
			require.NoError(t, err, p.Title)
			assert.NotEmpty(t, selectors, p.Title)
			for _, name := range variable.FindAllStringSubmatch(target.Expr, -1) {
				assert.True(t, variables[name[1]] || strings.HasPrefix(name[1], "__"), "%s: no variable %s", p.Title, name[1])
			}
			var known []string
			for _, s := range selectors {
				known = append(known, s.Labels...)
			}
			for _, name := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
				assert.Contains(t, known, name[1], "%s: the legend shows a label that the query does not keep", p.Title)
			}
		}
	}
}

// What the Prometheus operator is told to read are the ports on which controller and agents serve, by the names that the
// rules look for.
func TestMonitorsReadWhatServes(t *testing.T) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "monitoring")
	require.NoError(t, err)
	objects := render(t, "base")
	pods := map[string]corev1.PodTemplateSpec{
		"mooring-controller": all[*appsv1.Deployment](objects)[0].Spec.Template,
		"mooring-agent":      all[*appsv1.DaemonSet](objects)[0].Spec.Template,
	}
	type monitor struct {
		Spec struct {
			Selector            metav1.LabelSelector `json:"selector"`
			PodMetricsEndpoints []struct {
				Port, Scheme  string
				Authorization *struct {
					Credentials corev1.SecretKeySelector `json:"credentials"`
				}
				Relabelings []struct {
					TargetLabel, Replacement string
				}
			} `json:"podMetricsEndpoints"`
		} `json:"spec"`
	}
	kinds := map[string]int{}
	for _, r := range resources.Resources() {
		kinds[r.GetKind()]++
		assert.NotEqual(t, "default", r.GetNamespace())
		if r.GetKind() != "PodMonitor" {
			continue
		}
		text, err := r.AsYAML()
		require.NoError(t, err)
		var m monitor
		require.NoError(t, yaml.Unmarshal(text, &m))
		require.Len(t, m.Spec.PodMetricsEndpoints, 1)
		endpoint := m.Spec.PodMetricsEndpoints[0]
		pod, ok := pods[endpoint.Relabelings[0].Replacement]
		require.True(t, ok, endpoint.Relabelings[0].Replacement)
		assert.Equal(t, "job", endpoint.Relabelings[0].TargetLabel)
		selector, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
		require.NoError(t, err)
		assert.True(t, selector.Matches(labels.Set(pod.Labels)))
		assert.Equal(t, pod.Spec.Containers[0].Ports[0].Name, endpoint.Port)
		assert.Equal(t, endpoint.Scheme == "https", endpoint.Authorization != nil)
	}
	assert.Equal(t, map[string]int{"PodMonitor": 2, "PrometheusRule": 1, "ConfigMap": 1, "ServiceAccount": 1, "Secret": 1,
		"ClusterRole": 1, "ClusterRoleBinding": 1}, kinds)
}

// A page that speaks of a reason which nothing gives any more sends people looking for what is not there.
func TestPagesNameReasonsThatExist(t *testing.T) {
	known := map[string]bool{}
	for _, directory := range []string{"cloud", "cloud/lb", "cloud/service", "cloud/explain", "agent", "agent/api/v1alpha1"} {
		for _, name := range stringConstants(t, filepath.Join("..", directory)) {
			known[name] = true
		}
	}
	require.True(t, known["NoEligibleNode"] && known["NodeLost"] && known["ProxyARP"])
	rules, err := monitoring.Rules("..")
	require.NoError(t, err)
	for _, r := range rules {
		known[r.Alert] = true
	}
	for _, name := range []string{ // of Kubernetes and of the Prometheus operator
		"ClusterRole", "CrashLoopBackOff", "InternalIP", "NodeAddresses", "Pending", "PodMonitor", "PrometheusRule", "Ready", "NotReady",
		"LoadBalancer",
	} {
		known[name] = true
	}
	pages, err := filepath.Glob("../docs/alerts/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	name := regexp.MustCompile("(?:`|reason=)([A-Z][A-Za-z]*[a-z][A-Za-z]*)\\b")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, found := range name.FindAllStringSubmatch(string(text), -1) {
			assert.True(t, known[found[1]], "%s speaks of %s", page, found[1])
		}
	}
	for _, r := range rules {
		selectors, err := monitoring.Selectors(r.Expr)
		require.NoError(t, err)
		for _, s := range selectors {
			for _, m := range s.Matchers {
				if m.Name == "reason" {
					for value := range strings.SplitSeq(m.Value, "|") {
						assert.True(t, known[value], "%s looks for the reason %s", r.Alert, value)
					}
				}
			}
		}
	}
}

// stringConstants are the values of the constants that a directory's source declares.
func stringConstants(t *testing.T, directory string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(directory, "*.go"))
	require.NoError(t, err)
	var values []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, declaration := range file.Decls {
			constants, ok := declaration.(*ast.GenDecl)
			if !ok || constants.Tok != token.CONST {
				continue
			}
			ast.Inspect(constants, func(n ast.Node) bool {
				if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					value, err := strconv.Unquote(literal.Value)
					require.NoError(t, err)
					values = append(values, value)
				}
				return true
			})
		}
	}
	return values
}

// The reference lists what the source registers, so a metric that is renamed is missed here, before a cluster is started.
// TestMonitoring of e2e sees what is shown.
func TestRulesAndDashboardNameWhatTheReferenceLists(t *testing.T) {
	text, err := os.ReadFile("../docs/reference/metrics.md")
	require.NoError(t, err)
	listed, row := map[string]string{}, regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (\\w+) \\| ([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		names := []string{m[1]}
		if m[2] == "histogram" {
			names = []string{m[1] + "_bucket", m[1] + "_sum", m[1] + "_count"}
			m[3] += "`le`"
		}
		for _, name := range names {
			listed[name] = m[3]
		}
	}
	expressions, err := monitoring.Expressions("..")
	require.NoError(t, err)
	for who, expr := range expressions {
		selectors, err := monitoring.Selectors(expr)
		require.NoError(t, err, who)
		for _, s := range selectors {
			if !strings.HasPrefix(s.Metric, "mooring_") && !strings.HasPrefix(s.Metric, "hcloud_") {
				continue // of the libraries, or Prometheus' own
			}
			names, ok := listed[s.Metric]
			assert.True(t, ok, "%s: no metric %s", who, s.Metric)
			for _, label := range s.Labels {
				ofTarget := label == "instance" || label == "job" || label == "node" && strings.HasPrefix(s.Metric, "mooring_agent_")
				assert.True(t, ofTarget || strings.Contains(names, "`"+label+"`"), "%s: %s has no label %s", who, s.Metric, label)
			}
		}
	}
}
