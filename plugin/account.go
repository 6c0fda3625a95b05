// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/transport"
)

const (
	configPrefix = "config/"

	// Below the least no request would end within its budget.
	minRequestsPerSecond = 0.1
	maxRequestsPerSecond = 10000
)

// accountConfig is one cloud account, as it stands in storage at config/<name>.
type accountConfig struct {
	Provider   string `json:"provider"`
	AccessKey  string `json:"access_key"`
	SecretKey  string `json:"secret_key"`
	Region     string `json:"region"`
	Endpoint   string `json:"endpoint"`
	DomainID   string `json:"domain_id,omitempty"` // as an operator gave it; AccountID is what the cloud says
	Signature  string `json:"signature,omitempty"` // empty: the cloud's usual way to sign
	CACert     string `json:"ca_cert"`
	ClientCert string `json:"client_cert"`
	ClientKey  string `json:"client_key"`

	TTL         time.Duration `json:"ttl"`
	MaxTTL      time.Duration `json:"max_ttl"`
	ExpiryGrace time.Duration `json:"expiry_grace"`

	MaxRequestsPerSecond float64       `json:"max_requests_per_second"`
	RequestTimeout       time.Duration `json:"request_timeout"`
	MaxRetries           int           `json:"max_retries"`

	AllowRootIdentity bool   `json:"allow_root_identity"`
	UsernameTemplate  string `json:"username_template"` // empty: the default

	// What the cloud said of the key. AccountID is empty where the key was stored
	// without verification.
	AccountID  string            `json:"account_id"`
	Identity   provider.Identity `json:"identity"`
	KeyCreated time.Time         `json:"key_created"`
	KeyExpires time.Time         `json:"key_expires"`

	// The engine's own key rotates.
	RotationPeriod time.Duration `json:"rotation_period"`
	KeyLabel       string        `json:"key_label"`          // of a key that the engine made; empty: an operator gave it
	Previous       []previousKey `json:"previous,omitempty"` // replaced, still to be deleted
	Retired        []string      `json:"retired,omitempty"`  // ids of the last keys replaced by rotation, newest last
	Given          []string      `json:"given,omitempty"`    // ids of all of them that an operator gave, kept for ever

	Deleting    bool   `json:"deleting,omitempty"`     // see deleteAccount
	DeletingKey string `json:"deleting_key,omitempty"` // the current key, once its delete may have been sent

	signIn *signIn // in place of a key, until one is made; never stored
	force  bool    // of the write, see mindSecondaries; never stored
}

// newAccountConfig has the defaults.
func newAccountConfig() *accountConfig {
	return &accountConfig{
		ExpiryGrace:          lifetime.DefaultExpiryGrace,
		MaxRequestsPerSecond: clouds.DefaultPerSecond,
		RequestTimeout:       clouds.DefaultTimeout,
		MaxRetries:           clouds.DefaultMaxRetries,
	}
}

// validate refuses what could not work, one clear sentence each.
func (c *accountConfig) validate() error {
	cloud, err := clouds.Of(c.Provider)
	if err != nil {
		return asUserError(err)
	}
	switch {
	case c.signIn == nil && (c.AccessKey == "" || c.SecretKey == ""):
		return userError("access_key and secret_key are both needed%s", c.orSignIn())
	case c.MaxTTL > 0 && c.TTL > c.MaxTTL:
		return userError("ttl (%s) is longer than max_ttl (%s)", c.TTL, c.MaxTTL)
	case c.ExpiryGrace < lifetime.MinExpiryGrace:
		return userError("expiry_grace is %s, and %s is the least that covers a slow revocation", c.ExpiryGrace, lifetime.MinExpiryGrace)
	case c.RotationPeriod > 0 && c.RotationPeriod < lifetime.MinRotationPeriod || c.RotationPeriod > lifetime.MaxRotationPeriod:
		return userError("rotation_period is %s: give 0 for none, or from %s to %s (ten years)", c.RotationPeriod,
			lifetime.MinRotationPeriod, lifetime.MaxRotationPeriod)
	case !(c.MaxRequestsPerSecond >= minRequestsPerSecond && c.MaxRequestsPerSecond <= maxRequestsPerSecond): // so written that NaN is refused
		return userError("max_requests_per_second is %v: give a value from %v to %v", c.MaxRequestsPerSecond, minRequestsPerSecond,
			maxRequestsPerSecond)
	case c.RequestTimeout < time.Second || c.RequestTimeout > issueBudget:
		return userError("request_timeout is %s: give a value from 1s to %s, the time that a whole request has", c.RequestTimeout, issueBudget)
	case c.MaxRetries < 0 || c.MaxRetries > 10:
		return userError("max_retries is %d: give a value from 0 to 10", c.MaxRetries)
	}
	if err := cloud.CheckAccount(c.access()); err != nil {
		return asUserError(err)
	}
	return checkUsernameTemplate(cloud, c.usernameTemplate())
}

// cloud is what is known of the account's cloud; nothing of one that validate refuses.
func (c *accountConfig) cloud() clouds.Cloud {
	cloud, _ := clouds.Of(c.Provider)
	return cloud
}

// usernameTemplate makes the names of iam_user roles' users.
func (c *accountConfig) usernameTemplate() string {
	return cmp.Or(c.UsernameTemplate, defaultUsernameTemplate)
}

// access is what the cloud's client is made of.
func (c *accountConfig) access() provider.Config {
	config := provider.Config{
		Provider: c.Provider, AccessKey: c.AccessKey, SecretKey: provider.Secret(c.SecretKey), KeyExpires: c.KeyExpires,
		Region: c.Region, Endpoint: c.Endpoint, DomainID: c.domainID(), Signature: c.Signature,
		TLS:     provider.TLS{CACert: c.CACert, ClientCert: c.ClientCert, ClientKey: c.ClientKey},
		Timeout: c.RequestTimeout, MaxRetries: c.MaxRetries, PerSecond: c.MaxRequestsPerSecond,
	}
	if c.signIn != nil {
		config.AccessKey, config.SecretKey = "", ""
		config.Login, config.Password = c.signIn.login, c.signIn.password
	}
	return config
}

// domainID is the account's id, as given or as the cloud has told it, where requests name it.
func (c *accountConfig) domainID() string {
	if c.cloud().NamesAccount {
		return cmp.Or(c.DomainID, c.AccountID)
	}
	return c.DomainID
}

// signature is how requests are signed; empty where the cloud knows one way alone.
func (c *accountConfig) signature() string {
	if usual := c.cloud().Signature; usual != "" {
		return cmp.Or(c.Signature, usual)
	}
	return ""
}

// orSignIn is the other way to a key, where the cloud has one.
func (c *accountConfig) orSignIn() string {
	if !c.signsIn() {
		return ""
	}
	return ", or login and password with which the engine makes itself a key"
}

// nextRotation is when the key is replaced by itself; zero: never.
func (c *accountConfig) nextRotation() time.Time {
	return lifetime.NextRotation(c.KeyCreated, c.KeyExpires, c.RotationPeriod)
}

// ownKeys are the ids of the engine's own keys, which no clean-up may delete.
func (c *accountConfig) ownKeys() []string {
	return append([]string{c.AccessKey}, idsOf(c.Previous)...)
}

// ownKeysHere are those of them that take slots of the present key's identity, the present key first.
func (c *accountConfig) ownKeysHere() []string {
	return append([]string{c.AccessKey}, idsOf(c.previousHere())...)
}

// sameTarget tells whether two configurations speak to the same place with the
// same key, so that what the cloud said of one holds for the other.
func (c *accountConfig) sameTarget(other *accountConfig) bool {
	return c.AccessKey == other.AccessKey && c.Region == other.Region && c.Endpoint == other.Endpoint && c.DomainID == other.DomainID &&
		c.signature() == other.signature()
}

// wasReplaced tells whether rotation has put another key in the place of one.
func (c *accountConfig) wasReplaced(id string) bool {
	return slices.Contains(c.Retired, id) || slices.Contains(c.Given, id)
}

// isOf tells whether a configuration is of the cloud account of another that was identified.
// One without an account id, a performance secondary's whose primary did not verify it, is if
// it has the same key.
func (c *accountConfig) isOf(identified *accountConfig) bool {
	return c.AccountID == identified.AccountID || c.AccountID == "" && c.sameTarget(identified)
}

// account is a configured cloud account with the client that speaks to it.
type account struct {
	name   string
	config *accountConfig
	kind   clouds.Cloud // what is known of the cloud before it is called
	cloud  provider.Cloud

	users *userList

	tending sync.Mutex // held by the tick that tends the account
	next    nextLooks  // that tick's alone

	holdStored atomic.Bool // whether its hold stands in storage
}

// ref names an entry's key to the cloud. A key of the engine's own identity is named by that, where
// the engine's key is another's by now; one of the account's owner nobody else can delete.
func (a *account) ref(e *ledger.Entry) (provider.KeyRef, error) {
	ref := e.Ref()
	if e.User != "" {
		ref.UserIDCertain = ref.UserIDCertain || a.users != nil && a.users.certain(e)
		return ref, nil
	}
	switch own := e.Identity; {
	case own.Kind == "" || own.Kind == provider.IdentityUnknown || a.config.Identity.Kind == provider.IdentityUnknown ||
		own.Same(a.config.Identity):
	case own.Kind == provider.IdentityUser:
		ref.User, ref.UserID, ref.UserIDCertain = own.User, own.UserID, own.UserID != ""
	default:
		return ref, fmt.Errorf("access key %s is of the engine's own identity at its create (%s), and the key of account %q belongs "+
			"to another now (%s), which cannot delete it: write a key of the former to config/%s", cmp.Or(e.AccessKey, e.Label),
			identityOf(own), a.name, identityOf(a.config.Identity), a.name)
	}
	return ref, nil
}

// identityOf names an identity in a sentence.
func identityOf(i provider.Identity) string {
	switch i.Kind {
	case provider.IdentityUser:
		return fmt.Sprintf("user %q", i.User)
	case provider.IdentityRoot:
		return "the account's root user"
	default:
		return "a user that the cloud does not name"
	}
}

// sameIdentity tells whether two configurations have keys of the same identity. Where the cloud
// does not say whose they are, only the same key is, or one that rotation has put in its place.
func (c *accountConfig) sameIdentity(other *accountConfig) bool {
	if c.Identity.Kind != provider.IdentityUnknown && other.Identity.Kind != provider.IdentityUnknown {
		return c.Identity.Same(other.Identity)
	}
	return c.AccessKey == other.AccessKey || other.wasReplaced(c.AccessKey)
}

// warnings tell the operator what will surprise them later.
func (a *account) warnings(view *policyView) []string {
	config := a.config
	var warnings []string
	if view.None && config.MaxTTL == 0 {
		warnings = append(warnings, fmt.Sprintf("%s sets no limit to the life of access keys, and ends none by itself: set max_ttl, "+
			"which bounds every lease of the account", a.kind.Title))
	}
	if !config.KeyExpires.IsZero() {
		next := config.nextRotation()
		warnings = append(warnings, fmt.Sprintf("the engine's own access key expires at %s. It is rotated automatically from %s on: "+
			"Vault must not be down or sealed for as long as %s", showTime(config.KeyExpires), showTime(next),
			config.KeyExpires.Sub(next).Round(time.Second)))
	}
	if config.Identity.Kind == provider.IdentityUnknown {
		warnings = append(warnings, "the engine has not found out yet which user its key belongs to, and goes on looking: "+
			"until then each role's users are checked when the role is written. check/"+a.name+" says what helps")
	}
	if config.AllowRootIdentity {
		warnings = append(warnings, "allow_root_identity: a lease on the engine's own identity can extend itself and delete the engine's key")
	}
	if view.Problem != "" {
		warnings = append(warnings, "the account's access policy is unknown: "+view.Problem)
	}
	if view != nil && view.unbounded() {
		warnings = append(warnings, unboundedPolicy)
	}
	return warnings
}

// unboundedPolicy tells of a policy of 0.
const unboundedPolicy = "the cloud account's access policy sets no longest life for access keys (MaxAccessKeyExpirationSeconds is 0): " +
	"nothing but max_ttl here bounds a lease, and keys made elsewhere may live for ever"

// A key's date means two things. OUTSCALE refuses the key from then on, whatever becomes of
// Vault. Huawei Cloud knows no such date: it stands in the key's description, moves with the
// lease, and only tells from when on the key should be gone. What follows from that for the
// engine is decided here, and nowhere else.

// reapRetryLive is the longest pause before the reaper tries again to delete a key that works
// until it is deleted.
const reapRetryLive = 5 * time.Minute

// endsKeys tells whether the cloud itself ends a key at its date.
func (a *account) endsKeys() bool { return a.cloud.ExpiresKeys() }

// retryReap is the pause after so many failures to remove a key that has expired.
func (a *account) retryReap(failures int) time.Duration {
	longest := lifetime.LongestPause
	if !a.endsKeys() {
		longest = reapRetryLive
	}
	return lifetime.Backoff(2*time.Minute, longest, failures)
}

// lastingEnd is the date of a key that is replaced on time, the engine's own or a static
// role's: none where the cloud would not end it. Whoever enforced such a date in the cloud's
// place would lock the engine or the application out.
func (a *account) lastingEnd(date time.Time) time.Time {
	if !a.endsKeys() {
		return time.Time{}
	}
	return date
}

// worksUntil says how long a key that could not be removed may still be used.
func (a *account) worksUntil(expires time.Time) string {
	if !a.endsKeys() || expires.IsZero() {
		return "works until it is deleted"
	}
	return fmt.Sprintf("may work until %s", showTime(expires))
}

// A date that the cloud judges is in the cloud's clock: that of a key which ends by it, in the ledger, in leases, and of the
// engine's own key. All other dates are in this machine's, and what is decided of a lease is decided in that: a
// key's date is moved by the skew when it is written, and compared with the cloud's time.

// tellSkew is the skew from which on people are told of it.
const tellSkew = time.Minute

// measuredSkew is how far the cloud's clock is ahead of this machine's, as its answers show.
func (a *account) measuredSkew() (skew time.Duration, known bool) {
	clock, ok := a.cloud.(provider.ClockSkew)
	if !ok {
		return 0, false
	}
	return clock.ClockSkew()
}

// skew is what dates that the cloud judges are moved by, in whole seconds; 0 where no answer has shown it, and where it is
// less than the margin that is kept anyway.
func (a *account) skew() time.Duration {
	skew, known := a.measuredSkew()
	if !known || skew.Abs() <= lifetime.ClockMargin || !a.endsKeys() {
		return 0
	}
	return skew.Round(time.Second)
}

// cloudNow is the time by the clock that the dates of keys are in.
func (a *account) cloudNow() time.Time { return time.Now().Add(a.skew()) }

// isDead tells whether a key has ended by its date, so that its removal can wait. While nobody knows the
// cloud's time no date proves that.
func (a *account) isDead(expires time.Time) bool {
	_, known := a.measuredSkew()
	return known && a.endsKeys() && time.Now().After(lifetime.EndedAt(expires, a.skew()))
}

// hasEnded tells that the cloud has ended a key at the date that stands on it.
func (a *account) hasEnded(key provider.Key) bool { return !key.End().IsZero() && a.isDead(key.End()) }

// skewMoved tells that dates were written by another skew than the one that is known now, as that of a process's first key is.
func (a *account) skewMoved(from time.Duration) bool {
	return (a.skew() - from).Abs() > lifetime.ClockMargin
}

// correctDate moves a key that was just made to the date that it should have, where its create was the first
// answer to show the skew. The entry is still begun, so that a crash here leaves a key that the next tick deletes.
func (i issuance) correctDate(ctx context.Context, key *recordedKey) error {
	e := key.entry
	if e.Expires.IsZero() || !i.account.skewMoved(e.Skew) {
		return nil
	}
	skew := i.account.skew()
	e.Expires, e.Skew = e.Expires.Add(skew-e.Skew), skew
	ref, err := i.account.ref(e)
	if err == nil {
		err = i.account.cloud.MoveExpiry(ctx, ref)
	}
	if err != nil {
		return fmt.Errorf("moving the expiration date of the new access key %s to what it should be by the cloud's clock: %w", key.ID, err)
	}
	key.Expires = e.Expires
	return nil
}

// clockWarning tells of a skew that somebody should see to; empty: there is none.
func (a *account) clockWarning() string {
	skew, known := a.measuredSkew()
	if !known || skew.Abs() <= tellSkew {
		return ""
	}
	return sayClock(skew) + ": the dates of keys allow for it, and signatures are refused from " + transport.MaxSkew.String() +
		" on. Set it by NTP"
}

// sayClock says on which side of the cloud's this machine's clock is.
func sayClock(skew time.Duration) string {
	side := "behind"
	if skew < 0 {
		side = "ahead of"
	}
	return fmt.Sprintf("this machine's clock is %s %s the cloud's", skew.Abs().Round(time.Second), side)
}
