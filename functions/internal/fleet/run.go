// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
)

// Run goes over accounts one after the other. An account that fails does not stop the others.
type Run struct {
	Settings settings.Run
	All      []Account
	Began    time.Time    // decides with which account a run begins whose time may run out; zero: the first
	Log      *slog.Logger // nil: nothing is logged

	failed FailedError
}

// FailedError tells that a run did not do all that it should have.
type FailedError struct {
	Accounts []string // that were given up
	Keys     int      // that could not be changed
	Err      error
}

// namedAccounts is how many accounts an error names; the report has all.
const namedAccounts = 10

// Error names the accounts, and no key.
func (e *FailedError) Error() string {
	if len(e.Accounts) == 0 {
		return fmt.Sprintf("the run could not change %d keys: the report says why", e.Keys)
	}
	names := strings.Join(e.Accounts[:min(len(e.Accounts), namedAccounts)], ", ")
	if more := len(e.Accounts) - namedAccounts; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return MaskIn(oneLine(fmt.Errorf("the run gave up account %s: %w", names, e.Err)))
}

// oneLine is an error that may be of several, in one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Unwrap returns what made it give the accounts up.
func (e *FailedError) Unwrap() error { return e.Err }

// Share is one account's part of a run's time. Zero times bound nothing.
type Share struct {
	Plan   time.Time // after which no more users are looked at
	Change time.Time // after which no more changes are begun
	End    time.Time // at which calls are cut off: what is left is the report's
}

// Bound ends a context with the share.
func (s Share) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.End.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, s.End)
}

// lastCalls is what the calls of a share get to end by themselves: a tenth of it, this at most.
const lastCalls = 5 * time.Second

// Over tells whether there is no time for the account at all.
func (s Share) Over() bool { return !s.Plan.IsZero() && !time.Now().Before(s.Plan) }

// ErrNoTime tells that an account was not looked at.
var ErrNoTime = errors.New("no time was left for the account: give the function more time, or name fewer ACCOUNTS")

// Accounts yields the accounts that the settings ask for, each with its share of what is left
// until the deadline minus the reserve. An enforcing run keeps half of it for the changes. A run
// with a deadline does not always begin with the first account (see begin): over several runs, each
// account of a list that is too long gets its turn.
func (r *Run) Accounts(ctx context.Context) iter.Seq2[Account, Share] {
	chosen := slices.Clone(r.All)
	if len(r.Settings.Accounts) > 0 {
		chosen = slices.DeleteFunc(chosen, func(a Account) bool { return !slices.Contains(r.Settings.Accounts, a.Name) })
	}
	if _, ends := ctx.Deadline(); ends && !r.Began.IsZero() {
		first := begin(r.Began, len(chosen))
		chosen = slices.Concat(chosen[first:], chosen[:first])
	}
	return func(yield func(Account, Share) bool) {
		for i, account := range chosen {
			if !yield(account, r.share(ctx, len(chosen)-i)) {
				return
			}
		}
	}
}

// beginEvery: runs within the same six hours begin with the same account. It is the default
// SyncSchedule; a more frequent schedule changes the first account no more often.
const beginEvery = 6 * time.Hour

// begin is the index of the account with which a run begins. Multiples of the golden ratio, less
// their whole part, lie evenly in any row of runs, every six hours or once a day or a week. Counting
// on would not do: a run a day counts four on, and of four accounts always began with the same one;
// and the end of a list of hundreds would wait for as many runs.
func begin(at time.Time, n int) int {
	const golden = 0x9E3779B97F4A7C15 // its part after the point, of 1<<64
	high, _ := bits.Mul64(uint64(at.Unix()/int64(beginEvery/time.Second))*golden, uint64(n))
	return int(high)
}

// InOrder sorts what became of accounts as they are listed, with whichever of them the run began.
func InOrder[R any](all []Account, results []R, name func(R) string) {
	at := make(map[string]int, len(all))
	for i, account := range all {
		at[account.Name] = i
	}
	slices.SortStableFunc(results, func(x, y R) int { return at[name(x)] - at[name(y)] })
}

func (r *Run) share(ctx context.Context, left int) Share {
	deadline, ok := ctx.Deadline()
	if !ok {
		return Share{}
	}
	now := time.Now()
	share := max(0, deadline.Add(-r.Settings.Reserve).Sub(now)) / time.Duration(left)
	s := Share{Change: now.Add(share - min(lastCalls, share/10)), End: now.Add(share)}
	if s.Plan = s.Change; r.Settings.Mode == settings.Enforce {
		s.Plan = now.Add(share / 2)
	}
	return s
}

// Failed notes what became of an account, and returns the problem as it is shown; empty: none.
func (r *Run) Failed(ctx context.Context, account Account, keys int, err error) (problem string) {
	r.failed.Keys += keys
	if err == nil {
		return ""
	}
	err = fmt.Errorf("account %q: %w", account.Name, err)
	r.failed.Accounts, r.failed.Err = append(r.failed.Accounts, account.Name), errors.Join(r.failed.Err, err)
	problem = MaskIn(oneLine(err), account.EngineKeys...)
	if r.Log != nil {
		r.Log.ErrorContext(ctx, "account given up", "account", account.Name, "problem", problem)
	}
	return problem
}

// Err ends the run: a *FailedError, or nil. A run over accounts that do not exist must not pass
// for one that had nothing to do.
func (r *Run) Err() error {
	for _, name := range r.Settings.Accounts {
		if !slices.ContainsFunc(r.All, func(a Account) bool { return a.Name == name }) {
			r.failed.Accounts = append(r.failed.Accounts, name)
			r.failed.Err = errors.Join(r.failed.Err, fmt.Errorf("account %q: ACCOUNTS names it, and it does not exist", name))
		}
	}
	if len(r.failed.Accounts) == 0 && r.failed.Keys == 0 {
		return nil
	}
	return &r.failed
}
