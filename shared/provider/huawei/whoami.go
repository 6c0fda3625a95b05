// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const opListDomains = "KeystoneListAuthDomains"

// WhoAmI implements provider.Caller: the signing key tells its user's id, and the user
// its name. A user needs no permission for its own key, but may lack one for itself.
func (c *Client) WhoAmI(ctx context.Context) (provider.Whoami, error) {
	account, err := c.AccountID(ctx)
	if err != nil {
		return provider.Whoami{}, err
	}
	if c.temporary {
		return provider.Whoami{AccountID: account, Identity: provider.Identity{Kind: provider.IdentitySession}, Key: c.session()}, nil
	}
	own, err := c.OwnKey(ctx)
	if err != nil {
		return provider.Whoami{}, err
	}
	identity, err := c.identity(ctx)
	if err != nil {
		return provider.Whoami{}, err
	}
	return provider.Whoami{AccountID: account, Identity: identity, Key: own}, nil
}

// session is the temporary key that signs: the API shows permanent ones alone.
func (c *Client) session() provider.Key { return provider.Key{ID: c.accessKey, Active: true} }

// OwnKey implements provider.Caller.
func (c *Client) OwnKey(ctx context.Context) (provider.Key, error) {
	if c.temporary {
		_, err := c.AccountID(ctx) // proves that the key works
		return c.session(), err
	}
	own, err := c.showKey(ctx, c.accessKey)
	if err != nil {
		return provider.Key{}, err
	}
	key, err := listed(own, "")
	if err != nil {
		return provider.Key{}, &provider.Error{Kind: provider.KindUnreachable, Op: opShowKey, Status: http.StatusOK, Details: err.Error()}
	}
	return key, nil
}

// identity is the user whose key signs the calls.
func (c *Client) identity(ctx context.Context) (provider.Identity, error) {
	user, err := c.caller(ctx)
	switch {
	case hidden(err):
		return provider.Identity{Kind: provider.IdentityUnknown}, nil
	case err != nil:
		return provider.Identity{}, err
	case user.DomainOwner:
		return provider.Identity{Kind: provider.IdentityRoot, UserID: user.ID}, nil
	default:
		return provider.Identity{Kind: provider.IdentityUser, User: user.Name, UserID: user.ID}, nil
	}
}

// hidden tells that the key may not see what it asked for.
func hidden(err error) bool {
	kind := provider.KindOf(err)
	return kind == provider.KindDenied || kind == provider.KindNotFound
}

func (c *Client) caller(ctx context.Context) (wireUser, error) {
	id, err := c.callerID(ctx)
	if err != nil {
		return wireUser{}, err
	}
	return c.showUser(ctx, id)
}

// callerID is the id of the user whose key signs.
func (c *Client) callerID(ctx context.Context) (string, error) {
	return c.self.get(ctx, func() (string, error) {
		own, err := c.showKey(ctx, c.accessKey)
		return own.UserID, err
	})
}

// domainPattern is what the cloud calls the id of an account. It is narrower than idPattern: many names of accounts, which people write
// in its place, do not fit.
var domainPattern = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// CheckDomainID refuses what cannot be the id of an account.
func CheckDomainID(id string) error {
	if !domainPattern.MatchString(id) {
		return fmt.Errorf("%.140q is not the id of an account of Huawei Cloud: leave it out, and it is looked up", id)
	}
	return nil
}

// domainID is the account's id for use in calls, asked from the cloud once.
func (c *Client) domainID(ctx context.Context) (string, error) {
	if c.configuredDomain != "" {
		return c.configuredDomain, nil
	}
	return c.domain.get(ctx, func() (string, error) { return c.AccountID(ctx) })
}

// AccountID implements provider.Caller: the account that the cloud says the key belongs to, asked anew: what is
// configured or remembered proves nothing. Configuration stands in for an answer only
// where the key may see neither its account nor its own user.
func (c *Client) AccountID(ctx context.Context) (string, error) {
	own, err := c.askDomain(ctx)
	switch {
	case err != nil:
		return "", err
	case own == "" && c.configuredDomain == "":
		return "", &provider.Error{
			Kind:    provider.KindDenied,
			Op:      opListDomains,
			Details: "the cloud does not tell which account the key belongs to: set domain_id",
		}
	case own == "":
		return c.configuredDomain, nil
	case c.configuredDomain != "" && own != c.configuredDomain:
		return "", &provider.Error{
			Kind: provider.KindInvalid, Op: opListDomains,
			Details: fmt.Sprintf("the key belongs to account %s, and not to %s, which domain_id names", own, c.configuredDomain),
		}
	default:
		return own, nil
	}
}

// askDomain asks in two ways, since the list may be empty for users with few rights. The
// second needs the domain that it is to confirm: a call without one may pass for a bad
// authentication. Empty: the cloud does not tell.
func (c *Client) askDomain(ctx context.Context) (string, error) {
	ids, err := c.listDomains(ctx)
	switch {
	case err != nil && !hidden(err):
		return "", err
	case len(ids) == 1:
		return ids[0], nil
	case slices.Contains(ids, c.configuredDomain):
		return c.configuredDomain, nil
	case c.configuredDomain == "":
		return "", nil
	}
	user, err := c.caller(ctx)
	if hidden(err) {
		return "", nil
	}
	return user.DomainID, err
}

// listDomains names no domain: the call works without, and one that is wrong would keep it
// from telling the right one.
func (c *Client) listDomains(ctx context.Context) ([]string, error) {
	list := call{op: opListDomains, method: http.MethodGet, path: "/v3/auth/domains", want: http.StatusOK}
	var answer struct {
		Domains *[]struct {
			ID string `json:"id"`
		} `json:"domains"`
	}
	if err := c.send(ctx, "", list, &answer); err != nil {
		return nil, err
	}
	if answer.Domains == nil {
		return nil, unreadable(list, http.StatusOK, "the answer holds no list")
	}
	var ids []string
	for _, domain := range *answer.Domains {
		if CheckDomainID(domain.ID) != nil { // the next client is made with it
			return nil, unreadable(list, http.StatusOK, "the answer holds an account without an id")
		}
		ids = append(ids, domain.ID)
	}
	return ids, nil
}

// AccessPolicy implements provider.PolicyReader without a call: Huawei Cloud has no policy
// that bounds the life of keys.
func (c *Client) AccessPolicy(context.Context) (provider.AccessPolicy, error) {
	return provider.AccessPolicy{}, nil
}
