// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestDeleteLeasedKey(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"a leaked key is gone from cloud and ledger at once, and from nowhere else": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			leaked, other := v.lease("app"), v.lease("app")
			v.kill(leaked)
			if _, there := v.account.Key(leaked.AccessKey()); there {
				t.Error("the key is still there")
			}
			v.mustFit(other, time.Minute)
			v.mustHaveLedger(1)
		},
		"its lease can be revoked afterwards without fuss, and then there is nothing left": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.kill(l)
			v.mustRevoke(l)
			v.mustHaveLedger(0)
			v.mustHaveNothingBegun()
		},
		"its lease ends by itself as well": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.kill(v.lease("app"))
			v.advance(15 * time.Minute)
			if len(v.leases) != 0 {
				t.Error("the lease is still there")
			}
			v.mustHaveLedger(0)
		},
		"its lease cannot be renewed, and trying does not bring the ledger entry back": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.kill(l)
			err := v.renew(l, 0)
			if err == nil {
				t.Fatal("renewed")
			}
			mustHold(t, err.Error(), "no longer exists", "ask for a new one")
			v.mustHaveLedger(0)
			v.mustHaveLive(0)
		},
		"a freed slot and a freed count can be used at once": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m", "max_active_keys=1")
			l := v.lease("app")
			v.kill(l)
			v.lease("app")
		},
		"a key that this mount did not issue is refused and lives on": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			foreign := v.account.AddKey(cloudsim.KeySpec{User: "app"}).AccessKey
			for _, id := range []string{foreign, v.root.AccessKey, "ABCDEFGHIJKLMNOPQRST"} {
				v.mustRefuse(logical.DeleteOperation, "keys/"+id, nil, id, "not in this mount's ledger", "issued elsewhere")
			}
			if _, there := v.account.Key(foreign); !there {
				t.Error("it is gone")
			}
		},
		"the engine's own key and those of static roles are refused with the right path": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.addUser("db")
			v.write("static-roles/db", "user_name=db", "rotation_period=24h")
			root, static := v.rotate()["access_key"].(string), v.staticKey("db")
			for _, fields := range [][]string{nil, {"force=true"}} {
				v.mustRefuse(logical.DeleteOperation, "keys/"+root, fields, "rotate-root/default")
				v.mustRefuse(logical.DeleteOperation, "keys/"+static, fields, "rotate-role/db")
			}
			v.mustBeLive(true, root, static)
		},
		"with the engine's own key refused it says that the key may still work, and what to do": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.account.DeleteKey(v.root.AccessKey)
			v.mustRefuse(logical.DeleteOperation, "keys/"+l.AccessKey(), nil, "NOT removed", "may work until", "config/default")
			v.mustHaveLedger(1)
		},
		"with the account pointed elsewhere too": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.replaceConfig(func(c *accountConfig) { c.AccountID = "999999999999" })
			v.mustRefuse(logical.DeleteOperation, "keys/"+l.AccessKey(), nil, "NOT removed", testAccountID, "999999999999")
			v.mustHaveLedger(1)
		},
		"with the cloud down it is an error to try again, and trying again works": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			cancel := v.sim.Order(cloudsim.Fault{Kind: cloudsim.RefuseConnection})
			if _, err := v.try(logical.DeleteOperation, "keys/"+l.AccessKey()); err == nil {
				t.Fatal("an HTTP 400, or a success")
			} else {
				mustHold(t, err.Error(), "NOT removed", "cannot be reached")
			}
			v.mustHaveLedger(1)
			cancel()
			v.kill(l)
			v.mustHaveLedger(0)
		},
		"a client that hangs up does not stop it": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			ctx, hangUp := context.WithCancel(v.t.Context())
			v.sim.OnCall(func(cloudsim.Call) { hangUp() })
			_, _ = v.request(ctx, logical.DeleteOperation, "keys/"+l.AccessKey())
			v.mustHaveLive(0)
			v.mustHaveLedger(0)
		},
		"a death at any step is finished by doing it again": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for step := 0; ; step++ {
				l := v.lease("app")
				v.settleNew()
				died := v.dieAt(step, func(ctx context.Context) { _, _ = v.request(ctx, logical.DeleteOperation, "keys/"+l.AccessKey()) })
				v.restart()
				v.invariant()
				if died {
					_, _ = v.try(logical.DeleteOperation, "keys/"+l.AccessKey())
				}
				v.mustHaveLive(0)
				v.mustHaveLedger(0)
				v.mustRevoke(l)
				if !died {
					return
				}
			}
		},
	})
}
