package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/mooring-lb/mooring/cloud/config"
	"github.com/mooring-lb/mooring/cloud/convert"
)

const converted = "../../cloud/convert/testdata/"

func TestConvert(t *testing.T) {
	for _, scenario := range []string{"paperlb", "paperlb-nasty", "plenuslb", "plenuslb-nasty"} {
		t.Run(scenario, func(t *testing.T) {
			c := newConsole(t)
			c.prints("convert-"+scenario+".txt", "convert", "-f", converted+scenario+".yaml")
			assert.Empty(t, c.err.String())
		})
	}
	c := newConsole(t)
	c.prints("convert-plenuslb.json", "convert", "-f", converted+"plenuslb.yaml", "-o", "json")
	c.prints("convert-paperlb.yaml", "convert", "-f", converted+"paperlb.yaml", "-o", "yaml")
}

// prints is shows for what is no table.
func (c *console) prints(golden string, args ...string) {
	c.t.Helper()
	require.NoError(c.t, c.run(args...))
	path := filepath.Join("testdata", golden)
	if *update {
		require.NoError(c.t, os.WriteFile(path, c.out.Bytes(), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(c.t, err)
	assert.Equal(c.t, string(want), c.out.String())
	assert.NotContains(c.t, c.out.String(), "plain-text-token")
}

// Objects come in files and directories, as JSON and YAML, alone and in Lists, and on standard input.
func TestConvertReads(t *testing.T) {
	list := unstructuredList(t, "plenuslb")
	asList, err := list.MarshalJSON()
	require.NoError(t, err)
	directory := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(directory, "list.json"), asList, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(directory, "within"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(directory, "within", "a.yaml"), []byte("{}"), 0o600))
	want, err := os.ReadFile("testdata/convert-plenuslb.txt")
	require.NoError(t, err)

	c := newConsole(t)
	for _, args := range [][]string{{"-f", "-"}, {"-f", directory}, {"-f", converted + "plenuslb.yaml", "-f", filepath.Join(directory, "list.json")}} {
		c.in = string(asList)
		require.NoError(t, c.run(append([]string{"convert"}, args...)...), args)
		assert.Equal(t, string(want), c.out.String(), args)
	}
	require.ErrorContains(t, c.run("convert", "-f", "absent.yaml"), "read objects")
	require.ErrorContains(t, c.run("convert", "-f", "testdata/cluster.yaml"), "there is nothing to convert")
	require.Error(t, c.run("convert", "-f", directory, "-R"), "the file within has no kind")
}

// What cannot be read is not printed either: it may have a token.
func TestConvertKeepsTokensOutOfErrors(t *testing.T) {
	for name, text := range map[string]string{
		"without a kind":   "{apiVersion: loadbalancing.plenus.io/v1alpha1, spec: {token: plain-text-token}}",
		"not of its type":  "{apiVersion: loadbalancing.plenus.io/v1alpha1, kind: EphemeralIPPool, metadata: {name: a}, spec: {cloudIntegration: {hetzner: plain-text-token}}}",
		"labels as number": "{apiVersion: v1, kind: Service, metadata: {name: a, labels: 1}, token: plain-text-token}",
		"not YAML":         "{kind: EphemeralIPPool, spec: {token: plain-text-token}",
	} {
		c := newConsole(t)
		c.in = text
		err := c.run("convert", "-f", "-")
		require.Error(t, err, name)
		assert.NotContains(t, err.Error()+c.out.String()+c.err.String(), "plain-text-token", name)
	}
	c := newConsole(t)
	c.in = "{apiVersion: v1, spec: {}}"
	assert.ErrorContains(t, c.run("convert", "-f", "-"), "Object 'Kind' is missing: give objects as kubectl get")
}

func unstructuredList(t *testing.T, scenario string) *unstructured.UnstructuredList {
	t.Helper()
	data, err := os.ReadFile(converted + scenario + ".yaml")
	require.NoError(t, err)
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("v1")
	list.SetKind("List")
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		var o unstructured.Unstructured
		if decoder.Decode(&o.Object) != nil {
			return list
		}
		list.Items = append(list.Items, o)
	}
}

// The cluster says the same as files with what is in it, and it is not written to. What the other operator would have is
// not there.
func TestConvertReadsTheCluster(t *testing.T) {
	kinds := map[schema.GroupVersionResource]string{}
	for _, r := range append(convert.Operators(), convert.Others()...) {
		kinds[r] = "AnyList"
	}
	var objects []runtime.Object
	for _, o := range unstructuredList(t, "plenuslb").Items {
		objects = append(objects, o.DeepCopy())
	}
	client := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, objects...)
	client.PrependReactor("list", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		r := action.GetResource().GroupResource()
		if r.Group == "lb.paperlb.com" || r.Group == "mooring.dev" {
			return true, nil, apierrors.NewNotFound(r, "")
		}
		return false, nil, nil
	})
	c := newConsole(t)
	c.objects = client
	require.NoError(t, c.run("convert"))
	want, err := os.ReadFile("testdata/convert-plenuslb.txt")
	require.NoError(t, err)
	assert.Equal(t, string(want), c.out.String())
	for _, action := range client.Actions() {
		assert.Equal(t, "list", action.GetVerb())
	}

	assert.ErrorContains(t, c.run("convert", "-n", "shop"), "all namespaces are read")

	client.PrependReactor("list", "ipallocations", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(action.GetResource().GroupResource(), "", nil)
	})
	err = c.run("convert")
	require.ErrorContains(t, err, "list ipallocations.loadbalancing.plenus.io")
	assert.ErrorContains(t, err, "docs/guides/kubectl.md lists the rights")
}

func TestConvertWritesFiles(t *testing.T) {
	c := newConsole(t)
	directory := filepath.Join(t.TempDir(), "out", "mooring")
	args := []string{"convert", "-f", converted + "plenuslb.yaml", "--output-directory", directory}
	require.NoError(t, c.run(args...))
	var names []string
	for line := range strings.Lines(c.out.String()) {
		path := strings.TrimSpace(line)
		assert.Equal(t, directory, filepath.Dir(path))
		names = append(names, filepath.Base(path))
	}
	assert.Equal(t, []string{"cloud-config.yaml", "node-addresses.yaml", "annotate.sh", "notes.txt"}, names, "in the order of use")
	assert.Equal(t, "read "+filepath.Join(directory, "notes.txt")+" first\n", c.err.String())

	_, err := config.Load(filepath.Join(directory, "cloud-config.yaml"))
	require.NoError(t, err)
	script, err := os.Stat(filepath.Join(directory, "annotate.sh"))
	require.NoError(t, err)
	assert.NotZero(t, script.Mode()&0o100, "can be run")

	edited := filepath.Join(directory, "cloud-config.yaml")
	require.NoError(t, os.WriteFile(edited, []byte("mine"), 0o600))
	assert.ErrorContains(t, c.run(args...), edited+" exists already, and is not written over")
	data, err := os.ReadFile(edited)
	require.NoError(t, err)
	assert.Equal(t, "mine", string(data))

	assert.ErrorContains(t, c.run(append(args, "-o", "json")...), "exclude each other")
	assert.ErrorContains(t, c.run("convert", "-o", "wide"), "no format of convert")
	assert.ErrorContains(t, c.run("convert", "-o", "xml"), "-o xml is no format of convert: write json or yaml")
}

// What stands on Services comes through a shell as it is, whatever it is made of.
func TestQuote(t *testing.T) {
	assert.Equal(t, `'a'\''b $c'`, quote("a'b $c"))
	text, err := annotateText([]convert.ServiceChange{{Namespace: "shop", Name: "web", Annotations: map[string]string{"a": "1", "b": "it's"}}})
	require.NoError(t, err)
	assert.Contains(t, text, "kubectl \"$@\" annotate service --namespace shop web \\\n  a='1' \\\n  b='it'\\''s'\n")
}
