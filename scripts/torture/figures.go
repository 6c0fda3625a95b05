// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// figurePrefix may begin a line of figures, as tests write it: "torture: kills=3 leases=812".
const figurePrefix = "torture: "

// A row is a figure of the table.
type row struct {
	name   string // in the lines of figures
	title  string
	mustBe bool // zero
}

func rows() []row {
	return []row{
		{name: "schedules", title: "schedules run"},
		{name: "faults", title: "faults injected"},
		{name: "deeds", title: "deeds of others"},
		{name: "sequences", title: "sequences of them"},
		{name: "kills", title: "kills"},
		{name: "leases", title: "leases"},
		{name: "orphans", title: "orphans left", mustBe: true},
		{name: "configurations_lost", title: "configurations lost", mustBe: true},
		{name: "irrevocable", title: "irrevocable leases", mustBe: true},
		{name: "secrets_leaked", title: "secrets leaked", mustBe: true},
	}
}

// figures are sums, by the name of a row. What no test has reported is not there.
type figures map[string]int

// read adds the figures of all lines. An error names the line that cannot be read: a figure
// that is lost would be taken for zero.
func (f figures) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		for field := range strings.FieldsSeq(strings.TrimPrefix(lines.Text(), figurePrefix)) {
			if err := f.add(field); err != nil {
				return fmt.Errorf("the figures %q: %w", lines.Text(), err)
			}
		}
	}
	return lines.Err()
}

func (f figures) add(field string) error {
	name, value, _ := strings.Cut(field, "=")
	n, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("%q is no figure: want name=number", field)
	}
	for _, row := range rows() {
		if row.name == name {
			f[name] += n
			return nil
		}
	}
	return fmt.Errorf("the table has no row for %q", name)
}

// print writes the table, and tells whether all is as it must be; complete: no figure may be
// missing.
func (f figures) print(w io.Writer, complete bool) (good bool) {
	good = true
	for _, row := range rows() {
		n, reported := f[row.name]
		value := strconv.Itoa(n)
		if !reported {
			value = "not reported"
		}
		fmt.Fprintf(w, "%-22s %12s\n", row.title, value)
		good = good && (reported || !complete) && !(row.mustBe && n != 0)
	}
	return good
}
