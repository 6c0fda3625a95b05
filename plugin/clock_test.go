// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// outlives tells how long a lease's key outlives the lease, by the cloud's clock, which is skew ahead.
func (v *testVault) outlives(l *testLease, skew time.Duration) time.Duration {
	v.t.Helper()
	key, there := v.account.Key(l.AccessKey())
	if !there {
		v.t.Fatal("the key is gone")
	}
	return key.Expires.Add(-skew).Sub(l.Expires)
}

func (v *testVault) mustOutliveItsLease(when string, l *testLease, skew time.Duration) {
	v.t.Helper()
	if by := v.outlives(l, skew); (by - lifetime.DefaultExpiryGrace).Abs() > 3*time.Second {
		v.t.Errorf("%s: with a cloud %s ahead the key outlives its lease by %s", when, skew, by)
	}
}

// TestClock is E17: clouds whose clock is not this machine's.
func TestClock(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, v *testVault){}
	for _, skew := range []time.Duration{4 * time.Minute, 10 * time.Minute, -4 * time.Minute, -10 * time.Minute} {
		tests[fmt.Sprintf("a cloud %s ahead ends no key before its lease", skew)] = func(t *testing.T, v *testVault) {
			v.sim.SetClockSkew(skew)
			v.configure("ttl=5m", "max_ttl=1h")
			l := v.lease("app")
			v.mustOutliveItsLease("a new lease", l, skew)
			v.advance(3 * time.Minute)
			if err := v.renew(l, 0); err != nil {
				t.Fatal(err)
			}
			v.mustOutliveItsLease("a renewed lease", l, skew)
			v.advance(4 * time.Minute)
			v.mustHaveLedger(1)
			v.mustRevoke(l)
			v.mustHaveLedger(0)
		}
		tests[fmt.Sprintf("nor does the first lease of a new process, with a cloud %s ahead", skew)] = func(_ *testing.T, v *testVault) {
			v.configure("ttl=5m")
			v.sim.SetClockSkew(skew)
			v.restart()
			v.mustOutliveItsLease("a new lease", v.lease("app"), skew)
		}
		tests[fmt.Sprintf("nor does the first renewal by a new process, with a cloud %s ahead", skew)] = func(t *testing.T, v *testVault) {
			v.configure("ttl=5m", "max_ttl=1h")
			for _, before := range []time.Duration{0, skew} {
				v.sim.SetClockSkew(before)
				v.restart()
				l := v.lease("app")
				v.advance(3 * time.Minute)
				v.sim.SetClockSkew(skew)
				v.restart()
				if err := v.renew(l, 0); err != nil {
					t.Fatal(err)
				}
				if by := v.outlives(l, skew); by < lifetime.DefaultExpiryGrace-3*time.Second {
					t.Errorf("issued with the cloud %s ahead: the key outlives its renewed lease by %s", before, by)
				}
			}
		}
		tests[fmt.Sprintf("nor of a user made for it, with a cloud %s ahead", skew)] = func(_ *testing.T, v *testVault) {
			v.configureUsers("ttl=5m")
			v.sim.SetClockSkew(skew)
			v.restart()
			v.mustOutliveItsLease("a new lease", v.lease("job"), skew)
		}
		tests[fmt.Sprintf("the policy counts by the cloud's clock, %s ahead", skew)] = func(t *testing.T, v *testVault) {
			v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
			v.root = v.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(skew + 880*time.Second)})
			v.sim.SetClockSkew(skew)
			v.configure("ttl=10h", "max_ttl=10h")
			l := v.lease("app")
			if ttl := l.Secret.TTL; ttl < 830*time.Second || ttl > 835*time.Second {
				t.Errorf("the lease is %s long", ttl)
			}
			v.mustOutliveItsLease("a new lease", l, skew)
			for range 12 { // the engine's own key is replaced in time, by that clock
				v.advance(10 * time.Minute)
				v.mustRevoke(v.lease("app"))
			}
		}
	}
	tests["what is said of it"] = func(t *testing.T, v *testVault) {
		v.makeHealthy()
		for skew, says := range map[time.Duration]string{
			30 * time.Second: "", 3 * time.Minute: "warning: ", -3 * time.Minute: "warning: ", 16 * time.Minute: "error: ",
			-16 * time.Minute: "error: ",
		} {
			v.sim.SetClockSkew(skew)
			v.restart()
			resp, err := v.try(logical.ReadOperation, "creds/app")
			if warned := err == nil && strings.Contains(fmt.Sprint(resp.Warnings), "clock"); says != "error: " && warned != (says == "warning: ") {
				t.Errorf("%s: the lease says %v, %v", skew, resp, err)
			}
			if says == "error: " && (resp == nil || !strings.Contains(fmt.Sprint(resp.Data), "clock")) {
				t.Errorf("%s: got %v, %v, and no word of the clock", skew, resp, err)
			}
			found := fmt.Sprint(v.read("check/default")["findings"])
			if got := strings.Contains(found, "clock") || strings.Contains(found, "time of the requests"); got != (says != "") ||
				!strings.Contains(found, says) {
				t.Errorf("%s: check says %s", skew, found)
			}
			v.sim.SetClockSkew(0)
			v.restart()
			v.advance(20 * time.Minute) // past the second try with a key that the cloud had refused for the time
		}
	}
	tests["a replaced key of a static role is known until the cloud has ended it"] = func(t *testing.T, v *testVault) {
		skew := 4 * time.Minute
		v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 7200})
		v.root = v.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(skew + 2*time.Hour)})
		v.sim.SetClockSkew(skew)
		v.configure()
		v.addUser("db")
		v.write("static-roles/db", "user_name=db", "rotation_period=1h", "rotation_grace_period=1m")
		id := v.read("static-creds/db")["access_key"].(string)
		key, _ := v.account.Key(id)
		if said := v.read("static-creds/db")["expiration"]; said != showTime(key.Expires) {
			t.Errorf("it is said to end at %v, and the cloud ends it at %s", said, key.Expires)
		}
		v.order(cloudsim.Fault{Op: "UpdateAccessKey", Kind: cloudsim.Refuse, Status: 401, Code: "7"})
		v.write("rotate-role/db")
		ids := func() []string { return stored[staticCreds](v, staticCredsPrefix+"db").ids() }
		v.advance(time.Until(key.Expires.Add(-skew)))
		if got := ids(); !slices.Contains(got, id) {
			t.Errorf("forgotten before its end at %s: %v", key.Expires, got)
		}
		v.settle(5 * time.Minute) // and not advance, which looks at the clouds' keys by this machine's clock
		if got := ids(); slices.Contains(got, id) {
			t.Errorf("still known: %v", got)
		}
	}
	behind := -10 * time.Minute
	tests["a key that a cloud behind this machine has not ended yet is handed over"] = func(t *testing.T, v *testVault) {
		v.sim.SetClockSkew(behind)
		v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 7200})
		v.root = v.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(2*time.Hour + behind)})
		v.configure()
		v.addUser("db")
		v.write("static-roles/db", "user_name=db", "rotation_period=1h", "rotation_grace_period=1m")
		id := v.read("static-creds/db")["access_key"].(string)
		v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.Refuse, Status: 500})
		key, _ := v.account.Key(id)
		v.settle(time.Until(key.Expires.Add(-behind)) - 5*time.Minute)
		if said := fmt.Sprint(v.delete("static-roles/db", "keep_key=true")); !strings.Contains(said, id+" of user") {
			t.Errorf("%s, and it works until %s", said, key.Expires)
		}
		if _, there := v.account.Key(id); !there {
			t.Error("it is deleted")
		}
	}
	tests["the tries of a rotation do not end before the key does"] = func(t *testing.T, v *testVault) {
		v.sim.SetClockSkew(behind)
		v.root = v.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(9*time.Hour + behind)})
		v.configure()
		v.write("config/default", "rotation_period=8h")
		key, _ := v.account.Key(v.root.AccessKey)
		again := v.order(cloudsim.Fault{Op: "CreateAccessKey", Kind: cloudsim.Refuse, Status: 500})
		v.settle(time.Until(key.Expires.Add(-behind)) - 5*time.Minute)
		again()
		v.settle(5*time.Minute - time.Second)
		if v.read("config/default")["access_key"] == v.root.AccessKey {
			t.Error("the key ends, and no try has come since the cloud makes keys again")
		}
	}
	tests["a new process asks for the cloud's time before it finds a rotation not due"] = func(t *testing.T, v *testVault) {
		skew := 4 * time.Minute
		v.account.SetPolicy(cloudsim.Policy{MaxAccessKeyExpirationSeconds: 900})
		v.root = v.account.AddKey(cloudsim.KeySpec{Expires: time.Now().Add(skew + 880*time.Second)})
		v.sim.SetClockSkew(skew)
		v.configure("ttl=5m")
		v.rotate()
		<-time.After(9*time.Minute + 30*time.Second)
		v.read("check/default") // reads the policy, which is then read no more for five minutes
		before := v.read("config/default")["access_key"]
		v.restart()
		<-time.After(time.Minute)
		if err := v.tick(); err != nil {
			t.Error(err)
		}
		if after := v.read("config/default")["access_key"]; after == before {
			t.Error("the key has lived for two thirds of its time by the cloud's clock, and was not replaced")
		}
	}
	tests["a date proves nothing while the cloud's clock is not known"] = func(t *testing.T, v *testVault) {
		v.configure("ttl=5m")
		l := v.lease("app")
		<-time.After(10 * time.Minute)
		v.restart()
		v.sim.ResetCalls()
		v.mustRevoke(l)
		if calls := len(v.sim.Calls()); calls == 0 {
			t.Error("the cloud was not asked")
		}
		v.mustHaveLedger(0)
	}
	inBubble(t, tests)
}
