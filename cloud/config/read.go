package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// reader decodes YAML into the types of file.go and goes on after a mistake, so that one run finds them all.
// It works on YAML's nodes and not through JSON: so each mistake has its path, a plain `off` stays a word, and
// one wrong type does not hide the next.
type reader struct {
	mistakes field.ErrorList
	// meant are the paths of the known keys that unknown ones were probably meant to be.
	meant []string
}

// read decodes one document. The error is about the document as a whole; mistakes in single keys are in the
// reader, and then the file holds what could be read.
func read(data []byte) (*file, *reader, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, nil, errors.New("the file is empty: write apiVersion, kind and pools")
	}
	if err != nil {
		return nil, nil, notYAML(err)
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, nil, notYAML(err)
	default:
		return nil, nil, fmt.Errorf("a second YAML document begins in line %d: write one document, without ---", second.Line)
	}
	root := resolve(document.Content[0])
	if root.Kind != yaml.MappingNode {
		return nil, nil, fmt.Errorf("the file holds %s: write a mapping that begins with apiVersion and kind", kindName(root))
	}
	var f file
	var r reader
	r.mapping(root, nil, reflect.ValueOf(&f).Elem())
	return &f, &r, nil
}

func notYAML(err error) error {
	return fmt.Errorf("the file is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
}

// resolve follows an alias to what it stands for. What it stands for may hold the alias again; the decoder
// ends nevertheless, because it descends along the types of file.go, none of which holds itself.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func (r *reader) value(n *yaml.Node, p *field.Path, into reflect.Value) {
	n = resolve(n)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		r.mistakes = append(r.mistakes, field.Required(p, "the key has no value: give it one or remove the key"))
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		r.value(n, p, into.Elem())
	case reflect.Struct:
		if r.is(n, p, yaml.MappingNode, "a mapping (key: value)") {
			r.mapping(n, p, into)
		}
	case reflect.Map:
		if r.is(n, p, yaml.MappingNode, "a mapping (key: value)") {
			r.stringMap(n, p, into)
		}
	case reflect.Slice:
		if r.is(n, p, yaml.SequenceNode, "a list") {
			into.Set(reflect.MakeSlice(into.Type(), len(n.Content), len(n.Content)))
			for i, element := range n.Content {
				r.value(element, p.Index(i), into.Index(i))
			}
		}
	default:
		r.scalar(n, p, into)
	}
}

// mapping decodes into a struct.
func (r *reader) mapping(n *yaml.Node, p *field.Path, into reflect.Value) {
	fields := make(map[string]int)
	for i := range into.NumField() {
		if key := into.Type().Field(i).Tag.Get("yaml"); key != "-" {
			fields[key] = i
		}
	}
	seen := make(present)
	for key, value := range r.entries(n, p) {
		seen[key] = true
		if i, known := fields[key]; known {
			r.value(value, p.Child(key), into.Field(i))
			continue
		}
		known := slices.Sorted(maps.Keys(fields))
		detail := "unknown key: the keys here are " + strings.Join(known, ", ")
		if meant := closest(key, known); meant != "" {
			detail = fmt.Sprintf("unknown key: did you mean %s?", meant)
			r.meant = append(r.meant, p.Child(meant).String())
		}
		r.mistakes = append(r.mistakes, field.Forbidden(p.Child(key), detail))
	}
	if has := into.FieldByName("Has"); has.IsValid() {
		has.Set(reflect.ValueOf(seen))
	}
}

func (r *reader) stringMap(n *yaml.Node, p *field.Path, into reflect.Value) {
	into.Set(reflect.MakeMap(into.Type()))
	for key, value := range r.entries(n, p) {
		element := reflect.New(into.Type().Elem()).Elem()
		r.value(value, p.Key(key), element)
		into.SetMapIndex(reflect.ValueOf(key), element)
	}
}

// entries yields each key once, with its first value. A key that comes again is a mistake, reported once, and so
// is one that is not a word.
func (r *reader) entries(n *yaml.Node, p *field.Path) func(yield func(string, *yaml.Node) bool) {
	return func(yield func(string, *yaml.Node) bool) {
		lines, reported := make(map[string]int), make(map[string]bool)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := resolve(n.Content[i])
			if key.Kind != yaml.ScalarNode {
				r.mistakes = append(r.mistakes, &field.Error{
					Type: field.ErrorTypeTypeInvalid, Field: pathName(p), BadValue: field.OmitValueType{},
					Detail: fmt.Sprintf("%s stands where a key must be, in line %d, column %d", kindName(key), n.Content[i].Line, n.Content[i].Column),
				})
				continue
			}
			if line, again := lines[key.Value]; again {
				if reported[key.Value] {
					continue
				}
				reported[key.Value] = true
				r.mistakes = append(r.mistakes, &field.Error{
					Type: field.ErrorTypeDuplicate, Field: p.Child(key.Value).String(), BadValue: field.OmitValueType{},
					Detail: fmt.Sprintf("the key stands in line %d and again in line %d: keep one", line, key.Line),
				})
				continue
			}
			lines[key.Value] = key.Line
			if !yield(key.Value, n.Content[i+1]) {
				return
			}
		}
	}
}

func (r *reader) is(n *yaml.Node, p *field.Path, kind yaml.Kind, want string) bool {
	if n.Kind == kind {
		return true
	}
	r.wrongType(n, p, "must be "+want)
	return false
}

func (r *reader) scalar(n *yaml.Node, p *field.Path, into reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		hint := "must be a single value"
		if n.Kind == yaml.MappingNode {
			hint += "; a value that ends in a colon, or holds one before a space, stands in quotes"
		}
		r.wrongType(n, p, hint)
		return
	}
	tag := n.ShortTag()
	switch into.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if tag != "!!bool" || err != nil {
			r.wrongType(n, p, "must be true or false, without quotes")
			return
		}
		into.SetBool(b)
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if tag != "!!int" || err != nil {
			r.wrongType(n, p, "must be a whole number, without quotes")
			return
		}
		into.SetInt(int64(i))
	default:
		if tag != "!!str" && into.Type() != reflect.TypeFor[text]() {
			r.wrongType(n, p, fmt.Sprintf("must be a string: put it in quotes, as in %q", n.Value))
			return
		}
		into.SetString(n.Value)
	}
}

func (r *reader) wrongType(n *yaml.Node, p *field.Path, detail string) {
	e := &field.Error{Type: field.ErrorTypeTypeInvalid, Field: pathName(p), Detail: detail, BadValue: n.Value}
	if n.Kind != yaml.ScalarNode {
		e.BadValue = field.OmitValueType{}
		e.Detail = "this is " + kindName(n) + ": " + detail
	}
	r.mistakes = append(r.mistakes, e)
}

func pathName(p *field.Path) string {
	if p == nil {
		return "cloud-config"
	}
	return p.String()
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a single value"
	}
}

// closest is the known key that key is probably a slip of; empty when there is none.
func closest(key string, known []string) string {
	found, least := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(k), strings.ToLower(key)); d < least {
			found, least = k, d
		}
	}
	return found
}

// distance is the number of letters to insert, remove or replace to turn a into b. It is bounded for long
// keys: those are no slips of known ones, which are short.
func distance(a, b string) int {
	if len(b) > 40 {
		return len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
