package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-lb/mooring/e2e/cluster"
	"github.com/stretchr/testify/require"
)

// reader follows a page of docs: what stands in its blocks of commands, somebody types who has Mooring's source, kubectl and
// a cluster; and what stands in the block of text after it is what they see, but for what differs each time. Two things
// are not as a reader has them: the network of the documentation is that of the wire, and nobody builds images: the
// cluster runs the built binaries for the pods of them.
//
// In a page, <!-- not run: why --> is before a block of commands that no test can run (its syntax is checked), and
// <!-- by hand: what --> stands for what a reader does without a command.
type reader struct {
	*cluster.Cluster
	// dir is the reader's copy of the source, bin what stands first in the PATH.
	dir, bin string
	// words of the pages that are others here, in pairs.
	words []string
	env   []string
	// hands do what a reader does without a command.
	hands map[string]func(t *testing.T)
}

// newReader starts a cluster without Mooring for a reader.
func newReader(t *testing.T, options cluster.Options) *reader {
	t.Helper()
	options.RunPods = true
	r := &reader{Cluster: start(t, options), dir: t.TempDir(), bin: t.TempDir(), words: []string{"192.0.2.", "10.90.0."}}
	root, err := cluster.Root()
	require.NoError(t, err)
	require.NoError(t, os.CopyFS(filepath.Join(r.dir, "manifests"), os.DirFS(filepath.Join(root, "manifests"))))
	require.NoError(t, os.Symlink(filepath.Join(root, cluster.KubectlBinary), filepath.Join(r.bin, "kubectl-mooring")))
	curl, err := exec.LookPath("curl")
	require.NoError(t, err, "curl is not installed: run hack/debian-packages.sh")
	r.program(t, "kubectl", fmt.Sprintf("exec '%s' kubectl \"$@\"", filepath.Join(root, cluster.KubeBinary)))
	// Whoever asks is a machine of the network that is no node.
	r.program(t, "curl", fmt.Sprintf("exec nsenter --net=/run/netns/client '%s' --connect-timeout 2 --max-time 3 \"$@\"", curl))
	r.env = append(os.Environ(), "KUBECONFIG="+r.Kubeconfig, "PATH="+r.bin+":"+os.Getenv("PATH"))
	return r
}

// program is a command that the reader has.
func (r *reader) program(t *testing.T, name, script string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(r.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

// follow does what a page of docs says, from its first line to its last.
func (r *reader) follow(t *testing.T, page string) {
	t.Helper()
	root, err := cluster.Root()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "docs", page))
	require.NoError(t, err)
	steps, err := stepsOf(string(text))
	require.NoError(t, err, page)
	require.NotEmpty(t, steps, page)
	for _, step := range steps {
		where := fmt.Sprintf("%s:%d", page, step.line)
		switch {
		case step.hand != "":
			t.Logf("%s: by hand: %s", where, step.hand)
			require.Contains(t, r.hands, step.hand, where)
			r.hands[step.hand](t)
		case step.notRun:
			out, err := r.shell(t.Context(), step.script, "-n")
			require.NoError(t, err, "%s: %s", where, out)
		case step.shows == nil:
			out, err := r.shell(t.Context(), step.script)
			t.Logf("%s\n%s\n%s", where, step.script, out)
			if err != nil {
				t.Fatalf("%s: %v\n%s\n%s", where, err, step.script, r.Dump(context.WithoutCancel(t.Context())))
			}
		default:
			// A block of which the page shows the output only looks, so the reader may look again.
			var out string
			r.Eventually(t, fmt.Sprintf("%s\n%s\nshows what the page shows", where, step.script), func(ctx context.Context) error {
				out, _ = r.shell(ctx, step.script) // a refusal is an output, too
				if missing := r.missing(step.shows, out); len(missing) > 0 {
					return fmt.Errorf("these lines are missing:\n%s\nin:\n%s", strings.Join(missing, "\n"), out)
				}
				return nil
			})
			t.Logf("%s\n%s\n%s", where, step.script, out)
		}
	}
}

// shell runs a script as a reader's shell, which keeps its variables from block to block, and returns what it prints.
func (r *reader) shell(ctx context.Context, script string, flags ...string) (string, error) {
	variables := filepath.Join(r.bin, ".variables")
	script = fmt.Sprintf("set -a\n[ ! -f %[1]s ] || . %[1]s\n%[2]s\nexport -p >%[1]s\n", variables, strings.NewReplacer(r.words...).Replace(script))
	cmd := exec.CommandContext(ctx, "bash", append(flags, "-eu", "-o", "pipefail", "-c", script)...)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// missing are the lines of the page that are not in the output, in what is the same each time.
func (r *reader) missing(shows []string, out string) (missing []string) {
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, stable(line))
	}
	for _, line := range shows {
		if strings.TrimSpace(line) == "..." {
			continue
		}
		i := slices.Index(lines, stable(strings.NewReplacer(r.words...).Replace(line)))
		if i < 0 {
			missing = append(missing, line)
			continue
		}
		lines = slices.Delete(lines, i, i+1)
	}
	return missing
}

// unstable is what may be another one each time, by what stands for it.
var unstable = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\b([0-9]+[smhd])+\b`), "AGE"},
	{regexp.MustCompile(`\bn[0-9]\b`), "NODE"},
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "MAC"},
	{regexp.MustCompile(`\b10\.96\.[0-9.]+\b`), "CLUSTER-IP"},
	{regexp.MustCompile(`\b3[0-9]{4}\b`), "NODE-PORT"},
	{regexp.MustCompile(`\b198\.51\.100\.[0-9]+\b`), "FLOATING-IP"},
	{regexp.MustCompile(`hcloud://[0-9]+`), "SERVER"},
	{regexp.MustCompile(`v1\.[0-9]+\.[0-9]+\b`), "VERSION"},
	{regexp.MustCompile(`\s+`), " "},
}

func stable(line string) string {
	for _, u := range unstable {
		line = u.pattern.ReplaceAllString(line, u.word)
	}
	return strings.TrimSpace(line)
}

// step of a page.
type step struct {
	line int
	// script is a block of commands; notRun is set when it needs what no test has.
	script string
	notRun bool
	// shows are the lines of the block of text after it; nil: there is none.
	shows []string
	// hand is what is done without a command.
	hand string
}

var comment = regexp.MustCompile(`^<!-- (not run|by hand): (.+) -->$`)

// stepsOf a page are its blocks of commands, and what its comments say that is done by hand or not run.
func stepsOf(text string) (steps []step, err error) {
	var fence, notRun string
	var block []string
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		found := comment.FindStringSubmatch(line)
		switch {
		case fence != "" && line != "```":
			block = append(block, line)
		case fence == "sh":
			steps = append(steps, step{line: i + 1 - len(block), script: strings.Join(block, "\n"), notRun: notRun != ""})
			fence, notRun = "", ""
		case fence == "text":
			if len(steps) == 0 || steps[len(steps)-1].script == "" {
				return nil, fmt.Errorf("line %d: no commands print this", i+1)
			}
			steps[len(steps)-1].shows = block
			fence = ""
		case fence != "":
			fence = ""
		case strings.HasPrefix(line, "```"):
			fence, block = strings.TrimPrefix(line, "```"), nil
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			return nil, fmt.Errorf("line %d: a block that is indented would not be run", i+1)
		case len(found) > 2 && found[1] == "by hand":
			steps = append(steps, step{line: i + 1, hand: found[2]})
		case len(found) > 2:
			notRun = found[2]
		}
	}
	if fence != "" || notRun != "" {
		return nil, errors.New("a block does not end, or a comment is followed by none")
	}
	return steps, nil
}
