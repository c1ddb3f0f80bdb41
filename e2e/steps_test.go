package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTutorialSteps tells what of a page a reader does: nothing that looks like a command may be passed over.
func TestTutorialSteps(t *testing.T) {
	steps, err := stepsOf("# Title\n\n```sh\nfirst\n  second\n```\n\n```text\nshown\n```\n\n```yaml\nnot: run\n```\n" +
		"<!-- by hand: pull the cable -->\n<!-- not run: needs a registry -->\n```sh\nthird\n```\n<!-- another comment -->\n")
	require.NoError(t, err)
	assert.Equal(t, []step{
		{line: 4, script: "first\n  second", shows: []string{"shown"}},
		{line: 15, hand: "pull the cable"},
		{line: 18, script: "third", notRun: true},
	}, steps)

	for name, text := range map[string]string{
		"a block in a list":                   "1. Do this:\n\n   ```sh\n   cmd\n   ```\n",
		"a block without an end":              "```sh\ncmd\n",
		"output that nothing prints":          "```text\nshown\n```\n",
		"a reason without a block":            "```sh\ncmd\n```\n<!-- not run: because -->\n",
		"output after something done by hand": "<!-- by hand: wait -->\n```text\nshown\n```\n",
	} {
		_, err := stepsOf(text)
		assert.Error(t, err, name)
	}
}
