// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudsim

import (
	"slices"
	"time"
)

// iamUser is the account's owner or an IAM user.
type iamUser struct {
	domain      *Domain
	id          string
	name        string
	description string
	accessMode  string
	disabled    bool
	gone        bool // deleted: its temporary keys outlive it in name only
	created     time.Time
	allow       []string // action patterns given out of band; the owner needs none
	noDomains   bool     // its list of domains is empty
	groups      []*iamGroup
	keys        []*iamKey
	hidden      hidden
}

// iamGroup is a user group. Its rights are given out of band.
type iamGroup struct {
	id      string
	name    string
	created time.Time
	allow   []string
}

// agency lets another account's users act in this one.
type agency struct {
	name    string
	trusted *Domain
	allow   []string
}

// AddUser makes an IAM user that may do what the action patterns allow (SecurityAdministrator, "iam:credentials:*",
// "iam:users:listUsers"); without them it manages its own keys only. For a user that exists it replaces the patterns. It
// returns the user's id.
func (d *Domain) AddUser(name string, allow ...string) string {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	who := d.user(name)
	who.allow = slices.Clone(allow)
	return who.id
}

// user returns the named user and makes it where it is missing; "" is the owner.
func (d *Domain) user(name string) *iamUser {
	if name == "" {
		return d.owner
	}
	if who := d.named(name); who != nil {
		return who
	}
	return d.newUser(name)
}

func (d *Domain) named(name string) *iamUser {
	return d.find(func(who *iamUser) bool { return who.name == name })
}

func (d *Domain) find(is func(*iamUser) bool) *iamUser {
	found := slices.IndexFunc(d.users, is)
	if found < 0 {
		return nil
	}
	return d.users[found]
}

func (d *Domain) newUser(name string) *iamUser {
	who := &iamUser{domain: d, id: hexID(), name: name, accessMode: accessModes[0], created: time.Now()}
	d.users = append(d.users, who)
	return who
}

// removeUser forgets a user and its keys; the caller holds cloud.mu.
func (d *Domain) removeUser(who *iamUser) {
	for _, k := range slices.Clone(who.keys) {
		d.cloud.removeIAMKey(k)
	}
	d.users = slices.DeleteFunc(d.users, func(other *iamUser) bool { return other == who })
	who.gone = true
}

// Users returns the names of the IAM users, oldest first, without the owner.
func (d *Domain) Users() []string {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	names := []string{}
	for _, who := range d.users[1:] {
		names = append(names, who.name)
	}
	return names
}

// IAMUser is an IAM user with what hangs on it.
type IAMUser struct {
	ID          string
	Name        string
	Description string
	AccessMode  string
	Enabled     bool
	Keys        int
	Groups      []string // names
}

// User returns one user; "" is the owner.
func (d *Domain) User(name string) (IAMUser, bool) {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	who := d.owner
	if name != "" {
		who = d.named(name)
	}
	if who == nil {
		return IAMUser{}, false
	}
	u := IAMUser{
		ID: who.id, Name: who.name, Description: who.description, AccessMode: who.accessMode,
		Enabled: !who.disabled, Keys: len(who.keys),
	}
	for _, g := range who.groups {
		u.Groups = append(u.Groups, g.name)
	}
	return u, true
}

// DeleteUser deletes an IAM user and its keys. The owner and unknown names are ignored.
func (d *Domain) DeleteUser(name string) {
	d.change(name, d.removeUser)
}

// RenameUser gives an IAM user another name. Unknown names are ignored.
func (d *Domain) RenameUser(name, to string) {
	d.change(name, func(who *iamUser) { who.name = to })
}

// SetUserEnabled enables or disables an IAM user. Unknown names are ignored.
func (d *Domain) SetUserEnabled(name string, enabled bool) {
	d.change(name, func(who *iamUser) { who.disabled = !enabled })
}

// HideDomain empties the user's list of domains, as the cloud does for users with few rights. Unknown names are ignored.
func (d *Domain) HideDomain(name string) {
	d.change(name, func(who *iamUser) { who.noDomains = true })
}

func (d *Domain) change(name string, do func(*iamUser)) {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	if who := d.named(name); who != nil && who != d.owner {
		do(who)
	}
}

// AddGroup makes a user group whose members may do what the action patterns allow, and returns its id. For a group that
// exists it replaces the patterns.
func (d *Domain) AddGroup(name string, allow ...string) string {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()

	for _, g := range d.groups {
		if g.name == name {
			g.allow = slices.Clone(allow)
			return g.id
		}
	}
	g := &iamGroup{id: hexID(), name: name, created: time.Now(), allow: slices.Clone(allow)}
	d.groups = append(d.groups, g)
	return g.id
}

// AddAgency makes an agency through which the trusted account's users (with AgentOperator) may do here what the action
// patterns allow.
func (d *Domain) AddAgency(name string, trusted *Domain, allow ...string) {
	d.cloud.mu.Lock()
	defer d.cloud.mu.Unlock()
	d.agencies = append(d.agencies, &agency{name: name, trusted: trusted, allow: slices.Clone(allow)})
}

// Ways in which a user may use the cloud; the first is the default.
const consoleAccess = "console"

var accessModes = []string{"default", "programmatic", consoleAccess}

// visibleUser finds a user by id, unless it is still hidden; nil if it is not found.
func (d *Domain) visibleUser(id string) *iamUser {
	who := d.find(func(who *iamUser) bool { return who.id == id })
	if who == nil || !who.hidden.lookup(time.Now()) {
		return nil
	}
	return who
}
