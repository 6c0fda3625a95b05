// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Result is what a run found and did. Close it when the report is written.
type Result struct {
	Mode     string
	Started  time.Time
	Took     time.Duration
	Accounts []AccountResult

	spool *spool
}

// AccountResult is one account's part of a Result.
type AccountResult struct {
	Account  string
	Provider string
	Counts   Counts
	Tripped  string // which cap stopped the plan, and by how much; empty: none
	Partial  bool   // time ran out: Cursor says where the next run goes on
	Cursor   string
	Problem  string // why the account was given up; empty: it was not
}

// Run sweeps every account of the job, one after the other. It fails where an account
// could not be swept or a key not be removed; the result tells all that was done even
// then.
func Run(ctx context.Context, job Job) (Result, error) {
	return Result{spool: &spool{}}, errors.New("not built yet")
}

// Findings yields every key seen: what was planned first, then what is kept.
func (r Result) Findings() iter.Seq2[Finding, error] { return r.spool.all() }

// Total adds up the accounts' counts.
func (r Result) Total() Counts { return Counts{} }

// Close removes the spooled plan.
func (r Result) Close() error { return nil }

type spool struct{}

func (*spool) all() iter.Seq2[Finding, error] { return func(func(Finding, error) bool) {} }
