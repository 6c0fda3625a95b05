// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package functions_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// taken are the keys that slog, and Lambda's handler of it, write into each line by themselves. Of two equal keys most readers of
// JSON keep the last: the text of the line would be lost.
var taken = []string{"time", "timestamp", "level", "msg", "message", "source", "requestId"}

func TestNoLogLineHasAKeyTwice(t *testing.T) {
	lines := 0
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, keys := range keysOf(file) {
			lines++
			for _, key := range keys {
				if slices.Contains(taken, key) {
					t.Errorf("%s logs %q, which each line has already", path, key)
				}
			}
			if slices.Sort(keys); len(slices.Compact(slices.Clone(keys))) < len(keys) {
				t.Errorf("%s logs a key twice: %q", path, keys)
			}
		}
		return nil
	})
	if err != nil || lines < 10 {
		t.Errorf("%d lines were found, and error %v", lines, err)
	}
}

// keysOf are the keys of each line that a file logs, and of each list of attributes in it.
func keysOf(file *ast.File) (all [][]string) {
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.CompositeLit: // []slog.Attr{slog.Int("a", 1), ...}
			all = append(all, attributes(n.Elts))
		case *ast.CallExpr:
			method, is := n.Fun.(*ast.SelectorExpr)
			if !is {
				return true
			}
			name, first := method.Sel.Name, 1
			if strings.HasSuffix(name, "Context") {
				name, first = strings.TrimSuffix(name, "Context"), 2
			}
			if slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, name) && len(n.Args) > first {
				keys := attributes(n.Args)
				for i := first; i < len(n.Args); i += 2 {
					if key, is := literal(n.Args[i]); is {
						keys = append(keys, key)
					}
				}
				all = append(all, keys)
			} else if name == "LogAttrs" {
				all = append(all, attributes(n.Args))
			}
		}
		return true
	})
	return slices.DeleteFunc(all, func(keys []string) bool { return len(keys) == 0 })
}

// attributes are the keys of slog.String("key", ...) and its like.
func attributes(exprs []ast.Expr) (keys []string) {
	for _, expr := range exprs {
		call, is := expr.(*ast.CallExpr)
		if !is || len(call.Args) != 2 {
			continue
		}
		if method, is := call.Fun.(*ast.SelectorExpr); is {
			if pkg, is := method.X.(*ast.Ident); is && pkg.Name == "slog" {
				if key, is := literal(call.Args[0]); is {
					keys = append(keys, key)
				}
			}
		}
	}
	return keys
}

func literal(expr ast.Expr) (string, bool) {
	lit, is := expr.(*ast.BasicLit)
	if !is || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}
