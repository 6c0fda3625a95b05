// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package clouds

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
)

// soon fails where a check takes longer than an operator would wait for it.
func soon(t *testing.T, began time.Time) {
	t.Helper()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// FuzzAccount gives the fields that net/url, encoding/pem and crypto read: of what is taken a client can be made, and it is called where
// the endpoint says.
func FuzzAccount(f *testing.F) {
	for _, seed := range []string{
		"", "https://api.eu-west-2.outscale.com/api/v1", "https://[::1]:99999/", "https://a:b@c/", "http://127.0.0.1:1", "//x", "https://x/?a#b",
		"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n",
	} {
		for field := range 5 {
			f.Add(uint8(field), seed, "eu-west-2")
		}
	}
	f.Fuzz(func(t *testing.T, field uint8, text, region string) {
		for _, cloud := range All() {
			config := provider.Config{Provider: cloud.Name, AccessKey: "A", SecretKey: "B", Region: region}
			*[]*string{&config.Endpoint, &config.TLS.CACert, &config.TLS.ClientCert, &config.TLS.ClientKey, &config.DomainID}[field%5] = text
			began := time.Now()
			if cloud.CheckAccount(config) != nil {
				continue
			}
			endpoint, err := cloud.Endpoint(region, config.Endpoint)
			if err != nil {
				t.Errorf("%s: taken, and without an address: %v", cloud.Name, err)
			}
			at, err := url.Parse(endpoint)
			if err != nil || at.Hostname() == "" || at.User != nil || at.Scheme != "https" && at.Scheme != "http" {
				t.Errorf("%s is called at %q: %v", cloud.Name, endpoint, err)
			}
			if _, err := Open(config); err != nil {
				t.Errorf("%s: taken, and no client can be made: %v", cloud.Name, err)
			}
			soon(t, began)
		}
	})
}

// FuzzRole gives the fields that encoding/json and the clouds' own patterns read.
func FuzzRole(f *testing.F) {
	for _, seed := range []string{
		"", `{"Statement":[{"Effect":"Allow","Action":["*"],"Resource":["*"]}]}`, `{"Statement":[{"Effect":null,"Action":[[]],"Resource":{}}]}`,
		`{"Statement":{}}`, "[" + strings.Repeat("[", 500), `{"Version":"1.1"}`, "/ci/", "//", "orn:ows:idauth::012345678910:policy/x", "a\x00b", "é", "null",
	} {
		for field := range 7 {
			f.Add(uint8(field), seed)
		}
	}
	f.Fuzz(func(t *testing.T, field uint8, text string) {
		for _, cloud := range All() {
			for _, kind := range cloud.CredentialTypes {
				role := Role{CredentialType: kind}
				switch field % 7 {
				case 0:
					role.UserNames = []string{text}
				case 1:
					role.UserPath = text
				case 2:
					role.PolicyORNs = []string{text}
				case 3:
					role.PolicyDocument = text
				case 4:
					role.Groups = []string{text}
				case 5:
					role.AgencyName = text
				default:
					role.SessionPolicy = text
				}
				began := time.Now()
				err := cloud.CheckRole(role)
				soon(t, began)
				document := map[string]string{IAMUser: role.PolicyDocument, SessionToken: role.SessionPolicy}[kind] // the role's kind refuses it elsewhere
				if err == nil && document != "" && !json.Valid([]byte(document)) {
					t.Errorf("%s, %s: taken, and no JSON: %.200q", cloud.Name, kind, document)
				}
			}
		}
	})
}
