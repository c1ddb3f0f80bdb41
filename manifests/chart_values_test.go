package manifests_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// value is one of the chart's values, with what values.yaml says of it.
type value struct{ path, fallback, comment string }

// chartValues are all values of the chart, in the order of values.yaml. A map that is not empty there is a group of them.
func chartValues(t *testing.T) []value {
	t.Helper()
	text, err := os.ReadFile(chart + "/values.yaml")
	require.NoError(t, err)
	var document yaml.Node
	require.NoError(t, yaml.Unmarshal(text, &document))
	var values []value
	var walk func(prefix string, group *yaml.Node)
	walk = func(prefix string, group *yaml.Node) {
		for i := 0; i < len(group.Content); i += 2 {
			key, node := group.Content[i], group.Content[i+1]
			if node.Kind == yaml.MappingNode && len(node.Content) > 0 {
				walk(prefix+key.Value+".", node)
				continue
			}
			fallback, err := yaml.Marshal(node)
			require.NoError(t, err)
			comment := strings.TrimPrefix(strings.ReplaceAll(key.HeadComment, "\n# ", " "), "# ")
			values = append(values, value{prefix + key.Value, strings.TrimSpace(string(fallback)), comment})
		}
	}
	walk("", document.Content[0])
	return values
}

// The table of the guide is what values.yaml says.
func TestChartValuesAreDocumented(t *testing.T) {
	table := "| Value | Default | |\n|---|---|---|\n"
	for _, v := range chartValues(t) {
		assert.True(t, strings.HasSuffix(v.comment, "."), "values.yaml: %s needs a comment above it of whole sentences, and has %q", v.path, v.comment)
		table += fmt.Sprintf("| %#q | %#q | %s |\n", v.path, v.fallback, v.comment)
	}
	const guide = "../docs/guides/install-helm.md"
	text, err := os.ReadFile(guide)
	require.NoError(t, err)
	assert.Contains(t, string(text), table, "the table of values in %s has to be\n%s", guide, table)
}

// Every value of values.yaml is in the schema and the other way round, and no group takes others: so a typo is an error.
func TestChartSchemaKnowsTheValues(t *testing.T) {
	type schema struct {
		Type                 any
		AdditionalProperties any
		Required             []string
		Properties           map[string]*schema
	}
	text, err := os.ReadFile(chart + "/values.schema.json")
	require.NoError(t, err)
	var root schema
	require.NoError(t, json.Unmarshal(text, &root))
	// Helm gives it to every chart that another one depends on.
	require.Contains(t, root.Properties, "global")
	delete(root.Properties, "global")

	var known []string
	var walk func(prefix string, group *schema)
	walk = func(prefix string, group *schema) {
		assert.Equal(t, false, group.AdditionalProperties, prefix)
		for name, property := range group.Properties {
			assert.Contains(t, group.Required, name, "%s%s can be taken out by null, which the templates do not reckon with", prefix, name)
			// A value that is a map of the user's has no properties that are ours.
			if property.Properties != nil {
				walk(prefix+name+".", property)
			} else {
				known = append(known, prefix+name)
			}
		}
	}
	walk("", &root)
	var paths []string
	for _, v := range chartValues(t) {
		paths = append(paths, v.path)
	}
	assert.ElementsMatch(t, paths, known)
}
