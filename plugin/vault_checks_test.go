// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/lifetime"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// mustFind expects one finding that holds all the parts, and every finding to have its
// severity and its remedy, and no secret.
func (v *testVault) mustFind(check map[string]any, parts ...string) {
	v.t.Helper()
	findings := check["findings"].([]string)
	found := false
	for _, finding := range findings {
		v.mustHideSecrets(finding)
		if pieces := strings.Split(finding, ": "); len(pieces) < 3 || pieces[0] != "error" && pieces[0] != "warning" ||
			pieces[len(pieces)-1] == "" {
			v.t.Errorf("%q is not severity: what: remedy", finding)
		}
		holds := true
		for _, part := range parts {
			holds = holds && strings.Contains(finding, part)
		}
		found = found || holds
	}
	if !found {
		v.t.Errorf("no finding says %q in %q", parts, findings)
	}
}

func (v *testVault) ledgerSize() int {
	v.t.Helper()
	return len(v.entries()) - len(v.begun())
}

// mustHaveNothingBegun expects that nothing is left of unfinished requests, but those for first
// keys: see mustHaveNoFirstKeys.
func (v *testVault) mustHaveNothingBegun() {
	v.t.Helper()
	for _, e := range v.begun() {
		if e.AccountID != "" {
			v.t.Errorf("%s of account %s is still begun", e.Label, e.Account)
		}
	}
}

// mustHaveLedger expects so many settled keys in the ledger. It looks into the storage: a list
// that has crossed the wire has another type.
func (v *testVault) mustHaveLedger(want int) {
	v.t.Helper()
	if n := v.ledgerSize(); n != want {
		v.t.Errorf("%d keys in the ledger, want %d", n, want)
	}
}

// mustHideSecrets expects none of the secrets that the cloud ever made in a text.
func (v *testVault) mustHideSecrets(text string) {
	v.t.Helper()
	for _, secret := range v.sim.Secrets() {
		if strings.Contains(text, secret) || strings.Contains(text, secret[:min(20, len(secret))]) {
			v.t.Errorf("a secret shows in %q", text)
		}
	}
}

// mustForget expects login and password nowhere in storage.
func (v *testVault) mustForget() {
	v.t.Helper()
	ctx := context.WithoutCancel(v.t.Context())
	err := logical.ScanView(ctx, v.storage.Storage, func(path string) {
		entry, err := v.storage.Storage.Get(ctx, path)
		if err != nil {
			v.t.Fatal(err)
		}
		for _, secret := range []string{testLogin, testPassword} {
			if entry != nil && strings.Contains(string(entry.Value), secret) {
				v.t.Errorf("%s holds login or password", path)
			}
		}
	})
	if err != nil {
		v.t.Fatal(err)
	}
}

// mustHaveNoFirstKeys expects that no entry of a first key is left unfinished.
func (v *testVault) mustHaveNoFirstKeys() {
	v.t.Helper()
	if entries := v.firstKeys(); len(entries) != 0 {
		v.t.Errorf("%d first keys are left", len(entries))
	}
}

// mustKnowOwnKeys expects each live key of the engine's own in the configuration or in the
// ledger; a first key has a near end.
func (v *testVault) mustKnowOwnKeys(when string) {
	v.t.Helper()
	keys, labels := v.known()
	config, err := load[accountConfig](context.WithoutCancel(v.t.Context()), v.storage.Storage, "config/default")
	if err != nil {
		v.t.Fatal(err)
	}
	for _, key := range v.liveKeys() {
		configured := config != nil && slices.Contains(config.ownKeys(), key.ID)
		switch {
		case !configured && !keys[key.ID] && !labels[key.Tag]:
			v.t.Errorf("%s: nobody knows access key %s", when, key.ID)
		case config == nil && (key.Expires.IsZero() || time.Until(key.Expires) > firstKeyLife):
			v.t.Errorf("%s: access key %s of nobody lives until %s", when, key.ID, key.Expires)
		}
	}
}

// mustWorkFor expects the key of an account to be in the cloud.
func (v *testVault) mustWorkFor(account string) {
	v.t.Helper()
	id := v.read("config/" + account)["access_key"].(string)
	if key, _ := v.account.Key(id); !key.Live(time.Now()) {
		v.t.Errorf("the key %s of account %q does not work any more", id, account)
	}
}

func (v *testVault) mustTick() {
	v.t.Helper()
	if err := v.tick(); err != nil {
		v.t.Fatal(err)
	}
	<-time.After(rollbackPeriod)
}

// mustBeUnharmed expects the lease and the static role of fuzzMount to work.
func (v *testVault) mustBeUnharmed() {
	v.t.Helper()
	if key, there := v.account.Key(v.leases[0].AccessKey()); !there || !key.Live(time.Now()) {
		v.t.Errorf("the key of a lease that has nothing to do with it is gone")
	}
	v.mustHaveLive(2)
}

// mustBe400 expects that what is wrong with a request is the asker's to fix.
func (v *testVault) mustBe400(what string, op logical.Operation, path string, data map[string]any) {
	v.t.Helper()
	resp, err := v.rawRequest(op, path, data)
	if err != nil && !isBadRequest(err) {
		v.t.Errorf("%s: %s %s: HTTP 500: %v", what, op, path, err)
	}
	if err == nil && resp != nil && resp.IsError() {
		v.mustHideSecrets(resp.Error().Error())
	}
}

// mustRevokeAll revokes every lease.
func (v *testVault) mustRevokeAll() {
	v.t.Helper()
	for len(v.leases) > 0 {
		l := v.leases[0]
		v.mustRevoke(l)
		if len(v.leases) > 0 && v.leases[0] == l {
			v.leases = v.leases[1:]
		}
	}
}

// mustHaveLedgerOfLive expects every live key in the ledger: no failed revoke has removed it.
func (v *testVault) mustHaveLedgerOfLive() {
	v.t.Helper()
	v.mustHaveLedger(len(v.liveKeys()))
}

func (v *testVault) mustRefusePatch(path string, fields map[string]any, parts ...string) {
	v.t.Helper()
	resp, err := v.send(v.t.Context(), logical.PatchOperation, path, fields)
	if err != nil || !resp.IsError() {
		v.t.Fatalf("patch %s: %v, %v: want an HTTP 400", path, resp, err)
	}
	mustHold(v.t, resp.Error().Error(), parts...)
}

func (v *testVault) begunOf(user string) (n int) {
	v.t.Helper()
	for _, e := range v.begun() {
		if e.User == user {
			n++
		}
	}
	return n
}

// mustWork lets the clean-up run and expects one key of the engine's own that works.
func (v *testVault) mustWork(when string) {
	v.t.Helper()
	v.settle(begunAge + lifetime.RotationOverlap + 3*rollbackPeriod)
	l, err := v.tryLease(v.t.Context(), "app")
	if err != nil {
		v.t.Fatalf("%s: %v", when, err)
	}
	v.mustRevoke(l)
	v.mustHaveNothingBegun()
	v.mustHaveOwnKeys(1)
	if v.t.Failed() {
		v.t.Fatal(when)
	}
}

// mustHaveOwnKeys expects so many keys on the root identity, apart from those that tests
// plant there; the first is the one that the configuration names.
func (v *testVault) mustHaveOwnKeys(want int) {
	v.t.Helper()
	current := v.read("config/default")["access_key"].(string)
	ids := []string{}
	for _, key := range v.keys() {
		if key.User == v.ownUser() {
			ids = append(ids, key.ID)
		}
	}
	if len(ids) != want || !slices.Contains(ids, current) {
		v.t.Errorf("keys %v on the engine's identity, of which %s is configured; want %d", ids, current, want)
	}
}

// mustHaveStatic lets the clean-up run and expects the role to have one key that works.
func (v *testVault) mustHaveStatic(when string) {
	v.t.Helper()
	v.settle(begunAge + 5*time.Minute + 3*rollbackPeriod)
	creds := v.read("static-creds/db")
	ids := []string{}
	for _, key := range v.liveKeys() {
		ids = append(ids, key.ID)
	}
	if len(ids) != 1 || !slices.Contains(ids, creds["access_key"].(string)) {
		v.t.Fatalf("%s: live keys %v, of which %v is the role's", when, ids, creds["access_key"])
	}
	v.mustHaveNothingBegun()
	v.mustHaveLedger(1)
}

// mustTidied holds the status against a state, fields, and pairs of a list and a part of
// its text; an empty part expects an empty list.
func (v *testVault) mustTidied(state string, fields map[string]any, lists ...string) {
	v.t.Helper()
	status := v.read("tidy-status")
	fields = maps.Clone(fields)
	if fields == nil {
		fields = map[string]any{}
	}
	fields["state"] = state
	for field, want := range fields {
		if status[field] != want {
			v.t.Errorf("%s: got %v, want %v", field, status[field], want)
		}
	}
	for pair := range slices.Chunk(lists, 2) {
		lines, _ := status[pair[0]].([]string)
		if pair[1] == "" && len(lines) != 0 {
			v.t.Errorf("%s: %v", pair[0], lines)
		}
		mustHold(v.t, strings.Join(lines, " "), pair[1])
	}
	if state == tidyDone && status["finished"] == "" || state != tidyFailed && len(status["errors"].([]string)) != 0 {
		v.t.Errorf("%v", status)
	}
}

// mustHaveUsers expects so many users of ours, and live keys on them.
func (v *testVault) mustHaveUsers(want int) {
	v.t.Helper()
	if users := v.ourUsers(); len(users) != want {
		v.t.Errorf("%d users of ours are in the cloud, want %d: %+v", len(users), want, users)
	}
	v.mustHaveLive(want)
}

// mustBeClean expects nothing of ours in the cloud, nor in the ledger.
func (v *testVault) mustBeClean() {
	v.t.Helper()
	v.mustHaveUsers(0)
	v.mustHaveLedger(0)
	v.mustHaveNothingBegun()
	for _, key := range v.keys() {
		if strings.HasPrefix(key.Tag, "cloudkeys-") {
			v.t.Errorf("access key %s is left on %s", key.ID, key.User)
		}
	}
}

// mustHaveRights expects what configureUsers gives a new user.
func (v *testVault) mustHaveRights(user cloudsim.User) {
	v.t.Helper()
	if len(user.Groups) != 2 || v.domain == nil && (len(user.Linked) != 3 || len(user.Inline) != 1) {
		v.t.Errorf("got %+v", user)
	}
}
