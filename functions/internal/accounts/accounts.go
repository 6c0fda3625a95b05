// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package accounts opens cloud accounts for the functions: with a short-lived key from Vault,
// or with what the environment has.
package accounts

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
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
)

// Access is the accounts of one run, and the way to them. It must be closed.
type Access struct {
	// Accounts are those of the run.
	Accounts []fleet.Account

	session   *vault.Session // nil: there is no Vault
	getenv    func(string) string
	userAgent string
	log       *slog.Logger
}

// Open logs in to Vault where VAULT_ADDR names one and asks for its accounts, or takes the one
// account that the environment has. wanted are names of accounts; empty: all.
func Open(ctx context.Context, getenv func(string) string, wanted []string, userAgent string, log *slog.Logger) (*Access, error) {
	a, err := open(ctx, getenv, userAgent, log)
	if err != nil || a.session == nil {
		return a, err
	}
	if a.Accounts, err = a.session.Accounts(ctx, wanted); err != nil {
		a.Close(ctx)
		return nil, err
	}
	return a, nil
}

// Names returns the names of Vault's accounts, or of the environment's one.
func Names(ctx context.Context, getenv func(string) string, userAgent string, log *slog.Logger) ([]string, error) {
	a, err := open(ctx, getenv, userAgent, log)
	if err != nil {
		return nil, err
	}
	if a.session == nil {
		return []string{environmentAccount}, nil
	}
	defer a.Close(ctx)
	return a.session.AccountNames(ctx)
}

func open(ctx context.Context, getenv func(string) string, userAgent string, log *slog.Logger) (*Access, error) {
	config, hasVault, err := vault.ReadConfig(getenv)
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	a := &Access{getenv: getenv, userAgent: userAgent, log: log}
	if hasVault {
		a.session, err = vault.Open(ctx, config, log)
		return a, err
	}
	account, err := FromEnvironment(getenv)
	if err != nil {
		return nil, &settings.SettingsRefusedError{Err: err}
	}
	a.Accounts = []fleet.Account{account}
	return a, nil
}

// Close gives back what was taken from Vault, keys included, even where ctx is cancelled.
func (a *Access) Close(ctx context.Context) {
	if a.session == nil {
		return
	}
	if err := a.session.Close(ctx); err != nil {
		a.log.WarnContext(ctx, "the function's token could not be revoked: it ends by itself at its TTL", "problem", err.Error())
	}
}

// AllEngineKeys are the access keys that Vault signs with on any account, those that the run does not look at too.
func (a *Access) AllEngineKeys(ctx context.Context) ([]string, error) {
	if a.session == nil {
		return nil, nil
	}
	return a.session.EngineKeys(ctx)
}

// EngineKeys opens Vault for AllEngineKeys alone.
func EngineKeys(ctx context.Context, getenv func(string) string, userAgent string, log *slog.Logger) ([]string, error) {
	a, err := open(ctx, getenv, userAgent, log)
	if err != nil {
		return nil, err
	}
	defer a.Close(ctx)
	return a.AllEngineKeys(ctx)
}

// Vault is the session; nil without Vault.
func (a *Access) Vault() *vault.Session { return a.session }

// FindLongestKeys asks Vault what the longest life of a key is on each account.
func (a *Access) FindLongestKeys(ctx context.Context) (err error) {
	for i := range a.Accounts {
		if a.session == nil {
			return nil
		}
		if a.Accounts[i].LongestKey, err = a.session.LongestKey(ctx, a.Accounts[i].Name); err != nil {
			return err
		}
	}
	return nil
}

// Connect implements fleet.Connect: it opens an account with keys of its own, which end with
// the access. The returned function gives back its connections.
func (a *Access) Connect(ctx context.Context, account fleet.Account) (fleet.Cloud, func(), error) {
	cloud, err := clouds.Of(account.Provider)
	if err != nil {
		return nil, nil, err
	}
	account.UserAgent = a.userAgent
	if err := a.certify(&account); err != nil {
		return nil, nil, err
	}
	l := &lasting{now: time.Now, take: func(ctx context.Context) (clouds.Client, time.Time, error) { return a.take(ctx, account, cloud) }}
	if err := l.begin(ctx); err != nil {
		return nil, nil, err
	}
	return l.asCloud(), l.Close, nil
}

// certify gives an account the function's own client certificate. Where the engine presents one,
// the account demands it, and Vault does not give out the key of the engine's.
func (a *Access) certify(account *fleet.Account) error {
	demanded := account.TLS.ClientCert != ""
	account.TLS.ClientCert, account.TLS.ClientKey = "", ""
	for variable, into := range map[string]*string{"CLIENT_CERT_FILE": &account.TLS.ClientCert, "CLIENT_KEY_FILE": &account.TLS.ClientKey} {
		path := a.getenv(variable)
		if path == "" && !demanded {
			continue
		}
		text, err := os.ReadFile(strings.ReplaceAll(path, "{account}", account.Name))
		if err != nil {
			return fmt.Errorf("account %q wants a client certificate of the function's own, since Vault does not give out the key of the "+
				"engine's: "+
				"CLIENT_CERT_FILE and CLIENT_KEY_FILE name its files ({account} stands for the account's name): %w", account.Name, err)
		}
		*into = string(text)
	}
	return nil
}

// take leases a key of an account, and waits until the cloud knows it. Without Vault it is the
// environment's, which does not end.
func (a *Access) take(ctx context.Context, account fleet.Account, cloud clouds.Cloud) (client clouds.Client, ends time.Time, err error) {
	fresh := a.session != nil
	if fresh {
		if ends, err = a.session.Lease(ctx, &account, leaseFor(ctx, cloud)); err != nil {
			return nil, ends, err
		}
		fresh = account.SecurityToken == ""
	}
	client, err = clouds.Open(account.Config)
	for _, pause := range cloud.Settling {
		if err != nil || !fresh || knows(ctx, client) {
			break
		}
		client.Close() // after a refusal it would hold its calls back for minutes
		wait(ctx, pause)
		client, err = clouds.Open(account.Config)
	}
	return client, ends, err
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

// leaseFor is how long a key is needed, or longer: the role may lease sessions, which are made
// no shorter, and the engine refuses to lease a shorter one.
func leaseFor(ctx context.Context, cloud clouds.Cloud) time.Duration {
	need := longestRun + leaseMargin
	if deadline, ok := ctx.Deadline(); ok {
		need = max(time.Until(deadline), 0) + leaseMargin
	}
	if slices.Contains(cloud.CredentialTypes, clouds.SessionToken) {
		return max(need, clouds.MinSession)
	}
	return need
}
