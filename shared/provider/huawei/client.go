// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package huawei manages access keys of Huawei Cloud and its relatives through the
// v3.0 IAM API. The client is this package's own: the official Go SDK puts secret keys
// into error texts, knows no contexts, and takes redirects for success.
package huawei

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// Name is the value of an account's "provider" field.
const Name = "huawei"

// keyQuota is how many permanent access keys an IAM user can have. It cannot be raised
// (Huawei Cloud user guide, "Notes and Constraints").
const keyQuota = 2

// Config is what it takes to call one account.
type Config = provider.Config

// Client calls one Huawei Cloud account with one access key. It is safe for concurrent
// use.
type Client struct {
	http      *http.Client
	base      http.RoundTripper
	endpoint  string
	accessKey string
	temporary bool // the key is a session's
	userAgent string
	clock     *transport.Clock
	pacer     *transport.Pacer
	breaker   *transport.Breaker
	slots     transport.Slots
	perSecond float64             // the pacer's
	clean     func(string) string // a Secret in an unexported field would be printed by %v

	configuredDomain string
	domain           memo // the account's id, where it is not configured
	self             memo // the id of the user whose key signs
	names            names
	recent           *provider.Recent
	prover           *provider.Prover
}

// The compiler holds the client to the interfaces that the engine and the functions use.
var (
	_ provider.Cloud    = (*Client)(nil)
	_ provider.Stages   = (*Client)(nil)
	_ provider.Sessions = (*Client)(nil)

	_ provider.Relabeler = (*Client)(nil)
	_ provider.Holder    = (*Client)(nil)
	_ provider.ClockSkew = (*Client)(nil)

	_ provider.PermissionProber = (*Client)(nil)

	_ provider.Directory = (*Client)(nil)
)

// New returns a client. It makes no call.
func New(c Config) (*Client, error) {
	if c.AccessKey == "" || c.SecretKey == "" {
		return nil, errors.New("access_key and secret_key are both needed")
	}
	if c.DomainID != "" {
		if err := CheckDomainID(c.DomainID); err != nil { // the functions' own configuration has been through no other check
			return nil, fmt.Errorf("domain_id: %w", err)
		}
	}
	endpoint, err := Endpoint(c.Region, c.Endpoint)
	if err != nil {
		return nil, err
	}
	signer, err := sign(c)
	if err != nil {
		return nil, err
	}
	base := c.Base
	if base == nil {
		if base, err = transport.Base(c.TLS); err != nil {
			return nil, err
		}
	}
	clock, pacer, breaker := new(transport.Clock), transport.NewPacer(c.PerSecond), transport.NewBreaker()
	slots := transport.NewSlots(c.PerSecond)
	if before, ok := c.After.(*Client); ok {
		clock, breaker, slots = before.clock, before.breaker, slots.After(before.slots)
		if before.perSecond == c.PerSecond {
			pacer = before.pacer
		}
	}
	client := &Client{
		clock: clock, pacer: pacer, breaker: breaker, slots: slots, perSecond: c.PerSecond,
		http: &http.Client{
			CheckRedirect: transport.NoRedirect,
			Transport: transport.New(transport.Options{
				Base:       base,
				Sign:       signer,
				Judge:      verdictOf,
				Retryable:  retryable,
				Pacer:      pacer,
				Breaker:    breaker,
				Clock:      clock,
				Own:        own,
				Observe:    observe(c.Observe),
				Timeout:    c.Timeout,
				MaxRetries: c.MaxRetries,
				Slots:      slots,
			}),
		},
		base: base, endpoint: endpoint, accessKey: c.AccessKey, temporary: c.SecurityToken != "", userAgent: c.UserAgent,
		clean:            provider.Cleaner(c.SecretKey, c.SecurityToken),
		configuredDomain: c.DomainID, domain: newMemo(opListDomains), self: newMemo(opShowKey), recent: new(provider.Recent),
	}
	client.prover = provider.NewProver(client, client.recent)
	return client, nil
}

// Hold implements provider.Holder.
func (c *Client) Hold() (hold provider.Hold, held bool) { return c.breaker.Hold() }

// Resume implements provider.Holder.
func (c *Client) Resume(hold provider.Hold) { c.breaker.Resume(hold) }

// OnHold implements provider.Holder.
func (c *Client) OnHold(changed func()) { c.breaker.OnHold(changed) }

// KeyQuota implements provider.Cloud.
func (c *Client) KeyQuota() int { return keyQuota }

// ClockSkew implements provider.ClockSkew.
func (c *Client) ClockSkew() (skew time.Duration, known bool) { return c.clock.Skew() }

// ExpiresKeys is false: Huawei Cloud's permanent keys live until they are deleted.
func (c *Client) ExpiresKeys() bool { return false }

// Close gives back idle connections.
func (c *Client) Close() {
	if t, ok := c.base.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}
