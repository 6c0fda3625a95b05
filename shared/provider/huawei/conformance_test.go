// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package huawei

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/providertest"
)

// What is only assumed of the cloud must make no difference.
func TestConformance(t *testing.T) {
	clouds := map[string]struct {
		rules  cloudsim.HuaweiRules
		change func(c *Config, domain string)
	}{
		"as documented": {},
		"with other words": {rules: cloudsim.HuaweiRules{
			UnknownUserIs400: true, InactiveKeyIs401: true, NullErrorCodes: true, DomainIDOptional: true, ListHidesNothing: true,
		}},
		"whose account is given": {change: func(c *Config, domain string) { c.DomainID = domain }},
		"with the older dialect": {
			rules:  cloudsim.HuaweiRules{OldDialectOnly: true},
			change: func(c *Config, _ string) { c.Signature = SignatureOTC },
		},
	}
	for name, cloud := range clouds {
		t.Run(name, func(t *testing.T) {
			providertest.Run(t, providertest.Harness{New: func(t *testing.T) *providertest.Account {
				w := newWorld(t)
				w.cloud.SetHuaweiRules(cloud.rules)
				if cloud.change != nil {
					cloud.change(&w.config, w.domain.ID())
					w.client = newClient(t, w.config)
				}
				w.domain.AddUser("other")
				w.domain.AddGroup("readers")
				w.domain.AddGroup("builders")
				return &providertest.Account{
					Cloud: w.client, ID: w.domain.ID(), User: testUser, Other: "other",
					Rights:  provider.Rights{Groups: []string{"readers", "builders"}},
					Missing: provider.Rights{Groups: []string{"readers", "nope"}}, MissingName: "nope",
					Admin: conformance{w},
				}
			}})
		})
	}
}

// conformance is a simulated cloud for the conformance tests.
type conformance struct{ *world }

func (w conformance) Key(user, label string) string {
	return w.domain.AddKey(cloudsim.IAMKeySpec{User: user, Description: label}).AccessKey
}

func (w conformance) HasKey(id string) (exists, active bool) {
	key, ok := w.domain.Key(id)
	return ok, key.State == cloudsim.IAMActive
}

func (w conformance) KeyCount(name string) int {
	user, _ := w.domain.User(name)
	return user.Keys
}

func (w conformance) AddUser(name string) { w.domain.AddUser(name) }

func (w conformance) HasUser(name string) (exists bool, rights int) {
	user, ok := w.domain.User(name)
	return ok, len(user.Groups)
}

func (w conformance) DeleteUser(name string) { w.domain.DeleteUser(name) }

func (w conformance) HideNewKeys(d time.Duration) {
	w.cloud.SetHuaweiRules(cloudsim.HuaweiRules{KeyDelay: d})
}

func (w conformance) DeleteKey(id string) { w.domain.DeleteKey(id) }

func (w conformance) UserID(name string) string { return w.userID(name) }

func (w conformance) RenameUser(name, to string) { w.domain.RenameUser(name, to) }

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
	return w.as(t, w.cloud.AddDomain("stranger").RootKey(), func(c *Config) { c.DomainID = "" })
}

func (w conformance) MayActAs(user string) { w.domain.AddUser(user, cloudsim.SecurityAdministrator) }

// conformanceOps are Huawei Cloud's names.
var conformanceOps = map[providertest.Op]string{
	providertest.AnyCall:    "",
	providertest.CreateKey:  opCreateKey,
	providertest.ListKeys:   opListKeys,
	providertest.UpdateKey:  opUpdateKey,
	providertest.DeleteKey:  opDeleteKey,
	providertest.CreateUser: opCreateUser,
	providertest.DeleteUser: opDeleteUser,
	providertest.ListUsers:  opListUsers,
}

func (w conformance) Order(op providertest.Op, fault providertest.Fault, times int) {
	order := map[providertest.Fault]cloudsim.Fault{
		providertest.LostAnswer:      {Kind: cloudsim.DropAnswer},
		providertest.TruncatedAnswer: {Kind: cloudsim.RubbishAnswer},
		providertest.EmptyAnswer:     {Kind: cloudsim.EmptyAnswer},
		providertest.ErrorAfterwards: {Kind: cloudsim.RefuseAfter},
		providertest.LostRequest:     {Kind: cloudsim.DropRequest},
		providertest.Error:           {Kind: cloudsim.Refuse},
		providertest.Throttled:       {Kind: cloudsim.Refuse, Status: 429, Code: "APIGW.0308"},
		providertest.Denied:          {Kind: cloudsim.Refuse, Status: 403, Code: "IAM.0002"},
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
