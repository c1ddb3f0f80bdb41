package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// reasons are the constants that name why something is as it is, on conditions and events.
type reasons []text

// places that a reason may be read in, and the objects that have events.
var (
	places  = []string{"Service/Bound", "Service/Degraded", "NodeAddresses/Ready", "NodeAddresses/ConflictDetection", "NodeAddresses/failed"}
	objects = []string{"Service", "Node", "Pod"}
)

const reasonType = "/cloud/lb.Reason"

// reasons finds them by their lines, and refuses a constant of type lb.Reason that has none.
func (s *source) reasons() (reasons, error) {
	var all reasons
	var mistakes []error
	for _, t := range s.texts() {
		if !t.has("in") && !t.has("event") {
			if strings.HasSuffix(t.typ, reasonType) {
				mistakes = append(mistakes, fmt.Errorf("%s: %s stands on no page of the reference: say in its comment with a line "+
					"reference:in <object>/<condition> or reference:event <object> <Normal or Warning> where it is read", s.where(t.pos), t.name))
			}
			continue
		}
		for place := range strings.FieldsSeq(t.line("in")) {
			if !slices.Contains(places, place) {
				mistakes = append(mistakes, fmt.Errorf("%s: %s: reference:in names %s: write some of %s", s.where(t.pos), t.name, place, strings.Join(places, ", ")))
			}
		}
		for _, event := range t.lines["event"] {
			object, kind, _ := strings.Cut(event, " ")
			if !slices.Contains(objects, object) || kind != "Normal" && kind != "Warning" {
				mistakes = append(mistakes, fmt.Errorf("%s: %s: reference:event %s: write one of %s and Normal or Warning", s.where(t.pos), t.name, event, strings.Join(objects, ", ")))
			}
		}
		if t.meaning(t.name) == "" || t.remedy() == "" {
			mistakes = append(mistakes, fmt.Errorf("%s: %s: its comment has to say what it means, and in a paragraph \"%s\" what helps", s.where(t.pos), t.name, whatToDo))
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b text) int { return strings.Compare(a.value, b.value) })
	return all, errors.Join(mistakes...)
}

// in is the table of the reasons in some places, which are all of one object.
func (all reasons) in(at ...string) string {
	var rows [][]string
	for _, t := range all {
		var where []string
		for place := range strings.FieldsSeq(t.line("in")) {
			if slices.Contains(at, place) {
				_, condition, _ := strings.Cut(place, "/")
				where = append(where, condition)
			}
		}
		if len(where) == 0 {
			continue
		}
		row := []string{code(t.value), strings.Join(where, ", "), t.meaning(t.name), t.remedy()}
		if len(at) == 1 {
			row = slices.Delete(row, 1, 2)
		}
		rows = append(rows, row)
	}
	head := []string{"Reason", "Condition", "Meaning", "What to do"}
	if len(at) == 1 {
		head = slices.Delete(head, 1, 2)
	}
	return table(head, rows)
}

// events is the table of the events on a kind of object.
func (all reasons) events(on string) string {
	var rows [][]string
	for _, t := range all {
		for _, event := range t.lines["event"] {
			if object, kind, _ := strings.Cut(event, " "); object == on {
				rows = append(rows, []string{code(t.value), kind, t.meaning(t.name), t.remedy()})
			}
		}
	}
	return table([]string{"Event", "Type", "Meaning", "What to do"}, rows)
}

// strangers finds reasons in the source that are none of the listed constants: those that stand in a condition, in an
// event, or in a field or an argument that is called reason.
func (s *source) strangers(all reasons) error {
	listed := make(map[string]bool)
	for _, t := range all {
		listed[t.id] = true
	}
	var found []error
	for _, p := range s.packages {
		look := func(e ast.Expr) {
			if id := p.stranger(e, listed); id != "" {
				found = append(found, fmt.Errorf("%s: the reason %s is no constant of the reference: give it one whose comment has a line "+
					"reference:in or reference:event, as in cloud/lb/reason.go", s.where(e.Pos()), id))
			}
		}
		for _, file := range p.files {
			ast.Inspect(file, func(n ast.Node) bool {
				if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
					return false // that is where a constant gets its value
				}
				for _, e := range p.reasonsIn(n) {
					look(e)
				}
				return true
			})
		}
	}
	return errors.Join(found...)
}

// reasonsIn are the expressions of a node that are used as a reason.
func (p *pkg) reasonsIn(n ast.Node) []ast.Expr {
	var all []ast.Expr
	switch n := n.(type) {
	case *ast.CallExpr:
		signature, ok := p.info.TypeOf(n.Fun).(*types.Signature)
		if !ok {
			return nil
		}
		for i, arg := range n.Args {
			if at := min(i, signature.Params().Len()-1); at >= 0 && isReason(signature.Params().At(at).Name(), signature.Params().At(at).Type()) {
				all = append(all, arg)
			}
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && isReason(key.Name, p.info.TypeOf(n.Value)) {
			all = append(all, n.Value)
		}
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if field, ok := left.(*ast.SelectorExpr); ok && len(n.Lhs) == len(n.Rhs) && isReason(field.Sel.Name, p.info.TypeOf(left)) {
				all = append(all, n.Rhs[i])
			}
		}
	case *ast.BasicLit:
		if t := p.info.TypeOf(n); t != nil && strings.HasSuffix(t.String(), reasonType) {
			all = append(all, n)
		}
	}
	return all
}

func isReason(name string, t types.Type) bool {
	if t == nil {
		return false
	}
	basic, ok := t.(*types.Basic)
	return strings.EqualFold(name, "reason") && ok && basic.Info()&types.IsString != 0
}

// stranger names a constant expression that is not one of the listed constants, nor empty.
func (p *pkg) stranger(e ast.Expr, listed map[string]bool) string {
	if call, ok := e.(*ast.CallExpr); ok && len(call.Args) == 1 && p.info.Types[call.Fun].IsType() {
		return p.stranger(call.Args[0], listed)
	}
	value := p.info.Types[e].Value
	if value == nil || value.ExactString() == `""` {
		return ""
	}
	var name *ast.Ident
	switch e := e.(type) {
	case *ast.Ident:
		name = e
	case *ast.SelectorExpr:
		name = e.Sel
	}
	if name != nil {
		if o := p.info.Uses[name]; o != nil && listed[idOf(o)] {
			return ""
		}
	}
	return value.ExactString()
}
