// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package cloud opens cloud accounts for the functions: with a short-lived key from Vault,
// or with what the environment has.
package cloud

import (
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

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
type Client = clouds.Client

// Open returns a client of the account. It makes no call.
func Open(a Account) (Client, error) {
	return clouds.Open(provider.Config{
		Provider: a.Provider, AccessKey: a.AccessKey, SecretKey: a.Secret, SecurityToken: a.Token,
		Region: a.Region, Endpoint: a.Endpoint, DomainID: a.DomainID, Signature: a.Signature,
		TLS: provider.TLS{CACert: a.CACert}, UserAgent: a.UserAgent,
		Timeout: a.Timeout, MaxRetries: a.MaxRetries, PerSecond: a.PerSecond,
	})
}
