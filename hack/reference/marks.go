package main

import (
	"errors"
	"fmt"
	"strings"
)

// prefix is what everything begins with that Mooring writes onto objects.
const prefix = "mooring.dev/"

// annotations are the annotations on a Service, one after the other.
func (s *source) annotations() (string, error) {
	var b strings.Builder
	all := s.texts()
	for _, t := range all {
		if !strings.HasPrefix(t.name, "Annotation") || !strings.HasSuffix(t.id, "/cloud/lb."+t.name) {
			continue
		}
		fmt.Fprintf(&b, "### %s\n\n%s\n\n", t.value, wrapped(named(t.meaning(t.name), all), ""))
		for _, l := range []struct{ word, says string }{
			{"value", "Value"}, {"example", "Example"}, {"edit", "An edit on a live Service"}, {"wrong", "A wrong value"},
		} {
			says := named(t.line(l.word), all)
			if says == "" {
				return "", fmt.Errorf("%s: %s has no line reference:%s in its comment", s.where(t.pos), t.name, l.word)
			}
			if l.word == "example" {
				says = code(says)
			}
			b.WriteString(wrapped(fmt.Sprintf("- **%s:** %s", l.says, says), "  ") + "\n")
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n"), nil
}

// named writes values in place of the names of annotations and conditions: a reader of the page knows no constants.
func named(says string, all []text) string {
	for _, t := range all {
		if strings.HasPrefix(t.value, prefix) {
			says = strings.ReplaceAll(says, t.name+" ", code(t.value)+" ")
			says = strings.ReplaceAll(says, t.name+".", code(t.value)+".")
		}
	}
	return says
}

// conditions of a kind of object.
func (s *source) conditions(object string) (string, error) {
	var rows [][]string
	for _, t := range s.texts() {
		if t.line("condition") == object {
			rows = append(rows, []string{code(t.value), t.meaning(t.name)})
		}
	}
	if len(rows) == 0 {
		return "", fmt.Errorf("no constant has the line reference:condition %s", object)
	}
	return table([]string{"Condition", "Meaning"}, rows), nil
}

// marks are what Mooring writes onto objects that others own too.
func (s *source) marks() string {
	var rows [][]string
	for _, t := range s.texts() {
		if t.has("mark") {
			kind, on, _ := strings.Cut(t.line("mark"), " on ")
			rows = append(rows, []string{code(t.value), kind, on, t.meaning(t.name)})
		}
	}
	return table([]string{"Name", "Is", "On", "Meaning"}, rows)
}

// keeps are the objects that Mooring makes for itself.
func (s *source) keeps() string {
	var rows [][]string
	for _, t := range s.texts() {
		if t.has("keeps") {
			kind, where, _ := strings.Cut(t.line("keeps"), ", ")
			rows = append(rows, []string{code(t.value), kind, where, t.meaning(t.name)})
		}
	}
	return table([]string{"Name", "Kind", "Where", "Meaning"}, rows)
}

// unmarked finds names on objects that stand on no page.
func (s *source) unmarked() error {
	var missing []error
	for _, t := range s.texts() {
		rest, ours := strings.CutPrefix(t.value, prefix)
		if !ours || rest == "" || rest == "v1alpha1" || t.has("mark") || t.has("condition") || t.has("value") {
			continue
		}
		missing = append(missing, fmt.Errorf("%s: %s (%s) stands on no page of the reference: say with a line reference:mark <kind> on <objects> "+
			"in its comment what it is, or describe it as the annotations of cloud/lb are", s.where(t.pos), t.name, t.value))
	}
	return errors.Join(missing...)
}
