package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// source is the product's own packages, parsed and with types, without tests.
type source struct {
	fset     *token.FileSet
	packages []*pkg
}

type pkg struct {
	path  string
	files []*ast.File
	info  *types.Info
}

// load reads packages of this module. What they import is known from the compiler's export data, which go list makes
// when it is not in the build cache.
func load(ctx context.Context, patterns ...string) (*source, error) {
	command := exec.CommandContext(ctx, "go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,Export,DepOnly"}, patterns...)...)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages: %w\n%s", err, complaints.String())
	}
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles                 []string
		DepOnly                 bool
	}
	exports := make(map[string]string)
	var ours []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := decoder.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the list of packages: %w", err)
		}
		exports[l.ImportPath] = l.Export
		if !l.DepOnly {
			ours = append(ours, l)
		}
	}
	s := &source{fset: token.NewFileSet()}
	imports := importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, l := range ours {
		p := &pkg{path: l.ImportPath, info: &types.Info{
			Types: make(map[ast.Expr]types.TypeAndValue), Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object),
		}}
		for _, name := range l.GoFiles {
			file, err := parser.ParseFile(s.fset, filepath.Join(l.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, fmt.Errorf("parse: %w", err)
			}
			p.files = append(p.files, file)
		}
		if _, err := (&types.Config{Importer: imports}).Check(l.ImportPath, s.fset, p.files, p.info); err != nil {
			return nil, fmt.Errorf("check types: %w", err)
		}
		s.packages = append(s.packages, p)
	}
	return s, nil
}

// where is a position as a compiler prints it, below this directory.
func (s *source) where(pos token.Pos) string {
	at := s.fset.Position(pos)
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, at.Filename); err == nil {
			at.Filename = rel
		}
	}
	return fmt.Sprintf("%s:%d", at.Filename, at.Line)
}

// text is a constant of strings.
type text struct {
	name, value string
	pos         token.Pos
	// id is what tells the constant from all others: package and name.
	id string
	// typ is the constant's type, with the package's path.
	typ string
	comment
}

// texts are the constants of strings that packages declare, in the order of the source.
func (s *source) texts() []text {
	var all []text
	for _, p := range s.packages {
		for _, file := range p.files {
			for _, decl := range file.Decls {
				d, ok := decl.(*ast.GenDecl)
				if !ok || d.Tok != token.CONST {
					continue
				}
				for _, spec := range d.Specs {
					all = append(all, p.textsOf(d, spec.(*ast.ValueSpec))...)
				}
			}
		}
	}
	return all
}

func (p *pkg) textsOf(d *ast.GenDecl, spec *ast.ValueSpec) []text {
	doc := spec.Doc
	if doc == nil && !d.Lparen.IsValid() {
		doc = d.Doc
	}
	var all []text
	for _, name := range spec.Names {
		c, ok := p.info.Defs[name].(*types.Const)
		if !ok || c.Val().Kind() != constant.String {
			continue
		}
		all = append(all, text{
			name: name.Name, value: constant.StringVal(c.Val()), pos: name.Pos(), id: idOf(c), typ: c.Type().String(), comment: read(doc),
		})
	}
	return all
}

func idOf(o types.Object) string {
	if o.Pkg() == nil {
		return o.Name()
	}
	return o.Pkg().Path() + "." + o.Name()
}

// structs are the struct types of a package, by name.
func (s *source) structs(path string) map[string]*ast.StructType {
	all := make(map[string]*ast.StructType)
	for _, p := range s.packages {
		if !strings.HasSuffix(p.path, path) {
			continue
		}
		for _, file := range p.files {
			ast.Inspect(file, func(n ast.Node) bool {
				if t, ok := n.(*ast.TypeSpec); ok {
					if st, ok := t.Type.(*ast.StructType); ok {
						all[t.Name.Name] = st
					}
				}
				return true
			})
		}
	}
	return all
}
