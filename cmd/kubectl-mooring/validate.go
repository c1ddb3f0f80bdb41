package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mooring-lb/mooring/cloud/config"
)

func (o *options) validateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "validate -f cloud-config.yaml",
		Short: "Judge a cloud-config as the controller does, without a cluster",
		Long: `Judges a cloud-config with the controller's own code, and lists every mistake
with its path and the way out. Nothing is contacted, and the secrets that the
file names need not exist. The exit code is 1 when there is a mistake. What the
controller asks for beside the file is not judged; a note names it.`,
		Example: `  kubectl mooring validate -f cloud-config.yaml
  kubectl -n mooring-system get configmap mooring-cloud-config \
    -o 'jsonpath={.data.cloud-config\.yaml}' | kubectl mooring validate -f -`,
		Args: noArgument,
		RunE: func(*cobra.Command, []string) error {
			if file == "" {
				return errors.New("name the file: kubectl mooring validate -f cloud-config.yaml, or -f - for standard input")
			}
			c, err := o.readConfig(file)
			if err != nil {
				return err
			}
			names := make([]string, len(c.Pools))
			for i := range c.Pools {
				names[i] = c.Pools[i].Name
			}
			if _, err = fmt.Fprintf(o.Out, "%s is valid; pools: %s\n", nameOf(file), strings.Join(names, ", ")); err != nil || !config.Buys(c) {
				return err
			}
			_, err = fmt.Fprintln(o.ErrOut, "note: a pool buys Floating IPs, which carry the cluster's name: the controller takes this file only\n"+
				"      when its flag --cluster-name (clusterName of the Helm chart) is set to a name of your own")
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "filename", "f", "", "the cloud-config; - reads standard input")
	return cmd
}

// readConfig reads and judges a file as the controller does before it works with it; - is standard input.
func (o *options) readConfig(file string) (*config.Config, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(o.In)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cloud-config: %w", err)
	}
	return judge(nameOf(file), data)
}

func nameOf(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

func judge(name string, data []byte) (*config.Config, error) {
	c, err := config.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("the cloud-config in %s is not valid:\n%w", name, err)
	}
	return c, nil
}
