// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
)

// TestWhatEndsEachKindOfKey is the table of reliability.md: what becomes of a key whose end nobody orders.
func TestWhatEndsEachKindOfKey(t *testing.T) {
	t.Parallel()
	type keys struct{ leased, ofUser, static, own string }
	oneOfEach := func(v *testVault, config ...string) keys {
		v.t.Helper()
		v.configureUsers("ttl=1h")
		v.write("config/default", append(v.accountFields(), config...)...)
		v.write("roles/app", "user_names=app", "ttl=1h")
		v.addUser("db")
		v.write("static-roles/db", "user_name=db", "rotation_period=24h")
		v.write("rotate-root/default")
		v.settleNew()
		k := keys{v.lease("app").AccessKey(), v.lease("job").AccessKey(), v.staticKey("db"), v.accountConfig().AccessKey}
		v.settleNew()
		v.mustBeLive(true, k.leased, k.ofUser, k.static, k.own)
		return k
	}
	const pastDate = time.Hour + lifetime.DefaultExpiryGrace + time.Minute
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"lease revoke -force: the ledger deletes leased keys at their date": func(_ *testing.T, v *testVault) {
			k := oneOfEach(v)
			v.leases = nil
			v.settle(pastDate + 3*rollbackPeriod)
			v.mustBeLive(false, k.leased, k.ofUser)
			v.mustHaveNoUsers()
			v.mustBeLive(true, k.static, k.own)
		},
		"a week sealed: leased keys are gone within minutes of the unseal, and static roles are rotated": func(_ *testing.T, v *testVault) {
			k := oneOfEach(v)
			v.leases = nil // Vault takes up its leases at the unseal: whether it does makes no difference here
			huawei := v.domain != nil
			<-time.After(pastDate)
			v.mustBeLive(huawei, k.leased, k.ofUser)
			<-time.After(7*day - pastDate)
			v.mustBeLive(huawei, k.leased, k.ofUser, k.static)
			v.mustBeLive(true, k.own)
			v.restart()
			v.settle(3 * rollbackPeriod)
			v.mustBeLive(false, k.leased, k.ofUser)
			v.mustHaveNoUsers()
			v.mustBeLive(true, v.staticKey("db"))
		},
		"a lost Vault, a mount or a namespace that is deleted by force: OUTSCALE ends what has a date, Huawei Cloud " +
			"nothing": func(_ *testing.T, v *testVault) {
			k := oneOfEach(v)
			<-time.After(60 * day)
			v.mustBeLive(v.domain != nil, k.leased, k.ofUser, k.static)
			v.mustBeLive(true, k.own)
		},
		"the engine's own key has a date under rotation_period, on OUTSCALE": func(_ *testing.T, v *testVault) {
			k := oneOfEach(v, "rotation_period=24h")
			<-time.After(7 * day)
			v.mustBeLive(v.domain != nil, k.own)
		},
	})
}

// mustHaveNoUsers expects no user in the cloud that was made for a lease.
func (v *testVault) mustHaveNoUsers() {
	v.t.Helper()
	if users := v.ourUsers(); len(users) != 0 {
		v.t.Errorf("users %v are left", users)
	}
}
