// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package outscale

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/providertest"
)

func TestConformance(t *testing.T) {
	contract.New(t) // loads the description: nothing outside may be waited for in a bubble
	providertest.Run(t, providertest.Harness{New: func(t *testing.T) *providertest.Account {
		w := newWorld(t)
		w.account.AddUser("other")
		w.account.AddGroup("/", "readers")
		rights := provider.Rights{Groups: []string{"readers"}, PolicyORNs: []string{w.account.AddPolicy("one")}}
		return &providertest.Account{
			Cloud: w.client, ID: testAccount, User: testUser, Other: "other", Rights: rights,
			Missing: provider.Rights{Groups: []string{"readers", "nope"}}, MissingName: "nope",
			Admin: conformance{w},
		}
	}})
}

// conformance is a simulated cloud for the conformance tests.
type conformance struct{ *world }

func (w conformance) Key(user, label string) string {
	return w.account.AddKey(cloudsim.KeySpec{User: user, Tag: label}).AccessKey
}

func (w conformance) HasKey(id string) (exists, active bool) {
	key, ok := w.account.Key(id)
	return ok, ok && key.State == cloudsim.Active
}

func (w conformance) KeyCount(user string) int {
	count := 0
	for _, key := range w.account.Keys() {
		if key.User == user {
			count++
		}
	}
	return count
}

func (w conformance) AddUser(name string) { w.account.AddUser(name) }

func (w conformance) HasUser(name string) (exists bool, rights int) {
	user, ok := w.account.User(name)
	return ok, len(user.Groups) + len(user.Linked) + len(user.Inline)
}

func (w conformance) DeleteUser(name string) { w.account.DeleteUser(name) }

func (w conformance) DeleteKey(id string) { w.account.DeleteKey(id) }

func (w conformance) UserID(name string) string { return w.userID(name) }

func (w conformance) RenameUser(name, to string) { w.account.RenameUser(name, to) }

func (w conformance) HideNewKeys(d time.Duration) {
	w.cloud.SetRules(cloudsim.Rules{ListingDelay: d})
}

func (w conformance) OnCall(op providertest.Op, do func()) {
	w.cloud.OnCall(func(call cloudsim.Call) {
		if do != nil && call.Op == conformanceOps[op] {
			do()
		}
	})
}

func (w conformance) As(t *testing.T, accessKey string, secret provider.Secret) provider.Cloud {
	return w.as(t, cloudsim.Credentials{AccessKey: accessKey, SecretKey: secret.Reveal()})
}

func (w conformance) OtherAccount(t *testing.T) provider.Cloud {
	return w.as(t, w.cloud.AddAccount("210987654321").RootKey())
}

func (w conformance) MayActAs(user string) { w.account.AddUser(user, "api:*") }

// conformanceOps are OUTSCALE's names.
var conformanceOps = map[providertest.Op]string{
	providertest.AnyCall:    "",
	providertest.CreateKey:  "CreateAccessKey",
	providertest.ListKeys:   "ReadAccessKeys",
	providertest.UpdateKey:  "UpdateAccessKey",
	providertest.DeleteKey:  "DeleteAccessKey",
	providertest.CreateUser: "CreateUser",
	providertest.DeleteUser: "DeleteUser",
	providertest.ListUsers:  "ReadUsers",
}

func (w conformance) Order(op providertest.Op, fault providertest.Fault, times int) {
	order := map[providertest.Fault]cloudsim.Fault{
		providertest.LostAnswer:      {Kind: cloudsim.DropAnswer},
		providertest.TruncatedAnswer: {Kind: cloudsim.RubbishAnswer},
		providertest.EmptyAnswer:     {Kind: cloudsim.EmptyAnswer},
		providertest.ErrorAfterwards: {Kind: cloudsim.RefuseAfter},
		providertest.LostRequest:     {Kind: cloudsim.DropRequest},
		providertest.Error:           {Kind: cloudsim.Refuse},
		providertest.Throttled:       {Kind: cloudsim.Refuse, Status: 429, Code: "24"},
		providertest.Denied:          {Kind: cloudsim.Refuse, Status: 401, Code: "7"},
	}[fault]
	order.Op, order.Times = conformanceOps[op], times
	w.cloud.Order(order)
}

func (w conformance) Calls(op providertest.Op) int {
	if op == providertest.AnyCall {
		return len(w.cloud.Calls())
	}
	return w.cloud.CountCalls(conformanceOps[op])
}

func (w conformance) Secrets() []string { return w.cloud.Secrets() }
