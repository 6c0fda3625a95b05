// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package functions_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// environmentLimit is what Lambda takes: names and values of all variables together, in bytes.
const environmentLimit = 4096

// Vault's private authority with a key of 4096 bits stands in the environment, beside what an operator may have to say at length.
func TestTheEnvironmentHasRoomForAnAuthorityOf4096Bits(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{
		SerialNumber: new(big.Int).Lsh(big.NewInt(1), 150), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().AddDate(20, 0, 0),
		Subject: pkix.Name{
			Country: []string{"FR"}, Organization: []string{"An organisation of some size"}, OrganizationalUnit: []string{"Infrastructure"},
			CommonName: "Internal authority 2026",
		},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{
		"VaultAddr": "https://vault.internal.some-organisation.example.com:8200", "VaultNamespace": "organisation/division/team",
		"VaultIamServerId":     "vault.internal.some-organisation.example.com",
		"Notify":               "arn:aws-us-gov:sns:us-gov-west-1:123456789012:" + strings.Repeat("t", 60),
		"VaultCaCertParameter": "/operations/vault/ca",
		"ClientCertFile":       "/opt/certificates/{account}.pem", "ClientKeyFile": "/opt/certificates/{account}.key",
	}
	parsed, _ := read(t)
	longest := func(parameter string) string { return strings.Repeat("x", parsed.Parameters[parameter].MaxLength) }
	for _, parameter := range []string{"KeepUsers", "KeepKeys", "Accounts", "Proxy", "NoProxy"} {
		if at[parameter] = longest(parameter); at[parameter] == "" {
			t.Errorf("%s may be of any length", parameter)
		}
	}
	for _, id := range []string{revokeID, syncID} {
		names := slices.Collect(maps.Keys(parsed.Globals.Function.Environment.Variables))
		names = slices.AppendSeq(names, maps.Keys(parsed.Resources[id].Properties.Environment.Variables))
		size := 0
		for _, name := range names {
			node, own := parsed.Resources[id].Properties.Environment.Variables[name]
			if !own {
				node = parsed.Globals.Function.Environment.Variables[name]
			}
			value := parsed.getenv(id)(name)
			if said, is := at[node.Value]; is && node.Tag == "!Ref" {
				value = said
			}
			switch name {
			case "VAULT_CACERT_BYTES":
				value = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
			case "REPORT_BUCKET":
				value = strings.Repeat("b", 63)
			}
			size += len(name) + len(value)
		}
		t.Logf("%s: %d bytes", id, size)
		if size > environmentLimit {
			t.Errorf("the environment of %s has %d bytes, and Lambda takes %d", id, size, environmentLimit)
		}
	}
}
