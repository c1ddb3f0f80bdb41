package main

import (
	"go/ast"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// comment is a doc comment: its paragraphs, and the reference: lines below them, which go doc does not show.
type comment struct {
	paragraphs []string
	// lines by the word after reference:, each as often as it stands there.
	lines map[string][]string
}

var referenceLine = regexp.MustCompile(`^//reference:([a-z]+)(?:\s+(.*))?$`)

func read(group *ast.CommentGroup) comment {
	c := comment{lines: make(map[string][]string)}
	if group == nil {
		return c
	}
	for _, line := range group.List {
		if m := referenceLine.FindStringSubmatch(strings.TrimRight(line.Text, " ")); m != nil {
			c.lines[m[1]] = append(c.lines[m[1]], m[2])
		}
	}
	for paragraph := range strings.SplitSeq(group.Text(), "\n\n") {
		if joined := strings.Join(strings.Fields(paragraph), " "); joined != "" {
			c.paragraphs = append(c.paragraphs, joined)
		}
	}
	return c
}

// line is what a reference: line of that word says, empty when there is none.
func (c comment) line(word string) string {
	if all := c.lines[word]; len(all) > 0 {
		return all[0]
	}
	return ""
}

func (c comment) has(word string) bool { return len(c.lines[word]) > 0 }

const whatToDo = "What to do: "

// meaning is the comment but for what is to be done, without the name that Go has its sentences begin with.
func (c comment) meaning(name string) string {
	var all []string
	for _, p := range c.paragraphs {
		if strings.HasPrefix(p, whatToDo) {
			continue
		}
		p = strings.TrimPrefix(p, name+" says that ")
		p = strings.TrimPrefix(p, name+" is ")
		p = strings.TrimPrefix(p, name+" ")
		all = append(all, upper(p))
	}
	return strings.Join(all, " ")
}

func (c comment) remedy() string {
	for _, p := range c.paragraphs {
		if rest, ok := strings.CutPrefix(p, whatToDo); ok {
			return upper(rest)
		}
	}
	return ""
}

// ofField is what a comment says of a field, without the field's name where that begins a whole sentence.
func ofField(name, says string) string {
	rest, whole := strings.CutPrefix(says, upper(name)+" ")
	verb, object, _ := strings.Cut(rest, " ")
	switch {
	case whole && (verb == "is" || verb == "are"):
		return upper(object)
	case whole && (verb == "says" || verb == "leaves" || verb == "lets" || verb == "keeps"):
		return upper(rest)
	}
	return says
}

// width of a line of prose.
const width = 120

// wrapped breaks prose into lines; those after the first begin with the indent.
func wrapped(prose, indent string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(prose) {
		n := utf8.RuneCountInString(word)
		switch {
		case i > 0 && column+1+n > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		case i > 0:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// upper has a sentence begin with a capital.
func upper(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}

// table is a table of Markdown. A cell may hold what parts cells.
func table(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		for _, cell := range cells {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	line(head)
	line(make([]string, len(head)))
	text := b.String()
	// The second line of a table is dashes.
	at := strings.Index(text, "\n") + 1
	b.Reset()
	b.WriteString(text[:at] + strings.Repeat("| --- ", len(head)) + "|\n")
	for _, row := range rows {
		line(row)
	}
	return strings.TrimRight(b.String(), "\n")
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
