// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// deleteAccount takes the engine's own keys along, as far as the engine has made them:
//
//	(1) store the configuration, marked deleting: no key is made for the account from now on
//	    → crash: delete again goes on, or a write of the account ends the deletion
//	(2) previous keys. The answer names those that the present key has no right to
//	    → crash: the same; what is gone is deleted
//	(3) store the configuration with the key that is to go, then delete it with itself; one that must be switched off before
//	    is, with a near date
//	    → crash: delete again finds the key refused, which is a deleted one if its delete was sent. The answer names it
//	(4) remove the records of the engine's own keys, then the configuration, and then what was kept of the account
//	    → crash: delete again goes on. Without the configuration, what is left is overwritten by the next account of the name
//
// Keys that operators gave are never touched.
func (b *backend) deleteAccount(ctx context.Context, s logical.Storage, name string, force bool) (warnings []string, err error) {
	unlock, err := b.lock(ctx, configPrefix+name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer b.keep(name)
	config, err := load[accountConfig](ctx, s, configPrefix+name)
	if err != nil || config == nil {
		return nil, err
	}
	said := force || config.Deleting // what goes on was said so when it began
	if force {
		if warnings, force, err = b.abandon(ctx, s, name); err != nil {
			return nil, err
		}
	}
	if !force {
		if err := b.refuseIfUsed(ctx, s, name, config, "", "without it their keys cannot be revoked"); err != nil {
			return nil, err
		}
	}
	unseen, err := b.mindSecondaries(ctx, name, "leases", said)
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, unseen...)
	former := b.openedAccount(name) // it knows of a dead key what a new client would have refused twice more: four refusals lock the account
	marked := *config
	marked.Deleting = true
	if err := b.storeAccount(ctx, s, name, &marked); err != nil {
		return nil, err
	}
	b.freeze(name)
	left, err := b.deleteOwnKeys(ctx, s, former, name, &marked)
	switch {
	case err != nil && !force:
		return nil, userError("account %q stays, since its engine keys could not be deleted: %s. Try again when the cloud answers; "+
			"if it never will, delete with force=true, which leaves them to you", name, err)
	case len(left) > 0:
		warnings = append(warnings, "access keys that the engine had are still in the cloud: delete there those that nobody "+
			"uses: "+strings.Join(left, ", "))
	}
	if len(left) > 0 { // nobody may get the answer
		b.Logger().Warn("access keys that the engine had are still in the cloud", "account", name, "access_keys", left)
	}
	more, err := b.removeAccount(ctx, s, name, force)
	return append(warnings, more...), err
}

// deleteOwnKeys is steps (2) and (3). It returns the keys that are left; err is why.
func (b *backend) deleteOwnKeys(
	ctx context.Context, s logical.Storage, former *account, name string, marked *accountConfig,
) (left []string, err error) {
	a, err := b.openAfter(former, name, marked)
	if err != nil {
		return nil, err
	}
	if a.config.DeletingKey == a.config.AccessKey {
		if _, err := a.cloud.OwnKey(ctx); isRefused(err) { // the attempt before has deleted it, or it is refused by mistake
			return append(idsOf(a.config.Previous), a.config.AccessKey+" (unless its own delete, whose answer was lost, has deleted it)"), nil
		}
	}
	if a, err = b.identifiedFor(ctx, a); err != nil {
		return idsOf(marked.Previous), err
	}
	var problems []error
	config := *a.config
	config.Previous = nil
	for _, previous := range a.config.Previous {
		var problem error
		if previous.Label != "" { // else an operator gave it, and it was to be deleted by now
			if problem = b.deletePrevious(ctx, s, a, previous); problem == nil {
				continue
			}
		}
		left, config.Previous = append(left, previous.ID), append(config.Previous, previous)
		if !isNoRight(problem) { // else only an operator can
			problems = append(problems, problem)
		}
	}
	if err := errors.Join(append(problems, b.storeAccount(ctx, s, name, &config))...); err != nil || config.KeyLabel == "" {
		return left, err
	}
	if other, err := b.sharesKey(ctx, s, a); err != nil || other != "" {
		return append(left, a.config.AccessKey), err // the other account takes it along, or an operator does
	}
	if _, err := a.cloud.OwnKey(ctx); isRefused(err) { // before its delete was tried: it may be switched off, or refused by mistake
		return append(left, a.config.AccessKey), err
	}
	config.DeletingKey = config.AccessKey
	if err := b.storeAccount(ctx, s, name, &config); err != nil {
		return append(left, a.config.AccessKey), err
	}
	switch off, problem := a.deleteItself(ctx); {
	case off:
		return append(left, a.config.AccessKey+" (switched off, and ends within minutes)"), nil
	case surelyNotDone(problem), isRefused(problem):
		config.DeletingKey = "" // its next refusal says nothing
		return append(left, a.config.AccessKey), errors.Join(problem, b.storeAccount(ctx, s, name, &config))
	case problem != nil:
		return append(left, a.config.AccessKey), problem
	default:
		return left, nil
	}
}

// identifiedFor asks the cloud whose the key is of an account that was written with verify=false, where that decides which replaced
// keys are deleted. It is stored with the next step.
func (b *backend) identifiedFor(ctx context.Context, a *account) (*account, error) {
	if a.config.AccountID != "" || len(a.config.Previous) == 0 {
		return a, nil
	}
	who, err := a.cloud.WhoAmI(ctx)
	if err != nil {
		return nil, explain(a.name, err)
	}
	config := *a.config
	config.AccountID, config.Identity, config.KeyCreated, config.KeyExpires = who.AccountID, who.Identity, who.Key.Created, who.Key.Expires
	return b.openAfter(a, a.name, &config)
}

// takesKey tells, by what OwnKey has answered, that the cloud takes the key that signs. A list need not show one of seconds ago.
func takesKey(err error) bool { return err == nil || errors.Is(err, provider.ErrUnlisted) }

func isRefused(err error) bool {
	kind := provider.KindOf(err)
	return err != nil && (kind == provider.KindKeyRefused || kind == provider.KindKeyUnclear)
}

// surelyNotDone tells errors after which the cloud has done nothing of what was asked.
func surelyNotDone(err error) bool {
	switch provider.KindOf(err) {
	case provider.KindDenied, provider.KindThrottled, provider.KindLockedOut, provider.KindClockWrong, provider.KindUnreachable:
		return err != nil
	default:
		return false
	}
}

// deleteItself deletes the current key with a call that it signs. A cloud that wants it switched off
// before gets no second call of it: off, it ends at the near date that goes along.
func (a *account) deleteItself(ctx context.Context) (off bool, err error) {
	ref := provider.KeyRef{AccountID: a.config.AccountID, ID: a.config.AccessKey, Label: a.config.KeyLabel, Expires: time.Now()}
	stages, ok := a.cloud.(provider.Stages)
	if !ok {
		return false, a.cloud.RevokeKey(ctx, ref)
	}
	err = stages.DeleteKey(ctx, ref)
	if kind := provider.KindOf(err); kind != provider.KindConflict && kind != provider.KindInvalid {
		return false, err
	}
	err = stages.DeactivateKey(ctx, ref)
	return err == nil, err
}

// removeAccount is step (4). The records of keys that were abandoned stay.
func (b *backend) removeAccount(ctx context.Context, s logical.Storage, name string, force bool) (warnings []string, err error) {
	if !force {
		if warnings, err = b.forgetOwnKeys(ctx, s, name); err != nil {
			return nil, fmt.Errorf("removing the records of the engine's own keys: %w", err)
		}
	}
	if err := b.storeAccount(ctx, s, name, nil); err != nil {
		return nil, err
	}
	var problems []error
	defer b.policies.drop(policyPrefix + name)
	b.compared.Delete(name)
	for _, prefix := range []string{policyPrefix, reconcilePrefix} {
		problems = append(problems, remove(ctx, s, prefix+name))
	}
	if err := errors.Join(problems...); err != nil { // the account is gone, and an error would keep the other warnings from the operator
		warnings = append(warnings, fmt.Sprintf("the account is deleted, and what was kept of it could not be removed: %s", err))
	}
	return warnings, nil
}

// abandon marks the records of an account whose cloud will not answer any more, and says what is left
// there. Where the cloud answers and takes the engine key, there is nothing to force: on a performance
// primary the delete is one without force then, which stood for the leases of the secondaries. It cannot stand for more
// there, unless the cloud refuses the key: each delete has it, and one call may fail.
func (b *backend) abandon(ctx context.Context, s logical.Storage, name string) (warnings []string, forced bool, err error) {
	a, err := b.account(ctx, s, name)
	if err != nil {
		return nil, false, err
	}
	_, err = a.cloud.OwnKey(ctx)
	switch primary := b.mayHaveSecondaries(ctx); {
	case takesKey(err) && primary:
		return nil, false, nil
	case takesKey(err):
		return nil, false, userError("the cloud answers, and takes the engine key of account %q: nothing is to be forced. Revoke the "+
			"account's leases, delete its static roles, and then the account without force=true", name)
	case primary && !isRefused(err):
		return nil, false, userError("account %q stays, since the cloud did not say whether it takes the engine key: %s. Try again: on a "+
			"performance primary keys are given up only where the cloud refuses the engine key", name, explain(name, err))
	}
	warnings, err = b.abandonKeys(context.WithoutCancel(ctx), s, a, name, func(*ledger.Item) bool { return true })
	return warnings, true, err
}

// abandonKeys marks records of an account and says what is left in the cloud. a is nil where it is not configured any more.
func (b *backend) abandonKeys(
	ctx context.Context, s logical.Storage, a *account, name string, wanted func(*ledger.Item) bool,
) (warnings []string, err error) {
	if err := b.ledger.Load(ctx, s, name); err != nil {
		return nil, err
	}
	for _, item := range b.ledger.Select(name, wanted) {
		e, err := ledger.Read(ctx, s, name, item.Label)
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		e.Problem, e.Failures, e.RetryAt = "", 0, time.Time{} // nobody tries any more
		if e.Abandoned = true; a != nil && !a.config.isAnother(e.AccountID) {
			e.EndsByDate = a.endsKeys() && !e.Expires.IsZero()
		}
		if err := b.ledger.Save(ctx, s, e); err != nil {
			return nil, err
		}
		b.Logger().Warn("abandoned an access key that could not be deleted and was given up with force", "account", name,
			"access_key", e.AccessKey, "user", e.User, "label", e.Label, "expiration", showTime(e.Expires))
		works := "works until it is deleted"
		if e.EndsByDate {
			works = "may work until " + showTime(e.Expires)
		}
		warnings = append(warnings, fmt.Sprintf("access key %s (%s, label %s) is abandoned and %s", e.AccessKey,
			identityName(e.User), e.Label, works))
	}
	return warnings, nil
}

// dropAbandoned drops the abandoned records of a name that nobody has configured, once the cloud has
// ended their keys. Those of a cloud that ends none stay until keys/<id> is deleted with force.
func (b *backend) dropAbandoned(ctx context.Context, s logical.Storage, name string) error {
	now := time.Now()
	dated := func(i *ledger.Item) bool { return !i.Expires.IsZero() && !now.Before(i.Due) && i.Unreadable == "" }
	for _, item := range b.ledger.Select(name, dated) {
		e, err := ledger.Read(ctx, s, name, item.Label)
		if err != nil {
			return err
		}
		if e == nil || !e.Abandoned || !e.EndsByDate || now.Before(e.EndedAt(0)) {
			continue
		}
		if err := b.ledger.Remove(ctx, s, name, item.Label); err != nil {
			return err
		}
	}
	return nil
}
