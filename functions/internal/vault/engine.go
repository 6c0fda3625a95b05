// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// pageSize is how many entries one request for a list returns at most.
const pageSize = 1000

// AccountNames returns the names of the engine's accounts.
func (s *Session) AccountNames(ctx context.Context) ([]string, error) {
	var names []string
	for page, err := range s.pages(ctx, "config", nil) {
		if err != nil {
			return nil, err
		}
		names = append(names, page.keys...)
	}
	if len(names) == 0 {
		return nil, empty("listing the accounts of "+s.config.Engine, "the secrets engine has none: write its config first, or see "+
			"VAULT_ENGINE")
	}
	return names, nil
}

// Accounts returns the accounts of the secrets engine, or those of the wanted ones that
// exist. Wanted ones are read without a list: each step of a state machine asks for one.
func (s *Session) Accounts(ctx context.Context, wanted []string) ([]fleet.Account, error) {
	names := wanted
	if len(wanted) == 0 {
		var err error
		if names, err = s.AccountNames(ctx); err != nil {
			return nil, err
		}
	}
	info, err := s.read(ctx, "info", nil)
	if err != nil {
		return nil, err
	}
	var accounts []fleet.Account
	for _, name := range names {
		config, err := s.read(ctx, "config/"+name, nil)
		var none *VaultEmptyError
		if errors.As(err, &none) {
			continue // the caller finds out that it has no such account
		}
		if err != nil {
			return nil, err
		}
		account, err := config.account(name)
		if err != nil {
			return nil, fmt.Errorf("reading %s/config/%s: %w", s.config.Engine, name, err)
		}
		account.Mount, account.Instance = s.config.Engine, info.text("instance_id")
		accounts = append(accounts, account)
	}
	return accounts, nil
}

// readers is how many configurations are read at once.
const readers = 8

// EngineKeys are the access keys that Vault signs with on any account of the mount: several may be of one cloud account, and no ledger
// has a key that an operator gave.
func (s *Session) EngineKeys(ctx context.Context) ([]string, error) {
	names, err := s.AccountNames(ctx)
	if err != nil {
		return nil, err
	}
	keys, problems := make([][]string, len(names)), make([]error, len(names))
	fleet.Each(readers, len(names), func(i int) {
		config, err := s.read(ctx, "config/"+names[i], nil)
		var none *VaultEmptyError
		if err == nil {
			keys[i] = config.engineKeys()
		} else if !errors.As(err, &none) { // it was deleted since
			problems[i] = err
		}
	})
	return slices.Concat(keys...), cmp.Or(problems...)
}

// engineKeys are those that an account's configuration names.
func (f fields) engineKeys() []string {
	return append([]string{f.text("access_key")}, f.texts("previous_access_keys")...)
}

func (f fields) account(name string) (fleet.Account, error) {
	a := fleet.Account{
		Name: name,
		Config: provider.Config{
			Provider: f.text("provider"), Region: f.text("region"), Endpoint: f.text("endpoint"), DomainID: f.text("domain_id"),
			Signature: f.text("signature"), TLS: provider.TLS{CACert: f.text("ca_cert"), ClientCert: f.text("client_cert")},
			PerSecond: f.number("max_requests_per_second"), Timeout: f.seconds("request_timeout"), MaxRetries: int(f.number("max_retries")),
		},
		AccountID: f.text("account_id"), EngineKeys: f.engineKeys(),
		ExpiryGrace: f.seconds("expiry_grace"),
	}
	if a.Provider == "" || a.EngineKeys[0] == "" {
		return fleet.Account{}, errors.New("the answer lacks the provider or the engine's own access key: is this mount a cloudkeys engine?")
	}
	return a, nil
}

// Lease takes a key for the function itself, and writes it into the account's configuration. It
// ends with the session's token, and by itself a little after ttl. ends is the sooner of both.
func (s *Session) Lease(ctx context.Context, account *fleet.Account, ttl time.Duration) (ends time.Time, err error) {
	s.loginFor(ctx, ttl)
	begun, role := time.Now(), s.config.roleOf(account.Name)
	secret, err := s.get(leasing(ctx), "creds/"+role, map[string][]string{"ttl": {strconv.Itoa(int(ttl / time.Second))}})
	if err != nil {
		return ends, err
	}
	s.mu.Lock()
	if secret.LeaseID != "" && s.config.Auth == AuthToken {
		s.leases = append(s.leases, secret.LeaseID)
	}
	ends = begun.Add(time.Duration(secret.LeaseDuration) * time.Second)
	if secret.LeaseDuration == 0 || !s.ends.IsZero() && s.ends.Before(ends) {
		ends = s.ends
	}
	s.mu.Unlock()
	got := fields(secret.Data)
	if of := got.text("account"); of != account.Name {
		return ends, fmt.Errorf("the role %q leases keys of account %q, and one of account %q is needed: write a role for it, and see "+
			"VAULT_CREDS_ROLE",
			role, of, account.Name)
	}
	account.AccessKey, account.SecretKey = got.text("access_key"), provider.Secret(got.text("secret_key"))
	account.SecurityToken = provider.Secret(got.text("security_token"))
	return ends, nil
}

// loginFor logs in anew where the token would end before a lease of ttl, and take it along. One
// that lasts as long as its role allows from the start is not made longer by another.
func (s *Session) loginFor(ctx context.Context, ttl time.Duration) {
	s.mu.Lock()
	old := !s.ends.IsZero() && time.Until(s.ends) < ttl && time.Since(s.began) > time.Minute
	used := s.client.Token()
	s.mu.Unlock()
	if old {
		s.renew(ctx, used)
	}
}

// Keys implements fleet.Ledger.
func (s *Session) Keys(ctx context.Context, account, user string) ([]fleet.LedgerKey, error) {
	var all []fleet.LedgerKey
	for page, err := range s.pages(ctx, "keys", map[string][]string{"account": {account}, "user": {user}}) {
		if err != nil {
			return nil, err
		}
		for _, id := range page.keys {
			key, err := page.info[id].ledgerKey(id)
			if err != nil {
				return nil, err
			}
			all = append(all, key)
		}
	}
	return all, nil
}

// Key implements fleet.Ledger.
func (s *Session) Key(ctx context.Context, accessKey string) (*fleet.LedgerKey, error) {
	path := s.config.Engine + "/keys/" + accessKey
	secret, err := s.do(ctx, "reading "+path, func() (*api.Secret, error) { return s.client.Logical().ReadWithContext(ctx, path) })
	if err != nil || secret == nil {
		return nil, err
	}
	key, err := fields(secret.Data).ledgerKey(accessKey)
	return &key, err
}

// Empty implements fleet.Ledger.
func (s *Session) Empty(ctx context.Context, account string) (bool, error) {
	page, err := s.list(ctx, "keys", map[string][]string{"account": {account}, "limit": {"1"}})
	return len(page.keys) == 0, err
}

func (f fields) ledgerKey(id string) (fleet.LedgerKey, error) {
	expires, err := time.Parse(time.RFC3339, f.text("expiration"))
	if err != nil && f.text("expiration") != "" {
		return fleet.LedgerKey{}, fmt.Errorf("the ledger's entry of access key %s has the expiration date %q",
			fleet.Mask(id), f.text("expiration"))
	}
	return fleet.LedgerKey{AccessKey: id, Kind: f.text("kind"), User: f.text("user_name"), Role: f.text("role"), Expires: expires}, nil
}

// pages lists a path of the engine, a page at a time.
func (s *Session) pages(ctx context.Context, path string, query map[string][]string) iter.Seq2[listing, error] {
	return func(yield func(listing, error) bool) {
		asked := map[string][]string{"limit": {strconv.Itoa(pageSize)}}
		maps.Copy(asked, query)
		for {
			page, err := s.list(ctx, path, asked)
			if !yield(page, err) || err != nil || len(page.keys) < pageSize {
				return
			}
			asked["after"] = []string{page.keys[len(page.keys)-1]}
		}
	}
}

// listing is the answer to a list.
type listing struct {
	keys []string
	info map[string]fields
}

// list lists a path of the engine. Nothing there is an empty list, which Vault answers with
// 404: whoever cannot believe it must say so.
func (s *Session) list(ctx context.Context, path string, query map[string][]string) (listing, error) {
	full := s.config.Engine + "/" + path
	if query == nil {
		query = map[string][]string{}
	}
	query["list"] = []string{"true"}
	secret, err := s.do(ctx, "listing "+full, func() (*api.Secret, error) {
		return s.client.Logical().ReadWithDataWithContext(ctx, full, query)
	})
	if err != nil || secret == nil {
		return listing{}, err
	}
	got := listing{keys: fields(secret.Data).texts("keys"), info: map[string]fields{}}
	infos, _ := secret.Data["key_info"].(map[string]any)
	for key, info := range infos {
		entry, _ := info.(map[string]any)
		got.info[key] = entry
	}
	return got, nil
}

// read reads a path of the engine that must be there.
func (s *Session) read(ctx context.Context, path string, query map[string][]string) (fields, error) {
	secret, err := s.get(ctx, path, query)
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}

func (s *Session) get(ctx context.Context, path string, query map[string][]string) (*api.Secret, error) {
	full := s.config.Engine + "/" + path
	secret, err := s.do(ctx, "reading "+full, func() (*api.Secret, error) {
		ctx := ctx
		if s.config.Auth == AuthToken && isLease(ctx) { // the lease outlives the session; others end with their token
			longer, cancel := awaiting(ctx, answerTimeout)
			defer cancel()
			ctx = longer
		}
		return s.client.Logical().ReadWithDataWithContext(ctx, full, query)
	})
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, empty("reading "+full, "nothing is there: see VAULT_ENGINE and VAULT_CREDS_ROLE")
	}
	return secret, nil
}

// fields are the data of an answer. What is missing or of another type reads as zero.
type fields map[string]any

func (f fields) text(name string) string {
	text, _ := f[name].(string)
	return text
}

func (f fields) texts(name string) []string {
	var texts []string
	list, _ := f[name].([]any)
	for _, entry := range list {
		if text, ok := entry.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}

func (f fields) number(name string) float64 {
	number, _ := f[name].(json.Number)
	value, err := number.Float64()
	if err != nil {
		return 0
	}
	return value
}

func (f fields) seconds(name string) time.Duration {
	return time.Duration(f.number(name)) * time.Second
}
