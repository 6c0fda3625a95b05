// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"keys are listed page by page with who has them": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range 5 {
				v.lease("app")
			}
			var all []string
			for after := ""; ; {
				resp, err := v.try(logical.ListOperation, "keys/", "after="+after, "limit=2")
				v.mustSucceed("list", resp, err)
				ids, _ := resp.Data["keys"].([]string)
				if len(ids) == 0 {
					break
				}
				for _, id := range ids {
					if info := resp.Data["key_info"].(map[string]any)[id].(map[string]any); info["role"] != "app" {
						t.Errorf("%v", info)
					}
				}
				all = append(all, ids...)
				after = ids[len(ids)-1]
			}
			if len(all) != 5 {
				t.Errorf("%v", all)
			}
			for _, l := range v.leases {
				v.read("keys/" + l.AccessKey())
			}
		},
		"a user's keys are listed alone, page by page": func(t *testing.T, v *testVault) {
			v.account.AddUser("a.b")
			v.configure("user_names=app,a.b", "ttl=10m")
			for range 6 {
				v.lease("app")
			}
			want := map[string]bool{}
			for _, l := range v.leases {
				if l.Data["user_name"] == "a.b" {
					want[l.AccessKey()] = true
				}
			}
			after := ""
			for range 3 {
				resp, err := v.try(logical.ListOperation, "keys/", "user=a.b", "limit=1", "after="+after)
				v.mustSucceed("list", resp, err)
				ids := resp.Data["keys"].([]string)
				if len(ids) != 1 || !want[ids[0]] {
					t.Fatalf("%v, want one of %v", ids, want)
				}
				if info := resp.Data["key_info"].(map[string]any)[ids[0]].(map[string]any); info["user_name"] != "a.b" {
					t.Errorf("%v", info)
				}
				delete(want, ids[0])
				after = ids[0]
			}
			resp, err := v.try(logical.ListOperation, "keys/", "user=nobody")
			v.mustSucceed("list", resp, err)
			if len(resp.Data) != 0 {
				t.Errorf("%v", resp.Data)
			}
		},
		"an account's keys, and those of the engine's own identity, are listed alone": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.write("rotate-root/default")
			list := func(filter ...string) []string {
				resp, err := v.try(logical.ListOperation, "keys/", filter...)
				v.mustSucceed("list", resp, err)
				ids, _ := resp.Data["keys"].([]string)
				return ids
			}
			leased, root := v.leases[0].AccessKey(), v.read("config/default")["access_key"]
			if got := list("account=default"); len(got) != 2 || len(list("account=default")) != 2 || len(list("account=other")) != 0 {
				t.Errorf("of the account: %v", got)
			}
			if got := list("account=default", "own_identity=true"); len(got) != 1 || got[0] != root {
				t.Errorf("of the engine's own identity: %v, want %v", got, root)
			}
			if got := list("account=default", "user=app"); len(got) != 1 || got[0] != leased {
				t.Errorf("of the user: %v, want %v", got, leased)
			}
			if resp, err := v.try(logical.ListOperation, "keys/", "user=app", "own_identity=true"); err == nil && !resp.IsError() {
				t.Errorf("both at once: %v", resp)
			}
		},
		"the key of a user made for a lease is found by that user": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("roles/job", "credential_type=iam_user", "ttl=10m")
			l := v.lease("job")
			resp, err := v.try(logical.ListOperation, "keys/", "user="+l.Data["user_name"].(string))
			v.mustSucceed("list", resp, err)
			if ids, _ := resp.Data["keys"].([]string); len(ids) != 1 || ids[0] != l.AccessKey() {
				t.Errorf("%v", resp.Data)
			}
		},
		"a key that this mount did not make is not found": func(t *testing.T, v *testVault) {
			v.configure()
			if resp, err := v.try(logical.ReadOperation, "keys/ABCDEFGHIJKLMNOPQRST"); err != nil || resp != nil {
				t.Errorf("%v %v", resp, err)
			}
		},
	})
}
