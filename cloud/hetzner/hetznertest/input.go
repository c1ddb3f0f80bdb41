package hetznertest

import (
	"encoding/json"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"
)

// reservedPrefix of label keys is Hetzner's own.
const reservedPrefix = "hetzner.cloud/"

// maxNameLength of a Floating IP, in bytes.
const maxNameLength = 63

// fields of a request's body.
type fields map[string]json.RawMessage

// fields that the body has, all of which must be allowed. A request without a body has none.
func (r *request) fields(allowed ...string) (fields, *failure) {
	if len(r.body) == 0 {
		return fields{}, nil
	}
	if media, _, err := mime.ParseMediaType(r.contentType); err != nil || media != "application/json" {
		return nil, refuse(JSONError, "the content type is %q and not application/json", r.contentType)
	}
	var all fields
	if err := json.Unmarshal(r.body, &all); err != nil {
		return nil, refuse(JSONError, "the body is no JSON object: %v", err)
	}
	for name := range all {
		if !slices.Contains(allowed, name) {
			return nil, invalid(name, "the field is unknown")
		}
	}
	return all, nil
}

// field of a type; nil: it is absent, or null where that is allowed.
func field[T any](f fields, name string, nullable bool) (*T, *failure) {
	raw, ok := f[name]
	if !ok {
		return nil, nil
	}
	if string(raw) == "null" {
		if nullable {
			return nil, nil
		}
		return nil, invalid(name, "must not be null")
	}
	value := new(T)
	if err := json.Unmarshal(raw, value); err != nil {
		return nil, invalid(name, "%v", err)
	}
	return value, nil
}

// labelsField reads labels and judges them; nil: the request has none.
func labelsField(f fields) (map[string]string, *failure) {
	given, failed := field[map[string]*string](f, "labels", false)
	if given == nil || failed != nil {
		return nil, failed
	}
	set := map[string]string{}
	for key, value := range *given {
		if value == nil {
			return nil, invalid("labels", "the value of %q must not be null", key)
		}
		if strings.HasPrefix(key, reservedPrefix) {
			return nil, invalid("labels", "the prefix of %q is reserved", key)
		}
		if mistakes := validation.IsQualifiedName(key); len(mistakes) > 0 {
			return nil, invalid("labels", "key %q: %s", key, mistakes[0])
		}
		if mistakes := validation.IsValidLabelValue(*value); len(mistakes) > 0 {
			return nil, invalid("labels", "value %q: %s", *value, mistakes[0])
		}
		set[key] = *value
	}
	return set, nil
}

// nameField reads the name of a Floating IP; empty: the request has none.
func nameField(f fields) (string, *failure) {
	name, failed := field[string](f, "name", false)
	if failed != nil || name == nil {
		return "", failed
	}
	if *name == "" {
		return "", invalid("name", "must not be empty")
	}
	if len(*name) > maxNameLength {
		return "", invalid("name", "is longer than %d", maxNameLength)
	}
	if mistakes := validation.IsValidLabelValue(*name); len(mistakes) > 0 {
		return "", invalid("name", "%s", mistakes[0])
	}
	return *name, nil
}

// parameters checks that the query has none but the allowed ones, and those that are not lists once at most.
func (r *request) parameters(allowed ...string) *failure {
	for name, values := range r.query {
		if !slices.Contains(allowed, name) {
			return invalid(name, "the query parameter is unknown")
		}
		if len(values) > 1 && name != "id" && name != "sort" && name != "status" {
			return invalid(name, "the query parameter is given %d times", len(values))
		}
	}
	return nil
}

// selector in the query; nil: there is none.
func (r *request) selector() (labels.Selector, *failure) {
	text := r.query.Get("label_selector")
	if text == "" {
		return nil, nil
	}
	selector, err := labels.Parse(text)
	if err != nil {
		return nil, invalid("label_selector", "%v", err)
	}
	requirements, _ := selector.Requirements()
	for _, one := range requirements {
		if op := one.Operator(); op == selection.GreaterThan || op == selection.LessThan {
			return nil, invalid("label_selector", "the operator %s is unknown", op)
		}
	}
	return selector, nil
}

// number in the query, from 1 to a maximum.
func number(query url.Values, name string, otherwise, most int) (int, *failure) {
	if !query.Has(name) {
		return otherwise, nil
	}
	n, err := strconv.Atoi(query.Get(name))
	if err != nil || n < 1 || n > most {
		return 0, invalid(name, "must be a number from 1 to %d", most)
	}
	return n, nil
}

// idsIn are the ids among the values.
func idsIn(values []string) []int64 {
	var ids []int64
	for _, value := range values {
		if id, err := strconv.ParseInt(value, 10, 64); err == nil && id > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}
