// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// An operator may give an account the key of another user, or of another cloud account, at any time. Whether the account's present
// key may delete one from before is decided here, as far as that is known without a call; the cloud's answer decides the rest.

// mayDelete tells whether the account's key can have the right to a recorded key: both are of one cloud account, and the identity is
// not another's whose keys nobody else deletes. Where one of them is not known, the list of the caller's keys, which lacks
// those of all others, proves nothing.
func (a *account) mayDelete(e *ledger.Entry) bool {
	unknown := e.Identity.Kind == "" || e.Identity.Kind == provider.IdentityUnknown || a.config.Identity.Kind == provider.IdentityUnknown
	if e.User == "" && unknown {
		return false
	}
	_, err := a.ref(e)
	return err == nil && e.AccountID == a.config.AccountID
}

// anyMayDelete tells whether an abandoned key's account is configured, with a key that can have the right to it.
func (b *backend) anyMayDelete(ctx context.Context, s logical.Storage, e *ledger.Entry) (bool, error) {
	config, err := b.accountConfig(ctx, s, e.Account)
	if err != nil || config == nil {
		return false, err
	}
	a, err := b.identified(ctx, s, e.Account)
	return err == nil && a.mayDelete(e), err
}

// isOfAnother tells that a key was abandoned in another cloud account, under the same account name: nothing of this one can delete it,
// nor is to wait for that, and it takes no slot here. Its record stays until an operator, or its date, ends it.
func (c *accountConfig) isOfAnother(item *ledger.Item) bool {
	return item.AbandonedIn != "" && c.isAnother(item.AbandonedIn)
}

// mayDeletePrevious is mayDelete for a replaced key: why not, or the user to name to the cloud. One of an unknown identity is the
// present key's own where rotation replaced it, and anybody's where an operator did: see searchPrevious.
func (a *account) mayDeletePrevious(p previousKey) (user string, err error) {
	if err := a.mustBe(p.AccountID, p.ID); err != nil {
		return "", err
	}
	switch signer := a.config.Identity; {
	case p.Identity.Same(signer) && !(p.ByOperator && signer.Kind == provider.IdentityUnknown):
		return "", nil
	case p.Identity.Kind == provider.IdentityUser:
		return p.Identity.User, nil
	default:
		return "", fmt.Errorf("it belongs to another identity (%s), and the account's present key has no right to delete it: delete it in "+
			"the cloud, then its record: delete keys/%s with force=true", p.Identity.Kind, p.ID)
	}
}

// searchPrevious looks for a replaced key that the account's present key may not delete by what is known, for why. One that the cloud
// ends is not there from its date on; one whose owner the cloud has never named is not where that is proven.
func (b *backend) searchPrevious(
	ctx context.Context, s logical.Storage, a *account, key previousKey, why error,
) (found provider.Key, there bool, err error) {
	switch {
	case a.hasEndedPrevious(key):
		return provider.Key{}, false, nil
	case a.config.AccountID == "": // the account is not identified
		return provider.Key{}, false, why
	case key.AccountID != a.config.AccountID || key.Identity.Kind != provider.IdentityUnknown:
		return provider.Key{}, false, noRightError{why}
	}
	ref, err := b.refOf(ctx, s, a, key, "")
	if err != nil {
		return provider.Key{}, false, err
	}
	ref.AnyUser = true
	if found, there, err = a.cloud.FindKey(ctx, ref); err != nil {
		err = fmt.Errorf("%w; whether one of the users has it could not be found out: %w", why, err)
		return provider.Key{}, false, noRightIfDenied(err, err)
	}
	return found, there, nil
}

// hasEndedPrevious tells that the cloud has ended a replaced key at its date.
func (a *account) hasEndedPrevious(p previousKey) bool {
	return p.AccountID == a.config.AccountID && !p.Expires.IsZero() && a.isDead(p.Expires)
}

// noRightError is a replaced key that the account's present key may not delete, or may not look for where it could be found gone.
type noRightError struct{ error }

// Unwrap returns why.
func (e noRightError) Unwrap() error { return e.error }

func isNoRight(err error) bool { return errors.As(err, new(noRightError)) }

// isUnprovable tells that a search has seen all that it may, and has not proven the key gone: the next would end in the same way. One
// that the cloud, or the time, has not let end says nothing.
func isUnprovable(err error) bool {
	unproven := new(provider.UnprovenError)
	return errors.As(err, &unproven) && unproven.Final
}

// noRightIfDenied is what is said of a delete that failed by cause.
func noRightIfDenied(cause, said error) error {
	if provider.KindOf(cause) == provider.KindDenied {
		return noRightError{said}
	}
	return said
}
