// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/helper/errutil"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/plugin/internal/ledger"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim/contract"
)

// fuzzMount is a mount with one lease and one static role, which nothing that a fuzzer
// makes up may harm. It is made anew for each input, in fake time.
func fuzzMount(t *testing.T) *testVault {
	t.Helper()
	sim := cloudsim.New(cloudsim.WithRegion(testRegion))
	account := sim.AddAccount(testAccountID)
	account.AddUser("app")
	account.AddUser("db")
	v := newTestVaultOn(t, sim, account)
	v.base = sim.Transport() // nobody judges what goes to an endpoint that a fuzzer has made up
	v.restart()
	v.configure("ttl=2h")
	v.write("static-roles/db", "user_name=db", "rotation_period=24h")
	v.lease("app")
	return v
}

// substitute puts this mount's own ids into an input, so that a fuzzer can find its way
// past the checks that compare them.
func (v *testVault) substitute(input string) string {
	v.t.Helper()
	return strings.NewReplacer("%account%", testAccountID, "%label%", v.label(), "%root%", v.root.AccessKey,
		"%now%", time.Now().Format(time.RFC3339Nano), "%secret%", v.root.SecretKey).Replace(input)
}

// FuzzLease gives renew and revoke leases that are old, foreign or damaged: Vault hands back
// what it has stored, whatever version wrote it.
func FuzzLease(f *testing.F) {
	good := `{"account":"default","account_id":"%account%","user_name":"app",` +
		`"access_key":"AAAAAAAAAAAAAAAAAAAA","label":"%label%","role":"app",` +
		`"role_ttl":"10m0s","role_max_ttl":"1h0m0s","issued":"%now%","expires":"%now%"}`
	for _, seed := range []string{
		good, `{}`, `null`, `[]`, `{"account":7}`, `{"access_key":"","account":""}`,
		strings.Replace(good, `"10m0s"`, `"-2562047h47m16.854775808s"`, 1),
		strings.Replace(good, `"10m0s"`, `600`, 1),
		strings.Replace(good, `"expires":"%now%"`, `"expires":"9999-12-31T23:59:59Z"`, 1),
		strings.Replace(good, `"issued":"%now%"`, `"issued":"0000-01-01T00:00:00Z"`, 1),
		strings.Replace(good, `"user_name":"app"`, `"user_name":"../../config"`, 1),
		strings.Replace(good, `"account":"default"`, `"account":"nope"`, 1),
		strings.Replace(good, `%account%`, `210987654321`, 1),
		strings.Replace(good, `"label":"%label%"`, `"label":"cloudkeys-x"`, 1),
	} {
		f.Add(seed, false)
	}
	f.Add(good, true)
	contract.New(f) // loads the description: an input may take 10 s, and nothing outside be waited for
	f.Fuzz(func(t *testing.T, input string, ofUser bool) {
		synctest.Test(t, func(t *testing.T) {
			v := fuzzMount(t)
			var data map[string]any
			if json.Unmarshal([]byte(v.substitute(input)), &data) != nil {
				return
			}
			if slices.Contains([]any{v.leases[0].AccessKey(), v.root.AccessKey}, data["access_key"]) {
				return // a lease may end its own key
			}
			kind := secretAccessKeyType
			if ofUser {
				kind = secretIAMUserType
			}
			data = maps.Clone(data)
			if data == nil {
				data = map[string]any{}
			}
			data["secret_type"] = kind
			secret := &logical.Secret{InternalData: data, LeaseOptions: logical.LeaseOptions{
				Renewable: true, TTL: time.Minute,
				IssueTime: time.Now(),
			}}
			l := &testLease{Secret: secret, IssueTime: time.Now(), Expires: time.Now().Add(time.Minute), Data: map[string]any{}}
			_ = v.renew(l, 0)
			_ = v.revoke(l)
			_ = v.tick()
			v.mustBeUnharmed()
		})
	})
}

// FuzzStorage puts malformed entries where the engine keeps its own: from a newer version, a
// bad restore, a hand that slipped. Nothing panics, nobody's key dies of it, and with the
// entry gone the engine works.
func FuzzStorage(f *testing.F) {
	entry := `{"version":1,"state":"made","kind":"lease","access_key":"AAAAAAAAAAAAAAAAAAAA",` +
		`"account":"default","account_id":"%account%","user":"app","role":"app",` +
		`"label":"` + fuzzedLabel + `","issued":"%now%","expires":"2000-01-01T00:00:00Z"}`
	begun := strings.Replace(entry, `"made"`, `"begun"`, 1)
	for _, path := range fuzzedPaths {
		for _, seed := range []string{`{}`, `{`} {
			f.Add(path, seed)
		}
	}
	path := ledger.Path("default", fuzzedLabel)
	f.Add(path, entry)
	f.Add(path, begun)
	f.Add(path, strings.Replace(begun, `"access_key":"AAAAAAAAAAAAAAAAAAAA"`, `"access_key":7`, 1))
	f.Add(path, strings.Replace(begun, `"version":1`, `"version":2`, 1))
	f.Add(path, strings.Replace(begun, fuzzedLabel, "%label%", 1))
	f.Add(path, strings.Replace(begun, `"lease"`, `"root"`, 1))
	f.Add(path, strings.Replace(begun, `"lease"`, `"static"`, 1))
	f.Add(path, strings.Replace(entry, `"app"`, `""`, 1))
	f.Add(path, strings.Replace(entry, `"lease"`, `"user"`, 1))
	f.Add("ledger/default/app2/AAAAAAAAAAAAAAAAAAAA", entry)
	f.Add("ledger/default/x", entry)
	f.Add("config/second",
		`{"provider":"outscale","access_key":"A","secret_key":"B","region":"x","max_requests_per_second":1e300,"max_retries":-7}`)
	f.Add("policy/default", `{"policy":{"MaxKeyLifetime":-1},"tried_at":"%now%","read_at":"%now%"}`)
	f.Add("reconcile/default", `{"next":"0000-01-01T00:00:00Z","left":["","%users","..","app"]}`)
	f.Add("static-roles/x", `{"account":"default","user_name":"app","rotation_schedule":"* * * * * * *"}`)
	f.Add("static-creds/x", `{"account_id":"%account%","access_key":"A","previous":[{"id":"B"}]}`)
	f.Add("tidy/status", `{"state":"running","orphans_found":{"lines":null,"more":-1}}`)
	contract.New(f) // loads the description: an input may take 10 s, and nothing outside be waited for
	f.Fuzz(func(t *testing.T, path, input string) {
		if !slices.ContainsFunc(fuzzedPaths, func(known string) bool { return strings.HasPrefix(path, known[:strings.Index(known, "/")+1]) }) ||
			slices.Contains([]string{configPrefix + "default", staticRolePrefix + "db", staticCredsPrefix + "db", instancePath}, path) ||
			strings.HasSuffix(path, "/") || strings.Contains(path, "//") || strings.Contains(path, "..") {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			v := fuzzMount(t)
			input := v.substitute(input)
			for _, id := range []string{v.leases[0].AccessKey(), v.root.AccessKey} {
				if strings.Contains(input, id) {
					return // an entry may name the key that it is of
				}
			}
			before, err := v.storage.Get(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.storage.Put(t.Context(), &logical.StorageEntry{Key: path, Value: []byte(input)}); err != nil {
				return // no path that storage takes
			}
			v.restart()
			v.useEverything()
			if before == nil {
				err = v.storage.Delete(t.Context(), path)
			} else {
				err = v.storage.Put(t.Context(), before)
			}
			if err != nil {
				t.Fatal(err)
			}
			v.restart()
			v.mustBeUnharmed()
			v.mustRevoke(v.lease("app"))
		})
	})
}

// fuzzedLabel is one of no key that is there.
const fuzzedLabel = "cloudkeys-AAAAAAAAAAAAAAAA-lease-AAAAAAAAAAAAAAAA"

var fuzzedPaths = []string{
	ledger.Path("default", fuzzedLabel), "config/second", "roles/x", "static-roles/x", "static-creds/x", "policy/default",
	"reconcile/default", "tidy/status",
}

// useEverything sends one of each request. They may fail, and not panic.
func (v *testVault) useEverything() {
	v.t.Helper()
	for _, path := range []string{
		"config/second", "roles/x", "static-roles/x", "static-creds/x", "keys/AAAAAAAAAAAAAAAAAAAA", "policy/default", "policy/second",
		"tidy-status",
		"check/default", "check/second", "creds/app", "creds/x",
	} {
		if path == "creds/app" || path == "creds/x" {
			_, _ = v.engine.HandleRequest(v.t.Context(), &logical.Request{Operation: logical.ReadOperation, Path: path, Storage: v.storage})
			continue
		}
		_, _ = v.try(logical.ReadOperation, path)
	}
	_, _ = v.try(logical.ListOperation, "keys/")
	_, _ = v.try(logical.UpdateOperation, "tidy")
	for range 3 {
		_ = v.tick()
		<-time.After(rollbackPeriod)
	}
	for v.backend.tidying.current() != nil {
		<-time.After(time.Second)
	}
	// What creds gave may have been recorded under the entry: Vault revokes it.
	for _, key := range v.liveKeys() {
		if key.User == "app" && key.ID != v.leases[0].AccessKey() {
			v.account.DeleteKey(key.ID)
		}
	}
}

// FuzzInput writes what an operator or a client could send: a request that is good but for
// one field. A bad input is an HTTP 400: a 500 would be sent again by Vault's clients. What
// is taken can be read back, and issues a key or a 400.
func FuzzInput(f *testing.F) {
	for _, seed := range []struct {
		request      int
		field, value string
	}{
		{0, "max_requests_per_second", "NaN"},
		{0, "max_requests_per_second", "1e-300"},
		{0, "ttl", "9999999h"},
		{0, "max_ttl", "-1s"},
		{0, "rotation_period", "9223372036"},
		{0, "username_template", "{{.RoleName}}{{random 20}}{{range 5}}{{end}}"},
		{0, "username_template", "{{random 2000000000}}"},
		{0, "access_key", "A\x00\n"},
		{0, "secret_key", "é "},
		{0, "endpoint", "https://[::1]:99999/api/v1"},
		{0, "verify", "false"},
		{0, "client_cert", "-----BEGIN CERTIFICATE-----"},
		{1, "region", "eu west"},
		{2, "user_names", `["a/b",7,null]`},
		{2, "max_active_keys", "-1"},
		{2, "credential_type", "iam_user"},
		{2, "ttl", "2562047h"},
		{3, "policy_document", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`},
		{3, "user_path", "/\x00/"},
		{3, "groups", "/a/,b"},
		{3, "policy_orns", "orn:ows:idauth::012345678910:policy/x"},
		{4, "rotation_period", "2562047h"},
		{4, "rotation_grace_period", "2562046h"},
		{4, "user_name", "../../x"},
		{5, "rotation_schedule", "@every 1ns"},
		{5, "rotation_schedule", "TZ=Mars/Base 0 3 * * *"},
		{5, "rotation_schedule", "0 0 30 2 *"},
		{5, "rotation_window", "-3600"},
		{6, "ttl", "-1s"},
		{6, "ttl", "9223372036854775807"},
		{7, "dry_run", "maybe"},
		{8, "limit", "-1"},
		{8, "user", "../.."},
	} {
		f.Add(seed.request, 0, seed.field, seed.value)
	}
	for op := range fuzzedOperations {
		f.Add(1, op, "max_retries", "null")
		f.Add(8, op, "after", "x")
	}
	contract.New(f) // loads the description: an input may take 10 s, and nothing outside be waited for
	f.Fuzz(func(t *testing.T, request, op int, field, value string) {
		if op < 0 || op >= len(fuzzedOperations) || request < 0 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			v := fuzzMount(t)
			requests := v.fuzzedRequests()
			path, data := requests[request%len(requests)].path, requests[request%len(requests)].data
			data[field] = value
			var typed any
			if json.Unmarshal([]byte(value), &typed) == nil {
				data[field] = typed
			}
			v.mustBe400("the request", fuzzedOperations[op], path, data)
			v.mustBe400("reading it back", logical.ReadOperation, path, nil)
			if strings.HasPrefix(path, rolePrefix) {
				v.mustBe400("a key of it", logical.ReadOperation, "creds/x", nil)
			}
			for v.backend.tidying.current() != nil {
				<-time.After(time.Second)
			}
			_ = v.tick()
		})
	})
}

type fuzzedRequest struct {
	path string
	data map[string]any
}

// fuzzedRequests are good.
func (v *testVault) fuzzedRequests() []fuzzedRequest {
	account := map[string]any{}
	for _, field := range v.accountFields() {
		name, value, _ := strings.Cut(field, "=")
		account[name] = value
	}
	return []fuzzedRequest{
		{"config/second", account},
		{"config/default", map[string]any{}},
		{"roles/x", map[string]any{"user_names": "app"}},
		{"roles/x", map[string]any{"credential_type": "iam_user", "policy_document": testDocument}},
		{"static-roles/x", map[string]any{"user_name": "app", "rotation_period": "1h"}},
		{"static-roles/x", map[string]any{"user_name": "app", "rotation_schedule": "0 3 * * *"}},
		{"creds/app", map[string]any{}},
		{"tidy", map[string]any{}},
		{"keys/", map[string]any{}},
	}
}

var fuzzedOperations = []logical.Operation{
	logical.UpdateOperation, logical.PatchOperation, logical.ReadOperation, logical.ListOperation, logical.DeleteOperation,
}

// isBadRequest tells the errors that Vault answers with an HTTP 4xx.
func isBadRequest(err error) bool {
	var coded logical.HTTPCodedError
	var invalid errutil.UserError // of the sdk's own check of a field's type
	return errors.As(err, &invalid) || errors.Is(err, logical.ErrUnsupportedPath) || errors.Is(err, logical.ErrUnsupportedOperation) ||
		errors.Is(err, logical.ErrInvalidRequest) || errors.As(err, &coded)
}
