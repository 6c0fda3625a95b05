// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

package accounts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/functions/internal/fleet"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/shared/provider"
	"github.com/vault-cloudkeys/vault-plugin-secrets-cloudkeys/test/cloudsim"
)

// mustCertify writes a certificate and its key below a folder, as <account>.crt and <account>.key.
func mustCertify(t *testing.T, dir, account string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{
		".crt": {Type: "CERTIFICATE", Bytes: cert},
		".key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, account+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// An account that demands a client certificate: Vault does not give out the key of its own, so the
// function has one.
func TestAnAccountThatDemandsACertificate(t *testing.T) {
	sim := cloudsim.New()
	root := sim.AddAccount("123456789012").RootKey()
	target, err := url.Parse(sim.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	// The host that was signed is the front's, and must stay what the cloud sees.
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: target.Scheme, Host: target.Host})
		r.Out.Host = r.In.Host
	}})
	front.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	front.StartTLS()
	t.Cleanup(front.Close)
	dir := t.TempDir()
	mustCertify(t, dir, "prod")
	account := fleet.Account{Name: "prod", Config: provider.Config{
		Provider: "outscale", Region: "eu-west-2", Endpoint: front.URL + target.Path, AccessKey: root.AccessKey,
		SecretKey: provider.Secret(root.SecretKey),
		PerSecond: 1e6, Timeout: 15 * time.Second,
		TLS: provider.TLS{
			CACert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})), ClientCert: "the engine's",
		},
	}}
	for name, test := range map[string]struct {
		certFile, keyFile, says string
	}{
		"with one of the function's own": {filepath.Join(dir, "{account}.crt"), filepath.Join(dir, "{account}.key"), ""},
		"without":                        {"", "", "CLIENT_CERT_FILE"},
		"with one that is not there":     {filepath.Join(dir, "none.crt"), filepath.Join(dir, "none.key"), "CLIENT_CERT_FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"CLIENT_CERT_FILE": test.certFile, "CLIENT_KEY_FILE": test.keyFile}
			a := &Access{getenv: func(name string) string { return env[name] }, log: slog.New(slog.DiscardHandler)}
			cloud, release, err := a.Connect(t.Context(), account)
			if err == nil {
				defer release()
				_, err = cloud.WhoAmI(t.Context())
			}
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("got %v, want %q in it", err, test.says)
			}
		})
	}
}
