// Command kubectl-mooring is `kubectl mooring`: it shows how Mooring stands in a cluster, explains a Service, judges a
// cloud-config, empties nodes and converts what other operators have. It is wiring and printing; what it says is found out
// in cloud/explain and cloud/convert.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"
)

// version and commit are stamped by hack/build.sh.
var (
	version = "unknown"
	commit  = "unknown"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	if err := newCommand(streams, clock.RealClock{}, connect).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// columns of a terminal that everything fits into, unless -o wide or a name is longer.
const columns = 80

// options are what all commands share.
type options struct {
	genericiooptions.IOStreams
	clock   clock.Clock
	flags   *genericclioptions.ConfigFlags
	connect func(*genericclioptions.ConfigFlags) (*cluster, error)
}

func newCommand(streams genericiooptions.IOStreams, clock clock.Clock, connect func(*genericclioptions.ConfigFlags) (*cluster, error)) *cobra.Command {
	o := &options{IOStreams: streams, clock: clock, flags: genericclioptions.NewConfigFlags(true), connect: connect}
	cmd := &cobra.Command{
		Use:   "kubectl-mooring",
		Short: "Looks at Mooring in a cluster, and looks after it",
		Long: `kubectl mooring shows where the addresses of a cluster are, explains why a
Service has its address or has none, judges a cloud-config, empties nodes, and
converts what PaperLB and PlenusLB have.

It speaks to the API server alone: not to the controller, not to an agent, and
to nothing outside of the cluster. Beside the flags below it takes those of
kubectl that say how to reach a cluster, such as --server and --as.`,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl mooring"},
		Version:       stamp(),
		SilenceUsage:  true,
		SilenceErrors: true,

		DisableFlagsInUseLine:      true,
		SuggestionsMinimumDistance: 2,

		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: %s --help lists the flags", err, cmd.CommandPath())
	})
	cmd.SetVersionTemplate("{{.DisplayName}} {{.Version}}\n")
	cmd.SetUsageTemplate(strings.NewReplacer(".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", columns),
		`Use "{{.CommandPath}}`, `"{{.CommandPath}}`, " for more information about a command.", " says more.").
		Replace(cmd.UsageTemplate()))
	cmd.SetIn(o.In)
	cmd.SetOut(o.Out)
	cmd.SetErr(o.ErrOut)
	o.flags.AddFlags(cmd.PersistentFlags())
	// As kubectl does, so that a command's own flags can be found.
	for _, name := range []string{"as", "as-group", "as-uid", "as-user-extra", "cache-dir", "certificate-authority", "client-certificate",
		"client-key", "cluster", "disable-compression", "insecure-skip-tls-verify", "request-timeout", "server", "tls-server-name",
		"token", "user"} {
		if f := cmd.PersistentFlags().Lookup(name); f != nil {
			f.Hidden = true
		}
	}
	cmd.AddCommand(o.statusCommand(), o.explainCommand(), o.validateCommand(), o.evacuateCommand(), o.convertCommand(), &cobra.Command{
		Use:   "version",
		Short: "Print the version of this command",
		Args:  noArgument,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(o.Out, "kubectl mooring", stamp())
			return err
		},
	})
	cmd.CompletionOptions.HiddenDefaultCmd = true
	return cmd
}

// knownCommand refuses what stands where a command should, and says what there is instead.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	meant := ""
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		meant = "did you mean " + strings.Join(like, " or ") + "? "
	}
	return fmt.Errorf("unknown command %q for %q: %s%s --help lists the commands", args[0], cmd.CommandPath(), meant, cmd.CommandPath())
}

// noArgument refuses what stands behind a command that takes flags alone, such as a file without -f.
func noArgument(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes flags alone, and %q is none: %s --help lists them", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// oneName refuses all but one argument.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one name is needed, and %d are given: %s", len(args), strings.TrimSuffix(cmd.UseLine(), " [flags]"))
	}
	return nil
}

func stamp() string { return fmt.Sprintf("%s (commit %s)", version, commit) }
