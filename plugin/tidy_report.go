// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
)

// States of a tidy.
const (
	tidyIdle    = "idle" // none was ever run
	tidyRunning = "running"
	tidyDone    = "done"
	tidyFailed  = "failed" // with the reasons in errors
)

// tidyReport is what tidy-status tells: of the tidy that runs, or of the last one. It
// is stored, and holds no secret.
type tidyReport struct {
	State    string    `json:"state"`
	Account  string    `json:"account"`
	DryRun   bool      `json:"dry_run"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	Keys     int       `json:"keys"`

	Found   tidyLines `json:"found"`
	Removed tidyLines `json:"removed"`
	Stuck   tidyLines `json:"stuck"`
	Waiting tidyLines `json:"waiting"`
	Errors  tidyLines `json:"errors"`
}

// tidyLinesMax bounds each list: a report has to fit into one storage entry (1 MiB in
// raft storage).
const tidyLinesMax = 500

// tidyLines is a list of findings; what does not fit is counted.
type tidyLines struct {
	Lines []string `json:"lines,omitempty"`
	More  int      `json:"more,omitempty"`
}

func (l *tidyLines) add(line string) {
	if len(l.Lines) == tidyLinesMax {
		l.More++
		return
	}
	l.Lines = append(l.Lines, line)
}

func (l *tidyLines) show() []string {
	if l.More == 0 {
		return shown(l.Lines)
	}
	return append(slices.Clone(l.Lines), fmt.Sprintf("and %d more", l.More))
}

func (r *tidyReport) clone() *tidyReport {
	c := *r
	for _, lines := range []*tidyLines{&c.Found, &c.Removed, &c.Stuck, &c.Waiting, &c.Errors} {
		lines.Lines = slices.Clone(lines.Lines)
	}
	return &c
}

func (r *tidyReport) failed(err error) { r.Errors.add(err.Error()) }

// finish decides the state at the end; cut off is why it ended early, if it did.
func (r *tidyReport) finish(cutOff error) {
	switch {
	case errors.Is(cutOff, context.DeadlineExceeded):
		r.failed(fmt.Errorf("it did not end within %s: start it again, for one account at a time", tidyBudget))
	case cutOff != nil:
		r.failed(errors.New("it was ended with the engine (seal, step-down, reload or unmount): start it again"))
	}
	r.State, r.Finished = tidyDone, time.Now()
	if len(r.Errors.Lines) > 0 {
		r.State = tidyFailed
	}
}

// interrupted is the report of a tidy whose process died before it could write its end.
func (r *tidyReport) interrupted() *tidyReport {
	if r.State == tidyRunning {
		r.State = tidyFailed
		r.failed(errors.New("it was cut off by a restart, and what it had done is not known: start it again"))
	}
	return r
}

func tidyAnswer() map[string]*framework.FieldSchema {
	list := func(text string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeStringSlice, Required: true, Description: text}
	}
	return map[string]*framework.FieldSchema{
		"state":           {Type: framework.TypeString, Required: true, Description: "idle (never run), running, done, or failed."},
		"account":         {Type: framework.TypeString, Required: true, Description: "Account that it was started for; empty: all."},
		"dry_run":         {Type: framework.TypeBool, Required: true, Description: "Whether it only tells what it would remove."},
		"started":         {Type: framework.TypeString, Required: true, Description: "When it was started."},
		"finished":        {Type: framework.TypeString, Required: true, Description: "When it ended; empty: it runs, or was cut off."},
		"keys":            {Type: framework.TypeInt, Required: true, Description: "How many keys in the cloud it has looked at."},
		"orphans_found":   list("Keys with this mount's label that no ledger and no WAL entry knows."),
		"orphans_removed": list("Those of them that it has removed from the cloud."),
		"stuck":           list("Keys in the ledger that are past their date and cannot be removed, with the reason."),
		"waiting":         list("WAL entries: keys of unfinished requests that the rollback is to clean up."),
		"errors":          list("Why it failed, where it did."),
	}
}

func (r *tidyReport) answer() map[string]any {
	return map[string]any{
		"state":           r.State,
		"account":         r.Account,
		"dry_run":         r.DryRun,
		"started":         showTime(r.Started),
		"finished":        showTime(r.Finished),
		"keys":            r.Keys,
		"orphans_found":   r.Found.show(),
		"orphans_removed": r.Removed.show(),
		"stuck":           r.Stuck.show(),
		"waiting":         r.Waiting.show(),
		"errors":          r.Errors.show(),
	}
}
