// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package sweep

import (
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/settings"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

var noon = time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)

func testRules() rules {
	return rules{
		settings: settings.Sweep{
			MinAge: time.Hour, Grace: time.Hour, Quarantine: 7 * dayLong, MaxAge: 90 * dayLong, UsedWithin: dayLong, MaxExemption: 365 * dayLong,
			Foreign:   settings.Report,
			KeepUsers: []string{"ci-*", "root"}, KeepKeys: []string{"KEEPME*"},
		},
		account: fleet.Account{Name: "default", Instance: testInstance, EngineKeys: []string{"ENGINE"}},
		own:     "OWN", root: true, expires: true, bounded: true, hasLedger: true, hasStore: true,
		inactive: map[string]time.Time{}, now: noon,
	}
}

func TestEveryKeyHasOneClass(t *testing.T) {
	mine, other := ours(keylabel.KindLease), keylabel.New("OTHERAAAAAAAAAAA", keylabel.KindLease).String()
	old, ended, live := noon.Add(-100*dayLong), noon.Add(-2*time.Hour), noon.Add(dayLong)
	lease := &fleet.LedgerKey{Kind: "lease", Role: "deploy"}
	key := func(change func(*provider.Key)) provider.Key {
		k := provider.Key{ID: "AK", User: "deploy", Active: true, Created: noon.Add(-2 * dayLong), Expires: live}
		change(&k)
		return k
	}
	cases := map[string]struct {
		key    provider.Key
		entry  *fleet.LedgerKey
		change func(*rules)
		class  Class
		action Action
	}{
		"our own, whatever its date": {
			key(func(k *provider.Key) { k.ID, k.Expires = "OWN", ended }), nil, nil, ClassOwn, ActionKeep,
		},
		"the engine's": {
			key(func(k *provider.Key) { k.ID, k.Expires = "ENGINE", ended }), nil, nil, ClassEngine, ActionKeep,
		},
		"the engine's former, by the ledger": {
			key(func(k *provider.Key) { k.Label, k.Expires = ours(keylabel.KindRoot), ended }),
			&fleet.LedgerKey{Kind: "root"}, nil, ClassEngine, ActionKeep,
		},
		"the engine's by the ledger": {
			key(func(k *provider.Key) { k.Label = mine }), &fleet.LedgerKey{Kind: "root"}, nil, ClassEngine, ActionKeep,
		},
		"allow-listed by user": {
			key(func(k *provider.Key) { k.User, k.Created = "ci-1", old }), nil, nil, ClassListed, ActionKeep,
		},
		"allow-listed by id": {
			key(func(k *provider.Key) { k.ID, k.Label = "KEEPME1", mine }), nil, nil, ClassListed, ActionKeep,
		},
		"allow-listed as root": {key(func(k *provider.Key) { k.User = "" }), nil, nil, ClassListed, ActionKeep},
		"not root where a user signs": {
			key(func(k *provider.Key) { k.User = "" }), nil, func(r *rules) { r.root = false }, ClassForeign, ActionKeep,
		},
		"exempt until tomorrow": {
			key(func(k *provider.Key) { k.Label, k.Created = "vault-keep-until=2026-05-07", old }), nil, nil, ClassExempt, ActionFlag,
		},
		"exempt until the end of today": {
			key(func(k *provider.Key) { k.Label, k.Created = "team=a vault-keep-until=2026-05-06 x", old }), nil, nil, ClassExempt, ActionFlag,
		},
		"exempt until a second ahead": {
			key(func(k *provider.Key) { k.Label, k.Created = "vault-keep-until=2026-05-06T12:00:01Z", old }), nil, nil, ClassExempt, ActionFlag,
		},
		"exempt by a date in no form": {
			key(func(k *provider.Key) { k.Label = "vault-keep-until=summer" }), nil, nil, ClassExempt, ActionFlag,
		},
		"no longer exempt": {
			key(func(k *provider.Key) { k.Label, k.Created = "vault-keep-until=2026-05-05", old }), nil, nil, ClassOverAge, ActionFlag,
		},
		"young": {
			key(func(k *provider.Key) { k.Label, k.Created = mine, noon.Add(-59*time.Minute) }), nil, nil, ClassYoung, ActionKeep,
		},
		"made in the future": {
			key(func(k *provider.Key) { k.Label, k.Created = mine, noon.Add(time.Minute) }), nil, nil, ClassYoung, ActionKeep,
		},
		"of unknown age": {
			key(func(k *provider.Key) { k.Label, k.Created = mine, time.Time{} }), nil, nil, ClassYoung, ActionKeep,
		},
		"leased": {
			key(func(k *provider.Key) { k.Label = mine }), lease, nil, ClassLeased, ActionKeep,
		},
		"leased, its label lost": {
			key(func(k *provider.Key) { k.Created = old }), lease, nil, ClassLeased, ActionKeep,
		},
		"static": {
			key(func(k *provider.Key) { k.Label = mine }), &fleet.LedgerKey{Kind: "static"}, nil, ClassStatic, ActionKeep,
		},
		"leased, expired": {
			key(func(k *provider.Key) { k.Label, k.Expires = mine, ended }), lease, nil, ClassOverdue, ActionFlag,
		},
		"orphan": {
			key(func(k *provider.Key) { k.Label = mine }), nil, nil, ClassOrphan, ActionDeactivate,
		},
		"orphan of a user made for a lease": {
			key(func(k *provider.Key) { k.Label = ours(keylabel.KindUser) }), nil, nil, ClassOrphan, ActionDeactivate,
		},
		"orphan without quarantine": {
			key(func(k *provider.Key) { k.Label = mine }), nil, func(r *rules) { r.settings.Quarantine = 0 }, ClassOrphan, ActionRemove,
		},
		"ours, and no ledger to ask": {
			key(func(k *provider.Key) { k.Label = mine }), nil, func(r *rules) { r.hasLedger = false }, ClassUnverified, ActionKeep,
		},
		"ours, ended": {
			key(func(k *provider.Key) { k.Label, k.Expires = mine, ended }), nil, nil, ClassExpired, ActionRemove,
		},
		"ours, ended within the grace": {
			key(func(k *provider.Key) { k.Label, k.Expires = mine, noon.Add(-59*time.Minute) }), nil, nil, ClassOrphan, ActionDeactivate,
		},
		"ours, due on Huawei": {
			key(func(k *provider.Key) { k.Label, k.Expires, k.Due = mine, time.Time{}, ended }), nil,
			func(r *rules) { r.expires = false }, ClassExpired, ActionDeactivate,
		},
		"another engine's": {
			key(func(k *provider.Key) { k.Label, k.Expires = other, ended }), nil,
			func(r *rules) { r.settings.Foreign = settings.Enforce }, ClassOther, ActionFlag,
		},
		"an engine's, ours being unknown": {
			key(func(k *provider.Key) { k.Label, k.Expires = mine, ended }), nil, func(r *rules) { r.account.Instance = "" }, ClassOther, ActionFlag,
		},
		"foreign, ended": {
			key(func(k *provider.Key) { k.Expires = ended }), nil, nil, ClassExpired, ActionFlag,
		},
		"foreign, ended, to be enforced": {
			key(func(k *provider.Key) { k.Expires = ended }), nil,
			func(r *rules) { r.settings.Foreign = settings.Enforce }, ClassExpired, ActionRemove,
		},
		"foreign, over-age": {
			key(func(k *provider.Key) { k.Created = old }), nil, nil, ClassOverAge, ActionFlag,
		},
		"foreign, over-age, to be enforced": {
			key(func(k *provider.Key) { k.Created = old }), nil,
			func(r *rules) { r.settings.Foreign = settings.Enforce }, ClassOverAge, ActionDeactivate,
		},
		"foreign, and no age is too old": {
			key(func(k *provider.Key) { k.Created = old }), nil, func(r *rules) { r.settings.MaxAge = 0 }, ClassForeign, ActionKeep,
		},
		"foreign, without expiration date": {
			key(func(k *provider.Key) { k.Expires = time.Time{} }), nil, nil, ClassNoExpiration, ActionFlag,
		},
		"foreign, without expiration date, never to be done": {
			key(func(k *provider.Key) { k.Expires = time.Time{} }), nil,
			func(r *rules) { r.settings.Foreign = settings.Enforce }, ClassNoExpiration, ActionFlag,
		},
		"foreign, without expiration date without a policy": {
			key(func(k *provider.Key) { k.Expires = time.Time{} }), nil, func(r *rules) { r.bounded = false }, ClassForeign, ActionKeep,
		},

		"foreign": {key(func(*provider.Key) {}), nil, nil, ClassForeign, ActionKeep},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			r := testRules()
			if test.change != nil {
				test.change(&r)
			}
			d := r.decide(test.key, test.entry)
			if d.class != test.class || d.action != test.action || d.reason == "" {
				t.Errorf("got %+v, want %s, %s", d, test.class, test.action)
			}
		})
	}
}

func TestAFindingHasTheKeyAsItWasListed(t *testing.T) {
	key := provider.Key{
		ID: "AK", User: "u", Label: "l", Active: true, Trusted: true,
		Created: noon, Changed: noon.Add(time.Second), Expires: noon.Add(2 * time.Second), Due: noon.Add(3 * time.Second),
	}
	if got := testRules().finding(key, decision{}).Key(); got != key {
		t.Errorf("got %+v, want %+v", got, key)
	}
}

func TestAKeyIsDeletedWhenItsQuarantineIsOver(t *testing.T) {
	week := 7 * dayLong
	cases := map[string]struct {
		changed, recorded time.Time
		store             bool
		want              Action
	}{
		"by the cloud's date":                       {noon.Add(-week), time.Time{}, true, ActionDelete},
		"a second too early by the cloud's date":    {noon.Add(-week + time.Second), time.Time{}, true, ActionWait},
		"by our own record":                         {time.Time{}, noon.Add(-week), true, ActionDelete},
		"a second too early by our own record":      {time.Time{}, noon.Add(-week + time.Second), true, ActionWait},
		"what is recorded decides, later":           {noon.Add(-2 * week), noon.Add(-dayLong), true, ActionWait},
		"and earlier, whoever has touched it since": {noon.Add(-dayLong), noon.Add(-2 * week), true, ActionDelete},
		"never seen before":                         {time.Time{}, time.Time{}, true, ActionWait},
		"never, where nothing is kept between runs": {time.Time{}, time.Time{}, false, ActionWait},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			r := testRules()
			r.inactive["AK"], r.hasStore = test.recorded, test.store
			key := provider.Key{
				ID: "AK", User: "deploy", Label: ours(keylabel.KindLease), Created: noon.Add(-30 * dayLong), Changed: test.changed,
				Expires: noon.Add(dayLong),
			}
			if d := r.decide(key, nil); d.class != ClassOrphan || d.action != test.want {
				t.Errorf("got %+v, want %s", d, test.want)
			}
		})
	}
}

func TestCapsAreExact(t *testing.T) {
	cases := map[string]struct {
		keys, percent, planned, seen int
		trips                        bool
	}{
		"cap exact boundary":                         {10, 100, 10, 100, false},
		"cap exact boundary, one more":               {10, 100, 11, 100, true},
		"percent exact boundary":                     {100, 10, 10, 100, false},
		"percent exact boundary, one more":           {100, 10, 11, 100, true},
		"percent rounding from five keys on: 5 of 5": {100, 99, 5, 5, true},
		"percent rounding: 5 of 5 at 100":            {100, 100, 5, 5, false},
		"percent rounding: 5 of 10":                  {100, 50, 5, 10, false},
		"percent rounding: 5 of 15 at 33":            {100, 33, 5, 15, true},
		"percent rounding: 5 of 15 at 34":            {100, 34, 5, 15, false},
		"percent rounding: 5 of 20":                  {100, 25, 5, 20, false},
		"percent rounding: 5 of 25 below it":         {100, 19, 5, 25, true},
		"a plan of four is no part of anything":      {100, 1, 4, 4, false},
		"a single orphan of three keys":              {100, 25, 1, 3, false},
		"four of four beyond the number":             {3, 100, 4, 4, true},

		"an empty plan": {1, 1, 0, 0, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			s := settings.Sweep{MaxKeys: test.keys, MaxPercent: test.percent}
			if got := Tripped(s, test.planned, test.seen); (got != "") != test.trips {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestIDsAreMasked(t *testing.T) {
	const id = "ABCDEFGHIJ0123456789"
	for text, want := range map[string]string{
		"access key " + id + " is stuck": "access key ABCD…6789 is stuck",
		"account 123456789012":           "account 123456789012",
		"request 8c0f8b1a-1c1e-4f4e":     "request 8c0f8b1a-1c1e-4f4e",
	} {
		if got := fleet.MaskIn(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := fleet.MaskIn("key SHORT", "SHORT", ""); got != "key …" {
		t.Errorf("got %q", got)
	}
}
