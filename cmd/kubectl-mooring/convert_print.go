package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
	"github.com/mooring-lb/mooring/cloud/convert"
)

// notesFile is where the notes are.
const notesFile = "notes.txt"

// outputFile is one file that a conversion gives.
type outputFile struct {
	name, text string
	mode       os.FileMode
}

// filesOf writes a plan as files, in the order in which they are needed.
func filesOf(plan *convert.Plan) ([]outputFile, error) {
	files := []outputFile{{name: configKey, mode: 0o644,
		text: "# For your overlay, which makes the ConfigMap of it. kubectl mooring validate -f judges it again.\n" + string(plan.CloudConfig)}}
	if len(plan.NodeAddresses) > 0 {
		text, err := nodeAddressesText(plan.NodeAddresses)
		if err != nil {
			return nil, err
		}
		files = append(files, outputFile{name: "node-addresses.yaml", mode: 0o644, text: text})
	}
	if len(plan.Services) > 0 {
		text, err := annotateText(plan.Services)
		if err != nil {
			return nil, err
		}
		files = append(files, outputFile{name: "annotate.sh", mode: 0o755, text: text})
	}
	if text := notesText(plan); text != "" {
		files = append(files, outputFile{name: notesFile, mode: 0o644, text: text})
	}
	return files, nil
}

func nodeAddressesText(objects []v1alpha1.NodeAddresses) (string, error) {
	var text strings.Builder
	text.WriteString("# Which address is on which node: kubectl create -f, once the CustomResourceDefinition is there and before Mooring\n" +
		"# starts. Not kubectl apply: from then on it is Mooring that says where addresses are.\n")
	for i := range objects {
		fields, err := fieldsOf(&objects[i])
		if err != nil {
			return "", err
		}
		document, err := yaml.Marshal(fields)
		if err != nil {
			return "", fmt.Errorf("print NodeAddresses %s: %w", objects[i].Name, err)
		}
		if i > 0 {
			text.WriteString("---\n")
		}
		text.Write(document)
	}
	return text.String(), nil
}

// fieldsOf leaves the status out, which is the agent's to write.
func fieldsOf(o *v1alpha1.NodeAddresses) (map[string]any, error) {
	fields := map[string]any{}
	data, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}
	if err != nil {
		return nil, fmt.Errorf("print NodeAddresses %s: %w", o.Name, err)
	}
	delete(fields, "status")
	return fields, nil
}

func annotateText(services []convert.ServiceChange) (string, error) {
	var text strings.Builder
	text.WriteString(`#!/bin/sh
# Says on each Service what it has, once the old operator is stopped and before
# Mooring starts. It adds annotations, and changes none that is there; done twice
# it does nothing. Arguments are handed to kubectl, such as --context.
set -eu
`)
	for _, s := range services {
		if s.Publish != nil {
			patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": []any{s.Publish}}}})
			if err != nil {
				return "", fmt.Errorf("print Service %s/%s: %w", s.Namespace, s.Name, err)
			}
			fmt.Fprintf(&text, "kubectl \"$@\" patch service --namespace %s %s --subresource status --type merge \\\n  --patch %s\n",
				s.Namespace, s.Name, quote(string(patch)))
		}
		if len(s.Annotations) == 0 {
			continue
		}
		fmt.Fprintf(&text, "kubectl \"$@\" annotate service --namespace %s %s", s.Namespace, s.Name)
		for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
			fmt.Fprintf(&text, " \\\n  %s=%s", key, quote(s.Annotations[key]))
		}
		text.WriteString("\n")
	}
	return text.String(), nil
}

// quote makes one word of a text for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func notesText(plan *convert.Plan) string {
	var text strings.Builder
	section := func(title string) {
		if text.Len() > 0 {
			text.WriteString("\n")
		}
		fmt.Fprintf(&text, "%s\n", title)
	}
	list := func(title string, first bool) {
		begun := false
		for _, n := range plan.Notes {
			if n.First != first {
				continue
			}
			if !begun {
				section(title)
				begun = true
			}
			fmt.Fprintf(&text, "\n%s\n", n.About)
			for _, line := range wrap(n.Text, columns-2) {
				fmt.Fprintf(&text, "  %s\n", line)
			}
		}
	}
	list("FIRST, while the old operator runs (and then convert anew)", true)
	if len(plan.Secrets) > 0 {
		section("TOKENS, into files beside the cloud-config that the overlay makes the Secret of\n")
		for _, s := range plan.Secrets {
			fmt.Fprintf(&text, "  (umask 077; kubectl get %s \\\n    -o 'jsonpath=%s' > %s)\n", s.Resource, s.JSONPath, s.File)
		}
		text.WriteString("\n  Whoever could read the objects has read the token: make a new one at Hetzner\n  when the old operator is gone.\n")
	}
	list("WHAT IS DIFFERENT, and what has no counterpart", false)
	return text.String()
}

// conversion is a plan as one object.
type conversion struct {
	CloudConfig   map[string]any          `json:"cloudConfig"`
	Secrets       []convert.Secret        `json:"secrets"`
	NodeAddresses []map[string]any        `json:"nodeAddresses"`
	Services      []convert.ServiceChange `json:"services"`
	Notes         []convert.Note          `json:"notes"`
}

func conversionOf(plan *convert.Plan) (*conversion, error) {
	// Lists that are empty are there, for scripts.
	c := &conversion{
		Secrets: append([]convert.Secret{}, plan.Secrets...), NodeAddresses: []map[string]any{},
		Services: append([]convert.ServiceChange{}, plan.Services...), Notes: append([]convert.Note{}, plan.Notes...),
	}
	if err := yaml.Unmarshal(plan.CloudConfig, &c.CloudConfig); err != nil {
		return nil, fmt.Errorf("print the cloud-config: %w", err)
	}
	for i := range plan.NodeAddresses {
		fields, err := fieldsOf(&plan.NodeAddresses[i])
		if err != nil {
			return nil, err
		}
		c.NodeAddresses = append(c.NodeAddresses, fields)
	}
	return c, nil
}
