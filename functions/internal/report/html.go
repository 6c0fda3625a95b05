// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// How many rows a page shows; what is beyond is counted. A browser, and the function's
// memory, end before a million rows do.
const (
	planRows  = 1000
	otherRows = 300
	classRows = 50
)

// page is what is shown.
type page struct {
	About      About
	Mode       string
	ModeWhy    string
	Enforced   bool
	Started    string
	Took       string
	Total      sweep.Counts
	Accounts   []sweep.AccountResult
	Unmatched  []string
	OwnersTold bool
	Bars       []bar
	Plan       rows
	Watched    rows // said or in quarantine
	Kept       []class
}

// rows are the first of many.
type rows struct {
	Rows []keyJSON
	More int
}

func (r *rows) add(k keyJSON, most int) {
	if len(r.Rows) < most {
		r.Rows = append(r.Rows, k)
		return
	}
	r.More++
}

// Len is how many there are, shown or not.
func (r rows) Len() int { return len(r.Rows) + r.More }

type class struct {
	Name sweep.Class
	rows
}

// SweepHTML writes a sweep as one page that needs nothing else, not even a network. What
// the cloud sent is escaped by markup, and the page's own policy forbids scripts.
func SweepHTML(w io.Writer, about About, result sweep.Result) error {
	p := page{
		About: about, Mode: result.Mode, ModeWhy: result.ModeWhy, Enforced: result.Mode == settings.Enforce,
		Started: result.Started.UTC().Format("2 January 2006, 15:04:05 UTC"), Took: result.Took.Round(time.Millisecond).String(),
		Total: result.Total(), Accounts: result.Accounts, Unmatched: result.Unmatched, OwnersTold: result.OwnersTold,
	}
	kept := map[sweep.Class]*class{}
	var changed [8]int
	for f, err := range result.Findings() {
		if err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		k := showKey(f, result.Started)
		switch {
		case f.Action.Changes():
			p.Plan.add(k, planRows)
			changed[sweep.AgeGroup(f.Created, result.Started)]++
		case f.Action != sweep.ActionKeep:
			p.Watched.add(k, otherRows)
		default:
			if kept[f.Class] == nil {
				kept[f.Class] = &class{Name: f.Class}
			}
			kept[f.Class].add(k, classRows)
		}
	}
	for _, name := range sweep.Classes() {
		if c := kept[name]; c != nil {
			p.Kept = append(p.Kept, *c)
		}
	}
	p.Bars = bars(p.Total.ByAge, changed)
	if err := p.write(w); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// markup writes HTML. html/template would do it in less code, but looks methods up by name
// at run time, and a binary with such a look-up keeps every method of OUTSCALE's SDK: the
// function would be 27 MB instead of 15.
type markup struct {
	out *bufio.Writer // keeps its error until Flush
}

func newMarkup(w io.Writer) markup { return markup{bufio.NewWriterSize(w, 64<<10)} }

// print writes the format, which is our own, and the arguments, which are not: whatever is no
// number is escaped, for text and for quoted attributes alike.
func (m markup) print(format string, args ...any) {
	for i, arg := range args {
		switch arg.(type) {
		case int, float64:
		default:
			args[i] = html.EscapeString(fmt.Sprint(arg))
		}
	}
	fmt.Fprintf(m.out, format, args...)
}
