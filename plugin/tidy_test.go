// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// tidyHangs has a tidy wait for a cloud that does not answer.
func (v *testVault) tidyHangs() {
	v.t.Helper()
	v.configure("ttl=10m")
	v.lease("app")
	v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: time.Hour})
	v.write("tidy")
	<-time.After(time.Second)
	synctest.Wait()
}

func TestTidy(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"before the first tidy the status is idle": func(_ *testing.T, v *testVault) {
			v.configure()
			v.mustTidied(tidyIdle, map[string]any{"started": "", "finished": "", "keys": 0})
		},
		"an orphan with our label is removed, everything else stays": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h")
			l := v.lease("app")
			id, own := v.orphan("app"), v.orphan("")
			foreign := []string{
				v.account.AddKey(cloudsim.KeySpec{User: "app"}).AccessKey,
				v.account.AddKey(cloudsim.KeySpec{User: "app", Tag: keylabel.New(keylabel.NewID(), keylabel.KindLease).String()}).AccessKey,
			}
			v.tidy()
			v.mustTidied(tidyDone, map[string]any{"keys": 6, "dry_run": false, "account": ""}, "orphans_found", own+" "+id, "orphans_removed",
				own+" "+id)
			for _, kept := range append(foreign, l.AccessKey(), v.root.AccessKey) {
				if _, there := v.account.Key(kept); !there {
					t.Errorf("%s is gone", kept)
				}
			}
			v.mustHaveLive(2) // the lease, and the other instance's
		},
		"a dry run tells what it would remove and removes nothing": func(t *testing.T, v *testVault) {
			v.configure("ttl=10h")
			v.lease("app")
			id := v.orphan("app")
			v.sim.ResetCalls()
			v.tidy("dry_run=true")
			v.mustTidied(tidyDone, map[string]any{"dry_run": true}, "orphans_found", id, "orphans_removed", "")
			for _, call := range v.sim.Calls() {
				if !strings.HasPrefix(call.Op, "Read") {
					t.Errorf("it calls %s", call.Op)
				}
			}
			if _, there := v.account.Key(id); !there {
				t.Error("the orphan is gone")
			}
		},
		"one account is tidied alone": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			second := v.sim.AddAccount("999999999999")
			root := second.RootKey()
			v.write("config/second", append(v.accountFields(), "access_key="+root.AccessKey, "secret_key="+root.SecretKey)...)
			first, other := v.orphan("app"), second.AddKey(cloudsim.KeySpec{Tag: v.label()}).AccessKey
			v.tidy("account=second")
			v.mustTidied(tidyDone, map[string]any{"account": "second", "keys": 2}, "orphans_removed", other)
			v.tidy()
			v.mustTidied(tidyDone, nil, "orphans_removed", first)
		},
		"keys that are stuck and entries that wait are told with their reasons": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.leases = nil
			cancel := v.sim.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 409, Code: "6003"})
			v.advance(15 * time.Minute)
			v.leaveBegun()
			future := ledger.Path("default", keylabel.New(keylabel.NewID(), keylabel.KindLease).String())
			if err := save(v.t.Context(), v.storage, future, map[string]any{"version": 7, "state": "banana"}); err != nil {
				v.t.Fatal(err)
			}
			v.restart()
			_ = v.tick()
			v.tidy("dry_run=true")
			v.mustTidied(tidyDone, nil, "stuck", l.AccessKey(), "stuck", "6003", "stuck", "again at",
				"waiting", "cloudkeys-", "waiting", `user "app"`, "stuck", future, "stuck", "a newer version of the plugin")
			cancel()
		},
		"an account that fails does not keep the others from being tidied, and its reason is told": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			dead := v.sim.AddAccount("999999999999")
			v.write("config/aaa", append(v.accountFields(), "access_key="+dead.RootKey().AccessKey, "secret_key="+dead.RootKey().SecretKey)...)
			dead.DeleteKey(dead.RootKey().AccessKey)
			id := v.orphan("app")
			v.tidy()
			v.mustTidied(tidyFailed, nil, "orphans_removed", id, "errors", `account "aaa"`, "errors", "ReadAccessKeys")
		},
		"an orphan that cannot be removed is an error, and the next is removed all the same": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			stays, goes := v.orphan("app"), v.orphan("app")
			v.sim.Order(cloudsim.Fault{Op: "DeleteAccessKey", Kind: cloudsim.Refuse, Status: 409, Code: "6003", Times: 2})
			v.tidy()
			v.mustTidied(tidyFailed, nil, "orphans_found", stays, "orphans_removed", goes, "errors", stays, "errors", "6003")
		},
		"a second one is refused while the first runs": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			cancel := v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: 5 * time.Second})
			v.write("tidy")
			<-time.After(time.Second)
			if state := v.read("tidy-status")["state"]; state != tidyRunning {
				t.Errorf("state %v", state)
			}
			v.mustRefuse(logical.UpdateOperation, "tidy", nil, "a tidy runs since", "tidy-status")
			<-time.After(time.Minute)
			v.mustTidied(tidyDone, nil)
			cancel()
			v.tidy()
		},
		"the report survives a restart": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.orphan("app")
			v.tidy()
			before := v.read("tidy-status")
			v.restart()
			after := v.read("tidy-status")
			for field := range before {
				if fmt.Sprint(after[field]) != fmt.Sprint(before[field]) {
					t.Errorf("%s was %v, is %v", field, before[field], after[field])
				}
			}
		},
		"an unmount ends it, and the report says so": func(t *testing.T, v *testVault) {
			v.tidyHangs()
			started := time.Now()
			v.engine.Cleanup(t.Context())
			if took := time.Since(started); took > tidySaveBudget {
				t.Errorf("it took %s", took)
			}
			v.restart()
			v.mustTidied(tidyFailed, nil, "errors", "ended with the engine")
		},
		"an unmount waits a second for it at most, since the sdk holds up every mount of the process meanwhile": func(t *testing.T, v *testVault) {
			v.tidyHangs()
			v.storage.before = func(op, key string) error {
				if op == "put" && key == tidyPath {
					<-time.After(4 * time.Second)
				}
				return nil
			}
			started := time.Now()
			over, cancel := context.WithCancel(t.Context())
			cancel()
			v.engine.Cleanup(over)
			if took := time.Since(started); took > 0 {
				t.Errorf("it took %s, and its context was over", took)
			}
			v.engine.Cleanup(t.Context())
			if took := time.Since(started); took > time.Second {
				t.Errorf("it took %s", took)
			}
			<-time.After(tidySaveBudget)
			v.restart()
			v.mustTidied(tidyFailed, nil, "errors", "ended with the engine")
		},
		"one that a crash cut off is told as such": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: time.Minute})
			v.write("tidy")
			died := v.backend
			v.restart()
			v.mustTidied(tidyFailed, map[string]any{"finished": ""}, "errors", "cut off by a restart")
			died.Cleanup(v.t.Context())
		},
		"a cloud that hangs cannot hold it for ever": func(_ *testing.T, v *testVault) {
			v.configure(v.pool(100), "ttl=10m", "max_ttl=1h")
			v.write("config/default", "request_timeout=45s")
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.Delay, Delay: time.Hour})
			v.write("tidy")
			<-time.After(tidyBudget + time.Second)
			v.mustTidied(tidyFailed, nil, "errors", "did not end within")
		},
		"a key that is being revoked is no orphan": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.sim.Order(cloudsim.Fault{Op: "ReadAccessKeys", Kind: cloudsim.DelayAnswer, Delay: 5 * time.Second})
			v.write("tidy", "dry_run=true")
			<-time.After(7 * time.Second) // its list of the user's keys is on the way
			v.mustRevoke(l)
			<-time.After(time.Minute)
			v.mustTidied(tidyDone, nil, "orphans_found", "")
		},
		"an account that does not exist is refused": func(_ *testing.T, v *testVault) {
			v.mustRefuse(logical.UpdateOperation, "tidy", []string{"account=nope"}, `account "nope" is not configured`)
		},
		"a storage that cannot be written starts nothing": func(t *testing.T, v *testVault) {
			v.configure()
			v.failStorage("put", tidyPrefix)
			if _, err := v.try(logical.UpdateOperation, "tidy"); !errors.Is(err, errInjected) {
				t.Errorf("%v", err)
			}
			v.storage.before = nil
			v.tidy()
		},
		"thousands of stuck keys fit into a report, and are counted": func(t *testing.T, v *testVault) {
			v.configure()
			for i := range tidyLinesMax + 7 {
				entry := &ledger.Entry{
					State: ledger.Made, Kind: keylabel.KindLease, AccessKey: fmt.Sprintf("KEY%d", i), Account: "default", User: "app",
					Label: keylabel.New(keylabel.NewID(), keylabel.KindLease).String(), Problem: strings.Repeat("x", 500),
				}
				if err := save(t.Context(), v.storage, ledger.Path("default", entry.Label), entry); err != nil {
					t.Fatal(err)
				}
			}
			v.tidy()
			v.mustTidied(tidyDone, nil, "stuck", "and 7 more")
			if raw, err := v.storage.Get(t.Context(), tidyPath); err != nil || len(raw.Value) > 1<<20 {
				t.Errorf("%d bytes, %v", len(raw.Value), err)
			}
		},
		"a standby forwards both": func(t *testing.T, v *testVault) {
			v.configure()
			v.system.become(consts.ReplicationPerformanceStandby)
			if _, err := v.try(logical.UpdateOperation, "tidy"); !errors.Is(err, logical.ErrReadOnly) {
				t.Errorf("tidy: %v", err)
			}
			if _, err := v.try(logical.ReadOperation, "tidy-status"); !errors.Is(err, logical.ErrReadOnly) {
				t.Errorf("tidy-status: %v", err)
			}
		},
	})
}
