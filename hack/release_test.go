// Package hack holds the scripts that Makefile, CI and the image build call. Here are the tests of those that decide
// something.
package hack

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// changes is a CHANGELOG.md with something to release, and what is to stand in the tag.
const (
	changes = "# Changelog\n\nWords.\n\n## [Unreleased]\n\n### Added\n\n- A thing, for\n  everybody.\n\n### Fixed\n\n- Another one.\n"
	section = "### Added\n\n- A thing, for\n  everybody.\n\n### Fixed\n\n- Another one.\n"
)

// clone is a repository in which a release can be made in no time: recording writes a file.
type clone struct{ dir string }

func newClone(t *testing.T, changelog string) clone {
	t.Helper()
	c := clone{t.TempDir()}
	script, err := os.ReadFile("release.sh")
	require.NoError(t, err)
	for name, text := range map[string]string{
		"hack/release.sh": string(script),
		"Makefile":        ".PHONY: e2e\ne2e:\n\techo \"$$RUN of $$VERSION\" > $$RECORD/recorded\n",
		"CHANGELOG.md":    changelog,
		".gitignore":      "/bin/\n",
		"manifests/overlays/office/kustomization.yaml":  "images:\n- name: mooring-agent\n  newTag: v0.0.0\n",
		"manifests/charts/mooring/examples/office.yaml": "image:\n  tag: v0.0.0\n",
		"manifests/charts/mooring/Chart.yaml":           "name: mooring\nversion: 0.0.0\nappVersion: v0.0.0\n",
		"e2e/testdata/releases/v0.0.0/recorded":         "long ago\n",
	} {
		c.write(t, name, text)
	}
	c.git(t, "init", "--quiet", "--initial-branch=main")
	c.commit(t)
	return c
}

func (c clone) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
}

func (c clone) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	require.NoError(t, err)
	return string(data)
}

func (c clone) commit(t *testing.T) {
	t.Helper()
	c.git(t, "add", "--all")
	c.git(t, "commit", "--quiet", "--allow-empty", "--message", "Change something")
}

// run a command as somebody whose git has no settings of this machine.
func (c clone) run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "TZ=Pacific/Kiritimati",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com")
	output, err := cmd.CombinedOutput()
	return string(output), err
}

func (c clone) git(t *testing.T, args ...string) string {
	t.Helper()
	output, err := c.run(t, "git", args...)
	require.NoError(t, err, "git %v: %s", args, output)
	return strings.TrimSuffix(output, "\n")
}

func (c clone) release(t *testing.T, version string) (string, error) {
	t.Helper()
	return c.run(t, "hack/release.sh", version)
}

// A release is a commit and a tag that say the same everywhere, and nothing leaves the machine.
func TestRelease(t *testing.T) {
	c := newClone(t, changes)
	c.git(t, "clone", "--quiet", "--bare", ".", filepath.Join(t.TempDir(), "origin"))
	before := c.git(t, "rev-parse", "HEAD")
	output, err := c.release(t, "v0.1.0")
	require.NoError(t, err, output)

	assert.Contains(t, output, "git push origin HEAD v0.1.0")
	assert.Empty(t, c.git(t, "status", "--porcelain"))
	assert.Equal(t, before, c.git(t, "rev-parse", "HEAD~1"), "one commit")
	assert.Equal(t, "Release v0.1.0", c.git(t, "log", "-1", "--format=%s"))
	assert.Equal(t, "v0.1.0", c.git(t, "describe"), "the tag is annotated and on the commit")
	assert.Equal(t, "Mooring v0.1.0\n\n"+section, c.git(t, "tag", "--list", "v0.1.0", "--format=%(contents)"))

	day := c.git(t, "log", "-1", "--format=%cs")
	assert.Equal(t, strings.Replace(changes, "## [Unreleased]", "## [Unreleased]\n\n## [0.1.0] - "+day, 1), c.read(t, "CHANGELOG.md"))
	assert.Contains(t, c.read(t, "manifests/overlays/office/kustomization.yaml"), "  newTag: v0.1.0\n")
	assert.Equal(t, "name: mooring\nversion: 0.1.0\nappVersion: v0.1.0\n", c.read(t, "manifests/charts/mooring/Chart.yaml"))
	assert.Equal(t, "image:\n  tag: v0.1.0\n", c.read(t, "manifests/charts/mooring/examples/office.yaml"))
	assert.Equal(t, "^TestUpgrade$ of v0.1.0\n", c.read(t, "e2e/testdata/releases/v0.1.0/recorded"))
	assert.NoDirExists(t, c.dir+"/e2e/testdata/releases/v0.0.0", "of the older one nothing is kept")

	t.Run("the next one", func(t *testing.T) {
		output, err := c.release(t, "v0.1.1")
		require.Error(t, err)
		assert.Contains(t, output, "CHANGELOG.md says nothing under [Unreleased]")
		c.write(t, "CHANGELOG.md", strings.Replace(c.read(t, "CHANGELOG.md"), "## [Unreleased]", "## [Unreleased]\n\n### Fixed\n\n- The thing.", 1))
		c.commit(t)
		output, err = c.release(t, "v0.1.1")
		require.NoError(t, err, output)
		assert.Equal(t, "Mooring v0.1.1\n\n### Fixed\n\n- The thing.\n", c.git(t, "tag", "--list", "v0.1.1", "--format=%(contents)"))
		assert.Contains(t, c.read(t, "manifests/overlays/office/kustomization.yaml"), "  newTag: v0.1.1\n")
	})
}

// What cannot become a release is refused with what to do about it, and changes nothing.
func TestReleaseIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		version string
		before  func(*testing.T, clone)
		says    string
	}{
		"no version":             {"", nil, "make release VERSION=v0.1.0"},
		"no v":                   {"0.1.0", nil, "VERSION=0.1.0 is no version"},
		"two numbers":            {"v0.1", nil, "VERSION=v0.1 is no version"},
		"a leading zero":         {"v0.01.0", nil, "VERSION=v0.01.0 is no version"},
		"build metadata":         {"v0.1.0+build", nil, "VERSION=v0.1.0+build is no version"},
		"it exists":              {"v0.3.0", tagged("v0.3.0"), "the tag v0.3.0 exists already"},
		"older":                  {"v0.9.9", tagged("v0.10.0"), "v0.9.9 is not newer than v0.10.0"},
		"a late candidate":       {"v0.3.0-rc.1", tagged("v0.3.0"), "v0.3.0-rc.1 is not newer than v0.3.0"},
		"an older candidate":     {"v0.3.0-rc.9", tagged("v0.3.0-rc.10"), "v0.3.0-rc.9 is not newer than v0.3.0-rc.10"},
		"a changed file":         {"v0.3.0", writing("Makefile"), " M Makefile"},
		"a new file":             {"v0.3.0", writing("new.txt"), "?? new.txt"},
		"nothing was recorded":   {"v0.3.0", committing("Makefile", ".PHONY: e2e\ne2e:\n\ttrue\n"), "nothing was recorded"},
		"recording has failed":   {"v0.3.0", committing("Makefile", ".PHONY: e2e\ne2e:\n\texit 1\n"), "Error 1"},
		"nothing has changed":    {"v0.3.0", committing("CHANGELOG.md", "## [Unreleased]\n\n### Added\n\n## [0.2.0] - 2026-01-01\n\n- A thing.\n"), "says nothing under [Unreleased]"},
		"no section for changes": {"v0.3.0", committing("CHANGELOG.md", "## [0.2.0] - 2026-01-01\n\n- A thing.\n"), `no line "## [Unreleased]"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClone(t, changes)
			if row.before != nil {
				row.before(t, c)
			}
			state := func() []string {
				return []string{c.git(t, "rev-parse", "HEAD"), c.git(t, "tag"), c.git(t, "status", "--porcelain"), c.read(t, "CHANGELOG.md")}
			}
			before := state()
			output, err := c.release(t, row.version)
			require.Error(t, err, output)
			assert.Contains(t, output, row.says)
			assert.Equal(t, before, state())
		})
	}
}

// Whoever works in the tree while the tests run loses nothing, and it does not get into the release.
func TestWorkDuringARelease(t *testing.T) {
	c := newClone(t, changes)
	c.write(t, "work.txt", "before\n")
	c.write(t, "Makefile", ".PHONY: e2e\ne2e:\n\techo recorded > $$RECORD/recorded\n\techo after > work.txt\n\techo new > new.txt\n")
	c.commit(t)
	head := c.git(t, "rev-parse", "HEAD")
	output, err := c.release(t, "v0.1.0")
	require.Error(t, err, output)
	assert.Contains(t, output, "the working tree was changed meanwhile")
	assert.Equal(t, []string{"after\n", "new\n"}, []string{c.read(t, "work.txt"), c.read(t, "new.txt")})
	assert.Equal(t, " M work.txt\n?? new.txt", c.git(t, "status", "--porcelain"))
	assert.Equal(t, []string{head, ""}, []string{c.git(t, "rev-parse", "HEAD"), c.git(t, "tag")})
}

func tagged(version string) func(*testing.T, clone) {
	return func(t *testing.T, c clone) {
		c.git(t, "tag", "--annotate", "--message", version, version)
		c.commit(t)
	}
}

func writing(name string) func(*testing.T, clone) {
	return func(t *testing.T, c clone) { c.write(t, name, "something else\n") }
}

func committing(name, text string) func(*testing.T, clone) {
	return func(t *testing.T, c clone) {
		c.write(t, name, text)
		c.commit(t)
	}
}

// A version comes after its candidates, and a branch for older versions goes on beside newer ones.
func TestReleaseOrder(t *testing.T) {
	c := newClone(t, changes)
	tagged("v0.2.0-rc.1")(t, c)
	c.git(t, "branch", "release-0.1", "HEAD~1")
	output, err := c.release(t, "v0.2.0")
	require.NoError(t, err, output)
	c.git(t, "checkout", "--quiet", "release-0.1")
	c.git(t, "tag", "--delete", "v0.2.0-rc.1")
	output, err = c.release(t, "v0.1.1")
	require.NoError(t, err, output)
}

// Whatever names a version names the one that was released last, as CHANGELOG.md says; v0.0.0 before the first.
func TestOneVersionEverywhere(t *testing.T) {
	repository := clone{".."}
	want := "0.0.0"
	if found := regexp.MustCompile(`(?m)^## \[(\d.*)\]`).FindStringSubmatch(repository.read(t, "CHANGELOG.md")); found != nil {
		want = found[1]
	}
	names := regexp.MustCompile(`(?m)^ *(?:newTag|tag|version|appVersion): v?(\d\S*)$`)
	for _, pattern := range []string{"overlays/*/kustomization.yaml", "charts/*/Chart.yaml", "charts/*/examples/*.yaml"} {
		files, err := filepath.Glob("../manifests/" + pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			found := names.FindAllStringSubmatch(string(data), -1)
			assert.NotEmpty(t, found, file)
			for _, match := range found {
				assert.Equal(t, want, match[1], file)
			}
		}
	}
	recorded, err := os.ReadDir("../e2e/testdata/releases")
	require.NoError(t, err)
	require.Len(t, recorded, 1)
	assert.Equal(t, "v"+want, recorded[0].Name(), "what the last release left in a cluster")
}
