package main

import (
	"errors"
	"fmt"
	"go/ast"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// cloudConfig is the cloud-config as the structs of cloud/config/file.go have it.
type cloudConfig struct {
	structs map[string]*ast.StructType
	// shown are the fields that stand on the page.
	shown map[*ast.Field]bool
}

// tables are the structs that begin a table of their own instead of going on in the one that leads to them.
var tables = []string{"file", "filePool", "fileSelector"}

func (s *source) cloudConfig() (*cloudConfig, error) {
	structs := s.structs("/cloud/config")
	for name := range structs {
		if !strings.HasPrefix(name, "file") {
			delete(structs, name)
		}
	}
	if structs["file"] == nil {
		return nil, errors.New("cloud/config has no struct file: where do the keys of the cloud-config stand?")
	}
	return &cloudConfig{structs: structs, shown: make(map[*ast.Field]bool)}, nil
}

// keys is the table of a struct's keys, with all below them. section is what their line reference:in says; empty: those
// without one.
func (c *cloudConfig) keys(name, section string) (string, error) {
	st := c.structs[name]
	if st == nil {
		return "", fmt.Errorf("cloud/config has no struct %s", name)
	}
	var rows [][]string
	for _, f := range st.Fields.List {
		if read(f.Doc).line("in") != section {
			continue
		}
		more, err := c.rows(f, "")
		if err != nil {
			return "", err
		}
		rows = append(rows, more...)
	}
	if len(rows) == 0 {
		return "", fmt.Errorf("struct %s of cloud/config has no key with //reference:in %s", name, section)
	}
	return table([]string{"Key", "Value", "Default", "Meaning"}, rows), nil
}

// rows of one key: itself, and the keys of its mapping.
func (c *cloudConfig) rows(f *ast.Field, above string) ([][]string, error) {
	key := keyOf(f)
	if key == "-" {
		c.shown[f] = true
		return nil, nil
	}
	doc := read(f.Doc)
	kind, inner := kindOf(f.Type)
	if doc.has("value") {
		kind = doc.line("value")
	}
	mapping := c.structs[inner] != nil
	if len(doc.paragraphs) == 0 || doc.line("default") == "" && !mapping {
		return nil, fmt.Errorf("key %s%s (struct field %s) has no comment, or no line reference:default below it", above, key, f.Names[0])
	}
	c.shown[f] = true
	rows := [][]string{{code(above + key), kind, doc.line("default"), doc.meaning("")}}
	if !mapping || slices.Contains(tables, inner) {
		return rows, nil
	}
	below := above + key + "."
	if _, list := f.Type.(*ast.ArrayType); list {
		below = above + key + "[]."
	}
	for _, g := range c.structs[inner].Fields.List {
		more, err := c.rows(g, below)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// keyOf is how a field is called in YAML.
func keyOf(f *ast.Field) string {
	if f.Tag == nil {
		return "-"
	}
	tag, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		return "-"
	}
	return reflect.StructTag(tag).Get("yaml")
}

// kindOf says in words what a key may hold, and names the struct that its mapping is read into.
func kindOf(t ast.Expr) (words, inner string) {
	switch t := t.(type) {
	case *ast.StarExpr:
		return kindOf(t.X)
	case *ast.ArrayType:
		words, inner = kindOf(t.Elt)
		return "list of " + words + "s", inner
	case *ast.MapType:
		return "mapping of texts", ""
	case *ast.Ident:
		switch t.Name {
		case "bool":
			return "`true` or `false`", ""
		case "int":
			return "whole number", ""
		case "string":
			return "text", ""
		case "text":
			return "duration", ""
		case "fileSelector":
			return "[label selector](#selectors)", t.Name
		}
		return "mapping", t.Name
	}
	return "", ""
}

// leftovers names the keys that stand on no page.
func (c *cloudConfig) leftovers() error {
	var missing []error
	for name, st := range c.structs {
		for _, f := range st.Fields.List {
			if !c.shown[f] {
				missing = append(missing, fmt.Errorf("key %s of struct %s in cloud/config stands on no page: "+
					"pages/cloud-config.md.tmpl asks for other sections than its //reference:in", keyOf(f), name))
			}
		}
	}
	slices.SortFunc(missing, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(missing...)
}
