package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/names"
	"k8s.io/cloud-provider/options"
	cliflag "k8s.io/component-base/cli/flag"
	_ "k8s.io/component-base/logs/json/register" // brings flags, and the controller has it too
)

const controller = "mooring-cloud-controller-manager"

// help asks the built commands what flags they have: they may be imported by nothing.
type help struct{ binaries string }

// option is a flag as --help prints it.
type option struct{ group, short, name, kind, otherwise, says string }

// ofLibraries are in our words what libraries say of their flags in theirs. The agent's --kubeconfig is our own.
var ofLibraries = map[string]string{
	"context":   "context of the kubeconfig to use",
	"namespace": "namespace to look at",
	"v":         "how much is logged; 0 is least",
	"vmodule":   "`file=N,...`: how much single files log",
	"version":   "print the version, and exit",
}

// ofKubectl is what the library of kubectl says of --kubeconfig.
const ofKubectl = "Path to the kubeconfig file to use for CLI requests."

// kinds are the types that --help names, in words.
var kinds = map[string]string{"": "`true` or `false`", "string": "text", "Level": "whole number", "moduleSpec": "text"}

var (
	flagLine    = regexp.MustCompile(`^ {2,6}(?:(-\w), |    )?--([a-z0-9-]+)(?: (\S+))?(?:\s{2,}(.*))?$`)
	groupLine   = regexp.MustCompile(`^(\S.*)[Ff]lags:$`)
	defaultText = regexp.MustCompile(` \(default (.*)\)$`)
)

// ask runs a command with --help.
func (h help) ask(ctx context.Context, command string, args ...string) ([]option, error) {
	path, err := filepath.Abs(filepath.Join(h.binaries, command))
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", command, err)
	}
	program := exec.CommandContext(ctx, path, append(args, "--help")...)
	// No default of a flag comes from the environment of whoever generates.
	program.Env = []string{"HOME=/root"}
	out, err := program.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its flags: %w\n%s", command, err, out)
	}
	found := parseHelp(string(out))
	if len(found) == 0 {
		return nil, fmt.Errorf("the --help of %s shows no flag", command)
	}
	return found, nil
}

// parseHelp reads the flags of a help text, with the groups that they stand in. Text below a flag goes on with it.
func parseHelp(text string) []option {
	var all []option
	group := ""
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if m := groupLine.FindStringSubmatch(line); m != nil {
			group = m[1] + "flags"
			if m[1] == "" {
				group = "Flags"
			}
			continue
		}
		if m := flagLine.FindStringSubmatch(line); m != nil {
			all = append(all, option{group: group, short: m[1], name: m[2], kind: m[3], says: m[4]})
		} else if len(all) > 0 && strings.HasPrefix(line, "         ") {
			last := &all[len(all)-1]
			last.says = strings.TrimSpace(last.says + " " + strings.TrimSpace(line))
		}
	}
	for i := range all {
		if m := defaultText.FindStringSubmatch(all[i].says); m != nil {
			all[i].otherwise = strings.Trim(m[1], `"`)
			all[i].says = strings.TrimSuffix(all[i].says, m[0])
		}
	}
	return all
}

// own is the table of the flags of a command of ours, without those that every command has.
func (h help) own(ctx context.Context, command string, args ...string) (string, error) {
	all, err := h.ask(ctx, command, args...)
	if err != nil {
		return "", err
	}
	var rows [][]string
	for _, o := range all {
		if o.name == "help" || o.group == "Global flags" {
			continue
		}
		name := code("--" + o.name)
		if o.short != "" && o.short != "-"+o.name {
			name = code(o.short) + ", " + name
		}
		says := o.says
		if ours, known := ofLibraries[o.name]; known {
			says = ours
		} else if o.name == "kubeconfig" && o.says == ofKubectl {
			says = "path of a kubeconfig file; without it as kubectl does"
		}
		kind, plain := kinds[o.kind]
		if !plain {
			kind = o.kind
		}
		rows = append(rows, []string{name, kind, code(o.otherwise), says})
	}
	if len(rows) == 0 {
		return "It has no flags of its own.", nil
	}
	return table([]string{"Flag", "Value", "Default", "Meaning"}, rows), nil
}

// frameworkFlags are the flags of every cloud-controller-manager, as the framework has them.
func frameworkFlags() (*pflag.FlagSet, error) {
	o, err := options.NewCloudControllerManagerOptions()
	if err != nil {
		return nil, fmt.Errorf("ask the framework for its flags: %w", err)
	}
	command := app.NewCloudControllerManagerCommand(o, nil, app.DefaultInitFuncConstructors, names.CCMControllerAliases(), cliflag.NamedFlagSets{}, nil)
	return command.Flags(), nil
}

// changed is the table of the flags of the framework that have another default here.
func (h help) changed(ctx context.Context) (string, error) {
	ours, err := h.ask(ctx, controller)
	if err != nil {
		return "", err
	}
	theirs, err := frameworkFlags()
	if err != nil {
		return "", err
	}
	var rows [][]string
	for _, o := range ours {
		f := theirs.Lookup(o.name)
		if f == nil {
			rows = append(rows, []string{code("--" + o.name), code(o.otherwise), "no such flag"})
		} else if was := f.DefValue; o.otherwise != was && (o.otherwise != "" || was != "false" && was != "0" && was != "0s" && was != "[]") {
			rows = append(rows, []string{code("--" + o.name), code(o.otherwise), code(was)})
		}
	}
	if len(rows) == 0 {
		return "", errors.New("no flag of the controller has another default than in the framework")
	}
	return table([]string{"Flag", "Default of Mooring", "Default of the framework"}, rows), nil
}

// upstream are the names of all flags of the controller, by group.
func (h help) upstream(ctx context.Context) (string, error) {
	all, err := h.ask(ctx, controller)
	if err != nil {
		return "", err
	}
	var rows [][]string
	for _, o := range all {
		if len(rows) == 0 || rows[len(rows)-1][0] != o.group {
			rows = append(rows, []string{o.group, ""})
		}
		row := rows[len(rows)-1]
		row[1] = strings.TrimPrefix(row[1]+", "+code("--"+o.name), ", ")
	}
	return table([]string{"Group", "Flags"}, rows), nil
}
