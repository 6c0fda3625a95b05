// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// The API's names of its calls on users.
const (
	opListUsers  = "KeystoneListUsers"
	opShowUser   = "ShowUser"
	opCreateUser = "CreateUser"
	opDeleteUser = "KeystoneDeleteUser"
)

// wireUser is a user in requests and answers.
type wireUser struct {
	ID          string `json:"id,omitempty"`
	Name        string `json:"name,omitempty"`
	DomainID    string `json:"domain_id,omitempty"`
	Description string `json:"description,omitempty"`
	AccessMode  string `json:"access_mode,omitempty"`
	Enabled     bool   `json:"enabled,omitempty"`
	DomainOwner bool   `json:"is_domain_owner,omitempty"`
}

// listed translates a user of the API.
func (u wireUser) listed() provider.User {
	user := provider.User{ID: u.ID, Name: u.Name}
	if label, err := keylabel.Parse(u.Description); err == nil {
		user.Label = label.String()
	}
	return user
}

// ListUsers implements provider.Users. Unless it is told otherwise, the API leaves out
// the disabled users, whose keys exist all the same; so both halves are asked for.
func (c *Client) ListUsers(ctx context.Context) iter.Seq2[provider.User, error] {
	return c.users(ctx, "")
}

// users yields the users with a name; empty: all. The API's filter is never trusted with
// the comparison.
func (c *Client) users(ctx context.Context, name string) iter.Seq2[provider.User, error] {
	return func(yield func(provider.User, error) bool) {
		seen := map[string]bool{} // a cloud that knows no such filter answers both with all
		for _, enabled := range []string{"true", "false"} {
			users, err := c.listUsers(ctx, name, enabled)
			if err != nil {
				yield(provider.User{}, err)
				return
			}
			for _, u := range users {
				if seen[u.ID] || name != "" && u.Name != name {
					continue
				}
				seen[u.ID] = true
				if !yield(u.listed(), nil) {
					return
				}
			}
		}
	}
}

func (c *Client) listUsers(ctx context.Context, name, enabled string) ([]wireUser, error) {
	domain, err := c.domainID(ctx)
	if err != nil {
		return nil, err
	}
	list := call{
		op: opListUsers, method: http.MethodGet, path: "/v3/users", want: http.StatusOK,
		query: url.Values{"domain_id": {domain}, "enabled": {enabled}},
	}
	if name != "" {
		list.query.Set("name", name)
	}
	var answer struct {
		Users *[]wireUser `json:"users"`
		links
	}
	if err := c.do(ctx, list, &answer); err != nil {
		return nil, err
	}
	if answer.Users == nil {
		return nil, unreadable(list, http.StatusOK, "the answer holds no list")
	}
	for _, u := range *answer.Users {
		if u.ID == "" {
			return nil, unreadable(list, http.StatusOK, "the answer holds a user without an id")
		}
	}
	return *answer.Users, answer.whole(list)
}

// links stand beside every list. The API documents no pages; if it ever makes some, the
// first must not pass for the whole.
type links struct {
	Links struct {
		Next string `json:"next"`
	} `json:"links"`
}

func (l links) whole(list call) error {
	if l.Links.Next != "" {
		return unreadable(list, http.StatusOK, "the answer is only the first page of a list, and further ones are not known to exist")
	}
	return nil
}

// forUser makes a call with a user's id; the empty name is the caller. A remembered id may
// be that of a user who is gone and whose name has gone to another, so a refusal makes it ask
// once more, and try the other. "Not found" of a user made just now makes it wait.
func (c *Client) forUser(ctx context.Context, op, name string, call func(id string) error) error {
	if name == "" {
		id, err := c.callerID(ctx)
		if err != nil {
			return err
		}
		return call(id)
	}
	remembered := c.names.get(name)
	var refusal error
	if remembered != "" {
		refusal = c.onceKnown(ctx, remembered, op, func() error { return call(remembered) })
		if !mayBeOfTheID(refusal) {
			return refusal
		}
		c.names.forget(name)
	}
	id, err := c.findUser(ctx, name)
	switch {
	case err != nil && provider.KindOf(refusal) == provider.KindDenied:
		return refusal // a key that may not do this may not be allowed to list users either
	case err != nil:
		return err
	case id == remembered:
		return refusal
	default:
		return call(id)
	}
}

// doubt forgets the id of a name before a key is made with it. The user may have been renamed
// and the name given to another since; the API would make the key all the same, and tells the
// id in its answer but not the name. What this client has just made, lists may not show yet.
func (c *Client) doubt(name string) {
	if id := c.names.get(name); id != "" && !c.recent.Has(id) {
		c.names.forget(name)
	}
}

// mayBeOfTheID tells refusals that a call with the id of a user who is gone could get. Which
// of them it gets is not documented (a create: 400, 401, 403 and 500).
func mayBeOfTheID(err error) bool {
	kind := provider.KindOf(err)
	return kind == provider.KindNotFound || kind == provider.KindInvalid || kind == provider.KindDenied
}

// findUser asks the cloud for the id of a name.
func (c *Client) findUser(ctx context.Context, name string) (string, error) {
	for user, err := range c.users(ctx, name) {
		if err != nil {
			return "", err
		}
		c.names.put(name, user.ID)
		return user.ID, nil
	}
	return "", &provider.Error{Kind: provider.KindNotFound, Op: opListUsers, Details: fmt.Sprintf("the account has no user named %.64q", name)}
}

// showUser is a user as the cloud shows it by its id.
func (c *Client) showUser(ctx context.Context, id string) (wireUser, error) {
	show := call{op: opShowUser, method: http.MethodGet, path: "/v3.0/OS-USER/users/{}", ids: []string{id}, want: http.StatusOK}
	var answer struct {
		User wireUser `json:"user"`
	}
	if err := c.do(ctx, show, &answer); err != nil {
		return wireUser{}, err
	}
	if answer.User.ID != id || answer.User.Name == "" {
		return wireUser{}, unreadable(show, http.StatusOK, "the answer does not hold the user that was asked for")
	}
	return answer.User, nil
}
