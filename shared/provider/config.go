// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"net/http"
	"time"
)

// Config is what it takes to call one cloud account, whichever cloud it is in.
type Config struct {
	Provider string // the cloud's name, as in an account's field of that name

	AccessKey     string
	SecretKey     Secret
	SecurityToken Secret // goes with a temporary key; empty: the key is permanent (Huawei Cloud)

	KeyExpires time.Time // when the cloud ends the key, which is tried once more before that if it is refused; zero: never, or nobody knows

	// Login and Password are those of the account itself, in place of a key (OUTSCALE). Only
	// the calls on access keys, the access policy and its rules take them (the operations
	// with BasicAuth in OUTSCALE's API description).
	Login    Secret
	Password Secret

	Region    string
	Endpoint  string // empty: the region's public endpoint
	DomainID  string // the account's id, which Huawei Cloud wants to be told; empty: asked from the cloud at first need
	Signature string // how Huawei Cloud's requests are signed: "sdk", "otc" for clouds of the OTC family; empty: sdk

	TLS       TLS
	UserAgent string

	Timeout    time.Duration // of one attempt
	MaxRetries int
	PerSecond  float64 // calls a second

	// Observe is told the kind of error that each attempt of a call ended with, KindNone for a
	// success; nil: nobody wants to know. It must not block.
	Observe func(Kind)

	// After is the client of the same key before this one: what that knows of refusals, of the cloud's clock and of
	// throttling holds, and calls of it may be under way. nil: there is none.
	After any

	// Base sends, with TLS settings of its own; nil: one is made with TLS.
	Base http.RoundTripper
}

// TLS is the part of an account's configuration that decides whom it trusts and how it
// presents itself. All fields are PEM.
type TLS struct {
	CACert     string // instead of the system's authorities
	ClientCert string // OUTSCALE access rules can demand a client certificate
	ClientKey  string
}
