// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestEveryGroupThatHasKeysHasABar(t *testing.T) {
	var out bytes.Buffer
	m := newMarkup(&out)
	m.bars("ages", []bar{{name: "a", n: 1_000_000, marked: 1}, {name: "b", n: 1, marked: 1}, {name: "c"}, {name: "d", n: 10}})
	if err := m.out.Flush(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		`width="6.0" height="10"/><rect class="kept" x="6.0" width="988.0"`, `width="6.0" height="10"/><rect class="kept" x="6.0" width="0.0"`,
		`width="0.0" height="10"/><rect class="kept" x="0.0" width="0.0"`, `width="0.0" height="10"/><rect class="kept" x="0.0" width="6.0"`,
	} {
		if line := strings.Split(out.String(), "<li>")[i+1]; !strings.Contains(line, want) {
			t.Errorf("bar %d is %s, want %s in it", i, line, want)
		}
	}
}

func TestNumbersAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 100_000: "100,000", 1_234_567: "1,234,567", -1000: "-1,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	const oneDay = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		0: "unlimited", 90 * time.Second: "1 min", time.Hour: "1 h", 90 * time.Minute: "1 h 30 min", oneDay: "1 day",
		64*oneDay + time.Minute: "64 days 1 min",
	} {
		if got := limit(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

func TestNoCellBecomesAFormulaWhateverPartsCells(t *testing.T) {
	for cell, want := range map[string]string{
		"deploy": "deploy", "a=b": "a=b", "x-y; z": "x-y; z", "2026-11-29T02:00:07Z": "2026-11-29T02:00:07Z",
		"=1+1": "'=1+1", "-2": "'-2", "@SUM(A1)": "'@SUM(A1)", " =1": " '=1", "＝1": "'＝1", "\t=1": "'\t'=1", "\n=1": "'\n'=1",
		"a;=HYPERLINK(1)": "a;'=HYPERLINK(1)", `a; "+1"`: `a; "'+1"`, "a\t-1": "a\t'-1", "a|=1": "a|'=1", "+-1": "'+-1",
	} {
		if got := inert(cell); got != want {
			t.Errorf("%q becomes %q, want %q", cell, got, want)
		}
	}
}
