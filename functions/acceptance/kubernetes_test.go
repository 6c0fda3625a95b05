// Copyright (c) vault-cloudkeys contributors
// SPDX-License-Identifier: MPL-2.0

//go:build linux

package acceptance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	kubernetesPlugin = "vault-plugin-auth-kubernetes"
	namespace        = "operations"
	serviceAccount   = "cloudkeys-revoke"
)

// withKubernetes lets the command log in as a pod does: with the token of its service account, which Vault's real Kubernetes auth
// method has reviewed by the API server. That one is played here.
func (w *world) withKubernetes() {
	w.t.Helper()
	token := mustToken(w.t, serviceAccount)
	reviews := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct {
				Token     string
				Audiences []string
			}
		}
		if r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || json.NewDecoder(r.Body).Decode(&review) != nil {
			answer.WriteHeader(http.StatusNotFound)
			return
		}
		status := map[string]any{"authenticated": false, "error": "invalid bearer token"}
		if review.Spec.Token == token && r.Header.Get("Authorization") == "Bearer reviewer" {
			status = map[string]any{"authenticated": true, "audiences": review.Spec.Audiences, "user": map[string]any{
				"username": "system:serviceaccount:" + namespace + ":" + serviceAccount, "uid": "0e4d38a2",
				"groups": []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
			}}
		}
		answer.WriteHeader(http.StatusCreated)
		answerJSON(answer, map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status})
	}))
	w.t.Cleanup(reviews.Close)
	mount := "kubernetes-" + w.name
	w.write("sys/auth/"+mount, "type="+kubernetesPlugin)
	w.write("auth/"+mount+"/config", "kubernetes_host="+reviews.URL, "token_reviewer_jwt=reviewer", "disable_local_ca_jwt=true")
	w.follow("run kubernetes", "auth/kubernetes/", "auth/"+mount+"/", "cloudkeys-functions", w.name)
	file := filepath.Join(w.t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.env["VAULT_AUTH_METHOD"], w.env["VAULT_AUTH_MOUNT"], w.env["VAULT_AUTH_ROLE"], w.env["VAULT_JWT_FILE"] = "kubernetes", mount,
		"cloudkeys-revoke", file
}

// mustToken is a token of a service account as Kubernetes projects it into a pod.
func mustToken(t testing.TB, account string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var parts []string
	for _, part := range []any{
		map[string]any{"alg": "RS256", "typ": "JWT", "kid": "1"},
		map[string]any{
			"iss": "https://kubernetes.default.svc.cluster.local", "sub": "system:serviceaccount:" + namespace + ":" + account,
			"aud": []string{"https://kubernetes.default.svc.cluster.local"}, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
			"kubernetes.io": map[string]any{"namespace": namespace, "serviceaccount": map[string]any{"name": account, "uid": "0e4d38a2"}},
		},
	} {
		text, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	hash := sha256.Sum256([]byte(strings.Join(parts, ".")))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(parts, base64.RawURLEncoding.EncodeToString(signature)), ".")
}

// withClientCertificate moves the account behind a front that demands a client certificate: the engine has one, and the command one of
// its own.
func (w *world) withClientCertificate() {
	w.t.Helper()
	target, err := url.Parse(w.read(w.name + "/config/default")["endpoint"].(string))
	if err != nil {
		w.t.Fatal(err)
	}
	// The host that was signed is the front's, and must stay what the cloud sees.
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: target.Scheme, Host: target.Host})
		r.Out.Host = r.In.Host
	}})
	front.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	front.StartTLS()
	w.t.Cleanup(front.Close)
	engineCert, engineKey := mustCertificate(w.t, "engine")
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}))
	root := w.account.RootKey()
	w.write(w.name+"/config/default", "provider=outscale", "region="+cloudRegion, "endpoint="+front.URL+target.Path,
		"max_requests_per_second=500",
		"access_key="+root.AccessKey, "secret_key="+root.SecretKey, "ca_cert="+ca, "client_cert="+engineCert, "client_key="+engineKey)
	cert, key := mustCertificate(w.t, "functions")
	dir := w.t.TempDir()
	for name, text := range map[string]string{"default.crt": cert, "default.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	w.certificate = filepath.Join(dir, "{account}.crt")
	w.env["CLIENT_CERT_FILE"], w.env["CLIENT_KEY_FILE"] = w.certificate, filepath.Join(dir, "{account}.key")
}

func mustCertificate(t testing.TB, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}
