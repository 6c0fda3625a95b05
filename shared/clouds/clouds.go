// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package clouds is what is known of each cloud before it is called: its endpoints, limits,
// names and documents, and how its client is made. The secrets engine and the functions
// name no cloud besides. What a call can tell stands in provider.Cloud.
package clouds

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

// What a role can lease, as its field credential_type says it.
const (
	AccessKey    = "access_key"    // keys of users that exist
	IAMUser      = "iam_user"      // a user for each lease, with a key
	SessionToken = "session_token" // temporary keys, which end by themselves
)

// What an account gets whose configuration says nothing else.
const (
	DefaultPerSecond  = 5
	DefaultTimeout    = 15 * time.Second
	DefaultMaxRetries = 3
)

// Client is a cloud account as engine and functions call it.
type Client interface {
	provider.Cloud
	provider.Stages
	Close() // gives back idle connections
}

// Cloud is one cloud. Another one is a file beside outscale.go, and a line in All.
type Cloud struct {
	Name   string // value of an account's provider field
	Title  string // as it reads in a sentence
	Region string // default of an account; empty: it must be named

	// CredentialTypes are those that its roles can have.
	CredentialTypes []string

	// Signature is how requests are signed where an account names no other way; empty: there is one way.
	Signature string

	// NamesAccount tells whether requests name the account's id.
	NamesAccount bool

	// SignsIn tells whether a login can make the engine's own key.
	SignsIn bool

	// LeasesOwnIdentity tells whether access keys of the engine's own identity can be leased.
	LeasesOwnIdentity bool

	// Settling are the pauses before each new try of a key that was just made, where the cloud
	// does not know it everywhere at once. Never so many that refused tries lock the key.
	Settling []time.Duration

	// PolicyFiles have all permissions that the engine key needs, ready to be used.
	PolicyFiles string

	// FindsItself is what helps a key to find out whose it is.
	FindsItself string

	users        nameRule // of users that exist, and of those that are made
	open         func(provider.Config) (Client, error)
	signer       func(provider.Config) (transport.Signer, error)
	endpoint     func(region, endpoint string) (string, error)
	permission   func(operation string) string
	checkAccount func(provider.Config) error
	checkRole    func(Role) error
}

// Role is what a cloud must know of a role to say whether it can serve it.
type Role struct {
	CredentialType string
	UserNames      []string
	UserPath       string
	PolicyORNs     []string
	PolicyDocument string
	Groups         []string
	AgencyName     string
	SessionPolicy  string
}

// nameRule is what a cloud accepts as a name.
type nameRule struct {
	pattern *regexp.Regexp
	other   *regexp.Regexp // any character that is not allowed
	text    string
}

// All are the clouds that are known.
func All() []Cloud { return []Cloud{outscaleCloud(), huaweiCloud()} }

// Names are the values of an account's provider field.
func Names() []string {
	var names []string
	for _, c := range All() {
		names = append(names, c.Name)
	}
	return names
}

// Of finds a cloud by the account's provider field.
func Of(name string) (Cloud, error) {
	for _, c := range All() {
		if c.Name == name {
			return c, nil
		}
	}
	known := strings.Join(Names(), " or ")
	if name == "" {
		return Cloud{}, fmt.Errorf("provider is missing: set it to %s", known)
	}
	return Cloud{}, fmt.Errorf("unknown provider %q: set it to %s", name, known)
}

// SettlingTime is how long the tries of a new key may take in all.
func (c Cloud) SettlingTime() time.Duration {
	total := time.Duration(0)
	for _, pause := range c.Settling {
		total += pause
	}
	return total
}

// Endpoint is where an account is called: the endpoint as configured, or the region's own.
func (c Cloud) Endpoint(region, endpoint string) (string, error) { return c.endpoint(region, endpoint) }

// Permission is what must be permitted for a call, as the cloud's console names it.
func (c Cloud) Permission(operation string) string { return c.permission(operation) }

// Signer signs single requests with the key of a configuration, for those who call the API past a Client.
func (c Cloud) Signer(config provider.Config) (transport.Signer, error) { return c.signer(config) }

// CheckAccount refuses a configuration that the cloud's client could not be made of.
func (c Cloud) CheckAccount(config provider.Config) error {
	if err := c.checkAccount(config); err != nil {
		return err
	}
	if err := checkPEM(config.TLS); err != nil {
		return err
	}
	if _, err := c.endpoint(config.Region, config.Endpoint); err != nil {
		return err
	}
	_, err := transport.Base(config.TLS)
	return err
}

// CheckType refuses a credential_type that the cloud does not have.
func (c Cloud) CheckType(credentialType string) error {
	if !slices.Contains(c.CredentialTypes, credentialType) {
		return fmt.Errorf("credential_type=%s does not go with an account of %s, which has %s",
			credentialType, c.Title, strings.Join(c.CredentialTypes, " and "))
	}
	return nil
}

// CheckRole refuses at the write of a role what the cloud would refuse at every lease.
func (c Cloud) CheckRole(r Role) error {
	if err := c.CheckType(r.CredentialType); err != nil {
		return err
	}
	for _, user := range r.UserNames {
		if err := c.CheckUserName("user_names", user); err != nil {
			return err
		}
	}
	return c.checkRole(r)
}

// checkEach checks the values of a field, which may hold none twice.
func checkEach(field string, values []string, check func(string) error) error {
	for i, value := range values {
		if err := check(value); err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
		if slices.Contains(values[:i], value) {
			return fmt.Errorf("%s holds %q twice", field, value)
		}
	}
	return nil
}

// Open returns a client of an account. It makes no call.
func Open(config provider.Config) (Client, error) {
	c, err := Of(config.Provider)
	if err != nil {
		return nil, err
	}
	config.Timeout = cmp.Or(config.Timeout, DefaultTimeout)
	config.PerSecond = cmp.Or(config.PerSecond, DefaultPerSecond)
	return c.open(config)
}

// maxPools bounds the ways to trust and to present oneself that are in use at once.
const maxPools = 64

// Opener opens accounts, of which those that trust and present themselves alike share their
// connections. The accounts of a fleet call the same few endpoints: with a pool each, every
// one would begin with a handshake of its own, and thousands would lie idle after a look at
// all of them. Idle connections end by themselves (transport.Base).
type Opener struct {
	mu    sync.Mutex
	pools *simplelru.LRU[provider.TLS, *http.Transport]
}

// NewOpener returns an Opener without connections.
func NewOpener() *Opener {
	pools, _ := simplelru.NewLRU(maxPools, func(_ provider.TLS, pool *http.Transport) {
		pool.CloseIdleConnections()
	}) // fails for sizes below 1 alone
	return &Opener{pools: pools}
}

// Open returns a client of an account. It makes no call.
func (o *Opener) Open(config provider.Config) (Client, error) {
	pool, err := o.pool(config.TLS)
	if err != nil {
		return nil, err
	}
	config.Base = pool
	return Open(config)
}

func (o *Opener) pool(t provider.TLS) (*http.Transport, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if pool, ok := o.pools.Get(t); ok {
		return pool, nil
	}
	pool, err := transport.Base(t)
	if err != nil {
		return nil, err
	}
	o.pools.Add(t, pool)
	return pool, nil
}

// none refuses a field of another cloud's accounts.
func none(field, value, cloud string) error {
	if value == "" {
		return nil
	}
	return errors.New(field + " goes with an account of " + cloud + " alone: leave it out")
}
