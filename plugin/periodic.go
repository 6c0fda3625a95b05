// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// periodic runs once a minute on the active node. The accounts are tended side by side:
// one whose cloud hangs uses up the tick for itself alone.
func (b *backend) periodic(ctx context.Context, req *logical.Request) error {
	b.storeUnstoredHolds()
	ctx = transport.WithClass(ctx, transport.ClassBackground)
	rest, cancelRest := context.WithTimeout(ctx, tickBudget+rollbackBudget)
	defer cancelRest()
	ctx, cancel := context.WithTimeout(ctx, tickBudget)
	defer cancel()

	// The server sends one last, ordinary tick with the mount tainted before it disables or moves it, or waits for the one that runs.
	last := b.System().Tainted()
	defer b.expectMove(ctx, req.Storage)
	names, err := storedNames(ctx, req.Storage, configPrefix)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		b.moving.Store(true)
	}
	if err := b.onItsStorage(ctx, req.Storage); err != nil {
		return err
	}
	// Whose a static role is stands in the role alone: they are read once for all accounts, in a time that no account can use up.
	// OnceValues would panic anew for each of them.
	static := sync.OnceValues(func() (roles map[string]map[string]*staticRole, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tickBudget/2)
		defer cancel()
		err = b.safely("the reading of the static roles", func() error { roles, err = staticRolesByAccount(ctx, req.Storage); return err })
		return roles, err
	})
	var tended sync.WaitGroup
	problems, next := make([]error, len(names)), make([]time.Time, len(names))
	for i, name := range names {
		tended.Go(func() {
			problems[i] = errors.Join(
				b.besideOthers(ctx, req.Storage, "the periodic work of account "+name, func() error {
					return b.tendAccount(ctx, req.Storage, name, static, &next[i])
				}),
				b.besideOthers(ctx, req.Storage, "the rollback of account "+name, func() error { return b.rollback(rest, req.Storage, name, last) }),
			)
		})
	}
	tended.Wait()
	var first time.Time
	for _, at := range next {
		first = earlier(first, at)
	}
	b.armRotations(req.Storage, first)
	return errors.Join(append(problems, b.tendUnconfigured(ctx, req.Storage, names))...)
}

// besideOthers does work of one account while others do theirs, and stores at once what the cloud has said of its key: the others may
// take long, and a restart meanwhile would make a call more.
func (b *backend) besideOthers(ctx context.Context, s logical.Storage, what string, work func() error) error {
	return b.safely(what, func() error {
		defer b.storeHolds(ctx, s)
		return work()
	})
}

// tendUnconfigured looks at the ledger's entries of accounts that are not configured: they are
// known, and those of first keys end some day.
func (b *backend) tendUnconfigured(ctx context.Context, s logical.Storage, configured []string) error {
	names, err := b.ledger.Accounts(ctx, s)
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range names {
		if !slices.Contains(configured, name) {
			problems = append(problems, b.ledger.LoadSome(ctx, s, name), b.forgetFirstKeys(ctx, s, name), b.dropAbandoned(ctx, s, name))
		}
	}
	return errors.Join(problems...)
}

// nextLooks is when the periodic work has to look at an account's entries in storage again,
// so that a tick reads none of those of thousands of accounts. It belongs to the one tick that
// tends the account (account.tending). Zero: at once.
type nextLooks struct {
	firstKeys, policy, reconcile, users, identity time.Time

	rotation         time.Time // of the engine's own key, after a failure
	rotationFailures int       // in a row
}

// staticRoles are those of all accounts, by account and name.
type staticRoles func() (map[string]map[string]*staticRole, error)

// tendAccount does what is due for one account, unless another tick is at it: a server may send one before the last has ended.
// It leaves in next when a static role is to be tried.
func (b *backend) tendAccount(ctx context.Context, s logical.Storage, name string, static staticRoles, next *time.Time) error {
	a, err := b.account(ctx, s, name)
	if err != nil {
		return err
	}
	if !a.tending.TryLock() {
		return nil
	}
	defer a.tending.Unlock()
	// The rotation comes first: without a working key nothing else gets done.
	rotated := b.rotateIfDue(ctx, s, a)
	if timeLeft(ctx) < tickBudget/2 { // it may take longer than a tick has, and must not take all from the others
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), tickBudget/2)
		defer cancel()
	}
	rotate := func(ctx context.Context) error {
		roles, err := static()
		if err != nil {
			*next = time.Now().Add(staticRetry) // what is armed for a role's time is not given up
			return err
		}
		*next, err = b.tendStaticRoles(ctx, s, name, roles[name])
		return err
	}
	reap := job{1, func(ctx context.Context) error { return b.reap(ctx, s, a) }}
	jobs := []job{
		{1, func(ctx context.Context) error { return b.tendFirstKeys(ctx, s, a) }},
		{1, rotate},
		{1, func(ctx context.Context) error { return b.refreshPolicyIfOld(ctx, s, a) }},
		{1, func(ctx context.Context) error { return b.refreshUsers(ctx, a) }},
		reap,
		{1, func(ctx context.Context) error { return b.searchIdentity(ctx, s, a) }},
		{1, func(ctx context.Context) error { return b.reconcileIfDue(ctx, s, a) }},
	}
	if !a.endsKeys() { // expired keys work until they are deleted: a third of the tick is theirs, and the first
		reap.share = 3
		jobs = append([]job{reap}, slices.Delete(jobs, 4, 5)...)
	}
	return errors.Join(rotated, inShares(ctx, jobs))
}

// job is a part of an account's periodic work.
type job struct {
	share int // of the tick, against those of the jobs that come after it
	run   func(context.Context) error
}

// inShares runs the jobs one after the other. Each has its share of the time that is left, so that
// none is kept from its own, whatever happens to the others. A job whose share was too short goes on at the
// end, those that stand first before the others. Until then its share still counts, or the last job would take
// all that is left: a comparison, which goes on for an hour, half of the reaper's time.
func inShares(ctx context.Context, jobs []job) error {
	shares := 0
	for _, j := range jobs {
		shares += j.share
	}
	var problems []error
	var cut []job
	for _, j := range jobs {
		own, cancel := context.WithTimeout(ctx, timeLeft(ctx)*time.Duration(j.share)/time.Duration(shares))
		problems = append(problems, j.run(own))
		if timeLeft(own) < time.Second { // the pacer gives no turn that comes too late
			cut = append(cut, j)
		} else {
			shares -= j.share
		}
		cancel()
	}
	for _, j := range cut {
		if ctx.Err() == nil {
			problems = append(problems, j.run(ctx))
		}
	}
	return errors.Join(problems...)
}

// reap removes the keys whose date has passed from cloud and ledger: those of leases
// that Vault never stored, and those that nobody revoked in time. What the tick
// leaves over is taken up by the next. Reading the ledger of a large mount takes several ticks, in
// which what is known to be due comes first.
func (b *backend) reap(ctx context.Context, s logical.Storage, a *account) error {
	whole := b.ledger.Whole(a.name)
	err := b.reapDue(ctx, s, a)
	part, cancel := context.WithTimeout(ctx, timeLeft(ctx)/2)
	defer cancel()
	err = errors.Join(err, b.ledger.LoadSome(part, s, a.name))
	if !whole {
		err = errors.Join(err, b.reapDue(ctx, s, a))
	}
	return err
}

func (b *backend) reapDue(ctx context.Context, s logical.Storage, a *account) error {
	for _, item := range b.ledger.Due(a.name, time.Now()) {
		if ctx.Err() != nil {
			return nil // the next tick goes on
		}
		entry, err := ledger.Read(ctx, s, a.name, item.Label)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			b.ledger.PutOff(a.name, item.Label, time.Now().Add(ledger.RereadAfter))
			return err
		case entry == nil:
			b.ledger.Drop(a.name, item.Label)
		case time.Now().Before(entry.Due()):
			b.ledger.Learn(entry) // renewed since
		default:
			if a, err = b.identified(ctx, s, a.name); err != nil {
				return err
			}
			if entry.Abandoned && a.config.isAnother(entry.AccountID) {
				if err := b.passOver(ctx, s, entry); err != nil {
					return err
				}
				continue
			}
			if over, err := b.reapKey(ctx, s, a, entry); over || err != nil {
				return err // the next tick goes on
			}
		}
	}
	return nil
}

// passOver leaves a key that was abandoned in another cloud account to an operator, unless its cloud has ended it, as dropAbandoned does
// where the name is not used again.
func (b *backend) passOver(ctx context.Context, s logical.Storage, entry *ledger.Entry) error {
	if entry.EndsByDate {
		return b.ledger.Remove(ctx, s, entry.Account, entry.Label)
	}
	b.ledger.PutOff(entry.Account, entry.Label, time.Now().Add(lifetime.LongestPause))
	return nil
}

// reapKey removes one dead key. A refusal is noted in the ledger, where an operator
// finds it, and tried again ever more rarely. A cloud that hangs over one key keeps it
// from no other: each has a time of its own, and what has used it up stands behind the
// others from then on. over tells that the time of the tick is used up.
func (b *backend) reapKey(ctx context.Context, s logical.Storage, a *account, entry *ledger.Entry) (over bool, err error) {
	own, cancel := context.WithTimeout(ctx, reapBudget)
	defer cancel()
	err = removeDead(own, a, entry)
	if err == nil {
		b.Logger().Info("removed an expired access key", "account", a.name, "access_key", entry.AccessKey)
		return false, b.removeEntry(ctx, s, entry)
	}
	if ctx.Err() != nil || errors.Is(err, transport.ErrNoTurn) {
		b.ledger.PutOff(a.name, entry.Label, time.Now()) // behind all others that are due
		return true, nil                                 // nothing was learned about the key
	}
	if own.Err() != nil {
		err = fmt.Errorf("the cloud has not answered within %s: %w", reapBudget, err)
	}
	entry.Failures++
	entry.Problem = err.Error()
	entry.RetryAt = time.Now().Add(a.retryReap(entry.Failures))
	b.Logger().Warn("an expired access key cannot be removed", "account", a.name, "access_key", entry.AccessKey, "error", err)
	return false, b.ledger.Save(ctx, s, entry)
}

// timeLeft is how long a context with a deadline still lasts.
func timeLeft(ctx context.Context) time.Duration {
	end, _ := ctx.Deadline()
	return time.Until(end)
}

func removeDead(ctx context.Context, a *account, entry *ledger.Entry) error {
	if err := a.mustBe(entry.AccountID, entry.AccessKey); err != nil {
		return err
	}
	return a.destroy(ctx, entry)
}

// Time that the work on a key may take in all, retries and queueing included.
// Vault's clients wait 60 s for an answer, and Vault gives a revoke 90 s.
const (
	issueBudget   = 45 * time.Second
	revokeBudget  = 60 * time.Second
	cleanupBudget = 15 * time.Second

	// tickPeriod is how often the server has the periodic work done.
	tickPeriod = time.Minute

	// tickBudget is how long the periodic work of one tick may take: Vault waits for it
	// when it seals or steps down.
	tickBudget = 10 * time.Second

	// reapBudget is how long the reaper may take over one key. Two that hang leave the tick
	// time for what comes after the reaper.
	reapBudget = 4 * time.Second

	// rollbackBudget is how long the unfinished requests of an account may take after that, together.
	rollbackBudget = 8 * time.Second
)
