// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package cloudkeys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// newClientCertificate returns a client certificate that is its own authority, and its key.
func newClientCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER)
}

// overTLS serves the account's cloud with a certificate of its own authority, to clients with
// the given certificate alone, and returns the fields of an account there.
func overTLS(t *testing.T, v *testVault, client string, change func(*tls.Config)) (fields []string, ca string) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(client))
	server := httptest.NewUnstartedServer(v.sim)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	change(server.TLS)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // failed handshakes are wanted
	server.StartTLS()
	t.Cleanup(server.Close)
	v.base = nil // the network
	endpoint := server.URL
	if v.domain == nil {
		endpoint += "/api/v1"
	}
	fields = append(v.accountFields(), "endpoint="+endpoint, "max_retries=0")
	return fields, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func TestCloudOverTLS(t *testing.T) {
	t.Parallel()
	certificate, key := newClientCertificate(t)
	foreign, foreignKey := newClientCertificate(t)
	asItIs := func(*tls.Config) {}
	for name, mount := range map[string]func(*testing.T) *testVault{"OUTSCALE": newTestVault, "Huawei Cloud": newHuaweiVault} {
		t.Run(name+": ca_cert, client_cert and client_key are all that it takes", func(t *testing.T) {
			v := mount(t)
			fields, ca := overTLS(t, v, certificate, asItIs)
			v.write("config/default", append(fields, "ca_cert="+ca, "client_cert="+certificate, "client_key="+key)...)
			v.write("roles/app", "user_names=app", "ttl=10m")
			v.mustRevoke(v.lease("app"))
			v.mustHaveLive(0)
			if got := v.read("config/default"); got["client_key"] != nil || strings.Contains(got["client_cert"].(string), "PRIVATE") {
				t.Error("the client's key is got")
			}
		})
		for refused, test := range map[string]struct {
			fields []string
			change func(*tls.Config)
			says   string
		}{
			"an authority that nobody has configured": {
				[]string{"client_cert=" + certificate, "client_key=" + key},
				asItIs,
				"certificate signed by unknown authority",
			},
			"another authority than the configured one": {
				[]string{"ca_cert=" + foreign, "client_cert=" + certificate, "client_key=" + key},
				asItIs, "failed to verify certificate",
			},
			"a call without the client's certificate":  {nil, asItIs, "certificate required"},
			"a call with another client's certificate": {[]string{"client_cert=" + foreign, "client_key=" + foreignKey}, asItIs, "tls: "},
			"a cloud that knows nothing newer than TLS 1.1": {
				[]string{"client_cert=" + certificate, "client_key=" + key},
				func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "protocol version",
			},
		} {
			t.Run(name+": refused is "+refused, func(t *testing.T) {
				v := mount(t)
				fields, ca := overTLS(t, v, certificate, test.change)
				if refused != "an authority that nobody has configured" {
					fields = append(fields, "ca_cert="+ca)
				}
				resp, err := v.try(logical.UpdateOperation, "config/default", append(fields, test.fields...)...)
				if err := failure(resp, err); err == nil {
					t.Error("accepted")
				} else {
					mustHold(t, err.Error(), test.says, `account "default"`)
					v.mustHideSecrets(err.Error())
				}
				if calls := v.sim.Calls(); len(calls) != 0 {
					t.Errorf("%d calls", len(calls))
				}
			})
		}
	}
}

func TestNoFieldTurnsVerificationOff(t *testing.T) {
	t.Parallel()
	for name := range newTestVault(t).backend.Route("config/x").Fields {
		for _, word := range []string{"insecure", "skip", "tls"} {
			if strings.Contains(name, word) {
				t.Errorf("config/ has a field %q", name)
			}
		}
	}
}
