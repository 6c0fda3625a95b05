// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package outscale manages OUTSCALE access keys. What is sent and answered are the
// models of the official Go SDK; the calls are made without its client, which signs for
// a fixed region, neither retries, paces nor sets a deadline, and takes more time to
// write and read a call than all the rest of it does.
package outscale

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	osc "github.com/outscale/osc-sdk-go/v2"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// Name is the value of an account's "provider" field.
const Name = "outscale"

// keyQuota is how many access keys the root user or an EIM user can have
// (OUTSCALE user guide, "About access keys").
const keyQuota = 10

// Config is what it takes to call one account.
type Config = provider.Config

// Client calls one OUTSCALE account with one access key. It is safe for
// concurrent use.
type Client struct {
	http      *http.Client
	endpoint  string
	userAgent string
	base      http.RoundTripper
	accessKey string
	clock     *transport.Clock
	pacer     *transport.Pacer
	breaker   *transport.Breaker
	slots     transport.Slots
	perSecond float64 // the pacer's
	recent    *provider.Recent
	prover    *provider.Prover
	others    *sync.Map // the users, by id and name, that do not own the key that signs
	searched  *atomic.Pointer[identitySearch]
	clean     func(string) string // a Secret in an unexported field would be printed by %v
}

// The compiler holds the client to the interfaces that the engine and the functions use.
var (
	_ provider.Cloud            = (*Client)(nil)
	_ provider.PermissionProber = (*Client)(nil)
	_ provider.Holder           = (*Client)(nil)
	_ provider.ClockSkew        = (*Client)(nil)
	_ provider.Relabeler        = (*Client)(nil)
	_ provider.Stages           = (*Client)(nil)
	_ provider.PolicyWriter     = (*Client)(nil)
	_ provider.Directory        = (*Client)(nil)
)

// New returns a client. It makes no call.
func New(c Config) (*Client, error) {
	signer, err := signerOf(c)
	if err != nil {
		return nil, err
	}
	endpoint, err := Endpoint(c.Region, c.Endpoint)
	if err != nil {
		return nil, err
	}
	base := c.Base
	if base == nil {
		if base, err = transport.Base(c.TLS); err != nil {
			return nil, err
		}
	}

	clock, pacer, breaker, others := new(transport.Clock), transport.NewPacer(c.PerSecond), transport.NewBreaker(), new(sync.Map)
	searched, slots := new(atomic.Pointer[identitySearch]), transport.NewSlots(c.PerSecond)
	if before, ok := c.After.(*Client); ok {
		clock, breaker, others, searched = before.clock, before.breaker, before.others, before.searched
		slots = slots.After(before.slots)
		if before.perSecond == c.PerSecond {
			pacer = before.pacer
		}
	}
	breaker.EndsAt(c.KeyExpires, clock)
	calls := &http.Client{
		CheckRedirect: transport.NoRedirect,
		Transport: transport.New(transport.Options{
			Base:       base,
			Sign:       signer,
			Judge:      verdictOf,
			Retryable:  retryable,
			Pacer:      pacer,
			Breaker:    breaker,
			Timeout:    c.Timeout,
			MaxRetries: c.MaxRetries,
			Clock:      clock,
			Own:        own,
			Observe:    observe(c.Observe),
			Slots:      slots,
		}),
	}
	client := &Client{
		http: calls, endpoint: endpoint, userAgent: c.UserAgent + " " + osc.NewConfiguration().UserAgent, base: base,
		accessKey: c.AccessKey, clock: clock, pacer: pacer, breaker: breaker, slots: slots, perSecond: c.PerSecond,
		clean: provider.Cleaner(c.SecretKey, c.Password, c.Login), recent: new(provider.Recent), others: others,
		searched: searched,
	}
	client.prover = provider.NewProver(client, client.recent)
	return client, nil
}

// signerOf signs with the key, or with login and password.
func signerOf(c Config) (transport.Signer, error) {
	byLogin := c.Login != "" || c.Password != ""
	switch {
	case byLogin && (c.AccessKey != "" || c.SecretKey != ""):
		return nil, fmt.Errorf("either an access key or login and password sign a call, not both")
	case byLogin && (c.Login == "" || c.Password == ""):
		return nil, fmt.Errorf("login and password are both needed")
	case byLogin:
		return signBasic(c.Login, c.Password), nil
	case c.AccessKey == "" || c.SecretKey == "":
		return nil, fmt.Errorf("access_key and secret_key are both needed")
	default:
		return sign(c.AccessKey, c.SecretKey, c.Region), nil
	}
}

// Hold implements provider.Holder.
func (c *Client) Hold() (hold provider.Hold, held bool) { return c.breaker.Hold() }

// Resume implements provider.Holder.
func (c *Client) Resume(hold provider.Hold) { c.breaker.Resume(hold) }

// OnHold implements provider.Holder.
func (c *Client) OnHold(changed func()) { c.breaker.OnHold(changed) }

// KeyQuota implements provider.Cloud.
func (c *Client) KeyQuota() int { return keyQuota }

// ExpiresKeys is true: OUTSCALE refuses a key from its ExpirationDate on.
func (c *Client) ExpiresKeys() bool { return true }

// Close gives back idle connections.
func (c *Client) Close() {
	if t, ok := c.base.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}
