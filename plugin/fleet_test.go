// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// noStaticRoles is a mount without any.
func noStaticRoles() (map[string]map[string]*staticRole, error) { return nil, nil }

// TestAFleetOfAccounts has one mount serve many accounts: enough to tell work that grows with
// their number from work that grows with its square, and few enough for every test run.
func TestAFleetOfAccounts(t *testing.T) {
	const fleet = 300
	for name, test := range map[string]func(t *testing.T, v *testVault){
		"the accounts are listed by page": func(t *testing.T, v *testVault) {
			after, pages, names := "", 0, 0
			for {
				resp, err := v.request(t.Context(), logical.ListOperation, "config/", "after="+after, "limit=45")
				v.mustSucceed("listing", resp, err)
				keys, _ := resp.Data["keys"].([]string)
				if len(keys) == 0 {
					break
				}
				after, pages, names = keys[len(keys)-1], pages+1, names+len(keys)
			}
			if pages != 7 || names != fleet {
				t.Errorf("%d pages of %d accounts in all", pages, names)
			}
		},
		"a tick in which next to nothing is due calls hardly any cloud, and reads next to nothing": func(t *testing.T, v *testVault) {
			v.mustTick()
			v.mustTick()
			v.sim.ResetCalls()
			reads := v.countStorage("")
			v.mustTick()
			// The daily comparison of an account or two may fall into this minute.
			if calls := len(v.sim.Calls()); calls > fleet/10 {
				t.Errorf("%d cloud calls", calls)
			}
			if n := reads(); n > fleet+fleet/10 {
				t.Errorf("%d storage calls for %d accounts", n, fleet)
			}
		},
		"the metrics read no configuration that is in memory": func(t *testing.T, v *testVault) {
			v.mustTick()
			reads := v.countStorage(configPrefix)
			v.scrape()
			if n := reads(); n > 1 {
				t.Errorf("%d storage calls", n)
			}
		},
		"static roles are read once a tick for all accounts": func(t *testing.T, v *testVault) {
			const roles = 50
			for i := range roles {
				v.write(fmt.Sprintf("static-roles/r%02d", i), "account="+fleetName(i), "user_name=robot", "rotation_period=24h")
			}
			reads := v.countStorage(staticRolePrefix)
			v.mustTick()
			if n := reads(); n > 4*roles {
				t.Errorf("%d storage calls for %d static roles", n, roles)
			}
		},
		"an account whose cloud hangs delays no other": func(t *testing.T, v *testVault) {
			v.mustTick()
			v.sim.Order(cloudsim.Fault{Kind: cloudsim.Delay, Account: fleetID(7), Delay: time.Hour})
			v.advance(policyRefresh)
			v.sim.ResetCalls()
			began := time.Now()
			_ = v.tick() // it tells of the one that hangs
			if took := time.Since(began); took > tickBudget {
				t.Errorf("the tick took %s", took)
			}
			late := 0
			for i := range fleet {
				view, err := load[policyView](t.Context(), v.storage, policyPrefix+fleetName(i))
				if err != nil {
					t.Fatal(err)
				}
				if i != 7 && time.Since(view.ReadAt) > policyRefresh {
					late++
				}
			}
			if late > 0 {
				t.Errorf("the policy of %d other accounts was not read", late)
			}
		},
		"a refusal is stored while the cloud of another account hangs": func(t *testing.T, v *testVault) {
			v.mustTick()
			v.sim.Order(cloudsim.Fault{Kind: cloudsim.Delay, Account: fleetID(7), Delay: time.Hour})
			v.sim.Order(cloudsim.Fault{Kind: cloudsim.Refuse, Account: fleetID(3), Status: 401, Code: "1"})
			<-time.After(policyRefresh)
			ended := make(chan struct{})
			go func() { _ = v.tick(); close(ended) }()
			<-time.After(time.Second)
			hold, err := load[storedHold](t.Context(), v.storage, holdPrefix+fleetName(3))
			if err != nil || hold == nil || hold.Refusals != 1 {
				t.Errorf("while the tick runs is stored: %+v, %v", hold, err)
			}
			select {
			case <-ended:
				t.Error("the tick does not wait for the account that hangs")
			default:
				<-ended
			}
		},
		"beyond the bound the account unused for longest is closed, and opened again when it is wanted": func(t *testing.T, v *testVault) {
			v.mustTick()
			v.backend.accounts.Resize(30)
			v.mustTick()
			if n := v.backend.accounts.Len(); n != 30 {
				t.Errorf("%d accounts are open", n)
			}
			for _, i := range []int{0, fleet / 2, fleet - 1} {
				v.read("check/" + fleetName(i))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, newFleet(t, fleet)) })
		})
	}
}

func fleetID(i int) string { return fmt.Sprintf("%012d", i+1) }

func fleetName(i int) string { return fmt.Sprintf("a%04d", i) }

// newFleet mounts the engine on many accounts.
func newFleet(t *testing.T, accounts int) *testVault {
	t.Helper()
	v := newTestVault(t)
	v.base = v.sim.Transport() // without the contract's judge, which would look at every answer
	v.restart()
	for i := range accounts {
		account := v.sim.AddAccount(fleetID(i))
		account.AddUser("robot")
		v.root = account.RootKey()
		v.write("config/"+fleetName(i), append(v.accountFields(), "verify=false")...)
	}
	return v
}
