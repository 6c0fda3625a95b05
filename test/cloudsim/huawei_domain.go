// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"
)

// Key states as Huawei's API spells them.
const (
	IAMActive   = "active"
	IAMInactive = "inactive"
)

// Actions for Domain.AddUser, AddGroup and AddAgency.
const (
	// SecurityAdministrator stands for the system role of that name: every action of IAM. It makes an administrator.
	SecurityAdministrator = "iam:*"
	// AgentOperator stands for the system role that may assume agencies.
	AgentOperator = "iam:tokens:assume"
)

// Domain is one Huawei Cloud account. Its methods act out of band: no permission or quota stops them.
type Domain struct {
	cloud   *Cloud
	id      string
	name    string
	project string // the id of its one project
	root    Credentials
	owner   *iamUser

	// guarded by cloud.mu
	users         []*iamUser // the owner first, then the oldest
	groups        []*iamGroup
	agencies      []*agency
	keysForAdmins bool // protect-policy: allow_user.manage_accesskey is false
}

// AddDomain makes an account with one root key. A name that exists already returns that account.
func (c *Cloud) AddDomain(name string) *Domain {
	c.mu.Lock()
	defer c.mu.Unlock()

	for _, d := range c.domains {
		if d.name == name {
			return d
		}
	}
	d := &Domain{cloud: c, id: hexID(), name: name, project: hexID()}
	d.owner = d.newUser(name)
	k := c.newIAMKey(d.owner, IAMKeySpec{})
	d.root = Credentials{AccessKey: k.ID, SecretKey: k.secret}
	c.domains[d.id] = d
	return d
}

// ID returns the account's id, 32 hexadecimal digits.
func (d *Domain) ID() string { return d.id }

// Name returns the account's name, which is its owner's user name too.
func (d *Domain) Name() string { return d.name }

// RootKey returns the owner's key made by AddDomain, whether it still exists or not.
func (d *Domain) RootKey() Credentials { return d.root }

// SetManageAccessKey turns the account's protect-policy: with false, only administrators manage keys, their own included.
func (d *Domain) SetManageAccessKey(allowed bool) {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()
	d.keysForAdmins = !allowed
}

// IAMKey is an access key without its secret. LastUsed is zero for one that has never signed anything.
type IAMKey struct {
	ID          string    `json:"id"`
	UserID      string    `json:"user_id"`
	User        string    `json:"user"`
	Description string    `json:"description,omitempty"`
	State       string    `json:"state"`
	Created     time.Time `json:"created"`
	LastUsed    time.Time `json:"last_used,omitzero"`
}

// Live reports whether the key can sign requests.
func (k IAMKey) Live() bool { return k.State == IAMActive }

// IAMKeySpec describes a key made out of band. User "" is the account's owner, Created zero is now.
type IAMKeySpec struct {
	User        string
	Description string
	Created     time.Time
	Inactive    bool
}

// iamKey is a stored access key.
type iamKey struct {
	IAMKey
	secret   string
	owner    *iamUser
	sequence int
	usableAt time.Time
	endsAt   time.Time // of one that is deleted or inactive: how long it goes on signing
	deleted  bool
	hidden   hidden
}

// hidden keeps a new object from being found for a while.
type hidden struct {
	until time.Time
	reads int
}

// lookup reports whether the object is found, and counts the attempt.
func (h *hidden) lookup(now time.Time) bool {
	if now.Before(h.until) {
		return false
	}
	if h.reads > 0 {
		h.reads--
		return false
	}
	return true
}

// AddKey makes a key whatever the quota says. A user that does not exist is made, without permissions.
func (d *Domain) AddKey(spec IAMKeySpec) Credentials {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	k := d.cloud.newIAMKey(d.user(spec.User), spec)
	return Credentials{AccessKey: k.ID, SecretKey: k.secret}
}

// newIAMKey stores a key; the caller holds c.mu.
func (c *Cloud) newIAMKey(who *iamUser, spec IAMKeySpec) *iamKey {
	created := spec.Created
	if created.IsZero() {
		created = time.Now()
	}
	c.sequence++
	k := &iamKey{
		IAMKey: IAMKey{
			ID: randomID(20), UserID: who.id, User: who.name, Description: spec.Description, State: IAMActive,
			Created: created.UTC().Truncate(time.Microsecond),
		},
		secret:   randomID(40),
		owner:    who,
		sequence: c.sequence,
	}
	if spec.Inactive {
		k.State = IAMInactive
	}
	who.keys = append(who.keys, k)
	c.iamKeys[k.ID] = k
	c.secrets = append(c.secrets, k.secret)
	return k
}

// removeIAMKey ends a key; the caller holds c.mu. The key stays known, so that it can go on signing for the rules' delay.
func (c *Cloud) removeIAMKey(k *iamKey) {
	k.owner.keys = slices.DeleteFunc(k.owner.keys, func(other *iamKey) bool { return other == k })
	if k.State == IAMActive {
		k.endsAt = time.Now().Add(c.huawei.RevocationDelay)
	}
	k.deleted = true
}

func (c *Cloud) setIAMKeyState(k *iamKey, state string) {
	if k.State == IAMActive && state == IAMInactive {
		k.endsAt = time.Now().Add(c.huawei.RevocationDelay)
	}
	k.State = state
}

// Keys returns the account's keys of all users, oldest first.
func (d *Domain) Keys() []IAMKey {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	var stored []*iamKey
	for _, who := range d.users {
		stored = append(stored, who.keys...)
	}
	slices.SortFunc(stored, func(x, y *iamKey) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.sequence, y.sequence))
	})
	keys := []IAMKey{}
	for _, k := range stored {
		keys = append(keys, k.IAMKey)
	}
	return keys
}

// Key returns one key of the account.
func (d *Domain) Key(id string) (IAMKey, bool) {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	k := d.key(id)
	if k == nil {
		return IAMKey{}, false
	}
	return k.IAMKey, true
}

// key finds a key of this account that is not deleted, hidden or not; nil if there is none.
func (d *Domain) key(id string) *iamKey {
	k, ok := d.cloud.iamKeys[id]
	if !ok || k.deleted || k.owner.domain != d {
		return nil
	}
	return k
}

// DeleteKey deletes a key at once. An unknown id is ignored.
func (d *Domain) DeleteKey(id string) {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	if k := d.key(id); k != nil {
		d.cloud.removeIAMKey(k)
	}
}

// SetKeyState makes a key IAMActive or IAMInactive. An unknown id is ignored.
func (d *Domain) SetKeyState(id, state string) {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	if k := d.key(id); k != nil {
		d.cloud.setIAMKeyState(k, state)
	}
}

// DescribeKey writes another description on a key, as its user does. An unknown id is ignored.
func (d *Domain) DescribeKey(id, description string) {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	if k := d.key(id); k != nil {
		k.Description = description
	}
}

// hexID is an id as Huawei gives users, groups and domains.
func hexID() string {
	b := make([]byte, 16)
	rand.Read(b) // crypto/rand.Read never fails
	return hex.EncodeToString(b)
}
