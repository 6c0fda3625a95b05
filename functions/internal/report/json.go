// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
)

// head is what both functions' reports begin with.
type head struct {
	Schema  int       `json:"schema_version"`
	About             // its fields
	Mode    string    `json:"mode"`
	ModeWhy string    `json:"mode_why,omitempty"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
}

type accountJSON struct {
	Account  string     `json:"account"`
	Provider string     `json:"provider"`
	Counts   countsJSON `json:"counts"`
	Tripped  string     `json:"tripped,omitempty"`
	Partial  bool       `json:"partial"`
	Cursor   string     `json:"cursor,omitempty"`
	Problem  string     `json:"problem,omitempty"`
}

type countsJSON struct {
	Seen        int                 `json:"seen"`
	Protected   int                 `json:"protected"`
	Flagged     int                 `json:"flagged"`
	Waiting     int                 `json:"waiting"`
	Planned     int                 `json:"planned"`
	Deactivated int                 `json:"deactivated"`
	Deleted     int                 `json:"deleted"`
	Gone        int                 `json:"gone"`
	Drifted     int                 `json:"drifted"`
	Undeletable int                 `json:"undeletable"`
	Failed      int                 `json:"failed"`
	NotReached  int                 `json:"not_reached"`
	ByClass     map[sweep.Class]int `json:"by_class"`
	ByAge       map[string]int      `json:"by_age"`
}

func showCounts(c sweep.Counts) countsJSON {
	ages := map[string]int{}
	for i, name := range sweep.Ages() {
		ages[name] = c.ByAge[i]
	}
	return countsJSON{
		c.Seen, c.Protected, c.Flagged, c.Waiting, c.Planned, c.Deactivated, c.Deleted, c.Gone, c.Drifted,
		c.Undeletable, c.Failed, c.NotReached, c.ByClass, ages,
	}
}

// keyJSON is one key of a report.
type keyJSON struct {
	Account   string        `json:"account"`
	AccessKey string        `json:"access_key"` // masked
	User      string        `json:"user"`
	Active    bool          `json:"active"`
	Created   time.Time     `json:"created,omitzero"`
	AgeDays   int           `json:"age_days"`
	End       time.Time     `json:"end,omitzero"`
	Class     sweep.Class   `json:"class"`
	Reason    string        `json:"reason"`
	Action    sweep.Action  `json:"action"`
	Outcome   sweep.Outcome `json:"outcome,omitempty"`
	Detail    string        `json:"detail,omitempty"`
}

func showKey(f sweep.Finding, now time.Time) keyJSON {
	k := keyJSON{
		Account: f.Account, AccessKey: sweep.Mask(f.AccessKey), User: f.User, Active: f.Active, Created: f.Created, End: f.Key().End(),
		Class: f.Class, Reason: f.Reason, Action: f.Action, Outcome: f.Outcome, Detail: f.Detail,
	}
	if !f.Created.IsZero() {
		k.AgeDays = int(now.Sub(f.Created) / (24 * time.Hour))
	}
	return k
}

// SweepJSON streams a sweep as one JSON object: about the run, its accounts, and every key
// on a line of its own.
func SweepJSON(w io.Writer, about About, result sweep.Result) error {
	out := bufio.NewWriterSize(w, 64<<10)
	accounts := []accountJSON{}
	for _, a := range result.Accounts {
		accounts = append(accounts, accountJSON{a.Account, a.Provider, showCounts(a.Counts), a.Tripped, a.Partial, a.Cursor, a.Problem})
	}
	opening, err := json.Marshal(struct {
		head
		Accounts []accountJSON `json:"accounts"`
	}{headOf(about, result.Mode, result.ModeWhy, result.Started, result.Took), accounts})
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	out.Write(opening[:len(opening)-1]) // a bufio.Writer keeps its error until Flush
	out.WriteString(",\"keys\":[")
	separator := "\n"
	var key keyJSON // and its line are used again: there may be a million
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	for f, err := range result.Findings() {
		if err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		key = showKey(f, result.Started)
		line.Reset()
		if err := encoder.Encode(&key); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		out.WriteString(separator)
		out.Write(bytes.TrimSpace(line.Bytes()))
		separator = ",\n"
	}
	out.WriteString("\n]}\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func headOf(about About, mode, why string, started time.Time, took time.Duration) head {
	return head{SchemaVersion, about, mode, why, started.UTC().Truncate(time.Second), took.Seconds()}
}

type policyJSON struct {
	Account   string            `json:"account"`
	Provider  string            `json:"provider"`
	Before    int64             `json:"before_seconds"`
	Wanted    int64             `json:"wanted_seconds"`
	After     int64             `json:"after_seconds"`
	Action    policysync.Action `json:"action"`
	Reason    string            `json:"reason"`
	Blockers  []blockerJSON     `json:"blockers"`
	Count     int               `json:"blocker_count"`
	Shortened int               `json:"shortened"`
	Problem   string            `json:"problem,omitempty"`
}

type blockerJSON struct {
	AccessKey string    `json:"access_key"` // masked
	User      string    `json:"user"`
	Ours      bool      `json:"ours"`
	Active    bool      `json:"active"`
	Expires   time.Time `json:"expires,omitzero"`
	Reason    string    `json:"reason"`
	Advice    string    `json:"advice"`
}

// PolicyJSON writes a policy sync as one JSON object.
func PolicyJSON(w io.Writer, about About, result policysync.Result) error {
	accounts := []policyJSON{}
	for _, a := range result.Accounts {
		shown := policyJSON{
			Account: a.Account, Provider: a.Provider, Before: seconds(a.Before), Wanted: seconds(a.Wanted), After: seconds(a.After),
			Action: a.Action, Reason: a.Reason, Blockers: []blockerJSON{}, Count: a.BlockerCount, Shortened: a.Shortened, Problem: a.Problem,
		}
		for _, b := range a.Blockers {
			shown.Blockers = append(shown.Blockers, blockerJSON{sweep.Mask(b.AccessKey), b.User, b.Ours, b.Active, b.Expires, b.Reason, b.Advice})
		}
		accounts = append(accounts, shown)
	}
	err := json.NewEncoder(w).Encode(struct {
		head
		Tuned    int64        `json:"tuned_seconds,omitempty"`
		Accounts []policyJSON `json:"accounts"`
	}{headOf(about, result.Mode, result.ModeWhy, result.Started, result.Took), seconds(result.Tuned), accounts})
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
