// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

const (
	// tidyPath holds the last tidy's report, in local storage.
	tidyPrefix = "tidy/"
	tidyPath   = tidyPrefix + "status"

	// tidyBudget is how long a tidy may take in all: time for thousands of users at
	// the default pace.
	tidyBudget = 30 * time.Minute

	// tidySaveBudget is how long its end may take to be written.
	tidySaveBudget = 5 * time.Second

	// tidyEndBudget is how long the engine waits for that where it ends itself.
	tidyEndBudget = time.Second
)

// tidying is the tidy that runs, if any: one at a time.
type tidying struct {
	mu     sync.Mutex // never held across storage or cloud calls
	report *tidyReport
	stop   context.CancelFunc
	ended  chan struct{}
}

// startTidy begins a tidy in the background, which outlives its request.
func (b *backend) startTidy(ctx context.Context, s logical.Storage, account string, dryRun bool, confirm int) (*tidyReport, error) {
	report := &tidyReport{State: tidyRunning, Account: account, DryRun: dryRun, Confirm: confirm, Started: time.Now()}
	ctx, stop := context.WithTimeout(transport.WithClass(context.WithoutCancel(ctx), transport.ClassBackground), tidyBudget)
	ended := make(chan struct{})
	if running := b.tidying.begin(report, stop, ended); running != nil {
		stop()
		return nil, userError("a tidy runs since %s: read tidy-status, and start another when it has ended", showTime(running.Started))
	}
	end := func() {
		b.tidying.end()
		stop()
		close(ended)
	}
	// Stored at once, so that a tidy that a restart cuts off does not just vanish.
	if err := b.safely("the start of a tidy", func() error { return save(ctx, s, tidyPath, report) }); err != nil {
		end()
		return nil, err
	}
	started := report.clone()
	go func() {
		defer end()
		if err := b.safely("tidy", func() error { b.tidy(ctx, s); return nil }); err != nil {
			b.tidying.note(func(r *tidyReport) { r.failed(err); r.finish(ctx.Err()) })
			b.storeTidy(ctx, s)
		}
	}()
	return started, nil
}

// begin returns the running tidy's report instead where there is one.
func (t *tidying) begin(report *tidyReport, stop context.CancelFunc, ended chan struct{}) *tidyReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.report != nil {
		return t.report.clone()
	}
	t.report, t.stop, t.ended = report, stop, ended
	return nil
}

// note changes the report.
func (t *tidying) note(change func(*tidyReport)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t.report)
}

// current is a copy of the running tidy's report; nil where none runs.
func (t *tidying) current() *tidyReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.report == nil {
		return nil
	}
	return t.report.clone()
}

func (t *tidying) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report = nil
}

// cancel ends the running tidy, and waits a moment for it to write its end. It may be undoing something in a cloud that hangs, and the sdk
// holds up all mounts of the process while one is cleaned up. A report that is not written reads as interrupted.
func (t *tidying) cancel(ctx context.Context) {
	t.mu.Lock()
	stop, ended := t.stop, t.ended
	running := t.report != nil
	t.mu.Unlock()
	if !running {
		return
	}
	stop()
	select {
	case <-ended:
	case <-time.After(tidyEndBudget):
	case <-ctx.Done():
	}
}

// tidy compares the cloud with the ledger, account by account, and stores the report.
func (b *backend) tidy(ctx context.Context, s logical.Storage) {
	if err := b.tidyAccounts(ctx, s); err != nil {
		b.tidying.note(func(r *tidyReport) { r.failed(err) })
	}
	b.tidying.note(func(r *tidyReport) { r.finish(ctx.Err()) })

	report := b.tidying.current()
	b.storeTidy(ctx, s)
	b.Logger().Info("tidy ended", "state", report.State, "keys", report.Keys, "orphans_found", len(report.Found.Lines),
		"orphans_removed", len(report.Removed.Lines))
}

// storeTidy keeps the report for those who read it later.
func (b *backend) storeTidy(ctx context.Context, s logical.Storage) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidySaveBudget)
	defer cancel()
	if err := save(ctx, s, tidyPath, b.tidying.current()); err != nil {
		b.Logger().Warn("the report of a tidy cannot be stored", "error", err)
	}
}

// tidyAccounts goes on with the next account where one fails.
func (b *backend) tidyAccounts(ctx context.Context, s logical.Storage) error {
	report := b.tidying.current()
	names := []string{report.Account}
	if report.Account == "" {
		var err error
		if names, err = b.tidyNames(ctx, s); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := b.tidyAccount(ctx, s, name, report); err != nil && ctx.Err() == nil {
			b.tidying.note(func(r *tidyReport) { r.failed(err) })
		}
		if ctx.Err() != nil {
			return nil // the report says why
		}
		if err := b.reportStuck(ctx, s, name); err != nil {
			return err
		}
	}
	return nil
}

// tidyNames are the configured accounts and those that the ledger still knows.
func (b *backend) tidyNames(ctx context.Context, s logical.Storage) ([]string, error) {
	names, err := storedNames(ctx, s, configPrefix)
	if err != nil {
		return nil, err
	}
	known, err := b.ledger.Accounts(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, name := range known {
		if len(b.ledger.Select(name, func(*ledger.Item) bool { return true })) > 0 || !b.ledger.Whole(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// tidyAccount compares an account with its cloud in one go, in place of the day's comparison.
func (b *backend) tidyAccount(ctx context.Context, s logical.Storage, name string, report *tidyReport) error {
	defer b.storeHolds(ctx, s) // the request that began it has ended
	users, err := b.identities(ctx, s, name)
	if err != nil {
		return err
	}
	state, err := loadOrNew[reconcileState](ctx, s, reconcilePrefix+name)
	if err != nil {
		return err
	}
	at := &comparison{Left: users, Kept: state.Kept}
	c := &comparer{backend: b, storage: s, name: name, note: b.tidying.note, dryRun: report.DryRun, confirm: report.Confirm}
	problem := c.advance(ctx, at)
	if at.waits() {
		select {
		case <-time.After(time.Until(at.Judged.Add(tickPeriod))):
			problem = errors.Join(problem, c.advance(ctx, at))
		case <-ctx.Done():
		}
	}
	if report.DryRun || !at.over() {
		return problem
	}
	b.compared.Store(name, at.Found)
	return errors.Join(problem, save(ctx, s, reconcilePrefix+name, at.ended()))
}

// reportStuck tells of the keys that the reaper could not remove, of entries that cannot be
// understood, and of unfinished requests that the next ticks end.
func (b *backend) reportStuck(ctx context.Context, s logical.Storage, account string) error {
	if err := b.ledger.Load(ctx, s, account); err != nil {
		return err
	}
	items := b.ledger.Select(account, func(item *ledger.Item) bool {
		return item.Unreadable != "" || item.Problem != "" || item.Unfinished() && !item.Running
	})
	for _, item := range items {
		b.tidying.note(func(r *tidyReport) {
			switch {
			case item.Unreadable != "":
				r.Stuck.add(item.Unreadable)
			case item.Unfinished():
				r.Waiting.add(waiting(item))
			default:
				r.Stuck.add(fmt.Sprintf("%s of account %q, tried %d times, again at %s: %s", item.AccessKey, account, item.Tries,
					showTime(item.Due), item.Problem))
			}
		})
	}
	return nil
}

// waiting tells of a request that did not end well.
func waiting(item ledger.Item) string {
	if item.First {
		return fmt.Sprintf("first key labelled %s, made for account %q, since %s: it is removed once that account is configured, and "+
			"ends by itself at %s", item.Label, item.Account, showTime(item.Issued), showTime(item.Expires))
	}
	line := fmt.Sprintf("key labelled %s of user %q in account %q, since %s", item.Label, item.User, item.Account, showTime(item.Issued))
	if item.Problem != "" {
		line += ": " + item.Problem
	}
	return line
}

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
	Confirm  int       `json:"confirm,omitempty"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	Keys     int       `json:"keys"`

	Found   tidyLines `json:"orphans_found"`
	Removed tidyLines `json:"orphans_removed"`
	Stuck   tidyLines `json:"stuck"`
	Waiting tidyLines `json:"waiting"`
	Errors  tidyLines `json:"errors"`

	Gone     tidyLines `json:"static_keys_gone,omitzero"`
	Rotated  tidyLines `json:"static_roles_rotated,omitzero"`
	Off      tidyLines `json:"static_keys_switched_off,omitzero"`
	Right    tidyLines `json:"keys_set_right,omitzero"`
	Withheld tidyLines `json:"withheld,omitzero"`
}

func (r *tidyReport) lists() []*tidyLines {
	return []*tidyLines{&r.Found, &r.Removed, &r.Stuck, &r.Waiting, &r.Errors, &r.Gone, &r.Rotated, &r.Off, &r.Right, &r.Withheld}
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
		return texts(l.Lines)
	}
	return append(slices.Clone(l.Lines), fmt.Sprintf("and %d more", l.More))
}

func (r *tidyReport) clone() *tidyReport {
	c := *r
	for _, lines := range c.lists() {
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
		r.failed(errors.New("it was ended with the engine (seal, step-down, reload, unmount or move): start it again"))
	}
	r.State, r.Finished = tidyDone, time.Now()
	if len(r.Errors.Lines) > 0 {
		r.State = tidyFailed
	}
}

// interrupted is the report of a tidy whose process died before it could write its end, or of none.
func (r *tidyReport) interrupted() *tidyReport {
	if r.State = cmp.Or(r.State, tidyIdle); r.State == tidyRunning {
		r.State = tidyFailed
		r.failed(errors.New("it was cut off by a restart, and what it had done is not known: start it again"))
	}
	return r
}

func tidyAnswer() map[string]*framework.FieldSchema {
	list := func(text string) *framework.FieldSchema { return field(framework.TypeStringSlice, text) }
	return map[string]*framework.FieldSchema{
		"state":           field(framework.TypeString, "idle (never run), running, done, or failed."),
		"account":         field(framework.TypeString, "Account that it was started for; empty: all."),
		"dry_run":         field(framework.TypeBool, "Whether it only reports what it would do."),
		"started":         field(framework.TypeString, "When it was started."),
		"finished":        field(framework.TypeString, "When it ended; empty: it is running, or was interrupted."),
		"keys":            field(framework.TypeInt, "Number of keys in the cloud that it has looked at."),
		"orphans_found":   list("Keys with this mount's label that are not in the ledger."),
		"orphans_removed": list("Those of them that it has deleted in the cloud."),
		"stuck":           list("Expired keys in the ledger that cannot be deleted, and records that cannot be read, with the reason."),
		"waiting": list("Keys of unfinished requests that the engine will clean up, with the reason if that has failed, and orphans " +
			"that may be in use."),
		"static_keys_gone":     list("Keys of static roles that no longer exist in the cloud."),
		"static_roles_rotated": list("Static roles that got a new key because of that."),
		"static_keys_switched_off": list("Keys of static roles that somebody, or a delete that has not ended, has deactivated, which stay " +
			"deactivated, and what to do."),
		"keys_set_right": list("Keys whose expiration date or label somebody had changed, and which it has restored."),
		"withheld": list("What it has not done, because it was more than five keys and a tenth of the account's; of the daily " +
			"comparisons as well."),
		"errors": list("Why it failed, if it did."),
	}
}
