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

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
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

// keyJSON is one key of a report.
type keyJSON struct {
	Account   string        `json:"account"`
	AccessKey string        `json:"access_key"` // masked, unless whole ids were asked for
	User      string        `json:"user"`
	Active    bool          `json:"active"`
	Trusted   bool          `json:"trusted,omitempty"` // made in Cockpit after a multi-factor authentication (OUTSCALE)
	Created   time.Time     `json:"created,omitzero"`
	AgeDays   int           `json:"age_days"`
	End       time.Time     `json:"end,omitzero"`
	LastUsed  time.Time     `json:"last_used,omitzero"` // where the cloud tells, of keys that would be changed
	Class     sweep.Class   `json:"class"`
	Reason    string        `json:"reason"`
	Action    sweep.Action  `json:"action"`
	Happens   string        `json:"what_happens"` // the action, with caps and outcome taken into account
	Outcome   sweep.Outcome `json:"outcome,omitempty"`
	Detail    string        `json:"detail,omitempty"`

	fate fate
}

func showKey(f sweep.Finding, now time.Time, whole bool) keyJSON {
	became := fateOf(f)
	k := keyJSON{
		Account: f.Account, AccessKey: f.AccessKey, User: f.User, Active: f.Active, Trusted: f.Trusted, Created: f.Created,
		End: f.Key().End(), LastUsed: f.Used,
		Class: f.Class, Reason: f.Reason, Action: f.Action, Happens: fates()[became].Name, Outcome: f.Outcome, Detail: f.Detail, fate: became,
	}
	if !whole {
		k.AccessKey = fleet.Mask(f.AccessKey)
	}
	if !f.Created.IsZero() {
		k.AgeDays = max(0, int(now.Sub(f.Created)/(24*time.Hour))) // clocks differ
	}
	return k
}

// JSON streams the account as one object: about the run, the account, and every key on a line of
// its own.
func (a Account) JSON(w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	opening, err := json.Marshal(struct {
		head
		OwnersTold bool                  `json:"owners_told"`
		Unmatched  []string              `json:"unmatched_patterns,omitempty"`
		Accounts   []sweep.AccountResult `json:"accounts"`
	}{headOf(a.About, a.Mode, a.ModeWhy, a.Started, a.Took), a.OwnersTold, a.Unmatched, []sweep.AccountResult{a.Result}})
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	out.Write(opening[:len(opening)-1]) // a bufio.Writer keeps its error until Flush
	out.WriteString(",\"keys\":[")
	separator := "\n"
	var key keyJSON // and its line are used again: there may be a million
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	for f, err := range a.Findings {
		if err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		key = showKey(f, a.Started, a.WholeIDs)
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

// PolicyAccount is one account of a policy sync. Policies are in seconds, 0 for unlimited.
type PolicyAccount struct {
	Account      string            `json:"account"`
	Provider     string            `json:"provider"`
	AccountID    string            `json:"account_id,omitempty"`
	Region       string            `json:"region,omitempty"`
	Before       int64             `json:"before_seconds"`
	Wanted       int64             `json:"wanted_seconds"`
	After        int64             `json:"after_seconds"`
	Action       policysync.Action `json:"action"`
	Reason       string            `json:"reason"`
	Blockers     []Blocker         `json:"blockers,omitempty"`
	BlockerCount int               `json:"blocker_count"`
	Drift        bool              `json:"drift"` // the policy in force allows keys a longer life than is wanted
	Shortened    int               `json:"shortened"`
	Lives        []Lives           `json:"remaining_lives,omitempty"`
	Partial      bool              `json:"partial"`
	Problem      string            `json:"problem,omitempty"`
}

// Lives is how many keys of an account have a remaining life of a group.
type Lives struct {
	Group    string `json:"group"`
	Keys     int    `json:"keys"`
	InTheWay int    `json:"in_the_way"`
}

// Blocker is a key that keeps a policy from being tightened.
type Blocker struct {
	AccessKey string    `json:"access_key"` // masked
	User      string    `json:"user"`
	Ours      bool      `json:"ours"`
	Active    bool      `json:"active"`
	Expires   time.Time `json:"expires,omitzero"`
	Reason    string    `json:"reason"`
	Advice    string    `json:"advice"`
}

// PolicyAccounts are the accounts of a policy sync as they are reported, with their blockers
// or with the number of those alone.
func PolicyAccounts(result policysync.Result, blockers, whole bool) []PolicyAccount {
	accounts := []PolicyAccount{}
	for _, a := range result.Accounts {
		account := PolicyAccount{
			Account: a.Account, Provider: a.Provider, AccountID: a.AccountID, Region: a.Region, Before: seconds(a.Before),
			Wanted: seconds(a.Wanted), After: seconds(a.After),
			Action: a.Action, Reason: a.Reason, BlockerCount: a.BlockerCount, Drift: a.Drift(), Shortened: a.Shortened, Partial: a.Partial,
			Problem: a.Problem,
		}
		for i, n := range a.Lives.Keys {
			if !blockers {
				break
			}
			account.Lives = append(account.Lives, Lives{policysync.LifeGroups()[i], n, a.Lives.InTheWay[i]})
		}
		for _, b := range a.Blockers {
			if blockers {
				id := b.AccessKey
				if !whole {
					id = fleet.Mask(id)
				}
				account.Blockers = append(account.Blockers, Blocker{id, b.User, b.Ours, b.Active, b.Expires, b.Reason, b.Advice})
			}
		}
		accounts = append(accounts, account)
	}
	return accounts
}

// JSON writes a policy sync as one object.
func (p Policy) JSON(w io.Writer) error {
	result := p.Result
	err := json.NewEncoder(w).Encode(struct {
		head
		Tuned    int64           `json:"tuned_seconds,omitempty"`
		Accounts []PolicyAccount `json:"accounts"`
	}{headOf(p.About, result.Mode, result.ModeWhy, result.Started, result.Took), seconds(result.Tuned), PolicyAccounts(result,
		true, p.WholeIDs)})
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
