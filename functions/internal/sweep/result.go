// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"errors"
	"iter"
	"time"
)

// Result is what a run found and did. Close it when the report is written.
type Result struct {
	Mode     string
	ModeWhy  string
	Started  time.Time
	Took     time.Duration
	Accounts []AccountResult
	// Unmatched are the patterns that protect nothing: with their settings, KEEP_USERS or KEEP_KEYS.
	Unmatched []string
	// OwnersTold tells whether owners are told before their keys are switched off.
	OwnersTold bool

	done *spool // what was planned, with its outcome
	kept *spool
}

// AccountResult is one account's part of a Result.
type AccountResult struct {
	Account  string `json:"account"`
	Provider string `json:"provider"`

	AccountID string `json:"account_id,omitempty"` // the cloud's
	Region    string `json:"region,omitempty"`
	Mount     string `json:"mount,omitempty"`    // of the secrets engine; empty: there is no Vault
	Instance  string `json:"instance,omitempty"` // of the secrets engine

	Counts  Counts `json:"counts"`
	Tripped string `json:"tripped,omitempty"` // which cap stopped the plan, and by how much; empty: none
	Partial bool   `json:"partial"`           // time ran out: the next run goes on at Cursor, or applies the same plan again
	Cursor  string `json:"cursor,omitempty"`  // the user after which the next run begins; empty: the first
	Problem string `json:"problem,omitempty"` // why the account was given up; empty: it was not

	// Unread are the users whose keys could not be read, and why: the first of them.
	Unread []string `json:"unread,omitempty"`
	// Unseen says which keys the run cannot see; empty: it sees all.
	Unseen string `json:"unseen,omitempty"`

	protecting map[string]bool // patterns that have matched, of all accounts
}

// Findings yields every key seen: what was planned first, then what is kept. It may be
// called again, until Close.
func (r Result) Findings() iter.Seq2[Finding, error] { return r.findings((*spool).read) }

// Of yields the keys of one account, in the same order.
func (r Result) Of(account string) iter.Seq2[Finding, error] {
	return r.findings(func(s *spool) iter.Seq2[Finding, error] { return s.of(account) })
}

func (r Result) findings(read func(*spool) iter.Seq2[Finding, error]) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		for _, s := range []*spool{r.done, r.kept} {
			if s == nil {
				continue
			}
			for f, err := range read(s) {
				if !yield(f, err) {
					return
				}
			}
		}
	}
}

// Total adds up the accounts' counts.
func (r Result) Total() Counts {
	total := newCounts()
	for _, account := range r.Accounts {
		total.add(account.Counts)
	}
	return total
}

// Close removes the spooled findings.
func (r Result) Close() error { return errors.Join(r.done.close(), r.kept.close()) }
