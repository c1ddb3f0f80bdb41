package ledger

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/mooring-lb/mooring/cloud/lb"
)

// places are the conditions that each reason may stand in, as its comment in cloud/lb says, from which the reference is
// made.
var places = sync.OnceValues(func() (map[lb.Reason][]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "../lb/reason.go", nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	all := map[lb.Reason][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Doc == nil {
			return true
		}
		for _, line := range spec.Doc.List {
			if in, ok := strings.CutPrefix(line.Text, "//reference:in "); ok {
				literal := spec.Values[0].(*ast.BasicLit)
				reason := constant.StringVal(constant.MakeFromLiteral(literal.Value, literal.Kind, 0))
				all[lb.Reason(reason)] = strings.Fields(in)
			}
		}
		return false
	})
	return all, nil
})

// standsWhereDocumented says that whoever looks a reason up finds it under the condition in which it stands. Whatever the
// tests of this package do, they do it under this eye.
func (w *world) standsWhereDocumented(v View) {
	all, err := places()
	require.NoError(w.t, err)
	require.Greater(w.t, len(all), 30)
	look := func(why *lb.Refusal, condition string) {
		if why != nil && !slices.Contains(all[why.Reason], "Service/"+condition) {
			require.Fail(w.t, "a reason stands where the reference does not have it", "%s under %s, where its comment has %v: %s",
				why.Reason, condition, all[why.Reason], why.Message)
		}
	}
	look(v.Waiting, "Bound")
	switch {
	case len(v.Addresses)+len(v.Ports) == 0:
		look(v.Refusal, "Bound")
	case v.Wants:
		look(v.Refusal, "Degraded")
	}
}
