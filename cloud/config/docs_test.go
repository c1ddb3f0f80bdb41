package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExamplesAreValidAndServed(t *testing.T) {
	examples, err := filepath.Glob("../../docs/examples/cloud-config*.yaml")
	require.NoError(t, err)
	require.Len(t, examples, 3)
	for _, example := range examples {
		t.Run(filepath.Base(example), func(t *testing.T) {
			_, err := Load(example)
			assert.NoError(t, err, "a user who tries the example gets a controller that runs")
		})
	}
}

// The reference page names every key of the cloud-config.
func TestReferenceIsComplete(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/cloud-config.md")
	require.NoError(t, err)
	words := strings.FieldsFunc(string(page), func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	})
	documented := make(map[string]bool)
	for _, word := range words {
		documented[word] = true
	}
	for _, key := range keysOf(reflect.TypeFor[file]()) {
		// What a selector and a requirement hold is Kubernetes' to document.
		assert.True(t, documented[key] || key == "values", "docs/reference/cloud-config.md says nothing of %s", key)
	}
}

// keysOf are the keys of a type of file.go and of everything below it.
func keysOf(t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return keysOf(t.Elem())
	case reflect.Struct:
	default:
		return nil
	}
	var keys []string
	for field := range t.Fields() {
		if key := field.Tag.Get("yaml"); key != "-" {
			keys = append(keys, key)
			keys = append(keys, keysOf(field.Type)...)
		}
	}
	return keys
}
