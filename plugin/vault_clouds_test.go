// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/clouds"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

// What the tests that run on both clouds need to know of either. A key of Huawei Cloud is got
// as one of OUTSCALE: its label as the tag, the date in its description as the one that ends it.

// huaweiOps are Huawei Cloud's calls that do what one of OUTSCALE does.
var huaweiOps = map[string]string{
	"CreateAccessKey":         "CreatePermanentAccessKey",
	"ReadAccessKeys":          "ListPermanentAccessKeys",
	"UpdateAccessKey":         "UpdatePermanentAccessKey",
	"DeleteAccessKey":         "DeletePermanentAccessKey",
	"ReadUsers":               "KeystoneListUsers",
	"AddUserToUserGroup":      "KeystoneAddUserToGroup",
	"ReadUserGroupsPerUser":   "KeystoneListGroupsForUser",
	"RemoveUserFromUserGroup": "KeystoneRemoveUserFromGroup",
	"DeleteUser":              "KeystoneDeleteUser",
}

// newHuaweiVault mounts the engine on an account of Huawei Cloud, with a key of the IAM user
// "vault" and another user "app".
func newHuaweiVault(t *testing.T) *testVault {
	t.Helper()
	sim := cloudsim.New()
	domain := sim.AddDomain("acme")
	domain.AddUser("app")
	domain.AddUser("vault", cloudsim.SecurityAdministrator, cloudsim.AgentOperator)
	v := newTestVaultOn(t, sim, nil)
	v.domain, v.base = domain, sim.Transport()
	v.root = domain.AddKey(cloudsim.IAMKeySpec{User: "vault"})
	v.restart()
	return v
}

// inHuawei runs each test on Huawei Cloud, in a bubble of its own.
func inHuawei(t *testing.T, tests map[string]func(t *testing.T, v *testVault)) {
	t.Helper()
	contract.New(t)
	for name, test := range tests {
		t.Run("on Huawei Cloud: "+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, newHuaweiVault(t)) })
		})
	}
}

// inBothClouds runs each test on OUTSCALE and on Huawei Cloud.
func inBothClouds(t *testing.T, tests map[string]func(t *testing.T, v *testVault)) {
	t.Helper()
	inBubble(t, tests)
	inHuawei(t, tests)
}

// openSimulated is the opener of the shipped plugin, but for the network. Without a base it is
// the shipped one.
func (v *testVault) openSimulated(c provider.Config) (provider.Cloud, error) {
	c.Base = v.base
	return clouds.Open(c)
}

// op is the present cloud's name of a call of OUTSCALE.
func (v *testVault) op(name string) string {
	if v.domain == nil || name == "" {
		return name
	}
	if other, ok := huaweiOps[name]; ok {
		return other
	}
	return name
}

// order places an order to fail, with OUTSCALE's name of the call.
func (v *testVault) order(fault cloudsim.Fault) (cancel func()) {
	fault.Op = v.op(fault.Op)
	return v.sim.Order(fault)
}

func (v *testVault) countCalls(op string) int { return v.sim.CountCalls(v.op(op)) }

func (v *testVault) keys() []cloudsim.Key {
	if v.domain == nil {
		return v.account.Keys()
	}
	var keys []cloudsim.Key
	for _, key := range v.domain.Keys() {
		if key.ID != v.domain.RootKey().AccessKey { // the account owner's, whom no test uses
			keys = append(keys, shownAsOutscale(key))
		}
	}
	return keys
}

func (v *testVault) key(id string) (cloudsim.Key, bool) {
	if v.domain == nil {
		return v.account.Key(id)
	}
	key, there := v.domain.Key(id)
	return shownAsOutscale(key), there
}

func shownAsOutscale(key cloudsim.IAMKey) cloudsim.Key {
	got := cloudsim.Key{ID: key.ID, User: key.User, State: strings.ToUpper(key.State), Created: key.Created}
	label, date, _ := strings.Cut(key.Description, "/until/")
	got.Tag = label
	if expires, err := time.Parse(time.RFC3339, date); err == nil {
		got.Expires = expires
	}
	return got
}

// live tells whether a key signs: on Huawei Cloud whatever its date says.
func (v *testVault) live(key cloudsim.Key) bool {
	if v.domain != nil {
		return key.State == cloudsim.Active
	}
	return key.Live(time.Now())
}

// rewriteKey writes a label and a date on a key, as its holder does. Empty and zero clear them.
func (v *testVault) rewriteKey(id, label string, expires time.Time) {
	if v.domain == nil {
		v.account.RewriteKey(id, label, expires)
		return
	}
	if !expires.IsZero() {
		label += "/until/" + expires.UTC().Format(time.RFC3339)
	}
	v.domain.DescribeKey(id, label)
}

func (v *testVault) switchKey(id string, active bool) {
	if v.domain == nil {
		v.account.SwitchKey(id, active)
		return
	}
	v.domain.SetKeyState(id, map[bool]string{true: cloudsim.IAMActive, false: cloudsim.IAMInactive}[active])
}

func (v *testVault) deleteKey(id string) {
	if v.domain == nil {
		v.account.DeleteKey(id)
		return
	}
	v.domain.DeleteKey(id)
}

func (v *testVault) deleteUser(name string) {
	if v.domain == nil {
		v.account.DeleteUser(name)
		return
	}
	v.domain.DeleteUser(name)
}

func (v *testVault) renameUser(name, to string) {
	if v.domain == nil {
		v.account.RenameUser(name, to)
		return
	}
	v.domain.RenameUser(name, to)
}

// addKey makes a key that the engine knows nothing of, or one with a label of the engine's.
func (v *testVault) addKey(user, label string, expires time.Time) cloudsim.Credentials {
	if v.domain == nil {
		return v.account.AddKey(cloudsim.KeySpec{User: user, Tag: label, Expires: expires})
	}
	if label != "" {
		label += "/until/" + expires.UTC().Format(time.RFC3339)
	}
	if user == "" {
		user = "vault"
	}
	return v.domain.AddKey(cloudsim.IAMKeySpec{User: user, Description: label})
}

// settleNew lets pass the time in which a cloud may not know everywhere what was just
// made, so that the client believes nothing of it to be gone.
func (v *testVault) settleNew() { v.advance(time.Minute) }

// addUser makes a user without rights.
func (v *testVault) addUser(name string) {
	if v.domain == nil {
		v.account.AddUser(name)
		return
	}
	v.domain.AddUser(name)
}

// ownUser is the user whose the engine's own key is; empty: the root user.
func (v *testVault) ownUser() string {
	if v.domain == nil {
		return ""
	}
	return "vault"
}

// locked tells whether refused calls have locked the engine out.
func (v *testVault) locked() bool {
	if v.domain == nil {
		return v.account.Locked()
	}
	return v.domain.Locked(v.root.AccessKey)
}

// quota is how many keys a user can have.
func (v *testVault) quota() int {
	if v.domain == nil {
		return 10
	}
	return 2
}

// userLabels are the labels of the users in the cloud that this software made, by name.
func (v *testVault) userLabels() map[string]string {
	labels := map[string]string{}
	if v.domain == nil {
		for _, name := range v.account.Users() {
			user, _ := v.account.User(name)
			if label, err := keylabel.FromPath(user.Path); err == nil {
				labels[name] = label.String()
			}
		}
		return labels
	}
	for _, name := range v.domain.Users() {
		user, _ := v.domain.User(name)
		if _, err := keylabel.Parse(user.Description); err == nil {
			labels[name] = user.Description
		}
	}
	return labels
}

// ourUsers are the names of the users in the cloud that this software made.
func (v *testVault) ourUsers() []string { return slices.Sorted(maps.Keys(v.userLabels())) }

// without leaves out the tests that are about OUTSCALE alone.
func without(t *testing.T, tests map[string]func(t *testing.T, v *testVault), names ...string) map[string]func(t *testing.T, v *testVault) {
	t.Helper()
	rest := maps.Clone(tests)
	for _, name := range names {
		if _, there := rest[name]; !there {
			t.Fatalf("there is no test %q", name)
		}
		delete(rest, name)
	}
	return rest
}

// cloudNamed is what is known of a cloud.
func cloudNamed(t *testing.T, name string) clouds.Cloud {
	t.Helper()
	cloud, err := clouds.Of(name)
	if err != nil {
		t.Fatal(err)
	}
	return cloud
}
