// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// maxUsersAsked bounds a search for the owner of the engine's key: it costs one
// call a user. The next one goes on from there.
const maxUsersAsked = 50

// listingPause is how often a list is read that does not show a new key yet.
const listingPause = 5 * time.Second

// WhoAmI implements provider.Caller. OUTSCALE has no call for it: the account id
// comes from ReadAccounts, and the owner of the key is the EIM user whose list
// of keys has it; the root user where none has.
func (c *Client) WhoAmI(ctx context.Context) (provider.Whoami, error) {
	account, err := c.AccountID(ctx)
	if err != nil {
		return provider.Whoami{}, err
	}
	own, err := c.onceListed(ctx)
	if err != nil {
		return provider.Whoami{}, err
	}
	identity, further, err := c.identity(ctx)
	if err != nil {
		return provider.Whoami{}, err
	}
	return provider.Whoami{AccountID: account, Identity: identity, Further: further, Key: own}, nil
}

// onceListed is OwnKey for those who must know whose the key is, which only lists tell: it reads them until one shows the key, for
// about as long as none need show it. Where the context ends before the next look it does not wait.
func (c *Client) onceListed(ctx context.Context) (provider.Key, error) {
	for until := time.Now().Add(provider.Settling); ; {
		own, err := c.OwnKey(ctx)
		if !errors.Is(err, provider.ErrUnlisted) || time.Now().After(until) {
			return own, err
		}
		if end, ends := ctx.Deadline(); ends && time.Until(end) < listingPause {
			return own, err
		}
		select {
		case <-time.After(listingPause):
		case <-ctx.Done():
			return own, err
		}
	}
}

// OwnKey implements provider.Caller.
func (c *Client) OwnKey(ctx context.Context) (provider.Key, error) {
	own, err := c.ownKey(ctx, "")
	if err != nil {
		return provider.Key{}, err
	}
	if len(own) != 1 {
		return provider.Key{}, fmt.Errorf("OUTSCALE does not list access key %s among the keys of the user that it belongs to: %w", c.accessKey,
			provider.ErrUnlisted)
	}
	return own[0], nil
}

// AccountID implements provider.Caller. It reads the 12 digits of the account that the key belongs to.
func (c *Client) AccountID(ctx context.Context) (string, error) {
	const op = "ReadAccounts"
	var answer osc.ReadAccountsResponse
	status, err := c.call(ctx, op, osc.ReadAccountsRequest{}, &answer)
	if err != nil {
		return "", err
	}
	for _, account := range answer.GetAccounts() {
		if id := account.GetAccountId(); id != "" {
			return id, nil
		}
	}
	return "", unreadable(op, status, "the answer holds no account")
}

// identity finds the user whose key signs the calls. A user that has another name, or is gone, when it is asked does not pass for
// one without the key: the users are listed once more.
func (c *Client) identity(ctx context.Context) (who provider.Identity, further bool, err error) {
	asked := 0
	who, further, err = c.searchIdentity(ctx, &asked)
	if further && asked <= maxUsersAsked {
		return c.searchIdentity(ctx, &asked)
	}
	return who, further, err
}

// identitySearch is how far a search has come that was cut short. further: it has not asked a user that had another name, or was gone.
type identitySearch struct {
	listing
	further bool
}

// searchIdentity asks the users that no search has asked yet. A key that may not list users cannot be the root user's, which may
// do everything. further tells that there are users left to ask. Where the time is up before, or too many are left, the next search goes on
// with the list: that of a large account takes longer than one has.
func (c *Client) searchIdentity(ctx context.Context, asked *int) (who provider.Identity, further bool, err error) {
	at := cmp.Or(c.searched.Swap(nil), new(identitySearch))
	unknown := provider.Identity{Kind: provider.IdentityUnknown}
	stopped := func(err error) (provider.Identity, bool, error) {
		if ctx.Err() != nil || errors.Is(err, transport.ErrNoTurn) {
			c.searched.Store(at)
		}
		return provider.Identity{}, false, err
	}
	for user, err := range c.usersFrom(ctx, nil, &at.listing) {
		if provider.KindOf(err) == provider.KindDenied {
			return unknown, false, nil
		}
		if err != nil {
			return stopped(err)
		}
		listed := [2]string{user.ID, user.Name}
		if _, known := c.others.Load(listed); known || user.Label != "" {
			continue // made for one lease, of which there may be thousands: none owns the engine's key
		}
		if *asked++; *asked > maxUsersAsked {
			c.searched.Store(at)
			return unknown, true, nil
		}
		own, err := c.ownKey(ctx, user.Name)
		switch kind := provider.KindOf(err); {
		case kind == provider.KindDenied:
			return unknown, false, nil
		case kind == provider.KindNotFound: // deleted or renamed since it was listed
			at.further = true
		case err != nil:
			return stopped(err)
		case len(own) > 0:
			return provider.Identity{Kind: provider.IdentityUser, User: user.Name, UserID: user.ID}, false, nil
		default:
			c.others.Store(listed, true)
		}
	}
	if at.further {
		return unknown, true, nil
	}
	return provider.Identity{Kind: provider.IdentityRoot}, false, nil
}

// ownKey looks for the signing key among a user's; empty: the caller's. A filter
// that the API did not apply would make everybody its owner.
func (c *Client) ownKey(ctx context.Context, user string) ([]provider.Key, error) {
	keys, err := c.readKeys(ctx, osc.ReadAccessKeysRequest{
		Filters:  &osc.FiltersAccessKeys{AccessKeyIds: &[]string{c.accessKey}},
		UserName: optional(user),
	}, user)
	return slices.DeleteFunc(keys, func(k provider.Key) bool { return k.ID != c.accessKey }), err
}
