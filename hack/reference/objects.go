package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const base = "manifests/base"

// manifests are the CRD, and what is installed beside it.
type manifests struct {
	crd     apiextensionsv1.CustomResourceDefinition
	objects []installed
}

type installed struct {
	unstructured.Unstructured
	file string
}

func objectsOf(crd string) (*manifests, error) {
	m := &manifests{}
	text, err := os.ReadFile(crd)
	if err != nil {
		return nil, fmt.Errorf("read the CRD: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, &m.crd); err != nil {
		return nil, fmt.Errorf("read the CRD %s: %w", crd, err)
	}
	files, err := filepath.Glob(base + "/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list the manifests: %w", err)
	}
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read a manifest: %w", err)
		}
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), len(text))
		for {
			o := installed{file: filepath.Base(file)}
			if err := decoder.Decode(&o.Object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("read manifest %s: %w", file, err)
			}
			if len(o.Object) > 0 {
				m.objects = append(m.objects, o)
			}
		}
	}
	return m, nil
}

// installed is the table of what manifests/base puts into a cluster.
func (m *manifests) installed() string {
	rows := [][]string{{"CustomResourceDefinition", code(m.crd.Name), "", "crd/mooring.dev_nodeaddresses.yaml"}}
	for _, o := range m.objects {
		rows = append(rows, []string{o.GetKind(), code(o.GetName()), code(o.GetNamespace()), o.file})
	}
	slices.SortFunc(rows, func(a, b []string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	return table([]string{"Kind", "Name", "Namespace", "File in " + base}, rows)
}

// arguments is the table of what the manifests give to a container.
func (m *manifests) arguments(container string) (string, error) {
	for _, o := range m.objects {
		containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		if err != nil {
			return "", fmt.Errorf("read %s: %w", o.file, err)
		}
		for _, c := range containers {
			fields, ok := c.(map[string]any)
			if !ok || fields["name"] != container {
				continue
			}
			args, _, err := unstructured.NestedStringSlice(fields, "args")
			if err != nil {
				return "", fmt.Errorf("read the args of %s in %s: %w", container, o.file, err)
			}
			for i, arg := range args {
				args[i] = "- " + code(arg)
			}
			return strings.Join(args, "\n"), nil
		}
	}
	return "", fmt.Errorf("no container of %s is called %s", base, container)
}

func (m *manifests) version() apiextensionsv1.CustomResourceDefinitionVersion {
	return m.crd.Spec.Versions[0]
}

// columns are what kubectl get shows of a NodeAddresses.
func (m *manifests) columns() string {
	rows := make([][]string, 0, len(m.version().AdditionalPrinterColumns))
	for _, c := range m.version().AdditionalPrinterColumns {
		rows = append(rows, []string{c.Name, code(c.JSONPath)})
	}
	return table([]string{"Column", "Shows"}, rows)
}

// fields is the table of all fields of a part of a NodeAddresses.
func (m *manifests) fields(part string) (string, error) {
	root, ok := m.version().Schema.OpenAPIV3Schema.Properties[part]
	if !ok {
		return "", fmt.Errorf("the CRD has no field %s", part)
	}
	var rows [][]string
	var mistakes []error
	var add func(path string, p *apiextensionsv1.JSONSchemaProps)
	add = func(path string, p *apiextensionsv1.JSONSchemaProps) {
		for _, name := range slices.Sorted(maps.Keys(p.Properties)) {
			field := p.Properties[name]
			at := strings.TrimPrefix(path+"."+name, ".")
			says := ofField(name, strings.Join(strings.Fields(field.Description), " "))
			if says == "" {
				mistakes = append(mistakes, fmt.Errorf("field %s.%s of NodeAddresses has no comment in agent/api/v1alpha1", part, at))
			}
			kind := field.Type
			below := &field
			if kind == "array" {
				kind, below, at = "list of "+field.Items.Schema.Type+"s", field.Items.Schema, at+"[]"
			}
			required := "optional"
			if slices.Contains(p.Required, name) {
				required = "required"
			}
			rules := append([]string{required}, validation(&field)...)
			if below != &field {
				rules = append(rules, validation(below)...)
			}
			rows = append(rows, []string{code(at), kind, strings.Join(rules, "; "), says})
			// A condition is Kubernetes' own to describe.
			if name != "conditions" {
				add(at, below)
			}
		}
	}
	add("", &root)
	return table([]string{"Field", "Type", "Validation", "Meaning"}, rows), errors.Join(mistakes...)
}

// validation is what the API server lets in.
func validation(p *apiextensionsv1.JSONSchemaProps) []string {
	var rules []string
	limit := func(of string, least, most *int64) {
		switch {
		case least != nil && most != nil:
			rules = append(rules, fmt.Sprintf("%d to %d %s", *least, *most, of))
		case least != nil:
			rules = append(rules, fmt.Sprintf("at least %d %s", *least, of))
		case most != nil:
			rules = append(rules, fmt.Sprintf("at most %d %s", *most, of))
		}
	}
	limit("characters", p.MinLength, p.MaxLength)
	limit("items", p.MinItems, p.MaxItems)
	if p.Pattern != "" {
		rules = append(rules, code(p.Pattern))
	}
	var words []string
	for _, e := range p.Enum {
		words = append(words, code(strings.Trim(string(e.Raw), `"`)))
	}
	if len(words) > 0 {
		rules = append(rules, "one of "+strings.Join(words, ", "))
	}
	for _, v := range p.XValidations {
		rules = append(rules, v.Message)
	}
	return rules
}
