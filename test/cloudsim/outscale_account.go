// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Key states as the API spells them.
const (
	Active   = "ACTIVE"
	Inactive = "INACTIVE"
)

// Credentials sign requests.
type Credentials struct {
	AccessKey string
	SecretKey string
}

// Key is an access key without its secret. User is empty for the account's root user, Expires zero for a key without date.
type Key struct {
	ID       string    `json:"id"`
	User     string    `json:"user,omitempty"`
	Tag      string    `json:"tag,omitempty"`
	State    string    `json:"state"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"`
	Modified time.Time `json:"modified"`
	Trusted  bool      `json:"trusted,omitempty"` // made in Cockpit v2 after a multi-factor authentication
}

// Live reports whether the key can sign requests at the given time.
func (k Key) Live(now time.Time) bool { return k.State == Active && !k.expired(now) }

// expired: the cloud never changes the State of an expired key, so only its date tells.
func (k Key) expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// KeySpec describes a key made out of band. User "" is the root user, Expires zero is a key without date, Created zero is now.
type KeySpec struct {
	User     string
	Tag      string
	Expires  time.Time
	Created  time.Time
	Inactive bool
	Trusted  bool // of use only with a date
}

// Policy is the account's API access policy. 0 seconds: keys need no expiration date.
type Policy struct {
	MaxAccessKeyExpirationSeconds int64 `json:"max_access_key_expiration_seconds"`
	RequireTrustedEnv             bool  `json:"require_trusted_env"`
	RequireTrustedEnvSecureMode   bool  `json:"require_trusted_env_secure_mode"`
}

// Account is one OUTSCALE account. Its methods act out of band: no permission, quota or policy stops them.
type Account struct {
	cloud *Cloud
	id    string
	root  Credentials

	// guarded by cloud.mu, like all that follows
	login    string // of the root user; empty: none may sign in
	password string

	identities map[string]*identity      // "" is the root user
	byAge      []*identity               // the users among them, oldest first; nil: to be sorted
	policies   map[string]*managedPolicy // by ORN
	groups     []*group
	policy     Policy
	unheard    map[string]json.RawMessage // further fields of the policy, which no description knows
	lock       lockout
}

// identity is the root user or an EIM user.
type identity struct {
	name     string
	id       string
	path     string
	email    string
	created  time.Time
	allow    []string          // action patterns given out of band; the root user needs none
	inline   map[string]string // policy documents by name
	linked   []string          // ORNs of managed policies
	groups   []*group
	keys     []*key
	sequence int
}

// key is a stored access key.
type key struct {
	Key
	secret    string
	account   *Account
	owner     *identity
	sequence  int
	usableAt  time.Time
	visibleAt time.Time
}

// AddAccount makes an account with one root key that never expires. An id that exists already returns that account.
func (c *Cloud) AddAccount(id string) *Account {
	c.mu.Lock()
	defer c.mu.Unlock()

	if a, ok := c.accounts[id]; ok {
		return a
	}
	a := &Account{cloud: c, id: id, policies: map[string]*managedPolicy{}}
	a.identities = map[string]*identity{"": {created: c.now()}}
	k := c.newKey(a, a.identities[""], KeySpec{})
	a.root = Credentials{AccessKey: k.ID, SecretKey: k.secret}
	c.accounts[id] = a
	return a
}

// ID returns the account's 12 digits.
func (a *Account) ID() string { return a.id }

// RootKey returns the root key that never expires made by AddAccount, whether it still exists or not.
func (a *Account) RootKey() Credentials { return a.root }

// SetLogin gives the account's root user a login (an email address) and a password, which the calls on access keys and on
// the access policy accept in place of a key.
func (a *Account) SetLogin(login, password string) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	a.login, a.password = login, password
	a.cloud.secrets = append(a.cloud.secrets, password)
}

// AddUser makes an EIM user at path "/" that may call what the action patterns allow ("api:*", "api:Read*",
// "api:CreateAccessKey"); none allow nothing. For a user that exists it replaces the patterns.
func (a *Account) AddUser(name string, allow ...string) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	a.user(name).allow = slices.Clone(allow)
}

// user returns the named identity and makes it where it is missing.
func (a *Account) user(name string) *identity {
	if who, ok := a.identities[name]; ok {
		return who
	}
	return a.newUser(name, "/", "")
}

func (a *Account) newUser(name, path, email string) *identity {
	a.cloud.sequence++
	who := &identity{
		name:     name,
		id:       randomID(32),
		path:     path,
		email:    cmp.Or(email, a.email()),
		created:  a.cloud.now(),
		inline:   map[string]string{},
		sequence: a.cloud.sequence,
	}
	a.identities[name], a.byAge = who, nil
	return who
}

func (a *Account) email() string { return "owner-" + a.id + "@example.com" }

// AddKey makes a key whatever policy and quota say. A user that does not exist is made, without permissions.
func (a *Account) AddKey(spec KeySpec) Credentials {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	k := a.cloud.newKey(a, a.user(spec.User), spec)
	return Credentials{AccessKey: k.ID, SecretKey: k.secret}
}

// newKey stores a key; the caller holds c.mu.
func (c *Cloud) newKey(a *Account, who *identity, spec KeySpec) *key {
	created := spec.Created
	if created.IsZero() {
		created = c.now()
	}
	created = created.UTC().Truncate(time.Millisecond)
	c.sequence++
	k := &key{
		Key: Key{
			ID: randomID(20), User: who.name, Tag: spec.Tag, State: Active,
			Created: created, Modified: created, Expires: spec.Expires, Trusted: spec.Trusted && !spec.Expires.IsZero(),
		},
		secret:   randomID(40),
		account:  a,
		owner:    who,
		sequence: c.sequence,
	}
	if spec.Inactive {
		k.State = Inactive
	}
	who.keys = append(who.keys, k)
	c.keys[k.ID] = k
	c.secrets = append(c.secrets, k.secret)
	return k
}

// removeKey forgets a key but remembers whose it was; the caller holds c.mu.
func (c *Cloud) removeKey(k *key) {
	k.owner.keys = slices.DeleteFunc(k.owner.keys, func(other *key) bool { return other == k })
	delete(c.keys, k.ID)
	c.deleted[k.ID] = k.account
}

// Keys returns the account's keys of all identities, oldest first.
func (a *Account) Keys() []Key {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	keys := []Key{}
	for _, k := range a.allKeys() {
		keys = append(keys, k.Key)
	}
	return keys
}

func (a *Account) allKeys() []*key {
	var keys []*key
	for _, who := range a.identities {
		keys = append(keys, who.keys...)
	}
	slices.SortFunc(keys, func(x, y *key) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.sequence, y.sequence))
	})
	return keys
}

// users returns the EIM users in the order of their creation. They are sorted once: a list of a hundred
// thousand users has a thousand pages.
func (a *Account) users() []*identity {
	if a.byAge == nil {
		for name, who := range a.identities {
			if name != "" {
				a.byAge = append(a.byAge, who)
			}
		}
		slices.SortFunc(a.byAge, func(x, y *identity) int { return cmp.Compare(x.sequence, y.sequence) })
	}
	return slices.Clone(a.byAge)
}

// Users returns the names of the EIM users, oldest first.
func (a *Account) Users() []string {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	names := []string{}
	for _, who := range a.users() {
		names = append(names, who.name)
	}
	return names
}

// User is an EIM user with what hangs on it.
type User struct {
	ID     string
	Name   string
	Path   string
	Keys   int
	Inline map[string]string // policy documents by name
	Linked []string          // ORNs of managed policies
	Groups []string          // paths and names
}

// User returns one EIM user.
func (a *Account) User(name string) (User, bool) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	who, ok := a.identities[name]
	if !ok || name == "" {
		return User{}, false
	}
	u := User{
		ID: who.id, Name: who.name, Path: who.path, Keys: len(who.keys),
		Inline: maps.Clone(who.inline), Linked: slices.Clone(who.linked),
	}
	for _, g := range who.groups {
		u.Groups = append(u.Groups, g.path+g.name)
	}
	return u, true
}

// Key returns one key of the account.
func (a *Account) Key(id string) (Key, bool) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	k, ok := a.cloud.keys[id]
	if !ok || k.account != a {
		return Key{}, false
	}
	return k.Key, true
}

// DeleteKey deletes a key, whatever its state. An unknown id is ignored.
func (a *Account) DeleteKey(id string) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	if k, ok := a.cloud.keys[id]; ok && k.account == a {
		a.cloud.removeKey(k)
	}
}

// SwitchKey switches a key off or on, as somebody does in Cockpit.
func (a *Account) SwitchKey(id string, active bool) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	k, ok := a.cloud.keys[id]
	if !ok || k.account != a {
		return
	}
	k.State, k.Modified = Inactive, a.cloud.now().UTC().Truncate(time.Millisecond)
	if active {
		k.State = Active
	}
}

// RewriteKey writes another tag and date on a key, as its holder does whose rights allow it. A zero date: none.
func (a *Account) RewriteKey(id, tag string, expires time.Time) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if k, ok := a.cloud.keys[id]; ok && k.account == a {
		k.Tag, k.Expires, k.Modified = tag, expires, a.cloud.now().UTC().Truncate(time.Millisecond)
	}
}

// DeleteUser deletes an EIM user and its keys. The root user and unknown names are ignored.
func (a *Account) DeleteUser(name string) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	who, ok := a.identities[name]
	if !ok || name == "" {
		return
	}
	for _, k := range slices.Clone(who.keys) {
		a.cloud.removeKey(k)
	}
	delete(a.identities, name)
	a.byAge = nil
}

// MoveUser changes the path of an EIM user, as UpdateUser does. Unknown names are ignored.
func (a *Account) MoveUser(name, path string) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	if who, ok := a.identities[name]; ok && name != "" {
		who.path = path
	}
}

// RenameUser gives an EIM user another name, as UpdateUser does. Unknown names are ignored.
func (a *Account) RenameUser(name, to string) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()

	if who, ok := a.identities[name]; ok && name != "" {
		who.name = to
		delete(a.identities, name)
		a.identities[to] = who
	}
}

// SetPolicy replaces the API access policy, whatever keys exist.
func (a *Account) SetPolicy(policy Policy) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	a.policy = policy
}

// Policy returns the API access policy.
func (a *Account) Policy() Policy {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	return a.policy
}

// SetPolicyField adds a field to the API access policy that no description knows, as the next version of the API will.
func (a *Account) SetPolicyField(name, value string) {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	if a.unheard == nil {
		a.unheard = map[string]json.RawMessage{}
	}
	a.unheard[name] = json.RawMessage(value)
}

// PolicyField returns what SetPolicyField or an update has set; empty: there is no such field any more.
func (a *Account) PolicyField(name string) string {
	a.cloud.mu.Lock()
	defer a.cloud.mu.Unlock()
	return string(a.unheard[name])
}
