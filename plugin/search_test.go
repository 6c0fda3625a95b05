// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

func TestRollbackOfAUserThatIsNotFound(t *testing.T) {
	t.Parallel()
	inBothClouds(t, map[string]func(t *testing.T, v *testVault){
		"one that was renamed since loses the key all the same": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.leaveBegun()
			v.mustHaveLive(1)
			v.renameUser("app", "app-renamed")
			v.settle(begunAge + 3*rollbackPeriod)
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
		},
		"among more users than one tick has time for": func(_ *testing.T, v *testVault) {
			v.configure("ttl=2h")
			v.write("config/default", "max_requests_per_second=5")
			for i := range 200 {
				v.addUser(fmt.Sprintf("other-%d", i))
			}
			v.leaveBegun()
			v.renameUser("app", "app-renamed")
			v.settle(begunAge + 40*rollbackPeriod)
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
		},
		"one whose name is another's by now keeps the entry of a key that may not be deleted": func(t *testing.T, v *testVault) {
			v.configure("ttl=2h")
			v.leaveBegun()
			v.renameUser("app", "app-renamed")
			v.addUser("app")
			status, code := 401, "7"
			if v.domain != nil {
				status, code = 403, "IAM.0002"
			}
			var cancels []func()
			for _, op := range []string{"UpdateAccessKey", "DeleteAccessKey"} {
				cancels = append(cancels, v.order(cloudsim.Fault{Op: op, Kind: cloudsim.Refuse, Status: status, Code: code}))
			}
			<-time.After(begunAge + 3*rollbackPeriod)
			_ = v.tick()
			v.mustHaveLive(1)
			if n := v.begunOf("app"); n != 1 {
				t.Errorf("%d entries of a key that lives", n)
			}
			for _, cancel := range cancels {
				cancel()
			}
			v.settle(20 * rollbackPeriod)
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
		},
		"one that is gone ends the entry": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.leaveBegun()
			v.deleteUser("app")
			v.settle(begunAge + 3*rollbackPeriod)
			v.mustHaveNothingBegun()
		},
		"so it does for the key of a static role": func(t *testing.T, v *testVault) {
			v.write("config/default", v.accountFields()...)
			v.storage.before = func(op, key string) error {
				if op == "put" && strings.HasPrefix(key, staticCredsPrefix) {
					return errInjected
				}
				return nil
			}
			_, _ = v.try(logical.UpdateOperation, "static-roles/db", "user_name=app", "rotation_period=24h")
			v.storage.before = nil
			if n := v.begunOf("app"); n != 1 {
				t.Errorf("%d entries are begun", n)
			}
			v.deleteUser("app")
			v.settle(begunAge + 3*rollbackPeriod)
			v.mustHaveNothingBegun()
			v.mustHaveLedger(0)
		},
		"one that is there is not taken for gone": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.leaveBegun()
			status, code := 400, "5069"
			if v.domain != nil {
				status, code = 404, "IAM.0004"
			}
			cancel := v.order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Refuse, Status: status, Code: code})
			<-time.After(begunAge)
			if err := v.tick(); err == nil {
				t.Error("the rollback believes that the user is gone")
			}
			v.mustHaveLive(1)
			cancel()
			v.settle(3 * rollbackPeriod)
			v.mustHaveLive(0)
			v.mustHaveNothingBegun()
		},
	})
}
