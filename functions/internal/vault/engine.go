// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// ledgerPage is how many keys one request to the ledger returns at most.
const ledgerPage = 1000

// accountPage is the same for the list of accounts.
const accountPage = 1000

// Account is a cloud account as the secrets engine has it, without its secrets.
type Account struct {
	Name        string
	Provider    string
	Region      string
	Endpoint    string
	CACert      string
	Signature   string // how calls are signed; empty: the cloud's usual way
	ClientCert  string
	AccountID   string
	DomainID    string // Huawei Cloud's, as configured or found out by the engine; empty on other clouds
	EngineKeys  []string
	Instance    string
	ExpiryGrace time.Duration
	MaxTTL      time.Duration
	Rotation    time.Duration
	PerSecond   float64
	Timeout     time.Duration
	MaxRetries  int
}

// Key is the short-lived key of the function itself.
type Key struct {
	AccessKey string
	Secret    provider.Secret
	Token     provider.Secret // of temporary keys
}

// AccountNames returns the names of the engine's accounts.
func (s *Session) AccountNames(ctx context.Context) ([]string, error) {
	var names []string
	query := map[string][]string{"limit": {strconv.Itoa(accountPage)}}
	for {
		page, err := s.list(ctx, "config", query)
		if err != nil {
			return nil, err
		}
		names = append(names, page.keys...)
		if len(page.keys) < accountPage {
			break
		}
		query["after"] = []string{page.keys[len(page.keys)-1]}
	}
	if len(names) == 0 {
		return nil, empty("listing the accounts of "+s.config.Engine, "the secrets engine has none: write its config first, or see VAULT_ENGINE")
	}
	return names, nil
}

// Accounts returns the accounts of the secrets engine, or those of the wanted ones that
// exist. Wanted ones are read without a list: each of 10,000 messages asks for one.
func (s *Session) Accounts(ctx context.Context, wanted []string) ([]Account, error) {
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
	var accounts []Account
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
		account.Instance = info.text("instance_id")
		accounts = append(accounts, account)
	}
	return accounts, nil
}

func (f fields) account(name string) (Account, error) {
	a := Account{
		Name: name, Provider: f.text("provider"), Region: f.text("region"), Endpoint: f.text("endpoint"),
		CACert: f.text("ca_cert"), ClientCert: f.text("client_cert"), AccountID: f.text("account_id"), DomainID: f.text("domain_id"), Signature: f.text("signature"),
		EngineKeys:  append([]string{f.text("access_key")}, f.texts("previous_access_keys")...),
		ExpiryGrace: f.seconds("expiry_grace"), MaxTTL: f.seconds("max_ttl"), Rotation: f.seconds("rotation_period"),
		PerSecond: f.number("max_requests_per_second"), Timeout: f.seconds("request_timeout"), MaxRetries: int(f.number("max_retries")),
	}
	if a.Provider == "" || a.EngineKeys[0] == "" {
		return Account{}, fmt.Errorf("the answer lacks the provider or the engine's own access key: is this mount a cloudkeys engine?")
	}
	return a, nil
}

// Lease takes a key for the function itself. It ends with the session, and by itself a
// little after ttl.
func (s *Session) Lease(ctx context.Context, account string, ttl time.Duration) (Key, error) {
	role := s.config.roleOf(account)
	path := "creds/" + role
	secret, err := s.get(ctx, path, map[string][]string{"ttl": {strconv.Itoa(int(ttl / time.Second))}})
	if err != nil {
		return Key{}, err
	}
	if secret.LeaseID != "" && s.config.Auth == AuthToken {
		s.mu.Lock()
		s.leases = append(s.leases, secret.LeaseID)
		s.mu.Unlock()
	}
	got := fields(secret.Data)
	if of := got.text("account"); of != account {
		return Key{}, fmt.Errorf("the role %q leases keys of account %q, and one of account %q is needed: write a role for it, and see VAULT_CREDS_ROLE", role, of, account)
	}
	return Key{
		AccessKey: got.text("access_key"), Secret: provider.Secret(got.text("secret_key")),
		Token: provider.Secret(got.text("security_token")),
	}, nil
}

// Keys implements sweep.Ledger.
func (s *Session) Keys(ctx context.Context, account, user string) ([]sweep.LedgerKey, error) {
	query := map[string][]string{"account": {account}, "limit": {strconv.Itoa(ledgerPage)}}
	if user == "" {
		query["own_identity"] = []string{"true"}
	} else {
		query["user"] = []string{user}
	}
	var all []sweep.LedgerKey
	for {
		page, err := s.list(ctx, "keys", query)
		if err != nil {
			return nil, err
		}
		for _, id := range page.keys {
			entry := page.info[id]
			expires, err := time.Parse(time.RFC3339, entry.text("expiration"))
			if err != nil && entry.text("expiration") != "" {
				return nil, fmt.Errorf("the ledger's entry of access key %s has the date %q", sweep.Mask(id), entry.text("expiration"))
			}
			all = append(all, sweep.LedgerKey{
				AccessKey: id, Kind: entry.text("kind"), User: entry.text("user_name"), Role: entry.text("role"),
				Accessor: entry.text("accessor"), Expires: expires,
			})
		}
		if len(page.keys) < ledgerPage {
			return all, nil
		}
		query["after"] = []string{page.keys[len(page.keys)-1]}
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
