// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package cloudsim is one region of the OUTSCALE API and Huawei Cloud's IAM in memory, for tests and demonstrations. It
// verifies signatures for real, keeps the clouds' awkward rules (OUTSCALE: INACTIVE before delete, expired keys that stay
// ACTIVE, lock-out after four failed authentications; Huawei: two keys a user, objects that are not found for a while after
// their creation, an access key locked for five minutes) and takes orders to fail. It shares no code with the clients it is
// used to test.
//
// One Cloud serves both clouds, on one listener: OUTSCALE under /api/v1/, its EIM endpoint (AWS's IAM protocol) at /,
// Huawei under /v3/ and /v3.0/. Files named huawei_*.go are Huawei's alone.
package cloudsim

import (
	"encoding/json"
	"slices"
	"sync"
	"time"
)

const (
	defaultRegion = "eu-west-2"
	defaultQuota  = 10 // keys an identity: ten for the root user, ten for each EIM user
)

// Cloud is one region of OUTSCALE, and Huawei's IAM, in memory. It is safe for concurrent use. Its clock is time.Now, so it
// obeys testing/synctest.
type Cloud struct {
	region string
	quota  int
	rules  Rules
	huawei HuaweiRules // guarded by mu: a test may change them while the cloud runs

	// mu guards everything below. It is never held while a fault delays a call or an observer runs: a goroutine that
	// waits for a mutex is not durably blocked, and a synctest bubble's clock would stand still.
	mu       sync.Mutex
	skew     time.Duration // of the cloud's clock before this machine's
	accounts map[string]*Account
	keys     map[string]*key
	deleted  map[string]*Account // deleted key id -> its account, whose lock-out a further use still feeds
	unknown  map[string]*lockout // key ids that never existed here
	domains  map[string]*Domain  // Huawei's accounts by id
	iamKeys  map[string]*iamKey
	sessions map[string]*iamSession // temporary keys
	akLocks  map[string]*akLock     // Huawei locks an access key, whether it exists or not
	secrets  []string
	orders   []*order
	lastID   int
	sequence int
	calls    []*Call
	onCall   []func(Call)
	onAnswer []func(Call)
}

// Rules are what is only assumed about the real cloud, as switches. The zero value is the documented or harsher behaviour.
type Rules struct {
	// DeleteActiveUserKeys lets an ACTIVE key of an EIM user be deleted at once, as OUTSCALE's cleaner frieza does. By
	// default it must be INACTIVE first (API 1.28.5).
	DeleteActiveUserKeys bool
	// RefuseExpiredDelete refuses to delete an expired key, as frieza c994acc reports.
	RefuseExpiredDelete bool
	// KeepDateOnUpdate keeps a key's date in an update without ExpirationDate, as API 1.40.1's ClearExpirationDate
	// suggests. By default such an update makes the key immortal, as the documentation says.
	KeepDateOnUpdate bool
	// AnyScopeRegion accepts every region in a signature's scope. By default only the region's own name and eu-west-2,
	// the OUTSCALE SDK's constant, are accepted.
	AnyScopeRegion bool
	// QuotaExceededSpelling spells the quota error's type "(QuotaExceeded)"; both spellings have been seen.
	QuotaExceededSpelling bool
	// UnknownForDeadKeys answers an INACTIVE or expired key like one that never existed (400, 4120) instead of 401, 1.
	UnknownForDeadKeys bool
	// DryRunRefuses answers a permitted dry run with an error of its own, as EC2 does (412, DryRunOperation). By default
	// it is a success without content.
	DryRunRefuses bool
	// NoSecureMode knows no RequireTrustedEnvSecureMode, as API 1.42.
	NoSecureMode bool
	// PolicyForgets sets the parts of the policy to nothing that an update leaves out. By default it refuses the update.
	PolicyForgets bool
	// ActivationDelay is how long a key made through the API stays unknown (4120) to authentication.
	ActivationDelay time.Duration
	// ListingDelay is how long a key made through the API stays out of ReadAccessKeys.
	ListingDelay time.Duration
}

// Option changes a new Cloud.
type Option func(*Cloud)

// WithRegion names the region; the default is eu-west-2.
func WithRegion(name string) Option { return func(c *Cloud) { c.region = name } }

// WithQuota sets how many keys an identity may have; the default is 10.
func WithQuota(keys int) Option { return func(c *Cloud) { c.quota = keys } }

// WithRules sets what is only assumed about the real cloud.
func WithRules(rules Rules) Option { return func(c *Cloud) { c.rules = rules } }

// New returns a cloud without accounts and domains.
func New(options ...Option) *Cloud {
	c := &Cloud{
		region:   defaultRegion,
		quota:    defaultQuota,
		accounts: map[string]*Account{},
		keys:     map[string]*key{},
		deleted:  map[string]*Account{},
		unknown:  map[string]*lockout{},
		domains:  map[string]*Domain{},
		iamKeys:  map[string]*iamKey{},
		sessions: map[string]*iamSession{},
		akLocks:  map[string]*akLock{},
	}
	for _, option := range options {
		option(c)
	}
	return c
}

// SetClockSkew lets the cloud's clock run ahead of this machine's, or behind it where the skew is below zero.
func (c *Cloud) SetClockSkew(skew time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = skew
}

// now is the time by the cloud's clock. The caller holds c.mu.
func (c *Cloud) now() time.Time { return time.Now().Add(c.skew) }

// Secrets returns every secret key ever made here and every password, so that a test can search logs and storage for them.
func (c *Cloud) Secrets() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.secrets)
}

// Call is one request as received. Status 0 means that the connection was cut instead of an answer. AccessKey, Account and
// User are what the request claims: they are set also where its signature turns out wrong.
type Call struct {
	Op        string          `json:"op"`
	AccessKey string          `json:"access_key,omitempty"`
	Account   string          `json:"account,omitempty"`
	User      string          `json:"user,omitempty"`
	Scope     string          `json:"scope,omitempty"`  // the region in the signature's scope
	Target    string          `json:"target,omitempty"` // method, path and query of a call to Huawei
	Login     bool            `json:"login,omitempty"`  // it was sent with an account's login, not with a key
	At        time.Time       `json:"at"`
	Body      json.RawMessage `json:"body,omitempty"`
	Status    int             `json:"status"`
	Code      string          `json:"code,omitempty"`
	Locked    bool            `json:"locked,omitempty"` // Huawei Cloud refused it for what was refused before, whoever signed that
	Fault     FaultKind       `json:"fault,omitempty"`  // the fault that decided the answer, if any
}

// Calls returns every request received since the start or the last ResetCalls, in order.
func (c *Cloud) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()

	calls := make([]Call, 0, len(c.calls))
	for _, call := range c.calls {
		calls = append(calls, *call)
	}
	return calls
}

// ResetCalls forgets the requests received so far.
func (c *Cloud) ResetCalls() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = nil
}

// CountCalls returns how many requests of one operation were received since the last ResetCalls.
func (c *Cloud) CountCalls(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()

	n := 0
	for _, call := range c.calls {
		if call.Op == op {
			n++
		}
	}
	return n
}

// OnCall has observe called with every request before its work is done and before any fault hits. It runs in the
// request's goroutine.
func (c *Cloud) OnCall(observe func(Call)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onCall = append(c.onCall, observe)
}

// OnAnswer has observe called with every request once its status is known, before the answer leaves.
func (c *Cloud) OnAnswer(observe func(Call)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onAnswer = append(c.onAnswer, observe)
}
