// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/keylabel"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

const storageOf010 = "testdata/storage-0.1.0.json"

var updateStorage = flag.Bool("update-storage", false, "write "+storageOf010+" anew: only as long as 0.1.0 is not released")

// fixture is what a version of the engine has left in storage, and how it described that itself. Each later version must read the
// one and describe it as the other.
type fixture struct {
	At      time.Time                  `json:"at"` // when the answers were given
	Storage map[string]json.RawMessage `json:"storage"`
	Answers map[string]json.RawMessage `json:"answers"` // by path; one that ends in / is a list
	Leases  map[string]map[string]any  `json:"leases"`  // what Vault keeps of a lease, by role
}

// TestStorageOfEarlierVersionsIsRead opens what 0.1.0 wrote: accounts of both clouds, roles of each type, static roles, rotated keys,
// leases and an unfinished request. After the release of 0.1.0 the file never changes; one is added for each version that writes
// something new.
func TestStorageOfEarlierVersionsIsRead(t *testing.T) {
	if *updateStorage {
		synctest.Test(t, writeStorageFixture)
	}
	text, err := os.ReadFile(storageOf010)
	if err != nil {
		t.Fatal(err)
	}
	old := mustUnmarshal[fixture](t, text)
	for path, entry := range old.Storage { // also what no answer shows: a secret, a label, a date
		into, _, _ := strings.Cut(path, "/")
		known := map[string]any{
			"config": new(accountConfig), "roles": new(roleEntry), "static-roles": new(staticRole), "static-creds": new(staticCreds),
			"policy":   new(policyView),
			"instance": new(instance), "ledger": new(ledger.Entry), "reconcile": new(reconcileState), "hold": new(storedHold),
			"tidy": new(tidyReport),
		}[into]
		decoder := json.NewDecoder(bytes.NewReader(entry))
		decoder.DisallowUnknownFields()
		if known == nil {
			t.Errorf("%s: nothing reads it", path)
		} else if err := decoder.Decode(known); err != nil {
			t.Errorf("%s: a field that 0.1.0 wrote is not read any more: %v", path, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		<-time.After(time.Until(old.At))
		v := newTestVaultOn(t, cloudsim.New(), nil)
		v.base = noNetwork{}
		for path, entry := range old.Storage {
			if err := v.storage.Put(t.Context(), &logical.StorageEntry{Key: path, Value: entry}); err != nil {
				t.Fatal(err)
			}
		}
		v.restart()
		for _, path := range slices.Sorted(maps.Keys(old.Answers)) {
			want := mustUnmarshal[map[string]any](t, old.Answers[path])
			got := mustUnmarshal[map[string]any](t, v.describe(path))
			for field, value := range want {
				ofTheBuild := path == "info" && field != "instance_id"
				if !ofTheBuild && !reflect.DeepEqual(got[field], value) {
					t.Errorf("%s: %s is %v, and 0.1.0 said %v", path, field, got[field], value)
				}
			}
		}
		if entries := v.entries(); len(entries) != old.ledgerSize() {
			t.Errorf("%d entries of the ledger are read, and 0.1.0 wrote %d", len(entries), old.ledgerSize())
		}
		for role, data := range old.Leases {
			kind := keylabel.KindLease
			if role == "job" {
				kind = keylabel.KindUser
			}
			if lease, err := readLease(&logical.Secret{InternalData: data}, kind); err != nil || lease.Role != role || lease.AccessKey == "" {
				t.Errorf("the lease of role %s is read as %+v, %v", role, lease, err)
			}
		}
	})
}

func (f fixture) ledgerSize() (size int) {
	for path := range f.Storage {
		if strings.HasPrefix(path, ledger.Prefix) {
			size++
		}
	}
	return size
}

// noNetwork is for requests that storage alone must answer.
type noNetwork struct{}

func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("this test has no network")
}

// describe is the answer to a read or a list as JSON.
func (v *testVault) describe(path string) json.RawMessage {
	v.t.Helper()
	op := logical.Operation(logical.ReadOperation)
	if strings.HasSuffix(path, "/") {
		op = logical.ListOperation
	}
	resp, err := v.try(op, path)
	v.mustSucceed(path, resp, err)
	if resp == nil {
		v.t.Fatalf("%s: nothing there", path)
	}
	text, err := json.Marshal(resp.Data)
	if err != nil {
		v.t.Fatal(err)
	}
	return text
}

// writeStorageFixture has the engine do everything that leaves something in storage.
func writeStorageFixture(t *testing.T) {
	sim := cloudsim.New(cloudsim.WithRegion(testRegion))
	account := sim.AddAccount(testAccountID)
	for _, user := range []string{"app", "legacy", "nightly"} {
		account.AddUser(user)
	}
	v := newTestVaultOn(t, sim, account)
	v.base = sim.Transport()
	v.restart()
	v.configureUsers("max_ttl=20m")
	v.configure("ttl=15m", "max_ttl=2h", "max_active_keys=5")
	v.write("static-roles/legacy", "user_name=legacy", "rotation_period=24h")
	v.write("static-roles/nightly", "user_name=nightly", "rotation_schedule=0 3 * * *", "rotation_window=1h")

	domain := sim.AddDomain("acme")
	domain.AddUser("vault", cloudsim.SecurityAdministrator, cloudsim.AgentOperator)
	domain.AddUser("app")
	domain.AddAgency("deployers", domain, "ecs:*")
	key := domain.AddKey(cloudsim.IAMKeySpec{User: "vault"})
	v.write("config/huawei", "provider=huawei", "region=ap-southeast-1", "max_ttl=1h", "max_requests_per_second=1000",
		"access_key="+key.AccessKey, "secret_key="+key.SecretKey)
	v.write("roles/huawei", "account=huawei", "user_names=app", "ttl=10m")
	v.write("roles/session", "account=huawei", "credential_type=session_token", "agency_name=deployers", "ttl=15m")

	f := fixture{Storage: map[string]json.RawMessage{}, Answers: map[string]json.RawMessage{}, Leases: map[string]map[string]any{}}
	for _, role := range []string{"app", "job", "huawei"} {
		f.Leases[role] = v.lease(role).Secret.InternalData
	}
	v.rotate()
	v.leaveBegun()
	v.keepStorage(&f)
	paths := []string{
		"info", "config/", "config/default", "config/huawei", "roles/", "roles/app", "roles/job", "roles/huawei", "roles/session",
		"static-roles/", "static-roles/legacy", "static-roles/nightly", "static-creds/legacy", "static-creds/nightly", "keys/", "policy/default",
	}
	for _, l := range v.leases {
		paths = append(paths, "keys/"+l.AccessKey())
	}
	v.base = noNetwork{}
	v.restart()
	for _, path := range paths {
		f.Answers[path] = v.describe(path)
	}
	f.At = time.Now().UTC()
	text, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = os.WriteFile(storageOf010, append(text, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// keepStorage copies all entries.
func (v *testVault) keepStorage(f *fixture) {
	v.t.Helper()
	paths, err := logical.CollectKeys(context.WithoutCancel(v.t.Context()), v.storage)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, path := range paths {
		entry, err := v.storage.Get(v.t.Context(), path)
		if err != nil || entry == nil || !json.Valid(entry.Value) {
			v.t.Fatalf("%s is not JSON: %v", path, err)
		}
		f.Storage[path] = entry.Value
	}
}

func mustUnmarshal[T any](t *testing.T, text []byte) (value T) {
	t.Helper()
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}
