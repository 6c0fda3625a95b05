// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"strings"
	"testing"
)

const allGood = `schedules=10 faults=12
deeds=5 sequences=2
torture: kills=1
torture: kills=2
torture: leases=7 orphans=0
torture: configurations_lost=0 irrevocable=0 secrets_leaked=0
`

func TestFigures(t *testing.T) {
	tests := map[string]struct {
		lines string
		good  bool
		shows string
	}{
		"lines are summed, with their prefix and without": {allGood, true, "kills                             3\nleases                            7\n"},
		"an orphan is not good":                           {allGood + "torture: orphans=1\n", false, "orphans left                      1\n"},
		"a leak is not good":                              {allGood + "torture: secrets_leaked=2\n", false, "secrets leaked                    2\n"},
		"what nobody has reported is not zero": {
			strings.ReplaceAll(allGood, "irrevocable=0", ""), false, "irrevocable leases     not reported\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f, out := figures{}, new(strings.Builder)
			if err := f.read(strings.NewReader(test.lines)); err != nil {
				t.Fatal(err)
			}
			if good := f.print(out, true); good != test.good || !strings.Contains(out.String(), test.shows) {
				t.Errorf("good: %v\n%s", good, out)
			}
		})
	}
}

func TestFiguresThatCannotBeReadAreAnError(t *testing.T) {
	for _, line := range []string{"torture: kills", "torture: kills=many", "torture: cats=3"} {
		if err := (figures{}).read(strings.NewReader(line)); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}

func TestOfAFailureTheFailedIsShown(t *testing.T) {
	const output = "=== RUN   TestA\n    --- PASS: TestA/one (0.01s)\n    --- FAIL: TestA/two (0.01s)\n        a_test.go:1: lost\n=== CONT  TestA\nFAIL\n"
	const want = "    --- FAIL: TestA/two (0.01s)\n        a_test.go:1: lost\nFAIL\n"
	if got := string(withoutPasses([]byte(output))); got != want {
		t.Errorf("got %q", got)
	}
}
