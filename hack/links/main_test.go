package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLinks(t *testing.T) {
	tests := map[string]struct{ text, says string }{
		"a heading of its own":          {"[x](#a-pool)\n## The pool\n", "has no such heading"},
		"with signs and code":           {"[x](#the-pools-on-n1)\n## The `pool`'s, *on* n1!\n", ""},
		"the second of two":             {"[x](#a-1)\n## A\n### a\n", ""},
		"a heading in code is none":     {"[x](#a)\n```\n# a\n```\n", "has no such heading"},
		"a link in code is none":        {"```\n[x](gone.md)\n```\nand `[x](gone.md)`\n", ""},
		"another document":              {"[x](other.md#there)", ""},
		"another document, no heading":  {"[x](other.md#here)", "links to other.md#here, and"},
		"another document, none at all": {"[x](gone.md#there)", "links to gone.md, which does not exist"},
		"a directory":                   {"[x](.)", ""},
		"another host":                  {"[x](https://example.com/gone.md#x)", ""},
		"a heading with a link":         {"[x](#see-that)\n## See [that](other.md)\n", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "page.md")
			require.NoError(t, os.WriteFile(file, []byte(test.text), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "other.md"), []byte("# There\n"), 0o600))
			var out strings.Builder
			status := run(strings.NewReader(file+"\n"), &out)
			if test.says == "" {
				assert.Zero(t, status, out.String())
				return
			}
			assert.Equal(t, 1, status)
			assert.Contains(t, out.String(), test.says)
		})
	}
}
