// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloud

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/policysync"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/vault"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

const (
	// environmentAccount names the account of the environment, which no Vault names.
	environmentAccount = "environment"

	// longestRun is the most that Lambda gives a function, and leaseMargin what a lease
	// outlives the run by: a key must not end between deactivating and deleting another.
	longestRun  = 15 * time.Minute
	leaseMargin = time.Minute

	// settling is what Huawei Cloud gets to know a new key everywhere, as the secrets engine
	// gives it. There is no second wait: each try makes two calls, and five refused ones in a
	// row lock the key for five minutes (APIGW.0301).
	settling = 10 * time.Second
)

// Access is the accounts of one run, and the way to them. It must be closed.
type Access struct {
	session   *vault.Session // nil: there is no Vault
	accounts  []vault.Account
	alone     Account // where there is no Vault
	userAgent string
}

// OpenAccess logs in to Vault where VAULT_ADDR names one and asks for its accounts, or
// takes the one account that the environment has. wanted are names of accounts; empty: all.
func OpenAccess(ctx context.Context, getenv func(string) string, wanted []string, userAgent string, log *slog.Logger) (*Access, error) {
	config, hasVault, err := vault.ReadConfig(getenv)
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	a := &Access{userAgent: userAgent}
	if !hasVault {
		if a.alone, err = FromEnvironment(getenv); err != nil {
			return nil, &settings.SettingsRefusedError{Err: err}
		}
		return a, nil
	}
	if a.session, err = vault.Open(ctx, config, log); err != nil {
		return nil, err
	}
	if a.accounts, err = a.session.Accounts(ctx, wanted); err != nil {
		a.close(ctx, log)
		return nil, err
	}
	return a, nil
}

// AccountNames returns the names of Vault's accounts, or of the environment's one.
func AccountNames(ctx context.Context, getenv func(string) string, userAgent string, log *slog.Logger) ([]string, error) {
	config, hasVault, err := vault.ReadConfig(getenv)
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	if !hasVault {
		return []string{environmentAccount}, nil
	}
	a := &Access{userAgent: userAgent}
	if a.session, err = vault.Open(ctx, config, log); err != nil {
		return nil, err
	}
	defer a.close(ctx, log)
	return a.session.AccountNames(ctx)
}

func (a *Access) close(ctx context.Context, log *slog.Logger) {
	if err := a.Close(ctx); err != nil {
		log.WarnContext(ctx, "the function's token could not be revoked: it ends by itself at its TTL", "problem", err.Error())
	}
}

// Close gives back what was taken from Vault, keys included, even where ctx is cancelled.
func (a *Access) Close(ctx context.Context) error {
	if a.session == nil {
		return nil
	}
	return a.session.Close(ctx)
}

// Ledger is Vault's; nil without Vault.
func (a *Access) Ledger() sweep.Ledger {
	if a.session == nil {
		return nil
	}
	return a.session
}

// Vault is what a policy sync changes; nil without Vault.
func (a *Access) Vault() policysync.Vault {
	if a.session == nil {
		return nil
	}
	return a.session
}

// Accounts are those of the run, as a sweep needs them.
func (a *Access) Accounts() []sweep.Account {
	if a.session == nil {
		return []sweep.Account{{Name: environmentAccount, Provider: a.alone.Provider, Region: a.alone.Region, Instance: a.alone.Instance}}
	}
	accounts := make([]sweep.Account, 0, len(a.accounts))
	for _, account := range a.accounts {
		accounts = append(accounts, described(account))
	}
	return accounts
}

// PolicyAccounts are those of the run, as a policy sync needs them.
func (a *Access) PolicyAccounts(ctx context.Context) ([]policysync.Account, error) {
	if a.session == nil {
		return []policysync.Account{{Account: a.Accounts()[0]}}, nil
	}
	longest, err := a.session.LongestKeys(ctx, a.accounts)
	if err != nil {
		return nil, err
	}
	accounts := make([]policysync.Account, 0, len(a.accounts))
	for _, account := range a.accounts {
		accounts = append(accounts, policysync.Account{
			Account: described(account), LongestKey: longest[account.Name], Slack: account.Slack(),
		})
	}
	return accounts, nil
}

func described(a vault.Account) sweep.Account {
	return sweep.Account{
		Name: a.Name, Provider: a.Provider, Region: a.Region, AccountID: a.AccountID, EngineKeys: a.EngineKeys, Instance: a.Instance,
	}
}

// Connect opens an account with a key of its own, which ends with the access. The returned
// function gives back its connections.
func (a *Access) Connect(ctx context.Context, name string) (Client, func(), error) {
	account, err := a.with(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	account.UserAgent = a.userAgent
	client, err := Open(account)
	if err != nil {
		return nil, nil, fmt.Errorf("account %q: %w", name, err)
	}
	if a.session != nil && account.Provider == clouds.Huawei && account.Token == "" && !knows(ctx, client) {
		client.Close() // after a refusal it would hold its calls back for minutes
		wait(ctx, settling)
		if client, err = Open(account); err != nil {
			return nil, nil, fmt.Errorf("account %q: %w", name, err)
		}
	}
	return client, client.Close, nil
}

// knows tells whether the cloud knows the key that Vault made just now. What else is wrong
// with the key its first use will say.
func knows(ctx context.Context, client provider.Caller) bool {
	_, err := client.OwnKey(ctx)
	kind := provider.KindOf(err)
	return kind != provider.KindNotFound && kind != provider.KindKeyUnclear
}

func wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// with finds an account and takes a key of it.
func (a *Access) with(ctx context.Context, name string) (Account, error) {
	if a.session == nil {
		return a.alone, nil
	}
	for _, account := range a.accounts {
		if account.Name != name {
			continue
		}
		if account.ClientCert != "" {
			return Account{}, fmt.Errorf("account %q demands a client certificate, whose key Vault does not give out: allow the function's network in the account's API access rules", name)
		}
		key, err := a.session.Lease(ctx, name, leaseFor(ctx, account.Provider))
		if err != nil {
			return Account{}, err
		}
		return Account{
			Provider: account.Provider, Region: account.Region, Endpoint: account.Endpoint, CACert: account.CACert,
			DomainID:  account.DomainID,
			Signature: account.Signature,
			AccessKey: key.AccessKey, Secret: key.Secret, Token: key.Token,
			PerSecond: account.PerSecond, Timeout: account.Timeout, MaxRetries: account.MaxRetries,
		}, nil
	}
	return Account{}, fmt.Errorf("there is no account %q", name)
}

// leaseFor is how long a key is needed, or longer: the role may lease sessions, which Huawei
// Cloud makes no shorter, and the engine refuses to lease a shorter one.
func leaseFor(ctx context.Context, cloud string) time.Duration {
	need := longestRun + leaseMargin
	if deadline, ok := ctx.Deadline(); ok {
		need = max(time.Until(deadline), 0) + leaseMargin
	}
	if cloud == clouds.Huawei {
		return max(need, clouds.MinSession)
	}
	return need
}
