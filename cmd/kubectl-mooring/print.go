package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// output is the flag -o.
type output string

const wide output = "wide"

func (o *output) addFlag(cmd *cobra.Command, widely string) {
	cmd.Flags().StringVarP((*string)(o), "output", "o", "", "json, yaml or wide ("+widely+")")
}

// check refuses a format that is none, before anything is read.
func (o output) check() error {
	switch o {
	case "", wide, "json", "yaml":
		return nil
	default:
		return fmt.Errorf("-o %s is no format: write json, yaml or wide", o)
	}
}

// object prints what is shown as JSON or YAML, and reports whether that was asked for.
func (o output) object(w io.Writer, kind string, shown any) (done bool, err error) {
	if o == "" || o == wide {
		return false, nil
	}
	printer, err := genericclioptions.NewJSONYamlPrintFlags().ToPrinter(string(o))
	if err != nil {
		return true, err
	}
	data, err := json.Marshal(shown)
	if err != nil {
		return true, fmt.Errorf("print %s: %w", kind, err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return true, fmt.Errorf("print %s: %w", kind, err)
	}
	fields["apiVersion"], fields["kind"] = "cli.mooring.dev/v1alpha1", kind
	return true, printer.PrintObj(&unstructured.Unstructured{Object: fields}, w)
}

// gap between columns, and the least that is left for the last one.
const gap, least = 2, 16

// table prints rows in columns. The last column breaks between words where the width ends; with width 0 it does not.
//
// The table printer of cli-runtime leaves three spaces between columns and breaks nothing: six columns with a message do
// not fit into a terminal with that.
func table(w io.Writer, width int, rows [][]string) error {
	last := len(rows[0]) - 1
	widths := make([]int, last)
	indent := 0
	for i := range last {
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		indent += widths[i] + gap
	}
	for _, row := range rows {
		line := ""
		for i, size := range widths {
			line += fmt.Sprintf("%-*s", size+gap, row[i])
		}
		text := []string{row[last]}
		if width > 0 {
			text = wrap(row[last], max(width-indent, least))
		}
		for _, part := range text {
			if _, err := fmt.Fprintln(w, strings.TrimRight(line+part, " ")); err != nil {
				return err
			}
			line = strings.Repeat(" ", indent)
		}
	}
	return nil
}

// wrap breaks a text between words so that no line is longer than the width, unless a word is.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// or is text, or a dash where there is none.
func or(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
