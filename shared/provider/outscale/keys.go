// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const stateActive = "ACTIVE"

// CreateKey implements provider.Keys. A success without a readable key is
// Ambiguous: the key exists, and its secret is lost.
func (c *Client) CreateKey(ctx context.Context, spec provider.KeySpec) (provider.IssuedKey, error) {
	const op = "CreateAccessKey"
	req := createAccessKeyRequest{UserName: optional(spec.User), Tag: optional(spec.Label)}
	if !spec.Expires.IsZero() {
		req.ExpirationDate = formatDate(spec.Expires)
	}
	var answer osc.CreateAccessKeyResponse
	status, err := c.call(ctx, op, req, &answer)
	if err != nil {
		return provider.IssuedKey{}, err
	}
	k := answer.AccessKey
	if k == nil || k.GetAccessKeyId() == "" || k.GetSecretKey() == "" {
		return provider.IssuedKey{}, unreadable(op, status, "the answer holds no access key")
	}
	key, err := listed(osc.AccessKey{
		AccessKeyId: k.AccessKeyId, State: k.State, Tag: k.Tag,
		CreationDate: k.CreationDate, LastModificationDate: k.LastModificationDate, ExpirationDate: k.ExpirationDate,
	}, spec.User)
	if err != nil || !isAsked(key.Expires, spec.Expires) { // the date is not repeated: nobody knows what else stands in its place
		return provider.IssuedKey{}, unreadable(op, status, "the answer does not hold the access key, or the expiration date, that was asked for")
	}
	c.recent.Add(key.ID)
	return provider.IssuedKey{Key: key, Secret: provider.Secret(k.GetSecretKey())}, nil
}

// ListKeys implements provider.Keys. OUTSCALE lists expired keys as ACTIVE.
func (c *Client) ListKeys(ctx context.Context, user string) ([]provider.Key, error) {
	return c.readKeys(ctx, osc.ReadAccessKeysRequest{UserName: optional(user)}, user)
}

// readKeys lists keys; the call has no pages.
func (c *Client) readKeys(ctx context.Context, req osc.ReadAccessKeysRequest, user string) ([]provider.Key, error) {
	const op = "ReadAccessKeys"
	var answer osc.ReadAccessKeysResponse
	status, err := c.call(ctx, op, req, &answer)
	if err != nil {
		return nil, err
	}
	if answer.AccessKeys == nil {
		return nil, unreadable(op, status, "the answer holds no list")
	}
	keys := make([]provider.Key, 0, len(*answer.AccessKeys))
	for _, k := range *answer.AccessKeys {
		key, err := listed(k, user)
		if err != nil {
			return nil, unreadable(op, status, err.Error())
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// MoveExpiry implements provider.Keys. It sends no state: a key that a revoke has
// made INACTIVE in the same moment must stay so. It fails with NotFound only where the
// key is gone for certain.
func (c *Client) MoveExpiry(ctx context.Context, ref provider.KeyRef) error {
	if ref.Expires.IsZero() {
		return fmt.Errorf("access key %s: an update without a date would make it live for ever", ref.ID)
	}
	return c.prover.OnKey(ctx, ref, func(ctx context.Context, ref provider.KeyRef) error {
		key, err := c.update(ctx, updateAccessKeyRequest{
			AccessKeyId:    ref.ID,
			ExpirationDate: formatDate(ref.Expires),
			UserName:       optional(ref.User),
		})
		if err != nil {
			return err
		}
		if date, err := parseDate(key.ExpirationDate); err != nil || !isAsked(date, ref.Expires) {
			return unreadable("UpdateAccessKey", http.StatusOK, "the answer has another expiration date than was asked for")
		}
		if strings.EqualFold(key.GetState(), stateInactive) {
			return provider.ErrSwitchedOff
		}
		return nil
	})
}

// isAsked tells whether a key has the expiration date that was asked for. One that has none would outlive a lost Vault, and one that
// ends earlier its lease: expiry_grace is ten seconds at least. Rounding to the minute does no harm.
func isAsked(date, asked time.Time) bool {
	return asked.IsZero() || !date.Before(asked.Add(-10*time.Second)) && !date.After(asked.Add(time.Minute))
}

// RelabelKey implements provider.Relabeler. It sends the date as it is: an update without
// one would clear it.
func (c *Client) RelabelKey(ctx context.Context, ref provider.KeyRef) error {
	return c.prover.OnKey(ctx, ref, func(ctx context.Context, ref provider.KeyRef) error {
		req := updateAccessKeyRequest{AccessKeyId: ref.ID, Tag: optional(ref.Label), UserName: optional(ref.User)}
		if !ref.Expires.IsZero() {
			req.ExpirationDate = formatDate(ref.Expires)
		}
		return c.updateKey(ctx, req)
	})
}

// updateKey is the one place that updates a key. Every caller sets the date, where the key
// has one: an update without one clears it (OUTSCALE UpdateAccessKey).
func (c *Client) updateKey(ctx context.Context, req updateAccessKeyRequest) error {
	_, err := c.update(ctx, req)
	return err
}

func (c *Client) update(ctx context.Context, req updateAccessKeyRequest) (*osc.AccessKey, error) {
	const op = "UpdateAccessKey"
	var answer osc.UpdateAccessKeyResponse
	status, err := c.call(ctx, op, req, &answer)
	if err != nil {
		return nil, err
	}
	key := answer.AccessKey
	if key == nil || key.GetAccessKeyId() != req.AccessKeyId {
		return nil, unreadable(op, status, "the answer does not hold the access key that was changed")
	}
	if req.State != nil && !strings.EqualFold(key.GetState(), *req.State) {
		return nil, unreadable(op, status, "the answer has the access key in another state than was asked for")
	}
	return key, nil
}

func (c *Client) deleteKey(ctx context.Context, ref provider.KeyRef) error {
	err := c.act(ctx, "DeleteAccessKey", deleteAccessKeyRequest{AccessKeyId: ref.ID, UserName: optional(ref.User)})
	if err == nil {
		c.recent.Drop(ref.ID)
	}
	return err
}

// listed translates a key of the API; it names no owner, so the caller does.
func listed(k osc.AccessKey, user string) (provider.Key, error) {
	if k.GetAccessKeyId() == "" {
		return provider.Key{}, errors.New("the answer holds an access key without an id")
	}
	created, createdErr := parseDate(k.CreationDate)
	expires, expiresErr := parseDate(k.ExpirationDate)
	changed, changedErr := parseDate(k.LastModificationDate)
	if err := cmp.Or(createdErr, expiresErr, changedErr); err != nil {
		return provider.Key{}, fmt.Errorf("access key %.40q: %w", k.GetAccessKeyId(), err)
	}
	return provider.Key{
		ID: k.GetAccessKeyId(), User: user, Label: k.GetTag(), Active: strings.EqualFold(k.GetState(), stateActive),
		Created: created, Changed: changed, Expires: expires, Trusted: k.GetTrusted(),
	}, nil
}

// optional leaves an empty field out: OUTSCALE refuses empty strings.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
