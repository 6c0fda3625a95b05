// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

// Package providertest holds every cloud's package to what the engine and the functions
// rely on. A new cloud is a folder with a client, a simulation, and a call of Run.
package providertest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// Harness makes cloud accounts to be tested.
type Harness struct {
	// New makes a fresh account. It is called in a synctest bubble: no sockets.
	New func(t *testing.T) *Account
}

// Account is one cloud account with nothing in it but its own root key and two users
// without keys.
type Account struct {
	Cloud  provider.Cloud // signs with the root key
	ID     string
	User   string // a user without rights
	Other  string // another one
	Rights provider.Rights
	// Missing are rights of which one does not exist, and its name.
	Missing     provider.Rights
	MissingName string

	Admin Admin
}

// Admin looks into an account and changes it, past the client under test.
type Admin interface {
	// Key plants a key and returns its id. The label is written as anybody could write it.
	Key(user, label string) string
	// HasKey tells whether a key exists, and whether it can sign.
	HasKey(id string) (exists, active bool)
	// KeyCount is the number of a user's keys; of the root user's for "".
	KeyCount(user string) int
	// AddUser plants a user without a label.
	AddUser(name string)
	// HasUser tells whether a user exists, and what it was given.
	HasUser(name string) (exists bool, rights int)
	// UserID is the id of a user that exists.
	UserID(name string) string
	// RenameUser gives a user another name, which must be free.
	RenameUser(name, to string)
	// OnCall does something before each call of an operation is carried out; nil: nothing any more.
	OnCall(op Op, do func())
	// HideNewKeys has every key that is made from now on show in no list for so long.
	HideNewKeys(d time.Duration)
	// DeleteKey deletes a key.
	DeleteKey(id string)
	// DeleteUser deletes a user with all that hangs on it.
	DeleteUser(name string)

	// As returns a client that signs with another key of the account.
	As(t *testing.T, accessKey string, secret provider.Secret) provider.Cloud
	// OtherAccount returns a client of another account.
	OtherAccount(t *testing.T) provider.Cloud
	// MayActAs gives a user the right to see and manage everything.
	MayActAs(user string)

	// Order makes calls fail: times of them, or all for 0.
	Order(op Op, fault Fault, times int)
	// Calls counts the calls of an operation that the cloud received; of all for "".
	Calls(op Op) int
	// Secrets are all secret keys that the cloud has ever made.
	Secrets() []string
}

// Op is a call, whatever the cloud's name for it.
type Op string

// The calls that faults are ordered for.
const (
	AnyCall    Op = ""
	CreateKey  Op = "create key"
	ListKeys   Op = "list keys"
	UpdateKey  Op = "update key"
	DeleteKey  Op = "delete key"
	CreateUser Op = "create user"
	DeleteUser Op = "delete user"
	ListUsers  Op = "list users"
)

// Fault is a way to fail, whatever the cloud's words for it.
type Fault string

// The faults. Those of the first group have done what was asked.
const (
	LostAnswer      Fault = "the answer is lost"
	TruncatedAnswer Fault = "the answer is cut in the middle"
	EmptyAnswer     Fault = "the answer is empty"
	ErrorAfterwards Fault = "an error after the work"

	LostRequest Fault = "the request is lost"
	Error       Fault = "an error"
	Throttled   Fault = "too many calls"
	Denied      Fault = "no permission"
)

// lossy are the faults after which nobody knows what was done, and it was done.
var lossy = []Fault{LostAnswer, TruncatedAnswer, EmptyAnswer, ErrorAfterwards}

// test is one behaviour in fake time.
type test struct {
	*testing.T
	*Account
	instance string
}

// Run holds a cloud's package to all behaviours.
func Run(t *testing.T, h Harness) {
	groups := map[string]map[string]func(test){
		"keys": keyTests, "revocation": revocationTests, "stages": stageTests, "faults": faultTests, "users": userTests,
		"caller": callerTests, "sessions": sessionTests,
		"gone": goneTests,
	}
	for group, tests := range groups {
		t.Run(group, func(t *testing.T) {
			for name, do := range tests {
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						do(test{T: t, Account: h.New(t), instance: keylabel.NewID()})
					})
				})
			}
		})
	}
}

func (t test) label(kind keylabel.Kind) string { return keylabel.New(t.instance, kind).String() }

// spec describes a key of a lease that ends in an hour.
func (t test) spec(user string) provider.KeySpec {
	return provider.KeySpec{User: user, Label: t.label(keylabel.KindLease), Expires: later(time.Hour)}
}

func (t test) key(user string) provider.IssuedKey {
	t.Helper()
	key, err := t.Cloud.CreateKey(t.Context(), t.spec(user))
	t.do(err)
	return key
}

func (t test) listed(user string) []provider.Key {
	t.Helper()
	keys, err := t.Cloud.ListKeys(t.Context(), user)
	t.do(err)
	return keys
}

func (t test) do(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t test) kind(err error, want ...provider.Kind) {
	t.Helper()
	for _, kind := range want {
		if err != nil && provider.KindOf(err) == kind {
			return
		}
	}
	t.Errorf("got error %v of kind %q, want one of %q", err, provider.KindOf(err), want)
}

func (t test) exists(id string, want bool) {
	t.Helper()
	if exists, _ := t.Admin.HasKey(id); exists != want {
		t.Errorf("access key %s exists: %v, want %v", id, exists, want)
	}
}

// hidden searches what is shown for any part of any secret.
func (t test) hidden(view ...any) {
	t.Helper()
	var text strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&text, strings.Repeat(verb+" ", len(view)), view...)
	}
	for _, secret := range t.Admin.Secrets() {
		for i := 0; i+8 <= len(secret); i++ {
			if strings.Contains(text.String(), secret[i:i+8]) {
				t.Errorf("a part of a secret key is shown: %s", text.String())
				return
			}
		}
	}
}

// later is a whole second in UTC, as dates on keys are.
func later(d time.Duration) time.Time { return time.Now().Add(d).UTC().Truncate(time.Second) }

// settle lets a minute go by: clouds may be slow to see what was just made.
func settle() { <-time.After(time.Minute) }
