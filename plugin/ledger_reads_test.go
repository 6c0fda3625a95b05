// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
)

// TestTheLedgerIsReadRarely counts what the periodic work reads, and looks for keys that it forgets for that.
func TestTheLedgerIsReadRarely(t *testing.T) {
	const others = 5
	tests := map[string]func(t *testing.T, v *testVault){
		"the ledger is read once, and not every minute": func(t *testing.T, v *testVault) {
			v.configure("ttl=12h")
			for range others {
				v.lease("app")
			}
			v.restart()
			reads := v.countLedgerReads()
			v.advance(4 * time.Hour)
			if n := reads(); n != others {
				t.Errorf("%d reads of %d entries in four hours", n, others)
			}
		},
		"a key that was renewed over and over is reaped at its last date": func(t *testing.T, v *testVault) {
			v.configure("ttl=40m", "max_ttl=10h")
			l := v.lease("app")
			for range 9 {
				v.advance(25 * time.Minute)
				if err := v.renew(l, 0); err != nil {
					t.Fatal(err)
				}
			}
			v.leases = nil
			v.advance(39 * time.Minute)
			v.mustHaveLedger(1)
			v.advance(2*time.Minute + 2*rollbackPeriod)
			v.mustHaveLedger(0)
		},
		"a long lease that Vault forgot is reaped at its date": func(_ *testing.T, v *testVault) {
			v.configure("ttl=7h")
			v.lease("app")
			v.leases = nil
			v.advance(7 * time.Hour)
			v.mustHaveLedger(1)
			v.advance(time.Minute + 2*rollbackPeriod)
			v.mustHaveLedger(0)
		},
		"a short lease that Vault forgot is reaped at its date, though no walk comes before": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.advance(2 * rollbackPeriod) // the walk at the start is over
			v.lease("app")
			v.leases = nil
			v.advance(10 * time.Minute)
			v.mustHaveLedger(1)
			v.advance(time.Minute + 2*rollbackPeriod)
			v.mustHaveLedger(0)
		},
		"what is taken for due and is not, since its entry has a later date, is left alone": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.backend.ledger.PutOff("default", l.Secret.InternalData["label"].(string), time.Now())
			v.advance(2 * rollbackPeriod)
			v.mustHaveLedger(1)
			if key, _ := v.account.Key(l.AccessKey()); !key.Live(time.Now()) {
				t.Error("it does not work any more")
			}
		},
		"a new active node finds what came due before it": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.leases = nil
			<-time.After(time.Hour) // while no node is active
			v.restart()
			v.advance(2 * rollbackPeriod)
			v.mustHaveLedger(0)
		},
		"a walk that does not fit into a tick goes on in the next": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			for range others {
				v.lease("app")
			}
			v.leases = nil
			<-time.After(time.Hour) // while no node is active
			v.restart()
			v.storage.before = func(op, key string) error {
				if op == "get" && strings.HasPrefix(key, ledger.Prefix) {
					<-time.After(time.Second)
				}
				return nil
			}
			v.advance(2 * rollbackPeriod)
			if n := v.ledgerSize(); n == 0 {
				t.Fatal("the walk fitted into one tick: the test proves nothing")
			}
			v.advance(2 * others * rollbackPeriod)
			v.mustHaveLedger(0)
		},
		"what is due is reaped while the ledger is still being read": func(t *testing.T, v *testVault) {
			v.configure(v.pool(3), "ttl=10h")
			for range 29 {
				v.lease("app")
			}
			v.write("roles/short", "user_names=app", "ttl=5m")
			v.restart()
			v.lease("short")
			v.leases = nil
			reads := 0
			v.storage.before = func(op, key string) error {
				if op == "get" && strings.HasPrefix(key, ledger.Prefix) {
					reads++
					<-time.After(tickBudget / 5)
				}
				return nil
			}
			v.advance(8 * rollbackPeriod)
			if v.backend.ledger.Whole("default") {
				t.Fatalf("all is read, in %d reads: the test proves nothing", reads)
			}
			v.mustHaveLedger(29)
		},
		"what is gone is not looked for every minute": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.leases = nil
			v.deleteKey(l.AccessKey())
			if err := remove(t.Context(), v.storage, v.entryPath(l.AccessKey())); err != nil {
				t.Fatal(err)
			}
			v.advance(12 * time.Minute)
			reads := v.countLedgerReads()
			v.advance(10 * time.Minute)
			if n := reads(); n != 0 {
				t.Errorf("%d reads", n)
			}
		},
		"an entry that cannot be read does not hide the others": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			unreadable := v.lease("app").AccessKey()
			for range others {
				v.lease("app")
			}
			v.leases = nil
			<-time.After(time.Hour) // while no node is active
			v.restart()
			v.failReads(v.entryPath(unreadable))
			for range 2 * others {
				_ = v.tick() // it says what it cannot read
			}
			if n := v.ledgerSize(); n != 1 {
				t.Errorf("%d entries are left, want the unreadable one", n)
			}
		},
		"an entry that can be read again is reaped within minutes, and not at the next restart": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			v.lease("app")
			v.leases = nil
			<-time.After(time.Hour) // while no node is active
			v.restart()
			v.failReads(ledger.Prefix)
			_ = v.tick()
			v.storage.before = nil
			v.mustHaveLedger(1)
			v.advance(ledger.RereadAfter + 2*rollbackPeriod)
			v.mustHaveLedger(0)
		},
		"nor does one that becomes unreadable keep the others from being reaped": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			unreadable := v.lease("app").AccessKey()
			v.advance(time.Minute)
			v.lease("app")
			v.leases = nil
			v.failReads(v.entryPath(unreadable))
			v.advance(15 * time.Minute)
			v.mustHaveLedger(1)
			v.storage.before = nil
			v.advance(ledger.RereadAfter + 2*rollbackPeriod)
			v.mustHaveLedger(0)
		},
		"the engine's own key is not taken for one of a lease because its entry could not be read": func(t *testing.T, v *testVault) {
			v.rootKeyWithDate(10 * time.Minute)
			v.configure("ttl=1m")
			v.write("config/default", "rotation_period=1h")
			own := v.rotate()["access_key"].(string)
			edit(v, v.entryPath(own), func(entry *ledger.Entry) { entry.Expires = time.Now() })
			v.restart()
			v.failReads(ledger.Prefix)
			_ = v.tick()
			v.storage.before = nil
			v.advance(ledger.RereadAfter + 2*rollbackPeriod)
			if _, there := v.key(own); !there {
				t.Error("it is gone")
			}
		},
	}
	inBubble(t, tests)
}
