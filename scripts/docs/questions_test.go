// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var quoted = regexp.MustCompile("`([^`]+)`")

// TestTheAnswersOfTheArchitecturePage: each question that the page answers names a file that is there, and a function in it.
func TestTheAnswersOfTheArchitecturePage(t *testing.T) {
	const root, least = "../..", 12
	page, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "## Where to look")
	if !found {
		t.Fatal("the page has no such part")
	}
	questions := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "?") {
			continue
		}
		questions++
		files, functions := quoted.FindAllStringSubmatch(cells[2], -1), quoted.FindAllStringSubmatch(cells[3], -1)
		if len(files) == 0 || len(functions) == 0 {
			t.Errorf("%s: no file or no function", cells[1])
		}
		defined := map[string]bool{}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file[1]), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Errorf("%s: %v", cells[1], err)
				continue
			}
			for _, declared := range parsed.Decls {
				if f, ok := declared.(*ast.FuncDecl); ok {
					defined[f.Name.Name] = true
				}
			}
		}
		for _, function := range functions {
			if !defined[function[1]] {
				t.Errorf("%s: no function %s in %s", cells[1], function[1], cells[2])
			}
		}
	}
	if questions < least {
		t.Errorf("%d questions, want %d", questions, least)
	}
}
