// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// The API's names of its calls on keys.
const (
	opCreateKey = "CreatePermanentAccessKey"
	opListKeys  = "ListPermanentAccessKeys"
	opShowKey   = "ShowPermanentAccessKey"
	opUpdateKey = "UpdatePermanentAccessKey"
	opDeleteKey = "DeletePermanentAccessKey"
)

const (
	keysPath = "/v3.0/OS-CREDENTIAL/credentials"
	keyPath  = keysPath + "/{}"

	stateActive   = "active"
	stateInactive = "inactive"
)

// wireKey is a key in requests and answers.
type wireKey struct {
	Access      string          `json:"access,omitempty"`
	Secret      provider.Secret `json:"secret,omitempty"`
	Status      string          `json:"status,omitempty"`
	UserID      string          `json:"user_id,omitempty"`
	Created     string          `json:"create_time,omitempty"`
	LastUsed    string          `json:"last_use_time,omitempty"` // told when one key is shown, never in a list
	Description string          `json:"description,omitempty"`
}

type wireCredential struct {
	Credential wireKey `json:"credential"`
}

// CreateKey implements provider.Keys. A success without a readable key is Ambiguous: the
// key exists, and its secret is lost.
func (c *Client) CreateKey(ctx context.Context, spec provider.KeySpec) (provider.IssuedKey, error) {
	description, err := describe(spec.Label, spec.Expires)
	if err != nil {
		return provider.IssuedKey{}, &provider.Error{Kind: provider.KindInvalid, Op: opCreateKey, Err: err}
	}
	c.doubt(spec.User)
	var made provider.IssuedKey
	err = c.forUser(ctx, opCreateKey, spec.User, func(id string) (err error) {
		made, err = c.createKey(ctx, id, spec.User, description)
		return err
	})
	if err != nil {
		return provider.IssuedKey{}, err
	}
	c.recent.Add(made.ID)
	return made, nil
}

func (c *Client) createKey(ctx context.Context, userID, user, description string) (provider.IssuedKey, error) {
	create := call{
		op: opCreateKey, method: http.MethodPost, path: keysPath, want: http.StatusCreated,
		body: wireCredential{wireKey{UserID: userID, Description: description}},
	}
	var answer wireCredential
	if err := c.do(ctx, create, &answer); err != nil {
		return provider.IssuedKey{}, err
	}
	made := answer.Credential
	key, err := listed(made, user)
	if err != nil || made.Secret == "" || made.UserID != userID || !idPattern.MatchString(made.Access) {
		return provider.IssuedKey{}, unreadable(create, http.StatusCreated, "the answer does not hold the access key that was asked for")
	}
	return provider.IssuedKey{Key: key, Secret: made.Secret}, nil
}

// ListKeys implements provider.Keys; the call has no pages.
func (c *Client) ListKeys(ctx context.Context, user string) ([]provider.Key, error) {
	var keys []provider.Key
	list := func(id string) (err error) {
		keys, err = c.listKeys(ctx, id, user)
		return err
	}
	if user == "" {
		return c.listKeys(ctx, "", "")
	}
	err := c.forUser(ctx, opListKeys, user, list)
	return keys, err
}

// listKeys lists the keys of a user's id; empty: of the caller itself.
func (c *Client) listKeys(ctx context.Context, id, user string) ([]provider.Key, error) {
	list := call{op: opListKeys, method: http.MethodGet, path: keysPath, want: http.StatusOK}
	if id != "" {
		list.query = url.Values{"user_id": {id}}
	}
	var answer struct {
		Credentials *[]wireKey `json:"credentials"`
	}
	if err := c.do(ctx, list, &answer); err != nil {
		return nil, err
	}
	if answer.Credentials == nil {
		return nil, unreadable(list, http.StatusOK, "the answer holds no list")
	}
	keys := make([]provider.Key, 0, len(*answer.Credentials))
	for _, k := range *answer.Credentials {
		if id != "" && k.UserID != id { // a filter that was not applied says nothing of this user's keys
			return nil, unreadable(list, http.StatusOK, "the answer holds an access key of another user than was asked for")
		}
		key, err := listed(k, user)
		if err != nil {
			return nil, unreadable(list, http.StatusOK, err.Error())
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// MoveExpiry implements provider.Keys. It sends no status: a key that a revoke has made
// inactive in the same moment must stay so. It fails with NotFound only where the key is
// gone for certain.
func (c *Client) MoveExpiry(ctx context.Context, ref provider.KeyRef) error {
	if ref.Label == "" || ref.Expires.IsZero() {
		return fmt.Errorf("access key %s: its label and its date are written at once, and one is missing", ref.ID)
	}
	description, err := describe(ref.Label, ref.Expires)
	if err != nil {
		return fmt.Errorf("access key %s: %w", ref.ID, err)
	}
	return c.prover.OnKey(ctx, ref, func(ctx context.Context, ref provider.KeyRef) error {
		return c.onceKnown(ctx, ref.ID, opUpdateKey, func() error {
			key, err := c.update(ctx, ref.ID, wireKey{Description: description})
			if err == nil && key.Status == stateInactive {
				return provider.ErrSwitchedOff
			}
			return err
		})
	})
}

func (c *Client) updateKey(ctx context.Context, id string, change wireKey) error {
	_, err := c.update(ctx, id, change)
	return err
}

func (c *Client) update(ctx context.Context, id string, change wireKey) (wireKey, error) {
	update := call{
		op: opUpdateKey, method: http.MethodPut, path: keyPath, ids: []string{id}, want: http.StatusOK,
		body: wireCredential{change},
	}
	var answer wireCredential
	if err := c.do(ctx, update, &answer); err != nil {
		return wireKey{}, err
	}
	if answer.Credential.Access != id {
		return wireKey{}, unreadable(update, http.StatusOK, "the answer does not hold the access key that was changed")
	}
	if change.Status != "" && !strings.EqualFold(answer.Credential.Status, change.Status) {
		return wireKey{}, unreadable(update, http.StatusOK, "the answer has the access key in another state than was asked for")
	}
	return answer.Credential, nil
}

func (c *Client) deleteKey(ctx context.Context, id string) error {
	err := c.do(ctx, call{op: opDeleteKey, method: http.MethodDelete, path: keyPath, ids: []string{id}, want: http.StatusNoContent}, nil)
	if err == nil {
		c.recent.Drop(id)
	}
	return err
}

// showKey is a key with its owner's id, which is not told anywhere else.
func (c *Client) showKey(ctx context.Context, id string) (wireKey, error) {
	show := call{op: opShowKey, method: http.MethodGet, path: keyPath, ids: []string{id}, want: http.StatusOK}
	var answer wireCredential
	if err := c.do(ctx, show, &answer); err != nil {
		return wireKey{}, err
	}
	if answer.Credential.Access != id || !idPattern.MatchString(answer.Credential.UserID) {
		return wireKey{}, unreadable(show, http.StatusOK, "the answer does not hold the access key that was asked for")
	}
	return answer.Credential, nil
}

// LastUsed tells when a key last signed a call; the zero time where no use is known. Of a key
// that was never used the API names the time of its creation.
func (c *Client) LastUsed(ctx context.Context, _, id string) (time.Time, error) {
	view, err := c.showKey(ctx, id)
	if err != nil {
		return time.Time{}, err
	}
	created, createdErr := parseDate(view.Created)
	used, usedErr := parseDate(view.LastUsed)
	if err := errors.Join(createdErr, usedErr); err != nil {
		return time.Time{}, &provider.Error{Kind: provider.KindUnreachable, Op: opShowKey, Status: http.StatusOK, Details: err.Error()}
	}
	if used.Equal(created) {
		return time.Time{}, nil
	}
	return used, nil
}

// listed translates a key of the API. Its errors repeat nothing of the answer.
func listed(k wireKey, user string) (provider.Key, error) {
	if k.Access == "" {
		return provider.Key{}, errors.New("the answer holds an access key without an id")
	}
	created, err := parseDate(k.Created)
	if err != nil {
		return provider.Key{}, err
	}
	label, due := readDescription(k.Description)
	return provider.Key{
		ID: k.Access, User: user, UserID: k.UserID, Label: label, Active: strings.EqualFold(k.Status, stateActive),
		Created: created, Due: due,
	}, nil
}

// RelabelKey implements provider.Relabeler. A date is written only beside a label of the engine:
// on a key that is handed over it would ask for the key's removal.
func (c *Client) RelabelKey(ctx context.Context, ref provider.KeyRef) error {
	description, err := describe(ref.Label, ref.Expires)
	if err != nil {
		description = ref.Label
	}
	return c.prover.OnKey(ctx, ref, func(ctx context.Context, ref provider.KeyRef) error {
		return c.updateKey(ctx, ref.ID, wireKey{Description: description})
	})
}
