package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"

	"github.com/mooring-lb/mooring/agent/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files of testdata anew")

// now is when the cluster of testdata is looked at.
var now = time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)

// objects are NodeAddresses without an API server.
type objects map[string]*v1alpha1.NodeAddresses

func (o objects) Get(_ context.Context, name string, _ metav1.GetOptions) (*v1alpha1.NodeAddresses, error) {
	if o[name] == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "nodeaddresses"}, name)
	}
	return o[name].DeepCopy(), nil
}

func (o objects) List(context.Context, metav1.ListOptions) (*v1alpha1.NodeAddressesList, error) {
	var list v1alpha1.NodeAddressesList
	for _, object := range o {
		list.Items = append(list.Items, *object.DeepCopy())
	}
	return &list, nil
}

// console is a user in front of a cluster.
type console struct {
	t         *testing.T
	clock     clock.Clock
	core      *fake.Clientset
	addresses nodeAddresses
	objects   dynamic.Interface
	in        string
	out, err  bytes.Buffer
}

// newConsole loads the cluster of testdata, but for the kinds that are left out.
func newConsole(t *testing.T, without ...string) *console {
	t.Helper()
	data, err := os.ReadFile("testdata/cluster.yaml")
	require.NoError(t, err)
	addresses := objects{}
	var core []runtime.Object
	for text := range strings.SplitSeq(string(data), "\n---\n") {
		var kind metav1.TypeMeta
		require.NoError(t, yaml.Unmarshal([]byte(text), &kind))
		switch {
		case slices.Contains(without, kind.Kind):
		case kind.Kind == "NodeAddresses":
			o := &v1alpha1.NodeAddresses{}
			require.NoError(t, yaml.UnmarshalStrict([]byte(text), o))
			addresses[o.Name] = o
		default:
			o, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(text), nil, nil)
			require.NoError(t, err, text)
			core = append(core, o)
		}
	}
	return &console{t: t, clock: testingclock.NewFakeClock(now), core: fake.NewClientset(core...), addresses: addresses}
}

// run runs the command as a user does.
func (c *console) run(args ...string) error {
	c.out.Reset()
	c.err.Reset()
	streams := genericiooptions.IOStreams{In: strings.NewReader(c.in), Out: &c.out, ErrOut: &c.err}
	cmd := newCommand(streams, c.clock, func(flags *genericclioptions.ConfigFlags) (*cluster, error) {
		namespace, given := *flags.Namespace, *flags.Namespace != ""
		if !given {
			namespace = metav1.NamespaceDefault
		}
		return &cluster{core: c.core, addresses: c.addresses, objects: c.objects, namespace: namespace, given: given}, nil
	})
	cmd.SetArgs(args)
	return cmd.ExecuteContext(c.t.Context())
}

// shows requires that a command prints what stands in a golden file, within the columns of a terminal.
func (c *console) shows(golden string, args ...string) {
	c.t.Helper()
	require.NoError(c.t, c.run(args...))
	path := filepath.Join("testdata", golden)
	if *update {
		require.NoError(c.t, os.WriteFile(path, c.out.Bytes(), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(c.t, err)
	assert.Equal(c.t, string(want), c.out.String())
	if !slices.Contains(args, "-o") {
		for line := range strings.Lines(c.out.String()) {
			assert.LessOrEqual(c.t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), columns, line)
		}
	}
	assert.NotContains(c.t, c.out.String(), "\x1b", "no colour")
}

// Help fits into a terminal, flags and examples included.
func TestHelp(t *testing.T) {
	c := newConsole(t)
	for _, args := range [][]string{{}, {"status"}, {"explain"}, {"explain", "service"}, {"validate"}, {"evacuate"}, {"convert"}, {"version"}} {
		require.NoError(t, c.run(append(args, "--help")...))
		for line := range strings.Lines(c.out.String()) {
			assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), columns, line)
		}
	}
	require.NoError(t, c.run("version"))
	assert.Equal(t, "kubectl mooring unknown (commit unknown)\n", c.out.String())
}

func TestStatus(t *testing.T) {
	c := newConsole(t)
	c.shows("status.txt", "status")
	c.shows("status-wide.txt", "status", "-o", "wide")
	c.shows("status.yaml", "status", "-o", "yaml")
	c.shows("status-mail.txt", "status", "-n", "mail")
	assert.Empty(t, c.err.String())
}

// Somebody who may not read the cloud-config, or whose cluster has it elsewhere, is told so and sees the rest.
func TestStatusWithoutCloudConfig(t *testing.T) {
	c := newConsole(t, "ConfigMap")
	c.shows("status-without-config.txt", "status")
	assert.Contains(t, c.err.String(), "mooring-system/mooring-cloud-config")
	assert.Contains(t, c.err.String(), "--cloud-config-map")
}

// Each command with flags of its own has a part of the reference.
func TestReferenceHasEveryCommand(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/flags.md")
	require.NoError(t, err)
	root := newCommand(genericiooptions.NewTestIOStreamsDiscard(), clock.RealClock{}, connect)
	var below func(*cobra.Command)
	below = func(parent *cobra.Command) {
		for _, cmd := range parent.Commands() {
			if cmd.LocalNonPersistentFlags().HasFlags() {
				assert.Contains(t, string(page), "\n### "+cmd.CommandPath()+"\n")
			}
			below(cmd)
		}
	}
	below(root)
}

// Who mistypes a command is told so, and gets an exit code that stops a script: nothing is drained because of a help text.
func TestMistypedCommands(t *testing.T) {
	for _, tt := range []struct{ command, says string }{
		{"evacute n1", `unknown command "evacute" for "kubectl mooring": did you mean evacuate? kubectl mooring --help lists the commands`},
		{"frob", `unknown command "frob" for "kubectl mooring": kubectl mooring --help lists the commands`},
		{"status --frob", `unknown flag: --frob: kubectl mooring status --help lists the flags`},
		{"explain pod web", `"pod" cannot be explained, only a Service can: kubectl mooring explain service NAME`},
		{"explain service", "one name is needed, and 0 are given: kubectl mooring explain service NAME"},
		{"explain service web mail", "one name is needed, and 2 are given: kubectl mooring explain service NAME"},
		{"evacuate", "one name is needed, and 0 are given: kubectl mooring evacuate NODE"},
		{"validate cloud-config.yaml", `kubectl mooring validate takes flags alone, and "cloud-config.yaml" is none: kubectl mooring validate --help`},
		{"status web", `kubectl mooring status takes flags alone, and "web" is none`},
		{"convert mooring", `kubectl mooring convert takes flags alone, and "mooring" is none`},
	} {
		c := newConsole(t)
		require.ErrorContains(t, c.run(strings.Fields(tt.command)...), tt.says, tt.command)
		assert.Empty(t, c.out.String(), tt.command)
	}
}

func TestExplainService(t *testing.T) {
	newConsole(t).shows("explain-smtp.txt", "explain", "service", "smtp", "-n", "mail")
	newConsole(t).shows("explain-web.yaml", "explain", "service", "web", "-o", "yaml")
	for _, name := range []string{"web", "full", "stranger", "lonely", "proxied", "rented", "garbled", "game"} {
		t.Run(name, func(t *testing.T) {
			newConsole(t).shows("explain-"+name+".txt", "explain", "service", name)
		})
	}
}

// The guide shows what the command prints.
func TestGuideShowsRealOutput(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/kubectl.md")
	require.NoError(t, err)
	for _, golden := range []string{"status.txt", "explain-web.txt", "explain-full.txt", "explain-lonely.txt", "evacuate.txt", "evacuate-undo.txt", "convert-paperlb.txt"} {
		output, err := os.ReadFile(filepath.Join("testdata", golden))
		require.NoError(t, err)
		assert.Contains(t, string(guide), "\n"+string(output)+"```", golden)
	}
}
