package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/mooring-lb/mooring/cloud/convert"
)

func (o *options) convertCommand() *cobra.Command {
	var from objectSource
	var out output
	var directory string
	cmd := &cobra.Command{
		Use:   "convert",
		Short: "Come over from PaperLB or PlenusLB",
		Long: `Reads the objects of PaperLB or PlenusLB, and the Services and Nodes that they
serve, and prints what Mooring needs so that every address, port and node stays:

  cloud-config.yaml    pools
  node-addresses.yaml  which address is on which node
  annotate.sh          what each Service has, as annotations that are added
  notes.txt            what to do first, where tokens are, what is different

It reads the cluster, or files with -f, and writes nothing to the cluster.
Tokens are not printed. The order of the steps, and the way back, are in
docs/guides/from-paperlb.md and docs/guides/from-plenuslb.md.`,
		Example: `  kubectl mooring convert
  kubectl mooring convert --output-directory mooring
  kubectl get persistentippools,ephemeralippools,ipallocations,services,nodes \
    --all-namespaces -o yaml | kubectl mooring convert -f -
  kubectl mooring convert -f backup/ -o json`,
		Args: noArgument,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case out != "" && out != "json" && out != "yaml":
				return fmt.Errorf("-o %s is no format of convert: write json or yaml", out)
			case out != "" && directory != "":
				return errors.New("-o and --output-directory exclude each other: files have formats of their own")
			}
			return o.convert(cmd.Context(), from, directory, out)
		},
	}
	cmd.Flags().StringSliceVarP(&from.files, "filename", "f", nil, "`file` or directory with objects, instead of the cluster; - reads standard input; may be repeated")
	cmd.Flags().BoolVarP(&from.recursive, "recursive", "R", false, "read directories within directories of -f, too")
	cmd.Flags().StringVar(&directory, "output-directory", "", "write files into this directory, which has none of them yet")
	cmd.Flags().StringVarP((*string)(&out), "output", "o", "", "json or yaml: all in one object")
	return cmd
}

func (o *options) convert(ctx context.Context, from objectSource, directory string, out output) error {
	in, err := o.readObjects(ctx, from)
	if err != nil {
		return err
	}
	plan, err := convert.Convert(in)
	if err != nil {
		return err
	}
	if out != "" {
		shown, err := conversionOf(plan)
		if err != nil {
			return err
		}
		_, err = out.object(o.Out, "Conversion", shown)
		return err
	}
	files, err := filesOf(plan)
	if err != nil {
		return err
	}
	if directory == "" {
		for i, f := range files {
			if i > 0 {
				f.name = "\n==> " + f.name
			} else {
				f.name = "==> " + f.name
			}
			if _, err := fmt.Fprintf(o.Out, "%s <==\n%s", f.name, f.text); err != nil {
				return err
			}
		}
		return nil
	}
	return o.write(directory, files)
}

// write puts the files into a directory. What is there already is not written over: somebody may have edited it.
func (o *options) write(directory string, files []outputFile) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return fmt.Errorf("make the output directory: %w", err)
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(directory, f.name)); err == nil {
			return fmt.Errorf("%s exists already, and is not written over: remove it, or name another --output-directory", filepath.Join(directory, f.name))
		}
	}
	for _, f := range files {
		path := filepath.Join(directory, f.name)
		if err := os.WriteFile(path, []byte(f.text), f.mode); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if _, err := fmt.Fprintln(o.Out, path); err != nil {
			return err
		}
	}
	if files[len(files)-1].name != notesFile {
		return nil
	}
	_, err := fmt.Fprintf(o.ErrOut, "read %s first\n", filepath.Join(directory, notesFile))
	return err
}

// objectSource is where objects are read: files, or the cluster when there are none.
type objectSource struct {
	files     []string
	recursive bool
}

func (o *options) readObjects(ctx context.Context, from objectSource) (*convert.Input, error) {
	if len(from.files) == 0 {
		c, err := o.connect(o.flags)
		if err != nil {
			return nil, err
		}
		if c.given {
			return nil, errors.New("-n is no flag of convert: a port or an address is one of the whole cluster's, so all namespaces are read")
		}
		return c.readOperators(ctx)
	}
	builder := resource.NewLocalBuilder().Unstructured().ContinueOnError().Flatten()
	for _, file := range from.files {
		if file == "-" {
			builder.Stream(o.In, nameOf(file))
		} else {
			builder.Path(from.recursive, file)
		}
	}
	infos, err := builder.Do().Infos()
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", withoutContent(err))
	}
	var in convert.Input
	for _, info := range infos {
		object, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			continue
		}
		if err := in.Add(object); err != nil {
			return nil, fmt.Errorf("%s: %w", info.Source, err)
		}
	}
	return &in, nil
}

// withoutContent takes out of an error about an object without a kind what the object has, such as a token.
func withoutContent(err error) error {
	if before, _, found := strings.Cut(err.Error(), " is missing in '"); found {
		return errors.New(before + " is missing: give objects as kubectl get -o yaml prints them")
	}
	return err
}

// readOperators lists the objects of the operators that the cluster knows, and what they serve.
func (c *cluster) readOperators(ctx context.Context) (*convert.Input, error) {
	var in convert.Input
	for _, r := range slices.Concat(convert.Operators(), convert.Others()) {
		list, err := c.objects.Resource(r).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue // that one is not installed
		}
		if err != nil {
			return nil, doing("list "+r.GroupResource().String(), err)
		}
		for i := range list.Items {
			if err := in.Add(&list.Items[i]); err != nil {
				return nil, err
			}
		}
	}
	return &in, nil
}
