// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// written is the page and the table that a result makes, by their names.
func written(t *testing.T, r result) map[string]string {
	t.Helper()
	dir, files := t.TempDir(), map[string]string{}
	if err := r.write(filepath.Join(dir, "performance.md")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"performance.md", "performance.csv"} {
		files[name] = read(t, filepath.Join(dir, name))
	}
	return files
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestThePageIsOfTheRunBesideIt(t *testing.T) {
	const docs = "../../docs/"
	r, err := readResult(docs + "performance.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range written(t, r) {
		if read(t, docs+name) != text {
			t.Errorf("docs/%s is not what docs/performance.json makes: make bench-page writes it anew", name)
		}
	}
}

func TestThePageHidesNoMissedBar(t *testing.T) {
	on := head{What: "a lease", Unit: "ms", Ours: 3, AWS: 6, But: "one run", Yardstick: 2, YardstickIs: "a call", Over: overYardstick}
	files := written(t, result{Runs: 3, Rows: []row{
		atMost("issue", 1.2, " x", 1.5).because("Of %d ms.", 3).onPage(on),
		atMost("sweep", 2, " x", 4).because("It lists."),
		atMost("size", 2, " MB", 1),
	}})
	for name, wants := range map[string][]string{
		"performance.md": {
			"| a lease (one run) | 3.00 ms | 6.00 ms | 2.00 ms (a call) | 1.50 x the yardstick | at most 1.20 x | MISSED |",
			"* a lease: 1.50 x, where at most 1.20 x is the bar. Of 3 ms.\n",
			"\n1 more of [performance.csv](performance.csv):\n\n* sweep: 4 x, at most 2 x\n",
		},
		"performance.csv": {"sweep,4 x,at most 2 x,MISSED,It lists.\n", "size,1 MB,at most 2 MB,met,\n"},
	} {
		for _, want := range wants {
			if !strings.Contains(files[name], want) {
				t.Errorf("%s lacks %q:\n%s", name, want, files[name])
			}
		}
	}
}

func TestAGroupThatDoesNotExistIsRefused(t *testing.T) {
	b := bench{only: []string{"size", "page"}}
	err := b.known([]group{{name: "size"}, {name: "pace"}, {name: "pace"}})
	if err == nil || !strings.Contains(err.Error(), `"page": there are pace, size`) {
		t.Error(err)
	}
}
