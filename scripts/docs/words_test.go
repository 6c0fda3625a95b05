// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// treeOf is a repository with a list of words and some files, by path.
func treeOf(t *testing.T, list string, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(wordList, list)
	for name, text := range files {
		write(name, text)
	}
	return root
}

func TestWordsThatAreAvoidedAreFound(t *testing.T) {
	const list = "# a comment\navoid mend mended: fix\nname takeBack: revoke\nwhole shown: visible\n"
	for name, test := range map[string]struct {
		list  string
		files map[string]string
		want  string // part of the error; empty: there is none
	}{
		"in a comment":                   {list, map[string]string{"a/x.go": "package a\n\n// Mended by hand.\n"}, `a/x.go:3: "mended": say fix`},
		"in a string":                    {list, map[string]string{"x.go": "package a\n\nconst a = \"to mend\"\n"}, `x.go:3: "mend": say fix`},
		"on its line of a raw string":    {list, map[string]string{"x.go": "package a\n\nconst a = `\n\nto mend`\n"}, `x.go:5: "mend"`},
		"as a part of an identifier":     {list, map[string]string{"x.go": "package a\n\nvar canMendKey int\n"}, `x.go:3: "mend"`},
		"as a name inside a name":        {list, map[string]string{"x.go": "package a\n\nfunc mustTakeBackKey() {}\n"}, `x.go:3: "mustTakeBackKey": say revoke`},
		"as a name in a comment":         {list, map[string]string{"x.go": "package a\n\n// takeBack is gone.\n"}, `x.go:3: "takeBack"`},
		"as a whole name":                {list, map[string]string{"x.go": "package a\n\nvar shown int\n"}, `x.go:3: "shown": say visible`},
		"on a page":                      {list, map[string]string{"docs/x.md": "# A\n\nIt is mended.\n"}, `docs/x.md:3: "mended"`},
		"in a workflow":                  {list, map[string]string{".github/x.yml": "name: mend\n"}, `.github/x.yml:1: "mend"`},
		"in a file that a folder allows": {list + "allow a/ mend: later\n", map[string]string{"a/b/x.md": "mend"}, ""},
		"in a file that is allowed":      {list + "allow a/x.go takeBack: later\n", map[string]string{"a/x.go": "package a\n\nvar takeBack int\n"}, ""},
		"beside a file that is allowed":  {list + "allow a mend: later\n", map[string]string{"a/x.md": "mend"}, `a/x.md:1`},
		"allowed, and said by nobody":    {list + "allow a/ mend: later\n", map[string]string{"a/x.md": "fix"}, "words.txt:5: nothing in a/ says \"mend\" any more"},
		"a longer word is another":       {list, map[string]string{"x.md": "amendments, mending"}, ""},
		"a whole name in prose is not":   {list, map[string]string{"x.go": "package a\n\n// What is shown and shownToAll.\n"}, ""},
		"two words are no name":          {list, map[string]string{"x.md": "take back"}, ""},
		"what git ignores is not":        {list, map[string]string{".cache/x.md": "mend"}, ""},
		"a line without a reason":        {"avoid mend\n", nil, "words.txt:1: "},
		"a line of no kind":              {"forbid mend: fix\n", nil, `"forbid" is none of`},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkWords(treeOf(t, test.list, test.files))
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

func TestPartsOfAnIdentifier(t *testing.T) {
	for identifier, want := range map[string][]string{
		"rootKeyID": {"root", "key", "id"}, "WALKind": {"wal", "kind"}, "undated_keys": {"undated", "keys"}, "x": {"x"}, "SHA256Sum": {"sha", "sum"},
	} {
		if got := parts(identifier); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", identifier, got, want)
		}
	}
}
