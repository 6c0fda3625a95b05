// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/vault/sdk/logical"
)

func TestEvents(t *testing.T) {
	type sent struct{ operation, path, dataPath, name, modified string }
	expect := func(v *testVault, want ...sent) {
		v.t.Helper()
		synctest.Wait() // a lease does not wait for its event
		var got []sent
		for _, e := range v.events.Events {
			meta := e.Event.GetMetadata().GetFields()
			text := func(field string) string { return meta[field].GetStringValue() }
			got = append(got, sent{text("operation"), text("path"), text("data_path"), text("name"), text("modified")})
			if string(e.Type) != "cloudkeys/"+text("operation") {
				v.t.Errorf("type %s", e.Type)
			}
			v.mustHideSecrets(e.Event.String())
		}
		v.events.Events = nil
		if len(got) != len(want) {
			v.t.Fatalf("%v, want %v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				v.t.Errorf("got %v, want %v", got[i], want[i])
			}
		}
	}
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"accounts and roles tell when they are written, patched and deleted": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			expect(v,
				sent{"config-write", "config/default", "config/default", "default", "true"},
				sent{"role-write", "roles/app", "roles/app", "app", "true"})
			v.patch("config/default", map[string]any{"max_ttl": "1h"})
			v.patch("roles/app", map[string]any{"max_ttl": "1h"})
			expect(v,
				sent{"config-write", "config/default", "config/default", "default", "true"},
				sent{"role-write", "roles/app", "roles/app", "app", "true"})
			for _, path := range []string{"roles/app", "config/default"} {
				resp, err := v.try(logical.DeleteOperation, path)
				v.mustSucceed("delete", resp, err)
			}
			expect(v,
				sent{"role-delete", "roles/app", "roles/app", "app", "true"},
				sent{"config-delete", "config/default", "config/default", "default", "true"})
		},
		"what is refused changes nothing and tells nothing": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "config/default", []string{"provider=banana"}, "banana")
			v.mustRefuse(logical.UpdateOperation, "roles/app", nil, "not configured")
			expect(v)
		},
		"a lease tells whom it was given by and where it stands in the ledger": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.forgetEvents()
			l := v.lease("app")
			expect(v, sent{"creds-create", "creds/app", "keys/" + l.AccessKey(), "app", "true"})
			v.read("keys/" + l.AccessKey())
		},
		"a lease that fails tells so": func(t *testing.T, v *testVault) {
			v.configure("user_names=ghost")
			v.forgetEvents()
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "does not exist")
			expect(v, sent{"creds-create-fail", "creds/app", "creds/app", "app", "false"})
			v.mustRefuse(logical.ReadOperation, "creds/nope", nil, "does not exist")
			expect(v, sent{"creds-create-fail", "creds/nope", "creds/nope", "nope", "false"})
			v.restart() // which forgets the role
			v.failStorage("get", rolePrefix)
			_, _ = v.try(logical.ReadOperation, "creds/app")
			expect(v, sent{"creds-create-fail", "creds/app", "creds/app", "app", "false"})
		},
		"a killed key and a tidy tell too": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.forgetEvents()
			v.kill(l)
			v.tidy("account=default")
			expect(v,
				sent{"key-delete", "keys/" + l.AccessKey(), "keys/" + l.AccessKey(), l.AccessKey(), "true"},
				sent{"tidy", "tidy", "tidy", "default", "true"})
		},
		"a server without events fails no request": func(t *testing.T, v *testVault) {
			v.sender = refusingEvents{}
			v.restart()
			v.configure("ttl=10m")
			v.kill(v.lease("app"))
		},
		"a panic over an event costs the event and nothing else": func(t *testing.T, v *testVault) {
			v.sender = panickingEvents{}
			v.restart()
			v.configure("ttl=10m")
			v.kill(v.lease("app"))
			synctest.Wait()
		},
	})
}

// panickingEvents is a server whose answer the sdk's client does not survive.
type panickingEvents struct{}

// SendEvent implements logical.EventSender.
func (panickingEvents) SendEvent(context.Context, logical.EventType, *logical.EventData) error {
	panic("no event")
}

// refusingEvents is a server that does not know events, as OpenBao.
type refusingEvents struct{}

// SendEvent implements logical.EventSender.
func (refusingEvents) SendEvent(context.Context, logical.EventType, *logical.EventData) error {
	return errors.New("rpc error: code = Unimplemented desc = unknown service pb.Events")
}
