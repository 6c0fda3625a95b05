// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package cloud opens cloud accounts for the functions: with a short-lived key from Vault,
// or with what the environment has.
package cloud

import (
	"cmp"
	"fmt"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/sweep"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/huawei"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider/outscale"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// The pace of an account whose configuration names none, as the secrets engine's.
const (
	defaultPerSecond = 5
	defaultTimeout   = 15 * time.Second
	defaultRetries   = 3
)

// Huawei Cloud tells when a key was last used, which the sweep finds out by itself.
var _ sweep.Usage = (*huawei.Client)(nil)

// Account is what it takes to call a cloud account.
type Account struct {
	Provider   string
	Region     string
	Endpoint   string // empty: the region's public one
	CACert     string // PEM
	DomainID   string // what Huawei Cloud calls the account's id; empty: it is looked up
	Signature  string // of Huawei Cloud: "sdk", "otc" for clouds of the OTC family, or empty for sdk
	AccessKey  string
	Secret     provider.Secret
	Token      provider.Secret // of temporary keys
	PerSecond  float64         // 0: as the secrets engine
	Timeout    time.Duration   // of one attempt; 0: as the secrets engine
	MaxRetries int
	UserAgent  string
	Instance   string // of the secrets engine, where there is no Vault to tell it; empty: no key is the engine's
}

// Client is what the functions need of a cloud account.
type Client interface {
	provider.Cloud
	provider.Stages
	Close()
}

// Open returns a client of the account. It makes no call.
func Open(a Account) (Client, error) {
	switch a.Provider {
	case outscale.Name:
		client, err := outscale.New(outscale.Config{
			AccessKey: a.AccessKey, SecretKey: a.Secret, Region: a.Region, Endpoint: a.Endpoint,
			TLS: transport.TLS{CACert: a.CACert}, UserAgent: a.UserAgent,
			Timeout: cmp.Or(a.Timeout, defaultTimeout), MaxRetries: a.MaxRetries, PerSecond: cmp.Or(a.PerSecond, defaultPerSecond),
		})
		if err != nil {
			return nil, err
		}
		return client, nil
	case huawei.Name:
		dialect, err := dialectOf(a.Signature)
		if err != nil {
			return nil, err
		}
		client, err := huawei.New(huawei.Config{
			AccessKey: a.AccessKey, SecretKey: a.Secret, SecurityToken: a.Token, Region: a.Region, Endpoint: a.Endpoint, DomainID: a.DomainID, Dialect: dialect,
			TLS: transport.TLS{CACert: a.CACert}, UserAgent: a.UserAgent,
			Timeout: cmp.Or(a.Timeout, defaultTimeout), MaxRetries: a.MaxRetries, PerSecond: cmp.Or(a.PerSecond, defaultPerSecond),
		})
		if err != nil {
			return nil, err
		}
		return client, nil
	default:
		return nil, fmt.Errorf("the provider %q is not known to this function", a.Provider)
	}
}

// dialectOf is the way to sign that the secrets engine's field "signature" names.
func dialectOf(signature string) (huawei.Dialect, error) {
	switch signature {
	case "", "sdk":
		return huawei.DialectAccess, nil
	case "otc":
		return huawei.DialectCredential, nil
	default:
		return "", fmt.Errorf("the signature %q is not known to this function: it must be sdk, or otc for a cloud of the OTC family", signature)
	}
}
