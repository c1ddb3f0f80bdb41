// Package docs holds what is written for users. Its tests keep that whole where a program can tell: that each
// page can be found, and that what users are shown is explained.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every page of docs is in the index, or in the one of its directory, which is in the index.
func TestIndexIsComplete(t *testing.T) {
	index := read(t, "README.md")
	var missing []string
	for _, page := range pages(t) {
		if page == "README.md" || strings.Contains(index, "("+page) {
			continue
		}
		own := filepath.Join(filepath.Dir(page), "README.md")
		if !strings.Contains(index, "("+own) || !strings.Contains(read(t, own), "("+filepath.Base(page)) {
			missing = append(missing, page)
		}
	}
	assert.Empty(t, missing, "docs/README.md has no link to these")
}

// Whatever reason a condition or an event has, somebody who looks for it on the page for troubleshooting finds it.
func TestEveryReasonIsExplained(t *testing.T) {
	page := read(t, "troubleshooting.md")
	var missing []string
	for _, dir := range []string{"../cloud", "../cloud/lb", "../cloud/service", "../agent"} {
		reasons := reasonsOf(t, dir)
		require.NotEmpty(t, reasons, dir)
		for _, reason := range reasons {
			if !strings.Contains(page, "`"+reason+"`") {
				missing = append(missing, dir+": "+reason)
			}
		}
	}
	assert.Empty(t, missing, "docs/troubleshooting.md does not name these")
}

// pages are all that there are.
func pages(t *testing.T) (pages []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	}))
	return pages
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// reasonsOf the conditions and events of a package: its constants that are called so.
func reasonsOf(t *testing.T, dir string) (reasons []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	name := regexp.MustCompile(`^(Reason|[Ee]vent)[A-Z]`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, ident := range spec.Names {
				if i >= len(spec.Values) || !name.MatchString(ident.Name) {
					continue
				}
				if literal, ok := spec.Values[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
					reason, err := strconv.Unquote(literal.Value)
					require.NoError(t, err)
					reasons = append(reasons, reason)
				}
			}
			return true
		})
	}
	return reasons
}
