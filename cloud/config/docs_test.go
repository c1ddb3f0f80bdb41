package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExamplesAreValidAndServed(t *testing.T) {
	examples, err := filepath.Glob("../../docs/examples/cloud-config*.yaml")
	require.NoError(t, err)
	require.Len(t, examples, 3)
	for _, example := range examples {
		t.Run(filepath.Base(example), func(t *testing.T) {
			_, err := Load(example)
			assert.NoError(t, err, "a user who tries the example gets a controller that runs")
		})
	}
}

// What the page that is made of the comments in file.go says of defaults, words and bounds is what the judgement does:
// each of them is written into a cloud-config that has a place for its key.
func TestReferenceIsTrue(t *testing.T) {
	const (
		listed  = "pools: [{name: p, addresses: [192.0.2.0/28], interface: pl0, %s}]"
		updater = "pools: [{name: p, updater: {urls: [\"https://192.0.2.1/lb\"], host: 192.0.2.1, portRange: {low: 1, high: 9}, %s}}]"
		ports   = "pools: [{name: p, updater: {urls: [\"https://192.0.2.1/lb\"], host: 192.0.2.1, portRange: {%s}}}]"
	)
	top := func(entry string) string { return entry + "\n" + strings.Replace(listed, "%s", "", 1) }
	// Cloud-configs by what a key begins with; the longest counts.
	places := map[string]string{
		"":                       listed,
		"initializeNodes":        top("%s"),
		"resyncInterval":         top("%s"),
		"failover.":              top("failover: {%s}"),
		"hetzner.":               top("hetzner: {tokenFile: /token, %s}"),
		"hetzner.takeover":       "pools: [{name: p, addresses: [192.0.2.0/28], interface: pl0, hetzner: {tokenFile: /token, %s}}]",
		"hetzner.ephemeral.":     "hetzner: {tokenFile: /token}\npools: [{name: p, hetzner: {ephemeral: {types: [ipv4], %s}}, interface: pl0}]",
		"tolerations[].":         "pools: [{name: p, addresses: [192.0.2.0/28], interface: pl0, tolerations: [{key: k, %s}]}]",
		"updater.":               updater,
		"updater.portRange.low":  strings.Replace(ports, "%s", "high: 65535, %s", 1),
		"updater.portRange.high": strings.Replace(ports, "%s", "low: 1, %s", 1),
	}
	tried := 0
	for _, row := range referenceRows(t) {
		words, otherwise := row.values()
		if len(words) == 0 && otherwise == "" || slices.Contains([]string{"apiVersion", "kind", "matchExpressions[].operator"}, row.key) {
			continue
		}
		begin := ""
		for prefix := range places {
			if strings.HasPrefix(row.key, prefix) && len(prefix) > len(begin) {
				begin = prefix
			}
		}
		parsed := func(entry string) (*Config, error) {
			return Parse([]byte("apiVersion: " + apiVersion + "\nkind: " + kind + "\n" + strings.Replace(places[begin], "%s", entry, 1)))
		}
		key := row.key[strings.LastIndex(row.key, ".")+1:]
		t.Run(row.key, func(t *testing.T) {
			for _, word := range words {
				_, err := parsed(key + ": " + word)
				assert.NoError(t, err, "the page says that %s may be written", word)
			}
			if otherwise == "" {
				return
			}
			absent, err := parsed("")
			require.NoError(t, err)
			written, err := parsed(key + ": " + otherwise)
			require.NoError(t, err)
			assert.Equal(t, absent, written, "the page says that %s is the default", otherwise)
			tried++
		})
	}
	assert.GreaterOrEqual(t, tried, 20, "most keys have a default on the page")
}

// referenceRow is a row of a table of keys on the reference page.
type referenceRow struct{ key, value, otherwise string }

func referenceRows(t *testing.T) []referenceRow {
	page, err := os.ReadFile("../../docs/reference/cloud-config.md")
	require.NoError(t, err)
	var rows []referenceRow
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, " | "); len(cells) == 4 && strings.HasPrefix(cells[0], "| `") {
			rows = append(rows, referenceRow{strings.Trim(cells[0], "|` "), cells[1], cells[2]})
		}
	}
	require.NotEmpty(t, rows)
	return rows
}

// values are the words, bounds included, that the row says may be written, and the default, when that is one value.
func (r referenceRow) values() (words []string, otherwise string) {
	quoted := func(s string) (all []string) {
		for i, part := range strings.Split(s, "`") {
			if i%2 == 1 {
				all = append(all, part)
			}
		}
		return all
	}
	if strings.HasPrefix(r.value, "`") || strings.Contains(r.value, "from `") {
		words = quoted(r.value)
	}
	if in := quoted(r.otherwise); len(in) == 1 && r.otherwise == "`"+in[0]+"`" {
		otherwise = in[0]
	}
	return words, otherwise
}
