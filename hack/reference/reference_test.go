package main

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// written is a source of one package, called lb, as load makes it.
func written(t *testing.T, code string) *source {
	s := &source{fset: token.NewFileSet()}
	file, err := parser.ParseFile(s.fset, "code.go", code, parser.ParseComments)
	require.NoError(t, err)
	p := &pkg{path: "example.com/cloud/lb", files: []*ast.File{file}, info: &types.Info{
		Types: make(map[ast.Expr]types.TypeAndValue), Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object),
	}}
	_, err = (&types.Config{Importer: importer.Default()}).Check(p.path, s.fset, p.files, p.info)
	require.NoError(t, err)
	s.packages = []*pkg{p}
	return s
}

const listedReason = `package lb

type Reason string

const (
	// ReasonNoPool says that no pool
	// serves it.
	//
	// What to do: add one.
	//
	//reference:in Service/Bound
	//reference:event Node Warning
	ReasonNoPool Reason = "NoPool"
)

type condition struct{ Reason string }

func event(kind, reason, message string) {}

`

func TestReasonsAreListed(t *testing.T) {
	s := written(t, listedReason)
	all, err := s.reasons()
	require.NoError(t, err)
	assert.Contains(t, all.in("Service/Bound", "Service/Degraded"), "| `NoPool` | Bound | No pool serves it. | Add one. |")
	assert.Contains(t, all.in("Service/Bound"), "| `NoPool` | No pool serves it. | Add one. |")
	assert.Contains(t, all.events("Node"), "| `NoPool` | Warning | No pool serves it. | Add one. |")
	assert.NotContains(t, all.events("Service"), "NoPool")
}

// A reason that an engineer adds and that no page would have is found, wherever it is written.
func TestStrangersAreFound(t *testing.T) {
	tests := map[string]struct{ code, says string }{
		"a listed one":                  {`func f() { event("Normal", string(ReasonNoPool), "text") }`, ""},
		"one that is handed on":         {`func f(reason string) { event("Normal", reason, "text") }`, ""},
		"an argument":                   {`func f() { event("Normal", "Odd", "text") }`, `code.go:20: the reason "Odd" is no constant`},
		"an argument by a constant":     {"const odd = \"Odd\"\nfunc f() { event(\"Normal\", odd, \"text\") }", `the reason "Odd"`},
		"a field":                       {`var c = condition{Reason: "Odd"}`, `the reason "Odd"`},
		"a field that is set":           {`func f(c *condition) { c.Reason = "Odd" }`, `the reason "Odd"`},
		"a conversion":                  {`var r = Reason("Odd")`, `the reason "Odd"`},
		"a result":                      {`func f() Reason { return "Odd" }`, `the reason "Odd"`},
		"a constant without lines":      {`const ReasonOdd Reason = "Odd"`, "code.go:20: ReasonOdd stands on no page"},
		"a place that there is none of": {"// R says that.\n//\n// What to do: x.\n//\n//reference:in Service/Odd\nconst R Reason = \"Odd\"", "reference:in names Service/Odd"},
		"an event that is neither":      {"// R says that.\n//\n// What to do: x.\n//\n//reference:event Service Odd\nconst R Reason = \"Odd\"", "reference:event Service Odd"},
		"nothing to do":                 {"// R says that.\n//\n//reference:event Service Normal\nconst R Reason = \"Odd\"", "its comment has to say"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := written(t, listedReason+test.code)
			all, err := s.reasons()
			if err == nil {
				err = s.strangers(all)
			}
			if test.says == "" {
				assert.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, test.says)
		})
	}
}

func TestNamesOnObjectsAreListed(t *testing.T) {
	s := written(t, "package lb\n\nconst Odd = \"mooring.dev/odd\"\n")
	assert.ErrorContains(t, s.unmarked(), "Odd (mooring.dev/odd) stands on no page")
	s = written(t, "package lb\n\n// Odd stands there.\n//\n//reference:mark label on Nodes\nconst Odd = \"mooring.dev/odd\"\n")
	assert.NoError(t, s.unmarked())
	assert.Contains(t, s.marks(), "| `mooring.dev/odd` | label | Nodes | Stands there. |")
}

func TestKeysAreListed(t *testing.T) {
	const code = `package lb

type file struct {
	// How often.
	//
	//reference:default ` + "`1s`" + `
	Every *text ` + "`yaml:\"every\"`" + `
	// Where.
	Places []filePlace ` + "`yaml:\"places\"`" + `
	// Elsewhere.
	//
	//reference:in other
	//reference:default none
	Other *string ` + "`yaml:\"other\"`" + `
}

type filePlace struct {
	// By name | number.
	//
	//reference:value one of two
	//reference:default required
	Name *string ` + "`yaml:\"name\"`" + `
}

type text string
`
	s := written(t, code)
	config := &cloudConfig{structs: s.structs("/lb"), shown: make(map[*ast.Field]bool)}
	rows, err := config.keys("file", "")
	require.NoError(t, err)
	assert.Equal(t, "| Key | Value | Default | Meaning |\n| --- | --- | --- | --- |\n"+
		"| `every` | duration | `1s` | How often. |\n| `places` | list of mappings |  | Where. |\n"+
		"| `places[].name` | one of two | required | By name \\| number. |", rows)
	assert.ErrorContains(t, config.leftovers(), "key other of struct file in cloud/config stands on no page")
	_, err = config.keys("file", "other")
	require.NoError(t, err)
	assert.NoError(t, config.leftovers())

	s = written(t, strings.Replace(code, "//reference:default none", "//", 1))
	config = &cloudConfig{structs: s.structs("/lb"), shown: make(map[*ast.Field]bool)}
	_, err = config.keys("file", "other")
	assert.ErrorContains(t, err, "key other (struct field Other) has no comment, or no line reference:default")
}

func TestHelpIsRead(t *testing.T) {
	const text = `Does this and that.

Usage:
  program [flags]

Generic flags:

      --qps float32        How often --burst may
                           be used. (default 20)
  -n, --name string        name of it (default "x")
      --all                all of them

Global flags:

  -h, --help   help for program
`
	assert.Equal(t, []option{
		{group: "Generic flags", name: "qps", kind: "float32", otherwise: "20", says: "How often --burst may be used."},
		{group: "Generic flags", short: "-n", name: "name", kind: "string", otherwise: "x", says: "name of it"},
		{group: "Generic flags", name: "all", says: "all of them"},
		{group: "Global flags", short: "-h", name: "help", says: "help for program"},
	}, parseHelp(text))
}

func TestDescriptionsAreRead(t *testing.T) {
	d := prometheus.NewDesc("name_total", `[ALPHA] What "it" counts, {all} of it.`, []string{"a", "b"}, nil)
	m, err := parseDescription(d.String())
	require.NoError(t, err)
	assert.Equal(t, metric{name: "name_total", help: `What "it" counts, {all} of it.`, labels: "`a`, `b`", stability: "ALPHA"}, m)
	_, err = parseDescription("Desc{}")
	assert.Error(t, err)
}

func TestProse(t *testing.T) {
	assert.Equal(t, "The id of it.", ofField("floatingIP", "FloatingIP is the id of it."))
	assert.Equal(t, "Says what.", ofField("state", "State says what."))
	assert.Equal(t, "Address that failed.", ofField("address", "Address that failed."))
	lines := strings.Split(wrapped(strings.Repeat("word ", 40), "  "), "\n")
	require.Len(t, lines, 2)
	assert.LessOrEqual(t, len(lines[0]), width)
	assert.True(t, strings.HasPrefix(lines[1], "  word"))
}
