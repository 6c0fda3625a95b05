// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	troubleshooting = "../../docs/troubleshooting.md"
)

// sources are the packages whose errors the engine returns. What the providers say stands behind a sentence of theirs.
var sources = []string{"plugin", "plugin/internal/*", "shared/clouds", "shared/lifetime"}

func TestTroubleshootingIsComplete(t *testing.T) {
	said, documented := engineSentences(t), pageSentences(t)
	t.Run("each sentence of the engine has a row", func(t *testing.T) {
		for _, sentence := range slices.Sorted(maps.Keys(said)) {
			if !documented[sentence] {
				t.Errorf("%s has no row for this sentence of %s:\n| `%s` | |", filepath.Base(troubleshooting), said[sentence], sentence)
			}
		}
	})
	t.Run("no row is of a sentence that the engine does not say", func(t *testing.T) {
		for _, sentence := range slices.Sorted(maps.Keys(documented)) {
			if _, is := said[sentence]; !is {
				t.Errorf("nothing in %v says: %s", sources, sentence)
			}
		}
	})
}

func TestSentencesOfTheSource(t *testing.T) {
	for name, test := range map[string]struct {
		call string
		want string
	}{
		"a verb becomes a gap":                        {`userError("ttl (%s) is longer than %d", a, b)`, "ttl (…) is longer than …"},
		"a quoted verb keeps its quotes":              {`fmt.Errorf("account %q: %w", a, b)`, `account "…": …`},
		"parts are joined":                            {`userError("one " + "two")`, "one two"},
		"a part that is no literal becomes a gap":     {`errors.New("one " + two)`, "one …"},
		"gaps side by side are one":                   {`userError("one %s%s", a, b)`, "one …"},
		"a call that says nothing of its own is none": {`userError("%s", err)`, ""},
		"another function is none":                    {`fmt.Sprintf("one %s", a)`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			expression, err := parser.ParseExpr(test.call)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := sentenceOf(expression); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// engineSentences maps each sentence to the file that says it.
func engineSentences(t *testing.T) map[string]string {
	t.Helper()
	var files []string
	for _, source := range sources {
		found, err := filepath.Glob(filepath.Join(root, source, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatalf("no source in %v", sources)
	}
	sentences := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if sentence, ok := sentenceOf(n); ok {
				sentences[sentence] = filepath.Base(file)
			}
			return true
		})
	}
	return sentences
}

// errorMakers are the functions whose first argument is an error's text.
var errorMakers = []string{"userError", "userError", "logical.ErrorResponse", "fmt.Errorf", "errors.New"}

// sentenceOf is the text of a call that makes an error, with a gap for each value in it.
func sentenceOf(n ast.Node) (sentence string, ok bool) {
	call, is := n.(*ast.CallExpr)
	if !is || len(call.Args) == 0 || !slices.Contains(errorMakers, nameOf(call.Fun)) {
		return "", false
	}
	sentence = gaps.ReplaceAllString(textOf(call.Args[0]), "…")
	if sentence == "…" {
		return "", false // it passes on what another says
	}
	return sentence, true
}

// gaps are verbs of package fmt without their quotes, and gaps side by side.
var gaps = regexp.MustCompile(`(%[+.0-9]*[a-z]|…)+`)

func nameOf(f ast.Expr) string {
	switch f := f.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return nameOf(f.X) + "." + f.Sel.Name
	default:
		return ""
	}
}

// textOf is a string expression's value, with a gap for each part that is no literal.
func textOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return textOf(e.X) + textOf(e.Y)
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return strings.ReplaceAll(text, "%q", `"…"`)
		}
	}
	return "…"
}

// row is a line of a table that begins with a sentence.
var row = regexp.MustCompile("^\\| `([^`]+)` \\|")

func pageSentences(t *testing.T) map[string]bool {
	t.Helper()
	file, err := os.Open(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sentences := map[string]bool{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if cells := row.FindStringSubmatch(lines.Text()); cells != nil {
			sentences[strings.ReplaceAll(cells[1], `\|`, "|")] = true
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return sentences
}
