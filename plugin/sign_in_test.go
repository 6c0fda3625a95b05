// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// newCertificate is a self-signed certificate and its key, as PEM.
func newCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{
		Type:  "CERTIFICATE",
		Bytes: raw,
	})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey}))
}

// TestSecretsGoToAddressesOfTheirOwnWrite is E7.
func TestSecretsGoToAddressesOfTheirOwnWrite(t *testing.T) {
	t.Parallel()
	const elsewhere = "https://api.eu-west-2.outscale.com/api/v1"
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E7: an endpoint, region or ca_cert alone is refused, also with verify=false": func(t *testing.T, v *testVault) {
			v.configure()
			certificate, _ := newCertificate(t)
			v.sim.ResetCalls()
			for _, field := range []string{"endpoint=" + elsewhere, "region=eu-west-2", "ca_cert=" + certificate} {
				name, _, _ := strings.Cut(field, "=")
				v.mustRefuse(logical.UpdateOperation, "config/default", []string{field}, name, "access_key and secret_key in the same write")
				v.mustRefuse(logical.UpdateOperation, "config/default", []string{field, "verify=false"}, name, "in the same write")
				v.mustRefuse(logical.UpdateOperation, "config/default", []string{field, "access_key=" + v.root.AccessKey}, name, "in the same write")
				v.mustRefusePatch("config/default", map[string]any{name: strings.TrimPrefix(field, name+"=")}, "in the same write")
			}
			if calls := v.sim.Calls(); len(calls) != 0 {
				t.Errorf("%d calls", len(calls))
			}
			if got := v.read("config/default")["endpoint"]; got != testEndpoint {
				t.Errorf("the endpoint is %v", got)
			}
		},
		"E7: login and password do not go to a stored endpoint": func(t *testing.T, v *testVault) {
			v.configure()
			v.replaceConfig(func(c *accountConfig) { c.Endpoint = "https://collector.example.com/api/v1" })
			fields := v.signInFields()[4:]
			v.mustRefuse(logical.UpdateOperation, "config/default", fields, "address of the same write", "collector.example.com")
			v.sim.ResetCalls()
			warnings := v.write("config/default", append(fields, "region="+testRegion)...)
			mustHold(t, strings.Join(warnings, "\n"), "collector.example.com", "public endpoint")
			if got := v.read("config/default")["endpoint"]; got != "" {
				t.Errorf("the endpoint is %v", got)
			}
		},
		"E7: a retired key does not count, and is refused with a new address": func(_ *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			v.mustRefuse(logical.UpdateOperation, "config/default", append(v.accountFields(), "endpoint="+elsewhere, "region=eu-west-2"),
				"replaced by rotation", "region")
			v.write("config/default", v.accountFields()...)
		},
		"an address that is only written otherwise is no other one": func(_ *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", "endpoint="+strings.TrimSuffix(testEndpoint, "/api/v1"))
		},
		"a change of the address with a key of the same write is tried and stored": func(t *testing.T, v *testVault) {
			v.configure()
			v.write("config/default", "endpoint=", "access_key="+v.root.AccessKey, "secret_key="+v.root.SecretKey)
			if got := v.read("config/default")["endpoint"]; got != "" {
				t.Errorf("the endpoint is %v", got)
			}
		},
		"a client certificate may be changed alone: one call tries it": func(t *testing.T, v *testVault) {
			v.configure()
			certificate, key := newCertificate(t)
			v.sim.ResetCalls()
			v.write("config/default", "client_cert="+certificate, "client_key="+key)
			if calls := v.sim.Calls(); len(calls) != 1 {
				t.Errorf("%d calls", len(calls))
			}
			v.write("config/default", "client_cert=\n"+certificate+"\n")
			if calls := v.sim.Calls(); len(calls) != 1 {
				t.Errorf("%d calls after a write of the same certificate", len(calls))
			}
			v.sim.SetRules(cloudsim.Rules{ListingDelay: 8 * time.Second})
			v.rotate() // to a key that no list shows yet
			certificate, key = newCertificate(t)
			v.write("config/default", "client_cert="+certificate, "client_key="+key)
		},
	})
}

// TestWritesDoNotLockTheAccount is E12.
func TestWritesDoNotLockTheAccount(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E12: a write that changes nothing of how the engine signs in calls nobody, and its key may be dead": func(t *testing.T, v *testVault) {
			v.configure()
			v.account.DeleteKey(v.root.AccessKey)
			v.sim.ResetCalls()
			for _, ttl := range []string{"1h", "2h", "3h", "4h"} {
				v.write("config/default", "max_ttl="+ttl)
				v.patch("config/default", map[string]any{"max_ttl": ttl})
			}
			v.write("config/default", append(v.accountFields(), "ttl=5m")...)
			if calls := v.sim.Calls(); len(calls) != 0 {
				t.Errorf("%d calls", len(calls))
			}
		},
		"E12: access_key without secret_key is refused without a call": func(t *testing.T, v *testVault) {
			v.configure()
			other := v.account.AddKey(cloudsim.KeySpec{})
			v.sim.ResetCalls()
			for range 4 {
				v.mustRefuse(logical.UpdateOperation, "config/default", []string{"access_key=" + other.AccessKey}, "secret_key", "same write")
				v.mustRefuse(logical.UpdateOperation, "config/default", []string{"access_key=" + other.AccessKey, "verify=false"}, "secret_key",
					"same write")
			}
			if calls := v.sim.Calls(); len(calls) != 0 {
				t.Errorf("%d calls", len(calls))
			}
		},
		"E12: a wrong secret under any account name, four times, locks nobody": func(t *testing.T, v *testVault) {
			wrong := append(v.accountFields(), "secret_key=WRONGWRONGWRONGWRONGWRONGWRONGWRONGWRONG")
			for i, path := range []string{"config/a", "config/b", "config/c", "config/d"} {
				if i > 0 {
					<-time.After(90 * time.Second)
				}
				v.mustRefuse(logical.UpdateOperation, path, wrong, []string{"refuses the access key", "is not asked again before"}[i/2])
			}
			v.mustRefuse(logical.UpdateOperation, "config/e", v.accountFields(), "is not asked again before", v.root.AccessKey)
			if v.account.Locked() {
				t.Error("the account is locked")
			}
			if calls := v.sim.Calls(); len(calls) != 2 {
				t.Errorf("%d calls", len(calls))
			}
			<-time.After(10 * time.Minute)
			v.write("config/e", v.accountFields()...)
		},
		"E12: the same wrong secret is answered from memory for a minute, the right one is tried": func(t *testing.T, v *testVault) {
			wrong := append(v.accountFields(), "secret_key=WRONGWRONGWRONGWRONGWRONGWRONGWRONGWRONG")
			v.mustRefuse(logical.UpdateOperation, "config/default", wrong, "the cloud refuses the access key")
			v.mustRefuse(logical.UpdateOperation, "config/default", wrong, "is not asked again before")
			if calls := v.sim.Calls(); len(calls) != 1 {
				t.Errorf("%d calls", len(calls))
			}
			v.write("config/default", v.accountFields()...)
		},
		"E12: a key that the cloud merely does not know there (4120) is no refusal": func(_ *testing.T, v *testVault) {
			unknown := append(v.accountFields(), "access_key=AKIAUNKNOWNUNKNOWN00")
			v.mustRefuse(logical.UpdateOperation, "config/default", unknown, "does not know the access key")
			v.mustRefuse(logical.UpdateOperation, "config/default", unknown, "does not know the access key")
		},
		"E12: white space is named, and nobody is called": func(t *testing.T, v *testVault) {
			for field, says := range map[string]string{
				"secret_key=" + v.root.SecretKey + "\n": "secret_key ends in a line break",
				"access_key= " + v.root.AccessKey:       "access_key begins or ends with white space",
				"access_key=AKIA AB":                    "access_key holds white space",
				"password=" + testPassword + "\n":       "password ends in a line break",
				"login=" + testLogin + "\r\n":           "login ends in a line break",
				"password=two\nlines":                   "password holds white space",
			} {
				v.mustRefuse(logical.UpdateOperation, "config/default", append(v.accountFields(), field), says)
			}
			if calls := v.sim.Calls(); len(calls) != 0 {
				t.Errorf("%d calls", len(calls))
			}
		},
		"E12: new client certificates are not tried with a key that is refused": func(t *testing.T, v *testVault) {
			v.configure()
			v.account.SwitchKey(v.root.AccessKey, false)
			v.sim.ResetCalls()
			for _, says := range []string{"the cloud refuses the access key", "is not asked again before", "is not asked again before"} {
				certificate, key := newCertificate(t)
				v.mustRefuse(logical.UpdateOperation, "config/default", []string{"client_cert=" + certificate, "client_key=" + key}, says)
			}
			if calls := v.sim.Calls(); len(calls) != 1 || v.account.Locked() {
				t.Errorf("%d calls, locked: %v", len(calls), v.account.Locked())
			}
			v.account.SwitchKey(v.root.AccessKey, true)
			<-time.After(time.Minute)
			certificate, key := newCertificate(t)
			v.write("config/default", "client_cert="+certificate, "client_key="+key)
		},
		"E12: a write that ends a deletion does not try a key that is held back": func(t *testing.T, v *testVault) {
			v.configure()
			v.rotate()
			v.failStorage("delete", "config/")
			_, _ = v.try(logical.DeleteOperation, "config/default")
			v.storage.before = nil
			v.sim.ResetCalls()
			_, _ = v.try(logical.ReadOperation, "check/default") // the engine key has deleted itself
			for range 2 {
				v.mustRefuse(logical.UpdateOperation, "config/default", []string{"max_ttl=4h"}, "does not know the access key")
			}
			if calls := v.sim.Calls(); len(calls) > 3 || v.account.Locked() {
				t.Errorf("%d calls, locked: %v", len(calls), v.account.Locked())
			}
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", v.accountFields()...)
		},
		"a key that works again is tried by the write that gives it, however long it was held back": func(_ *testing.T, v *testVault) {
			v.configure()
			v.account.SwitchKey(v.root.AccessKey, false)
			v.write("config/default", append(v.accountFields(), "endpoint=https://api.eu-west-2.outscale.com/api/v1", "verify=false")...)
			v.write("config/default", append(v.accountFields(), "verify=false")...)
			for range 5 { // tries at 0, 1, 16, 32 and 64 minutes
				_, _ = v.tryLease(v.t.Context(), "app")
				v.settle(20 * time.Minute)
			}
			v.account.SwitchKey(v.root.AccessKey, true)
			v.mustRefuse(logical.ReadOperation, "creds/app", nil, "refuses the access key")
			v.write("config/default", v.accountFields()...)
			v.lease("app")
		},
		"a hold is over with the key that it was of, which may come back": func(_ *testing.T, v *testVault) {
			v.configure()
			first := v.accountFields()
			v.account.SwitchKey(v.root.AccessKey, false)
			for range 5 {
				_, _ = v.tryLease(v.t.Context(), "app")
				v.settle(20 * time.Minute)
			}
			v.account.SwitchKey(v.root.AccessKey, true)
			v.root = v.account.AddKey(cloudsim.KeySpec{})
			v.write("config/default", v.accountFields()...)
			v.lease("app")
			v.write("config/default", first...)
			v.lease("app")
		},
		"PEM fields are read as PEM": func(t *testing.T, v *testVault) {
			certificate, key := newCertificate(t)
			for field, says := range map[string]string{
				"ca_cert=/etc/ssl/ca.pem":                                  "ca_cert holds no PEM block",
				"ca_cert=" + certificate + "trailing":                      "ca_cert has something after its last PEM block",
				"ca_cert=" + key:                                           `ca_cert holds a PEM block of the type "PRIVATE KEY"`,
				"client_key=" + certificate:                                `client_key holds a PEM block of the type "CERTIFICATE"`,
				"client_cert=" + strings.ReplaceAll(certificate, "M", "A"): "client_cert holds a certificate that cannot be read",
			} {
				v.mustRefuse(logical.UpdateOperation, "config/default", append(v.accountFields(), field), says)
			}
		},
	})
}

// TestKeysThatMustNotBecomeTheEngines are E11 and E35.
func TestKeysThatMustNotBecomeTheEngines(t *testing.T) {
	t.Parallel()
	inBubble(t, map[string]func(t *testing.T, v *testVault){
		"E11: after 60 rotations the first key again, with verify=false, as from an old Terraform state": func(t *testing.T, v *testVault) {
			v.configure()
			var last string
			for range 60 {
				last = v.rotate()["access_key"].(string)
				v.settle(15 * time.Minute)
			}
			warnings := v.write("config/default", append(v.accountFields(), "verify=false")...)
			mustHold(t, strings.Join(warnings, "\n"), "replaced by rotation", "keeps "+last)
			if config := v.read("config/default"); config["access_key"] != last {
				t.Errorf("the account has %v", config["access_key"])
			}
		},
		"E35: a key that this mount has leased is refused by its label, verified or not": func(t *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			fields := append(v.accountFields(), "access_key="+l.AccessKey(), "secret_key="+l.Data["secret_key"].(string))
			v.mustRefuse(logical.UpdateOperation, "config/default", fields, l.AccessKey(), "lease")
			v.mustRefuse(logical.UpdateOperation, "config/other", append(fields, "verify=false"), l.AccessKey(), "lease")
			if config := v.read("config/default"); config["access_key"] != v.root.AccessKey {
				t.Errorf("the account has %v", config["access_key"])
			}
		},
		"E35: so is one that another mount has leased": func(_ *testing.T, v *testVault) {
			v.configure("ttl=10m")
			l := v.lease("app")
			v.account.AddUser("app", "api:*")
			other := newTestVaultOn(v.t, v.sim, v.account)
			other.mustRefuse(logical.UpdateOperation, "config/default",
				append(v.accountFields(), "access_key="+l.AccessKey(), "secret_key="+l.Data["secret_key"].(string)), l.AccessKey(), "lease")
		},
	})
}
